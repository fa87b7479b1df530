"""Wallets' rows: users under their lock, ledger, funding payments, receipts of panics."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.core.audit import AuditKind
from orchestrator.core.ledger import NO_RESULT
from orchestrator.core.order import LIVE
from orchestrator.ports import Audit, FundingRecord, LedgerRecord, ReceiptRecord, Trader
from orchestrator.store.records import as_row, columns_of, insert, insert_once, select_all, select_one, stripped, told
from orchestrator.store.tables import Base
from shared.enums import Mode
from shared.execution import SealedCredentials

USERS = Base.metadata.tables["users"]
HISTORY = Base.metadata.tables["settings_history"]
LEDGER = Base.metadata.tables["ledger_entries"]
POSITIONS = Base.metadata.tables["positions"]
ORDERS = Base.metadata.tables["orders"]
FUNDINGS = Base.metadata.tables["funding_payments"]
RECEIPTS = Base.metadata.tables["panic_receipts"]

KEYS = Base.metadata.tables["exchange_keys"]
ARMINGS = Base.metadata.tables["armings"]

_SEALED = sa.case(
    (KEYS.c.user_id.is_not(None), sa.func.jsonb_build_object("key_id", KEYS.c.key_id, "sealed", KEYS.c.sealed))
).label("credentials")
_TRADER = (
    sa.select(
        *(USERS.c[name] for name in Trader.__struct_fields__ if name in USERS.c),
        _SEALED,
        ARMINGS.c.refusal.label("entries_stopped"),
        ARMINGS.c.canary_detail,
    )
    .outerjoin(KEYS, KEYS.c.user_id == USERS.c.id)
    .outerjoin(ARMINGS, ARMINGS.c.user_id == USERS.c.id)
)
_RECEIPT = columns_of(RECEIPTS, ReceiptRecord)
_NO_RESULT = sorted(kind.value for kind in NO_RESULT)
_WITH_REAL = sa.union(
    sa.select(USERS.c.id).where(USERS.c.mode == Mode.REAL.value),
    sa.select(POSITIONS.c.user_id).where(
        POSITIONS.c.mode == Mode.REAL.value,
        ~POSITIONS.c.dry_run,
        sa.or_(POSITIONS.c.status.in_(["OPEN", "CLOSING"]), POSITIONS.c.closed_at >= sa.bindparam("closed_since")),
    ),
    sa.select(ORDERS.c.user_id).where(
        ORDERS.c.mode == Mode.REAL.value, ~ORDERS.c.dry_run, ORDERS.c.status.in_(sorted(status.value for status in LIVE))
    ),
)
_SUM = sa.func.coalesce(sa.func.sum(LEDGER.c.amount), Decimal(0))


class TraderRepository:
    """Implements the port Traders."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def lock(self, user_id: UUID) -> Trader | None:
        """The row, locked until the transaction ends.

        FOR NO KEY UPDATE: two deciders wait for each other, while a login or another row that only refers to the user does not.
        """
        statement = _TRADER.where(USERS.c.id == user_id).with_for_update(key_share=True, of=USERS)
        return await select_one(self._connection, statement, Trader)

    async def all(self) -> list[Trader]:
        """Everyone, unlocked, oldest first."""
        return await select_all(self._connection, _TRADER.order_by(USERS.c.created_at, USERS.c.id), Trader)

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """The user's sealed exchange key as it is now, unlocked."""
        statement = sa.select(KEYS.c.key_id, KEYS.c.sealed).where(KEYS.c.user_id == user_id)
        return await select_one(self._connection, statement, SealedCredentials)

    async def set_paper_balance(self, user_id: UUID, balance: Decimal) -> None:
        """The paper wallet."""
        await self._connection.execute(sa.update(USERS).where(USERS.c.id == user_id).values(paper_balance=balance))

    async def set_real_balance(self, user_id: UUID, balance: Decimal, at: datetime) -> None:
        """The wallet at the exchange; an older hearing than the one kept changes nothing."""
        newer = sa.or_(USERS.c.real_balance_at.is_(None), USERS.c.real_balance_at <= at)
        statement = sa.update(USERS).where(USERS.c.id == user_id, newer)
        await self._connection.execute(statement.values(real_balance_cache=balance, real_balance_at=at))

    async def with_real(self, closed_since: datetime) -> list[UUID]:
        """Users in mode REAL, or with something of theirs at the exchange, or closed there since that moment."""
        return list((await self._connection.execute(_WITH_REAL, {"closed_since": closed_since})).scalars())

    async def switch_auto_trade_off(self, user_id: UUID, at: datetime) -> bool:
        """Off, with a new settings_version and a row in settings_history; False when it was off already."""
        switched = (
            sa.update(USERS)
            .where(USERS.c.id == user_id, USERS.c.auto_trade_enabled)
            .values(auto_trade_enabled=False, settings_version=USERS.c.settings_version + 1)
            .returning(USERS.c.settings_version)
        )
        version = (await self._connection.execute(switched)).scalar_one_or_none()
        if version is None:
            return False
        change = {"auto_trade_enabled": {"from": True, "to": False}}
        row = {"user_id": user_id, "at": at, "changes": change, "settings_version": version}
        await self._connection.execute(sa.insert(HISTORY), row)
        self._audit.note(AuditKind.SETTINGS_CHANGED, user_id=user_id, subject=version, changes=change)
        return True


