"""Processes that die: each step that leaves one passes its gate, and behind a closed gate nothing goes on, nothing is undone.

A dead process's coroutines are kept, never closed: no finally, no __aexit__ of theirs runs. What the machine would undo (a database's
open transaction, a caller's connection) is told by `at_death`.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Final, Optional

OWNER: Final[ContextVar[Optional["Process"]]] = ContextVar("OWNER", default=None)
"""Whose work the running task does; tasks that it begins are of the same process."""


class Killed(Exception):
    """Raised nowhere in a process that dies; only told to whoever asked for the kill."""


class Process:
    """One process of ours.

    Args:
        name: For the trace.
        stepped: Told of every step, before it is taken; it may kill.
    """

    def __init__(self, name: str, stepped: Callable[["Process", str], None] | None = None) -> None:
        self.name = name
        self.died = asyncio.Event()
        self.at_death: list[Callable[[], None]] = []
        self._stepped = stepped
        self._tasks: list[asyncio.Task[Any]] = []
        self._buried: list[asyncio.Future[None]] = []

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self.died.is_set()

    def kill(self) -> None:
        """Nothing of it takes another step."""
        if not self.dead:
            self.died.set()
            for undo in self.at_death:
                undo()

    async def gate(self, step: str) -> None:
        """Returns to the living."""
        if self._stepped is not None and not self.dead:
            self._stepped(self, step)
        await self.here()

    async def here(self) -> None:
        """Returns to the living; no step of its own."""
        if self.dead:
            await self.bury()

    async def bury(self) -> None:
        """Never returns; until the whole simulation ends."""
        grave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buried.append(grave)
        await grave

    def begin[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work of this process that nobody need wait for."""
        context = copy_context()
        context.run(OWNER.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.append(task)
        return task


class Gated:
    """What a process asks of something outside of it: a gate before each question; what is no question passes."""

    def __init__(self, asked: Any, process: Process, name: str) -> None:
        self._asked, self._process, self._name = asked, process, name

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._asked, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def gated(*given: Any, **named: Any) -> Any:
            await self._process.gate(f"before {self._name} {name}")
            answer = await method(*given, **named)
            await self._process.here()
            return answer

        return gated
