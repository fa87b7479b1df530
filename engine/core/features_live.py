"""Every symbol's figures, carried on from candle to candle: what the feed holds instead of candles.

Stands beside `features`: the same figures, but a close costs each symbol one step instead of a window. A `Track` holds one timeframe, `LiveFeatures`
both that decide. A symbol whose candles have a hole knows nothing until it is seeded again; its figures are NaN and never decide.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from engine.core import features_steps as steps
from engine.core.features import Features
from engine.core.market import Candles, Floats, Integers, Timeframe

type Booleans = np.ndarray[Any, np.dtype[np.bool_]]

QUARTER_FIGURES: Final = (
    "close", "volume_ratio", "volume_z", "rsi", "rsi_change", "atr", "atr_percent", "adx", "macd_histogram", "macd_histogram_change",
    "band_width", "band_position", "roc_3", "efficiency", "body",
)  # fmt: skip
"""The figures of 15m that `Features` has."""

PLACES: Final = {name: place for place, name in enumerate(steps.FIGURES)}


class Closes(msgspec.Struct, frozen=True, kw_only=True):
    """One closed candle for each of `rows`; `candles` are rows x (open, high, low, close, volume). A row's older candles come first."""

    rows: Integers
    open_ms: Integers
    candles: Floats


class Track:
    """All symbols on one timeframe; `figures` are `features_steps.FIGURES` x symbols, NaN where history is too short."""

    def __init__(self, symbols: Sequence[str], timeframe: Timeframe) -> None:
        count = len(symbols)
        self.symbols = tuple(symbols)
        self.timeframe = timeframe
        self.rows = {symbol: row for row, symbol in enumerate(self.symbols)}
        self.state = np.zeros((count, steps.MEMORY), np.float64)
        self.seen = np.zeros(count, np.int64)
        self.newest_ms = np.full(count, steps.UNSEEDED, np.int64)
        self.figures = np.full((len(steps.FIGURES), count), np.nan)

    def seed(self, histories: Sequence[Candles]) -> None:
        """Begins each history's symbol anew; only what follows a history's last hole counts.

        Args:
            histories: Of symbols of this track, oldest candle first; an empty one lets the next candle begin the symbol.
        """
        for history in histories:
            row, candles = self.rows[history.symbol], stacked(history)
            open_ms = np.array(
                history.open_ms, np.int64
            )  # a copy, since numba compiles anew for an array that may not be written
            steps.seed(row, open_ms, candles, self.timeframe.ms, self.state, self.seen, self.newest_ms, self.figures)

    def close(self, closes: Closes) -> Integers:
        """Takes closed candles of any symbols; one that leaves a hole makes its symbol stale until it is seeded again.

        Returns:
            What became of each: `features_steps.ADVANCED`, OLD, GAP or UNKNOWN.

        Raises:
            IndexError: A row that no symbol has, or arrays that do not belong together; the kernels would write where nobody looks.
        """
        rows, open_ms = closes.rows, closes.open_ms
        if not (closes.candles.shape == (len(rows), 5) and len(open_ms) == len(rows)):
            raise IndexError("rows, opening times and candles differ in number")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.symbols):
            raise IndexError("a row that no symbol has")
        return steps.advance(
            rows, open_ms, closes.candles, self.timeframe.ms, self.state, self.seen, self.newest_ms, self.figures
        )

    def forget(self, symbol: str) -> None:
        """Leaves nothing of a symbol: it waits to be seeded."""
        steps.forget(self.rows[symbol], self.state, self.seen, self.newest_ms, self.figures)

    def fresh(self, now_ms: int) -> Booleans:
        """Where the newest candle is the last that can have closed by `now_ms` of market time."""
        last_open_ms = now_ms - now_ms % self.timeframe.ms - self.timeframe.ms
        fresh: Booleans = self.newest_ms == last_open_ms
        return fresh

    def unseeded(self) -> tuple[str, ...]:
        """The symbols that wait to be seeded."""
        return tuple(self.symbols[row] for row in np.flatnonzero(self.newest_ms == steps.UNSEEDED))

    def figure(self, name: str) -> Floats:
        """One of `features_steps.FIGURES` over all symbols; a view that the next close changes."""
        row: Floats = self.figures[PLACES[name]]
        return row

    def carried_to(self, symbols: Sequence[str]) -> "Track":
        """A track of other symbols that keeps what this one knows of those that stay: symbols are listed and delisted."""
        moved = Track(symbols, self.timeframe)
        pairs = [(row, self.rows[symbol]) for row, symbol in enumerate(moved.symbols) if symbol in self.rows]
        into, out = np.array(pairs, np.int64).reshape(-1, 2).T
        moved.state[into], moved.seen[into], moved.newest_ms[into] = self.state[out], self.seen[out], self.newest_ms[out]
        moved.figures[:, into] = self.figures[:, out]
        return moved


def stacked(candles: Candles) -> Floats:
    """Candles x (open, high, low, close, volume)."""
    return np.stack([candles.open, candles.high, candles.low, candles.close, candles.volume], axis=1)


class LiveFeatures:
    """The two timeframes that decide, over the same symbols in the same order."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.quarter = Track(symbols, Timeframe.M15)
        self.four_hour = Track(symbols, Timeframe.H4)

    @property
    def symbols(self) -> tuple[str, ...]:
        """In the order of every array."""
        return self.quarter.symbols

    def fresh(self, now_ms: int) -> Booleans:
        """Where both timeframes hold the last candle that can have closed by `now_ms` of market time."""
        fresh: Booleans = self.quarter.fresh(now_ms) & self.four_hour.fresh(now_ms)
        return fresh

    def features(self) -> Features:
        """What `features_of` makes of the same candles; the arrays are the caller's own."""
        quarter, four_hour = self.quarter, self.four_hour
        return Features(
            symbols=self.symbols,
            candles_15m=quarter.seen.copy(),
            candles_4h=four_hour.seen.copy(),
            **{name: quarter.figure(name).copy() for name in QUARTER_FIGURES},
            ema_200_4h=four_hour.figure("ema_200").copy(),
            ema_50_4h=four_hour.figure("ema_50").copy(),
            rsi_4h=four_hour.figure("rsi").copy(),
        )
