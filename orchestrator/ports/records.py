"""The rows of trading as the use cases see them: what crosses the unit of work."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderPurpose, OrderStatus, RefusalReason
from orchestrator.core.position import CloseReason, Position
from orchestrator.core.user import UserSettings
from orchestrator.ports.desk import SymbolResult
from shared.analysis import Instrument
from shared.enums import Mode, PositionMode, Side
from shared.execution import SealedCredentials


class Trader(UserSettings, frozen=True, kw_only=True):
    """A user as trading sees them: their settings and their wallets. Read under the row's lock wherever money is decided.

    `credentials` open the account at the exchange, for the engine alone; `entries_stopped` says why no new real entry is made, and
    `canary_detail` how the last proof of protection went.
    """

    id: UUID
    paper_balance: Decimal
    real_balance_cache: Decimal | None = None
    real_balance_at: datetime | None = None
    settings_version: int = 1
    credentials: SealedCredentials | None = None
    entries_stopped: str | None = None
    canary_detail: str | None = None


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
    fallbacks: list[str] = []


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


class TruthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a user's account at the exchange; field for column of `account_truths`.

    `begun_at`, `known_until` and `look_back_to` are market time: nothing before `begun_at` is asked for, everything up to `known_until` is
    booked, and `look_back_to` is how far back the next question must reach where something was not explained. `wallet` is the exchange's,
    `difference` what the ledger lacks to it, since `differs_since`. `heard_at`, `differs_since` and `alarmed_at` are wall time.
    """

    user_id: UUID
    begun_at: datetime
    known_until: datetime
    look_back_to: datetime | None = None
    heard_at: datetime
    wallet: Decimal
    free: Decimal
    position_mode: PositionMode
    opened: bool
    difference: Decimal = Decimal(0)
    differs_since: datetime | None = None
    alarmed_at: datetime | None = None


class ForeignRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A position or an order at the exchange that is not ours; field for column of `foreign_holdings`.

    `name` is the order's client id, or "position". `first_seen_at` is wall time.
    """

    user_id: UUID
    symbol: str
    name: str
    side: str
    quantity: Decimal
    first_seen_at: datetime


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
