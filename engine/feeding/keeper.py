"""Carries every symbol's figures from closing frame to closing frame, and knows what is missing.

Frames come when they like: twice, late, before others, or never. A frame that would leave a hole is held back until the candles before it have been
read; so a symbol's memory never rests on a hole, and is seldom begun anew. What is taken together is closed together.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from engine.core import features_steps as steps
from engine.core.features_live import Closes, LiveFeatures, Track
from engine.core.market import Candles, ClosedCandle, Timeframe
from engine.ports import Clock

LATE_MS: Final = 3_000
"""Wall time after which a closing frame that did not come counts as missing."""

MOST_HELD: Final = 16
"""Frames of one symbol that wait for those before them; the oldest go, since reading brings them too."""

WHOLE: Final = 498
"""Closed candles with which a symbol begins: what one read of weight 2 gives, the open one taken off."""

MOST_CHEAP: Final = 97
"""Candles that are missing and still read for weight 1."""

FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 60_000
"""Between two reads of a symbol whose candle the exchange does not have either: one that is about to be delisted, say."""

type Key = tuple[str, Timeframe]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Candles to be read: the newest `count` of one symbol; `whole` where the symbol begins anew with them."""

    symbol: str
    timeframe: Timeframe
    count: int
    whole: bool


class _Behind(msgspec.Struct):
    """A symbol that lacks a closed candle: since when, and when it is to be read, wall milliseconds."""

    read_at_ms: int
    failures: int = 0
    reading: bool = False

    def overdue(self, wall_ms: int) -> bool:
        """Whether it has been waited for long enough."""
        return self.reading or self.failures > 0 or self.read_at_ms <= wall_ms


