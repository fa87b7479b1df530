"""The market that every row measures on: seeded, so that all peers see the same candles, and how their picks are compared."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.core.features import WIDTH
from engine.core.features_live import LiveFeatures, stacked
from engine.core.market import Candles, Floats, Timeframe
from tests.bench.peers.ranking import Picks

_QUARTER_MS = 1_757_030_400_000
_NOW_MS = _QUARTER_MS + WIDTH * Timeframe.M15.ms
BEGIN_MS = {Timeframe.M15: _QUARTER_MS, Timeframe.H4: _NOW_MS - _NOW_MS % Timeframe.H4.ms - WIDTH * Timeframe.H4.ms}
"""Both histories of 499 candles end with the same moment's newest closed candle."""


def walk(random: np.random.Generator, symbol: str, timeframe: Timeframe, length: int, begin: float) -> Candles:
    """A random walk with volumes that now and then stand out."""
    close = begin * np.exp(np.cumsum(random.normal(0, 0.006, length)))
    opened = np.concatenate([[begin], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.004, length))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.004, length))
    volume = 1e5 * np.exp(random.normal(0, 0.8, length))
    open_ms = BEGIN_MS[timeframe] + np.arange(length) * timeframe.ms
    return Candles(
        symbol=symbol, timeframe=timeframe, open_ms=open_ms, open=opened, high=high, low=low, close=close, volume=volume
    )


class Market:
    """A seeded market of both timeframes: a history of 499 candles and the 15m closes that follow it."""

    def __init__(self, symbols: int, closes: int) -> None:
        random = np.random.default_rng(7)
        self.symbols = [f"C{place:04}USDT" for place in range(symbols)]
        self.four_hour = [walk(random, symbol, Timeframe.H4, WIDTH, 100.0) for symbol in self.symbols]
        lasts = [float(series.close[-1]) for series in self.four_hour]
        self.quarter = [
            walk(random, symbol, Timeframe.M15, WIDTH + closes, last) for symbol, last in zip(self.symbols, lasts, strict=True)
        ]

    def close(self, place: int) -> Floats:
        """The candles of one close, symbols x (open, high, low, close, volume)."""
        return np.stack([stacked(series)[WIDTH + place] for series in self.quarter])

    def seeded(self) -> LiveFeatures:
        """What stands before the first of the closes."""
        live = LiveFeatures.of(self.symbols)
        live.quarter.seed([until(series, WIDTH) for series in self.quarter])
        live.four_hour.seed(self.four_hour)
        return live

    def window(self, place: int) -> list[Candles]:
        """The newest 499 candles of 15m once one of the closes has come."""
        return [part(series, slice(place + 1, place + 1 + WIDTH)) for series in self.quarter]

    def write(self, path: Path) -> None:
        """For peers in environments of their own: candles x (opening time, open, high, low, close, volume) of each symbol."""
        np.savez(path, symbols=self.symbols, quarter=_table(self.quarter), four_hour=_table(self.four_hour))


def _table(series: Sequence[Candles]) -> Floats:
    return np.stack([np.column_stack([one.open_ms.astype(np.float64), stacked(one)]) for one in series])


def until(series: Candles, end: int) -> Candles:
    """The first candles of a series."""
    return part(series, slice(end))


def part(series: Candles, places: slice) -> Candles:
    """Some candles of a series."""
    columns = {name: getattr(series, name)[places] for name in ("open_ms", "open", "high", "low", "close", "volume")}
    return Candles(symbol=series.symbol, timeframe=series.timeframe, **columns)


def require_agreement(mine: Picks, theirs: Picks) -> None:
    """Both sides must find the same candidates, at least one, with the same scores."""
    same = [symbol for symbol, _ in mine] == [symbol for symbol, _ in theirs]
    if not (mine and same and np.allclose([score for _, score in mine], [score for _, score in theirs], rtol=1e-9)):
        raise SystemExit(f"the two ways found different candidates, or none: {mine} and {theirs}")
