"""The market streams of Binance USDⓈ-M by websockets: one connection, decoded frames out, reconnected for as long as it is asked.

Source: Binance USDⓈ-M "Websocket Market Streams" (2026-05): routed /market path, combined streams, 24 h lifetime, server pings; field `st` is
2 for COIN-M rows, which are not ours.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from engine.core.market import ForcedOrder, Mark, Ticker, Trade, rate_of
from engine.log import logger
from engine.ports import Clock
from engine.sockets import PATIENCE, Patience, Send, hear, pause_before
from shared.enums import Side
from shared.wire import require_positive

STREAMS: Final = ("!forceOrder@arr", "!markPrice@arr@1s", "!ticker@arr")
USD_MARGINED: Final = 1


class Listener(Protocol):
    """Who takes what the streams say."""

    def take_tickers(self, tickers: list[Ticker]) -> None:
        """Changed tickers of one second."""
        ...

    def take_marks(self, marks: list[Mark]) -> None:
        """Marks of one second."""
        ...

    def take_liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        ...

    def connection(self, up: bool) -> None:
        """The connection came up or went down."""
        ...


class _TickerRow(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    last: float = msgspec.field(name="c")
    change: float = msgspec.field(name="P")
    quote: float = msgspec.field(name="q")
    st: int = USD_MARGINED


class _MarkRow(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    price: Decimal = msgspec.field(name="p")
    at_ms: int = msgspec.field(name="E")
    rate: str = msgspec.field(name="r", default="")
    next_ms: int = msgspec.field(name="T", default=0)
    st: int = USD_MARGINED

    def __post_init__(self) -> None:
        require_positive(self.price)
        rate_of(self.rate)


class _ForcedOrder(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    order_side: str = msgspec.field(name="S")
    quantity: Decimal = msgspec.field(name="q")
    price: Decimal = msgspec.field(name="p")
    at_ms: int = msgspec.field(name="T")

    def __post_init__(self) -> None:
        require_positive(self.price, self.quantity)


class _ForcedRow(msgspec.Struct):
    order: _ForcedOrder = msgspec.field(name="o")
    st: int = USD_MARGINED


class _Frame(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


def deliver(frame: bytes | str, listener: Listener, received_ms: int) -> None:
    """Decodes one frame and hands its rows on; frames of other streams are passed over, and so is a row that does not fit.

    Raises:
        msgspec.MsgspecError: The frame itself does not fit the documented form.
    """
    decoded = msgspec.json.decode(frame, type=_Frame)
    kind = decoded.stream.partition("@")[0]
    if kind == "!ticker":
        listener.take_tickers([_ticker(row, received_ms) for row in _rows(decoded.data, _TickerRow) if row.st == USD_MARGINED])
    elif kind == "!markPrice":
        listener.take_marks([_mark(row, received_ms) for row in _rows(decoded.data, _MarkRow) if row.st == USD_MARGINED])
    elif kind == "!forceOrder":
        forced = msgspec.json.decode(decoded.data, type=_ForcedRow, strict=False)
        if forced.st == USD_MARGINED:
            listener.take_liquidation(_forced(forced.order))


async def listen(base_url: str, listener: Listener, clock: Clock, patience: Patience = PATIENCE) -> None:
    """Listens until it is cancelled; a drop or silence means a new connection after a growing, jittered pause, old age one before the end."""
    await hear(f"{base_url}/market/stream?streams={'/'.join(STREAMS)}", _Whole(listener, clock), patience)


class _Whole:
    """The connection of the streams of the whole market, whose streams never change."""

    name = "streams"

    def __init__(self, listener: Listener, clock: Clock) -> None:
        self._listener = listener
        self._clock = clock

    def take(self, frame: bytes) -> None:
        _deliver_or_say(frame, self._listener, self._clock.wall_ms())

    def connection(self, up: bool) -> None:
        self._listener.connection(up)

    async def opened(self, send: Send) -> None:
        """The address names the streams."""

    async def reviewed(self, send: Send) -> None:
        """Nothing ever changes."""


def _deliver_or_say(frame: bytes | str, listener: Listener, received_ms: int) -> None:
    try:
        deliver(frame, listener, received_ms)
    except msgspec.MsgspecError as error:
        logger().warning("a frame does not fit", error=str(error))


async def _frames(socket: ClientConnection, patience: Patience) -> AsyncIterator[bytes | str]:
    ends = asyncio.get_running_loop().time() + patience.lifetime
    while asyncio.get_running_loop().time() < ends:
        async with asyncio.timeout(patience.silence):
            frame = await socket.recv()
        yield frame


def _rows[T](raw: msgspec.Raw, kind: type[T]) -> list[T]:
    """All rows at once; one by one only where one of them is odd, so that it does not silence the others."""
    try:
        return msgspec.json.decode(raw, type=list[kind], strict=False)  # type: ignore[valid-type]
    except msgspec.ValidationError:
        return [row for one in msgspec.json.decode(raw, type=list[msgspec.Raw]) for row in _row(one, kind)]


def _row[T](raw: msgspec.Raw, kind: type[T]) -> list[T]:
    try:
        return [msgspec.json.decode(raw, type=kind, strict=False)]
    except msgspec.ValidationError:
        return []


def _ticker(row: _TickerRow, received_ms: int) -> Ticker:
    return Ticker(symbol=row.symbol, last=row.last, change_percent=row.change, quote_volume=row.quote, received_ms=received_ms)


def _mark(row: _MarkRow, received_ms: int) -> Mark:
    return Mark(
        symbol=row.symbol,
        price=row.price,
        at_ms=row.at_ms,
        funding_rate=rate_of(row.rate),
        next_funding_ms=row.next_ms,
        received_ms=received_ms,
    )


def _forced(order: _ForcedOrder) -> ForcedOrder:
    side = Side.LONG if order.order_side == "SELL" else Side.SHORT
    return ForcedOrder(symbol=order.symbol, side=side, price=order.price, quantity=order.quantity, at_ms=order.at_ms)


MOST_TRADED: Final = 60
"""Streams of one connection, far below the 1,024 that one may carry: each may speak ten times a second."""


class TradeListener(Protocol):
    """Who says which symbols' trades are wanted, and takes them."""

    def wanted(self) -> Sequence[str]:
        """Symbols to listen to now, the most important first; none means that nothing is connected."""
        ...

    def take_trade(self, symbol: str, trade: Trade) -> None:
        """One aggregate trade: what one taker order filled at one price."""
        ...

    def trades_connection(self, up: bool) -> None:
        """The connection came up or went down: what was said in between is lost."""
        ...


