"""The unit of work and its repositories: narrow, named by what they do, every change a compare-and-set."""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

from orchestrator.core.audit import AuditKind
from orchestrator.core.order import OrderStatus
from orchestrator.ports.records import (
    ClaimRecord,
    FillRecord,
    ForeignRecord,
    FundingRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    ReceiptRecord,
    RefusalRecord,
    ScanRecord,
    SignalRecord,
    Trader,
    TruthRecord,
)
from shared.enums import Mode
from shared.execution import SealedCredentials


class Traders(Protocol):
    """Users, as trading sees them."""

    async def lock(self, user_id: UUID) -> Trader | None:
        """The row, locked until the transaction ends: SELECT … FOR UPDATE."""
        ...

    async def all(self) -> list[Trader]:
        """Everyone, unlocked, oldest first."""
        ...

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """The user's sealed exchange key as it is now, unlocked."""
        ...

    async def set_paper_balance(self, user_id: UUID, balance: Decimal) -> None:
        """The paper wallet, always in the transaction that books the ledger entry."""
        ...

    async def set_real_balance(self, user_id: UUID, balance: Decimal, at: datetime) -> None:
        """The wallet at the exchange as heard at a wall moment; an older hearing than the one kept changes nothing."""
        ...

    async def with_real(self, closed_since: datetime) -> list[UUID]:
        """Users in mode REAL, or with a REAL position or order that is not dry and is live, or was closed since that moment."""
        ...

    async def switch_auto_trade_off(self, user_id: UUID, at: datetime) -> bool:
        """Off, with a new settings_version and a row in settings_history; False when it was off already."""
        ...


class Scans(Protocol):
    """Scans that ran."""

    async def add(self, scan: ScanRecord) -> None:
        """Keep one."""
        ...

    async def decided(self, scan_ids: Collection[UUID], at: datetime) -> None:
        """Note that every user's decision on the signals of these scans is made."""
        ...


class Signals(Protocol):
    """Signals for everyone."""

    async def add(self, signal: SignalRecord) -> bool:
        """Keep one; False, and the transaction goes on, when its symbol and candle_close are kept already."""
        ...

    async def get(self, signal_id: UUID) -> SignalRecord | None:
        """One by primary key."""
        ...

    async def recent(self, since: datetime) -> list[SignalRecord]:
        """Created at or after `since`, without those that a refusal with user_id null names."""
        ...

    async def left(self, since: datetime) -> list[SignalRecord]:
        """Of scans that are not decided, of candles that closed at or after `since`, without those refused for everyone."""
        ...

    async def decided(self, user_id: UUID, signal_id: UUID) -> bool:
        """Whether a user has an entry's order or a refusal of this signal."""
        ...

    async def unreviewed(self, until: datetime, limit: int) -> list[SignalRecord]:
        """Without outcome, and coalesce(reviewed_until, created_at) <= until; the longest unseen first."""
        ...

    async def review(
        self, signal: SignalRecord, *, outcome: str | None, outcome_at: datetime | None, reviewed_until: datetime
    ) -> bool:
        """Set the three columns where outcome is null and reviewed_until is still as in `signal`; False when it is not."""
        ...


class Refusals(Protocol):
    """Every "no"."""

    async def add(self, refusal: RefusalRecord) -> bool:
        """Keep one; False, and the transaction goes on, when that user and signal have one."""
        ...


class Claims(Protocol):
    """The last word of the defence."""

    async def add(self, claim: ClaimRecord) -> bool:
        """Claim; False, and the transaction goes on, when user, symbol and mode are claimed."""
        ...

    async def of_user(self, user_id: UUID, mode: Mode) -> list[ClaimRecord]:
        """All of a user in a mode, those of open positions included."""
        ...

    async def release(self, user_id: UUID, symbol: str, mode: Mode) -> None:
        """Free it; nothing when there is none."""
        ...


class Orders(Protocol):
    """Intents to trade."""

    async def add(self, order: OrderRecord) -> None:
        """Keep a new one."""
        ...

    async def get(self, order_id: UUID) -> OrderRecord | None:
        """One by primary key, as committed or as this transaction left it."""
        ...

    async def advance(self, order: OrderRecord, status: OrderStatus, **changes: Any) -> OrderRecord | None:
        """Move on by compare-and-set on id, status and version as in `order`, version + 1; None when the row has moved.

        `changes` are fields of OrderRecord with their new values. The new row is answered.
        """
        ...

    async def under_way(self, carried_before: datetime, limit: int) -> list[OrderRecord]:
        """CLAIMED, SENT or UNKNOWN and carried_until <= carried_before (wall) or null, oldest first."""
        ...

    async def named(self, user_id: UUID, client_order_id: str) -> OrderRecord | None:
        """A user's by its client id."""
        ...

    async def live_of_user(self, user_id: UUID) -> list[OrderRecord]:
        """A user's orders that are AWAITING_APPROVAL, CLAIMED, SENT or UNKNOWN, both purposes, oldest first."""
        ...

    async def entries_everywhere(self) -> list[OrderRecord]:
        """Everyone's entries that may stand at the exchange and are not booked yet: REAL, not dry, SENT or UNKNOWN; oldest first."""
        ...

    async def expired(self, at: datetime, limit: int) -> list[OrderRecord]:
        """AWAITING_APPROVAL with expires_at <= at (wall)."""
        ...


