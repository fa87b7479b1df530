"""The exchange's rows as it writes them, and how each becomes a value of the core.

Source: Binance USDⓈ-M REST pages "Kline", "24hr Ticker", "Mark Price", "Order Book", "Recent Trades", "Exchange Information" (2026-05).
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from engine.core.instrument import InstrumentRules
from engine.core.market import Book, Funding, Mark, MarkBar, Ticker, Trade, rate_of
from shared.wire import require_finite, require_positive


class KlineRow(msgspec.Struct, array_like=True, gc=False):
    """One candle for features; what follows the closing time is not read."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_ms: int


class MarkKlineRow(msgspec.Struct, array_like=True, gc=False):
    """One candle of the mark price, for money."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    ignored: str
    close_ms: int

    def __post_init__(self) -> None:
        require_positive(self.open, self.high, self.low, self.close)


class TickerRow(msgspec.Struct, rename="camel", gc=False):
    """A row of ticker/24hr."""

    symbol: str
    last_price: float
    price_change_percent: float
    quote_volume: float


class PremiumRow(msgspec.Struct, rename="camel", gc=False):
    """A row of premiumIndex; a quarterly future has no funding rate."""

    symbol: str
    mark_price: Decimal
    last_funding_rate: str
    next_funding_time: int
    time: int

    def __post_init__(self) -> None:
        require_positive(self.mark_price)
        rate_of(self.last_funding_rate)


class DepthRow(msgspec.Struct):
    """The reply of depth."""

    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]
    at_ms: int = msgspec.field(name="T", default=0)

    def __post_init__(self) -> None:
        for price, quantity in (*self.bids, *self.asks):
            require_positive(price)
            require_finite(quantity)


class TradeRow(msgspec.Struct, gc=False):
    """A row of trades."""

    price: float
    qty: float
    time: int
    sell: bool = msgspec.field(name="isBuyerMaker")


class RatioRow(msgspec.Struct, rename="camel"):
    """A row of topLongShortAccountRatio; `timestamp` is market milliseconds of what was counted."""

    long_short_ratio: float
    timestamp: int


class OpenInterestRow(msgspec.Struct, rename="camel"):
    """A row of openInterestHist, base asset; `timestamp` is market milliseconds of what was counted."""

    sum_open_interest: float
    timestamp: int


class FundingRow(msgspec.Struct, rename="camel"):
    """A row of fundingRate; markPrice may be absent or empty for old rows."""

    funding_time: int
    funding_rate: Decimal
    mark_price: str = ""

    def __post_init__(self) -> None:
        require_finite(self.funding_rate)
        rate_of(self.mark_price)


class SymbolRow(msgspec.Struct, rename="camel"):
    """A row of exchangeInfo's symbols; fields that a recording lacks have defaults no looser than the exchange's."""

    symbol: str
    status: str
    contract_type: str
    base_asset: str
    quote_asset: str
    filters: list[dict[str, Any]]
    liquidation_fee: Decimal = Decimal("0.015")
    market_take_bound: Decimal = Decimal("0.05")


class RateLimitRow(msgspec.Struct, rename="camel"):
    """A limit of exchangeInfo."""

    rate_limit_type: str = ""
    interval: str = ""
    limit: int | None = None


class ExchangeInfo(msgspec.Struct, rename="camel"):
    """The reply of exchangeInfo."""

    symbols: list[SymbolRow]
    rate_limits: list[RateLimitRow] = []

    @property
    def weight_limit(self) -> int | None:
        """Request weight a minute; None where it names none."""
        named = (row.limit for row in self.rate_limits if (row.rate_limit_type, row.interval) == ("REQUEST_WEIGHT", "MINUTE"))
        return next(named, None)


def ticker_of(row: TickerRow, received_ms: int) -> Ticker:
    """A 24 h ticker."""
    return Ticker(
        symbol=row.symbol,
        last=row.last_price,
        change_percent=row.price_change_percent,
        quote_volume=row.quote_volume,
        received_ms=received_ms,
    )


def mark_of(row: PremiumRow, received_ms: int) -> Mark:
    """A mark price with its funding."""
    return Mark(
        symbol=row.symbol,
        price=row.mark_price,
        at_ms=row.time,
        funding_rate=rate_of(row.last_funding_rate),
        next_funding_ms=row.next_funding_time,
        received_ms=received_ms,
    )


def book_of(symbol: str, row: DepthRow, received_ms: int) -> Book:
    """The best levels."""
    return Book(symbol=symbol, bids=tuple(row.bids), asks=tuple(row.asks), at_ms=row.at_ms, received_ms=received_ms)


def trade_of(row: TradeRow) -> Trade:
    """A public trade; the buyer being the maker means that the aggressor sold."""
    return Trade(price=row.price, quantity=row.qty, sell=row.sell, at_ms=row.time)


def mark_bar_of(row: MarkKlineRow) -> MarkBar:
    """A minute of the mark price; its closing time is the next minute's opening."""
    return MarkBar(open_ms=row.open_ms, close_ms=row.close_ms + 1, open=row.open, high=row.high, low=row.low)


def funding_of(row: FundingRow) -> Funding:
    """A settlement; exchanges stamp it some milliseconds late, the rounding is the caller's."""
    return Funding(at_ms=row.funding_time, rate=row.funding_rate, mark=rate_of(row.mark_price) or None)


def rules_of(row: SymbolRow) -> InstrumentRules | None:
    """A symbol's rules; None where a filter that every contract has is absent, so that one odd row never hides the others."""
    try:
        return _rules(row)
    except (KeyError, InvalidOperation):
        return None


def _rules(row: SymbolRow) -> InstrumentRules:
    filters = {str(entry["filterType"]): entry for entry in row.filters}
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    market_lot = filters.get("MARKET_LOT_SIZE", lot)
    percent = filters.get("PERCENT_PRICE", {"multiplierUp": "1.05", "multiplierDown": "0.95"})
    return InstrumentRules(
        symbol=row.symbol,
        status=row.status,
        contract_type=row.contract_type,
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        tick_size=_number(price, "tickSize"),
        min_price=_number(price, "minPrice"),
        max_price=_number(price, "maxPrice"),
        step_size=max(_number(lot, "stepSize"), _number(market_lot, "stepSize")),
        min_quantity=_number(lot, "minQty"),
        max_quantity=_number(lot, "maxQty"),
        market_min_quantity=_number(market_lot, "minQty"),
        market_max_quantity=_number(market_lot, "maxQty"),
        min_notional=_number(filters.get("MIN_NOTIONAL", {"notional": "5"}), "notional"),
        price_multiplier_up=_number(percent, "multiplierUp"),
        price_multiplier_down=_number(percent, "multiplierDown"),
        liquidation_fee_ratio=row.liquidation_fee,
        market_take_bound=row.market_take_bound,
    )


def _number(entry: Mapping[str, Any], name: str) -> Decimal:
    return Decimal(str(entry[name])).normalize() + 0
