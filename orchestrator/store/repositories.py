"""Money's rows: claims, orders, positions, fills. One statement a method; every change of state is a compare-and-set."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.core.audit import AuditKind
from orchestrator.core.order import LIVE, UNDER_WAY, OrderPurpose, OrderStatus, may_become
from orchestrator.core.position import PositionStatus
from orchestrator.errors import Conflict
from orchestrator.ports import Audit, ClaimRecord, FillRecord, OrderRecord, PositionRecord
from orchestrator.store.records import columns_of, compare_and_set, insert, insert_once, select_all, select_one, told
from orchestrator.store.tables import Base
from shared.enums import Mode

CLAIMS = Base.metadata.tables["claims"]
ORDERS = Base.metadata.tables["orders"]
POSITIONS = Base.metadata.tables["positions"]
FILLS = Base.metadata.tables["fills"]

_CLAIM = columns_of(CLAIMS, ClaimRecord)
_ORDER = columns_of(ORDERS, OrderRecord)
_POSITION = columns_of(POSITIONS, PositionRecord)
_FILL = columns_of(FILLS, FillRecord)
_LIVE_ORDERS = sorted(status.value for status in LIVE)
_ORDERS_UNDER_WAY = sorted(status.value for status in UNDER_WAY)
_LIVE_POSITIONS = [PositionStatus.OPEN.value, PositionStatus.CLOSING.value]

_UNSAID = frozenset({"id", "version", "request", "carried_until"})
"""Of an order the audit leaves out what it says besides, what was sent (it may carry sealed keys), and who carries it."""

_PROTECTION = ("stop_loss", "take_profit", "trailing_ratio", "stop_order_id", "target_order_id", "trailing_order_id")
"""What guards a position. A stop that follows the best price is no decision of anybody: with `trailing_best` it moves unsaid."""

_JUDGED = sa.text(
    """
    WITH seen AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS int[]), CAST(:untils AS timestamptz[])) AS seen(id, version, until)
    ), mine AS (
        SELECT p.id, seen.until FROM positions p JOIN seen ON seen.id = p.id
        WHERE p.status = 'OPEN' AND p.version = seen.version AND least(p.judged_until, p.funded_until) < seen.until
        ORDER BY p.id FOR NO KEY UPDATE OF p SKIP LOCKED
    )
    UPDATE positions p
    SET judged_until = greatest(p.judged_until, mine.until), funded_until = greatest(p.funded_until, mine.until)
    FROM mine WHERE p.id = mine.id
    """
)
"""A row that somebody holds is being changed: it is left out, and looked at again from where it stands."""


class ClaimRepository:
    """Implements the port Claims."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def add(self, claim: ClaimRecord) -> bool:
        """Claim; False when user, symbol and mode are claimed."""
        added = await insert_once(self._connection, CLAIMS, claim)
        if added:
            self._audit.note(AuditKind.CLAIM_ADDED, user_id=claim.user_id, subject=claim.order_id, **told(claim))
        return added

    async def of_user(self, user_id: UUID, mode: Mode) -> list[ClaimRecord]:
        """All of a user in a mode."""
        statement = sa.select(*_CLAIM).where(CLAIMS.c.user_id == user_id, CLAIMS.c.mode == mode.value)
        return await select_all(self._connection, statement.order_by(CLAIMS.c.created_at), ClaimRecord)

    async def release(self, user_id: UUID, symbol: str, mode: Mode) -> None:
        """Free it; nothing when there is none."""
        claimed = sa.and_(CLAIMS.c.user_id == user_id, CLAIMS.c.symbol == symbol, CLAIMS.c.mode == mode.value)
        order_id = (await self._connection.execute(sa.delete(CLAIMS).where(claimed).returning(CLAIMS.c.order_id))).scalar()
        if order_id is not None:
            self._audit.note(AuditKind.CLAIM_RELEASED, user_id=user_id, subject=order_id, symbol=symbol, mode=mode)


