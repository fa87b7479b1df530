"""The sandbox without sockets: a session for unmodified aiohttp clients such as CCXT's, that calls the doors in the same process.

For proofs that need very many calls, and time that jumps: nothing here reads a clock or sleeps but through the running loop, so on a loop
with time of its own a silence of thirty seconds costs nothing. What goes wrong is raised as aiohttp raises it.
"""

import asyncio
import errno
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp.client import IDEMPOTENT_METHODS
from multidict import CIMultiDict
from yarl import URL

from deploy.sandbox.core.account import Account, rounded
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.faults import FaultyRest
from deploy.sandbox.faults_frames import Courier
from deploy.sandbox.rest import Rest
from deploy.sandbox.user_streams import UserStreams
from deploy.sandbox.wire import Asked, Outcome, Reset, Silence, Told

LATENCY_SECONDS = 0.001
"""Each way."""
PATIENCE_SECONDS = 300.0
"""aiohttp's total, where a caller names none."""
PRIVATE = "/private/"


class InProcess:
    """One exchange and its doors for callers in the same process.

    Args:
        exchange: Whose doors; its wall clock should be the loop's.
        latency: Seconds each way; 0 hands over to other tasks all the same.
    """

    def __init__(self, exchange: Exchange, latency: float = LATENCY_SECONDS) -> None:
        self.exchange = exchange
        self.latency = latency
        self.door = FaultyRest(exchange, Rest(exchange))
        self.users = UserStreams(exchange, Courier(exchange))
        self.calls = 0
        self._under_way: set[asyncio.Task[Told]] = set()
        exchange.told, exchange.listeners = self.users.speak, self.users.listeners

    def open_account(self, wallet: Decimal, name: str) -> Account:
        """An account whose key and secret follow from its name, with a first deposit in USDT."""
        key, secret = (hashlib.sha256(f"{part} of {name}".encode()).hexdigest() for part in ("key", "secret"))
        now = self.exchange.now()
        self.exchange.advance(now)
        return self.exchange.trading.open_account(key, secret, rounded(wallet), now)

    def session(self, remote: str = "127.0.0.1") -> "InProcessSession":
        """A stand-in for aiohttp's session.

        Args:
            remote: The caller's address: whose request weight it uses.
        """
        return InProcessSession(self, remote)

    @asynccontextmanager
    async def passing(self, step: float = 0.2) -> AsyncIterator[Self]:
        """Let time pass over the floor every so many seconds, and tell user data streams, while the context lasts."""

        async def pass_time() -> None:
            while True:
                await asyncio.sleep(step)
                self.exchange.advance(self.exchange.now())
                self.users.speak()

        task = asyncio.create_task(pass_time())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def send(self, asked: Asked, patience: float) -> Told:
        """Carry one request to the door and its reply back.

        Once it has left it arrives, whether or not its sender still waits.

        Raises:
            aiohttp.ClientOSError: The connection was reset.
            TimeoutError: There was no reply within the patience, seconds.
        """
        self.calls += 1
        task = asyncio.create_task(self._carried(asked, patience))
        self._under_way.add(task)
        task.add_done_callback(self._arrived)
        async with asyncio.timeout(patience):
            return await asyncio.shield(task)

    def _arrived(self, task: asyncio.Task[Told]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever gave up does not hear of it.

    async def _carried(self, asked: Asked, patience: float) -> Told:
        await asyncio.sleep(self.latency)
        outcome: Outcome = await self.door.answer(asked)
        if isinstance(outcome, Silence):
            since = self.exchange.wall_ms()
            await asyncio.sleep(min(outcome.seconds, patience))
            self.door.gave_up(asked, outcome, since)
            outcome = Reset()
        await asyncio.sleep(self.latency)
        if isinstance(outcome, Told):
            return outcome
        raise aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer")


class InProcessResponse:
    """What of aiohttp's response clients read."""

    def __init__(self, told: Told, url: URL, method: str) -> None:
        self.status, self._body = told.status, told.body
        self.url, self.method = url, method
        self.content_type = told.content_type
        self.headers: CIMultiDict[str] = CIMultiDict(told.headers)
        self.headers["Content-Type"] = told.content_type
        self.reason = REASONS.get(told.status, "")
        self.ok = told.status < 400

    async def read(self) -> bytes:
        """The body."""
        return self._body

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """The body as text."""
        return self._body.decode(encoding or "utf-8", errors)

    async def json(self, **_: Any) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self._body)

    def release(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 408: "Request Timeout"}
