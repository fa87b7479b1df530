"""TCP between our processes on one machine: the engine's doors by uvicorn, the orchestrator's way to them, ccxt's way to the sandbox.

Everything crosses the loopback as it would a network. A process that dies loses its connections at once, as the kernel takes them from a
killed one, and what it was doing stops at its next gate.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Final

import aiohttp
import httpx
import uvicorn
from litestar import Litestar
from uvicorn.server import ServerState

from engine.binance.accounts import CONNECTIONS, KEEP_ALIVE_SECONDS, Session
from tests.fault_storm.board import Weather
from tests.fault_storm.processes import Process

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 256
EVENTS: Final = "/execute/events"
UNTOLD: Final = re.compile(r"http://[0-9.:]+|&?(timestamp|recvWindow|signature|newOrderRespType)=[^& ]*")


class Door:
    """An ASGI application behind a listening socket of its own."""

    def __init__(self, app: Litestar) -> None:
        self._config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        self._config.load()
        self._state = ServerState()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.listen(BACKLOG)
        self.port = int(self._socket.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._closed = False
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        kind: Any = self._config.http_protocol_class
        server = await loop.create_server(
            lambda: kind(config=self._config, server_state=self._state, app_state={}, _loop=loop), sock=self._socket
        )
        if self._closed:
            server.close()
        self._server = server

    def break_off(self) -> None:
        """Every connection is reset and no other is taken: what the kernel does for a process that was killed."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        else:
            self._opening.cancel()
            self._socket.close()
        for connection in list(self._state.connections):
            connection.transport.abort()


class Balanced(httpx.AsyncBaseTransport):
    """The way to the engine's replicas: each request goes to one of them by chance, alive or not, and may be lost on the way there or back.

    Args:
        process: Whose way it is.
        ports: Where replicas listen now, or listened until they died.
        weather: What goes wrong.
    """

    def __init__(self, process: Process, ports: Callable[[], list[int]], weather: Weather) -> None:
        self._process, self._ports, self._weather = process, ports, weather
        self._network = httpx.AsyncHTTPTransport(verify=False, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        await self._process.gate(f"before {path}")
        if self._weather.strikes("request lost"):
            raise httpx.ConnectError("connection refused", request=request)
        request.url = request.url.copy_with(host=LOOPBACK, port=self._weather.choice(self._ports()))
        try:
            reply = await self._network.handle_async_request(request)
        finally:
            await self._process.gate(f"after {path}")
        if path != EVENTS and self._weather.strikes("reply lost"):
            await reply.aclose()
            raise httpx.ReadError("connection reset by peer", request=request)
        return httpx.Response(
            reply.status_code, headers=reply.headers, stream=_Body(reply, self._process), extensions=reply.extensions
        )

    async def aclose(self) -> None:
        await self._network.aclose()

    def break_off(self) -> None:
        """Every connection is reset."""
        pool: Any = self._network._pool
        for connection in list(pool.connections):
            stream = getattr(getattr(connection, "_connection", None), "_network_stream", None)
            reset(None if stream is None else stream.get_extra_info("socket"))


class _Body(httpx.AsyncByteStream):
    def __init__(self, reply: httpx.Response, process: Process) -> None:
        self._reply, self._process = reply, process

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream: Any = self._reply.stream
        async for piece in stream:
            await self._process.gate("a piece of a reply")
            yield piece

    async def aclose(self) -> None:
        await self._reply.aclose()


class GatedSession(Session):
    """aiohttp's session of one replica, as `engine.binance` makes it, with the process's gates around each request.

    Args:
        process: The replica.
        told: Takes a line of each request: its name and what came of it.
    """

    def __init__(self, process: Process, told: Callable[[str], None]) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=60)
        self._connector = connector
        super().__init__(aiohttp.ClientSession(connector=connector))
        gated = {name: self._gated(name, getattr(self, name), process, told) for name in ("get", "post", "put", "delete")}
        self.get, self.post, self.put, self.delete = gated["get"], gated["post"], gated["put"], gated["delete"]
        self.ws_connect: Any = self._gated("stream", self.ws_connect, process, told)

    @staticmethod
    def _gated(name: str, ask: Callable[..., Any], process: Process, told: Callable[[str], None]) -> Callable[..., Any]:
        def asked(url: Any, **given: Any) -> _Crossing:
            shown = UNTOLD.sub("", f"{url} {given.get('data') or ''}")
            return _Crossing(lambda: ask(url, **given), process, f"{name.upper()} {shown}", told)

        return asked

    def break_off(self) -> None:
        """Every connection is reset."""
        waiting = [kept[0] for pool in self._connector._conns.values() for kept in pool]
        for protocol in [*self._connector._acquired, *waiting]:
            if protocol.transport is not None:
                protocol.transport.abort()


class _Crossing:
    """One request, begun when it is entered or awaited."""

    def __init__(self, ask: Callable[[], Any], process: Process, name: str, told: Callable[[str], None]) -> None:
        self._ask, self._process, self._name, self._told = ask, process, name, told
        self._inner: Any = None

    async def __aenter__(self) -> Any:
        await self._process.gate(f"before {self._name}")
        self._inner = self._ask()
        came = "nothing"
        try:
            reply = await self._inner.__aenter__()
            came = str(getattr(reply, "status", "open"))
            return reply
        except BaseException as error:
            came = type(error).__name__
            raise
        finally:
            self._told(f"{self._name} -> {came}")
            await self._process.gate(f"after {self._name}")

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.__aenter__().__await__()


def reset(connection: Any) -> None:
    """Both ways of a connected socket end now; whoever waits for it hears so."""
    if connection is not None:
        end_now(connection.fileno())


def end_now(number: int) -> None:
    """As `reset`, of a file descriptor that somebody else owns."""
    if number < 0:
        return
    try:
        with socket.socket(fileno=os.dup(number)) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
