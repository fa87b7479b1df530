"""Work that a round waits for only so long: what takes longer goes on apart, and the next round does not wait for it.

One engine call that hangs must not keep every other position from being looked at.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from orchestrator.errors import OrchestratorError
from orchestrator.log import logger


class Apart:
    """Pieces of work by key, one at a time for each key; a failure is logged and touches nothing else.

    Args:
        what: Names the work in the log.
        patience_seconds: Wall time that a round waits for what it began.
        at_once: The most that run at a time.
    """

    def __init__(self, what: str, patience_seconds: float, at_once: int) -> None:
        self._what = what
        self._patience = patience_seconds
        self._places = asyncio.Semaphore(at_once)
        self._running: dict[UUID, asyncio.Task[Any]] = {}

    def busy(self, key: UUID) -> bool:
        """Whether work for that key goes on."""
        return key in self._running

    async def each(self, work: Mapping[UUID, Callable[[], Awaitable[object]]]) -> None:
        """Begins work for the keys that are not busy and waits for it while patience lasts; what is late goes on."""
        begun = {asyncio.create_task(self._placed(one)): key for key, one in work.items() if key not in self._running}
        for task, key in begun.items():
            self._running[key] = task
            task.add_done_callback(partial(self._ended, key))
        if not begun:
            return
        done, late = await asyncio.wait(begun, timeout=self._patience)
        if late:
            logger().warning(f"{self._what} takes long and goes on apart", count=len(late))
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, Exception):
                raise error

    async def end(self) -> None:
        """Cuts off what still runs; whatever was committed is settled later."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _placed(self, one: Callable[[], Awaitable[object]]) -> None:
        async with self._places:
            await one()

    def _ended(self, key: UUID, task: asyncio.Task[Any]) -> None:
        self._running.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OrchestratorError):
            logger().warning(f"{self._what} did not get through", error=f"{type(error).__name__}: {error}")
        elif isinstance(error, Exception):
            logger().error(f"{self._what} failed", error=type(error).__name__, exc_info=error)
