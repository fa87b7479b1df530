"""One schedule over real servers in wall time: the deeds of `World`, on a database, a Redis and an exchange behind sockets.

The judge is the same. Before each deed, and before it judges, what is committed is read from PostgreSQL.
"""

import asyncio
import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from random import Random
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.account import rounded
from deploy.sandbox.core.market import Market
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import open_market
from deploy.sandbox.options import SandboxOptions
from engine.keys import Seal, private_keys_of
from engine.ports import KeyPair
from orchestrator.jobs import open_redis
from orchestrator.lifeline import RedisLifeline
from shared.enums import Mode
from tests.builders import trader
from tests.fault_storm.board import StormBoard, Weather
from tests.fault_storm.judge import Judgement, judge
from tests.fault_storm.orchestrator import SeededIds
from tests.fault_storm.real_processes import Place, SocketReplicas, SocketService
from tests.fault_storm.real_store import Books, patiently
from tests.fault_storm.schedule import LASTS_SECONDS, REST_SECONDS, Schedule, Step
from tests.fault_storm.simulated_time import SimulatedClock
from tests.fault_storm.world import REPLICAS, World

SEAL: Final = Seal(private_keys_of(b64encode(bytes(range(32))).decode()))
"""Of a test: it seals keys of the sandbox and nothing else."""

LOOK_SECONDS: Final = 1.0
SOUND_LOOKS: Final = 3
OPENED_SECONDS: Final = 120.0

WHOSE: ContextVar[int] = ContextVar("WHOSE", default=0)
"""Which schedule a task belongs to, so that nothing of it outlives it."""

_market: list[tuple[Market, int]] = []


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long a schedule takes, wall seconds.

    Args:
        lasts: Its deeds, spread as they are over a minute.
        rest: Until it is judged.
        early: Judged as soon as it was sound at three looks, one a second; after `rest` at the latest.
    """

    lasts: float = LASTS_SECONDS
    rest: float = REST_SECONDS
    early: bool = False


BRIEF: Final = Pace(lasts=4.0, early=True)
"""For tests that others wait for."""


class WallClock(SimulatedClock):
    """The machine's clock, for market and wall alike."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ms(self) -> int:
        return self.time_ns() // 1_000_000

    def time_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


