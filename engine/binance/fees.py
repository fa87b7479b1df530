"""A trade's fee in USDT, whatever coin it was paid in.

Source: Binance FAQ, "USDⓈ-M Futures trading fees": with BNB chosen for fees, `commissionAsset` is BNB.
"""

from decimal import Decimal
from typing import Final, Protocol

from engine.binance.readings import moment
from engine.binance.rows import TradeRow
from engine.core.market import Mark
from engine.errors import ExchangeError, VenueAway
from shared.execution import Fill, VenueTrade

QUOTE: Final = "USDT"


class Marks(Protocol):
    """The part of MarketData that a fee needs."""

    async def mark(self, symbol: str) -> Mark:
        """The mark price; raises an ExchangeError."""
        ...


class Fees:
    """Turns fees into USDT at the mark price of the moment.

    Args:
        market: Where that price comes from.
    """

    def __init__(self, market: Marks) -> None:
        self._market = market

    async def fill_of(self, row: TradeRow) -> Fill:
        """A trade as a fill."""
        return Fill(
            trade_id=str(row.id),
            price=row.price,
            quantity=row.qty,
            fee=await self._in_quote(row),
            maker=row.maker,
            at=moment(row.time),
            realized_pnl=row.realized_pnl,
        )

    async def trade_of(self, row: TradeRow, client_order_id: str) -> VenueTrade:
        """A trade with its order's client id."""
        return VenueTrade(
            symbol=row.symbol,
            trade_id=str(row.id),
            venue_order_id=str(row.order_id),
            client_order_id=client_order_id,
            order_side=row.side,
            price=row.price,
            quantity=row.qty,
            fee=await self._in_quote(row),
            realized_pnl=row.realized_pnl,
            maker=row.maker,
            at=moment(row.time),
        )

    async def _in_quote(self, row: TradeRow) -> Decimal:
        if row.commission_asset == QUOTE or not row.commission:
            return row.commission
        try:
            mark = await self._market.mark(row.commission_asset + QUOTE)
        except ExchangeError as error:
            raise VenueAway(f"no price for a fee in {row.commission_asset}") from error
        return row.commission * mark.price
