"""A recorded market as a source of candles: columns of a recording become whole ticks and steps, exactly."""

import numpy as np
import polars as pl

from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.path import Ints
from deploy.sandbox.core.rules import SymbolRules, rules_for
from deploy.sandbox.core.source import Coarse

PRICES = ("open", "high", "low", "close")
MOST_DECIMALS = 8
"""The finest tick of the exchange: 0.00000001."""


class RecordedMarket:
    """Candles of a recording.

    Args:
        quarters: 15m candles: symbol, open_time (ms), open, high, low, close, volume; sorted by symbol and time, no gaps.
        older: 4h candles with the same columns, perhaps quote_volume; only those from before a symbol's 15m candles are used.

    Raises:
        ValueError: A symbol's candles have a gap or do not lie on the quarter of an hour.
    """

    def __init__(self, quarters: pl.DataFrame, older: pl.DataFrame | None = None) -> None:
        self.rules: list[SymbolRules] = []
        self._firsts: list[int] = []
        self._tables: list[Ints] = []
        self._coarse: list[Coarse | None] = []
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

    def coarse(self, number: int) -> Coarse | None:
        """What the older recording has from before."""
        return self._coarse[number]

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