class Keeper:
    """The figures, what waits to be taken into them, and what they lack.

    Args:
        live: Where it goes on; of no symbols at the first start.
        clock: Candles close in market time, patience is wall time.
    """

    def __init__(self, live: LiveFeatures, clock: Clock) -> None:
        self.live = live
        self.heard = asyncio.Event()
        """Set where frames wait to be absorbed."""
        self.heard_ms: int | None = None
        """Wall time at the last closing frame."""
        self.version = 0
        """Grows whenever what is told has changed."""
        self._clock = clock
        self._waiting: list[ClosedCandle] = []
        self._held: defaultdict[Key, list[ClosedCandle]] = defaultdict(list)
        self._behind: dict[Key, _Behind] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Whose figures are kept."""
        return self.live.quarter.symbols

    def follow(self, symbols: Sequence[str]) -> None:
        """Keeps figures of these from now on; what is known of those that stay is carried over."""
        if tuple(symbols) == self.symbols:
            return
        self.absorb()
        self.live = self.live.carried_to(symbols)
        self.version += 1
        rows = self.live.quarter.rows
        for key in [key for key in {*self._held, *self._behind} if key[0] not in rows]:
            self._held.pop(key, None)
            self._behind.pop(key, None)

    def take(self, candle: ClosedCandle) -> None:
        """One closing frame; it changes nothing before the next `absorb`."""
        self._waiting.append(candle)
        self.heard_ms = self._clock.wall_ms()
        self.heard.set()

    def absorb(self) -> None:
        """Takes what waits, each timeframe in one go."""
        waiting, self._waiting = self._waiting, []
        self.heard.clear()
        for track in self._tracks():
            timeframe = track.told.timeframe
            chosen = self._chosen(track, self._with_held([candle for candle in waiting if candle.timeframe is timeframe]))
            if chosen:
                track.close(_closes(track, chosen))
                self.version += 1

    def _with_held(self, candles: list[ClosedCandle]) -> list[ClosedCandle]:
        """What waits, and what was held back of the same symbols: it may follow now."""
        if not self._held:
            return candles
        held = [self._held.pop(key, []) for key in {(candle.symbol, candle.timeframe) for candle in candles}]
        return candles + [candle for some in held for candle in some]

    def _chosen(self, track: Track, candles: list[ClosedCandle]) -> list[ClosedCandle]:
        """Those that follow what is known; what would leave a hole is held back."""
        newest: dict[str, int] = {}
        chosen = []
        for candle in sorted(candles, key=lambda candle: candle.open_ms):
            row = track.rows.get(candle.symbol)
            if row is None:
                continue
            last = newest.get(candle.symbol, int(track.told.newest_ms[row]))
            if last == steps.UNSEEDED or (last >= 0 and candle.open_ms > last + track.told.timeframe.ms):
                self._hold(candle)
            elif candle.open_ms > last:
                newest[candle.symbol] = candle.open_ms
                chosen.append(candle)
        return chosen

    def _hold(self, candle: ClosedCandle) -> None:
        held = self._held[(candle.symbol, candle.timeframe)]
        held.append(candle)
        del held[:-MOST_HELD]

    def interrupted(self, symbols: Iterable[str]) -> None:
        """These were not heard for a while: whatever they lack by now is read at once."""
        wall_ms, rows = self._clock.wall_ms(), self.live.quarter.rows
        lacking = self._lacking()
        for key in [(symbol, timeframe) for symbol in symbols if symbol in rows for timeframe in (Timeframe.M15, Timeframe.H4)]:
            if key in lacking:
                self._behind.setdefault(key, _Behind(read_at_ms=wall_ms)).read_at_ms = wall_ms

    def due(self, rank: Callable[[str], float], most: int) -> list[Missing]:
        """What is to be read now, and counts as being read until `fill` or `failed`.

        Args:
            rank: The greater, the sooner a symbol is read.
            most: How many at most.
        """
        wall_ms = self._clock.wall_ms()
        lacking = self._lacking()
        self._behind = {key: behind for key, behind in self._behind.items() if key in lacking or behind.reading}
        ready = []
        for key, count in lacking.items():
            at_once = count is None or key in self._held
            behind = self._behind.setdefault(key, _Behind(read_at_ms=wall_ms if at_once else wall_ms + LATE_MS))
            if at_once and not behind.failures:
                behind.read_at_ms = min(behind.read_at_ms, wall_ms)
            if not behind.reading and behind.read_at_ms <= wall_ms:
                ready.append(key)
        chosen = sorted(ready, key=lambda key: (-rank(key[0]), key))[:most]
        for key in chosen:
            self._behind[key].reading = True
        return [_missing(key, lacking[key]) for key in chosen]

    def _lacking(self) -> dict[Key, int | None]:
        """How many closed candles each lacks; None where it knows nothing."""
        now_ms = self._clock.now_ms()
        return {
            (track.symbols[row], track.told.timeframe): None
            if newest_ms < 0
            else (expected - newest_ms) // track.told.timeframe.ms
            for track in self._tracks()
            for expected in [now_ms - now_ms % track.told.timeframe.ms - track.told.timeframe.ms]
            for row in np.flatnonzero(track.told.newest_ms < expected).tolist()
            for newest_ms in [int(track.told.newest_ms[row])]
        }

    def fill(self, missing: Missing, candles: Candles) -> None:
        """What the exchange has of it; a symbol for which it has nothing new is asked again later, and less and less often."""
        key = (missing.symbol, missing.timeframe)
        track = self._track(missing.timeframe)
        if missing.symbol not in track.rows:
            self._behind.pop(key, None)
            return
        self.absorb()
        row = track.rows[missing.symbol]
        before = int(track.told.newest_ms[row])
        if missing.whole or before < 0:
            self._seed(track, row, candles)
        else:
            self._waiting += frames_of(candles)
        self._waiting += self._held.pop(key, [])
        self.absorb()
        if len(candles) and 0 <= int(track.told.newest_ms[row]) < int(candles.open_ms[0]):
            track.forget(missing.symbol)  # what was read does not reach back to what is known
        self._read(key, better=int(track.told.newest_ms[row]) != before)

    def _seed(self, track: Track, row: int, candles: Candles) -> None:
        known = int(track.told.newest_ms[row])
        if known < 0 or candles.closed_ms - track.told.timeframe.ms > known:
            track.seed([candles])
            self.version += 1

    def failed(self, missing: Missing) -> None:
        """It could not be read."""
        self._read((missing.symbol, missing.timeframe), better=False)

    def _read(self, key: Key, *, better: bool) -> None:
        behind = self._behind.get(key)
        if behind is None:
            return
        if better:
            del self._behind[key]
            return
        behind.reading = False
        behind.failures += 1
        pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(behind.failures - 1, 10))
        behind.read_at_ms = self._clock.wall_ms() + pause

    def stale(self) -> tuple[str, ...]:
        """Symbols that lack a candle which has closed by now."""
        fresh = self.live.told.fresh(self._clock.now_ms())
        return tuple(self.symbols[row] for row in np.flatnonzero(~fresh))

    def late(self) -> int:
        """Symbols that lack a candle which should have come by now, whether it is being read or the exchange does not have it."""
        wall_ms = self._clock.wall_ms()
        return len({key[0] for key in self._lacking() if key in self._behind and self._behind[key].overdue(wall_ms)})

    def seeded(self) -> int:
        """Symbols of which both timeframes know something."""
        told = self.live.told
        return int(((told.quarter.newest_ms >= 0) & (told.four_hour.newest_ms >= 0)).sum())

    def _tracks(self) -> Iterator[Track]:
        return iter((self.live.quarter, self.live.four_hour))

    def _track(self, timeframe: Timeframe) -> Track:
        return self.live.quarter if timeframe is Timeframe.M15 else self.live.four_hour


def _missing(key: Key, count: int | None) -> Missing:
    whole = count is None or count > MOST_CHEAP
    return Missing(symbol=key[0], timeframe=key[1], count=WHOLE if whole or count is None else count, whole=whole)


def _closes(track: Track, candles: Sequence[ClosedCandle]) -> Closes:
    rows = np.array([track.rows[candle.symbol] for candle in candles], np.int64)
    values = [(candle.open, candle.high, candle.low, candle.close, candle.volume) for candle in candles]
    return Closes(
        rows=rows,
        open_ms=np.array([candle.open_ms for candle in candles], np.int64),
        candles=np.array(values, np.float64).reshape(-1, 5),
    )


def frames_of(candles: Candles) -> list[ClosedCandle]:
    """Closed candles one by one."""
    columns = (candles.open_ms, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return [
        ClosedCandle(
            symbol=candles.symbol,
            timeframe=candles.timeframe,
            open_ms=at,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )
        for at, opened, high, low, close, volume in zip(*(column.tolist() for column in columns), strict=True)
    ]
