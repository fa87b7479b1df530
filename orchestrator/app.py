"""The orchestrator's HTTP process: composes the doors of the routes, mounts API, live stream and pages, serves them by granian.

`python -m orchestrator.app` runs one worker; replicas are more processes. Settings are read here and nowhere else.
"""

import asyncio
import contextlib
import math
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import Final

from granian.constants import Interfaces, Loops
from granian.server import Server
from litestar import Litestar

from orchestrator import log
from orchestrator.bootstrap import Orchestrator, build
from orchestrator.errors import EngineUnavailable, StoreUnavailable
from orchestrator.jobs import Pulse
from orchestrator.settings import OrchestratorSettings, read_settings
from orchestrator.store.logins import SqlLogins, SqlPreferences
from orchestrator.store.reads import SqlReads
from orchestrator.store.sent_forms import RedisSentForms
from orchestrator.store.throttle import RedisThrottle
from orchestrator.store.vault import SqlFactorVault
from orchestrator.web.addresses import Addresses
from orchestrator.web.auth import Auth, Tokens
from orchestrator.web.doors import Doors
from orchestrator.web.factors import FactorKey, Factors
from orchestrator.web.health import Health, Source
from orchestrator.web.hub import Hub
from orchestrator.web.market import Market
from orchestrator.web.pages import error_page, pages_router
from orchestrator.web.real_accounts import Truths
from orchestrator.web.site import OpenDoors, create_site

STREAMS_SHARE: Final = 0.8
"""Granian counts an open stream as a request under way: streams may take this part of its places, so that panic always finds one."""

WORKER_STALE_SECONDS: Final = 15.0
FEED_STALE_SECONDS: Final = 60.0
TRUTH_STALE_SECONDS: Final = 130.0
"""Two of the rounds in which an account that says nothing is asked, and how long an answer may take."""

SCAN_STALE_SECONDS: Final = 20 * 60.0
"""A scan comes each 15 minutes of market time, which is the wall's or faster."""
FILES_BESIDES: Final = 256
"""Connections to PostgreSQL, Redis and the engine, files, and room."""

KILL_SECONDS: Final = 5
"""Streams end by themselves when the server stops; a worker that has not ended by then is killed."""


def create_app() -> Litestar:
    """The ASGI application from the process's environment; granian's worker calls it."""
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "orchestrator")
    return create_site(doors_from(settings), pages=[pages_router], error_page=error_page)


def doors_from(settings: OrchestratorSettings) -> OpenDoors:
    """What opens the doors of the routes for given settings."""

    @asynccontextmanager
    async def open_doors() -> AsyncIterator[Doors]:
        async with build(settings) as parts:
            doors = compose(parts)
            with _streams_end_on_signal(doors.hub):
                listening = asyncio.create_task(doors.hub.run())
                try:
                    yield doors
                finally:
                    doors.hub.shut_down()
                    listening.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await listening

    return open_doors


def compose(parts: Orchestrator) -> Doors:
    """The doors of the routes from the process's object graph."""
    settings = parts.settings
    logins, reads = SqlLogins(parts.database), SqlReads(parts.database)
    throttle = RedisThrottle(parts.redis)
    factors = Factors(SqlFactorVault(parts.database), throttle, parts.clock, FactorKey(settings.totp_key or settings.jwt_secret))
    auth = Auth(
        logins,
        throttle,
        parts.clock,
        Tokens(settings.jwt_secret),
        factors=factors,
        registration_open=settings.registration_open,
        max_daily_loss=settings.max_daily_loss,
    )
    market = Market(parts.engine, parts.clock)
    return Doors(
        auth=auth,
        logins=logins,
        reads=reads,
        preferences=SqlPreferences(parts.database),
        desk=parts.desk,
        arm=parts.arm,
        factors=factors,
        bus=parts.bus,
        clock=parts.clock,
        market=market,
        hub=Hub(
            parts.live_log,
            reads,
            market,
            auth,
            parts.clock,
            most_streams=settings.live_streams,
            syncing=parts.desk.balance_syncing,
        ),
        health=Health(_sources(parts, reads), parts.clock),
        forms=RedisSentForms(parts.redis),
        addresses=Addresses(settings.trusted_proxies),
        secure=settings.secure_cookies,
    )


def main() -> None:
    """Serves until SIGTERM."""
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "orchestrator")
    _allow_open_files(settings.live_streams)
    Server(
        "orchestrator.app:create_app",
        factory=True,
        address=settings.orchestrator_host,
        port=settings.orchestrator_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        backlog=2048,
        backpressure=math.ceil(settings.live_streams / STREAMS_SHARE),
        workers_kill_timeout=KILL_SECONDS,
        log_enabled=False,
    ).serve()


def _allow_open_files(streams: int) -> None:
    """Raises the soft limit of open files as far as the streams need and the hard one allows: many systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = math.ceil(streams / STREAMS_SHARE) + FILES_BESIDES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


@contextlib.contextmanager
def _streams_end_on_signal(hub: Hub) -> Iterator[None]:
    """Ends the live streams when the process is told to stop: granian waits for every open one, and asks the application too late.

    Granian hears signals through the event loop; a handler of Python's own beside it leaves that in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.shut_down)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sources(parts: Orchestrator, reads: SqlReads) -> list[Source]:
    async def postgres() -> None:
        await parts.database.ping()

    async def redis() -> None:
        await parts.redis.ping()

    async def engine() -> None:
        if (await parts.engine.ready()).get("status") == "unready":
            raise EngineUnavailable("the engine is not ready")

    async def feed() -> datetime:
        return _proof_of("feed", await parts.engine.ready(), parts.clock.wall())

    async def exchange() -> datetime:
        return _proof_of("exchange", await parts.engine.ready(), parts.clock.wall())

    async def worker() -> datetime:
        return _told((await _pulse(parts)).at)

    async def watch() -> datetime:
        return _told((await _pulse(parts)).last_watch)

    async def scan() -> datetime:
        return _told((await _pulse(parts)).last_scan)

    return [
        Source(name="postgres", check=postgres),
        Source(name="redis", check=redis),
        Source(name="engine", check=engine),
        Source(name="worker", check=worker, stale_seconds=WORKER_STALE_SECONDS),
        Source(name="watch", check=watch, stale_seconds=WORKER_STALE_SECONDS),
        Source(name="scan", check=scan, must=False, stale_seconds=SCAN_STALE_SECONDS),
        Source(name="feed", check=feed, must=False, stale_seconds=FEED_STALE_SECONDS),
        Source(name="exchange", check=exchange, must=False, stale_seconds=FEED_STALE_SECONDS),
        Source(name="truth", check=Truths(reads).check, must=False, stale_seconds=TRUTH_STALE_SECONDS),
    ]


async def _pulse(parts: Orchestrator) -> Pulse:
    pulse = await parts.jobs.last_pulse()
    if pulse is None:
        raise StoreUnavailable("no sign of life of a worker")
    return pulse


def _told(at: datetime | None) -> datetime:
    if at is None:
        raise StoreUnavailable("the worker has not done it yet")
    return at


def _proof_of(name: str, ready: dict[str, object], wall: datetime) -> datetime:
    """When a source of the engine's last proved itself, from the ages in its /ready.

    Raises:
        EngineUnavailable: It does not say.
    """
    sources = ready.get("sources")
    source = sources.get(name) if isinstance(sources, dict) else None
    age_ms = source.get("age_ms") if isinstance(source, dict) else None
    if not isinstance(age_ms, int | float):
        raise EngineUnavailable(f"the engine does not know the age of {name}")
    return wall - timedelta(milliseconds=age_ms)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
