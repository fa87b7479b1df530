"""The engine's HTTP process: composes adapters and use cases, mounts the routes, serves them by granian.

`python -m engine.app` runs one worker; replicas are more processes. Settings are read here and nowhere else.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from granian.constants import Interfaces, Loops
from granian.server import Server
from litestar import Litestar
from redis.asyncio import Redis

from engine import candles, log
from engine.analysis import CANDLE_SETTLES_MS, Governor, MarketDesk, RulesAnalyst, ScanPlan, Sources, Widen
from engine.binance import Addresses, BinanceExchanges, announce
from engine.budget import DailySpending, Prices, SharedBudget
from engine.candles import BinanceData, Door, open_session
from engine.candles.history import CandleHistory
from engine.clock import market_clock
from engine.core import features_batch, screen_fast
from engine.core.screen import ScreenBounds
from engine.core.screen_presets import PRESETS
from engine.execution.asking import Patience
from engine.execution.desk import Desk
from engine.execution.exchange_venue import ExchangeVenue
from engine.execution.lasting_once import LastingOnce, all_ended
from engine.execution.once import Once
from engine.execution.opening import opened
from engine.execution.signed_reads import SignedReads
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.feeding.backfill import Skew
from engine.keys import Seal, private_keys_of
from engine.log import logger
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Analyst, Clock, Exchanges, KeyPair, MarketData, Urgency
from engine.reports import RedisReports
from engine.routes import execution, keys, market, schema
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from engine.settings import EngineSettings, read_settings
from engine.snapshots import RedisSnapshots, connect
from shared.execution import RealAccount

SHUTDOWN_SECONDS = 4
"""A worker that has not ended by then is killed; callers retry, and nothing that may be lost lives here."""

FINISH_SECONDS = 3.0
"""Of them, for orders at the exchange that are under way: enough for an entry's stop. What is left is finished by a resume."""

PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


def create_app() -> Litestar:
    """The ASGI application from the process's environment; granian's worker calls it."""
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "engine")
    _die_with_parent()
    return build(settings)


def _die_with_parent() -> None:
    """Without this a worker outlives a killed granian and holds the port against the next start. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def build(settings: EngineSettings) -> Litestar:
    """The application for given settings; sources are opened when it starts and closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        seal = Seal(private_keys_of(settings.seal_private_keys))
        app.state.seal, app.state.own_pair = seal, _own_pair(settings)
        async with _opened(settings, seal) as (market_desk, desk):
            app.state.market_desk = market_desk
            app.state.desk = desk
            await announce(market_desk.sources.market, dry_run=settings.binance_dry_run)
            yield

    return Litestar(
        route_handlers=[*market.HANDLERS, *execution.HANDLERS, *keys.HANDLERS, *schema.HANDLERS],
        guards=[token_guard(settings.engine_token)],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
    )


@asynccontextmanager
async def _opened(settings: EngineSettings, seal: Seal) -> AsyncIterator[tuple[MarketDesk, Desk]]:
    clock = await market_clock(settings.market_clock_url)
    redis = connect(settings.redis_url)
    budget = SharedBudget(redis, settings.request_weight_limit, clock.now_ms)
    for kernels in (features_batch, screen_fast, candles):
        await asyncio.to_thread(kernels.warm_up)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        stack.push_async_callback(redis.aclose)
        door = Door(session, settings.binance_rest_url, budget)
        market_data = BinanceData(door, clock)
        skew = _measured(Skew(CandleHistory(door, clock)), stack)
        snapshots = RedisSnapshots(redis)
        reports = RedisReports(redis)
        turns = Turns(reports)
        exchanges = _exchanges(settings, seal, budget, market_data, clock)
        stack.push_async_callback(exchanges.close)
        stack.push_async_callback(all_ended, FINISH_SECONDS)
        if not settings.binance_dry_run:
            await exchanges.load()  # else the first order would wait for an import of seconds
        yield (
            MarketDesk(
                sources=Sources(
                    market=market_data,
                    snapshots=snapshots,
                    clock=clock,
                    governor=Governor(left=budget.left, cost=market_data.candle_cost),
                    settles_ms=CANDLE_SETTLES_MS,
                    skew_ms=lambda: skew.ms,
                ),
                plan=_plan(settings),
                analyst=_analyst(settings, stack, redis, clock),
                widen=await _widening(settings),
                exchange=market_data,
                redis=snapshots,
                weight_used=lambda: budget.used,
            ),
            Desk(
                market=market_data,
                clock=clock,
                once=Once(reports=reports),
                lasting=LastingOnce(reports=reports),
                venues=_venues(market_data, clock, exchanges, turns, dry_run=settings.binance_dry_run),
                turns=turns,
            ),
        )