class _Requests:
    """What `World` and its outcome know of the way to the exchange."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def calls(self) -> int:
        return self._place.requests


class RealWorld(World):
    """Everything of one schedule.

    Args:
        schedule: What happens.
        pace: How fast.
        servers: Addresses of a database and a Redis of its own.
        trace: Where to tell what happens, for whoever replays a seed.
    """

    def __init__(self, schedule: Schedule, pace: Pace, servers: tuple[str, str], trace: deque[str] | None = None) -> None:
        self.schedule, self.trace, self._stepped, self._pace = schedule, trace, None, pace
        self.clock = clock = WallClock()
        self.weather = Weather(Random(f"{schedule.seed}/weather"), schedule.ours)
        self.board = StormBoard(Random(f"{schedule.seed}/board"), clock.now_ms())
        self.exchange = self._open_exchange()
        ids = SeededIds(Random(f"{schedule.seed}/ids"))
        self._place = Place(*servers, self.board, clock, self.weather, ids, SEAL, None, self.say)
        self.doors = cast("Any", _Requests(self._place))
        self.books = Books(servers[0])
        self.store = cast("Any", self.books)
        self.accounts, self.users = {}, []
        self.judgement: Judgement | None = None
        self.fired: list[str] = []
        self._begun = 0
        self._revoked = {}
        self.leaves = []
        self._services: list[SocketService] = []

    @asynccontextmanager
    async def standing(self) -> AsyncIterator["RealWorld"]:
        """The exchange serves, users are armed, replicas listen, worker and web are composed; all of it ends with the context."""
        async with running_exchange(self.exchange) as self._place.exchange_url:
            for number in range(self.schedule.users):
                self.users.append(await self._arm(number))
            replicas = SocketReplicas(self._place, REPLICAS)
            self.replicas = cast("Any", replicas)
            self.worker, self.web = self._service("worker"), self._service("web")
            try:
                yield self
            finally:
                self.weather.calm = True
                await ended(WHOSE.get())
                for service in self._services:
                    await service.close()
                for replica in replicas.ever:
                    await replica.close()
                await self.books.close()

    async def live(self) -> Judgement:
        """The whole schedule, and what it came to."""
        self.weather.calm = True
        self.worker.work()
        await self._opened_books()
        self.weather.calm = False
        self.exchange.faults.add(self.schedule.rules, self.clock.wall_ms())
        loop, squeezed = asyncio.get_running_loop(), self._pace.lasts / LASTS_SECONDS
        began = loop.time()
        for step in self.schedule.steps:
            await asyncio.sleep(max(0.0, began + step.at * squeezed - loop.time()))
            self.say(f"{step.what} {step.symbol} {step.side} user {step.user} {step.dice}")
            await self._done(step)
        await asyncio.sleep(max(0.0, began + self._pace.lasts - loop.time()))
        return await self._rested()

    async def _done(self, step: Step) -> None:
        rows = await self.books.read()
        if step.what == "signals":
            panicking = {row.user_id for row in rows.receipts.values() if row.finished_at is None}
            wanted = [
                user for number, user in enumerate(self.users) if self.schedule.auto_trade[number] and user not in panicking
            ]
            await self.books.switch_on(wanted)
        self._do(step)

    def _auto_trade(self, step: Step) -> None:
        """Switched on before."""

    async def _set(self, user: UUID, **changes: Any) -> frozenset[str]:
        """The mode alone is a column here; a stop of real entries becomes a change of mode too."""
        return await self.books.set_mode(user, changes.get("mode", Mode.PAPER))

    async def _opened_books(self) -> None:
        """Before anything goes wrong the first truth opens the ledgers with what the wallets hold."""
        async with asyncio.timeout(OPENED_SECONDS):
            while set(self.users) - set((await self.books.read()).truths):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)

    async def _rested(self) -> Judgement:
        """Faults off, everybody alive, and a minute later judged."""
        self.say("calm")
        self._calm_down()
        loop, sound = asyncio.get_running_loop(), 0
        until = loop.time() + self._pace.rest
        while self._pace.early and loop.time() < until and sound < SOUND_LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            sound = 0 if (await self._judged()).violations else sound + 1
        if sound < SOUND_LOOKS:
            await asyncio.sleep(max(0.0, until - loop.time()))
        self.judgement = await self._judged()
        crashes = [error for process in [*self._services, *self.replicas.ever] for error in cast("Any", process).crashes]
        self.judgement.violations += [f"crash: {type(error).__name__}: {error}" for error in crashes]
        self.say("judged")
        return self.judgement

    async def _judged(self) -> Judgement:
        rows, now = await self.books.read(), self.clock.now_ms()
        self.exchange.advance(now)
        thin = {symbol: line.thin for symbol, line in self.board.lines.items()}
        return judge(rows, self.exchange.trading, self.accounts, now, thin, self.leaves)

    # --- making it -----------------------------------------------------------------------------------------------------------

    def _open_exchange(self) -> Exchange:
        exchange = new_exchange(self.clock.now_ms())
        exchange.trading.board = self.board
        exchange.trading.takings = type(exchange.trading.takings)(self.board)
        exchange.trading.herald._board = self.board
        return exchange

    async def _arm(self, number: int) -> UUID:
        plan, name = self.schedule, f"user {number} of {self.schedule.seed}"
        key, secret = (sha256(f"{part} of {name}".encode()).hexdigest() for part in ("key", "secret"))
        account = self.exchange.trading.open_account(key, secret, rounded(Decimal(plan.wallet)), self.clock.now_ms())
        made = trader(number + 1, mode=Mode.REAL)
        sealed = SEAL.seal(str(made.id), KeyPair(api_key=key, api_secret=secret))
        made = trader(
            number + 1,
            mode=Mode.REAL,
            credentials=sealed,
            fixed_order_size=Decimal(plan.order_size),
            leverage=Decimal(plan.leverage),
            auto_trade_enabled=plan.auto_trade[number],
            max_daily_loss=Decimal(1_000_000),
            max_exposure=Decimal(1_000_000),
        )
        await self.books.add_trader(made)
        redis = open_redis(self._place.redis_url)
        await patiently(lambda: RedisLifeline(redis).keep(made.id, sealed))
        await redis.aclose(close_connection_pool=True)
        self.accounts[str(made.id)] = account
        return made.id

    def _service(self, kind: str) -> Any:
        self._begun += 1
        self._services.append(SocketService(f"{kind}-{self._begun}", self._place))
        return self._services[-1]


def new_exchange(now: int) -> Exchange:
    """One whose market time is the wall's; the first one of a process takes seconds, for what is compiled then."""
    if not _market:
        _market.append(open_market(SandboxOptions(start_ms=now)))
    return Exchange(SandboxOptions(port=0, speed=1.0, base_market_ms=now, base_wall_ms=now), None, _market[0])


async def ended(whose: int) -> None:
    """Cancels what a schedule left behind, again and again: what a dead process left may come to a closed gate on its way out."""
    for _ in range(20):
        left = [
            task for task in asyncio.all_tasks() if task is not asyncio.current_task() and task.get_context().get(WHOSE) == whose
        ]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)
