"""One feed leads, the others stand by: how a process becomes the leader, and how it ends being one."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from engine.errors import LeaseLost, SnapshotsUnavailable
from engine.log import logger

STAND_BY_SECONDS: Final = 0.5
"""Between two tries of a standby: with the lease's length, how long nobody leads after a leader died."""


class Leadership(Protocol):
    """The lease: `engine.lease.Lease`."""

    holder: str
    seconds: float

    async def hold(self) -> bool:
        """Takes or keeps it; False where somebody else has it; raises SnapshotsUnavailable."""
        ...

    async def leave(self) -> None:
        """Gives it back."""
        ...


async def lead(lease: Leadership, work: Callable[[], Awaitable[None]]) -> None:
    """Stands by, works while it leads, and stands by again, until it is cancelled; an error of the work ends it.

    Where Redis does not answer nobody can know who leads: the work goes on, and what it writes then is refused where somebody else leads.
    """
    try:
        while True:
            await _until_held(lease)
            logger().info("the feed leads", name=lease.holder)
            await _while_held(lease, work)
            logger().warning("another feed leads", name=lease.holder)
    finally:
        await lease.leave()


async def _until_held(lease: Leadership) -> None:
    said = False
    while True:
        with suppress(SnapshotsUnavailable):
            if await lease.hold():
                return
            if not said:
                logger().info("the feed stands by", name=lease.holder)
            said = True
        await asyncio.sleep(STAND_BY_SECONDS)


async def _while_held(lease: Leadership, work: Callable[[], Awaitable[None]]) -> None:
    working = asyncio.ensure_future(work())
    try:
        while True:
            done, _ = await asyncio.wait({working}, timeout=lease.seconds / 3)
            if done:
                with suppress(LeaseLost):
                    await working
                return
            with suppress(SnapshotsUnavailable):
                if not await lease.hold():
                    return
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await working
