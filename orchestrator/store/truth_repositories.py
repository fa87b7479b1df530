"""What is known of accounts at the exchange: one row a user, and what is not ours there."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.ports import ForeignRecord, TruthRecord
from orchestrator.store.records import as_row, columns_of, select_all, select_one
from orchestrator.store.tables import Base

TRUTHS = Base.metadata.tables["account_truths"]
FOREIGN = Base.metadata.tables["foreign_holdings"]

_TRUTH = columns_of(TRUTHS, TruthRecord)
_FOREIGN = columns_of(FOREIGN, ForeignRecord)


class TruthRepository:
    """Implements the port Truths."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, user_id: UUID) -> TruthRecord | None:
        """One user's; None before the first truth."""
        return await select_one(self._connection, sa.select(*_TRUTH).where(TRUTHS.c.user_id == user_id), TruthRecord)

    async def save(self, truth: TruthRecord) -> None:
        """Keep it in place of the one before."""
        row = as_row(truth)
        changes = {name: value for name, value in row.items() if name != "user_id"}
        statement = postgresql.insert(TRUTHS).on_conflict_do_update(index_elements=["user_id"], set_=changes)
        await self._connection.execute(statement, row)


class ForeignRepository:
    """Implements the port Foreign."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def of_user(self, user_id: UUID) -> list[ForeignRecord]:
        """All of a user."""
        statement = sa.select(*_FOREIGN).where(FOREIGN.c.user_id == user_id).order_by(FOREIGN.c.symbol, FOREIGN.c.name)
        return await select_all(self._connection, statement, ForeignRecord)

    async def replace(self, user_id: UUID, holdings: Sequence[ForeignRecord]) -> None:
        """Exactly these from now on."""
        await self._connection.execute(sa.delete(FOREIGN).where(FOREIGN.c.user_id == user_id))
        if holdings:
            await self._connection.execute(sa.insert(FOREIGN), [as_row(holding) for holding in holdings])
