"""Work that is done again and again: on time, bounded, and never ended by a source that is away for a while.

A missing neighbour is a warning and a pause that grows; anything else is an error with its traceback, and the next round all the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, Protocol

import msgspec

from orchestrator.errors import Conflict, EngineUnavailable, LeaseLost, StoreUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import Mutex

AWAY: Final = (EngineUnavailable, StoreUnavailable, LeaseLost, Conflict)
"""What passes by itself."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 4.0
"""Short: what waits here protects positions."""

LEASE_SECONDS: Final = 3.0
"""Short, since a killed worker's lease holds up the next round; a longer round may be joined by another worker's, which compare-and-set
makes safe."""

LEASE_PATIENCE_SECONDS: Final = 0.5
"""How long a round waits for a Redis that hangs."""

ROUND_SECONDS: Final = 60.0
"""A round that takes longer hangs on a source that neither answers nor breaks; it is cut off, which every round survives."""


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work and how often it is done, in wall seconds."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]


class Observer(Protocol):
    """Who is told how rounds went."""

    def went_well(self, loop: str, seconds: float) -> None:
        """A whole round."""
        ...

    def went_wrong(self, loop: str) -> None:
        """A round that ended early."""
        ...


async def repeat(loop: Loop, stop: asyncio.Event, observer: Observer) -> None:
    """Runs a loop's rounds until `stop` is set; a round that has begun is finished."""
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        well = await _round(loop)
        took = time.monotonic() - began
        if well:
            observer.went_well(loop.name, took)
        else:
            observer.went_wrong(loop.name)
        failures = 0 if well else failures + 1
        await pause(stop, max(loop.every_seconds - took, 0.0) if well else backoff(failures))


async def one_at_a_time(mutex: Mutex, name: str, run: Callable[[], Awaitable[object]]) -> None:
    """Runs a round unless another worker is at it. Without Redis it runs all the same: the lease only saves work."""
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(LEASE_PATIENCE_SECONDS):
                lease = await held.enter_async_context(mutex.hold(f"loop:{name}", LEASE_SECONDS))
        except (StoreUnavailable, TimeoutError):
            lease = None
        else:
            if lease is None:
                return
        await run()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Waits, but no longer than until `stop` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def backoff(failures: int) -> float:
    """How long to wait after that many failures in a row, in seconds."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE_SECONDS)


async def _round(loop: Loop) -> bool:
    with bound_trace(""):
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await loop.run()
        except (*AWAY, TimeoutError) as error:
            logger().warning("a round waits for its source", loop=loop.name, error=f"{type(error).__name__}: {error}")
            return False
        except Exception:  # noqa: BLE001 - the edge of the worker: a round that fails must not end the rounds after it
            logger().exception("a round failed", loop=loop.name)
            return False
    return True