class OrderRepository:
    """Implements the port Orders."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def add(self, order: OrderRecord) -> None:
        """Keep a new one."""
        await insert(self._connection, ORDERS, order)
        self._audit.note(AuditKind.ORDER_ADDED, user_id=order.user_id, subject=order.id, **told(order, without=_UNSAID))

    async def get(self, order_id: UUID) -> OrderRecord | None:
        """One by primary key."""
        return await select_one(self._connection, sa.select(*_ORDER).where(ORDERS.c.id == order_id), OrderRecord)

    async def advance(self, order: OrderRecord, status: OrderStatus, **changes: Any) -> OrderRecord | None:
        """Move on by compare-and-set; None when the row has moved.

        Raises:
            ValueError: The table of transitions has no such step.
        """
        if not may_become(order.status, status):
            raise ValueError(f"an order never goes from {order.status} to {status}")
        moved = await compare_and_set(self._connection, ORDERS, order, {"status": status, **changes}, OrderRecord)
        said = {name: value for name, value in changes.items() if name not in _UNSAID}
        if moved is not None and (said or status is not order.status):
            self._audit.note(AuditKind.ORDER_MOVED, user_id=order.user_id, subject=order.id, was=order.status, now=status, **said)
        return moved

    async def under_way(self, carried_before: datetime, limit: int) -> list[OrderRecord]:
        """Whose carrier is presumed dead, oldest first."""
        nobody = sa.or_(ORDERS.c.carried_until.is_(None), ORDERS.c.carried_until <= carried_before)
        statement = sa.select(*_ORDER).where(ORDERS.c.status.in_(_ORDERS_UNDER_WAY), nobody)
        return await select_all(self._connection, statement.order_by(ORDERS.c.created_at).limit(limit), OrderRecord)

    async def named(self, user_id: UUID, client_order_id: str) -> OrderRecord | None:
        """A user's by its client id."""
        statement = sa.select(*_ORDER).where(ORDERS.c.user_id == user_id, ORDERS.c.client_order_id == client_order_id)
        return await select_one(self._connection, statement, OrderRecord)

    async def live_of_user(self, user_id: UUID) -> list[OrderRecord]:
        """A user's orders that are not final, oldest first."""
        statement = sa.select(*_ORDER).where(ORDERS.c.user_id == user_id, ORDERS.c.status.in_(_LIVE_ORDERS))
        return await select_all(self._connection, statement.order_by(ORDERS.c.created_at), OrderRecord)

    async def entries_everywhere(self) -> list[OrderRecord]:
        """Everyone's entries that may stand at the exchange and are not booked yet: REAL, not dry, SENT or UNKNOWN."""
        statement = sa.select(*_ORDER).where(
            ORDERS.c.purpose == OrderPurpose.ENTRY.value,
            ORDERS.c.status.in_([OrderStatus.SENT.value, OrderStatus.UNKNOWN.value]),
            ORDERS.c.mode == Mode.REAL.value,
            ~ORDERS.c.dry_run,
        )
        return await select_all(self._connection, statement.order_by(ORDERS.c.created_at), OrderRecord)

    async def expired(self, at: datetime, limit: int) -> list[OrderRecord]:
        """Approvals that nobody answered in time."""
        waiting = ORDERS.c.status == OrderStatus.AWAITING_APPROVAL.value
        statement = sa.select(*_ORDER).where(waiting, ORDERS.c.expires_at <= at).order_by(ORDERS.c.expires_at).limit(limit)
        return await select_all(self._connection, statement, OrderRecord)