class _TradeRow(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    at_ms: int = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    st: int = USD_MARGINED

    def __post_init__(self) -> None:
        require_positive(self.price, self.quantity)


def deliver_trade(frame: bytes | str, listener: TradeListener) -> None:
    """Decodes one frame and hands its trade on; frames of other streams, and answers to SUBSCRIBE, are passed over.

    Raises:
        msgspec.MsgspecError: The frame does not fit the documented form.
    """
    decoded = msgspec.json.decode(frame, type=_Frame)
    if not decoded.stream.endswith("@aggTrade"):
        return
    row = msgspec.json.decode(decoded.data, type=_TradeRow)
    if row.st == USD_MARGINED:
        trade = Trade(price=float(row.price), quantity=float(row.quantity), sell=row.buyer_is_maker, at_ms=row.at_ms)
        listener.take_trade(row.symbol, trade)


async def listen_trades(
    base_url: str, listener: TradeListener, patience: Patience = PATIENCE, review_seconds: float = 10.0
) -> None:
    """Listens to the aggregate trades of the wanted symbols until it is cancelled; reconnects as `listen` does.

    What is wanted is asked every `review_seconds` and told by SUBSCRIBE and UNSUBSCRIBE: two messages at most, of ten a second that are allowed.

    Source: Binance USDⓈ-M "Live Subscribing/Unsubscribing to streams" and "Aggregate Trade Streams" (2026-05).
    """
    attempt = 0
    while True:
        symbols = _most_wanted(listener)
        if not symbols:
            await asyncio.sleep(review_seconds)
            continue
        heard = 0
        reason = "old age"
        try:
            url = f"{base_url}/market/stream?streams={'/'.join(_trade_stream(symbol) for symbol in symbols)}"
            async with connect(url, max_size=2**20, open_timeout=5, close_timeout=2) as socket:
                listener.trades_connection(up=True)
                logger().info("trades connected", attempt=attempt, streams=len(symbols))
                subscriptions = _Subscriptions(socket, symbols, review_seconds)
                async for frame in _frames(socket, patience):
                    heard += 1
                    _deliver_trade_or_say(frame, listener)
                    await subscriptions.review(listener)
        except TimeoutError:
            reason = "silence"
        except (OSError, WebSocketException) as error:
            reason = type(error).__name__
        listener.trades_connection(up=False)
        attempt = 1 if heard else attempt + 1
        pause = pause_before(attempt, patience)
        logger().warning("trades dropped", reason=reason, attempt=attempt, seconds=round(pause, 2))
        await asyncio.sleep(pause)


class _Subscriptions:
    """What one connection listens to; changed only between frames, so that nobody else writes to the socket."""

    def __init__(self, socket: ClientConnection, symbols: Sequence[str], review_seconds: float) -> None:
        self._socket = socket
        self._symbols = frozenset(symbols)
        self._every = review_seconds
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time() + review_seconds
        self._ids = itertools.count(1)

    async def review(self, listener: TradeListener) -> None:
        """Asks what is wanted where it is time, and tells the exchange what changed."""
        if self._loop.time() < self._next:
            return
        self._next = self._loop.time() + self._every
        wanted = frozenset(_most_wanted(listener))
        if not wanted:
            return
        for method, symbols in (("SUBSCRIBE", wanted - self._symbols), ("UNSUBSCRIBE", self._symbols - wanted)):
            if symbols:
                params = [_trade_stream(symbol) for symbol in sorted(symbols)]
                message = msgspec.json.encode({"method": method, "params": params, "id": next(self._ids)})
                await self._socket.send(message.decode())
        self._symbols = wanted


def _most_wanted(listener: TradeListener) -> Sequence[str]:
    return list(dict.fromkeys(listener.wanted()))[:MOST_TRADED]


def _trade_stream(symbol: str) -> str:
    return f"{symbol.lower()}@aggTrade"


def _deliver_trade_or_say(frame: bytes | str, listener: TradeListener) -> None:
    try:
        deliver_trade(frame, listener)
    except msgspec.MsgspecError as error:
        logger().warning("a trade does not fit", error=str(error))
