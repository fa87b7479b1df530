"""A session for one question or one short change, with PostgreSQL's silence called by its name: StoreUnavailable."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncSession

from orchestrator.errors import StoreUnavailable
from orchestrator.store.database import Database

_SILENCE: Final = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)


@asynccontextmanager
async def asking(database: Database) -> AsyncIterator[AsyncSession]:
    """A session to read with.

    Raises:
        StoreUnavailable: PostgreSQL did not answer, or a statement or a lock waited too long.
    """
    async with _named(), database.reader() as session:
        yield session


@asynccontextmanager
async def changing(database: Database) -> AsyncIterator[AsyncSession]:
    """A session whose changes are kept when it ends well.

    Raises:
        StoreUnavailable: As `asking`; whether a commit happened must be looked up.
    """
    async with _named(), database.session() as session, session.begin():
        yield session


@asynccontextmanager
async def _named() -> AsyncIterator[None]:
    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        if isinstance(error, _SILENCE) or getattr(error, "connection_invalidated", False):
            origin = getattr(error, "orig", None)
            raise StoreUnavailable(f"postgresql: {type(origin or error).__name__}") from error
        raise
