"""Binance's websockets: routes, the SUBSCRIBE protocol, pings and limits. What is said comes from `channels` and `user_streams`.

Source: Binance USDⓈ-M "Websocket Market Streams", "Live Subscribing/Unsubscribing to streams" (read 2026-11).
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from deploy.sandbox.channels import Channels
from deploy.sandbox.core.stream_names import MARKET, PRIVATE, PUBLIC, parsed
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.faults_frames import Courier
from deploy.sandbox.user_streams import UserStreams

log = logging.getLogger(__name__)

STEP_SECONDS = 0.05
"""How often channels are looked at: the fastest cadence."""
MOST_STREAMS = 1024
MOST_MESSAGES = 10
"""Incoming messages a second."""
MOST_QUEUED = 20_000
"""Frames that wait for a slow reader before it is dropped."""
POLICY_VIOLATION = 1008


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Wall times of a connection's life, seconds.

    Args:
        ping: Between two pings of the server.
        pong: Without a pong before the connection is dropped.
        lifetime: Before it is dropped anyway.
        check: Between two looks at all this.
    """

    ping: float = 180.0
    pong: float = 600.0
    lifetime: float = 24 * 3600.0
    check: float = 1.0


_ROUTES = {
    "/market": frozenset({MARKET}),
    "/public": frozenset({PUBLIC}),
    "/private": frozenset({PRIVATE}),
    "": frozenset({PUBLIC}),
}
"""What each path carries; un-routed connections get only /public streams since 2026-04-23."""


class Connection:
    """One client and what it listens to.

    Args:
        socket: Prepared.
        routes: What its path carries.
        combined: Whether frames are wrapped with their stream's name.
        transport: Below the socket.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        routes: frozenset[str],
        *,
        combined: bool,
        transport: asyncio.Transport | None = None,
    ) -> None:
        self.socket = socket
        self._transport = transport
        self.routes = routes
        self.combined = combined
        self.names: dict[str, None] = {}
        self.kinds: frozenset[str] | None = None
        """Of a private connection: the events it wants, None for all."""
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_QUEUED)
        self.overflowed = False
        self.last_pong = asyncio.get_running_loop().time()
        self._incoming: deque[float] = deque(maxlen=MOST_MESSAGES + 1)

    def offer(self, frame: bytes) -> None:
        """Queue a frame; a reader that is too slow is dropped by its keeper."""
        try:
            self.queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.overflowed = True

    def drop(self) -> None:
        """Lose the connection, without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def too_chatty(self, moment: float) -> bool:
        """Whether this message is one too many within a second."""
        self._incoming.append(moment)
        return len(self._incoming) > MOST_MESSAGES and moment - self._incoming[0] < 1.0


