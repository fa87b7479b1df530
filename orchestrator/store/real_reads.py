"""What is known of a user's account at the exchange, read for the pages: arming, the last truth, what is not ours, orders without an answer."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from orchestrator.core.truth import FOREIGN_AFTER
from orchestrator.ports import ForeignRow, RealRow
from orchestrator.store.rows import rows_of
from orchestrator.store.tables import AccountTruth, Arming, ForeignHolding, Order, User

_TRUTH = ("heard_at", "opened", "position_mode", "wallet", "difference", "alarmed_at")


async def real_row(session: AsyncSession, user_id: UUID) -> RealRow:
    """The account as it was last heard."""
    known = (
        select(Arming.armed_at, Arming.refusal, *(getattr(AccountTruth, name) for name in _TRUTH))
        .select_from(User)
        .outerjoin(Arming, Arming.user_id == User.id)
        .outerjoin(AccountTruth, AccountTruth.user_id == User.id)
        .where(User.id == user_id)
    )
    found = (await session.execute(known)).one_or_none()
    if found is None:
        return RealRow()
    foreign = (
        rows_of(ForeignRow, ForeignHolding)
        .join(AccountTruth, AccountTruth.user_id == ForeignHolding.user_id)
        .where(ForeignHolding.user_id == user_id, AccountTruth.heard_at - ForeignHolding.first_seen_at >= FOREIGN_AFTER)
    )
    unknown = select(Order.symbol).where(Order.user_id == user_id, Order.mode == "REAL", Order.status == "UNKNOWN")
    held = await session.execute(foreign.order_by(ForeignHolding.symbol, ForeignHolding.name))
    values = {name: value for name, value in found._mapping.items() if value is not None}
    return RealRow(
        foreign=[ForeignRow(**row._mapping) for row in held],
        unknown=sorted(set(await session.scalars(unknown))),
        **values,
    )
