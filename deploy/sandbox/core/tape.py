"""One symbol's tape: everything the exchange says about it is cut from here.

A tape holds 15m candles from a source, the ticks that walk inside them, and sums of those ticks over minutes and quarters. `now` is
always an argument: what lies behind it is never shown. Ticks and sums are pure functions of the candles, so the caches only save time.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.intervals import DAY_MS, QUARTER_MS, open_times
from deploy.sandbox.core.path import (
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    QUOTE,
    TAKER_BASE,
    TICKS,
    TICKS_A_MINUTE,
    TRADES,
    VOLUME,
    Bools,
    Floats,
    Ints,
    detail,
    summarise,
)
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.source import CandleSource, Coarse, Fundings, Top

QUARTERS_A_DAY = DAY_MS // QUARTER_MS
MINUTES = TICKS // TICKS_A_MINUTE
KEPT_BLOCKS = 3_000
"""Walked candles kept over all symbols: some 25 MB."""
KEPT_CHUNKS = 4_000
"""Days of sums kept over all symbols: some 12 KB each by quarters, 150 KB by minutes."""
KEPT_MINUTE_CHUNKS = 250
KEPT_MIDDLES = 3_000
KEPT_RATES = 200_000


class Ticks(NamedTuple):
    """A walked candle: 180 ticks, oldest first."""

    number: int
    """Of the candle: quarters of an hour since the epoch."""
    times: Ints
    """Unix milliseconds, strictly rising."""
    price: Ints
    quantity: Ints
    """Steps; a tick of 0 moved the price without a trade."""
    buyer: Bools
    """Whether the taker bought."""
    spot: Floats
    """The index price in ticks."""


class Rows(NamedTuple):
    """Consecutive candles of any length, oldest first."""

    opened: Ints
    table: Ints
    """Shape (9, n), rows as named in `path`."""
    spot: Floats
    """Shape (4, n): the index price's open, high, low, close in ticks; 0 where no ticks are known."""


class Cache[K, V]:
    """The most recently used of something that can always be computed again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under a key, made now where it is not."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        made = self._kept[key] = make()
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return made


class Caches:
    """Shared by all tapes of a market, so that memory is bounded once."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: the candles have changed."""
        self.blocks: Cache[tuple[int, int], Ticks] = Cache(KEPT_BLOCKS)
        self.quarters: Cache[tuple[int, int], Rows] = Cache(KEPT_CHUNKS)
        self.minutes: Cache[tuple[int, int], Rows] = Cache(KEPT_MINUTE_CHUNKS)
        self.middles: Cache[tuple[int, tuple[int, int]], Rows] = Cache(KEPT_MIDDLES)
        self.rates: Cache[tuple[int, int], float] = Cache(KEPT_RATES)


