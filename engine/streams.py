"""The market streams of Binance USDⓈ-M by websockets: decoded frames out, for as long as it is asked.

Source: Binance USDⓈ-M "Websocket Market Streams" (2026-05): routed /market path, combined streams, 24 h lifetime, server pings; field `st` is
2 for COIN-M rows, which are not ours.
"""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from engine.core.market import ForcedOrder, Mark, Ticker, Trade, rate_of
from engine.log import logger
from engine.ports import Clock
from engine.sockets import PATIENCE, Patience, Send, Subscriptions, hear, hear_while_wanted
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
    average: Decimal = msgspec.field(name="ap", default=Decimal(0))

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

    def fell_back(self) -> None:
        """The connection before hears the same."""

    async def reviewed(self, send: Send) -> None:
        """Nothing ever changes."""


def _deliver_or_say(frame: bytes | str, listener: Listener, received_ms: int) -> None:
    try:
        deliver(frame, listener, received_ms)
    except msgspec.MsgspecError as error:
        logger().warning("a frame does not fit", error=str(error))


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
    told = order.average.is_finite() and order.average > 0
    return ForcedOrder(
        symbol=order.symbol,
        side=side,
        price=order.price,
        quantity=order.quantity,
        at_ms=order.at_ms,
        fill_price=order.average if told else None,
    )


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


class TradeRow(msgspec.Struct, gc=False):
    """A row of an `aggTrade` frame; its number grows by one with each of its symbol."""

    symbol: str = msgspec.field(name="s")
    number: int = msgspec.field(name="a")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    at_ms: int = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    st: int = USD_MARGINED

    def __post_init__(self) -> None:
        require_positive(self.price, self.quantity)

    def trade(self) -> Trade:
        """What one taker order filled at one price."""
        return Trade(price=float(self.price), quantity=float(self.quantity), sell=self.buyer_is_maker, at_ms=self.at_ms)


def trade_in(frame: bytes | str) -> TradeRow | None:
    """The trade that a frame tells; None of other streams' frames, and of answers to SUBSCRIBE.

    Raises:
        msgspec.MsgspecError: The frame does not fit the documented form.
    """
    decoded = msgspec.json.decode(frame, type=_Frame)
    if not decoded.stream.endswith("@aggTrade"):
        return None
    row = msgspec.json.decode(decoded.data, type=TradeRow)
    return row if row.st == USD_MARGINED else None


async def listen_trades(
    base_url: str, listener: TradeListener, patience: Patience = PATIENCE, review_seconds: float = 10.0
) -> None:
    """Listens to the aggregate trades of the wanted symbols until it is cancelled; reconnects, and is replaced in time, as `listen` is.

    What is wanted is asked every `review_seconds` and told by SUBSCRIBE and UNSUBSCRIBE.

    Source: Binance USDⓈ-M "Live Subscribing/Unsubscribing to streams" and "Aggregate Trade Streams" (2026-05).
    """
    trades = _Trades(listener, review_seconds)
    await hear_while_wanted(f"{base_url}/market/stream", trades, listener.wanted, patience, review_seconds)


class _Trades:
    """The connection of the wanted symbols' trades. Two of them overlap while one replaces the other: a trade counts once."""

    name = "trades"

    def __init__(self, listener: TradeListener, review_seconds: float) -> None:
        self._listener = listener
        self._every = review_seconds
        self._next = 0.0
        self._newest: dict[str, int] = {}
        self._subscriptions = Subscriptions(_trade_streams)

    def take(self, frame: bytes) -> None:
        try:
            row = trade_in(frame)
        except msgspec.MsgspecError as error:
            logger().warning("a trade does not fit", error=str(error))
            return
        if row is None or row.number <= self._newest.get(row.symbol, -1):
            return
        self._newest[row.symbol] = row.number
        self._listener.take_trade(row.symbol, row.trade())

    def connection(self, up: bool) -> None:
        self._newest.clear()
        self._listener.trades_connection(up)

    async def opened(self, send: Send) -> None:
        self._subscriptions.begin()
        await self._tell(send)

    def fell_back(self) -> None:
        self._subscriptions.fall_back()

    async def reviewed(self, send: Send) -> None:
        if asyncio.get_running_loop().time() >= self._next:
            await self._tell(send)

    async def _tell(self, send: Send) -> None:
        self._next = asyncio.get_running_loop().time() + self._every
        wanted = list(dict.fromkeys(self._listener.wanted()))[:MOST_TRADED]
        if self._subscriptions.is_time(wanted):
            await self._subscriptions.change(send, wanted)


def _trade_streams(symbol: str) -> list[str]:
    return [f"{symbol.lower()}@aggTrade"]