class Streams:
    """The websocket door.

    Args:
        exchange: What it opens on.
        pace: Of connections.
    """

    def __init__(self, exchange: Exchange, pace: Pace) -> None:
        self._exchange = exchange
        self._pace = pace
        courier = Courier(exchange)
        self.channels = Channels(exchange.events, parsed, courier)
        self.users = UserStreams(exchange, courier)
        self._connections: set[Connection] = set()

    def routes(self) -> list[web.RouteDef]:
        """The paths of the streams."""
        out = []
        for prefix in _ROUTES:
            out += [web.get(f"{prefix}/ws", self.handle), web.get(f"{prefix}/ws/{{names:.*}}", self.handle)]
            out.append(web.get(f"{prefix}/stream", self.handle))
        return out

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one connection until it ends."""
        prefix, combined = request.path.partition("/ws")[0].removesuffix("/stream"), request.path.endswith("/stream")
        socket = web.WebSocketResponse(autoping=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = Connection(socket, _ROUTES[prefix], combined=combined, transport=request.transport)
        self._connections.add(connection)
        listed = request.query.get("streams", "") if combined else request.match_info.get("names", "")
        if PRIVATE in connection.routes:
            listed = request.query.get("listenKey") or listed
            connection.kinds = frozenset(kind for kind in request.query.get("events", "").split("/") if kind) or None
        tasks = [asyncio.create_task(self._write(connection)), asyncio.create_task(self._keep(connection))]
        try:
            self._subscribe(connection, [name for name in listed.split("/") if name])
            await self._read(connection)
        finally:
            self._connections.discard(connection)
            self._unsubscribe(connection, list(connection.names))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return socket

    async def speak(self) -> None:
        """Let channels speak at their cadence, for ever."""
        while True:
            try:
                self.users.pass_time()
                self.channels.speak(self._exchange.now(), self._exchange.wall_ms())
            except Exception:  # The edge of this process's streams: one bad frame must not silence all.
                log.exception("a stream could not speak")
            await asyncio.sleep(STEP_SECONDS)

    async def close(self) -> None:
        """Say goodbye to everyone."""
        for connection in list(self._connections):
            await connection.socket.close(code=1001, message=b"going away")

    async def _read(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        async for message in connection.socket:
            if message.type is WSMsgType.PONG:
                connection.last_pong = loop.time()
                continue
            if connection.too_chatty(loop.time()):
                await connection.socket.close(code=POLICY_VIOLATION, message=b"Too many requests")
                return
            if message.type is WSMsgType.PING:
                await connection.socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                connection.offer(msgspec.json.encode(self._answer(connection, message.data)))

    async def _write(self, connection: Connection) -> None:
        with suppress(ConnectionError):
            while not connection.socket.closed:
                frame = await connection.queue.get()
                await connection.socket.send_str(frame.decode())

    async def _keep(self, connection: Connection) -> None:
        """Pings, and ends what is silent, slow or a day old."""
        loop, pace = asyncio.get_running_loop(), self._pace
        begun = pinged = loop.time()
        while not connection.socket.closed:
            await asyncio.sleep(pace.check)
            moment = loop.time()
            silent = moment - connection.last_pong > pace.pong
            if silent or connection.overflowed or moment - begun > pace.lifetime:
                await connection.socket.close(code=POLICY_VIOLATION, message=b"no pong" if silent else b"disconnected")
                return
            if moment - pinged >= pace.ping:
                pinged = moment
                await connection.socket.ping(str(self._exchange.wall_ms()).encode())

    def _answer(self, connection: Connection, text: str) -> dict[str, Any]:
        """Carry out one message of the SUBSCRIBE protocol."""
        try:
            order = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            return {"code": 3, "msg": f"Invalid JSON: {error}"}
        if not isinstance(order, dict) or not isinstance(order.get("method"), str):
            return {"code": 2, "msg": "Invalid request: missing field `method`"}
        params = order.get("params", [])
        if not isinstance(params, list):
            return {"code": 2, "msg": "Invalid request: params must be an array"}
        return self._carried_out(connection, order["method"], params) | ({"id": order["id"]} if "id" in order else {})

    def _carried_out(self, connection: Connection, method: str, params: list[Any]) -> dict[str, Any]:
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(connection.names)}
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return _property(connection, method, params)
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return {"code": 2, "msg": f"Invalid request: unknown variant `{method}`"}
        if not params or not all(isinstance(name, str) for name in params):
            return {"code": 2, "msg": "Invalid request: params must be an array of strings"}
        if method == "UNSUBSCRIBE":
            self._unsubscribe(connection, params)
        elif len(connection.names.keys() | set(params)) > MOST_STREAMS:
            return {"code": 2, "msg": f"Invalid request: more than {MOST_STREAMS} streams"}
        else:
            self._subscribe(connection, params)
        return {"result": None}

    def _subscribe(self, connection: Connection, names: list[str]) -> None:
        for name in names[:MOST_STREAMS]:
            connection.names[name] = None
            if PRIVATE in connection.routes:
                self.users.join(connection, name, connection.kinds)
                continue
            self.channels.join(connection, name, connection.routes, (self._exchange.now(), self._exchange.wall_ms()))

    def _unsubscribe(self, connection: Connection, names: list[str]) -> None:
        for name in names:
            connection.names.pop(name, None)
            self.channels.leave(connection, name)
            self.users.leave(connection, name)


def _property(connection: Connection, method: str, params: list[Any]) -> dict[str, Any]:
    if not params or params[0] != "combined":
        return {"code": 0, "msg": "Unknown property"}
    if method == "GET_PROPERTY":
        return {"result": connection.combined}
    if len(params) != 2 or not isinstance(params[1], bool):
        return {"code": 1, "msg": "Invalid value type: expected Boolean"}
    connection.combined = params[1]
    return {"result": None}