REASONS |= {418: "I'm a teapot", 429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Unavailable"}


class _Pending[T]:
    """Awaitable and an asynchronous context, as aiohttp's requests are."""

    def __init__(self, begin: Callable[[], Awaitable[T]], end: Callable[[T], Awaitable[None]] | None = None) -> None:
        self._begin, self._end = begin, end
        self._got: list[T] = []

    def __await__(self) -> Generator[Any, None, T]:
        return self._begin().__await__()

    async def __aenter__(self) -> T:
        self._got.append(await self._begin())
        return self._got[-1]

    async def __aexit__(self, *_: object) -> None:
        if self._end is not None:
            await self._end(self._got.pop())


class InProcessSession:
    """What of aiohttp's session clients use, for as many accounts as they like.

    Args:
        sandbox: Where it leads, whatever host an address names.
        remote: The caller's address.
    """

    def __init__(self, sandbox: InProcess, remote: str) -> None:
        self._sandbox, self._remote = sandbox, remote
        self._reused = False
        self.closed = False
        self.headers: CIMultiDict[str] = CIMultiDict()

    def request(self, method: str, url: str | URL, **given: Any) -> _Pending[InProcessResponse]:
        """One request."""
        return _Pending(lambda: self._answered(method.upper(), URL(url), **given))

    def get(self, url: str | URL, **given: Any) -> _Pending[InProcessResponse]:
        """GET."""
        return self.request("GET", url, **given)

    def post(self, url: str | URL, **given: Any) -> _Pending[InProcessResponse]:
        """POST."""
        return self.request("POST", url, **given)

    def put(self, url: str | URL, **given: Any) -> _Pending[InProcessResponse]:
        """PUT."""
        return self.request("PUT", url, **given)

    def delete(self, url: str | URL, **given: Any) -> _Pending[InProcessResponse]:
        """DELETE."""
        return self.request("DELETE", url, **given)

    def ws_connect(self, url: str | URL, **_: Any) -> "_Pending[InProcessSocket]":
        """A user data stream; other streams stay silent here."""
        return _Pending(lambda: self._connected(URL(url)), InProcessSocket.close)

    async def close(self) -> None:
        """Nothing is asked after it."""
        self.closed = True

    async def _answered(
        self,
        method: str,
        url: URL,
        *,
        data: bytes | str | Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's name
        **_: Any,
    ) -> InProcessResponse:
        if self.closed:
            raise RuntimeError("Session is closed")
        url = url.extend_query(params) if params else url
        key = next((text for name, text in (headers or {}).items() if name.lower() == "x-mbx-apikey"), None)
        asked = Asked(method, url.path, url.raw_query_string, _text(data), key, self._remote)
        try:
            told = await self._sandbox.send(asked, _patience(timeout))
        except aiohttp.ClientOSError:
            # As aiohttp does on a connection that it had used before.
            if not self._reused or method not in IDEMPOTENT_METHODS:
                raise
            told = await self._sandbox.send(asked, _patience(timeout))
        self._reused = True
        return InProcessResponse(told, url, method)

    async def _connected(self, url: URL) -> "InProcessSocket":
        await asyncio.sleep(2 * self._sandbox.latency)
        return InProcessSocket(self._sandbox, url)


class InProcessSocket:
    """A client's end of a user data stream.

    Args:
        sandbox: Who speaks.
        url: With the listen key as path or as a parameter.
    """

    def __init__(self, sandbox: InProcess, url: URL) -> None:
        self.combined = url.path.endswith("/stream")
        self.closed = False
        self._sandbox = sandbox
        self._text = url.query.get("listenKey") or url.path.rpartition("/")[2]
        self._on_the_way: deque[aiohttp.WSMessage] = deque()
        self._frames: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        kinds = frozenset(kind for kind in url.query.get("events", "").split("/") if kind)
        if url.path.startswith(PRIVATE):
            sandbox.users.join(self, self._text, kinds or None)

    def offer(self, frame: bytes) -> None:
        """Take a frame."""
        # Timers that are due at the same moment run in any order: each lets the oldest frame through.
        self._on_the_way.append(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, frame.decode(), None))
        asyncio.get_running_loop().call_later(self._sandbox.latency, lambda: self._frames.put_nowait(self._on_the_way.popleft()))

    def drop(self) -> None:
        """Lose the connection."""
        self._sandbox.users.leave(self, self._text)
        self._frames.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:  # noqa: ASYNC109 - aiohttp's name
        """The next message; raises TimeoutError where none comes in time, seconds."""
        if self.closed:
            return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
        async with asyncio.timeout(timeout):
            message = await self._frames.get()
        self.closed = message.type is aiohttp.WSMsgType.CLOSED
        return message

    async def close(self, **_: Any) -> None:
        """Stop listening."""
        self.closed = True
        self._sandbox.users.leave(self, self._text)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> aiohttp.WSMessage:
        message = await self.receive()
        if message.type is aiohttp.WSMsgType.CLOSED:
            raise StopAsyncIteration
        return message


def _patience(timeout: float | aiohttp.ClientTimeout | None) -> float:
    total = timeout.total if isinstance(timeout, aiohttp.ClientTimeout) else timeout
    return PATIENCE_SECONDS if total is None else total


def _text(data: bytes | str | Mapping[str, str] | None) -> str:
    if data is None:
        return ""
    if isinstance(data, Mapping):
        return URL.build(query=dict(data)).raw_query_string
    return data.decode(errors="replace") if isinstance(data, bytes) else data