def _tell_end(measuring: asyncio.Future[None]) -> None:
    if not measuring.cancelled() and (error := measuring.exception()) is not None:
        logger().error("our clock is not measured any more", error=type(error).__name__)


def _measured(skew: Skew, stack: AsyncExitStack) -> Skew:
    """Measured from now until the process ends; an error nobody foresaw is an old measurement in time, which scans say."""
    measuring = asyncio.ensure_future(skew.run())
    measuring.add_done_callback(_tell_end)

    async def end() -> None:
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)

    stack.push_async_callback(end)
    return skew


def _plan(settings: EngineSettings) -> ScanPlan:
    return ScanPlan(
        bounds=ScreenBounds(
            min_quote_volume=settings.min_volume_usdt,
            min_change_percent=settings.min_volatility_24h,
            top_n=settings.top_coins_limit,
        ),
        rule_set=PRESETS[settings.screen_preset],
        min_confidence=settings.min_confidence,
    )


def _analyst(settings: EngineSettings, stack: AsyncExitStack, redis: Redis, clock: Clock) -> Analyst:
    if not settings.ai_api_key:
        return RulesAnalyst()
    from engine.inference import ModelAnalyst  # importing openai takes a second, which a start without a model need not pay

    prices = Prices(prompt=settings.ai_prompt_price_usd, completion=settings.ai_completion_price_usd)
    spending = DailySpending(redis, settings.ai_daily_budget_usd, prices, clock.wall_ms)
    analyst = ModelAnalyst(settings.ai_base_url, settings.ai_api_key, settings.ai_model, settings.ai_timeout_seconds, spending)
    stack.push_async_callback(analyst.close)
    return analyst


async def _widening(settings: EngineSettings) -> Widen | None:
    """Only a model reads the wider set; the rules have what they need."""
    if not settings.ai_api_key:
        return None
    from engine.indicators import load, widen  # importing pandas takes seconds

    await asyncio.to_thread(load)
    return widen


def _venues(market_data: MarketData, clock: Clock, exchanges: Exchanges, turns: Turns, *, dry_run: bool) -> Venues:
    patience = Patience()

    def dry(account: RealAccount) -> DryRunVenue:
        reads = SignedReads(lambda: opened(exchanges, account, Urgency.ENTER), patience)
        return DryRunVenue(market_data, clock, account.dry_positions, reads)

    return Venues(
        paper=lambda account: PaperVenue(market_data, clock, account.book),
        dry=dry,
        real=lambda account: ExchangeVenue(account, exchanges, market_data, clock, patience, turns),
        exchanges=exchanges,
        dry_run=dry_run,
    )


def _exchanges(
    settings: EngineSettings, seal: Seal, budget: SharedBudget, market_data: BinanceData, clock: Clock
) -> BinanceExchanges:
    addresses = Addresses(rest=settings.binance_rest_url, streams=settings.binance_ws_url, spot=settings.binance_spot_url)
    return BinanceExchanges(seal, addresses, budget, market_data, clock, doubt_rules=market_data.doubt_rules)


def _own_pair(settings: EngineSettings) -> KeyPair | None:
    """The owner's pair of the environment, whole or not at all."""
    if not (settings.binance_api_key and settings.binance_api_secret):
        return None
    return KeyPair(api_key=settings.binance_api_key, api_secret=settings.binance_api_secret)


def main() -> None:
    """Serves until SIGTERM.

    The worker is a new interpreter: polars and numba run threads by the time the server starts, and a fork would copy their locks without
    the threads that hold them.
    """
    multiprocessing.set_start_method("spawn")
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "engine")
    Server(
        "engine.app:create_app",
        factory=True,
        address=settings.engine_host,
        port=settings.engine_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        workers_kill_timeout=SHUTDOWN_SECONDS,
        log_enabled=False,
    ).serve()


if __name__ == "__main__":
    main()
