"""The rows of an entry: its claim, the request that is kept with it, its refusals, and how it ends without a position.

A claim lives as long as its entry is live or its position open; whoever ends either frees it in the same transaction.
"""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.core.answer import Asked
from orchestrator.core.arming import only_read
from orchestrator.core.order import LIVE, OrderPurpose, OrderStatus, Refusal, RefusalReason, may_become
from orchestrator.core.truth import confirmed
from orchestrator.ports import ClaimRecord, OrderRecord, RefusalRecord, SignalRecord, Trader, UnitOfWork
from orchestrator.trading.accounts import Standing, account_of, without_keys
from shared.enums import Mode
from shared.execution import EntryRequest

CARRY: Final = timedelta(seconds=25)
"""Wall time that an order under way belongs to whoever carries it: the engine's longest answer and the booking after it."""


async def free_entry(unit: UnitOfWork, order_id: UUID, status: OrderStatus, refusal: Refusal, now: datetime) -> bool:
    """Ends a live entry and frees its claim, in the caller's transaction that holds the user's row.

    Returns:
        False when the order was final already, or has gone where it cannot end so: what was approved no longer expires.
    """
    order = await unit.orders.get(order_id)
    if order is None or order.status not in LIVE or not may_become(order.status, status):
        return False
    if await unit.orders.advance(order, status, reason=refusal.reason.value, detail=refusal.detail, settled_at=now) is None:
        return False
    await unit.claims.release(order.user_id, order.symbol, order.mode)
    if order.signal_id is not None:
        await unit.refusals.add(
            RefusalRecord(
                user_id=order.user_id,
                signal_id=order.signal_id,
                symbol=order.symbol,
                reason=refusal.reason,
                detail=refusal.detail,
                at=now,
                trace_id=order.trace_id,
            )
        )
    return True


def was_approved(order: OrderRecord) -> bool:
    """Whether the user themself said yes to this entry, and no panic has taken it back: only what waited has an expiry."""
    return order.expires_at is not None


def entry_request(order: OrderRecord, trader: Trader, standing: Standing) -> dict[str, Any]:
    """The body that is sent for this order, kept with it, so that sending it again sends the same; without its keys."""
    account = account_of(trader, order.mode, standing.positions, standing.state.balance, dry_run=order.dry_run)
    if order.stop_loss is None or order.take_profit is None or order.signal_price is None:
        raise AssertionError(f"entry {order.client_order_id} has no stop, target or price")
    request = EntryRequest(
        account=account,
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        amount_usdt=order.notional,
        leverage=order.leverage,
        stop_loss=order.stop_loss,
        take_profit=order.take_profit,
        signal_price=order.signal_price,
    )
    return without_keys(request)


def stamped(request: dict[str, Any] | None, wall: datetime) -> dict[str, Any] | None:
    """A kept request with the wall time of its first sending, from which on the venue counts how long it may still arrive."""
    return None if request is None else {**request, "sent_at": wall.isoformat()}


def first_sent(order: OrderRecord) -> datetime | None:
    """The wall time of an order's first sending, as its kept request has it."""
    sent_at = (order.request or {}).get("sent_at")
    return datetime.fromisoformat(sent_at) if isinstance(sent_at, str) else None


def asked_by(order: OrderRecord) -> Asked:
    """What a report must answer."""
    return Asked(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        mode=order.mode,
        dry_run=order.dry_run,
        opens=order.purpose is OrderPurpose.ENTRY,
        leverage=order.leverage,
        notional=order.notional,
        quantity=order.quantity,
        signal_price=order.signal_price,
    )


def refusal_record(refusal: Refusal, signal: SignalRecord, user_id: UUID | None, at: datetime) -> RefusalRecord:
    """A "no" to a stored signal, for one user or for everyone."""
    return RefusalRecord(
        user_id=user_id,
        signal_id=signal.id,
        symbol=signal.symbol,
        reason=refusal.reason,
        detail=refusal.detail,
        at=at,
        trace_id=signal.trace_id,
    )


def claim_of(order: OrderRecord, now: datetime) -> ClaimRecord:
    """The reservation that an entry's order holds."""
    return ClaimRecord(
        user_id=order.user_id,
        symbol=order.symbol,
        mode=order.mode,
        order_id=order.id,
        margin=order.margin,
        notional=order.notional,
        created_at=now,
    )


def stopped_for_real(trader: Trader, mode: Mode, *, dry_run: bool) -> Refusal | None:
    """Why an account makes no real entry now: without keys of its own it never does, and never by somebody else's.

    A live entry wants a canary that was live: the operator may have ended a dry run since the last one.
    """
    if mode is not Mode.REAL:
        return None
    if trader.entries_stopped is not None:
        return Refusal(reason=RefusalReason.REAL_STOPPED, detail=trader.entries_stopped)
    if trader.credentials is None and not dry_run:
        return Refusal(reason=RefusalReason.NO_CREDENTIALS, detail="there is no exchange key of this account")
    unproven = only_read(trader.canary_detail, dry_run=dry_run)
    return None if unproven is None else Refusal(reason=RefusalReason.REAL_STOPPED, detail=unproven)


async def foreign_in(unit: UnitOfWork, trader: Trader, symbol: str) -> Refusal | None:
    """Something at the exchange in this symbol that is not ours, seen twice: one-way mode would make one position of both."""
    truth = await unit.truths.get(trader.id)
    heard_at = truth.heard_at if truth is not None else None
    held = await unit.foreign.of_user(trader.id)
    if not any(one.symbol == symbol and confirmed(one.first_seen_at, heard_at) for one in held):
        return None
    detail = f"a position or an order in {symbol} that is not of NeuroTrade stands at the exchange"
    return Refusal(reason=RefusalReason.FOREIGN_POSITION, detail=detail)


def taken(standing: Standing, symbol: str) -> Refusal | None:
    """The third layer of the defence: a position or a claim in this symbol, of this user."""
    if any(position.symbol == symbol for position in standing.positions):
        return Refusal(reason=RefusalReason.POSITION_HELD, detail=f"a position in {symbol} is open")
    if any(claim.symbol == symbol for claim in standing.waiting):
        return Refusal(reason=RefusalReason.ENTRY_UNDER_WAY, detail=f"an entry in {symbol} is under way or waits for approval")
    return None
