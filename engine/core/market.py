"""What the market says: candles, tickers, marks, books, trades and liquidations, as plain values.

The leftmost stop of the arrow inside the engine. Float stands where only features are computed, Decimal where a price may become money.
`_ms` fields are exchange integers in market time, `received_ms` is wall time at receipt: the age of a price.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np

from shared.enums import Side
from shared.wire import require_finite

type Floats = np.ndarray[Any, np.dtype[np.float64]]
type Integers = np.ndarray[Any, np.dtype[np.int64]]
type Level = tuple[Decimal, Decimal]


MINUTE_MS: Final = 60_000

HOUR_MS: Final = 3_600_000
"""Every funding time is a full hour. Source: Binance "Funding Rate Info": intervals of 1, 2, 4 or 8 hours."""

FUNDING_GRACE_MS: Final = 60_000
"""A settlement may be published late: for so long after a full hour the next look starts before it again."""


class Timeframe(StrEnum):
    """The candle lengths that decide."""

    M1 = "1m"
    M15 = "15m"
    H4 = "4h"

    @property
    def ms(self) -> int:
        """Length in milliseconds."""
        return {"1m": 60_000, "15m": 900_000, "4h": 14_400_000}[self.value]


def at(ms: int) -> datetime:
    """An exchange integer as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def ms_of(moment: datetime) -> int:
    """An aware datetime as an exchange integer."""
    return round(moment.timestamp() * 1000)


def rate_of(text: str) -> Decimal:
    """A funding rate as the exchange writes it; a contract without funding has an empty one, which is 0.

    Raises:
        ValueError: It is not a finite number.
    """
    try:
        rate = Decimal(text or "0")
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    require_finite(rate)
    return rate


class Candles(msgspec.Struct, frozen=True, kw_only=True):
    """Closed candles of one symbol and timeframe, oldest first, all arrays of one length; volume in base asset."""

    symbol: str
    timeframe: Timeframe
    open_ms: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.close)

    @property
    def closed_ms(self) -> int:
        """Where the newest closed candle ended and the next began; 0 where there is none."""
        return int(self.open_ms[-1]) + self.timeframe.ms if len(self) else 0


class ClosedCandle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One candle that closed, as a stream tells it; volume in base asset."""

    symbol: str
    timeframe: Timeframe
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    """The rolling 24 h of one symbol; change in percent, quote volume in USDT."""

    symbol: str
    last: float
    change_percent: float
    quote_volume: float
    received_ms: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's mark price at `at_ms` of market time, with the funding that comes next."""

    symbol: str
    price: Decimal
    at_ms: int
    funding_rate: Decimal
    next_funding_ms: int
    received_ms: int


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The best levels of the order book, best first, as (price, quantity in base asset)."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    at_ms: int
    received_ms: int

    @property
    def mid(self) -> Decimal | None:
        """Half-way between best bid and best ask; None where a side is empty."""
        return (self.bids[0][0] + self.asks[0][0]) / 2 if self.bids and self.asks else None


class BookTop(msgspec.Struct, frozen=True, kw_only=True):
    """The best bid and ask of a symbol at `at_ms`: prices in USDT, quantities in base asset."""

    symbol: str
    bid: float
    bid_quantity: float
    ask: float
    ask_quantity: float
    at_ms: int


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One public trade; `sell` means that the aggressor sold."""

    price: float
    quantity: float
    sell: bool
    at_ms: int


class ForcedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One liquidation as the stream told it; `side` is the position that was liquidated, price and quantity of the order.

    `fill_price` is the average at which it was filled, None where that was not told.
    """

    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    at_ms: int
    fill_price: Decimal | None = None

    @property
    def usd(self) -> float:
        """Order price times quantity. Source: the first system's whale detector (q x p, not the average price)."""
        return float(self.price * self.quantity)


class Positioning(msgspec.Struct, frozen=True, kw_only=True):
    """How others are positioned in a symbol; None where the exchange did not say.

    `open_interest_change` is the share by which the open interest grew, or with a minus shrank, in the newest 5 minutes published.
    """

    funding_ratio: float | None = None
    long_short_ratio: float | None = None
    open_interest_change: float | None = None


class MarkBar(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of the mark price, from its opening."""

    open_ms: int
    close_ms: int
    open: Decimal
    high: Decimal
    low: Decimal


class Funding(msgspec.Struct, frozen=True, kw_only=True):
    """One funding settlement; the mark is None where the exchange did not record it."""

    at_ms: int
    rate: Decimal
    mark: Decimal | None
