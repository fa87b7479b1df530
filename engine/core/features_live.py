"""Every symbol's figures, carried on from candle to candle: what the feed holds instead of candles.

Stands beside `features`: the same figures, but a close costs each symbol one step instead of a window. A `Track` holds one timeframe, `LiveFeatures`
both that decide, and `Told` is what they say: all that screening needs. A symbol whose candles have a hole knows nothing until it is
seeded again; its figures are NaN and never decide.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from engine.core import features_steps as steps
from engine.core.features import QUARTER_FIGURES, Features
from engine.core.market import Candles, Floats, Integers, Timeframe

type Booleans = np.ndarray[Any, np.dtype[np.bool_]]

PLACES: Final = {name: place for place, name in enumerate(steps.FIGURES)}


class Closes(msgspec.Struct, frozen=True, kw_only=True):
    """One closed candle for each of `rows`; `candles` are rows x (open, high, low, close, volume)."""

    rows: Integers
    open_ms: Integers
    candles: Floats


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one timeframe says: `table` is `features_steps.FIGURES` x symbols, NaN where history is too short.

    `seen` are the candles that each symbol's figures rest on, `newest_ms` the opening time of the last of them.
    """

    timeframe: Timeframe
    table: Floats
    seen: Integers
    newest_ms: Integers

    def of(self, name: str) -> Floats:
        """One of `features_steps.FIGURES` over all symbols, not copied."""
        row: Floats = self.table[PLACES[name]]
        return row

    def fresh(self, now_ms: int) -> Booleans:
        """Where the newest candle is the last that can have closed by `now_ms` of market time."""
        fresh: Booleans = self.newest_ms == now_ms - now_ms % self.timeframe.ms - self.timeframe.ms
        return fresh


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What both timeframes say of the same symbols in the same order."""

    symbols: tuple[str, ...]
    quarter: Figures
    four_hour: Figures

    def fresh(self, now_ms: int) -> Booleans:
        """Where both timeframes hold the last candle that can have closed by `now_ms` of market time."""
        fresh: Booleans = self.quarter.fresh(now_ms) & self.four_hour.fresh(now_ms)
        return fresh

    def features(self, asked: Booleans | None = None) -> Features:
        """What `features_of` makes of the same candles; the arrays are the caller's own.

        Args:
            asked: Which symbols; all where it is left out.
        """
        rows = np.arange(len(self.symbols)) if asked is None else np.flatnonzero(asked)
        quarter, four_hour = self.quarter.table.take(rows, axis=1), self.four_hour.table
        return Features(
            symbols=tuple(self.symbols[row] for row in rows.tolist()),
            candles_15m=self.quarter.seen[rows],
            candles_4h=self.four_hour.seen[rows],
            **{name: quarter[PLACES[name]] for name in QUARTER_FIGURES},
            ema_200_4h=four_hour[PLACES["ema_200"]][rows],
            ema_50_4h=four_hour[PLACES["ema_50"]][rows],
            rsi_4h=four_hour[PLACES["rsi"]][rows],
        )


class _Tail(msgspec.Struct, frozen=True, kw_only=True):
    """What follows the last hole of a history; `lost` where its newest candle is not a number, so that nothing does."""

    row: int
    begin_ms: int
    candles: Floats
    lost: bool

    def follows(self, other: "_Tail") -> bool:
        """Whether both may be seeded in one go: neighbours, of the same candles' times."""
        alike = self.begin_ms == other.begin_ms and len(self.candles) == len(other.candles)
        return alike and self.row == other.row + 1


