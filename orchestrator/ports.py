"""What the orchestrator needs from outside, as protocols; and what the pages may ask of trading.

Sections: the desk (what a user can have done), bus and clock, then the ports of trading (records, unit of
work, engine, mutex, …), then logins, then the read models of the pages. Adapters stand beside this module, never below it.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import msgspec

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.order import Refusal as Refusal
from orchestrator.core.order import RefusalReason as RefusalReason
from orchestrator.core.position import CloseReason, Position
from orchestrator.core.user import UserSettings
from shared import execution as wire
from shared.analysis import AnalyzeReply, AnalyzeRequest, Instrument, MarksReply, WhalesReply
from shared.enums import Mode, Side
from shared.execution import (
    BalanceReply,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    OrderReply,
    PositionsReply,
    ProtectReport,
    ProtectRequest,
)


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What closing did: the quantity closed now, what is left, and the net PnL when nothing is left."""

    position_id: UUID
    symbol: str
    closed_quantity: Decimal
    left: Decimal
    status: str
    pnl: Decimal | None


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """The position that an entry opened."""

    position_id: UUID
    symbol: str


class Amended(msgspec.Struct, frozen=True, kw_only=True):
    """The protection that holds after an amendment."""

    position_id: UUID
    stop_loss: Decimal | None
    take_profit: Decimal | None
    trailing_ratio: Decimal | None


class SymbolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one position: "closed", or why not."""

    symbol: str
    result: str
    detail: str = ""


class PanicReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of a panic. `flat` only when nothing is open and no order rests."""

    receipt_id: UUID
    auto_trade_enabled: bool
    positions: list[SymbolResult]
    open_positions: int
    open_orders: int
    flat: bool


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Auto-trading is off; the positions were kept protected, or closed one by one."""

    auto_trade_enabled: bool
    positions: list[SymbolResult]


class Desk(Protocol):
    """Everything a user can have done to their money. Each call is safe to repeat and answers a value, never half a change."""

    async def close(self, user_id: UUID, position_id: UUID, quantity: Decimal | None) -> Closed | Refusal:
        """Close a position or a part of it; reduce-only, at the position's own mode."""
        ...

    async def amend(
        self,
        user_id: UUID,
        position_id: UUID,
        *,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing_ratio: Decimal | None,
    ) -> Amended | Refusal:
        """Move stop or target, or arm a trailing stop (0.005 trails by 0.5 % of price); absent means unchanged."""
        ...

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        """Enter what waits, priced again now."""
        ...

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        """Drop what waits; None when it is gone now."""
        ...

    async def stop(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        """Switch auto-trading off; leave positions protected or close them."""
        ...

    async def panic(self, user_id: UUID) -> PanicReceipt:
        """Auto-trading off, approvals cancelled, everything flat, proven."""
        ...

    async def request_scan(self) -> str:
        """Queue a scan now; the job's id."""
        ...


class Bus(Protocol):
    """Tells the live pages. Losing a message loses nothing: pages read the database again."""

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        """Send to one user's pages, or to everyone's where user_id is None. Never raises."""
        ...


class Clock(Protocol):
    """The two clocks."""

    def now(self) -> datetime:
        """Market time, aware UTC."""
        ...

    def wall(self) -> datetime:
        """Wall time, aware UTC."""
        ...


# --- Trading: what the use cases need ------------------------------------------------------------------------------------------


class Trader(UserSettings, frozen=True, kw_only=True):
    """A user as trading sees them: their settings and their wallets. Read under the row's lock wherever money is decided."""

    id: UUID
    paper_balance: Decimal
    real_balance_cache: Decimal | None = None
    real_balance_at: datetime | None = None
    settings_version: int = 1


class ScanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One scan; field for column of `scans`."""

    id: UUID
    candle_close: datetime
    as_of: datetime
    universe: int
    screened: int
    candidates: list[Any]
    signals: int
    rejections: dict[str, int]
    timings_ms: dict[str, float]
    wall_ms: float
    analyst: str
    trace_id: str
    decided_at: datetime | None = None


class SignalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A signal for everyone; field for column of `signals`. `instrument` is `shared.analysis.Instrument` in JSON."""

    id: UUID
    scan_id: UUID
    symbol: str
    side: Side
    confidence: int
    signal_price: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    reward_risk: float
    reasoning: str
    analyst: str
    model: str = ""
    features: dict[str, Any]
    whale: dict[str, Any] | None
    instrument: Instrument
    candle_close: datetime
    created_at: datetime
    trace_id: str
    outcome: str | None = None
    outcome_at: datetime | None = None
    reviewed_until: datetime | None = None


class RefusalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A "no" that is kept. user_id None: for everyone; signal_id None: the signal itself was a duplicate and is not kept."""

    user_id: UUID | None
    signal_id: UUID | None
    symbol: str
    reason: RefusalReason
    detail: str
    at: datetime
    trace_id: str


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation of one symbol and its margin; it lives from the entry's first row until the position is closed."""

    user_id: UUID
    symbol: str
    mode: Mode
    order_id: UUID
    margin: Decimal
    notional: Decimal
    created_at: datetime


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An intent to trade; field for column of `orders`. `expires_at` and `carried_until` are wall time, the others market time."""

    id: UUID
    client_order_id: str
    user_id: UUID
    signal_id: UUID | None
    position_id: UUID | None = None
    purpose: OrderPurpose
    status: OrderStatus
    symbol: str
    side: Side
    mode: Mode
    dry_run: bool
    margin: Decimal
    notional: Decimal
    leverage: Decimal
    quantity: Decimal | None = None
    signal_price: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    close_reason: CloseReason | None = None
    request: dict[str, Any] | None = None
    reason: str | None = None
    detail: str | None = None
    trace_id: str
    version: int = 1
    created_at: datetime
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    expires_at: datetime | None = None
    carried_until: datetime | None = None
    signal_to_fill_ms: float | None = None


class PositionRecord(Position, frozen=True, kw_only=True):
    """A position with whose it is; field for column of `positions`."""

    id: UUID
    user_id: UUID
    signal_id: UUID | None
    version: int = 1


class FillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One trade of an order; field for column of `fills`."""

    order_id: UUID
    position_id: UUID
    user_id: UUID
    trade_id: str
    mode: Mode
    opens: bool
    price: Decimal
    quantity: Decimal
    fee: Decimal
    realized_pnl: Decimal
    liquidation_fee: Decimal
    at: datetime
    trace_id: str


class FundingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One funding settlement of a position; field for column of `funding_payments`."""

    position_id: UUID
    at: datetime
    user_id: UUID
    mode: Mode
    rate: Decimal
    mark_price: Decimal
    quantity: Decimal
    amount: Decimal


class LedgerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a wallet; field for column of `ledger_entries`."""

    user_id: UUID
    mode: Mode
    at: datetime
    kind: EntryKind
    amount: Decimal
    balance_after: Decimal
    source: str
    position_id: UUID | None


class ReceiptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A panic's receipt; field for column of `panic_receipts`, times are wall time."""

    id: UUID
    user_id: UUID
    started_at: datetime
    finished_at: datetime | None = None
    phase: str
    results: list[SymbolResult]
    open_positions: int | None = None
    open_orders: int | None = None


class Traders(Protocol):
    """Users, as trading sees them."""

    async def lock(self, user_id: UUID) -> Trader | None:
        """The row, locked until the transaction ends: SELECT … FOR UPDATE."""
        ...

    async def all(self) -> list[Trader]:
        """Everyone, unlocked, oldest first."""
        ...

    async def set_paper_balance(self, user_id: UUID, balance: Decimal) -> None:
        """The paper wallet, always in the transaction that books the ledger entry."""
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

    async def live_of_user(self, user_id: UUID) -> list[OrderRecord]:
        """A user's orders that are AWAITING_APPROVAL, CLAIMED, SENT or UNKNOWN, both purposes, oldest first."""
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

    async def open_everywhere(self) -> list[PositionRecord]:
        """Everyone's OPEN ones that we judge ourselves: PAPER, or a dry run."""
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

    async def net_since(self, user_id: UUID, mode: Mode, since: datetime) -> Decimal:
        """The sum of all amounts at or after `since` without deposits: what was won or lost."""
        ...

    async def lowest_since(self, user_id: UUID, mode: Mode, since: datetime) -> Decimal:
        """The lowest that the sum of `net_since` has been, in the order of booking; 0 where it was never below."""
        ...


class Fundings(Protocol):
    """Funding settlements."""

    async def add(self, payment: FundingRecord) -> bool:
        """Keep one; False, and the transaction goes on, when that position and moment have one."""
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
    receipts: Receipts

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


class Engine(Protocol):
    """The other service. Every call raises EngineUnavailable where its outcome is unknown, EngineRefused where it did nothing.

    The trace id bound in `orchestrator.log` travels in X-Trace-Id.
    """

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        """POST /analyze."""
        ...

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        """POST /marks; it may be asked again."""
        ...

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        """POST /execute/entry, sent once."""
        ...

    async def close(self, request: CloseRequest) -> ExecutionReport:
        """POST /execute/close, sent once."""
        ...

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        """POST /execute/protect, sent once."""
        ...

    async def order(self, client_order_id: str, account: wire.Account) -> OrderReply:
        """POST /execute/orders/{client_order_id}; it may be asked again."""
        ...

    async def balance(self, account: wire.Account) -> BalanceReply:
        """POST /execute/balance."""
        ...

    async def positions(self, account: wire.Account) -> PositionsReply:
        """POST /execute/positions."""
        ...


class Lease(Protocol):
    """A lock that ends by itself."""

    async def extend(self) -> None:
        """Hold it for its full time from now; raises LeaseLost when it had expired or was taken."""
        ...


class Mutex(Protocol):
    """Locks over all processes."""

    def hold(self, name: str, seconds: float) -> AbstractAsyncContextManager[Lease | None]:
        """A lease of that many wall seconds, released at the end by its token; None when another holds it."""
        ...


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's balance in USDT; None where nobody knows it. `fresh` is False when it is too old to decide on."""

    balance: Decimal | None
    fresh: bool


class Balances(Protocol):
    """What a user's wallet holds in a mode, from what is known already: no call leaves."""

    def of(self, trader: Trader, mode: Mode) -> Wallet:
        """PAPER: the locked row's. REAL: the last balance heard, with its age."""
        ...


class Ids(Protocol):
    """New ids."""

    def new(self) -> UUID:
        """One that nobody has."""
        ...


class Jobs(Protocol):
    """The queue of the worker."""

    async def enqueue_scan(self) -> str:
        """Queue a scan now; the job's id."""
        ...


# --- Logins: who somebody is ---------------------------------------------------------------------------------------------------


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

    async def find(self, login_id: UUID, at: datetime) -> Session | None:
        """The login, if it still counts at that wall time."""
        ...

    async def touch(self, login_id: UUID, at: datetime) -> None:
        """Note that a login is in use."""
        ...

    async def revoke(self, login_id: UUID, at: datetime) -> bool:
        """End a login; False when it had ended."""
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
    """What a user wants changed; None means unchanged. Bounds were checked at the door."""

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


# --- Reads: what pages and the REST API show -----------------------------------------------------------------------------------


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the pages see them; no secret is in it."""

    id: UUID
    username: str
    role: str
    mode: str
    paper_balance: Decimal
    real_balance_cache: Decimal | None
    real_balance_at: datetime | None
    fixed_order_size: Decimal
    leverage: Decimal
    auto_trade_enabled: bool
    max_daily_loss: Decimal
    max_positions: int
    max_exposure: Decimal
    settings_version: int
    created_at: datetime


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A position with what it would need to be priced now. `size` is what is left, `opened_size` what was opened."""

    id: UUID
    signal_id: UUID | None
    symbol: str
    side: str
    mode: str
    dry_run: bool
    status: str
    size: Decimal
    opened_size: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    trailing_ratio: Decimal | None
    leverage: Decimal
    margin: Decimal
    liquidation_price: Decimal | None
    tick_size: Decimal
    step_size: Decimal
    realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    pnl: Decimal | None
    close_reason: str | None
    unprotected_seconds: float | None
    opened_at: datetime
    closed_at: datetime | None
    version: int


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One fill of a position."""

    trade_id: str
    opens: bool
    price: Decimal
    quantity: Decimal
    fee: Decimal
    realized_pnl: Decimal
    liquidation_fee: Decimal
    at: datetime
    trace_id: str


class SignalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A signal with what the decision saw, and which barrier came first where that is known."""

    id: UUID
    symbol: str
    side: str
    confidence: int
    signal_price: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    reward_risk: float
    reasoning: str
    analyst: str
    model: str
    features: dict[str, Any]
    whale: dict[str, Any] | None
    tick_size: Decimal
    candle_close: datetime
    created_at: datetime
    outcome: str | None
    outcome_at: datetime | None
    trace_id: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a signal for one user: traded, waiting, refused or none; `reason` and `detail` say why not."""

    kind: str
    position_id: UUID | None = None
    order_id: UUID | None = None
    reason: str | None = None
    detail: str | None = None


class SignalView(msgspec.Struct, frozen=True, kw_only=True):
    """A signal and what was done with it for the user who asks."""

    signal: SignalRow
    decision: Decision


class ApprovalRow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that waits for its user; `id` is the order's. `expires_at` is wall time."""

    id: UUID
    symbol: str
    side: str
    margin: Decimal
    notional: Decimal
    leverage: Decimal
    expires_at: datetime
    created_at: datetime
    signal: SignalRow


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A mode's wallet in USDT: its balance, margins in use and claimed, and how many positions and entries hold them."""

    balance: Decimal
    margin_used: Decimal
    margin_claimed: Decimal
    open_positions: int
    waiting: int

    @property
    def free(self) -> Decimal:
        """What a new entry may use before unrealised profit or loss."""
        return self.balance - self.margin_used - self.margin_claimed


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Closed trades of a mode, net of fees and funding; `today_*` since the UTC market day began."""

    trades: int
    wins: int
    losses: int
    net_pnl: Decimal
    gross_pnl: Decimal
    fees: Decimal
    funding: Decimal
    best: Decimal | None
    worst: Decimal | None
    today_trades: int
    today_pnl: Decimal
    today_booked: Decimal

    @property
    def win_rate(self) -> float | None:
        """Wins per closed trade, 0 to 1; None before the first."""
        return self.wins / self.trades if self.trades else None


class EquityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The booked balance at a moment of market time."""

    at: datetime
    value: Decimal


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the wallet; `symbol` is of its position."""

    id: int
    at: datetime
    kind: str
    amount: Decimal
    position_id: UUID | None
    balance_after: Decimal
    symbol: str | None = None


class LedgerPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the ledger, newest first, with the sum of the whole ledger of that mode."""

    entries: list[LedgerRow]
    total: int
    balance: Decimal


class ScanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One scan for everyone."""

    id: UUID
    candle_close: datetime
    as_of: datetime
    universe: int
    screened: int
    candidates: list[Any]
    signals: int
    rejections: dict[str, Any]
    timings_ms: dict[str, Any]
    wall_ms: float
    analyst: str
    trace_id: str


class ReceiptRow(msgspec.Struct, frozen=True, kw_only=True):
    """A panic's proof as it stands."""

    id: UUID
    started_at: datetime
    finished_at: datetime | None
    phase: str
    results: list[Any]
    open_positions: int | None
    open_orders: int | None


class AdminUserRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user as an admin sees them: no balance."""

    id: UUID
    username: str
    role: str
    mode: str
    auto_trade_enabled: bool
    open_positions: int
    created_at: datetime


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over everyone, for admins."""

    users: int
    scans: int
    signals: int
    orders: int
    open_positions: int
    closed_wins: int
    closed_losses: int
    refusals: dict[str, int]


class Reads(Protocol):
    """What pages and the REST API read. Every method that names a user shows that user's rows only."""

    async def user(self, user_id: UUID) -> UserRow | None:
        """One user by primary key."""
        ...

    async def account(self, user_id: UUID, mode: str) -> Account:
        """The wallet of a mode."""
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

    async def ledger(self, user_id: UUID, mode: str, *, limit: int, offset: int) -> LedgerPage:
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