class Positions(Protocol):
    """What fills opened."""

    async def add(self, position: PositionRecord) -> None:
        """Keep a new one; raises Conflict when user, symbol and mode have a live one."""
        ...

    async def get(self, position_id: UUID) -> PositionRecord | None:
        """One by primary key, as committed or as this transaction left it."""
        ...

    async def live_of_user(self, user_id: UUID, mode: Mode | None = None) -> list[PositionRecord]:
        """A user's OPEN and CLOSING ones, oldest first."""
        ...

    async def real_since(self, user_id: UUID, symbol: str, since: datetime) -> list[PositionRecord]:
        """A user's at the exchange (REAL, not dry) in a symbol that are live, or were closed at or after `since`; oldest first."""
        ...

    async def open_everywhere(self) -> list[PositionRecord]:
        """Everyone's OPEN ones that we judge ourselves: PAPER, or a dry run."""
        ...

    async def guarded_everywhere(self) -> list[PositionRecord]:
        """Everyone's that the exchange guards: REAL, not dry, OPEN or on their way out, since a close may fail too."""
        ...

    async def change(self, position: PositionRecord, **changes: Any) -> PositionRecord | None:
        """Change by compare-and-set on id, status and version as in `position`, version + 1; None when the row has moved."""
        ...

    async def judged(self, looks: Sequence[tuple[PositionRecord, datetime]]) -> None:
        """Advance judged_until and funded_until of many in one statement, never back, where id, status OPEN and version are as given.

        The version stays.
        """
        ...


class Fills(Protocol):
    """What happened."""

    async def add(self, fill: FillRecord) -> bool:
        """Keep one; False, and the transaction goes on, when its order and trade id are kept already."""
        ...

    async def of_position(self, position_id: UUID) -> list[FillRecord]:
        """All of a position, both opening and closing."""
        ...


class Ledger(Protocol):
    """The wallets' changes."""

    async def add(self, entry: LedgerRecord) -> bool:
        """Keep one; False, and the transaction goes on, when user, mode and source are kept already."""
        ...

    async def total(self, user_id: UUID, mode: Mode) -> Decimal:
        """The sum of all amounts: the balance."""
        ...

    async def at_exchange(self, user_id: UUID) -> Decimal:
        """The sum of the REAL amounts without those of dry positions: what the exchange's wallet should hold."""
        ...

    async def known(self, user_id: UUID, mode: Mode, sources: Collection[str]) -> set[str]:
        """Those of the sources that are booked."""
        ...

    async def amount(self, user_id: UUID, mode: Mode, source: str) -> Decimal | None:
        """What was booked under a source; None where nothing was."""
        ...

    async def net_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        """The sum of all amounts at or after `since` that are results (not of NO_RESULT): what was won or lost.

        With `dry` by positions of dry runs only, else without them.
        """
        ...

    async def lowest_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        """The lowest that the sum of `net_since` has been, in the order of booking; 0 where it was never below."""
        ...


class Fundings(Protocol):
    """Funding settlements."""

    async def add(self, payment: FundingRecord) -> bool:
        """Keep one; False, and the transaction goes on, when that position and moment have one."""
        ...


class Truths(Protocol):
    """What is known of accounts at the exchange; written under the user's row."""

    async def get(self, user_id: UUID) -> TruthRecord | None:
        """One user's; None before the first truth."""
        ...

    async def save(self, truth: TruthRecord) -> None:
        """Keep it in place of the one before."""
        ...


class Foreign(Protocol):
    """Positions and orders at the exchange that are not ours."""

    async def of_user(self, user_id: UUID) -> list[ForeignRecord]:
        """All of a user."""
        ...

    async def replace(self, user_id: UUID, holdings: Sequence[ForeignRecord]) -> None:
        """Exactly these from now on."""
        ...


class Receipts(Protocol):
    """Receipts of panics."""

    async def get(self, receipt_id: UUID) -> ReceiptRecord | None:
        """One by primary key."""
        ...

    async def running(self, user_id: UUID) -> ReceiptRecord | None:
        """The user's newest receipt that is not finished."""
        ...

    async def unfinished(self, started_before: datetime) -> list[ReceiptRecord]:
        """Everyone's receipts that are not finished and were started before a wall moment."""
        ...

    async def add(self, receipt: ReceiptRecord) -> None:
        """Keep a new one."""
        ...

    async def save(self, receipt: ReceiptRecord) -> None:
        """Write phase, results, counts and times of one."""
        ...


class Audit(Protocol):
    """The hash-chained record of who did what. Orders, claims, fills, refusals, settings and panics note themselves; the rest is noted here."""

    def note(self, kind: AuditKind, *, user_id: UUID | None, subject: object, **body: Any) -> None:
        """Remember what to write down in the user's chain (the system's for None) when this transaction commits; no secret."""
        ...


class UnitOfWork(Protocol):
    """One short transaction: `async with transactions() as unit: …; await unit.commit()`. Without commit it rolls back.

    Nothing awaits the engine inside one. Whoever decides about a user's money takes that user's row first. An adapter annotates
    these attributes with the protocols' names.
    """

    traders: Traders
    scans: Scans
    signals: Signals
    refusals: Refusals
    claims: Claims
    orders: Orders
    positions: Positions
    fills: Fills
    ledger: Ledger
    fundings: Fundings
    truths: Truths
    foreign: Foreign
    receipts: Receipts
    audit: Audit

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def commit(self) -> None:
        """Make it so."""
        ...


class Transactions(Protocol):
    """Begins units of work."""

    def __call__(self) -> UnitOfWork:
        """A new one, not yet begun."""
        ...