class Tape:
    """One symbol's ticks and sums.

    Args:
        number: Of the symbol in its source.
        key: 64 bits of randomness for the walk.
        source: Where candles come from.
        caches: Shared with the market's other tapes.
    """

    def __init__(self, number: int, key: int, source: CandleSource, caches: Caches) -> None:
        self.rules: SymbolRules = source.rules[number]
        self.key = key
        self.number = number
        self.unit = float(self.rules.tick) * float(self.rules.step)
        """USDT in one tick times one step."""
        self._source = source
        self._caches = caches
        self.first, self.end = source.span(number)
        self.closed_ms: int | None = None
        """When it was taken off by hand."""
        self.coarse: Coarse | None = source.coarse(number)

    def alive(self, now: int) -> bool:
        """Whether the symbol trades at a moment."""
        ended = self.end is not None and now > self.end * QUARTER_MS
        return self.first * QUARTER_MS <= now and not ended and (self.closed_ms is None or now < self.closed_ms)

    def current(self, now: int) -> int:
        """The candle that a moment falls into; the last one at the tape's very end."""
        number = now // QUARTER_MS
        return number if self.end is None else min(number, self.end - 1)

    def ticks(self, number: int) -> Ticks:
        """The walk of one candle of the tape."""
        return self._caches.blocks.get((self.number, number), lambda: self._walk(number))

    def seen(self, now: int) -> tuple[Ticks, int]:
        """The current candle's ticks, and how many of them have happened: at least one while the symbol is alive."""
        ticks = self.ticks(self.current(now))
        return ticks, int(np.searchsorted(ticks.times, now, side="right"))

    def candles(self, start: int, end: int) -> Ints:
        """Raw candles start..end, clipped to the tape."""
        start, end = self.clipped(start, end)
        return self._source.candles(self.number, start, end)

    def top(self, tick: int) -> Top | None:
        """What was recorded of its book at a tick, counted since the epoch."""
        return self._source.top(self.number, tick)

    @property
    def fundings(self) -> Fundings | None:
        """As they were recorded, where its marks were."""
        return self._source.fundings(self.number)

    def clipped(self, start: int, end: int) -> tuple[int, int]:
        """A span of candles inside the tape; empty spans come back as such."""
        last = end if self.end is None else min(end, self.end)
        start = max(start, self.first)
        return start, max(start, last)

    def quarters(self, start: int, end: int) -> Rows:
        """Summed 15m candles start..end, clipped to the tape, as if all had happened."""
        return self._chunks(start, end, self._caches.quarters, TICKS)

    def minutes(self, start: int, end: int) -> Rows:
        """Summed minutes of the 15m candles start..end, clipped to the tape, as if all had happened."""
        return self._chunks(start, end, self._caches.minutes, TICKS_A_MINUTE)

    def day_quote(self, now: int) -> int:
        """Quote volume of the last 96 closed candles, ticks x steps: how liquid the symbol is."""
        current = self.current(now)
        span = (current - QUARTERS_A_DAY, current)
        return int(self.day_middle(span, lambda: self._total(span)).table[QUOTE].sum())

    def day_middle(self, span: tuple[int, int], make: Callable[[], Rows]) -> Rows:
        """The sum of a span of whole candles, made once."""
        return self._caches.middles.get((self.number, span), make)

    def remembered(self, time_ms: int, make: Callable[[], float]) -> float:
        """The funding rate of a time, made once."""
        return self._caches.rates.get((self.number, time_ms), make)

    def _total(self, span: tuple[int, int]) -> Rows:
        rows = self.quarters(*span)
        return Rows(rows.opened[:1], rows.table.sum(axis=1)[:, None], np.zeros((4, 1)))

    def _walk(self, number: int) -> Ticks:
        start = max(self.first, number - 1)
        span = (self.number, start, number + 1)
        walked = detail(self.key, start, self._source.candles(*span), self._source.paths(*span), self._source.marks(*span))
        price, quantity, buyer, index, offsets = walked
        return Ticks(number, number * QUARTER_MS + offsets, price, quantity, buyer, index)

    def _chunks(self, start: int, end: int, cache: Cache[tuple[int, int], Rows], per: int) -> Rows:
        start, end = self.clipped(start, end)
        rows_each = TICKS // per
        parts = []
        for day in range(start // QUARTERS_A_DAY, -(-end // QUARTERS_A_DAY) if end > start else start // QUARTERS_A_DAY):
            rows = cache.get((self.number, day), lambda day=day: self._sum_day(day, per))  # type: ignore[misc]
            begins = max(day * QUARTERS_A_DAY, self.first)
            parts.append(sliced(rows, (max(start, begins) - begins) * rows_each, (end - begins) * rows_each))
        return joined(parts)

    def _sum_day(self, day: int, per: int) -> Rows:
        start, end = self.clipped(day * QUARTERS_A_DAY, (day + 1) * QUARTERS_A_DAY)
        has_before = start > self.first
        span = (self.number, start - has_before, end)
        candles, paths, marks = self._source.candles(*span), self._source.paths(*span), self._source.marks(*span)
        table, index = summarise(self.key, start - has_before, candles, paths, marks, has_before=has_before, ticks_a_row=per)
        rows = (end - start) * (TICKS // per)
        length = QUARTER_MS * per // TICKS
        return Rows(start * QUARTER_MS + np.arange(rows, dtype=np.int64) * length, table, index)


EMPTY = Rows(np.zeros(0, np.int64), np.zeros((9, 0), np.int64), np.zeros((4, 0)))


def sliced(rows: Rows, start: int, end: int) -> Rows:
    """Rows start..end."""
    return Rows(rows.opened[start:end], rows.table[:, start:end], rows.spot[:, start:end])


def joined(parts: list[Rows]) -> Rows:
    """Consecutive parts as one."""
    if len(parts) < 2:
        return parts[0] if parts else EMPTY
    return Rows(
        np.concatenate([part.opened for part in parts]),
        np.concatenate([part.table for part in parts], axis=1),
        np.concatenate([part.spot for part in parts], axis=1),
    )


def of_ticks(ticks: Ticks, start: int, end: int, opened: int) -> Rows:
    """Ticks start..end of a walk as one candle; empty where there are none."""
    if end <= start:
        return EMPTY
    price, quantity = ticks.price[start:end], ticks.quantity[start:end]
    quote, buyer, index = price * quantity, ticks.buyer[start:end], ticks.spot[start:end]
    table = np.array(
        [
            *(price[0], price.max(), price.min(), price[-1]),
            *(quantity.sum(), np.count_nonzero(quantity), quote.sum(), quantity[buyer].sum(), quote[buyer].sum()),
        ],
        dtype=np.int64,
    )
    range_ = np.array([index[0], index.max(), index.min(), index[-1]])
    return Rows(np.array([opened], dtype=np.int64), table[:, None], range_[:, None])


def of_coarse(coarse: Coarse | None) -> Rows:
    """Older 4h candles as rows; takers are taken to have bought half, trades and index are not known."""
    if coarse is None:
        return EMPTY
    table = np.zeros((9, len(coarse.opened_ms)), dtype=np.int64)
    table[:5] = coarse.table
    table[TRADES] = coarse.table[VOLUME] > 0
    table[QUOTE] = coarse.quote
    table[TAKER_BASE], table[TAKER_BASE + 1] = coarse.table[VOLUME] // 2, coarse.quote // 2
    middle = coarse.table[:4].astype(np.float64)
    return Rows(coarse.opened_ms, table, middle)


def aggregated(rows: Rows, interval: str) -> Rows:
    """Rows folded into candles of an interval; the first and the last may be parts of one."""
    if not len(rows.opened):
        return rows
    opened = open_times(interval, rows.opened)
    starts = np.concatenate([[0], np.nonzero(np.diff(opened))[0] + 1])
    ends = np.concatenate([starts[1:], [len(opened)]]) - 1
    if len(starts) == len(opened):
        return Rows(opened, rows.table, rows.spot)
    table = np.add.reduceat(rows.table, starts, axis=1)
    index = np.empty((4, len(starts)))
    for out, given in ((table, rows.table), (index, rows.spot)):
        out[OPEN], out[CLOSE] = given[OPEN, starts], given[CLOSE, ends]
        out[HIGH] = np.maximum.reduceat(given[HIGH], starts)
        out[LOW] = np.minimum.reduceat(given[LOW], starts)
    return Rows(opened[starts], table, index)