class PositionRepository:
    """Implements the port Positions."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def add(self, position: PositionRecord) -> None:
        """Keep a new one.

        Raises:
            Conflict: User, symbol and mode have a live one.
        """
        if not await insert_once(self._connection, POSITIONS, position):
            raise Conflict(f"{position.symbol} has a live position already")

    async def get(self, position_id: UUID) -> PositionRecord | None:
        """One by primary key."""
        return await select_one(self._connection, sa.select(*_POSITION).where(POSITIONS.c.id == position_id), PositionRecord)

    async def live_of_user(self, user_id: UUID, mode: Mode | None = None) -> list[PositionRecord]:
        """A user's OPEN and CLOSING ones, oldest first."""
        statement = sa.select(*_POSITION).where(POSITIONS.c.user_id == user_id, POSITIONS.c.status.in_(_LIVE_POSITIONS))
        if mode is not None:
            statement = statement.where(POSITIONS.c.mode == mode.value)
        return await select_all(self._connection, statement.order_by(POSITIONS.c.opened_at), PositionRecord)

    async def real_since(self, user_id: UUID, symbol: str, since: datetime) -> list[PositionRecord]:
        """A user's at the exchange in a symbol that are live, or were closed at or after `since`."""
        theirs = sa.and_(POSITIONS.c.user_id == user_id, POSITIONS.c.symbol == symbol, POSITIONS.c.mode == Mode.REAL.value)
        lately = sa.or_(POSITIONS.c.status.in_(_LIVE_POSITIONS), POSITIONS.c.closed_at >= since)
        statement = sa.select(*_POSITION).where(theirs, ~POSITIONS.c.dry_run, lately)
        return await select_all(self._connection, statement.order_by(POSITIONS.c.opened_at), PositionRecord)

    async def open_everywhere(self) -> list[PositionRecord]:
        """Everyone's OPEN ones that we judge ourselves: PAPER, or a dry run."""
        return await self._of([PositionStatus.OPEN.value], sa.or_(POSITIONS.c.mode == Mode.PAPER.value, POSITIONS.c.dry_run))

    async def guarded_everywhere(self) -> list[PositionRecord]:
        """Everyone's that the exchange guards: REAL, not dry, OPEN or on their way out, since a close may fail too."""
        return await self._of(_LIVE_POSITIONS, sa.and_(POSITIONS.c.mode == Mode.REAL.value, ~POSITIONS.c.dry_run))

    async def _of(self, statuses: list[str], which: sa.ColumnElement[bool]) -> list[PositionRecord]:
        statement = sa.select(*_POSITION).where(POSITIONS.c.status.in_(statuses), which)
        return await select_all(self._connection, statement.order_by(POSITIONS.c.opened_at), PositionRecord)

    async def change(self, position: PositionRecord, **changes: Any) -> PositionRecord | None:
        """Change by compare-and-set; None when the row has moved."""
        changed = await compare_and_set(self._connection, POSITIONS, position, changes, PositionRecord)
        said = _amended(position, changes)
        if changed is not None and said:
            self._audit.note(
                AuditKind.PROTECTION_CHANGED, user_id=position.user_id, subject=position.id, symbol=position.symbol, changes=said
            )
        return changed

    async def judged(self, looks: Sequence[tuple[PositionRecord, datetime]]) -> None:
        """Advance judged_until and funded_until of many in one statement, never back."""
        if not looks:
            return
        await self._connection.execute(
            _JUDGED,
            {
                "ids": [position.id for position, _ in looks],
                "versions": [position.version for position, _ in looks],
                "untils": [until for _, until in looks],
            },
        )


class FillRepository:
    """Implements the port Fills."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def add(self, fill: FillRecord) -> bool:
        """Keep one; False when its order and trade id are kept already."""
        added = await insert_once(self._connection, FILLS, fill)
        if added:
            self._audit.note(AuditKind.FILL_BOOKED, user_id=fill.user_id, subject=fill.order_id, **told(fill))
        return added

    async def of_position(self, position_id: UUID) -> list[FillRecord]:
        """All of a position, oldest first."""
        statement = sa.select(*_FILL).where(FILLS.c.position_id == position_id).order_by(FILLS.c.at, FILLS.c.id)
        return await select_all(self._connection, statement, FillRecord)


def _amended(position: PositionRecord, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What of its protection a change touches, from what to what; nothing where a stop only follows the best price."""
    if changes.get("trailing_best") is not None:
        return {}
    before = {name: getattr(position, name) for name in _PROTECTION if name in changes}
    return {name: {"from": was, "to": changes[name]} for name, was in before.items() if changes[name] != was}
