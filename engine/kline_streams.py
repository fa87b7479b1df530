"""Closing frames of the 15m and 4h klines of every wanted symbol, over as many connections as the exchange's limits ask for.

A symbol stays with its connection; symbols that are listed or delisted are subscribed and unsubscribed on it, so that nobody else is cut.

Source: Binance USDⓈ-M "Kline/Candlestick Streams", "Live Subscribing/Unsubscribing to streams", "Websocket Market Streams" (2026-05): 1,024 streams a
connection, 10 incoming messages a second, 300 connections in 5 minutes and address.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from engine.core.market import ClosedCandle, Timeframe
from engine.log import logger
from engine.sockets import Patience, Send, Subscriptions, hear

TIMEFRAMES: Final = (Timeframe.M15, Timeframe.H4)

SYMBOLS_EACH: Final = 300
"""Of one connection: 600 of the 1,024 streams that it may carry, and two connections for the whole market."""

OPEN_SECONDS: Final = 1.0
"""Between the first attempts of two connections."""

KLINE_PATIENCE: Final = Patience(silence=60.0)
"""A few quiet symbols may say nothing for a while; a closing frame that is missing is noticed elsewhere, and earlier."""

CLOSING: Final = b'"x":true'
"""Four frames a second and symbol tell of open candles: only closing ones are decoded."""


class KlineListener(Protocol):
    """Who says which symbols are wanted, and takes what closed."""

    def wanted_symbols(self) -> Sequence[str]:
        """Symbols whose candles are wanted now."""
        ...

    def take_close(self, candle: ClosedCandle) -> None:
        """One closed candle; it may come twice, late, or never."""
        ...

    def klines_connection(self, symbols: Iterable[str], up: bool) -> None:
        """A connection that carries these symbols came up or went down."""
        ...


class _Kline(msgspec.Struct, gc=False):
    open_ms: int = msgspec.field(name="t")
    symbol: str = msgspec.field(name="s")
    interval: Timeframe = msgspec.field(name="i")
    open: float = msgspec.field(name="o")
    high: float = msgspec.field(name="h")
    low: float = msgspec.field(name="l")
    close: float = msgspec.field(name="c")
    volume: float = msgspec.field(name="v")
    closed: bool = msgspec.field(name="x")


class _Event(msgspec.Struct, gc=False):
    kline: _Kline = msgspec.field(name="k")


class _Frame(msgspec.Struct, gc=False):
    data: _Event


_decoder = msgspec.json.Decoder(_Frame, strict=False)


def closed_in(frame: bytes) -> ClosedCandle | None:
    """The candle that a frame says is closed; None of any other frame.

    Raises:
        msgspec.MsgspecError: The frame does not fit the documented form.
    """
    if CLOSING not in frame:
        return None
    kline = _decoder.decode(frame).data.kline
    if not kline.closed:
        return None
    return ClosedCandle(
        symbol=kline.symbol,
        timeframe=kline.interval,
        open_ms=kline.open_ms,
        open=kline.open,
        high=kline.high,
        low=kline.low,
        close=kline.close,
        volume=kline.volume,
    )


class _Shard:
    """One connection's symbols."""

    def __init__(self, number: int, listener: KlineListener) -> None:
        self.name = f"klines {number}"
        self.symbols: set[str] = set()
        self._listener = listener
        self._subscriptions = Subscriptions(_streams_of)

    def take(self, frame: bytes) -> None:
        try:
            candle = closed_in(frame)
        except msgspec.MsgspecError as error:
            logger().warning("a kline does not fit", error=str(error))
            return
        if candle is not None:
            self._listener.take_close(candle)

    def connection(self, up: bool) -> None:
        self._listener.klines_connection(self.symbols, up)

    async def opened(self, send: Send) -> None:
        self._subscriptions.begin()
        await self._subscriptions.change(send, self.symbols)

    def fell_back(self) -> None:
        self._subscriptions.fall_back()

    async def reviewed(self, send: Send) -> None:
        if self._subscriptions.is_time(self.symbols):
            await self._subscriptions.change(send, self.symbols)


def _streams_of(symbol: str) -> list[str]:
    return [f"{symbol.lower()}@kline_{timeframe}" for timeframe in TIMEFRAMES]


class Shards:
    """Who listens to which symbol; whoever stays keeps its connection."""

    def __init__(self, listener: KlineListener, symbols_each: int = SYMBOLS_EACH) -> None:
        self._listener = listener
        self._each = symbols_each
        self.all: list[_Shard] = []

    def assign(self, wanted: Iterable[str]) -> list[_Shard]:
        """Gives every symbol a connection; returns those that are new."""
        left = set(wanted)
        for shard in self.all:
            shard.symbols &= left
            left -= shard.symbols
        room = sum(self._each - len(shard.symbols) for shard in self.all)
        more = -(-max(0, len(left) - room) // self._each)
        fresh = [_Shard(len(self.all) + place, self._listener) for place in range(more)]
        self.all += fresh
        for symbol in sorted(left):
            min(self.all, key=lambda shard: len(shard.symbols)).symbols.add(symbol)
        return fresh


async def listen_klines(
    base_url: str,
    listener: KlineListener,
    patience: Patience = KLINE_PATIENCE,
    review_seconds: float = 1.0,
    symbols_each: int = SYMBOLS_EACH,
) -> None:
    """Listens until it is cancelled; what is wanted is asked every `review_seconds`."""
    shards = Shards(listener, symbols_each)
    async with asyncio.TaskGroup() as group:
        while True:
            for shard in shards.assign(listener.wanted_symbols()):
                group.create_task(hear(f"{base_url}/market/stream", shard, patience))
                await asyncio.sleep(OPEN_SECONDS)
            await asyncio.sleep(review_seconds)
