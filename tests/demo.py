"""A demo run from outside, as a person would run it: started by the command, watched through its folder, its database and its processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import psutil
import psycopg

from deploy.folder import RUNNING, SECRETS, SESSION, Secrets, Session
from deploy.servers import free_port
from tests.polling import wait_until

MARKS: Final = {
    "postgres": "bin/postgres",
    "redis": "redis-server",
    "sandbox": "deploy.sandbox",
    "engine": "engine.app",
    "feed": "engine.feed",
    "worker": "orchestrator.worker",
    "orchestrator": "orchestrator.app",
}
"""What of its command line tells a child from the others."""

ENDS_ALONE: Final = "postgres"
"""Its backends end when the postmaster is gone; the others are killed with all that they started."""


class RunningDemo:
    """`neurotrade demo` as a child of the test; ended with the context, whatever happened."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None, env: Mapping[str, str] | None = None) -> None:
        self.env = {**os.environ, **(env or {})}
        self.folder = folder
        self.port = port or free_port()
        self.log = folder.with_suffix(".out")
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "deploy.cli",
            "demo",
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
            *self.arguments,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=self.env
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(40)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
                self.supervisor.wait()

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        """The process that the command became."""
        assert self.process is not None
        return self.process

    @property
    def output(self) -> str:
        """Everything that it printed."""
        return self.log.read_text(errors="replace")

    @property
    def urls(self) -> dict[str, str]:
        """DATABASE_URL and REDIS_URL of the running stack."""
        return msgspec.json.decode((self.folder / RUNNING).read_bytes(), type=dict[str, str])

    @property
    def secrets(self) -> Secrets:
        """What the data folder keeps to itself."""
        return msgspec.json.decode((self.folder / SECRETS).read_bytes(), type=Secrets)

    @property
    def session(self) -> Session:
        """What the data folder goes on with."""
        return msgspec.json.decode((self.folder / SESSION).read_bytes(), type=Session)

    def wait_trading(self, seconds: float = 90) -> None:
        """Waits for the first scan."""

        def scanned() -> bool:
            assert self.supervisor.poll() is None, f"the demo ended:\n{self.output[-3000:]}"
            if not (self.folder / RUNNING).exists() or "dashboard" not in self.output:
                return False
            return bool(self.ask("SELECT count(*) FROM scans")[0][0])

        wait_until(scanned, seconds=seconds, what="the first scan")

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the test's own."""
        return psycopg.connect(self.urls["DATABASE_URL"], autocommit=True, connect_timeout=3)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of one question; none while PostgreSQL is away."""
        try:
            with self.connect() as connection:
                return connection.execute(query.encode(), values).fetchall()
        except psycopg.OperationalError:
            return [(None,)]

    def children(self) -> dict[str, psutil.Process]:
        """The children by name, at this moment."""
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.supervisor.pid).children():
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                found |= {name: child for name, mark in MARKS.items() if mark in line and "tether.py" not in line}
        return found

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        head = psutil.Process(self.supervisor.pid)
        return [head, *head.children(recursive=True)]

    def kill(self, name: str) -> float:
        """Kills a child with -9, and with it what it started; the wall time of the kill."""
        child = self.children()[name]
        victims = [child] if name == ENDS_ALONE else [child, *child.children(recursive=True)]
        at = time.time()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(victim.pid, signal.SIGKILL)
        return at

    def wait_end(self, seconds: float) -> int:
        """Waits for the demo to end by itself; its exit code."""
        try:
            return self.supervisor.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the demo did not end within {seconds:g} s:\n{self.output[-3000:]}") from error


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run, zombies aside."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
