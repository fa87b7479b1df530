"""The exchange's rules of one symbol, as Decimals: what may be traded and in which steps.

Read from exchangeInfo by `engine.candles`; screen, verdict and execution decide with it.
"""

from decimal import Decimal

import msgspec


class InstrumentRules(msgspec.Struct, frozen=True, kw_only=True):
    """One row of exchangeInfo. Prices in USDT, quantities in base asset; market_ fields bound market orders.

    Source: Binance USDⓈ-M "Exchange Information" (2026-05): PRICE_FILTER, LOT_SIZE, MARKET_LOT_SIZE, MIN_NOTIONAL, PERCENT_PRICE.
    """

    symbol: str
    status: str
    contract_type: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    min_price: Decimal
    max_price: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_min_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    price_multiplier_up: Decimal
    price_multiplier_down: Decimal
    liquidation_fee_ratio: Decimal
    market_take_bound: Decimal

    @property
    def tradable(self) -> bool:
        """Whether it belongs to our universe: a USDT perpetual that trades now, neither settling nor quarterly, with real steps.

        Contracts that are only announced are listed with a tick of 0.
        """
        ours = self.status == "TRADING" and self.contract_type == "PERPETUAL" and self.quote_asset == "USDT"
        return ours and self.tick_size > 0 and self.step_size > 0
