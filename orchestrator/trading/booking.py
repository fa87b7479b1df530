"""What a report of the engine does to the rows: fills, position, ledger, claim and order, all in the caller's transaction.

The only place where money state changes, and it changes only from fills. The caller holds the user's row; an order that was booked
before is found so and nothing happens twice.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from msgspec import structs

from orchestrator.core.answer import trades_of
from orchestrator.core.barriers import Payment
from orchestrator.core.ledger import Entry, entries_of_fill, entry_of_funding
from orchestrator.core.order import UNDER_WAY, OrderPurpose, OrderStatus
from orchestrator.core.position import (
    LIVE,
    CloseReason,
    PositionStatus,
    Trade,
    after_close,
    booked,
    liquidation_of,
    replay,
)
from orchestrator.errors import Conflict
from orchestrator.ports import (
    FillRecord,
    FundingRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    Trader,
    UnitOfWork,
)
from shared.enums import Mode
from shared.execution import ExecutionReport, Fill, Protection
from shared.margin import ZERO, bracket_for


async def book_wallet(unit: UnitOfWork, trader: Trader, mode: Mode, entries: Sequence[Entry], position_id: UUID | None) -> Trader:
    """Books entries into the ledger and the wallet, each source once.

    Returns:
        The trader with the new balance.
    """
    before = trader.paper_balance if mode is Mode.PAPER else await unit.ledger.total(trader.id, mode)
    balance = before
    for entry in entries:
        record = LedgerRecord(
            user_id=trader.id,
            mode=mode,
            at=entry.at,
            kind=entry.kind,
            amount=entry.amount,
            balance_after=balance + entry.amount,
            source=entry.source,
            position_id=position_id,
        )
        if await unit.ledger.add(record):
            balance += entry.amount
    if mode is Mode.PAPER and balance != before:
        await unit.traders.set_paper_balance(trader.id, balance)
        return structs.replace(trader, paper_balance=balance)
    return trader


async def book_entry(
    unit: UnitOfWork,
    trader: Trader,
    order_id: UUID,
    report: ExecutionReport,
    position_id: UUID,
    now: datetime,
    *,
    proven: bool = False,
    **also: Any,
) -> PositionRecord | None:
    """Opens the position that a filled entry made; None when the order was settled already.

    Args:
        unit: Holding the trader's row.
        trader: The locked row.
        order_id: Of the entry.
        report: FILLED, with at least one fill, and an answer to this order.
        position_id: A new id.
        now: Market time.
        proven: The exchange shows its trades: it opens although it was given up, and the caller has claimed its symbol anew.
        also: More fields of the order to set.

    Where the engine gave the entry up because its stop was not confirmed, that close is booked with it.

    Raises:
        Conflict: The order's row moved although the trader's row is held.
    """
    order = await unit.orders.get(order_id)
    if order is None or not (order.status in UNDER_WAY or (proven and order.status is OrderStatus.REFUSED)):
        return None
    position = await _opened(unit, order, report, position_id)
    await unit.positions.add(position)
    entries: list[Entry] = []
    for fill in trades_of(report):
        realized = fill.realized_pnl or ZERO
        if await unit.fills.add(_fill_record(order, fill, position.id, opens=True, realized=realized)):
            entries += entries_of_fill(
                _origin(position, order), fill.trade_id, fill.at, realized_pnl=realized, fee=fill.fee, liquidation_fee=ZERO
            )
    trader = await book_wallet(unit, trader, order.mode, entries, position.id)
    await _advance(unit, order, OrderStatus.FILLED, position_id=position.id, quantity=position.size, settled_at=now, **also)
    if not report.closing_fills:
        return position
    return await book_exit(unit, trader, position, report.closing_order_id, report.closing_fills, CloseReason.UNPROTECTED, now)


async def book_close(
    unit: UnitOfWork, trader: Trader, order_id: UUID, report: ExecutionReport, now: datetime
) -> tuple[PositionRecord, Decimal] | None:
    """Reduces or closes the position of a filled close order; None when the order was settled already.

    Returns:
        The position after it, and the quantity closed by this order.

    Raises:
        Conflict: A row moved although the trader's row is held.
    """
    order = await unit.orders.get(order_id)
    if order is None or order.status not in UNDER_WAY or order.position_id is None:
        return None
    position = await unit.positions.get(order.position_id)
    if position is None or position.status not in LIVE:
        return None
    after = await _reduced(
        unit, trader, order, position, trades_of(report), _reason(order, report), liquidation_fee=report.liquidation_fee
    )
    changed = await change_position(unit, position, with_protection(after, report.protection))
    if changed.status not in LIVE:
        await unit.claims.release(trader.id, position.symbol, position.mode)
    await _advance(unit, order, OrderStatus.FILLED, quantity=report.filled_quantity, settled_at=now)
    return changed, report.filled_quantity


async def book_exit(
    unit: UnitOfWork,
    trader: Trader,
    position: PositionRecord,
    client_order_id: str,
    fills: Sequence[Fill],
    reason: CloseReason,
    now: datetime,
) -> PositionRecord:
    """Reduces or closes a position by an order of the exchange that nobody here sent as a close: a stop, a target, a liquidation, a hand.

    The order is adopted as a row of its own, the same one for the same id; trades that are booked already count once. A close of ours that
    is under way stays so.

    Args:
        unit: Holding the trader's row.
        trader: The locked row.
        position: Live, as committed or as this transaction left it.
        client_order_id: Of the exchange's order.
        fills: At least one, together at most what is left.
        reason: Why it was closed.
        now: Market time.

    Raises:
        Conflict: A row moved although the trader's row is held.
    """
    order = await unit.orders.named(trader.id, client_order_id)
    if order is None:
        order = _adopted(position, client_order_id, fills, reason, now)
        await unit.orders.add(order)
    elif order.status is not OrderStatus.FILLED:
        order = await _advance(unit, order, OrderStatus.FILLED, settled_at=now, position_id=position.id)
    after = await _reduced(unit, trader, order, position, fills, reason)
    if after.status is PositionStatus.OPEN:
        after = structs.replace(after, status=position.status, close_reason=position.close_reason)
    changed = await change_position(unit, position, after)
    if changed.status not in LIVE:
        await unit.claims.release(trader.id, position.symbol, position.mode)
    return changed


async def book_funding(unit: UnitOfWork, trader: Trader, position: PositionRecord, payments: Sequence[Payment]) -> Trader:
    """Books funding settlements that barriers found, each moment of a position once; the trader with the new balance."""
    entries: list[Entry] = []
    for payment in payments:
        record = FundingRecord(
            position_id=position.id,
            at=payment.at,
            user_id=trader.id,
            mode=position.mode,
            rate=payment.rate,
            mark_price=payment.mark,
            quantity=payment.quantity,
            amount=payment.amount,
        )
        if await unit.fundings.add(record) and payment.amount != ZERO:
            entries.append(entry_of_funding(str(position.id), payment.at, payment.amount))
    return await book_wallet(unit, trader, position.mode, entries, position.id)


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


async def change_position(unit: UnitOfWork, before: PositionRecord, after: PositionRecord) -> PositionRecord:
    """Writes what differs, by compare-and-set.

    Raises:
        Conflict: The row moved since it was read.
    """
    changes = {
        name: getattr(after, name)
        for name in PositionRecord.__struct_fields__
        if name != "version" and getattr(after, name) != getattr(before, name)
    }
    changed = await unit.positions.change(before, **changes)
    if changed is None:
        raise Conflict(f"position {before.id} moved under a compare-and-set")
    return changed


async def _reduced(
    unit: UnitOfWork,
    trader: Trader,
    order: OrderRecord,
    position: PositionRecord,
    fills: Sequence[Fill],
    reason: CloseReason,
    *,
    liquidation_fee: Decimal = ZERO,
) -> PositionRecord:
    """Books closing fills and what they did to the wallet; the position after them, not yet written."""
    before = await unit.fills.of_position(position.id)
    holding = replay(position.side, [*(_trade(fill, position) for fill in before), *(_wire_trade(fill) for fill in fills)])
    if holding.size < 0:
        raise Conflict(f"order {order.client_order_id} would close more of {order.symbol} than there is")
    entries: list[Entry] = []
    for number, fill in enumerate(fills, start=1):
        fee = booked(liquidation_fee) if number == len(fills) else ZERO
        realized = holding.realized[fill.trade_id]
        if await unit.fills.add(_fill_record(order, fill, position.id, opens=False, realized=realized, liquidation_fee=fee)):
            entries += entries_of_fill(
                _origin(position, order), fill.trade_id, fill.at, realized_pnl=realized, fee=fill.fee, liquidation_fee=fee
            )
    await book_wallet(unit, trader, order.mode, entries, position.id)
    return after_close(
        position,
        holding,
        liquidation_fees=position.fees - sum((fill.fee for fill in before), ZERO) + liquidation_fee,
        reason=reason,
        at=max(fill.at for fill in fills),
    )


def _adopted(
    position: PositionRecord, client_order_id: str, fills: Sequence[Fill], reason: CloseReason, now: datetime
) -> OrderRecord:
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


def _origin(position: PositionRecord, order: OrderRecord) -> str:
    """What a trade id is unique in: at the exchange its symbol, so that the income row of the same trade is the same entry."""
    return order.client_order_id if position.simulated else position.symbol


async def _advance(unit: UnitOfWork, order: OrderRecord, status: OrderStatus, **changes: Any) -> OrderRecord:
    advanced = await unit.orders.advance(order, status, **changes)
    if advanced is None:
        raise Conflict(f"order {order.client_order_id} moved under a compare-and-set")
    return advanced


async def _opened(unit: UnitOfWork, order: OrderRecord, report: ExecutionReport, position_id: UUID) -> PositionRecord:
    signal = await unit.signals.get(order.signal_id) if order.signal_id else None
    if signal is None:
        raise Conflict(f"order {order.client_order_id} names no signal")
    holding = replay(order.side, [_wire_trade(fill, opens=True) for fill in report.fills])
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


def _reason(order: OrderRecord, report: ExecutionReport) -> CloseReason:
    """Why the position was closed: a liquidation wherever the venue made it one, whoever asked for the close."""
    if report.liquidation_fee > 0:
        return CloseReason.LIQUIDATION
    return order.close_reason or CloseReason.MANUAL


def _fill_record(
    order: OrderRecord, fill: Fill, position_id: UUID, *, opens: bool, realized: Decimal = ZERO, liquidation_fee: Decimal = ZERO
) -> FillRecord:
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


def _trade(fill: FillRecord, position: PositionRecord) -> Trade:
    return Trade(
        trade_id=fill.trade_id,
        opens=fill.opens,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        at=fill.at,
        realized_pnl=None if position.simulated else fill.realized_pnl,
    )


def _wire_trade(fill: Fill, *, opens: bool = False) -> Trade:
    return Trade(
        trade_id=fill.trade_id,
        opens=opens,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        at=fill.at,
        realized_pnl=fill.realized_pnl,
    )
