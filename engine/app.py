"""The engine's HTTP process: composes adapters and use cases, mounts the routes, serves them by granian.

`python -m engine.app` runs one worker; replicas are more processes. Settings are read here and nowhere else.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from granian.constants import Interfaces, Loops
from granian.server import Server
from litestar import Litestar

from engine import log
from engine.clock import market_clock
from engine.routes import execution, market
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from engine.settings import EngineSettings, read_settings

SHUTDOWN_SECONDS = 4
"""A worker that has not ended by then is killed; callers retry, and nothing that may be lost lives here."""


def create_app() -> Litestar:
    """The ASGI application from the process's environment; granian's worker calls it."""
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "engine")
    return build(settings)


def build(settings: EngineSettings) -> Litestar:
    """The application for given settings; sources are opened when it starts and closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.clock = await market_clock(settings.market_clock_url)
        yield

    return Litestar(
        route_handlers=[*market.HANDLERS, *execution.HANDLERS],
        guards=[token_guard(settings.engine_token)],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
    )


def main() -> None:
    """Serves until SIGTERM."""
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
