"""The rows that pages and the REST API show, as they are read."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


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
    has_api_key: bool = False
    totp_enabled: bool = False


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A position with what it would need to be priced now. `size` is what is left, `opened_size` what was opened.

    The ids are of what rests at the exchange for a real one, as it was read back at `protected_at` (market time).
    """

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
    stop_order_id: str | None = None
    target_order_id: str | None = None
    trailing_order_id: str | None = None
    protected_at: datetime | None = None


class ForeignRow(msgspec.Struct, frozen=True, kw_only=True):
    """A position or an order at the exchange that is not ours; `name` is the order's client id, or "position"."""

    symbol: str
    name: str
    side: str
    quantity: Decimal


class RealRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a user should know of their account at the exchange; as new, before anything is known of it.

    `opened` says that its books have been opened: before, the ledger says nothing of its wallet. `difference` is what the ledger lacks
    to the wallet, `alarmed_at` when it had stood long enough to be told. `unknown` are symbols with an order that has no answer.
    Times are wall time.
    """

    armed_at: datetime | None = None
    refusal: str | None = None
    canary_detail: str | None = None
    heard_at: datetime | None = None
    opened: bool = False
    position_mode: str | None = None
    wallet: Decimal | None = None
    difference: Decimal = Decimal(0)
    alarmed_at: datetime | None = None
    foreign: Sequence[ForeignRow] = ()
    unknown: Sequence[str] = ()


class RealAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts at the exchange of everybody together: nobody's name, only how many.

    `followed` are those with something to hear of, `unheard` those of them of which no truth was ever booked, `oldest` the wall moment of
    the oldest newest truth among the others. `foreign` are positions and orders that are not ours in `foreign_accounts`; `differing`
    wallets have differed from their ledger long enough to be told.
    """

    followed: int
    unheard: int
    oldest: datetime | None
    foreign_accounts: int
    foreign: int
    differing: int


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
    """Closed trades of a mode, net of fees and funding; `today_*` since the UTC market day began.

    `today_lowest` is the lowest that `today_booked` has been, zero or less: the daily-loss stop holds a lost day lost.
    """

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
    today_lowest: Decimal = Decimal(0)

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
    """One scan for everyone; `fallbacks` says in the engine's words what did not come from where it usually does."""

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
    fallbacks: list[Any] = []


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
