"""The real store of a schedule: a database of its own, processes' transactions on it, and what is committed.

A process that dies loses its connections, and PostgreSQL rolls back what was open on them.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa
from redis.exceptions import RedisError

from orchestrator.core.ledger import EntryKind
from orchestrator.errors import StoreUnavailable
from orchestrator.ports import (
    ClaimRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    ReceiptRecord,
    Trader,
    TruthRecord,
)
from orchestrator.store.database import migrate, open_database
from orchestrator.store.money_repositories import KEYS, LEDGER, RECEIPTS, USERS, TraderRepository
from orchestrator.store.records import columns_of, select_all
from orchestrator.store.repositories import CLAIMS, ORDERS, POSITIONS
from orchestrator.store.tables import Base
from orchestrator.store.truth_repositories import TRUTHS
from orchestrator.store.unit_of_work import SqlTransactions, SqlUnitOfWork
from shared.enums import Mode
from tests.fakes import Rows
from tests.fault_storm.board import Weather
from tests.fault_storm.processes import Process
from tests.fault_storm.real_sockets import end_now

POOL: Final = 5
"""Connections of a process; more would only wait for each other's rows."""

CONNECTIONS: Final = 2 * POOL + 3
"""Of a schedule: worker, web, the judge, and a process that is just being replaced."""


TRIES: Final = 10
AGAIN_SECONDS: Final = 2.0
"""The proof's own questions wait out a crowded machine: nothing of the product is judged by them."""


async def patiently[T](ask: Callable[[], Awaitable[T]], again_seconds: float = AGAIN_SECONDS) -> T:
    """What the servers answer to a question of the proof's own that may be put twice; raises as they did at the last try."""
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except (sa.exc.OperationalError, sa.exc.TimeoutError, psycopg.OperationalError, RedisError):
            await asyncio.sleep(again_seconds)
    return await ask()


def make_template(server_url: str, name: str) -> None:
    """A migrated database that schedules copy."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    migrate(with_database(server_url, name))


def drop(server_url: str, name: str) -> None:
    """Takes a database away, with whoever is still connected."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def copy_template(server_url: str, template: str, names: list[str]) -> None:
    """A migrated database for each place where one schedule runs after another."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


async def empty(database_url: str) -> None:
    """Ends whoever is still connected and takes every row away, the audit's too, whose triggers would refuse it."""
    await patiently(lambda: _emptied(database_url))


async def _emptied(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.execute("SET session_replication_role = replica")
        names = ", ".join(f'"{name}"' for name in Base.metadata.tables)
        statement: Any = f"TRUNCATE {names} RESTART IDENTITY CASCADE"
        await connection.execute(statement)


def with_database(url: str, name: str) -> str:
    """The same server's other database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class Books:
    """What is committed, read by nobody's process: the judge's own connection."""

    def __init__(self, database_url: str) -> None:
        self._database = open_database(database_url, pool_size=2)
        self.rows = Rows()

    async def add_trader(self, trader: Trader) -> None:
        """As registration, the vault and arming leave a user in REAL."""
        names = [name for name in Trader.__struct_fields__ if name in USERS.c]
        row = {name: getattr(trader, name) for name in names}
        began = datetime.now(UTC) - timedelta(days=1)
        assert trader.credentials is not None
        sealed = {"key_id": trader.credentials.key_id, "sealed": trader.credentials.sealed}
        opening = LedgerRecord(
            user_id=trader.id, mode=Mode.PAPER, at=began, kind=EntryKind.DEPOSIT, amount=trader.paper_balance,
            balance_after=trader.paper_balance, source="opening", position_id=None,
        )  # fmt: skip
        async with self._database.engine.begin() as connection:
            told = {"username": f"storm{trader.id.hex[-4:]}", "password_hash": "-", "created_at": began}
            await connection.execute(sa.insert(USERS), {**row, "mode": trader.mode.value, **told})
            kept = {"user_id": trader.id, "claimed": False, "stored_at": began, "audited_at": began}
            await connection.execute(sa.insert(KEYS), {**sealed, **kept, "problems": [], "advice": []})
        async with SqlTransactions(self._database)() as unit:
            await unit.ledger.add(opening)
            await unit.commit()

    async def switch_on(self, users: list[UUID]) -> None:
        """Auto-trading, as the settings page does; pressed again where the row was held for too long."""

        async def press() -> None:
            async with self._database.engine.begin() as connection:
                await connection.execute(sa.update(USERS).where(USERS.c.id.in_(users)).values(auto_trade_enabled=True))

        await patiently(press)

    async def set_mode(self, user_id: UUID, mode: Mode) -> frozenset[str]:
        """As the settings page does, under the lock of the user's row; the entries that were sent by then."""

        async def press() -> frozenset[str]:
            async with self._database.engine.begin() as connection:
                await connection.execute(sa.update(USERS).where(USERS.c.id == user_id).values(mode=mode.value))
                sent = sa.select(ORDERS.c.client_order_id).where(ORDERS.c.user_id == user_id, ORDERS.c.sent_at.is_not(None))
                return frozenset((await connection.execute(sent)).scalars())

        return await patiently(press)

    async def read(self) -> Rows:
        """Everything that the judge looks at, at one moment."""
        self.rows = await patiently(self._read)
        return self.rows

    async def _read(self) -> Rows:
        rows = Rows()
        async with self._database.engine.connect() as connection:
            await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))

            async def all_of[R: msgspec.Struct](table: sa.Table, kind: type[R]) -> list[R]:
                return await select_all(connection, sa.select(*columns_of(table, kind)), kind)

            nobody: Any = None
            rows.traders = {row.id: row for row in await TraderRepository(connection, nobody).all()}
            rows.orders = {row.id: row for row in await all_of(ORDERS, OrderRecord)}
            rows.positions = {row.id: row for row in await all_of(POSITIONS, PositionRecord)}
            rows.claims = {(row.user_id, row.symbol, row.mode): row for row in await all_of(CLAIMS, ClaimRecord)}
            rows.ledger = await all_of(LEDGER, LedgerRecord)
            rows.receipts = {row.id: row for row in await all_of(RECEIPTS, ReceiptRecord)}
            rows.truths = {row.user_id: row for row in await all_of(TRUTHS, TruthRecord)}
        return rows

    async def close(self) -> None:
        """Gives the connections back."""
        await self._database.close()


