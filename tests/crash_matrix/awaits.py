"""Sees every await at which a task of our processes is suspended, and lets none of a dead process's tasks be resumed.

The event loop is ours: each task's coroutine is driven through `Watched`, which is told of each suspension. A task that was suspended in the
product's own code when its process died is never resumed: no finally, no __aexit__ of it runs, its coroutine is kept until the judge has
spoken. One that was suspended in what is outside of the process (a request on its way, the store's turn) is let go as far as the
gate at its process's door: what has left arrives.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from tests.conftest import PROJECT
from tests.fault_storm.processes import OWNER, Process

PRODUCT: Final = tuple(f"{PROJECT / name}/" for name in ("engine", "orchestrator", "shared"))
OUTSIDE: Final = tuple(f"{PROJECT / name}/" for name in ("tests", "deploy"))


class Awaits:
    """What drives the tasks of a simulation.

    Args:
        suspended: Told of each suspension within the product's work: the process, and the await in words.
        over: Whether the judge has spoken: what a dead process left may go then.
    """

    def __init__(self, suspended: Callable[[Process, str], None], over: Callable[[], bool]) -> None:
        self.suspended, self.over = suspended, over
        self.kept: list[asyncio.Future[None]] = []

    def task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, context: Context | None = None, **named: Any
    ) -> asyncio.Task[Any]:
        """A task factory."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        return asyncio.Task(work if owner is None else Watched(work, owner, self), loop=loop, context=context, **named)


class Watched(Coroutine[Any, Any, Any]):
    """A task's coroutine, seen at each suspension."""

    def __init__(self, work: Coroutine[Any, Any, Any], owner: Process, awaits: Awaits) -> None:
        self._work, self._owner, self._awaits = work, owner, awaits

    def send(self, value: Any) -> Any:
        """Resume it, unless it is dead."""
        return self._never() if self._frozen() else self._suspended(self._work.send(value))

    def throw(self, kind: Any, error: Any = None, trace: TracebackType | None = None) -> Any:
        """Resume it with an error, unless it is dead."""
        return self._never() if self._frozen() else self._suspended(self._work.throw(error or kind))

    def close(self) -> None:
        """Close it."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("a task drives it")

    def _suspended(self, waits_for: Any) -> Any:
        if not self._owner.dead:
            place = place_of(self._work)
            if place:
                self._awaits.suspended(self._owner, place)
        return waits_for

    def _frozen(self) -> bool:
        if not self._owner.dead or self._awaits.over():
            return False
        last = next((frame for frame in reversed([*frames(self._work)]) if _in(frame, PRODUCT + OUTSIDE)), None)
        return last is not None and _in(last, PRODUCT)

    def _never(self) -> asyncio.Future[None]:
        grave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        grave._asyncio_future_blocking = True
        self._awaits.kept.append(grave)
        return grave


def place_of(work: Any) -> str:
    """The innermost line of the product at which a coroutine is suspended; empty where none of it is the product's."""
    inner = ""
    for frame in frames(work):
        if _in(frame, PRODUCT):
            inner = f"{Path(frame.f_code.co_filename).relative_to(PROJECT)}:{frame.f_lineno}"
    return inner


def frames(work: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine and of what it awaits, outermost first."""
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "ag_frame", None) or getattr(work, "gi_frame", None)
        if frame is not None:
            yield frame
        work = getattr(work, "cr_await", None) or getattr(work, "ag_await", None) or getattr(work, "gi_yieldfrom", None)


def _in(frame: FrameType, folders: tuple[str, ...]) -> bool:
    return frame.f_code.co_filename.startswith(folders)
