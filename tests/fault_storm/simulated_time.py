"""An event loop whose time jumps over what would be waiting, and clocks that read it: minutes of an exchange pass in no time.

While a simulation runs, `time.time`, `time.time_ns` and `time.monotonic` of the process tell the loop's time too, so that whoever reads
a clock without having been handed one (the budget's blocks, the sandbox's wall) reads the same. Nothing here may wait for another
thread: with no timer set and nothing ready the loop says so instead of waiting for ever.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

BEGINS: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TURN_SECONDS: Final = 0.0002
"""What one turn of the loop takes: work is not free, and two things that happen after each other do not bear one time."""


class NothingWillHappen(Exception):
    """Every task waits for something that nobody will do."""


class _JumpingSelector(selectors.DefaultSelector):
    """Looks without waiting, and lets the loop's time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = [] if timeout else super().select(0)
        if timeout is None and not ready:
            raise NothingWillHappen
        self.now += max(timeout or 0.0, TURN_SECONDS)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Seconds since the simulation began, counted and not waited for."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Simulated seconds."""
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        """Lets time pass before anything happens."""
        self._jumping.now += seconds


class SimulatedClock:
    """Wall and market time of a simulation; both ports of a clock, the engine's and the orchestrator's."""

    def __init__(self, loop: SimulatedLoop, begins: datetime = BEGINS) -> None:
        self._loop = loop
        self._begins = begins
        self._begins_ns = (begins - EPOCH) // timedelta(microseconds=1) * 1000

    def now(self) -> datetime:
        return self._begins + timedelta(seconds=self._loop.time())

    def wall(self) -> datetime:
        return self.now()

    def now_ms(self) -> int:
        return self.time_ns() // 1_000_000

    def wall_ms(self) -> int:
        return self.now_ms()

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        return (until - since).total_seconds()

    def time_ns(self) -> int:
        return self._begins_ns + int(self._loop.time() * 1e9)

    def monotonic(self) -> float:
        return 1000.0 + self._loop.time()


@contextmanager
def process_time(clock: SimulatedClock) -> Iterator[None]:
    """Lets every clock of the process that is read through the module `time` tell simulated time."""
    real = time.time, time.time_ns, time.monotonic
    time.time, time.time_ns, time.monotonic = lambda: clock.time_ns() / 1e9, clock.time_ns, clock.monotonic
    try:
        yield
    finally:
        time.time, time.time_ns, time.monotonic = real


def run[T](main: Coroutine[Any, Any, T], loop: SimulatedLoop) -> T:
    """Runs to the end and leaves nothing behind: what still waits is cancelled."""
    loop.set_exception_handler(lambda loop, context: None)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_cancelled())
        loop.close()


async def _cancelled() -> None:
    """Again and again: what a dead process left behind may come to a closed gate on its way out."""
    for _ in range(20):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)
