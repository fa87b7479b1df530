"""A websocket that is heard for as long as it is asked: reconnected after a drop or silence, replaced before it is a day old.

The door to websockets below `streams`, `kline_streams` and `top_streams`, which know what is said. The exchange cuts every connection after 24 h; we
open the next one before that and close the old one only when the new one speaks, so that nothing is missed. What was said on both is heard twice.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from engine.log import logger

type Send = Callable[[str], Awaitable[None]]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Wall seconds that a connection is given.

    Marks come each second, so `silence` means death; the exchange cuts after 24 h, so we have another by `lifetime`.
    """

    silence: float = 10.0
    lifetime: float = 23.5 * 3600
    first_pause: float = 0.25
    longest_pause: float = 10.0


PATIENCE: Final = Patience()

AGAIN_SECONDS: Final = 60.0
"""Until the next try to replace a connection that grows old and still speaks."""

DRAIN_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 0.05
"""How long the old connection's last frames are read once the new one speaks: until it is quiet, or so long at most."""


SYMBOLS_A_MESSAGE: Final = 100
MESSAGE_SECONDS: Final = 0.25
"""Four messages a second, of ten that are allowed; pongs count too."""

CHANGE_SECONDS: Final = 1.0
"""Between two changes of what a connection carries."""


class Ear(Protocol):
    """Who hears a connection."""

    name: str
    """Of what is heard, for the log."""

    def take(self, frame: bytes) -> None:
        """One frame."""
        ...

    def connection(self, up: bool) -> None:
        """The connection came up or went down; replacing it in time is neither."""
        ...

    async def opened(self, send: Send) -> None:
        """Subscribes on a new connection."""
        ...

    def fell_back(self) -> None:
        """The connection that was opened last is not used: the one before goes on."""
        ...

    async def reviewed(self, send: Send) -> None:
        """Called after each frame; the only moment at which anything may be sent."""
        ...


class Subscriptions:
    """What one connection is subscribed to, told to the exchange as slowly as it wants to be told.

    Args:
        streams_of: The names of a symbol's streams.
    """

    def __init__(self, streams_of: Callable[[str], Sequence[str]]) -> None:
        self._streams_of = streams_of
        self._ids = itertools.count(1)
        self._next = 0.0
        self._before: frozenset[str] = frozenset()
        self.symbols: frozenset[str] = frozenset()

    def begin(self) -> None:
        """A new connection, on which nothing is subscribed."""
        self._before, self.symbols, self._next = self.symbols, frozenset(), 0.0

    def fall_back(self) -> None:
        """The connection before goes on with what it was subscribed to."""
        self.symbols, self._next = self._before, 0.0

    def is_time(self, wanted: Iterable[str]) -> bool:
        """Whether others are wanted, and the last change is long enough ago."""
        return self.symbols != frozenset(wanted) and asyncio.get_running_loop().time() >= self._next

    async def change(self, send: Send, wanted: Iterable[str]) -> None:
        """Subscribes to who is new and unsubscribes from who is not wanted any more."""
        self._next = asyncio.get_running_loop().time() + CHANGE_SECONDS
        before, self.symbols = self.symbols, frozenset(wanted)
        for method, symbols in (("SUBSCRIBE", self.symbols - before), ("UNSUBSCRIBE", before - self.symbols)):
            for some in itertools.batched(sorted(symbols), SYMBOLS_A_MESSAGE):
                params = [stream for symbol in some for stream in self._streams_of(symbol)]
                message = msgspec.json.encode({"method": method, "params": params, "id": next(self._ids)})
                await send(message.decode())
                await asyncio.sleep(MESSAGE_SECONDS)


class _Count(msgspec.Struct):
    frames: int = 0


