"""A loop whose time jumps: as soon as nobody can go on, it is as late as the next who waits wants it. No proof waits for a clock.

Wall time in such a proof is the loop's own. Threads and sockets do not hold time back; keep them out.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

STUCK_SECONDS = 20.0
"""Real seconds in which nothing happened and nothing is due: a proof that waits for ever is a failure."""


class _Jumping(selectors.DefaultSelector):
    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            ready = super().select(STUCK_SECONDS)
            if not ready:
                raise RuntimeError("everybody waits and nothing is due")
            return ready
        self.jump(timeout)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.jump = self._jump
        self._moment = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """Seconds since the loop was made, jumps included."""
        return self._moment

    def _jump(self, seconds: float) -> None:
        self._moment += seconds


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own whose time jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


def wall_of(loop: asyncio.AbstractEventLoop, base_ms: int) -> Callable[[], int]:
    """A wall clock in milliseconds that goes with a loop's time."""
    return lambda: base_ms + int(loop.time() * 1000)
