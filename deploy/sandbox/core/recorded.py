"""A recorded market as a source of candles: columns of a recording become whole ticks and steps, exactly."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl

from deploy.sandbox.core.intervals import HOUR_MS, QUARTER_MS
from deploy.sandbox.core.path import TICKS, UNHEARD, UNRECORDED, Floats, Ints
from deploy.sandbox.core.rules import SymbolRules, rules_for
from deploy.sandbox.core.source import Coarse, Fundings, Top

PRICES = ("open", "high", "low", "close")
MOST_DECIMALS = 8
"""The finest tick of the exchange: 0.00000001."""


FORGIVEN = 3
"""Ticks without a mark that do not end a path: fifteen seconds, a feed's change of connection."""


FUNDING_HOURS = (8, 4, 2, 1)
"""What the exchange has between two fundings."""


class Heard(NamedTuple):
    """What was recorded beside candles; `tick` is five seconds, counted since the epoch."""

    marks: pl.DataFrame | None = None
    """symbol, tick, mark (USDT); of each symbol sorted by tick, each once."""
    fundings: pl.DataFrame | None = None
    """symbol, next_funding (ms), funding_rate; each once."""
    tops: pl.DataFrame | None = None
    """symbol, tick, spread (USDT), bid_quantity and ask_quantity (base asset); of each symbol sorted by tick, each once."""


NOTHING = Heard()