async def hear(url: str, ear: Ear, patience: Patience = PATIENCE) -> None:
    """Hears until it is cancelled; a drop or silence means a new connection after a growing, jittered pause."""
    attempt = 0
    while True:
        heard, reason = _Count(), "silence"
        try:
            await _life(url, ear, patience, heard, attempt)
        except TimeoutError:
            pass
        except (OSError, WebSocketException) as error:
            reason = type(error).__name__
        ear.connection(up=False)
        attempt = 1 if heard.frames else attempt + 1
        pause = pause_before(attempt, patience)
        logger().warning(f"{ear.name} dropped", reason=reason, attempt=attempt, seconds=round(pause, 2))
        await asyncio.sleep(pause)


async def hear_while_wanted(
    url: str, ear: Ear, wanted: Callable[[], Sequence[str]], patience: Patience, review_seconds: float
) -> None:
    """Hears while anything is wanted, which is asked every `review_seconds`, until it is cancelled; nothing wanted is nothing connected."""
    while True:
        while not wanted():  # noqa: ASYNC110 - whoever wants says it when asked
            await asyncio.sleep(review_seconds)
        hearing = asyncio.ensure_future(hear(url, ear, patience))
        try:
            while wanted() and not hearing.done():
                await asyncio.wait({hearing}, timeout=review_seconds)
            if hearing.done():
                await hearing  # it ends by an error that nobody foresaw alone
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        ear.connection(up=False)


def pause_before(attempt: int, patience: Patience = PATIENCE) -> float:
    """Wall seconds before an attempt, doubling from the first pause to the longest, with jitter of a half."""
    full: float = min(patience.longest_pause, patience.first_pause * 2.0 ** min(attempt - 1, 10))
    return full * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret


async def _life(url: str, ear: Ear, patience: Patience, heard: _Count, attempt: int) -> None:
    """One connection after the other, each replaced in time; raises where one ends before that."""
    socket = await _opened(url, ear)
    try:
        ear.connection(up=True)
        logger().info(f"{ear.name} connected", attempt=attempt)
        lasts = patience.lifetime
        while True:
            await _until(socket, ear, patience, heard, lasts)
            following = await _following(url, ear, patience)
            lasts = AGAIN_SECONDS if following is None else patience.lifetime
            if following is not None:
                old, socket = socket, following[0]
                try:
                    await _drain(old, ear)
                    ear.take(following[1])
                finally:
                    await _close(old)
                logger().info(f"{ear.name} moved to a new connection")
    finally:
        await _close(socket)


async def _opened(url: str, ear: Ear) -> ClientConnection:
    socket = await connect(url, max_size=2**24, open_timeout=5, close_timeout=2, compression=None)
    try:
        await ear.opened(socket.send)
    except BaseException:
        await _close(socket)
        raise
    return socket


async def _close(socket: ClientConnection) -> None:
    """Says goodbye; whoever is cancelled meanwhile, or a second time, leaves no open connection behind."""
    try:
        await socket.close()
    except asyncio.CancelledError:
        socket.transport.abort()
        raise


async def _until(socket: ClientConnection, ear: Ear, patience: Patience, heard: _Count, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while loop.time() < ends:
        async with asyncio.timeout(patience.silence):
            frame = await socket.recv(decode=False)
        heard.frames += 1
        ear.take(frame)
        await ear.reviewed(socket.send)


async def _following(url: str, ear: Ear, patience: Patience) -> tuple[ClientConnection, bytes] | None:
    """A connection that speaks, and what it said first; None where there is none now."""
    try:
        socket = await _opened(url, ear)
        try:
            async with asyncio.timeout(patience.silence):
                return socket, await socket.recv(decode=False)
        except BaseException:
            await _close(socket)
            raise
    except (OSError, WebSocketException, TimeoutError) as error:
        ear.fell_back()
        logger().warning(f"{ear.name} cannot be replaced yet", reason=type(error).__name__)
        return None


async def _drain(socket: ClientConnection, ear: Ear) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                async with asyncio.timeout(QUIET_SECONDS):
                    frame = await socket.recv(decode=False)
                ear.take(frame)
    except (OSError, WebSocketException, TimeoutError):
        return
