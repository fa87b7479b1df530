"""Candles of every interval, cut from the tape: minutes below a quarter of an hour, quarters above, older 4h candles before both."""

import numpy as np

from deploy.sandbox.core import funding
from deploy.sandbox.core.intervals import FIXED_MS, MINUTE_MS, QUARTER_MS, next_open, open_time
from deploy.sandbox.core.path import TICKS_A_MINUTE
from deploy.sandbox.core.tape import MINUTES, Rows, Tape, aggregated, joined, of_coarse, of_ticks, sliced

COARSE_INTERVALS = frozenset({"4h", "8h", "12h", "1d", "3d", "1w", "1M"})
"""Those that whole 4h candles fit into."""


def first_open(tape: Tape, interval: str) -> int:
    """The open time of a symbol's oldest candle of an interval."""
    oldest = tape.first * QUARTER_MS
    if interval in COARSE_INTERVALS and tape.coarse is not None:
        oldest = min(oldest, int(tape.coarse.opened_ms[0]))
    return open_time(interval, oldest)


def last_open(tape: Tape, interval: str, now: int) -> int:
    """The open time of a symbol's newest candle of an interval at a moment."""
    newest = now if tape.end is None else min(now, tape.end * QUARTER_MS - 1)
    return open_time(interval, newest)


def candles(tape: Tape, interval: str, start: int, end: int, now: int, *, mark: bool = False) -> Rows:
    """Candles of an interval whose open times lie in [start, end], as they stand at a moment.

    Args:
        tape: The symbol's.
        interval: One of `intervals.INTERVALS`.
        start: Open time of the first candle, Unix milliseconds, on the interval's grid.
        end: Open time of the last one wanted.
        now: Market time; the last candle may still be open.
        mark: Give the mark price in place of the index price.
    """
    until = min(next_open(interval, end), now + 1)
    if until <= start or not tape.first * QUARTER_MS <= now:
        return sliced(of_coarse(None), 0, 0)
    if FIXED_MS.get(interval, QUARTER_MS) < QUARTER_MS:
        rows = _minutes(tape, start, until, now)
    elif interval in COARSE_INTERVALS and tape.coarse is not None:
        covered = max(start, int(tape.coarse.opened_ms[-1]) + FIXED_MS["4h"])
        newer = [_quarters(tape, covered, until, now)] if covered < until else []
        rows = joined([_older(tape, start, until), *newer])
    else:
        rows = _quarters(tape, start, until, now)
    if mark and len(rows.opened):
        rows = Rows(rows.opened, rows.table, funding.mark(tape, rows))
    return aggregated(rows, interval)


def _quarters(tape: Tape, start: int, until: int, now: int) -> Rows:
    """Closed quarters inside [start, until), and the current one as far as it has come."""
    current = now // QUARTER_MS
    rows = tape.quarters(start // QUARTER_MS, min(-(-until // QUARTER_MS), current))
    if until <= current * QUARTER_MS or (tape.end is not None and current >= tape.end):
        return rows
    ticks, seen = tape.seen(now)
    return joined([rows, of_ticks(ticks, 0, seen, current * QUARTER_MS)])


def _minutes(tape: Tape, start: int, until: int, now: int) -> Rows:
    """Closed minutes inside [start, until), and the current one as far as it has come."""
    current = now // QUARTER_MS
    rows = tape.minutes(start // QUARTER_MS, min(-(-until // QUARTER_MS), current))
    if until > current * QUARTER_MS and (tape.end is None or current < tape.end):
        rows = joined([rows, _current_minutes(tape, now)])
    inside = (rows.opened >= start) & (rows.opened < until)
    return Rows(rows.opened[inside], rows.table[:, inside], rows.spot[:, inside])


def _current_minutes(tape: Tape, now: int) -> Rows:
    """The minutes of the current quarter up to now."""
    ticks, seen = tape.seen(now)
    opened = ticks.number * QUARTER_MS
    return joined(
        [
            of_ticks(ticks, at * TICKS_A_MINUTE, min(seen, (at + 1) * TICKS_A_MINUTE), opened + at * MINUTE_MS)
            for at in range(MINUTES)
            if at * TICKS_A_MINUTE < seen
        ]
    )


def _older(tape: Tape, start: int, until: int) -> Rows:
    """Older 4h candles inside [start, until)."""
    rows = of_coarse(tape.coarse)
    begin, end = np.searchsorted(rows.opened, [start, until])
    return sliced(rows, int(begin), int(end))
