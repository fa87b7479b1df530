"""The user data stream of one account, as nudges: something changed, ask for the truth. Nothing here is booked.

So a nudge that is lost, late, doubled or out of order costs time and never money. The listen key is extended while we listen and never
deleted: the exchange gives every listener of an account the same one, and whoever deletes it ends all of their streams.

Source: Binance USDⓈ-M "User Data Streams" (read 2026-11): a key lives 60 minutes, a connection 24 hours, paths under /private.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import msgspec

from engine.binance import calls
from engine.binance.client import Client, No
from engine.binance.readings import moment
from engine.binance.rows import ListenKeyReply, Moment
from engine.errors import VenueAway, VenueError, VenueHalted
from engine.log import logger
from engine.ports import Clock, Urgency
from shared.execution import AccountEvent

PING_SECONDS: Final = 5.0
KEEP_SECONDS: Final = 20 * 60.0
"""A key lives for an hour: an extension may fail twice."""

HEARTBEAT_SECONDS: Final = 20.0
"""We ask for a pong ourselves: a cut line is noticed in seconds, not at the exchange's ping of every three minutes."""

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A connection that held for so long starts the next delay anew."""

CONNECTED: Final = "CONNECTED"
PING: Final = "PING"
EXPIRED: Final = "listenKeyExpired"


class _Named(msgspec.Struct):
    """An order in an event, regular or conditional."""

    symbol: str = msgspec.field(name="s", default="")
    client_id: str = msgspec.field(name="c", default="")
    algo_id: str = msgspec.field(name="caid", default="")


class _Row(msgspec.Struct):
    symbol: str = msgspec.field(name="s", default="")


class _Account(msgspec.Struct):
    positions: list[_Row] = msgspec.field(name="P", default_factory=list)


class _Event(msgspec.Struct):
    """Every event of the stream, as far as it is read."""

    kind: str = msgspec.field(name="e")
    time: Moment = msgspec.field(name="E", default=0)
    order: _Named | None = msgspec.field(name="o", default=None)
    account: _Account | None = msgspec.field(name="a", default=None)
    called: list[_Row] | None = msgspec.field(name="p", default=None)
    config: _Row | None = msgspec.field(name="ac", default=None)


class _Wrapped(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


class UserStream:
    """Listens for one account.

    Args:
        client: Asks for the listen key.
        session: aiohttp's.
        url: Of the streams, without a path.
        clock: Stamps what the exchange does not.
        delay: Seconds before attempt n to connect again, the first being 0.
        ping_seconds: Of silence before a PING.
        keep_seconds: Between extensions of the key.
    """

    def __init__(
        self,
        client: Client,
        session: Any,
        url: str,
        clock: Clock,
        delay: Callable[[int], float] | None = None,
        ping_seconds: float = PING_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._client = client
        self._session = session
        self._url = url
        self._clock = clock
        self._delay = delay or back_off
        self._ping_seconds = ping_seconds
        self._keep_seconds = keep_seconds

    async def events(self) -> AsyncGenerator[AccountEvent]:
        """Yields CONNECTED after each connection, PING while nothing happens, and the exchange's events; until the session is closed.

        Raises:
            VenueHalted: The key is refused: who listens must hear of it, and may have another by now.
        """
        attempt = 0
        while not getattr(self._session, "closed", False):
            began = asyncio.get_running_loop().time()
            try:
                async with aclosing(self._connection()) as connection:
                    async for event in connection:
                        yield event
                reason = "closed"
            except VenueHalted:
                raise
            except (VenueError, aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = str(error) if isinstance(error, VenueError) else type(error).__name__
            if asyncio.get_running_loop().time() - began > STEADY_SECONDS:
                attempt = 0
            logger().warning("the user data stream ended; it is opened again", reason=reason, attempt=attempt)
            await asyncio.sleep(self._delay(attempt))
            attempt += 1

    async def _connection(self) -> AsyncGenerator[AccountEvent]:
        key = await self._listen_key()
        address = f"{self._url}/private/ws?listenKey={key}"
        async with self._session.ws_connect(address, heartbeat=HEARTBEAT_SECONDS) as socket:
            yield self._own(CONNECTED)
            extended = asyncio.get_running_loop().time()
            while True:
                if asyncio.get_running_loop().time() - extended > self._keep_seconds:
                    if not await self._extended():
                        return
                    extended = asyncio.get_running_loop().time()
                try:
                    message = await socket.receive(timeout=self._ping_seconds)
                except TimeoutError:
                    yield self._own(PING)
                    continue
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                for event in self._read(message.data):
                    yield event
                    if event.kind == EXPIRED:
                        return

    async def _listen_key(self) -> str:
        said = await self._client.ask(calls.LISTEN_KEY, ListenKeyReply, Urgency.PROTECT)
        if isinstance(said, No):
            raise aiohttp.ClientError(said.detail)
        return said.listen_key

    async def _extended(self) -> bool:
        try:
            return not isinstance(await self._client.ask(calls.KEEP_LISTEN_KEY, msgspec.Raw, Urgency.PROTECT), No)
        except VenueAway:
            return True

    def _read(self, text: str) -> Iterator[AccountEvent]:
        event = _decoded(text)
        if event is None:
            return
        at = moment(event.time) if event.time else self._clock.wall()
        order = event.order or _Named()
        for symbol in _symbols(event):
            yield AccountEvent(kind=event.kind, symbol=symbol, client_order_id=order.algo_id or order.client_id, at=at)

    def _own(self, kind: str) -> AccountEvent:
        return AccountEvent(kind=kind, at=self._clock.wall())


def back_off(attempt: int) -> float:
    """Seconds before the next attempt, with jitter, so that replicas do not come at once."""
    return min(FIRST_DELAY * 2.0 ** min(attempt, 10), LONGEST_DELAY) * random.uniform(0.5, 1.0)  # noqa: S311


def _decoded(text: str) -> _Event | None:
    try:
        wrapped = msgspec.json.decode(text, type=_Wrapped)
        return msgspec.json.decode(bytes(wrapped.data) or text, type=_Event)
    except msgspec.MsgspecError:
        return None


def _symbols(event: _Event) -> list[str]:
    """Those that an event is about; an empty one means the account."""
    if event.order is not None:
        return [event.order.symbol]
    listed = [
        *(event.account.positions if event.account else ()),
        *(event.called or ()),
        *([event.config] if event.config else ()),
    ]
    return list(dict.fromkeys(row.symbol for row in listed)) or [""]
