"""People, their logins and their settings in PostgreSQL: implements the ports Logins and Preferences."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.core.audit import AuditKind
from orchestrator.ports import Credentials, NewUser, Session, SettingsChanges, UserRow
from orchestrator.store.asking import asking, audited, changing
from orchestrator.store.database import Database
from orchestrator.store.reads import user_row
from orchestrator.store.tables import LedgerEntry, Login, SettingsChange, User
from shared.wire import plain

OPENING = "opening"
"""The source of the first ledger entry of a wallet: it can be booked once only."""

KEPT_AFTER_END = timedelta(days=30)
"""Long enough to see who was logged in when something happened."""


class SqlLogins:
    """Implements the port Logins."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_user(self, user: NewUser) -> bool:
        """Book a person with their opening deposit; False when the name (in any spelling of case) is taken."""
        try:
            async with audited(self._database) as (session, audit):
                await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(user.username.lower()))))
                taken = await session.scalar(select(User.id).where(func.lower(User.username) == user.username.lower()))
                if taken is not None:
                    return False
                await session.execute(insert(User).values(**msgspec.structs.asdict(user)))
                await session.execute(insert(LedgerEntry).values(**_opening(user)))
                audit.note(AuditKind.USER_REGISTERED, user_id=user.id, subject=user.id, username=user.username, role=user.role)
        except IntegrityError:
            return False
        return True

    async def credentials(self, username: str) -> Credentials | None:
        """What to check a password against."""
        statement = select(User.id, User.username, User.password_hash, User.role, User.mode).where(User.username == username)
        async with asking(self._database) as session:
            found = (await session.execute(statement)).one_or_none()
        if found is None:
            return None
        return Credentials(
            user_id=found.id, username=found.username, password_hash=found.password_hash, role=found.role, mode=found.mode
        )

    async def replace_hash(self, user_id: UUID, password_hash: str) -> None:
        """Store a hash made with today's parameters."""
        async with changing(self._database) as session:
            await session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))

    async def open(self, login_id: UUID, user_id: UUID, at: datetime, ends_at: datetime) -> None:
        """Begin a login, and drop what is left of this user's that ended KEPT_AFTER_END ago."""
        async with audited(self._database) as (session, audit):
            await session.execute(delete(Login).where(Login.user_id == user_id, Login.ends_at < at - KEPT_AFTER_END))
            await session.execute(
                insert(Login).values(id=login_id, user_id=user_id, created_at=at, last_seen_at=at, ends_at=ends_at)
            )
            audit.note(AuditKind.LOGIN_OPENED, user_id=user_id, subject=login_id, ends_at=ends_at)

    async def refused(self, user_id: UUID | None, address: str) -> None:
        """Write down that somebody gave a wrong password, or a name that nobody has.

        The name itself is not kept: people type passwords into that field.
        """
        async with audited(self._database) as (_, audit):
            audit.note(AuditKind.LOGIN_REFUSED, user_id=user_id, subject=user_id or "an unknown name", address=address)

    async def find(self, login_id: UUID, at: datetime) -> Session | None:
        """The login, if it still counts at that wall time."""
        statement = (
            select(Login.id, Login.user_id, User.username, User.role, User.mode, Login.ends_at)
            .join(User, User.id == Login.user_id)
            .where(Login.id == login_id, Login.revoked_at.is_(None), Login.ends_at > at)
        )
        async with asking(self._database) as session:
            found = (await session.execute(statement)).one_or_none()
        if found is None:
            return None
        return Session(
            login_id=found.id,
            user_id=found.user_id,
            username=found.username,
            role=found.role,
            mode=found.mode,
            ends_at=found.ends_at,
        )

    async def touch(self, login_id: UUID, at: datetime) -> None:
        """Note that a login is in use."""
        async with changing(self._database) as session:
            await session.execute(update(Login).where(Login.id == login_id).values(last_seen_at=at))

    async def revoke(self, login_id: UUID, at: datetime) -> bool:
        """End a login; False when it had ended."""
        statement = (
            update(Login).where(Login.id == login_id, Login.revoked_at.is_(None)).values(revoked_at=at).returning(Login.user_id)
        )
        async with audited(self._database) as (session, audit):
            user_id = await session.scalar(statement)
            if user_id is not None:
                audit.note(AuditKind.LOGIN_ENDED, user_id=user_id, subject=login_id)
            return user_id is not None

    async def revoke_others(self, user_id: UUID, kept: UUID, at: datetime) -> list[UUID]:
        """End all logins of a user but one; those that had not ended yet."""
        theirs = (Login.user_id == user_id, Login.id != kept, Login.revoked_at.is_(None), Login.ends_at > at)
        statement = update(Login).where(*theirs).values(revoked_at=at).returning(Login.id)
        async with audited(self._database) as (session, audit):
            ended = list((await session.execute(statement)).scalars())
            for login_id in ended:
                audit.note(AuditKind.LOGIN_ENDED, user_id=user_id, subject=login_id, by=kept)
            return ended


class SqlPreferences:
    """Implements the port Preferences."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, user_id: UUID, changes: SettingsChanges, at: datetime, version: int | None) -> UserRow | None:
        """Apply changes under the lock of the user's row; None when `version` is given and the row has moved on since."""
        async with audited(self._database) as (session, audit):
            user = await session.scalar(select(User).where(User.id == user_id).with_for_update())
            if user is None or (version is not None and user.settings_version != version):
                return None
            changed = _apply(user, changes)
            if changed:
                user.settings_version += 1
                session.add(SettingsChange(user_id=user_id, at=at, changes=changed, settings_version=user.settings_version))
                audit.note(AuditKind.SETTINGS_CHANGED, user_id=user_id, subject=user.settings_version, changes=changed)
            return user_row(user)


def _apply(user: User, changes: SettingsChanges) -> dict[str, Any]:
    changed = {}
    for name, value in msgspec.structs.asdict(changes).items():
        before = getattr(user, name)
        if value is not None and value != before:
            setattr(user, name, value)
            changed[name] = {"from": _shown(before), "to": _shown(value)}
    return changed


def _shown(value: object) -> object:
    return plain(value) if isinstance(value, Decimal) else value


def _opening(user: NewUser) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "mode": "PAPER",
        "at": user.created_at,
        "kind": "DEPOSIT",
        "amount": user.paper_balance,
        "balance_after": user.paper_balance,
        "source": OPENING,
    }
