"""What became of each signal for one user: traded, waiting, under way, refused with its reason, or nothing. Three statements."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from orchestrator.ports import Decision, SignalRow
from orchestrator.store.tables import Order, Position, Refusal, Signal

_NONE = Decision(kind="none")
_WAITING = "AWAITING_APPROVAL"
_UNDER_WAY = frozenset({"CLAIMED", "SENT", "UNKNOWN"})


async def decisions_for(session: AsyncSession, user_id: UUID, signal_ids: Sequence[UUID]) -> dict[UUID, Decision]:
    """A decision for each signal; a position outweighs an order, an order a refusal, the user's own refusal everyone's."""
    decided = dict.fromkeys(signal_ids, _NONE)
    if not signal_ids:
        return decided
    refusals = select(Refusal).where(
        Refusal.signal_id.in_(signal_ids), or_(Refusal.user_id == user_id, Refusal.user_id.is_(None))
    )
    for refusal in await session.scalars(refusals.order_by(Refusal.user_id.nulls_first())):
        if refusal.signal_id is not None:
            decided[refusal.signal_id] = Decision(kind="refused", reason=refusal.reason, detail=refusal.detail)
    orders = select(Order).where(Order.user_id == user_id, Order.signal_id.in_(signal_ids), Order.purpose == "ENTRY")
    for order in await session.scalars(orders.order_by(Order.created_at)):
        if order.signal_id is not None:
            decided[order.signal_id] = _of_order(order)
    positions = select(Position.id, Position.signal_id).where(Position.user_id == user_id, Position.signal_id.in_(signal_ids))
    for position_id, signal_id in await session.execute(positions):
        if signal_id is not None:
            decided[signal_id] = Decision(kind="traded", position_id=position_id)
    return decided


def signal_row(signal: Signal) -> SignalRow:
    """A loaded signal as the pages see it."""
    columns = {name: getattr(signal, name) for name in SignalRow.__struct_fields__ if name != "tick_size"}
    return SignalRow(tick_size=Decimal(str(signal.instrument.get("tick_size", "0"))), **columns)


def _of_order(order: Order) -> Decision:
    if order.status == _WAITING:
        return Decision(kind="waiting", order_id=order.id)
    if order.status in _UNDER_WAY:
        return Decision(kind="entering", order_id=order.id)
    if order.status == "FILLED":
        return Decision(kind="traded", order_id=order.id, position_id=order.position_id)
    return Decision(kind="refused", order_id=order.id, reason=order.reason or order.status.lower(), detail=order.detail)
