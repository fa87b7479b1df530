"""Our processes over real servers: an engine replica behind a socket, and a worker or web process on PostgreSQL, Redis and HTTP.

Each is composed as its `build` composes it, from the same adapters; what is not: public market data and scans come from the storm's board.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import httpx
from litestar import Litestar, Request, Response
from litestar.datastructures import State

from engine.binance import Addresses, BinanceExchanges
from engine.budget import SharedBudget
from engine.execution.asking import Patience
from engine.execution.desk import Desk
from engine.execution.exchange_venue import ExchangeVenue
from engine.execution.lasting_once import LastingOnce
from engine.execution.once import Once
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.keys import Seal
from engine.paper import DryRunVenue, PaperVenue
from engine.reports import RedisReports
from engine.routes import execution
from engine.routes.http import EXCEPTION_HANDLERS, on_crash, token_guard, trace_middleware
from engine.snapshots import connect
from orchestrator.balances import KnownBalances
from orchestrator.bus import RedisBus
from orchestrator.engine_client import CONNECT_SECONDS, MAX_CONNECTIONS, HttpEngine
from orchestrator.jobs import RedisJobs, open_redis
from orchestrator.lifeline import RedisLifeline
from orchestrator.loops import AWAY, Loop, one_at_a_time, repeat
from orchestrator.mutex import RedisLease, RedisMutex
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksReply, Signal, SymbolMarks
from shared.enums import AnalystKind
from tests.fault_storm.board import StormBoard, StormMarket, Weather
from tests.fault_storm.engine import WEIGHT_LIMIT, GatedReports
from tests.fault_storm.orchestrator import RECENT, SETTLE_SECONDS, SeededIds
from tests.fault_storm.processes import Process
from tests.fault_storm.real_sockets import LOOPBACK, Balanced, Door, GatedSession
from tests.fault_storm.real_store import ProcessDatabase
from tests.fault_storm.simulated_time import SimulatedClock

TOKEN: Final = "t" * 32


class Place:
    """What all processes of one schedule stand on, and where they find each other.

    Args:
        database_url: Of this schedule alone.
        redis_url: Of this schedule alone.
        board: The market.
        clock: Wall and market time.
        weather: What goes wrong between our own parts.
        ids: A seed's.
        seal: The engine's.
        stepped: Told of every step of each process.
        told: Takes what a replay shows.
    """

    def __init__(
        self, database_url: str, redis_url: str, board: StormBoard, clock: SimulatedClock, weather: Weather, ids: SeededIds, seal: Seal,
        stepped: Callable[[Process, str], None] | None, told: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.database_url, self.redis_url = database_url, redis_url
        self.board, self.clock, self.weather, self.ids, self.seal = board, clock, weather, ids, seal
        self.stepped, self.told = stepped, told
        self.market = StormMarket(board, clock, weather)
        self.exchange_url = ""
        self.replicas: Callable[[], list[int]] = list
        self.requests = 0

    def asked(self, line: str) -> None:
        """A request to the exchange is over."""
        self.requests += 1
        self.told(f"    {line}")


class SocketReplica(Process):
    """One process of the engine: its routes behind a socket, its clients on sockets of their own."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(name, place.stepped)
        market, clock = place.market, place.clock
        self.crashes: list[BaseException] = []
        self._redis = connect(place.redis_url)
        self._sessions: list[GatedSession] = []
        streams = place.exchange_url.replace("http", "ws")
        addresses = Addresses(rest=place.exchange_url, streams=streams, spot=place.exchange_url)
        budget = SharedBudget(self._redis, WEIGHT_LIMIT, clock.now_ms)
        self.exchanges = exchanges = BinanceExchanges(
            place.seal, addresses, budget, market, clock, lambda: self._session(place.asked)
        )
        gated = GatedReports(RedisReports(self._redis), self, place.weather)
        turns = Turns(gated)
        self.desk = Desk(
            market=market,
            clock=clock,
            once=Once(reports=gated),
            lasting=LastingOnce(reports=gated),
            turns=turns,
            venues=Venues(
                paper=lambda account: PaperVenue(market, clock, account.book),
                dry=lambda account: DryRunVenue(market, clock, account.dry_positions),
                real=lambda account: ExchangeVenue(account, exchanges, market, clock, Patience(), turns),
                exchanges=exchanges,
                dry_run=False,
            ),
        )
        self.door = Door(
            Litestar(
                route_handlers=execution.HANDLERS,
                guards=[token_guard(TOKEN)],
                middleware=[trace_middleware],
                exception_handlers=EXCEPTION_HANDLERS | {Exception: self._on_crash},
                state=State({"desk": self.desk}),
                openapi_config=None,
                logging_config=None,
            )
        )
        self.at_death.append(self._break_off)

    async def close(self) -> None:
        """Gives everything back, at the end of a schedule."""
        self.door.break_off()
        await self.exchanges.close()
        await self._redis.aclose()

    def _on_crash(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        if not self.dead:
            self.crashes.append(error)
        return on_crash(request, error)

    def _session(self, told: Callable[[str], None]) -> GatedSession:
        self._sessions.append(GatedSession(self, told))
        return self._sessions[-1]

    def _break_off(self) -> None:
        self.door.break_off()
        for session in self._sessions:
            session.break_off()


class SocketEngine(HttpEngine):
    """The orchestrator's own client; only what reads the market is answered from the board, since scans do not storm here."""

    def __init__(self, client: httpx.AsyncClient, process: Process, place: Place) -> None:
        super().__init__(client)
        self._process, self._place = process, place
        self.signals: list[Signal] = []

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        del request
        await self._process.gate("analyze")
        signals, self.signals = self.signals, []
        listed = len(self._place.board.lines)
        return AnalyzeReply(
            as_of=self._place.clock.now(), universe=listed, screened=listed, analyst=AnalystKind.RULES,
            candidates=[], signals=signals, rejections=[], timings_ms={"total": 1.0},
        )  # fmt: skip

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        await self._process.gate("marks")
        now, now_ms = self._place.clock.now(), self._place.clock.now_ms()
        marks = {
            symbol: SymbolMarks(mark=self._place.board.mark(symbol, now_ms), as_of=now, age_ms=0, bars=[], funding=[], since=now)
            for symbol in since
        }
        return MarksReply(as_of=now, marks=marks, missing={})


class GatedMutex:
    """One process's leases; a dead one's are left to expire."""

    def __init__(self, mutex: RedisMutex, process: Process) -> None:
        self._mutex, self._process = mutex, process

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[RedisLease | None]:
        await self._process.gate(f"before lease {name}")
        holding = self._mutex.hold(name, seconds)
        try:
            lease = await holding.__aenter__()
        finally:
            await self._process.gate(f"after lease {name}")
        try:
            yield lease
        finally:
            await self._process.gate(f"before the end of lease {name}")
            await holding.__aexit__(None, None, None)


class SocketService(Process):
    """One process of the orchestrator: the use cases on its own pool, its own Redis client and its own connections to the engine."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(name, place.stepped)
        self.crashes: list[BaseException] = []
        self._stop = asyncio.Event()
        self._database = ProcessDatabase(place.database_url, self, place.weather)
        self._redis = open_redis(place.redis_url)
        self._balanced = Balanced(self, place.replicas, place.weather)
        self._client = httpx.AsyncClient(
            base_url=f"http://{LOOPBACK}",
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            transport=self._balanced,
            trust_env=False,
        )
        self.engine = SocketEngine(self._client, self, place)
        self.mutex = GatedMutex(RedisMutex(self._redis), self)
        ports = Ports(
            transactions=self._database.begin,
            engine=self.engine,
            balances=KnownBalances(place.clock),
            mutex=self.mutex,
            bus=RedisBus(self._redis),
            clock=place.clock,
            ids=place.ids,
            jobs=RedisJobs(self._redis),
            lifeline=RedisLifeline(self._redis),
        )
        self.trading: Trading = compose(ports, EntryRules(dry_run=False), ScanRules(recent=RECENT))
        self.at_death += [self._balanced.break_off, self._stop.set]

    def work(self) -> None:
        """Begins the worker's loops, those of `orchestrator.worker.loops_of` that trade real accounts."""
        trading = self.trading
        alone: dict[str, Callable[[], Awaitable[object]]] = {
            "settle": trading.settle.run,
            "panics": trading.panic.resume,
            "stops": trading.emergency.write_back,
            "approvals": trading.approve.expire,
        }
        self._loop("follow", trading.follow.run)
        self._loop("alarm", trading.follow.alarm)
        self._loop("leftovers", trading.scan.finish)
        for name, run in alone.items():
            self._loop(name, partial(one_at_a_time, self.mutex, name, run))

    async def close(self) -> None:
        """Gives everything back, at the end of a schedule."""
        self._stop.set()
        await self._client.aclose()
        await self._redis.aclose(close_connection_pool=True)
        await self._database.close()

    def went_well(self, loop: str, seconds: float) -> None:
        """Nobody counts."""

    def went_wrong(self, loop: str) -> None:
        """Nobody counts."""

    def _loop(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        async def watched() -> None:
            try:
                await run()
            except (*AWAY, TimeoutError):
                raise
            except Exception as error:
                if not self.dead:
                    self.crashes.append(error)
                raise

        loop = Loop(name=name, every_seconds=SETTLE_SECONDS, run=watched)
        self.begin(repeat(loop, self._stop, self))


class SocketReplicas:
    """All replicas; a dead one's address answers no more until another is started."""

    def __init__(self, place: Place, count: int) -> None:
        self._place = place
        self.ever: list[SocketReplica] = []
        self.all = [self._another() for _ in range(count)]
        place.replicas = lambda: [one.door.port for one in self.all]

    def kill(self, number: int) -> None:
        """Kill -9."""
        self.all[number % len(self.all)].kill()

    def restart(self) -> None:
        """Every dead one is followed by a new one."""
        self.all = [self._another() if one.dead else one for one in self.all]

    def _another(self) -> SocketReplica:
        self.ever.append(SocketReplica(f"engine-{len(self.ever) + 1}", self._place))
        return self.ever[-1]
