"""One short transaction with every repository of trading on it.

Decides how PostgreSQL's silence is called: StoreUnavailable when it does not answer, or a statement or a lock waited too long;
Conflict when two transactions stood in each other's way. Whatever was not committed is rolled back.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

import psycopg.errors
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from orchestrator.errors import Conflict, OrchestratorError, StoreUnavailable
from orchestrator.ports import (
    Audit,
    Claims,
    Fills,
    Foreign,
    Fundings,
    Ledger,
    Orders,
    Positions,
    Receipts,
    Refusals,
    Scans,
    Signals,
    Traders,
    Truths,
)
from orchestrator.store.audit import AuditTrail
from orchestrator.store.database import Database
from orchestrator.store.money_repositories import FundingRepository, LedgerRepository, ReceiptRepository, TraderRepository
from orchestrator.store.repositories import ClaimRepository, FillRepository, OrderRepository, PositionRepository
from orchestrator.store.signal_repositories import RefusalRepository, ScanRepository, SignalRepository
from orchestrator.store.truth_repositories import ForeignRepository, TruthRepository

_IN_EACH_OTHERS_WAY: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_SILENCE: Final = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)


class SqlUnitOfWork:
    """Implements the port UnitOfWork on one connection."""

    traders: Traders
    scans: Scans
    signals: Signals
    refusals: Refusals
    claims: Claims
    orders: Orders
    positions: Positions
    fills: Fills
    ledger: Ledger
    fundings: Fundings
    truths: Truths
    foreign: Foreign
    receipts: Receipts
    audit: Audit

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._trail: AuditTrail | None = None

    async def __aenter__(self) -> Self:
        try:
            connection = await self._engine.connect()
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise _named(error) from error
        self._connection = connection
        self.audit = trail = self._trail = AuditTrail(connection)
        self.traders = TraderRepository(connection, trail)
        self.scans = ScanRepository(connection)
        self.signals = SignalRepository(connection)
        self.refusals = RefusalRepository(connection, trail)
        self.claims = ClaimRepository(connection, trail)
        self.orders = OrderRepository(connection, trail)
        self.positions = PositionRepository(connection, trail)
        self.fills = FillRepository(connection, trail)
        self.ledger = LedgerRepository(connection)
        self.fundings = FundingRepository(connection)
        self.truths = TruthRepository(connection, trail)
        self.foreign = ForeignRepository(connection, trail)
        self.receipts = ReceiptRepository(connection, trail)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._close()
        except sqlalchemy.exc.SQLAlchemyError as closing:
            if error is None:
                raise _named(closing) from closing
        if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
            raise _named(error) from error

    async def commit(self) -> None:
        """Make it so, and the audit of it with it.

        Raises:
            StoreUnavailable: PostgreSQL did not answer; whether it is so must be looked up.
        """
        if self._connection is None or self._trail is None:
            raise RuntimeError("the unit of work was not begun")
        await self._trail.flush()
        await self._connection.commit()

    async def _close(self) -> None:
        """Gives the connection back, which rolls back what is open, even while the task is being cancelled."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.shield(asyncio.ensure_future(connection.close()))


class SqlTransactions:
    """Implements the port Transactions."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    def __call__(self) -> SqlUnitOfWork:
        """A new unit of work, not yet begun."""
        return SqlUnitOfWork(self._engine)


def _named(error: sqlalchemy.exc.SQLAlchemyError) -> Exception:
    origin = getattr(error, "orig", None)
    if isinstance(origin, _IN_EACH_OTHERS_WAY):
        return Conflict(f"postgresql: {type(origin).__name__}")
    if isinstance(error, _SILENCE) or getattr(error, "connection_invalidated", False):
        return StoreUnavailable(f"postgresql: {type(origin or error).__name__}")
    return OrchestratorError(f"postgresql: {error}")
