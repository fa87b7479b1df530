"""The rows that a booking makes: a position from an entry's fills, an adopted order, fills as they are kept and as the rules see them.

Nothing here writes; `booking` does, in the caller's transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from msgspec import structs

from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.position import CloseReason, PositionStatus, Trade, booked, liquidation_of, replay
from orchestrator.errors import Conflict
from orchestrator.ports import FillRecord, OrderRecord, PositionRecord, UnitOfWork
from shared.enums import Mode
from shared.execution import ExecutionReport, Fill, Protection
from shared.margin import ZERO, bracket_for


def with_protection(position: PositionRecord, protection: Protection | None) -> PositionRecord:
    """The position with what rests for it at the exchange; unchanged where none is told, or none rests there."""
    if protection is None or not protection.stop_order_id:
        return position
    return structs.replace(
        position,
        stop_loss=protection.stop_loss,
        take_profit=protection.take_profit or position.take_profit,
        stop_order_id=protection.stop_order_id,
        target_order_id=protection.target_order_id or None,
        trailing_order_id=protection.trailing_order_id or None,
        protected_at=protection.confirmed_at,
    )


def adopted(
    position: PositionRecord, client_order_id: str, fills: Sequence[Fill], reason: CloseReason, now: datetime
) -> OrderRecord:
    """The row of an order of the exchange that nobody here sent, the same one whoever makes it."""
    return OrderRecord(
        id=uuid5(position.user_id, client_order_id),
        client_order_id=client_order_id,
        user_id=position.user_id,
        signal_id=position.signal_id,
        position_id=position.id,
        purpose=OrderPurpose.CLOSE,
        status=OrderStatus.FILLED,
        symbol=position.symbol,
        side=position.side,
        mode=position.mode,
        dry_run=position.dry_run,
        margin=position.margin,
        notional=position.size * position.entry_price,
        leverage=position.leverage,
        quantity=sum((fill.quantity for fill in fills), ZERO),
        close_reason=reason,
        trace_id=uuid5(position.id, client_order_id).hex,
        created_at=now,
        settled_at=now,
    )


async def opened(unit: UnitOfWork, order: OrderRecord, report: ExecutionReport, position_id: UUID) -> PositionRecord:
    """The position that a filled entry opens.

    Raises:
        Conflict: The order names no signal.
    """
    signal = await unit.signals.get(order.signal_id) if order.signal_id else None
    if signal is None:
        raise Conflict(f"order {order.client_order_id} names no signal")
    holding = replay(order.side, [trade_told(fill, opens=True) for fill in report.fills])
    tier = bracket_for(signal.instrument.brackets, holding.opened_size * holding.entry_price)
    margin = booked(report.margin if report.margin is not None else holding.opened_size * holding.entry_price / order.leverage)
    at = max(fill.at for fill in report.fills)
    protection = report.protection
    position = PositionRecord(
        id=position_id,
        user_id=order.user_id,
        signal_id=order.signal_id,
        symbol=order.symbol,
        side=order.side,
        mode=order.mode,
        dry_run=report.dry_run and order.mode is Mode.REAL,
        status=PositionStatus.OPEN,
        size=holding.size,
        opened_size=holding.opened_size,
        entry_price=holding.entry_price,
        stop_loss=protection.stop_loss if protection else order.stop_loss,
        take_profit=protection.take_profit if protection else order.take_profit,
        leverage=report.leverage or order.leverage,
        margin=margin,
        isolated_margin=margin,
        maintenance_ratio=report.maintenance_ratio if report.maintenance_ratio is not None else tier.maintenance_ratio,
        maintenance_amount=report.maintenance_amount if report.maintenance_amount is not None else tier.cum,
        liquidation_fee_ratio=signal.instrument.liquidation_fee_ratio,
        liquidation_price=None,
        tick_size=signal.instrument.tick_size,
        step_size=signal.instrument.step_size,
        realized_pnl=ZERO,
        fees=holding.fees,
        funding=ZERO,
        judged_until=at,
        funded_until=at,
        unprotected_seconds=report.unprotected_seconds,
        opened_at=at,
    )
    position = structs.replace(position, liquidation_price=liquidation_of(position, margin))
    return with_protection(position, protection)


def fill_record(
    order: OrderRecord, fill: Fill, position_id: UUID, *, opens: bool, realized: Decimal = ZERO, liquidation_fee: Decimal = ZERO
) -> FillRecord:
    """A fill as it is kept."""
    return FillRecord(
        order_id=order.id,
        position_id=position_id,
        user_id=order.user_id,
        trade_id=fill.trade_id,
        mode=order.mode,
        opens=opens,
        price=fill.price,
        quantity=fill.quantity,
        fee=booked(fill.fee),
        realized_pnl=realized,
        liquidation_fee=liquidation_fee,
        at=fill.at,
        trace_id=order.trace_id,
    )


def trade_of(fill: FillRecord, position: PositionRecord) -> Trade:
    """A kept fill as the rules see it; at the exchange its own result counts, on paper ours."""
    return Trade(
        trade_id=fill.trade_id,
        opens=fill.opens,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        at=fill.at,
        realized_pnl=None if position.simulated else fill.realized_pnl,
    )


def trade_told(fill: Fill, *, opens: bool = False) -> Trade:
    """A fill of a report as the rules see it."""
    return Trade(
        trade_id=fill.trade_id,
        opens=opens,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        at=fill.at,
        realized_pnl=fill.realized_pnl,
    )


def reason_of(order: OrderRecord, report: ExecutionReport) -> CloseReason:
    """Why the position was closed: a liquidation wherever the venue made it one, whoever asked for the close."""
    if report.liquidation_fee > 0:
        return CloseReason.LIQUIDATION
    return order.close_reason or CloseReason.MANUAL
