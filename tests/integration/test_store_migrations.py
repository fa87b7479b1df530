"""The migrations make exactly the tables that the code reads and writes."""

import asyncio
from typing import Any

import pytest
import sqlalchemy

from orchestrator.store.database import driver_url, migrate
from orchestrator.store.tables import Base

pytestmark = pytest.mark.servers

CATALOG = {
    "columns": """SELECT table_name, column_name, data_type, numeric_precision, numeric_scale, is_nullable, column_default, is_identity
                  FROM information_schema.columns WHERE table_schema = :schema ORDER BY 1, 2""",
    "constraints": """SELECT c.relname, k.conname, replace(pg_get_constraintdef(k.oid), :schema || '.', '')
                      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
                      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema ORDER BY 1, 2""",
    "indexes": """SELECT tablename, indexname, replace(indexdef, :schema || '.', '') FROM pg_indexes
                  WHERE schemaname = :schema ORDER BY 1, 2""",
}


def _catalog(connection: sqlalchemy.Connection, schema: str) -> dict[str, list[Any]]:
    return {
        kind: [
            tuple(row) for row in connection.execute(sqlalchemy.text(query), {"schema": schema}) if row[0] != "alembic_version"
        ]
        for kind, query in CATALOG.items()
    }


def test_a_migrated_database_has_exactly_the_tables_of_the_code(empty_database_url: str) -> None:
    migrate(empty_database_url)
    engine = sqlalchemy.create_engine(driver_url(empty_database_url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        migrated = _catalog(connection, "public")
        connection.execute(sqlalchemy.text("CREATE SCHEMA drawn"))
        connection.execute(sqlalchemy.text("SET LOCAL search_path TO drawn"))
        Base.metadata.create_all(connection, checkfirst=False)
        drawn = _catalog(connection, "drawn")
        connection.rollback()
    assert migrated["columns"]
    assert migrated == drawn


async def test_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate, empty_database_url) for _ in range(4)))
    engine = sqlalchemy.create_engine(driver_url(empty_database_url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        revisions = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).all()
    assert len(revisions) == 1
