"""The rolling day: what ticker/24hr and the ticker streams say, summed from the tape.

The window begins on a minute, 24 hours before the current one, and ends now, so it is exactly the last 1440 whole one-minute candles
and the current one.
"""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.intervals import DAY_MS, MINUTE_MS, QUARTER_MS
from deploy.sandbox.core.path import TICKS, TICKS_A_MINUTE, Ints
from deploy.sandbox.core.tape import Rows, Tape, joined, of_ticks


class Day(NamedTuple):
    """The last 24 hours of one symbol."""

    opened_ms: int
    closed_ms: int
    column: Ints
    """Rows as named in `path`, shape (9,)."""
    last_quantity: int
    first_id: int
    last_id: int


def day_of(tape: Tape, now: int) -> Day:
    """The last 24 hours of a live symbol at a moment."""
    begin = max(now // MINUTE_MS * MINUTE_MS - DAY_MS, tape.first * QUARTER_MS)
    head, current = begin // QUARTER_MS, tape.current(now)
    skipped = (begin - head * QUARTER_MS) // MINUTE_MS * TICKS_A_MINUTE
    ticks, seen = tape.seen(now)
    if head == current:
        rows = [of_ticks(ticks, skipped, seen, begin)]
    else:
        rows = [of_ticks(tape.ticks(head), skipped, TICKS, begin), _middle(tape, head + 1, current)]
        rows.append(of_ticks(ticks, 0, seen, current * QUARTER_MS))
    return Day(
        opened_ms=begin,
        closed_ms=now,
        column=folded(joined(rows)),
        last_quantity=int(ticks.quantity[seen - 1]),
        first_id=trade_id(head, skipped),
        last_id=trade_id(current, seen - 1),
    )


def trade_id(number: int, tick: int) -> int:
    """The id of the trade at a tick of a candle: rising with time, the same whenever asked."""
    return number * TICKS + tick


def folded(rows: Rows) -> Ints:
    """All rows as one column."""
    table = rows.table
    column: Ints = table.sum(axis=1)
    column[0], column[1], column[2], column[3] = table[0, 0], table[1].max(), table[2].min(), table[3, -1]
    return column


def _middle(tape: Tape, start: int, end: int) -> Rows:
    """The whole quarters in the middle as one row, kept while the current quarter lasts."""
    if start >= end:
        return tape.quarters(start, start)
    return tape.day_middle((start, end), lambda: _as_row(tape.quarters(start, end)))


def _as_row(rows: Rows) -> Rows:
    return Rows(rows.opened[:1], folded(rows)[:, None], np.zeros((4, 1)))
