"""One change at a time of what guards a position: of two at once each would take the other's stop for the old one and cancel it.

The turn is a claim in Redis, which every replica sees, and a lock in this process, for when Redis is away. It is a courtesy, not the
safety: who protects and has waited long enough goes on without it, since its holder may be dead, and reads back at its end that its stop
still rests. Who only sweeps comes again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from engine.errors import ReportStoreUnavailable
from engine.execution.asking import Bound
from engine.log import logger
from engine.ports import Claimed, Reports

WAIT_SECONDS: Final = 4.0
"""For the one before: a change takes less, unless the exchange does not answer."""

LIVES_SECONDS: Final = 20.0
"""Of a turn that nobody gives back; longer than every bound of a change together."""

POLL_SECONDS: Final = 0.1

type Turn = Callable[[str], AbstractAsyncContextManager[bool]]
"""The turn in a symbol of one account; False where one goes on without it."""


class Turns:
    """Who may change what guards a position now.

    Args:
        reports: Where turns are claimed, so that all replicas see them; None for this process alone.
        wait_seconds: Wall seconds that one waits for the one before.
    """

    def __init__(self, reports: Reports | None = None, wait_seconds: float = WAIT_SECONDS) -> None:
        self._reports, self._wait_seconds = reports, wait_seconds
        self._here: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, user_id: str) -> Turn:
        """The turns of one account."""
        return lambda symbol: self._turn(f"turn:{user_id}:{symbol}")

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[bool]:
        bound = Bound(self._wait_seconds)
        lock = self._here.setdefault(name, asyncio.Lock())
        mine = await _acquired(lock, bound)
        claim = await self._claim(name, bound)
        try:
            yield mine and (claim is not None or self._reports is None)
        finally:
            if claim is not None:
                await self._give_back(name, claim)
            if mine:
                lock.release()

    async def _claim(self, name: str, bound: Bound) -> Claimed | None:
        while self._reports is not None:
            try:
                found = await self._reports.claim(name, name, LIVES_SECONDS)
            except ReportStoreUnavailable:
                return None
            if isinstance(found, Claimed):
                return found
            if not await bound.pause(POLL_SECONDS):
                return None
        return None

    async def _give_back(self, name: str, claim: Claimed) -> None:
        """Where Redis does not hear it, the next one waits a little."""
        try:
            if self._reports is not None:
                await self._reports.release(name, name, claim)
        except ReportStoreUnavailable as error:
            logger().warning("a turn was not given back", turn=name, error=str(error))


async def _acquired(lock: asyncio.Lock, bound: Bound) -> bool:
    try:
        async with asyncio.timeout(bound.left):
            return await lock.acquire()
    except TimeoutError:
        return False
