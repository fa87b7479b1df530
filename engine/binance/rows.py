"""The signed replies as the exchange writes them; money is Decimal from its text. `readings` makes values of them.

Source: Binance USDⓈ-M account, trade and algo order pages (read 2026-11).
"""

from decimal import Decimal
from typing import Annotated, Final

import msgspec

from shared.execution import OrderSide

ZERO: Final = Decimal(0)

LARGEST: Final = 30
"""Digits before the point: more are no amount of money and no quantity."""

type Moment = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Exchange milliseconds, within the calendar."""


class Row(msgspec.Struct, rename="camel"):
    """What every reply has in common: a number that is none, or has no end, does not read. NaN decides nothing."""

    def __post_init__(self) -> None:
        numbers = (getattr(self, name) for name in self.__struct_fields__)
        if any(isinstance(one, Decimal) and not (one.is_finite() and one.adjusted() < LARGEST) for one in numbers):
            raise ValueError("a number that no exchange means")


class BalanceRow(Row):
    """A row of GET /fapi/v3/balance."""

    asset: str
    balance: Decimal
    available_balance: Decimal


class ConfigReply(Row):
    """The reply of GET /fapi/v1/accountConfig."""

    dual_side_position: bool
    multi_assets_margin: bool


class PositionRow(Row):
    """A row of GET /fapi/v3/positionRisk."""

    symbol: str
    position_side: str
    position_amt: Decimal
    entry_price: Decimal
    mark_price: Decimal
    un_realized_profit: Decimal
    liquidation_price: Decimal
    isolated_wallet: Decimal = ZERO
    position_initial_margin: Decimal = ZERO


class SymbolConfigRow(Row):
    """A row of GET /fapi/v1/symbolConfig."""

    symbol: str
    leverage: int
    margin_type: str


class BracketRow(Row):
    """One tier of GET /fapi/v1/leverageBracket, whose numbers are numbers."""

    initial_leverage: int
    notional_cap: Decimal
    notional_floor: Decimal
    maint_margin_ratio: Decimal
    cum: Decimal


class BracketsRow(Row):
    """A symbol's tiers."""

    symbol: str
    brackets: list[BracketRow]


class LeverageReply(Row):
    """The reply of POST /fapi/v1/leverage."""

    symbol: str
    leverage: int


class OrderRow(Row):
    """A regular order; `time` is only in the replies of GET, and avgPrice may be nowhere."""

    order_id: int
    symbol: str
    status: str
    client_order_id: str
    type: str
    side: OrderSide
    orig_qty: Decimal
    executed_qty: Decimal
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    orig_type: str = ""
    position_side: str = "BOTH"
    reduce_only: bool = False
    close_position: bool = False
    time: Moment = 0
    update_time: Moment = 0


class AlgoRow(Row):
    """A conditional order; numbers that do not apply come as "", "0" or null."""

    algo_id: int
    client_algo_id: str
    order_type: str
    symbol: str
    side: OrderSide
    algo_status: str
    create_time: Moment
    position_side: str = "BOTH"
    quantity: str | None = ""
    trigger_price: str | None = ""
    price: str | None = ""
    activate_price: str | None = ""
    close_position: bool = False
    reduce_only: bool = False
    actual_order_id: str | int | None = ""
    actual_qty: str | None = ""
    trigger_time: Moment = 0

    @property
    def child(self) -> str:
        """The regular order that it became; empty before."""
        return str(self.actual_order_id or "").strip("0") and str(self.actual_order_id)


class TradeRow(Row):
    """A row of GET /fapi/v1/userTrades."""

    id: int
    symbol: str
    order_id: int
    side: OrderSide
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    realized_pnl: Decimal
    maker: bool
    time: Moment


class IncomeRow(Row):
    """A row of GET /fapi/v1/income."""

    income_type: str
    income: Decimal
    asset: str
    time: Moment
    tran_id: str | int
    symbol: str | None = ""
    trade_id: str | int | None = ""


class ListenKeyReply(Row):
    """The reply of POST /fapi/v1/listenKey."""

    listen_key: str


class RestrictionsReply(Row):
    """The reply of GET /sapi/v1/account/apiRestrictions."""

    ip_restrict: bool | None = None
    enable_withdrawals: bool | None = None
    enable_futures: bool | None = None


class TimeReply(Row):
    """The reply of GET /fapi/v1/time."""

    server_time: Moment
