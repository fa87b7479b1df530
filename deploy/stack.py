"""The processes of the embedded stack: what each is told, when it is ready, and in which order they start and stop."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import msgspec

from deploy.children import Child, ChildSpec
from deploy.environments import environment_of
from deploy.folder import JOURNAL, RECORDING, Folder
from deploy.readable import Console
from deploy.servers import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer, free_port, tethered

STOP_ORDER: Final = ("orchestrator", "worker", "feed", "engine", "sandbox")
"""People first, then whoever may begin something new, then whom they ask."""

SERVERS_STOP_ORDER: Final = ("redis", "postgres")


class TapeClock(msgspec.Struct, frozen=True, kw_only=True):
    """Market time as the sandbox tells it; `ends_ms` is where a recorded tape ends."""

    base_market_ms: int
    base_wall_ms: int
    speed: float
    ends_ms: int | None = None

    def now_ms(self) -> int:
        """Market time at this moment, never past the tape's end."""
        now = int(self.base_market_ms + (time.time() * 1000 - self.base_wall_ms) * self.speed)
        return now if self.ends_ms is None else min(now, self.ends_ms)

    def now(self) -> datetime:
        """Market time, aware UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def ended(self) -> bool:
        """True when a recorded tape has been played to its end."""
        return self.ends_ms is not None and self.now_ms() >= self.ends_ms


class Stack:
    """Every process of one embedded stack, as children of this one."""

    def __init__(
        self, folder: Folder, console: Console, given: dict[str, str], port: int, *, journal: Path | None = None
    ) -> None:
        """Composes; nothing is started.

        Args:
            folder: Keeps data and secrets.
            console: Takes every line.
            given: Settings that the environment or a .env file gives; DATABASE_URL and REDIS_URL replace our own servers.
            port: The dashboard's.
            journal: Where the sandbox keeps its accounts over a restart; None forgets them.
        """
        self.folder = folder
        self._journal = journal
        self.console = console
        self.clock: TapeClock | None = None
        self.children: dict[str, Child] = {}
        self.ports = {name: free_port() for name in ("postgres", "redis", "sandbox", "engine")}
        self.ports["orchestrator"] = port
        self._servers = self._own_servers(given)
        self._http = httpx.AsyncClient(timeout=2, trust_env=False)
        self.settings = self._settings(given)

    @property
    def dashboard(self) -> str:
        """The dashboard's address."""
        return f"http://127.0.0.1:{self.ports['orchestrator']}"

    @property
    def demo(self) -> bool:
        """True when the market is the sandbox's."""
        return self.folder.session.kind == "demo"

    @property
    def restarts(self) -> int:
        """How often a child ended unexpectedly."""
        return sum(child.restarts for child in self.children.values())

    async def start_servers(self) -> None:
        """Starts PostgreSQL and Redis and waits for them.

        Raises:
            DeployError: One does not start.
        """
        for name, server in self._servers.items():
            await asyncio.to_thread(server.prepare)
            self._start(_server_spec(name, server))
        await self._ready(*self._servers)

    async def start_market(self) -> None:
        """Starts the sandbox where market time stood, or at the tape's beginning, and reads its clock."""
        kept = self.folder.session.market_ms
        if kept is not None:
            speed = self.folder.session.tape.speed or 1.0
            self.clock = TapeClock(base_market_ms=kept, base_wall_ms=int(time.time() * 1000), speed=speed)
        self._start(self._python("sandbox", self._sandbox_command, ready="/sandbox/health"))

    async def open_account(self, wallet: str) -> tuple[str, str]:
        """An account at the sandbox with that many USDT: its API key and secret."""
        await self._ready("sandbox")
        reply = await self._http.post(f"{self.address('sandbox')}/sandbox/accounts", json={"wallet": wallet})
        account = reply.raise_for_status().json()
        return account["api_key"], account["api_secret"]

    async def start_services(self) -> None:
        """Starts engine, feed and orchestrator, and reads the market's clock; they come up meanwhile."""
        self._start(self._python("engine", lambda: ["engine.app"], ready="/health"))
        self._start(self._python("orchestrator", lambda: ["orchestrator.app"], ready="/health"))
        self._start(self._python("feed", lambda: ["engine.feed"]))
        if self.demo:
            await self._ready("sandbox")
            reply = await self._http.get(f"{self.address('sandbox')}/sandbox/clock")
            self.clock = msgspec.json.decode(reply.content, type=TapeClock, strict=False)

    async def serving(self) -> None:
        """Waits until engine and orchestrator serve."""
        await self._ready("engine", "orchestrator")

    async def start_executor(self) -> None:
        """Starts Redis and the engine alone, which is all that one order needs; the market, if it is ours, must be up."""
        if "redis" in self._servers:
            await asyncio.to_thread(self._servers["redis"].prepare)
            self._start(_server_spec("redis", self._servers["redis"]))
            await self._ready("redis")
        self._start(self._python("engine", lambda: ["engine.app"], ready="/health"))
        await self._ready("engine")

    async def start_worker(self) -> None:
        """Starts the worker, and with it trading, once it has an engine to ask; waits until everything serves."""
        await self._ready("engine")
        self._start(self._python("worker", lambda: ["orchestrator.worker"]))
        await self._ready("feed", "orchestrator", "worker")

    async def stop_services(self) -> None:
        """Stops everything that trades or serves, in order; the databases stay."""
        for name in STOP_ORDER:
            if name in self.children:
                await self.children[name].stop()

    async def stop_servers(self) -> None:
        """Stops Redis and PostgreSQL, which write what they hold."""
        for name in SERVERS_STOP_ORDER:
            if name in self.children:
                await self.children[name].stop()
        await self._http.aclose()

    def end_services_now(self) -> None:
        """Ends everything but the databases without asking."""
        for name in STOP_ORDER:
            if name in self.children:
                self.children[name].end_now()

    def address(self, name: str) -> str:
        """Where an HTTP child serves."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def _own_servers(self, given: dict[str, str]) -> dict[str, EmbeddedServer]:
        path, secrets = self.folder.path, self.folder.secrets
        own: dict[str, EmbeddedServer] = {}
        if "DATABASE_URL" not in given:
            own["postgres"] = EmbeddedPostgres(path / "postgres", self.ports["postgres"], password=secrets.postgres_password)
        if "REDIS_URL" not in given:
            own["redis"] = EmbeddedRedis(path / "redis", self.ports["redis"], password=secrets.redis_password)
        return own

    def _settings(self, given: dict[str, str]) -> dict[str, str]:
        secrets = self.folder.secrets
        urls = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
        settings = {"ENGINE_TOKEN": secrets.engine_token, "JWT_SECRET": secrets.jwt_secret}
        if not self.demo:
            settings |= {"RECORD_FOLDER": str(self.folder.path / RECORDING)}
        settings |= {"SEAL_PRIVATE_KEYS": secrets.seal_private_keys, **given}
        settings |= {urls[name]: server.url for name, server in self._servers.items()}
        settings |= {"ENGINE_URL": self.address("engine"), "ENGINE_HOST": "127.0.0.1", "ENGINE_PORT": str(self.ports["engine"])}
        settings |= {"ORCHESTRATOR_HOST": "127.0.0.1", "ORCHESTRATOR_PORT": str(self.ports["orchestrator"])}
        settings |= {"LOG_FORMAT": "json", "SECURE_COOKIES": "false", "ENVIRONMENT": "embedded"}
        if self.demo:
            market = self.address("sandbox")
            settings |= {
                "MARKET_CLOCK_URL": market,
                "BINANCE_REST_URL": market,
                "BINANCE_WS_URL": market.replace("http", "ws", 1),
            }
        return settings

    def _start(self, spec: ChildSpec) -> None:
        self.children[spec.name] = Child(spec, self.console)
        self.children[spec.name].start()

    async def _ready(self, *names: str) -> None:
        for name in names:
            await self.children[name].wait_ready()

    def _python(self, name: str, module: Callable[[], list[str]], *, ready: str = "") -> ChildSpec:
        return ChildSpec(
            name=name,
            command=lambda: tethered([sys.executable, "-m", *module()]),
            env=environment_of(name, self.settings),
            ready=self._serves(f"{self.address(name)}{ready}") if ready else None,
            address=self.address(name) if ready else "",
        )

    def _serves(self, url: str) -> Callable[[], Awaitable[bool]]:
        async def serves() -> bool:
            try:
                return (await self._http.get(url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        return serves

    def _sandbox_command(self) -> list[str]:
        tape = msgspec.structs.asdict(self.folder.session.tape)
        if self.clock is not None:
            tape |= {"base-market-ms": self.clock.base_market_ms, "base-wall-ms": self.clock.base_wall_ms}
        tape |= {"journal": self.folder.path / JOURNAL}
        if self._journal is not None:
            tape |= {"journal": self._journal}
        options = [part for name, value in tape.items() if value is not None for part in (f"--{name}", str(value))]
        return ["deploy.sandbox", "--host", "127.0.0.1", "--port", str(self.ports["sandbox"]), *options]


def _server_spec(name: str, server: EmbeddedServer) -> ChildSpec:
    async def answers() -> bool:
        return await asyncio.to_thread(server.answers)

    return ChildSpec(
        name=name,
        command=server.command,
        env=environment_of("sandbox", {}),
        ready=answers,
        address=f"127.0.0.1:{server.port}",
        stop_signal=int(server.stop_signal),
        stop_seconds=15.0 if server.stop_signal == signal.SIGINT else 10.0,
        quiet=True,
    )
