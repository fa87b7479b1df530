"""Ticks and steps as the wire spells them, and the rows of klines."""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core import funding, klines
from deploy.sandbox.core.intervals import next_open
from deploy.sandbox.core.path import CLOSE, HIGH, LOW, OPEN, QUOTE, TAKER_BASE, TAKER_QUOTE, TRADES, VOLUME, Ints
from deploy.sandbox.core.tape import Rows, Tape, Ticks

QUOTE_DECIMALS = 7
"""At most; fewer where tick times step has fewer."""
MARK_DECIMALS = 8
SPARE_ROWS = 64
"""Rendered closed candles kept for a symbol and interval beyond the longest reply so far."""


class Wording:
    """How one symbol's numbers are spelt.

    Args:
        tape: The symbol's.
    """

    def __init__(self, tape: Tape) -> None:
        rules = tape.rules
        self.price_decimals, self.quantity_decimals = rules.price_decimals, rules.quantity_decimals
        self.quote_decimals = min(QUOTE_DECIMALS, self.price_decimals + self.quantity_decimals)
        self.price_scale, self.quantity_scale = _scale(rules.tick), _scale(rules.step)
        p, q, u = self.price_decimals, self.quantity_decimals, self.quote_decimals
        self.row = f'[%d,"%.{p}f","%.{p}f","%.{p}f","%.{p}f","%.{q}f",%d,"%.{u}f",%d,"%.{q}f","%.{u}f","0"]'
        self.index_row = '[%d,"%.8f","%.8f","%.8f","%.8f","0",%d,"0",%d,"0","0","0"]'

    def price(self, ticks: float) -> str:
        """A price on the tick grid."""
        return f"{ticks / self.price_scale:.{self.price_decimals}f}"

    def quantity(self, steps: float) -> str:
        """A quantity on the step grid."""
        return f"{steps / self.quantity_scale:.{self.quantity_decimals}f}"

    def quote(self, amount: float) -> str:
        """Ticks times steps as USDT."""
        return f"{amount / self.price_scale / self.quantity_scale:.{self.quote_decimals}f}"

    def fine(self, ticks: float) -> str:
        """An index or mark price, which has eight decimals whatever the tick."""
        return f"{ticks / self.price_scale:.{MARK_DECIMALS}f}"

    def rows(self, rows: Rows, interval: str) -> list[bytes]:
        """Candles as the wire has them."""
        table = rows.table
        prices = table[: CLOSE + 1] / self.price_scale
        base = table[[VOLUME, TAKER_BASE]] / self.quantity_scale
        quote = table[[QUOTE, TAKER_QUOTE]] / self.price_scale / self.quantity_scale
        closes = _close_times(rows, interval)
        columns = (rows.opened, *prices, base[0], closes, quote[0], table[TRADES], base[1], quote[1])
        return [(self.row % row).encode() for row in zip(*(column.tolist() for column in columns), strict=True)]

    def index_rows(self, rows: Rows, interval: str) -> list[bytes]:
        """Index or mark price candles as the wire has them; the count is of updates, one a second."""
        prices = rows.spot[[OPEN, HIGH, LOW, CLOSE]] / self.price_scale
        closes = _close_times(rows, interval)
        seconds = (closes + 1 - rows.opened) // 1000
        columns = (rows.opened, *prices, closes, seconds)
        return [(self.index_row % row).encode() for row in zip(*(column.tolist() for column in columns), strict=True)]


def _scale(grid: str) -> float:
    """Units in one: a power of ten, exactly."""
    return float(round(1 / float(grid))) if float(grid) <= 1 else float(grid) ** -1


def _close_times(rows: Rows, interval: str) -> Ints:
    if interval == "1M":
        return np.array([next_open(interval, opened) - 1 for opened in rows.opened.tolist()], dtype=np.int64)
    return rows.opened + (next_open(interval, 0) - 1)


class Reply(NamedTuple):
    """A reply, and for how long it is true: the same span, the same tick of the same walk."""

    span: tuple[int, int]
    ticks: Ticks
    seen: int
    alive: bool
    body: bytes


class RenderedKlines:
    """Klines of one symbol, interval and kind as bytes; closed candles are rendered once, and a reply stands until the next tick.

    Args:
        tape: The symbol's.
        wording: The symbol's.
        interval: One of `intervals.INTERVALS`.
        kind: "last", "mark", "index" or "premium".
    """

    def __init__(self, tape: Tape, wording: Wording, interval: str, kind: str) -> None:
        self._tape, self._wording, self._interval, self._kind = tape, wording, interval, kind
        self._first = 0
        self._longest = 0
        self._rows: list[bytes] = []
        self._last: Reply | None = None

    def reply(self, start: int, end: int, now: int) -> bytes:
        """The candles with open times in [start, end], both on the grid, as one JSON array."""
        ticks, seen = self._tape.seen(now)
        alive, last = self._tape.alive(now + 1), self._last
        if last is None or last.ticks is not ticks or (last.span, last.seen, last.alive) != ((start, end), seen, alive):
            last = self._last = Reply((start, end), ticks, seen, alive, self._written(start, end, now))
        return last.body

    def _written(self, start: int, end: int, now: int) -> bytes:
        closed_end = min(end, next_open(self._interval, klines.last_open(self._tape, self._interval, now), -1))
        if self._tape.end is not None and not self._tape.alive(now + 1):
            closed_end = end
        rows = self._closed(start, closed_end, now) if start <= closed_end else []
        if end > closed_end:
            rows = rows + self._rendered(max(start, next_open(self._interval, closed_end)), end, now)
        return b"[" + b",".join(rows) + b"]"

    def _closed(self, start: int, end: int, now: int) -> list[bytes]:
        if self._interval == "1M":
            return self._rendered(start, end, now)
        length = next_open(self._interval, 0)
        known = self._first + len(self._rows) * length
        if not self._first <= start <= known or len(self._rows) == 0:
            self._first, self._rows, known = start, [], start
        if end >= known:
            self._rows += self._rendered(known, end, now)
        out = self._rows[(start - self._first) // length : (end - self._first) // length + 1]
        self._longest = max(self._longest, len(out))
        surplus = len(self._rows) - self._longest - SPARE_ROWS
        if surplus > 0:
            self._rows = self._rows[surplus:]
            self._first += surplus * length
        return out

    def _rendered(self, start: int, end: int, now: int) -> list[bytes]:
        rows = klines.candles(self._tape, self._interval, start, end, now, mark=self._kind == "mark")
        if self._kind == "last":
            return self._wording.rows(rows, self._interval)
        if self._kind == "premium" and len(rows.opened):
            shares = np.tile(funding.premiums(self._tape, rows.opened), (4, 1))
            rows = Rows(rows.opened, rows.table, shares * self._wording.price_scale)
        return self._wording.index_rows(rows, self._interval)
