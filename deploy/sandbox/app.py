"""The sandbox exchange as a server: one market, its doors, and nothing kept that market time does not bring back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from deploy.sandbox.control import Control
from deploy.sandbox.control_symbols import SymbolControl
from deploy.sandbox.control_trading import TradingControl
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.faults_control import FaultControl
from deploy.sandbox.faults_http import HttpDoor
from deploy.sandbox.files import default_start
from deploy.sandbox.journal import Doers, Journal
from deploy.sandbox.options import SandboxOptions
from deploy.sandbox.signed import Signed
from deploy.sandbox.streams import Pace, Streams

__all__ = ["SandboxOptions", "default_start", "running_sandbox", "serve"]

FLOOR_SECONDS = 0.2


def build(exchange: Exchange, pace: Pace | None = None) -> web.Application:
    """The application with every door."""
    app = web.Application()
    streams = Streams(exchange, pace or Pace())
    exchange.told, exchange.listeners = streams.users.speak, streams.users.listeners
    app.add_routes(Control(exchange).routes())
    app.add_routes(TradingControl(exchange).routes())
    app.add_routes(SymbolControl(exchange).routes())
    app.add_routes(FaultControl(exchange).routes())
    app.add_routes(streams.routes())
    app.router.add_route("*", "/{path:.*}", HttpDoor(exchange).handle)

    async def speaking(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(streams.speak())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def passing(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(pass_time(exchange))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def close(_: web.Application) -> None:
        await streams.close()

    app.cleanup_ctx.append(speaking)
    app.cleanup_ctx.append(passing)
    app.on_shutdown.append(close)
    return app


def doers(exchange: Exchange) -> Doers:
    """What carries out each kind of deed that a journal keeps."""
    accounts, symbols = TradingControl(exchange), SymbolControl(exchange)
    return {
        "open": accounts.opened,
        "revoke": accounts.revoked,
        "deleverage": accounts.deleveraged,
        "behave": accounts.apply,
        "rule": symbols.ruled,
        "settle": symbols.settled,
        "shock": Control(exchange).shocked,
        "call": Signed(exchange).again,
    }


async def pass_time(exchange: Exchange) -> None:
    """Keep the trading floor near market time, so that who asks seldom does not wait for days of it."""
    while True:
        await asyncio.sleep(FLOOR_SECONDS)
        exchange.advance(exchange.now())


@asynccontextmanager
async def running_sandbox(options: SandboxOptions) -> AsyncIterator[str]:
    """Run a sandbox inside this process while the context lasts.

    Args:
        options: Port 0 takes a free one.

    Yields:
        Its base URL, without a slash at the end.
    """
    async with running_exchange(Exchange(options)) as base_url:
        yield base_url


@asynccontextmanager
async def running_exchange(exchange: Exchange, pace: Pace | None = None) -> AsyncIterator[str]:
    """Serve an exchange while the context lasts; yields its base URL."""
    if exchange.options.journal is not None:
        Journal(exchange.options.journal).replay(exchange, doers(exchange))
    runner = web.AppRunner(build(exchange, pace), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, exchange.options.host, exchange.options.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def serve(options: SandboxOptions) -> None:
    """Serve until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    exchange = Exchange(options)
    async with running_exchange(exchange) as base_url:
        live = len(exchange.market.live(exchange.now()))
        print(
            f"sandbox exchange serves {live} symbols on {base_url} at {exchange.clock.speed:g}x, seed {options.seed}", flush=True
        )
        await stopped.wait()
