"""What pages and the REST API ask: rows, prices, the live log, the market."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec

from orchestrator.ports.rows import (
    Account,
    AdminUserRow,
    ApprovalRow,
    EquityPoint,
    FillRow,
    LedgerPage,
    PositionRow,
    RealAccounts,
    RealRow,
    ReceiptRow,
    ScanRow,
    SignalView,
    Statistics,
    Stats,
    UserRow,
)
from shared.analysis import MarksReply, WhalesReply


class Reads(Protocol):
    """What pages and the REST API read. Every method that names a user shows that user's rows only."""

    async def user(self, user_id: UUID) -> UserRow | None:
        """One user by primary key."""
        ...

    async def account(self, user_id: UUID, mode: str) -> Account:
        """The wallet of a mode."""
        ...

    async def real(self, user_id: UUID) -> RealRow:
        """What is known of the account at the exchange."""
        ...

    async def real_accounts(self) -> RealAccounts:
        """How the accounts at the exchange stand, everybody's together."""
        ...

    async def positions(
        self, user_id: UUID, *, statuses: Sequence[str], mode: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[PositionRow]:
        """Positions in these states, the newest first."""
        ...

    async def position(self, user_id: UUID, position_id: UUID) -> PositionRow | None:
        """One position of this user."""
        ...

    async def fills(self, user_id: UUID, position_id: UUID) -> list[FillRow]:
        """A position's fills, oldest first."""
        ...

    async def history(self, user_id: UUID, mode: str, *, limit: int, offset: int) -> list[PositionRow]:
        """Closed positions, the last closed first."""
        ...

    async def stats(self, user_id: UUID, mode: str, day_start: datetime) -> Stats:
        """Totals of closed positions, by SQL."""
        ...

    async def equity(self, user_id: UUID, mode: str, since: datetime | None, points: int = 200) -> list[EquityPoint]:
        """The booked balance over time, oldest first, thinned to about `points` by SQL; it starts with the balance at `since`."""
        ...

    async def ledger(self, user_id: UUID, mode: str, *, limit: int, offset: int, dry_run: bool = False) -> LedgerPage:
        """The wallet's changes, newest first."""
        ...

    async def approvals(self, user_id: UUID, at: datetime) -> list[ApprovalRow]:
        """Entries that wait and have not expired at that wall time, the first to expire first."""
        ...

    async def signals(self, user_id: UUID, *, limit: int, offset: int = 0, symbol: str | None = None) -> list[SignalView]:
        """The newest signals with what was done for this user."""
        ...

    async def signal(self, user_id: UUID, signal_id: UUID) -> SignalView | None:
        """One signal with what was done for this user."""
        ...

    async def receipt(self, user_id: UUID, receipt_id: UUID | None = None) -> ReceiptRow | None:
        """A panic's receipt of this user; the newest without an id."""
        ...

    async def scans(self, limit: int = 20) -> list[ScanRow]:
        """The newest scans."""
        ...

    async def admin_users(self, *, limit: int, offset: int) -> list[AdminUserRow]:
        """Everyone, for admins."""
        ...

    async def statistics(self) -> Statistics:
        """Counts over everyone, for admins."""
        ...


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A mark price and the wall moment at which it was the newest."""

    price: Decimal
    at: datetime


class Prices(Protocol):
    """The newest mark prices known; a symbol without one is absent, never zero."""

    async def marks(self, symbols: Collection[str]) -> dict[str, Mark]:
        """Marks not older than a few seconds."""
        ...


class LiveMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the bus. `rev` counts structural ones up, over all users; ticks have none. user_id None is for everyone."""

    user_id: UUID | None
    event: str
    data: dict[str, Any]
    rev: int | None = None


class LiveLog(Protocol):
    """The other end of the bus: what live pages listen to, and what they missed."""

    def listen(self) -> AsyncIterator[LiveMessage]:
        """Every message from now on, over reconnects, until the caller stops."""
        ...

    async def boot(self) -> str:
        """Names the log's life: revs of another boot mean nothing."""
        ...

    async def recent(self, user_id: UUID) -> list[LiveMessage]:
        """The structural messages still kept for a user and for everyone, oldest first; at most 256 of each."""
        ...


class MarketSource(Protocol):
    """The engine as the pages ask it about the market."""

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        """Mark prices now.

        Raises:
            EngineUnavailable: It did not answer.
        """
        ...

    async def whales(self) -> WhalesReply:
        """The liquidation window now.

        Raises:
            EngineUnavailable: It did not answer.
        """
        ...
