"""What is known of accounts at the exchange: one row a user, and what is not ours there."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.core.audit import AuditKind
from orchestrator.ports import Audit, ForeignRecord, TruthRecord
from orchestrator.store.records import as_record, as_row, columns_of, select_all, select_one, told
from orchestrator.store.tables import Base

TRUTHS = Base.metadata.tables["account_truths"]
FOREIGN = Base.metadata.tables["foreign_holdings"]

_TRUTH = columns_of(TRUTHS, TruthRecord)
_FOREIGN = columns_of(FOREIGN, ForeignRecord)


class TruthRepository:
    """Implements the port Truths."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def get(self, user_id: UUID) -> TruthRecord | None:
        """One user's; None before the first truth."""
        return await select_one(self._connection, sa.select(*_TRUTH).where(TRUTHS.c.user_id == user_id), TruthRecord)

    async def save(self, truth: TruthRecord) -> None:
        """Keep it in place of the one before. The truth that raises the alarm of a difference is written down, those after it are not."""
        row = as_row(truth)
        changes = {name: value for name, value in row.items() if name != "user_id"}
        statement = postgresql.insert(TRUTHS).on_conflict_do_update(index_elements=["user_id"], set_=changes)
        await self._connection.execute(statement, row)
        if truth.alarmed_at is not None and truth.alarmed_at == truth.heard_at:
            said = {"wallet": truth.wallet, "difference": truth.difference, "since": truth.differs_since}
            self._audit.note(AuditKind.LEDGER_ALARMED, user_id=truth.user_id, subject=truth.user_id, **said)


class ForeignRepository:
    """Implements the port Foreign."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def of_user(self, user_id: UUID) -> list[ForeignRecord]:
        """All of a user."""
        statement = sa.select(*_FOREIGN).where(FOREIGN.c.user_id == user_id).order_by(FOREIGN.c.symbol, FOREIGN.c.name)
        return await select_all(self._connection, statement, ForeignRecord)

    async def replace(self, user_id: UUID, holdings: Sequence[ForeignRecord]) -> None:
        """Exactly these from now on."""
        gone = sa.delete(FOREIGN).where(FOREIGN.c.user_id == user_id).returning(*_FOREIGN)
        rows = (await self._connection.execute(gone)).mappings().all()
        if holdings:
            await self._connection.execute(sa.insert(FOREIGN), [as_row(holding) for holding in holdings])
        before = [as_record(row, ForeignRecord) for row in rows]
        self._note(user_id, "seen", holdings, before)
        self._note(user_id, "gone", before, holdings)

    def _note(self, user_id: UUID, change: str, these: Sequence[ForeignRecord], those: Sequence[ForeignRecord]) -> None:
        """What is among these and, with its size, not among those."""
        known = {(one.symbol, one.name, one.side, one.quantity) for one in those}
        for one in these:
            if (one.symbol, one.name, one.side, one.quantity) not in known:
                self._audit.note(AuditKind.FOREIGN_CHANGED, user_id=user_id, subject=one.symbol, change=change, **told(one))
