"""The door to PostgreSQL: one engine and one pool a process, short statements, UTC, and the migrations at start.

A statement or a lock that waits too long fails here rather than holding money's rows.
"""

import asyncio
import time
from pathlib import Path

import alembic.command
import alembic.config
import msgspec
import psycopg
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from shared.wire import encode

STATEMENT_TIMEOUT_MS = 5_000
"""No statement of ours needs a tenth of it; a page asks for 20 kB of rows at most."""

LOCK_TIMEOUT_MS = 4_000
"""Waiting longer for a user's row means that its holder is stuck: fail and let the caller come again."""

IDLE_IN_TRANSACTION_MS = 15_000
"""A process that died with a transaction open must not hold a row for longer."""

CONNECT_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 5
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A server whose machine is gone is noticed within seconds rather than hours."""

PING_AFTER_SECONDS = 1.0
"""A connection that answered a moment ago is not asked whether it lives: that question would double what a short read costs."""

RETRY_SECONDS = 0.5
MIGRATION_LOCK = 0x4E54_0001
"""An advisory lock of our own: two processes that start together migrate once."""

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """A pool of connections and the sessions made from it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sessions = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)
        self.autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.readers = async_sessionmaker(self.autocommit, expire_on_commit=False, autoflush=False)

    def session(self) -> AsyncSession:
        """A new session; use it in `async with`, and `begin()` for a transaction."""
        return self.sessions()

    def reader(self) -> AsyncSession:
        """A session for questions alone: no BEGIN and no ROLLBACK travel, each statement sees what is committed."""
        return self.readers()

    async def ping(self) -> None:
        """Asks the server for one row.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: It did not answer.
        """
        async with self.engine.connect() as connection:
            await connection.execute(sqlalchemy.text("SELECT 1"))

    async def close(self) -> None:
        """Closes every connection."""
        await self.engine.dispose()


def open_database(database_url: str, *, pool_size: int = 20) -> Database:
    """A database by its address; connects at first use.

    Args:
        database_url: postgresql://…; the driver's name may be left out.
        pool_size: Connections at most, each kept: opening one for a moment costs more than waiting for one does.
    """
    engine = create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_serializer=_json,
        json_deserializer=msgspec.json.decode,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": _options(), **KEEPALIVE},
    )
    _ping_idle_connections(engine.sync_engine)
    return Database(engine)


def _ping_idle_connections(engine: sqlalchemy.Engine) -> None:
    """As pool_pre_ping, for connections alone that lay in the pool for PING_AFTER_SECONDS; a dead one ends all that are as old."""

    def lay_down(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    def take_up(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None or time.monotonic() - idle_since < PING_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise sqlalchemy.exc.InvalidatePoolError from error

    sqlalchemy.event.listen(engine, "checkin", lay_down)
    sqlalchemy.event.listen(engine, "checkout", take_up)


def driver_url(database_url: str) -> sqlalchemy.URL:
    """The same address with psycopg named as its driver."""
    return sqlalchemy.make_url(database_url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")


def migrate(database_url: str) -> None:
    """Brings the tables up to the newest revision, once, however many processes start together. Blocks; run it in a thread.

    Raises:
        sqlalchemy.exc.OperationalError: The server cannot be reached.
    """
    engine = sqlalchemy.create_engine(
        driver_url(database_url),
        poolclass=sqlalchemy.NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        alembic.command.upgrade(_config(connection), "head")
        connection.commit()
        connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()


async def migrate_when_up(database_url: str, patience_seconds: float = 60.0) -> None:
    """As `migrate`, waiting for a server that comes up later than we do.

    Raises:
        StoreUnavailable: It did not answer in time.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return await asyncio.to_thread(migrate, database_url)
        except sqlalchemy.exc.OperationalError as error:
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"postgresql did not answer within {patience_seconds:g} s") from error
            logger().warning("waiting for PostgreSQL", error=type(error.orig).__name__)
        await asyncio.sleep(RETRY_SECONDS)


def _config(connection: sqlalchemy.Connection) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _options() -> str:
    limits = {
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "lock_timeout": LOCK_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "timezone": "UTC",
    }
    return " ".join(f"-c {name}={value}" for name, value in limits.items())


def _json(value: object) -> str:
    """Decimals in plain notation, and null where a float is not finite: PostgreSQL refuses NaN in JSON."""
    return encode(value).decode()
