"""What is kept of every scan: the scan, its signals, and each "no" with its reason."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.core.audit import AuditKind
from orchestrator.core.order import OrderPurpose
from orchestrator.ports import Audit, RefusalRecord, ScanRecord, SignalRecord
from orchestrator.store.records import columns_of, insert, insert_once, select_all, select_one, told
from orchestrator.store.tables import Base

SCANS = Base.metadata.tables["scans"]
SIGNALS = Base.metadata.tables["signals"]
ORDERS = Base.metadata.tables["orders"]
REFUSALS = Base.metadata.tables["refusals"]

_SIGNAL = columns_of(SIGNALS, SignalRecord)
_LAST_SEEN = sa.func.coalesce(SIGNALS.c.reviewed_until, SIGNALS.c.created_at)


class ScanRepository:
    """Implements the port Scans."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, scan: ScanRecord) -> None:
        """Keep one."""
        await insert(self._connection, SCANS, scan)

    async def decided(self, scan_ids: Collection[UUID], at: datetime) -> None:
        """Note that every user's decision on their signals is made."""
        await self._connection.execute(sa.update(SCANS).where(SCANS.c.id.in_(scan_ids)).values(decided_at=at))


class SignalRepository:
    """Implements the port Signals."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, signal: SignalRecord) -> bool:
        """Keep one; False when its symbol and candle_close are kept already."""
        return await insert_once(self._connection, SIGNALS, signal)

    async def get(self, signal_id: UUID) -> SignalRecord | None:
        """One by primary key."""
        return await select_one(self._connection, sa.select(*_SIGNAL).where(SIGNALS.c.id == signal_id), SignalRecord)

    async def recent(self, since: datetime) -> list[SignalRecord]:
        """Created at or after `since`, without those that a refusal for everyone names."""
        refused = sa.exists().where(REFUSALS.c.signal_id == SIGNALS.c.id, REFUSALS.c.user_id.is_(None))
        statement = sa.select(*_SIGNAL).where(SIGNALS.c.created_at >= since, ~refused).order_by(SIGNALS.c.created_at)
        return await select_all(self._connection, statement, SignalRecord)

    async def left(self, since: datetime) -> list[SignalRecord]:
        """Of scans that are not decided, without those that a refusal for everyone names."""
        refused = sa.exists().where(REFUSALS.c.signal_id == SIGNALS.c.id, REFUSALS.c.user_id.is_(None))
        undecided = sa.exists().where(
            SCANS.c.id == SIGNALS.c.scan_id, SCANS.c.decided_at.is_(None), SCANS.c.candle_close >= since
        )
        statement = sa.select(*_SIGNAL).where(SIGNALS.c.candle_close >= since, undecided, ~refused).order_by(SIGNALS.c.created_at)
        return await select_all(self._connection, statement, SignalRecord)

    async def decided(self, user_id: UUID, signal_id: UUID) -> bool:
        """Whether the user has an entry's order or a refusal of it."""
        entered = sa.exists().where(
            ORDERS.c.user_id == user_id, ORDERS.c.signal_id == signal_id, ORDERS.c.purpose == OrderPurpose.ENTRY.value
        )
        refused = sa.exists().where(REFUSALS.c.user_id == user_id, REFUSALS.c.signal_id == signal_id)
        return bool((await self._connection.execute(sa.select(sa.or_(entered, refused)))).scalar_one())

    async def unreviewed(self, until: datetime, limit: int) -> list[SignalRecord]:
        """Without outcome and last seen at or before `until`; the longest unseen first."""
        statement = sa.select(*_SIGNAL).where(SIGNALS.c.outcome.is_(None), until >= _LAST_SEEN).order_by(_LAST_SEEN).limit(limit)
        return await select_all(self._connection, statement, SignalRecord)

    async def review(
        self, signal: SignalRecord, *, outcome: str | None, outcome_at: datetime | None, reviewed_until: datetime
    ) -> bool:
        """Set what came first, or how far was looked; False when somebody else did."""
        statement = (
            sa.update(SIGNALS)
            .where(
                SIGNALS.c.id == signal.id,
                SIGNALS.c.outcome.is_(None),
                SIGNALS.c.reviewed_until.is_not_distinct_from(signal.reviewed_until),
            )
            .values(outcome=outcome, outcome_at=outcome_at, reviewed_until=reviewed_until)
        )
        return (await self._connection.execute(statement)).rowcount == 1


class RefusalRepository:
    """Implements the port Refusals."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def add(self, refusal: RefusalRecord) -> bool:
        """Keep one; False when that user and signal have one."""
        added = await insert_once(self._connection, REFUSALS, refusal)
        if added:
            subject, said = refusal.signal_id or refusal.symbol, told(refusal, without=("signal_id",))
            self._audit.note(AuditKind.SIGNAL_REFUSED, user_id=refusal.user_id, subject=subject, **said)
        return added