class Track:
    """All symbols on one timeframe: what must be remembered of each, and `told`, which every close rewrites in place."""

    def __init__(self, symbols: Sequence[str], timeframe: Timeframe) -> None:
        count = len(symbols)
        self.symbols = tuple(symbols)
        self.rows = {symbol: row for row, symbol in enumerate(self.symbols)}
        self.state = np.full((steps.MEMORY, count), np.nan)
        self.told = Figures(
            timeframe=timeframe,
            table=np.full((len(steps.FIGURES), count), np.nan),
            seen=np.zeros(count, np.int64),
            newest_ms=np.full(count, steps.UNSEEDED, np.int64),
        )

    def seed(self, histories: Sequence[Candles]) -> None:
        """Begins each history's symbol anew; only what follows a history's last hole counts.

        Args:
            histories: Of symbols of this track, oldest candle first; an empty one lets the next candle begin the symbol.
        """
        group: list[_Tail] = []
        for history in histories:
            tail = self._tail(history)
            if group and not (tail.follows(group[-1]) and len(group) < steps.LANES):
                self._seed_together(group)
                group = []
            group.append(tail)
        if group:
            self._seed_together(group)

    def _tail(self, history: Candles) -> "_Tail":
        row, candles, open_ms = self.rows[history.symbol], stacked(history), _plain(history.open_ms, np.int64)
        begin = int(steps.unbroken_from(open_ms, candles, self.told.timeframe.ms))
        lost = begin == len(open_ms) > 0
        return _Tail(row=row, begin_ms=0 if begin == len(open_ms) else int(open_ms[begin]), candles=candles[begin:], lost=lost)

    def _seed_together(self, group: "Sequence[_Tail]") -> None:
        first, told = group[0], self.told
        candles = np.ascontiguousarray(np.stack([tail.candles for tail in group], axis=2))
        steps.seed(first.row, first.begin_ms, candles, told.timeframe.ms, self.state, told.seen, told.newest_ms, told.table)
        for tail in group:
            if tail.lost:
                steps.forget(tail.row, self.state, told.seen, told.newest_ms, told.table)

    def close(self, closes: Closes) -> Integers:
        """Takes closed candles of any symbols; one that leaves a hole makes its symbol stale until it is seeded again.

        They may come in any order: an older candle is taken before a newer one, and neighbours together.

        Returns:
            What became of each: `features_steps.ADVANCED`, OLD, GAP or UNKNOWN.

        Raises:
            IndexError: A row that no symbol has, or arrays that do not belong together; the kernels would write where nobody looks.
        """
        rows, open_ms = _plain(closes.rows, np.int64), _plain(closes.open_ms, np.int64)
        candles = _plain(closes.candles, np.float64)
        if not (candles.shape == (len(rows), 5) and len(open_ms) == len(rows)):
            raise IndexError("rows, opening times and candles differ in number")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.symbols):
            raise IndexError("a row that no symbol has")
        if (rows[1:] > rows[:-1]).all():
            return self._advance(rows, open_ms, candles)
        order = np.lexsort((rows, open_ms))
        outcomes = np.empty(len(rows), np.int64)
        outcomes[order] = self._advance(rows[order], open_ms[order], candles[order])
        return outcomes

    def _advance(self, rows: Integers, open_ms: Integers, candles: Floats) -> Integers:
        told = self.told
        return steps.advance(rows, open_ms, candles, told.timeframe.ms, self.state, told.seen, told.newest_ms, told.table)

    def forget(self, symbol: str) -> None:
        """Leaves nothing of a symbol: it waits to be seeded."""
        steps.forget(self.rows[symbol], self.state, self.told.seen, self.told.newest_ms, self.told.table)

    def unseeded(self) -> tuple[str, ...]:
        """The symbols that wait to be seeded."""
        return tuple(self.symbols[row] for row in np.flatnonzero(self.told.newest_ms == steps.UNSEEDED))

    def carried_to(self, symbols: Sequence[str]) -> "Track":
        """A track of other symbols that keeps what this one knows of those that stay: symbols are listed and delisted."""
        moved, told = Track(symbols, self.told.timeframe), self.told
        pairs = [(row, self.rows[symbol]) for row, symbol in enumerate(moved.symbols) if symbol in self.rows]
        into, out = np.array(pairs, np.int64).reshape(-1, 2).T
        moved.told.seen[into], moved.told.newest_ms[into] = told.seen[out], told.newest_ms[out]
        moved.state[:, into], moved.told.table[:, into] = self.state[:, out], told.table[:, out]
        return moved


def _plain(array: Any, kind: Any) -> Any:
    """As the kernels were compiled for; for any other form numba would compile again, which takes seconds."""
    fits = array.dtype == kind and array.flags.carray
    return array if fits else np.require(array, kind, ["C_CONTIGUOUS", "WRITEABLE"])


def stacked(candles: Candles) -> Floats:
    """Candles x (open, high, low, close, volume)."""
    return np.stack([candles.open, candles.high, candles.low, candles.close, candles.volume], axis=1)


class LiveFeatures:
    """The two timeframes that decide, over the same symbols in the same order."""

    def __init__(self, quarter: Track, four_hour: Track) -> None:
        self.quarter = quarter
        self.four_hour = four_hour

    @classmethod
    def of(cls, symbols: Sequence[str]) -> "LiveFeatures":
        """Nothing is known of any symbol yet."""
        return cls(Track(symbols, Timeframe.M15), Track(symbols, Timeframe.H4))

    @property
    def told(self) -> Told:
        """What stands now, not copied: the next close changes it."""
        return Told(symbols=self.quarter.symbols, quarter=self.quarter.told, four_hour=self.four_hour.told)

    def carried_to(self, symbols: Sequence[str]) -> "LiveFeatures":
        """Of other symbols, keeping what is known of those that stay."""
        return LiveFeatures(self.quarter.carried_to(symbols), self.four_hour.carried_to(symbols))


def warm_up() -> None:
    """Loads or compiles every kernel, so that the first close does not pay for it."""
    rising = np.array([1.0, 2.0, 3.0], np.float64)
    times = np.arange(3) * Timeframe.M15.ms
    live = LiveFeatures.of(["WARM"])
    history = Candles(
        symbol="WARM", timeframe=Timeframe.M15, open_ms=times, open=rising, high=rising, low=rising, close=rising, volume=rising
    )
    live.quarter.seed([history])
    live.quarter.close(Closes(rows=np.zeros(1, np.int64), open_ms=times[:1], candles=np.ones((1, 5))))
    live.quarter.forget("WARM")
    told = live.quarter.told
    steps.tell_all(told.timeframe.ms, live.quarter.state, told.seen, told.newest_ms, told.table)
