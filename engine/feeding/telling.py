"""Lets closing frames in and tells what figures say by them: soon after a close, and each second anyway.

Frames of one close arrive over some hundred milliseconds: those within a few of each other are taken together, and what changed is told at most ten
times a second. The memory, from which a standby goes on, is written less often: what it lacks is a few candles, read for weight 1. Once the
figures of a close are whole they are told at once, with a word to whoever scans.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from engine.core.features_bytes import memory_bytes, told_bytes
from engine.core.market import Timeframe
from engine.errors import SnapshotsUnavailable
from engine.feeding.keeper import Keeper
from engine.ports import Clock, FiguresState

TOGETHER_SECONDS: Final = 0.02
"""How long the first frame waits for others."""

TOLD_SECONDS: Final = 0.1
AGAIN_SECONDS: Final = 1.0
"""Between two writes while much, and while nothing, changes."""

MEMORY_SECONDS: Final = 5.0

WHOLE: Final = 0.98
"""The share of symbols with which a close counts as heard: whoever is listed, delisted or late is not waited for."""


class FiguresBoard(Protocol):
    """Where figures are written: `engine.snapshots.RedisSnapshots`."""

    async def write_figures(
        self, told: bytes, memory: bytes | None = None, state: FiguresState | None = None, closed_ms: int | None = None
    ) -> None:
        """Writes in one transaction, and says which close is whole with it; raises SnapshotsUnavailable or LeaseLost."""
        ...


class Teller:
    """Absorbs and tells.

    Args:
        keeper: The figures.
        board: Where they are told.
        clock: Both times.
        leader: This process's name.
        skew_ms: As last measured.
    """

    def __init__(self, keeper: Keeper, board: FiguresBoard, clock: Clock, leader: str, skew_ms: Callable[[], int | None]) -> None:
        self._keeper = keeper
        self._board = board
        self._clock = clock
        self._leader = leader
        self._skew_ms = skew_ms
        self._written = (-1, float("-inf"))
        self._remembered = (-1, float("-inf"))
        self._announced_ms: int | None = None

    async def run(self) -> None:
        """Tells until it is cancelled; raises LeaseLost."""
        while True:
            try:
                await asyncio.wait_for(self._keeper.heard.wait(), TOLD_SECONDS)
                await asyncio.sleep(TOGETHER_SECONDS)
            except TimeoutError:
                pass
            self._keeper.absorb()
            await self.tell()

    async def tell(self) -> None:
        """Writes where it is time; a Redis that does not answer is told later."""
        version, now = self._keeper.version, asyncio.get_running_loop().time()
        pause = TOLD_SECONDS if version != self._written[0] else AGAIN_SECONDS
        closed_ms = self._newly_whole()
        if closed_ms is None and now - self._written[1] < pause:
            return
        told, state = told_bytes(self._keeper.live.told), self.state()
        remember = version != self._remembered[0] and now - self._remembered[1] >= MEMORY_SECONDS
        memory = memory_bytes(self._keeper.live) if remember else None
        try:
            await self._board.write_figures(told, memory, state, closed_ms)
        except SnapshotsUnavailable:
            self._written, self._remembered = (-1, now), (-1, self._remembered[1])
            return
        self._written = (version, now)
        self._announced_ms = closed_ms or self._announced_ms
        if remember:
            self._remembered = (version, now)

    def _newly_whole(self) -> int | None:
        """The last close of market time, once nearly every symbol has its candle; None where it was told of before."""
        now_ms = self._clock.now_ms()
        closed_ms = now_ms - now_ms % Timeframe.M15.ms
        if closed_ms == self._announced_ms:
            return None
        fresh = self._keeper.live.told.fresh(now_ms)
        return closed_ms if len(fresh) and fresh.mean() >= WHOLE else None

    def state(self) -> FiguresState:
        """The account of the figures."""
        keeper = self._keeper
        stale = keeper.stale()
        return FiguresState(
            leader=self._leader,
            written_ms=self._clock.wall_ms(),
            market_ms=self._clock.now_ms(),
            skew_ms=self._skew_ms(),
            wanted=len(keeper.symbols),
            seeded=keeper.seeded(),
            stale=stale,
            late=keeper.late(),
            candles_ms=keeper.heard_ms,
        )
