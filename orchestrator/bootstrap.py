"""One object graph for the web application and the worker: settings in, everything that trades and tells out.

Adapters receive values here and nowhere else. Opening waits for the market clock and for PostgreSQL, and migrates; Redis and the engine
may come later.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from arq.connections import ArqRedis

from orchestrator.balances import KnownBalances
from orchestrator.bus import RedisBus, RedisLiveLog
from orchestrator.clock import MarketClock, market_clock
from orchestrator.engine_client import HttpEngine, open_engine
from orchestrator.jobs import RedisJobs, open_redis
from orchestrator.keys import EngineSealer
from orchestrator.lifeline import RedisLifeline
from orchestrator.metrics import Metrics
from orchestrator.mutex import RedisMutex
from orchestrator.ports import Desk
from orchestrator.settings import OrchestratorSettings
from orchestrator.store.database import Database, migrate_when_up, open_database
from orchestrator.store.unit_of_work import SqlTransactions
from orchestrator.store.vault import SqlKeyVault
from orchestrator.trading.arm import Arm
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules


class RandomIds:
    """Implements the port Ids."""

    def new(self) -> UUID:
        """One that nobody has."""
        return uuid4()


@dataclass(frozen=True, kw_only=True)
class Orchestrator:
    """What a process of the orchestrator is made of; each member implements the port of its name."""

    settings: OrchestratorSettings
    clock: MarketClock
    database: Database
    redis: ArqRedis
    engine: HttpEngine
    bus: RedisBus
    live_log: RedisLiveLog
    jobs: RedisJobs
    mutex: RedisMutex
    metrics: Metrics
    trading: Trading
    arm: Arm

    @property
    def desk(self) -> Desk:
        """What a user can have done."""
        return self.trading.desk


@asynccontextmanager
async def build(settings: OrchestratorSettings) -> AsyncIterator[Orchestrator]:
    """Everything, connected at first use and closed at the end.

    Raises:
        ClockUnavailable: The market clock named by the settings did not answer within a minute.
        StoreUnavailable: PostgreSQL did not answer within a minute.
    """
    async with AsyncExitStack() as closing:
        clock = await market_clock(settings.market_clock_url)
        await migrate_when_up(settings.database_url)
        database = open_database(settings.database_url, pool_size=settings.database_pool_size)
        closing.push_async_callback(database.close)
        redis = open_redis(settings.redis_url)
        closing.push_async_callback(redis.aclose, close_connection_pool=True)
        engine = open_engine(settings.engine_url, settings.engine_token)
        closing.push_async_callback(engine.close_connections)
        yield _composed(settings, clock, database, redis, engine)


def _composed(
    settings: OrchestratorSettings, clock: MarketClock, database: Database, redis: ArqRedis, engine: HttpEngine
) -> Orchestrator:
    ports = Ports(
        transactions=SqlTransactions(database),
        engine=engine,
        balances=KnownBalances(clock),
        mutex=RedisMutex(redis),
        bus=RedisBus(redis),
        clock=clock,
        ids=RandomIds(),
        jobs=RedisJobs(redis),
        lifeline=RedisLifeline(redis),
    )
    entries = EntryRules(dry_run=settings.binance_dry_run, approval_lasts=timedelta(minutes=settings.approval_minutes))
    scans = ScanRules(
        min_confidence=settings.min_confidence,
        top_n=settings.top_coins_limit,
        recent=timedelta(minutes=settings.recent_signal_minutes),
    )
    metrics, trading = Metrics(), compose(ports, entries, scans)
    trading.reconcile.lapses.told = metrics.was_bare
    return Orchestrator(
        settings=settings,
        clock=clock,
        database=database,
        redis=redis,
        engine=engine,
        bus=RedisBus(redis),
        live_log=RedisLiveLog(redis),
        jobs=RedisJobs(redis),
        mutex=RedisMutex(redis),
        metrics=metrics,
        trading=trading,
        arm=Arm(
            SqlKeyVault(database),
            EngineSealer(engine),
            engine,
            ports.lifeline,
            ports.bus,
            clock,
            dry_run=settings.binance_dry_run,
        ),
    )
