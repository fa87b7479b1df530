"""What is known of a user's account at the exchange, read for the pages: arming, the last truth, what is not ours, orders without an answer.

And how all such accounts stand together, for whoever watches over the whole.
"""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from orchestrator.core.order import LIVE
from orchestrator.core.truth import FOREIGN_AFTER
from orchestrator.ports import ForeignRow, RealAccounts, RealRow
from orchestrator.store.rows import rows_of
from orchestrator.store.tables import AccountTruth, Arming, ExchangeKey, ForeignHolding, Order, Position, User

_TRUTH = ("heard_at", "opened", "position_mode", "wallet", "difference", "alarmed_at")

LIVE_POSITIONS: Final = ("OPEN", "CLOSING")
LIVE_ORDERS: Final = sorted(status.value for status in LIVE)


async def real_row(session: AsyncSession, user_id: UUID) -> RealRow:
    """The account as it was last heard."""
    known = (
        select(Arming.armed_at, Arming.refusal, Arming.canary_detail, *(getattr(AccountTruth, name) for name in _TRUTH))
        .select_from(User)
        .outerjoin(Arming, Arming.user_id == User.id)
        .outerjoin(AccountTruth, AccountTruth.user_id == User.id)
        .where(User.id == user_id)
    )
    found = (await session.execute(known)).one_or_none()
    if found is None:
        return RealRow()
    foreign = _confirmed(rows_of(ForeignRow, ForeignHolding)).where(ForeignHolding.user_id == user_id)
    unknown = select(Order.symbol).where(Order.user_id == user_id, Order.mode == "REAL", Order.status == "UNKNOWN")
    held = await session.execute(foreign.order_by(ForeignHolding.symbol, ForeignHolding.name))
    values = {name: value for name, value in found._mapping.items() if value is not None}
    return RealRow(
        foreign=[ForeignRow(**row._mapping) for row in held],
        unknown=sorted(set(await session.scalars(unknown))),
        **values,
    )


async def real_accounts(session: AsyncSession) -> RealAccounts:
    """Every account that has something to hear of: keys and mode REAL, or something at the exchange."""
    followed = union(
        select(User.id.label("user_id")).join(ExchangeKey, ExchangeKey.user_id == User.id).where(User.mode == "REAL"),
        select(Position.user_id).where(Position.mode == "REAL", ~Position.dry_run, Position.status.in_(LIVE_POSITIONS)),
        select(Order.user_id).where(Order.mode == "REAL", ~Order.dry_run, Order.status.in_(LIVE_ORDERS)),
    ).subquery()
    foreign = _confirmed(select(ForeignHolding.user_id)).subquery()
    heard = select(
        func.count().label("followed"),
        func.count().filter(AccountTruth.user_id.is_(None)).label("unheard"),
        func.min(AccountTruth.heard_at).label("oldest"),
        select(func.count(foreign.c.user_id.distinct())).scalar_subquery().label("foreign_accounts"),
        select(func.count()).select_from(foreign).scalar_subquery().label("foreign"),
        select(func.count()).where(AccountTruth.alarmed_at.is_not(None)).scalar_subquery().label("differing"),
    ).select_from(followed.outerjoin(AccountTruth, AccountTruth.user_id == followed.c.user_id))
    return RealAccounts(**(await session.execute(heard)).one()._mapping)


def _confirmed[T: Select[Any]](holdings: T) -> T:
    """Those that a second truth showed: the first may have been a moment between two rows of ours."""
    return holdings.join(AccountTruth, AccountTruth.user_id == ForeignHolding.user_id).where(
        AccountTruth.heard_at - ForeignHolding.first_seen_at >= FOREIGN_AFTER
    )
