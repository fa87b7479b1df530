"""People made from the command line: the demo's user, and the first admin. They are written as the orchestrator itself writes them."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from deploy.environments import given_settings
from deploy.errors import DeployError
from deploy.folder import RUNNING, SESSION, Folder, Session, Tape, is_locked
from deploy.servers import EmbeddedPostgres, free_port
from orchestrator.ports import NewUser
from orchestrator.store.database import migrate, open_database
from orchestrator.store.logins import SqlLogins
from orchestrator.web.auth import Passwords, check_name_and_password
from orchestrator.web.problems import ProblemError

ADMIN: Final = "ADMIN"


async def add_person(
    database_url: str, username: str, password: str, *, at: datetime, role: str = "USER", auto_trade: bool = False
) -> bool:
    """Books a person with their opening deposit, migrating the tables first; False when the name is taken.

    Args:
        database_url: Of a server that answers.
        username: As the register page takes it.
        password: As the register page takes it.
        at: Market time of the deposit.
        role: USER or ADMIN.
        auto_trade: Trades without asking from the start.

    Raises:
        DeployError: Name or password does not fit.
    """
    try:
        check_name_and_password(username, password)
    except ProblemError as problem:
        raise DeployError(str(problem)) from problem
    await asyncio.to_thread(migrate, database_url)
    database = open_database(database_url, pool_size=2)
    try:
        hashed = await Passwords().hash(password)
        person = NewUser(
            id=uuid4(), username=username, password_hash=hashed, role=role, auto_trade_enabled=auto_trade, created_at=at
        )
        return await SqlLogins(database).add_user(person)
    finally:
        await database.close()


def add_from_terminal(username: str, password: str, *, role: str, data: Path, dotenv: Path | None) -> None:
    """Adds a person to the database that the settings name, else to the embedded one of a data folder, running or not.

    Raises:
        DeployError: No database is to be found, or the name is taken.
    """
    with database_of(data, dotenv) as (url, at):
        if not asyncio.run(add_person(url, username, password, at=at, role=role)):
            raise DeployError(f"the name {username} is taken")


@contextlib.contextmanager
def database_of(data: Path, dotenv: Path | None) -> Iterator[tuple[str, datetime]]:
    """The database that the settings name, else the embedded one of a data folder, started for as long as it is needed.

    Yields its address and the market time there.

    Raises:
        DeployError: There is none.
    """
    given = given_settings(os.environ, dotenv).get("DATABASE_URL")
    if given:
        yield given, datetime.now(UTC)
        return
    if not (data / SESSION).exists():
        raise DeployError(f"no database: set DATABASE_URL, or start `neurotrade up` once (nothing is kept in {data})")
    if (data / RUNNING).exists() and is_locked(data):
        running = msgspec.json.decode((data / RUNNING).read_bytes(), type=dict[str, str])
        yield running["DATABASE_URL"], _market_time(data)
        return
    session = msgspec.json.decode((data / SESSION).read_bytes(), type=Session)
    folder = Folder(data, session.kind, Tape())
    server = EmbeddedPostgres(data / "postgres", free_port(), password=folder.secrets.postgres_password)
    try:
        server.start()
        yield server.url, _market_time(data)
    finally:
        server.stop()
        folder.close()


def _market_time(data: Path) -> datetime:
    kept = msgspec.json.decode((data / SESSION).read_bytes(), type=Session).market_ms
    return datetime.now(UTC) if kept is None else datetime.fromtimestamp(kept / 1000, UTC)
