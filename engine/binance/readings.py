"""What the exchange's rows say, as values of the wire: one function a row.

Source: Binance USDⓈ-M account, trade and algo order pages (read 2026-11).
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from engine.binance.rows import ZERO, AlgoRow, BalanceRow, BracketsRow, ConfigReply, IncomeRow, OrderRow, PositionRow
from engine.core.order import Wallet
from engine.ports import AccountModes
from shared.enums import OrderKind, OrderState, PositionMode, Side
from shared.execution import Income, VenueOrder, VenuePosition
from shared.margin import Bracket

KINDS: Final[dict[str, OrderKind]] = {
    "MARKET": OrderKind.MARKET,
    "LIMIT": OrderKind.LIMIT,
    "STOP": OrderKind.STOP,
    "STOP_MARKET": OrderKind.STOP,
    "TAKE_PROFIT": OrderKind.TARGET,
    "TAKE_PROFIT_MARKET": OrderKind.TARGET,
    "TRAILING_STOP_MARKET": OrderKind.TRAILING,
}

TRIGGERED: Final = frozenset({"TRIGGERING", "TRIGGERED", "FINISHED"})
"""A conditional order whose price was met."""

WORKING: Final = frozenset({"NEW", "PARTIALLY_FILLED", "PENDING_CANCEL", "NEW_INSURANCE", "NEW_ADL", "TRIGGERING", "TRIGGERED"})
"""Regular and conditional. FILLED is filled; a FINISHED conditional order is as filled as its child; every other word is an end."""


def wallet_of(found: list[BalanceRow]) -> Wallet:
    """The USDT of an account; an account that never had any has none."""
    usdt = next((row for row in found if row.asset == "USDT"), None)
    if usdt is None:
        return Wallet(total=ZERO, free=ZERO)
    return Wallet(total=usdt.balance, free=max(ZERO, usdt.available_balance))


def modes_of(config: ConfigReply) -> AccountModes:
    """How an account is set."""
    return AccountModes(
        position=PositionMode.HEDGE if config.dual_side_position else PositionMode.ONE_WAY,
        multi_assets=config.multi_assets_margin,
    )


def position_of(row: PositionRow, leverage: int) -> VenuePosition:
    """A position; its margin is what was put up when isolated, else its initial margin."""
    return VenuePosition(
        symbol=row.symbol,
        side=_side_of(row),
        position_side=row.position_side,
        quantity=abs(row.position_amt),
        entry_price=row.entry_price,
        mark_price=row.mark_price,
        leverage=Decimal(leverage),
        margin=row.isolated_wallet or row.position_initial_margin,
        unrealized_pnl=row.un_realized_profit,
        liquidation_price=row.liquidation_price or None,
    )


def _side_of(row: PositionRow) -> Side:
    if row.position_side in (Side.LONG, Side.SHORT):
        return Side(row.position_side)
    return Side.LONG if row.position_amt > 0 else Side.SHORT


def brackets_of(row: BracketsRow) -> list[Bracket]:
    """A symbol's tiers, lowest first."""
    tiers = sorted(row.brackets, key=lambda tier: tier.notional_floor)
    return [
        Bracket(
            floor=tier.notional_floor,
            cap=tier.notional_cap,
            max_leverage=tier.initial_leverage,
            maintenance_ratio=tier.maint_margin_ratio,
            cum=tier.cum,
        )
        for tier in tiers
    ]


def order_of(row: OrderRow) -> VenueOrder:
    """A regular order."""
    return VenueOrder(
        symbol=row.symbol,
        client_order_id=row.client_order_id,
        venue_order_id=str(row.order_id),
        kind=KINDS.get(row.type, OrderKind.OTHER),
        conditional=False,
        state=_state_of(row.status),
        order_side=row.side,
        position_side=row.position_side,
        reduce_only=row.reduce_only,
        close_position=row.close_position,
        quantity=row.orig_qty,
        filled_quantity=row.executed_qty,
        price=row.price or None,
        trigger_price=row.stop_price or None,
        created_at=moment(row.time or row.update_time),
    )


def condition_of(row: AlgoRow, child: VenueOrder | None = None) -> VenueOrder:
    """A conditional order, which is as filled as the regular order that it became.

    Args:
        row: As the algo service tells it.
        child: That order; None where it has none, or where it could not be read.
    """
    trigger = number(row.activate_price) if row.order_type == "TRAILING_STOP_MARKET" else number(row.trigger_price)
    quantity, filled = number(row.quantity), child.filled_quantity if child else number(row.actual_qty)
    return VenueOrder(
        symbol=row.symbol,
        client_order_id=row.client_algo_id,
        venue_order_id=str(row.algo_id),
        kind=KINDS.get(row.order_type, OrderKind.OTHER),
        conditional=True,
        state=child.state if child else _finished(row, filled),
        order_side=row.side,
        position_side=row.position_side,
        reduce_only=row.reduce_only,
        close_position=row.close_position,
        quantity=quantity,
        filled_quantity=filled,
        price=number(row.price) or None,
        trigger_price=trigger or None,
        triggered=row.algo_status in TRIGGERED,
        child_order_id=row.child,
        created_at=moment(row.create_time),
    )


def _finished(row: AlgoRow, filled: Decimal) -> OrderState:
    if row.algo_status == "FINISHED":
        return OrderState.FILLED if filled else OrderState.ENDED
    return _state_of(row.algo_status)


def _state_of(status: str) -> OrderState:
    if status in WORKING:
        return OrderState.WORKING
    return OrderState.FILLED if status == "FILLED" else OrderState.ENDED


def income_of(row: IncomeRow) -> Income:
    """One booking. A tranId is unique within its kind only, and one trade books a fee and a profit: the id names all of it."""
    symbol, trade = row.symbol or "", str(row.trade_id or "")
    return Income(
        income_id=f"{row.income_type}:{row.tran_id}:{symbol}:{trade}",
        kind=row.income_type,
        symbol=symbol,
        amount=row.income,
        asset=row.asset,
        trade_id=trade,
        at=moment(row.time),
    )


def moment(milliseconds: int) -> datetime:
    """An exchange integer as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(at: datetime) -> int:
    """An aware time as an exchange integer, rounded down."""
    return int(at.timestamp() * 1000)


def number(text: str | None) -> Decimal:
    """A number that may be absent; 0 then."""
    try:
        found = Decimal(text or "0")
    except InvalidOperation:
        return ZERO
    return found if found.is_finite() else ZERO