class LedgerRepository:
    """Implements the port Ledger."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, entry: LedgerRecord) -> bool:
        """Keep one; False when user, mode and source are kept already."""
        return await insert_once(self._connection, LEDGER, entry)

    async def total(self, user_id: UUID, mode: Mode) -> Decimal:
        """The sum of all amounts: the balance."""
        return await self._sum(LEDGER.c.user_id == user_id, LEDGER.c.mode == mode.value)

    async def at_exchange(self, user_id: UUID) -> Decimal:
        """The sum of the REAL amounts without those of dry positions."""
        return await self._sum(LEDGER.c.user_id == user_id, LEDGER.c.mode == Mode.REAL.value, _of_dry_runs(False))

    async def known(self, user_id: UUID, mode: Mode, sources: Collection[str]) -> set[str]:
        """Those of the sources that are booked."""
        where = (LEDGER.c.user_id == user_id, LEDGER.c.mode == mode.value, LEDGER.c.source.in_(list(sources)))
        return set((await self._connection.execute(sa.select(LEDGER.c.source).where(*where))).scalars()) if sources else set()

    async def amount(self, user_id: UUID, mode: Mode, source: str) -> Decimal | None:
        """What was booked under a source; None where nothing was."""
        where = (LEDGER.c.user_id == user_id, LEDGER.c.mode == mode.value, LEDGER.c.source == source)
        found = (await self._connection.execute(sa.select(LEDGER.c.amount).where(*where))).scalar_one_or_none()
        return None if found is None else Decimal(stripped(found))

    async def net_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        """The sum of all amounts at or after `since` that are results, of dry runs or of everything else."""
        return await self._sum(*_results(user_id, mode, since, dry))

    async def lowest_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        """The lowest running sum at or after `since` without deposits, in the order of booking; 0 where it was never below."""
        running = (
            sa.select(sa.func.sum(LEDGER.c.amount).over(order_by=LEDGER.c.id).label("result"))
            .where(*_results(user_id, mode, since, dry))
            .subquery()
        )
        lowest = (await self._connection.execute(sa.select(sa.func.min(running.c.result)))).scalar_one()
        return min(Decimal(stripped(lowest)), Decimal(0)) if lowest is not None else Decimal(0)

    async def _sum(self, *where: sa.ColumnElement[bool]) -> Decimal:
        total = (await self._connection.execute(sa.select(_SUM).where(*where))).scalar_one()
        return Decimal(stripped(total))


def _results(user_id: UUID, mode: Mode, since: datetime, dry: bool) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        LEDGER.c.user_id == user_id,
        LEDGER.c.mode == mode.value,
        LEDGER.c.at >= since,
        LEDGER.c.kind.not_in(_NO_RESULT),
        _of_dry_runs(dry),
    )


def _of_dry_runs(dry: bool) -> sa.ColumnElement[bool]:
    found = sa.select(POSITIONS.c.id).where(POSITIONS.c.id == LEDGER.c.position_id, POSITIONS.c.dry_run).exists()
    return found if dry else ~found


class FundingRepository:
    """Implements the port Fundings."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, payment: FundingRecord) -> bool:
        """Keep one; False when that position and moment have one."""
        return await insert_once(self._connection, FUNDINGS, payment)


class ReceiptRepository:
    """Implements the port Receipts."""

    def __init__(self, connection: AsyncConnection, audit: Audit) -> None:
        self._connection = connection
        self._audit = audit

    async def get(self, receipt_id: UUID) -> ReceiptRecord | None:
        """One by primary key."""
        return await select_one(self._connection, sa.select(*_RECEIPT).where(RECEIPTS.c.id == receipt_id), ReceiptRecord)

    async def running(self, user_id: UUID) -> ReceiptRecord | None:
        """The user's newest receipt that is not finished."""
        statement = sa.select(*_RECEIPT).where(RECEIPTS.c.user_id == user_id, RECEIPTS.c.finished_at.is_(None))
        return await select_one(self._connection, statement.order_by(RECEIPTS.c.started_at.desc()).limit(1), ReceiptRecord)

    async def unfinished(self, started_before: datetime) -> list[ReceiptRecord]:
        """Everyone's receipts that are not finished and were started before a wall moment."""
        statement = sa.select(*_RECEIPT).where(RECEIPTS.c.finished_at.is_(None), RECEIPTS.c.started_at < started_before)
        return await select_all(self._connection, statement.order_by(RECEIPTS.c.started_at), ReceiptRecord)

    async def add(self, receipt: ReceiptRecord) -> None:
        """Keep a new one."""
        await insert(self._connection, RECEIPTS, receipt)
        self._audit.note(AuditKind.PANIC_BEGUN, user_id=receipt.user_id, subject=receipt.id, **told(receipt, without=("id",)))

    async def save(self, receipt: ReceiptRecord) -> None:
        """Write phase, results, counts and times of one."""
        values = {name: value for name, value in as_row(receipt).items() if name not in ("id", "user_id")}
        await self._connection.execute(sa.update(RECEIPTS).where(RECEIPTS.c.id == receipt.id).values(values))
        self._audit.note(AuditKind.PANIC_MOVED, user_id=receipt.user_id, subject=receipt.id, **told(receipt, without=("id",)))