class ProcessDatabase:
    """One process's connections, its transactions, and the chance that PostgreSQL fails it."""

    def __init__(self, database_url: str, process: Process, weather: Weather) -> None:
        self._database = open_database(database_url, pool_size=POOL)
        self._transactions = SqlTransactions(self._database)
        self._process, self._weather = process, weather
        self._connected: list[Any] = []
        sa.event.listen(self._database.engine.sync_engine, "connect", self._note)
        process.at_death.append(self.break_off)

    def begin(self) -> Any:
        """A new unit of work, not yet begun."""
        return GatedUnit(self._transactions(), self._process, self._weather)

    def break_off(self) -> None:
        """Every connection ends, in whatever it is."""
        for connection in self._connected:
            if not connection.closed:
                end_now(connection.fileno())

    async def close(self) -> None:
        """Gives the connections back."""
        await self._database.close()

    def _note(self, connection: Any, record: Any) -> None:
        del record
        self._connected = [known for known in self._connected if not known.closed]
        self._connected.append(connection.driver_connection)


class GatedUnit:
    """A transaction of one process: a gate before and after each statement, commit and begin."""

    def __init__(self, unit: SqlUnitOfWork, process: Process, weather: Weather) -> None:
        self._unit, self._process, self._weather = unit, process, weather

    async def __aenter__(self) -> Self:
        await self._process.gate("before begin")
        self._may_be_away()
        try:
            await self._unit.__aenter__()
        finally:
            await self._process.gate("after begin")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.dead:
            await self._process.bury()
        await self._unit.__aexit__(kind, error, trace)

    async def commit(self) -> None:
        """As the unit's own; it may be done and its answer be lost."""
        await self._process.gate("before commit")
        self._may_be_away()
        try:
            await self._unit.commit()
        finally:
            await self._process.gate("after commit")
        self._may_be_away()

    def __getattr__(self, name: str) -> Any:
        return _GatedRepository(getattr(self._unit, name), self._process)

    def _may_be_away(self) -> None:
        if self._weather.strikes("database"):
            raise StoreUnavailable("postgresql: OperationalError")


class _GatedRepository:
    def __init__(self, repository: Any, process: Process) -> None:
        self._repository, self._process = repository, process

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._repository, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def gated(*given: Any, **named: Any) -> Any:
            await self._process.gate(f"before {name}")
            try:
                return await method(*given, **named)
            finally:
                await self._process.gate(f"after {name}")

        return gated
