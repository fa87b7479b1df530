"""What a report of the engine does to the rows: fills, position, ledger, claim and order, all in the caller's transaction.

Money state changes only here, from fills, and in `reconcile_booking`, from the exchange's income. The caller holds the user's row; an
order that was booked before is found so and nothing happens twice.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import structs

from orchestrator.core.answer import trades_of
from orchestrator.core.barriers import Payment
from orchestrator.core.ledger import Entry, entries_of_fill, entry_of_funding
from orchestrator.core.order import UNDER_WAY, OrderStatus
from orchestrator.core.position import (
    LIVE,
    CloseReason,
    PositionStatus,
    after_close,
    after_more,
    booked,
    replay,
)
from orchestrator.errors import Conflict
from orchestrator.ports import (
    FundingRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    Trader,
    UnitOfWork,
)
from orchestrator.trading.booking_rows import adopted, fill_record, opened, reason_of, trade_of, trade_told, with_protection
from shared.enums import Mode
from shared.execution import ExecutionReport, Fill
from shared.margin import ZERO


async def book_wallet(
    unit: UnitOfWork, trader: Trader, mode: Mode, entries: Sequence[Entry], position_id: UUID | None, *, dry: bool = False
) -> Trader:
    """Books entries into the ledger and the wallet, each source once.

    What a dry run made is of no wallet: its entries run from zero, beside those of the account at the exchange.

    Returns:
        The trader with the new balance.
    """
    before = trader.paper_balance if mode is Mode.PAPER else await _balance_of(unit, trader, dry=dry)
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
    position = await opened(unit, order, report, position_id)
    await unit.positions.add(position)
    entries: list[Entry] = []
    for fill in trades_of(report):
        realized = fill.realized_pnl or ZERO
        if await unit.fills.add(fill_record(order, fill, position.id, opens=True, realized=realized)):
            entries += entries_of_fill(
                _origin(position, order), fill.trade_id, fill.at, realized_pnl=realized, fee=fill.fee, liquidation_fee=ZERO
            )
    trader = await book_wallet(unit, trader, order.mode, entries, position.id, dry=position.dry_run)
    await _advance(unit, order, OrderStatus.FILLED, position_id=position.id, quantity=position.size, settled_at=now, **also)
    if not report.closing_fills:
        return position
    return await book_exit(unit, trader, position, report.closing_order_id, report.closing_fills, CloseReason.UNPROTECTED, now)


async def book_more(
    unit: UnitOfWork, trader: Trader, position: PositionRecord, order: OrderRecord, fills: Sequence[Fill]
) -> PositionRecord:
    """Adds opening trades to a live position that the exchange showed only after its entry was booked.

    Args:
        unit: Holding the trader's row.
        trader: The locked row.
        position: Live, as committed or as this transaction left it.
        order: Its entry, FILLED.
        fills: Not booked yet.

    Raises:
        Conflict: A row moved although the trader's row is held.
    """
    before = await unit.fills.of_position(position.id)
    told = [trade_told(fill, opens=True) for fill in fills]
    holding = replay(position.side, [*(trade_of(fill, position) for fill in before), *told])
    entries: list[Entry] = []
    for fill in fills:
        realized = fill.realized_pnl or ZERO
        if await unit.fills.add(fill_record(order, fill, position.id, opens=True, realized=realized)):
            entries += entries_of_fill(
                _origin(position, order), fill.trade_id, fill.at, realized_pnl=realized, fee=fill.fee, liquidation_fee=ZERO
            )
    await book_wallet(unit, trader, order.mode, entries, position.id)
    fees = position.fees + sum((booked(fill.fee) for fill in fills), ZERO)
    return await change_position(unit, position, structs.replace(after_more(position, holding), fees=fees))


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
        unit, trader, order, position, trades_of(report), reason_of(order, report), liquidation_fee=report.liquidation_fee
    )
    changed = await change_position(unit, position, with_protection(after, report.protection))
    if changed.status not in LIVE:
        await unit.claims.release(trader.id, position.symbol, position.mode)
    await _advance(unit, order, OrderStatus.FILLED, quantity=report.filled_quantity, settled_at=now)
    return changed, report.filled_quantity


async def end_booked(unit: UnitOfWork, order_id: UUID, report: ExecutionReport, now: datetime) -> None:
    """Ends the row of a real close whose position was closed before it was heard of: its trades were, or will be, booked as an exit."""
    order = await unit.orders.get(order_id)
    position = await unit.positions.get(order.position_id) if order is not None and order.position_id else None
    if order is None or position is None or order.status not in UNDER_WAY or position.status in LIVE or position.simulated:
        return
    await _advance(unit, order, OrderStatus.FILLED, quantity=report.filled_quantity, settled_at=now)


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
        order = adopted(position, client_order_id, fills, reason, now)
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
    return await book_wallet(unit, trader, position.mode, entries, position.id, dry=position.dry_run)


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
    holding = replay(position.side, [*(trade_of(fill, position) for fill in before), *(trade_told(fill) for fill in fills)])
    if holding.size < 0:
        raise Conflict(f"order {order.client_order_id} would close more of {order.symbol} than there is")
    entries: list[Entry] = []
    for number, fill in enumerate(fills, start=1):
        fee = booked(liquidation_fee) if number == len(fills) else ZERO
        realized = holding.realized[fill.trade_id]
        if await unit.fills.add(fill_record(order, fill, position.id, opens=False, realized=realized, liquidation_fee=fee)):
            entries += entries_of_fill(
                _origin(position, order), fill.trade_id, fill.at, realized_pnl=realized, fee=fill.fee, liquidation_fee=fee
            )
    await book_wallet(unit, trader, order.mode, entries, position.id, dry=position.dry_run)
    return after_close(
        position,
        holding,
        liquidation_fees=position.fees - sum((fill.fee for fill in before), ZERO) + liquidation_fee,
        reason=reason,
        at=max(fill.at for fill in fills),
    )


async def _balance_of(unit: UnitOfWork, trader: Trader, *, dry: bool) -> Decimal:
    at_exchange = await unit.ledger.at_exchange(trader.id)
    return await unit.ledger.total(trader.id, Mode.REAL) - at_exchange if dry else at_exchange


def _origin(position: PositionRecord, order: OrderRecord) -> str:
    """What a trade id is unique in: at the exchange its symbol, so that the income row of the same trade is the same entry."""
    return order.client_order_id if position.simulated else position.symbol


async def _advance(unit: UnitOfWork, order: OrderRecord, status: OrderStatus, **changes: Any) -> OrderRecord:
    advanced = await unit.orders.advance(order, status, **changes)
    if advanced is None:
        raise Conflict(f"order {order.client_order_id} moved under a compare-and-set")
    return advanced