class RecordedMarket:
    """Candles of a recording, and the marks inside them where they were recorded.

    Args:
        quarters: 15m candles: symbol, open_time (ms), open, high, low, close, volume; sorted by symbol and time, no gaps.
        older: 4h candles with the same columns, perhaps quote_volume; only those from before a symbol's 15m candles are used.
        heard: What was recorded beside them.

    Raises:
        ValueError: A symbol's candles have a gap or do not lie on the quarter of an hour.
    """

    def __init__(self, quarters: pl.DataFrame, older: pl.DataFrame | None = None, heard: Heard = NOTHING) -> None:
        self.rules: list[SymbolRules] = []
        self._firsts: list[int] = []
        self._tables: list[Ints] = []
        self._coarse: list[Coarse | None] = []
        self._marks = _by_symbol(heard.marks)
        self._tops = _by_symbol(heard.tops)
        self._fundings = _fundings_of(heard.fundings)
        history = {} if older is None else older.partition_by("symbol", as_dict=True, maintain_order=True)
        for (symbol,), frame in quarters.partition_by("symbol", as_dict=True, maintain_order=True).items():
            self._add(str(symbol), frame, history.get((symbol,)))
        self.ends_ms: int | None = max(
            (first + table.shape[1]) * QUARTER_MS for first, table in zip(self._firsts, self._tables, strict=True)
        )

    def span(self, number: int) -> tuple[int, int | None]:
        """What was recorded of a symbol."""
        first = self._firsts[number]
        return first, first + self._tables[number].shape[1]

    def candles(self, number: int, start: int, end: int) -> Ints:
        """Candles start..end of a symbol."""
        first = self._firsts[number]
        return np.ascontiguousarray(self._tables[number][:, start - first : end - first])

    def paths(self, number: int, start: int, end: int) -> Ints:
        """The marks inside each candle, bent to what traded: from its open to its close, touching high and low."""
        if self.rules[number].symbol not in self._marks:
            return UNRECORDED
        heard, candles = self._heard(number, start, end), self.candles(number, start, end)
        rows = [bent(row, candles[:, n]) for n, row in enumerate(heard)]
        return np.stack(rows) if rows else UNRECORDED

    def marks(self, number: int, start: int, end: int) -> Floats:
        """The marks as they were heard, each until the next, a feed's change of connection later at most."""
        if self.rules[number].symbol not in self._marks:
            return UNHEARD
        before = self._heard(number, start - 1, end).ravel()
        known = np.where(np.isfinite(before), np.arange(len(before)), -1 - FORGIVEN)
        newest = np.maximum.accumulate(known)
        fresh = np.arange(len(before)) - newest <= FORGIVEN
        marks: Floats = np.where(fresh, before[newest.clip(0)], 0.0)[TICKS:]
        return marks.reshape(-1, TICKS)

    def fundings(self, number: int) -> Fundings | None:
        """As told with the marks."""
        return self._fundings.get(self.rules[number].symbol)

    def top(self, number: int, tick: int) -> Top | None:
        """The newest that was heard up to the end of a tick, a feed's change of connection ago at most."""
        rules = self.rules[number]
        if (known := self._tops.get(rules.symbol)) is None:
            return None
        ticks, columns = known
        place = int(np.searchsorted(ticks, tick, side="right")) - 1
        if place < 0 or tick - ticks[place] > FORGIVEN:
            return None
        units = float(rules.tick), float(rules.step), float(rules.step)
        return Top(*(max(1, round(float(column[place]) / unit)) for column, unit in zip(columns, units, strict=True)))

    def coarse(self, number: int) -> Coarse | None:
        """What the older recording has from before."""
        return self._coarse[number]

    def _heard(self, number: int, start: int, end: int) -> Floats:
        """Marks in ticks, shape (end - start, 180), NaN where none was heard."""
        ticks, (marks,) = self._marks[self.rules[number].symbol]
        heard = np.full((end - start) * TICKS, np.nan)
        first, last = np.searchsorted(ticks, (start * TICKS, end * TICKS))
        heard[ticks[first:last] - start * TICKS] = marks[first:last] / float(self.rules[number].tick)
        return heard.reshape(-1, TICKS)

    def _add(self, symbol: str, frame: pl.DataFrame, older: pl.DataFrame | None) -> None:
        opened = frame["open_time"].to_numpy()
        if opened[0] % QUARTER_MS or (np.diff(opened) != QUARTER_MS).any():
            raise ValueError(f"the recording of {symbol} has a gap or is not of 15m candles")
        before = None if older is None else older.filter(pl.col("open_time") < -(-int(opened[0]) // _FOUR_HOURS) * _FOUR_HOURS)
        frames = [frame] if before is None else [frame, before]
        prices = np.concatenate([part[name].to_numpy() for part in frames for name in PRICES])
        volumes = np.concatenate([part["volume"].to_numpy() for part in frames])
        rules = rules_for(symbol, decimals_needed(prices), decimals_needed(volumes))
        self.rules.append(rules)
        self._firsts.append(int(opened[0]) // QUARTER_MS)
        self._tables.append(_whole(frame, rules))
        self._coarse.append(None if before is None or before.is_empty() else _coarse(before, rules))


_FOUR_HOURS = 16 * QUARTER_MS


def _by_symbol(rows: pl.DataFrame | None) -> dict[str, tuple[Ints, list[Floats]]]:
    """Ticks of each symbol, and the columns after them."""
    if rows is None:
        return {}
    parted = rows.partition_by("symbol", as_dict=True, include_key=False, maintain_order=True)
    return {
        str(symbol): (frame["tick"].to_numpy(), [column.to_numpy() for column in frame.drop("tick")])
        for (symbol,), frame in parted.items()
    }


def _fundings_of(rows: pl.DataFrame | None) -> dict[str, Fundings]:
    """Hours are the longest on whose grid every funding time lies."""
    if rows is None:
        return {}
    parted = rows.partition_by("symbol", as_dict=True, include_key=False)
    told = {
        str(symbol): dict(zip(frame["next_funding"].to_list(), frame["funding_rate"].to_list(), strict=True))
        for (symbol,), frame in parted.items()
    }
    return {symbol: Fundings(_hours_between(rates), rates) for symbol, rates in told.items()}


def _hours_between(times: Iterable[int]) -> int:
    return next(
        (hours for hours in FUNDING_HOURS if not any(time_ms % (hours * HOUR_MS) for time_ms in times)), FUNDING_HOURS[-1]
    )


def bent(heard: Floats, candle: Ints) -> Ints:
    """A candle's path through the marks that were heard in it; zeros where too few were, or where it has no room for both its extremes.

    Args:
        heard: Prices in ticks, shape (180,), NaN where none was heard.
        candle: Open, high, low, close in ticks, volume in steps.
    """
    known = np.flatnonzero(np.isfinite(heard))
    if not len(known) or max(known[0], TICKS - 1 - known[-1], np.diff(known, prepend=known[0]).max()) > FORGIVEN:
        return np.zeros(TICKS, np.int64)
    opened, high, low, close = (int(price) for price in candle[:4])
    nearest = known[np.searchsorted(known, np.arange(TICKS), side="right").clip(1) - 1]
    path: Ints = np.rint(heard[nearest]).clip(low, high).astype(np.int64)
    top, bottom = 1 + int(path[1:-1].argmax()), 1 + int(path[1:-1].argmin())
    if top == bottom:
        top, bottom = 1, 2
    path[[0, top, bottom, -1]] = opened, high, low, close
    return path


def decimals_needed(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    """The fewest decimals on which every value is exact."""
    for decimals in range(MOST_DECIMALS):
        scaled = values * 10.0**decimals
        if (np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(1.0, np.abs(scaled))).all():
            return decimals
    return MOST_DECIMALS


def _whole(frame: pl.DataFrame, rules: SymbolRules) -> Ints:
    tick, step = 1 / float(rules.tick), 1 / float(rules.step)
    rows = [np.rint(frame[name].to_numpy() * tick) for name in PRICES]
    rows.append(np.rint(frame["volume"].to_numpy() * step))
    return np.ascontiguousarray(np.stack(rows).astype(np.int64))


def _coarse(frame: pl.DataFrame, rules: SymbolRules) -> Coarse:
    table = _whole(frame, rules)
    if "quote_volume" in frame.columns:
        quote = np.rint(frame["quote_volume"].to_numpy() / float(rules.tick) / float(rules.step)).astype(np.int64)
    else:
        quote = (table[:4].sum(axis=0) * table[4]) // 4
    return Coarse(opened_ms=frame["open_time"].to_numpy().astype(np.int64), table=table, quote=quote)
