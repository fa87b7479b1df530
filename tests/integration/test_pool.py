"""Connections that died while they lay in the pool, against a real PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event

from orchestrator.store import database as pool
from orchestrator.store.database import Database, open_database
from orchestrator.store.reads import SqlReads
from tests.integration import rows

pytestmark = pytest.mark.servers


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url, pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def ada(database: Database) -> UUID:
    return await rows.person(database, "Ada")


def end_all(database_url: str) -> None:
    """Ends every other connection to this database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


async def test_a_user_is_read_although_the_connection_died_a_moment_ago(database: Database, database_url: str, ada: UUID) -> None:
    for _ in range(3):
        end_all(database_url)
        found = await SqlReads(database).user(ada)
        assert found is not None
        assert found.username == "Ada"


async def test_a_connection_that_lay_idle_is_asked_before_it_is_used(
    database: Database, database_url: str, ada: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PING_AFTER_SECONDS", 0.0)
    for _ in range(3):
        end_all(database_url)
        assert (await SqlReads(database).account(ada, "PAPER")).balance == 10_000


async def test_a_connection_in_use_is_not_asked_each_time(database: Database, ada: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    pings: list[object] = []
    dialect = database.engine.sync_engine.dialect
    ping = dialect.do_ping

    def counted(connection: Any) -> bool:
        pings.append(connection)
        return ping(connection)

    monkeypatch.setattr(dialect, "do_ping", counted)
    taken: list[object] = []
    event.listen(database.engine.sync_engine, "checkout", lambda *args: taken.append(args))
    for _ in range(10):
        await SqlReads(database).user(ada)
    assert len(taken) == 10
    assert pings == []
