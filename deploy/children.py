"""Keeps child processes running: started in order, told apart in the log, restarted with back-off, stopped in order with nothing left behind.

Each child leads its own session, so a Ctrl-C reaches only the supervisor and a whole family can be ended at once; each is tied to the
supervisor by `tether`, so that not even a kill -9 of the supervisor leaves one behind.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from deploy.errors import ChildFailed
from deploy.readable import Console

BACK_OFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
SETTLED_SECONDS: Final = 20.0
"""A child that stayed up this long starts its back-off anew when it ends."""

ALIVE_SECONDS: Final = 0.8
"""A child that cannot be asked counts as ready after this long; a missing setting ends it sooner."""

START_TRIES: Final = 4
START_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.05
LINE_BYTES: Final = 4_000_000


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one process is run.

    Attributes:
        command: Asked again at every start, tied to the supervisor by its maker.
        ready: True once it serves; None when being alive is all that can be asked.
        quiet: Its lines are kept but not shown.
    """

    name: str
    command: Callable[[], list[str]]
    env: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]] | None = None
    address: str = ""
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 8.0
    quiet: bool = False


class Child:
    """One process that is kept running until it is told to stop."""

    def __init__(self, spec: ChildSpec, console: Console) -> None:
        """Nothing is started yet."""
        self.spec = spec
        self.restarts = 0
        self._console = console
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._begun = self._first_begun = 0.0
        self._ready_once = False
        self._tail: deque[str] = deque(maxlen=20)

    @property
    def pid(self) -> int | None:
        """The process at this moment."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> None:
        """Starts the process and keeps it running."""
        self._first_begun = time.monotonic()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    async def wait_ready(self) -> None:
        """Waits until the child serves, and says so.

        Raises:
            ChildFailed: It would not stay up or did not serve in time.
        """
        while not await self._is_ready():
            if self.restarts >= START_TRIES:
                raise self._failure("does not stay up")
            if time.monotonic() - self._first_begun > START_SECONDS:
                raise self._failure(f"did not serve within {START_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        self._ready_once = True
        where = f"  {self.spec.address}" if self.spec.address else ""
        self._console.say(f"{self.spec.name:<13} ready after {time.monotonic() - self._first_begun:4.1f} s{where}")

    async def stop(self) -> None:
        """Asks the process to end, waits its time, then ends its whole family."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
            try:
                async with asyncio.timeout(self.spec.stop_seconds):
                    await _exit_code(process)
            except TimeoutError:
                self._console.say(f"{self.spec.name} did not end within {self.spec.stop_seconds:.0f} s and is killed")
            _end_family(process.pid)
            await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    def end_now(self) -> None:
        """Ends the whole family without asking, for a person who will not wait."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            _end_family(self._process.pid)

    async def _is_ready(self) -> bool:
        if self.pid is None:
            return False
        if self.spec.ready is None:
            return time.monotonic() - self._begun > ALIVE_SECONDS
        return await self.spec.ready()

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._begun = time.monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            self.restarts += 1
            failures = 0 if time.monotonic() - self._begun > SETTLED_SECONDS else failures + 1
            pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
            self._console.say(f"{self.spec.name} ended unexpectedly ({_how(code)}); it starts again in {pause:g} s")
            if self.spec.quiet and not self._ready_once:
                self._console.say("\n".join(self._tail), self.spec.name)
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.command(),
            env=dict(self.spec.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        reader = asyncio.create_task(self._read(self._process))
        code = await _exit_code(self._process)
        _end_family(self._process.pid)
        await reader
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for above
        while raw := await process.stdout.readline():
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            self._console.take(self.spec.name, line, quiet=self.spec.quiet)

    def _failure(self, what: str) -> ChildFailed:
        tail = "".join(f"\n    {line}" for line in self._tail)
        return ChildFailed(f"{self.spec.name} {what}; its last lines:{tail}")


async def _exit_code(process: asyncio.subprocess.Process) -> int:
    # Process.wait() returns only once every holder of the output pipe is gone, grandchildren too; the code is known at once.
    while process.returncode is None:  # noqa: ASYNC110 - asyncio offers no event for it
        await asyncio.sleep(0.02)
    return process.returncode


def _end_family(leader: int) -> None:
    # The leader is gone or out of time; what it started itself must not live on with its ports.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
