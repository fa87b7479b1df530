"""The REST door over HTTP: reads aiohttp's request, and gives its caller the reply, the silence or the reset that it meets."""

import asyncio

from aiohttp import web

from deploy.sandbox.exchange import Exchange
from deploy.sandbox.faults import FaultyRest
from deploy.sandbox.rest import Rest
from deploy.sandbox.wire import Asked, Silence, Told

LOOK_SECONDS = 0.05
"""How often a silent connection is looked at."""


class HttpDoor:
    """The REST door for callers that have sockets.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._door = FaultyRest(exchange, Rest(exchange))

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request, whatever its path."""
        asked = Asked(
            request.method,
            request.path,
            request.raw_path.partition("?")[2],
            (await request.read()).decode(errors="replace"),
            request.headers.get("X-MBX-APIKEY"),
            request.remote or "",
        )
        outcome = await self._door.answer(asked)
        if isinstance(outcome, Told):
            status, body, headers, content_type = outcome
            return web.Response(body=body, status=status, headers=headers, content_type=content_type)
        if isinstance(outcome, Silence):
            since = self._exchange.wall_ms()
            await _wait(request, outcome.seconds)
            self._door.gave_up(asked, outcome, since)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # Nobody is there to read it.


async def _wait(request: web.Request, seconds: float) -> None:
    """Say nothing until the caller has gone or the time is over."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while loop.time() < ends and request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(LOOK_SECONDS)
