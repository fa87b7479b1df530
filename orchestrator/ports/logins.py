"""Who somebody is: people, logins, delays, sent forms and preferences."""

from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import msgspec

from orchestrator.ports.rows import UserRow


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """A person who registers; the wallet is booked as one opening deposit."""

    id: UUID
    username: str
    password_hash: str
    role: str = "USER"
    paper_balance: Decimal = Decimal(10_000)
    fixed_order_size: Decimal = Decimal(100)
    leverage: Decimal = Decimal(10)
    auto_trade_enabled: bool = False
    max_daily_loss: Decimal = Decimal(500)
    max_positions: int = 10
    max_exposure: Decimal = Decimal(20_000)
    created_at: datetime

    def __repr__(self) -> str:
        return f"NewUser({self.username!r})"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a password is checked against."""

    user_id: UUID
    username: str
    password_hash: str
    role: str
    mode: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login that is neither revoked nor over, with whom it belongs to. Times are wall time."""

    login_id: UUID
    user_id: UUID
    username: str
    role: str
    mode: str
    ends_at: datetime


class Logins(Protocol):
    """People and their logins; revocation is a row, so that it holds in every process."""

    async def add_user(self, user: NewUser) -> bool:
        """Book a person with their opening deposit; False when the name (in any spelling of case) is taken."""
        ...

    async def credentials(self, username: str) -> Credentials | None:
        """What to check a password against."""
        ...

    async def replace_hash(self, user_id: UUID, password_hash: str) -> None:
        """Store a hash made with today's parameters."""
        ...

    async def open(self, login_id: UUID, user_id: UUID, at: datetime, ends_at: datetime) -> None:
        """Begin a login."""
        ...

    async def refused(self, user_id: UUID | None, address: str) -> None:
        """Write down that somebody gave a wrong password, or (None) a name that nobody has."""
        ...

    async def find(self, login_id: UUID, at: datetime) -> Session | None:
        """The login, if it still counts at that wall time."""
        ...

    async def touch(self, login_id: UUID, at: datetime) -> None:
        """Note that a login is in use."""
        ...

    async def revoke(self, login_id: UUID, at: datetime) -> bool:
        """End a login; False when it had ended."""
        ...

    async def revoke_others(self, user_id: UUID, kept: UUID, at: datetime) -> list[UUID]:
        """End all logins of a user but one; those that had not ended yet."""
        ...


class Throttle(Protocol):
    """Counts attempts and failures; answers with how long to wait, never for good."""

    async def wait_seconds(self, name: str, address: str) -> float:
        """How long this name from this address must wait before its next attempt; 0 means go on."""
        ...

    async def failed(self, name: str, address: str) -> None:
        """Note a failure: the next delay of this name and address is longer."""
        ...

    async def passed(self, name: str, address: str) -> None:
        """Forget the failures of this name and address."""
        ...

    async def spend(self, what: str, address: str, limit: int) -> float:
        """Take one of `limit` attempts a minute of an address; the seconds to wait when none is left, else 0."""
        ...


class SentForms(Protocol):
    """Remembers for a while which forms were sent, for all replicas of the site, so that a double tap does a thing once."""

    async def first(self, user_id: UUID, token: str) -> bool:
        """Whether this is the first time that a user sends this token."""
        ...

    async def forget(self, user_id: UUID, token: str) -> None:
        """What the form asked for could not be done: it may be sent again."""
        ...


class SettingsChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a user wants changed; None means unchanged. Bounds, and what REAL needs, were checked at the door."""

    mode: str | None = None
    fixed_order_size: Decimal | None = None
    leverage: Decimal | None = None
    auto_trade_enabled: bool | None = None
    max_daily_loss: Decimal | None = None
    max_positions: int | None = None
    max_exposure: Decimal | None = None


class Preferences(Protocol):
    """A user's settings, changed under the lock of their row, each change kept."""

    async def change(self, user_id: UUID, changes: SettingsChanges, at: datetime, version: int | None) -> "UserRow | None":
        """Apply changes; None when `version` is given and the row has moved on since."""
        ...
