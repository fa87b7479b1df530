"""The best bid and ask of the symbols that scans shortlist, twice a second, for the recording.

By partial depth at its slowest, since a liquid symbol's `bookTicker` speaks hundreds of times a second.

Source: Binance USDⓈ-M "Partial Book Depth Streams" (2026-05), on the /public path; field `st` is 2 for COIN-M rows, which are not ours.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from engine.core.market import BookTop
from engine.log import logger
from engine.sockets import Patience, Send, Subscriptions, hear_while_wanted

TOP_PATIENCE: Final = Patience(silence=60.0)
REVIEW_SECONDS: Final = 1.0
USD_MARGINED: Final = 1


class TopListener(Protocol):
    """Who says which symbols' tops are wanted, and takes them."""

    def wanted_tops(self) -> Sequence[str]:
        """Symbols to listen to now; none means that nothing is connected."""
        ...

    def take_top(self, top: BookTop) -> None:
        """One symbol's best bid and ask."""
        ...


class _Depth(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    at_ms: int = msgspec.field(name="T")
    bids: list[tuple[float, float]] = msgspec.field(name="b")
    asks: list[tuple[float, float]] = msgspec.field(name="a")
    st: int = USD_MARGINED


class _Frame(msgspec.Struct, gc=False):
    data: _Depth


_decoder = msgspec.json.Decoder(_Frame, strict=False)


def top_in(frame: bytes) -> BookTop | None:
    """The top that a frame tells; None of an answer to SUBSCRIBE, and of a book with an empty side.

    Raises:
        msgspec.MsgspecError: The frame does not fit the documented form.
    """
    if b"@depth5" not in frame:
        return None
    depth = _decoder.decode(frame).data
    if depth.st != USD_MARGINED or not depth.bids or not depth.asks:
        return None
    (bid, bid_quantity), (ask, ask_quantity) = depth.bids[0], depth.asks[0]
    return BookTop(symbol=depth.symbol, bid=bid, bid_quantity=bid_quantity, ask=ask, ask_quantity=ask_quantity, at_ms=depth.at_ms)


class _Tops:
    """One connection's symbols."""

    name = "book tops"

    def __init__(self, listener: TopListener) -> None:
        self._listener = listener
        self._subscriptions = Subscriptions(_streams_of)

    def take(self, frame: bytes) -> None:
        try:
            top = top_in(frame)
        except msgspec.MsgspecError as error:
            logger().warning("a book does not fit", error=str(error))
            return
        if top is not None:
            self._listener.take_top(top)

    def connection(self, up: bool) -> None:
        """A gap in a recording shows in its times."""

    async def opened(self, send: Send) -> None:
        self._subscriptions.begin()
        await self._subscriptions.change(send, self._listener.wanted_tops())

    def fell_back(self) -> None:
        self._subscriptions.fall_back()

    async def reviewed(self, send: Send) -> None:
        wanted = self._listener.wanted_tops()
        if self._subscriptions.is_time(wanted):
            await self._subscriptions.change(send, wanted)


def _streams_of(symbol: str) -> list[str]:
    return [f"{symbol.lower()}@depth5@500ms"]


async def listen_tops(
    base_url: str, listener: TopListener, patience: Patience = TOP_PATIENCE, review_seconds: float = REVIEW_SECONDS
) -> None:
    """Listens while any is wanted, until it is cancelled."""
    await hear_while_wanted(f"{base_url}/public/stream", _Tops(listener), listener.wanted_tops, patience, review_seconds)
