"""Real processes around one sandbox and one Redis: feeds, engine replicas, a reader; each may be killed, stopped and started anew.

Used by the soak and by the tests that kill. Everything ends with whoever started it, even where that is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import psutil

from deploy.servers import EmbeddedRedis, free_port, tethered
from tests.polling import wait_until

TOKEN: Final = "t" * 32
START_SECONDS: Final = 60.0
END_SECONDS: Final = 10.0


class Child:
    """One process, and the file that it logs into."""

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(command), stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that it said."""
        return self.log.read_text(errors="replace")

    def lives(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def rss(self) -> int:
        """Bytes that it and its children hold."""
        with contextlib.suppress(psutil.Error):
            head = psutil.Process(self.pid)
            return sum(one.memory_info().rss for one in [head, *head.children(recursive=True)])
        return 0

    def send(self, number: signal.Signals) -> None:
        """A signal, to it alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill -9, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def ask_to_end(self) -> None:
        """Whether it stands still or not."""
        if self.lives():
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)

    def wait_end(self) -> None:
        """Waits for the end, or makes it."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class Stack:
    """A sandbox and a Redis, up while the context lasts, and what is started on them.

    Args:
        folder: Holds logs and Redis.
        sandbox: Options of `python -m deploy.sandbox`.
        settings: Of every engine process, beside those that say where things are.
    """

    def __init__(self, folder: Path, sandbox: list[str], settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis", free_port(), durable=False)
        self.children: list[Child] = []
        self._sandbox = sandbox
        self._settings = settings or {}
        self._port = free_port()
        self._redises = 0

    def __enter__(self) -> Self:
        try:
            self.redis.start()
            self.start("sandbox", "-m", "deploy.sandbox", "--port", str(self._port), *self._sandbox)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def wait_exchange(self) -> None:
        """Waits until the sandbox serves; whatever is started before waits for it too."""
        wait_until(lambda: self._answers(f"{self.url}/sandbox/health"), seconds=START_SECONDS, what="the sandbox")

    @property
    def url(self) -> str:
        """The exchange."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def env(self) -> dict[str, str]:
        """What an engine process is told."""
        return {
            **{name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")},
            "ENGINE_TOKEN": TOKEN,
            "REDIS_URL": self.redis.url,
            "BINANCE_REST_URL": self.url,
            "BINANCE_WS_URL": self.url.replace("http", "ws"),
            "MARKET_CLOCK_URL": self.url,
            "LOG_FORMAT": "text",
            **self._settings,
        }

    def start(self, name: str, *arguments: str, **settings: str) -> Child:
        """A process of ours."""
        log = self.folder / f"{name}.log"
        child = Child(name, [sys.executable, *arguments], log, {**self.env, **settings})
        self.children.append(child)
        return child

    def start_engine(self, name: str) -> tuple[Child, str]:
        """A replica that serves or will soon, and its address."""
        port = free_port()
        return self.start(name, "-m", "engine.app", ENGINE_PORT=str(port)), f"http://127.0.0.1:{port}"

    def begin_redis_anew(self) -> None:
        """A Redis that has lost everything, where the old one was."""
        port, password = self.redis.port, self.redis.password
        self._redises += 1
        self.redis = EmbeddedRedis(self.folder / f"redis-{self._redises}", port, password=password, durable=False)
        self.redis.start()

    def kill_redis(self) -> None:
        """Kill -9."""
        process = self.redis.process
        assert process is not None
        process.kill()
        process.wait()

    def faults(self, rules: list[dict[str, Any]]) -> dict[str, Any]:
        """Lets rules stand beside those that do; what fired so far."""
        answer = httpx.post(f"{self.url}/sandbox/faults", json={"rules": rules, "add": True}, trust_env=False, timeout=10)
        told: dict[str, Any] = answer.raise_for_status().json()
        return told

    def calm(self) -> dict[str, int]:
        """Ends every fault; how often each kind fired since the last calm."""
        answer = httpx.delete(f"{self.url}/sandbox/faults", trust_env=False, timeout=10).raise_for_status()
        fired: dict[str, int] = answer.json()["fired"]
        return fired

    def _end(self) -> None:
        for child in self.children:
            child.ask_to_end()
        for child in self.children:
            child.wait_end()
        self.redis.stop()

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return httpx.get(url, trust_env=False, timeout=2).is_success
        except httpx.HTTPError:
            return False
