"""The tables: what NeuroTrade may never lose. Column names at the surface are the owner's.

Money state changes only from fills: `claims` reserve, `orders` intend, `fills` happen, `positions` and `ledger_entries` follow. Times are aware
UTC; `*_at` of trading rows is market time, of logins and approvals wall time.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MONEY = Numeric(28, 8)
QUANTITY = Numeric(28, 12)
PRICE = Numeric(28, 12)


class Base(DeclarativeBase):
    """Every table; aware datetimes, UUID keys given by the application."""

    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, Decimal: MONEY, list[Any]: JSONB}


class User(Base):
    """A person, their settings and their paper wallet. Taking this row's lock serialises every decision about their money."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("mode IN ('PAPER', 'REAL')", name="users_mode"),
        CheckConstraint("role IN ('USER', 'ADMIN')", name="users_role"),
        CheckConstraint("leverage >= 1", name="users_leverage"),
        CheckConstraint("fixed_order_size > 0", name="users_fixed_order_size"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="USER")
    mode: Mapped[str] = mapped_column(server_default="PAPER")
    paper_balance: Mapped[Decimal]
    real_balance_cache: Mapped[Decimal | None]
    real_balance_at: Mapped[datetime | None]
    fixed_order_size: Mapped[Decimal]
    leverage: Mapped[Decimal]
    auto_trade_enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    max_daily_loss: Mapped[Decimal]
    max_positions: Mapped[int]
    max_exposure: Mapped[Decimal]
    settings_version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]


class ExchangeKey(Base):
    """A user's API key pair, sealed to the engine's key `key_id`; nothing here can open it. At most one row is `claimed`: the owner's pair.

    `problems` and `advice` are the last audit's, codes and sentences; `audited_at` is null until the first.
    """

    __tablename__ = "exchange_keys"
    __table_args__ = (Index("exchange_keys_one_claim", "claimed", unique=True, postgresql_where=text("claimed")),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key_id: Mapped[str]
    sealed: Mapped[str]
    claimed: Mapped[bool]
    stored_at: Mapped[datetime]
    audited_at: Mapped[datetime | None]
    problems: Mapped[list[Any]]
    advice: Mapped[list[Any]]


class SecondFactor(Base):
    """A user's TOTP secret, encrypted; it counts from `confirmed_at` on. `last_step` is the newest time step used, each is good once."""

    __tablename__ = "second_factors"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str]
    begun_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    recovery_hashes: Mapped[list[Any]]


class Arming(Base):
    """When real money was armed, and what the last canary said. While `refusal` stands no new real entry is made."""

    __tablename__ = "armings"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    armed_at: Mapped[datetime | None]
    canary_at: Mapped[datetime | None]
    canary_passed: Mapped[bool]
    canary_detail: Mapped[str]
    refusal: Mapped[str | None]


class SettingsChange(Base):
    """What a user changed, from which value to which."""

    __tablename__ = "settings_history"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    changes: Mapped[dict[str, Any]]
    settings_version: Mapped[int]


class Login(Base):
    """A session; its id is in the token, so that revoking the row ends the login everywhere."""

    __tablename__ = "logins"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Scan(Base):
    """One scan for everyone: what was looked at, how many symbols were dropped for which reason, and what did not come from the feed.

    `decided_at` (market time) is when every user's decision on its signals was made; null while they are made, or after a crash.
    """

    __tablename__ = "scans"
    __table_args__ = (Index("scans_undecided", "candle_close", postgresql_where=text("decided_at IS NULL")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    candle_close: Mapped[datetime]
    as_of: Mapped[datetime] = mapped_column(index=True)
    universe: Mapped[int]
    screened: Mapped[int]
    candidates: Mapped[list[Any]]
    signals: Mapped[int]
    rejections: Mapped[dict[str, Any]]
    timings_ms: Mapped[dict[str, Any]]
    wall_ms: Mapped[float]
    analyst: Mapped[str]
    trace_id: Mapped[str]
    decided_at: Mapped[datetime | None]
    fallbacks: Mapped[list[Any]] = mapped_column(server_default="[]")


class Signal(Base):
    """A signal for everyone, with what the decision saw. `outcome` says later which barrier came first, traded or not."""

    __tablename__ = "signals"
    __table_args__ = (
        UniqueConstraint("symbol", "candle_close", name="signals_one_a_candle"),
        CheckConstraint("side IN ('LONG', 'SHORT')", name="signals_side"),
        CheckConstraint("outcome IN ('TARGET', 'STOP', 'NEITHER')", name="signals_outcome"),
        Index("signals_unreviewed", "created_at", postgresql_where=text("outcome IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    scan_id: Mapped[UUID] = mapped_column(ForeignKey("scans.id"), index=True)
    symbol: Mapped[str]
    side: Mapped[str]
    confidence: Mapped[int]
    signal_price: Mapped[Decimal] = mapped_column(PRICE)
    stop_loss: Mapped[Decimal] = mapped_column(PRICE)
    take_profit: Mapped[Decimal] = mapped_column(PRICE)
    reward_risk: Mapped[float]
    reasoning: Mapped[str]
    analyst: Mapped[str]
    model: Mapped[str] = mapped_column(server_default="")
    features: Mapped[dict[str, Any]]
    whale: Mapped[dict[str, Any] | None]
    instrument: Mapped[dict[str, Any]]
    candle_close: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(index=True)
    trace_id: Mapped[str]
    outcome: Mapped[str | None]
    outcome_at: Mapped[datetime | None]
    reviewed_until: Mapped[datetime | None]


class Refusal(Base):
    """Why a signal was not traded for a user; user_id is null where the defence refused it for everyone, signal_id for a duplicate."""

    __tablename__ = "refusals"
    __table_args__ = (
        Index(
            "refusals_once",
            "user_id",
            "signal_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("signal_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    signal_id: Mapped[UUID | None] = mapped_column(ForeignKey("signals.id"), index=True)
    symbol: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)
    trace_id: Mapped[str]


class Claim(Base):
    """The last word of the defence: at most one live entry or position per user, symbol and mode. Its margin counts as used."""

    __tablename__ = "claims"
    __table_args__ = (PrimaryKeyConstraint("user_id", "symbol", "mode"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    symbol: Mapped[str]
    mode: Mapped[str]
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"))
    margin: Mapped[Decimal]
    notional: Mapped[Decimal]
    created_at: Mapped[datetime]


class Order(Base):
    """An intent to trade, committed before anything leaves. `request` is what was sent, so that it can be settled after a crash.

    `carried_until` (wall time) is when whoever carries it is presumed dead, and another may settle it.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("purpose IN ('ENTRY', 'CLOSE')", name="orders_purpose"),
        Index(
            "orders_unsettled", "status", postgresql_where=text("status IN ('AWAITING_APPROVAL', 'CLAIMED', 'SENT', 'UNKNOWN')")
        ),
        Index("orders_of_user", "user_id", "created_at"),
        UniqueConstraint("user_id", "client_order_id", name="orders_client_order_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    client_order_id: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    signal_id: Mapped[UUID | None] = mapped_column(ForeignKey("signals.id"), index=True)
    position_id: Mapped[UUID | None] = mapped_column(ForeignKey("positions.id"), index=True)
    purpose: Mapped[str]
    status: Mapped[str]
    symbol: Mapped[str]
    side: Mapped[str]
    mode: Mapped[str]
    dry_run: Mapped[bool]
    margin: Mapped[Decimal]
    notional: Mapped[Decimal]
    leverage: Mapped[Decimal]
    quantity: Mapped[Decimal | None] = mapped_column(QUANTITY)
    signal_price: Mapped[Decimal | None] = mapped_column(PRICE)
    stop_loss: Mapped[Decimal | None] = mapped_column(PRICE)
    take_profit: Mapped[Decimal | None] = mapped_column(PRICE)
    close_reason: Mapped[str | None]
    request: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    trace_id: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    carried_until: Mapped[datetime | None]
    signal_to_fill_ms: Mapped[float | None]


class Position(Base):
    """What a fill opened. `size` is what is left in base asset; `pnl` is net of fees and funding; mode and dry_run never change.

    `margin` is what the user put up for what is left, `isolated_margin` the same with the funding settled against it.
    """

    __tablename__ = "positions"
    __table_args__ = (
        CheckConstraint("status IN ('OPEN', 'CLOSING', 'CLOSED_WIN', 'CLOSED_LOSS')", name="positions_status"),
        CheckConstraint("side IN ('LONG', 'SHORT')", name="positions_side"),
        CheckConstraint("(status = 'CLOSED_WIN') = (closed_at IS NOT NULL AND pnl > 0)", name="positions_win_iff_profit"),
        Index(
            "positions_one_live",
            "user_id",
            "symbol",
            "mode",
            unique=True,
            postgresql_where=text("status IN ('OPEN', 'CLOSING')"),
        ),
        Index("positions_of_user", "user_id", "opened_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    signal_id: Mapped[UUID | None] = mapped_column(ForeignKey("signals.id"), index=True)
    symbol: Mapped[str]
    side: Mapped[str]
    mode: Mapped[str]
    dry_run: Mapped[bool]
    status: Mapped[str]
    size: Mapped[Decimal] = mapped_column(QUANTITY)
    opened_size: Mapped[Decimal] = mapped_column(QUANTITY)
    entry_price: Mapped[Decimal] = mapped_column(PRICE)
    exit_price: Mapped[Decimal | None] = mapped_column(PRICE)
    stop_loss: Mapped[Decimal | None] = mapped_column(PRICE)
    take_profit: Mapped[Decimal | None] = mapped_column(PRICE)
    trailing_ratio: Mapped[Decimal | None] = mapped_column(Numeric(12, 8))
    trailing_best: Mapped[Decimal | None] = mapped_column(PRICE)
    leverage: Mapped[Decimal]
    margin: Mapped[Decimal]
    isolated_margin: Mapped[Decimal] = mapped_column(server_default="0")
    maintenance_ratio: Mapped[Decimal] = mapped_column(Numeric(12, 8))
    maintenance_amount: Mapped[Decimal]
    liquidation_fee_ratio: Mapped[Decimal] = mapped_column(Numeric(12, 8))
    liquidation_price: Mapped[Decimal | None] = mapped_column(PRICE)
    tick_size: Mapped[Decimal] = mapped_column(PRICE)
    step_size: Mapped[Decimal] = mapped_column(QUANTITY)
    realized_pnl: Mapped[Decimal]
    fees: Mapped[Decimal]
    funding: Mapped[Decimal]
    pnl: Mapped[Decimal | None]
    close_reason: Mapped[str | None]
    judged_until: Mapped[datetime]
    funded_until: Mapped[datetime]
    unprotected_seconds: Mapped[float | None]
    stop_order_id: Mapped[str | None]
    target_order_id: Mapped[str | None]
    trailing_order_id: Mapped[str | None]
    protected_at: Mapped[datetime | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")


class Fill(Base):
    """One trade of an order, keyed by the venue's trade id: the same fill twice is one row."""

    __tablename__ = "fills"
    __table_args__ = (UniqueConstraint("order_id", "trade_id", name="fills_once"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"))
    position_id: Mapped[UUID] = mapped_column(ForeignKey("positions.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    trade_id: Mapped[str]
    mode: Mapped[str]
    opens: Mapped[bool]
    price: Mapped[Decimal] = mapped_column(PRICE)
    quantity: Mapped[Decimal] = mapped_column(QUANTITY)
    fee: Mapped[Decimal]
    realized_pnl: Mapped[Decimal]
    liquidation_fee: Mapped[Decimal]
    at: Mapped[datetime]
    trace_id: Mapped[str]


class FundingPayment(Base):
    """One funding settlement of a position, once a moment."""

    __tablename__ = "funding_payments"
    __table_args__ = (PrimaryKeyConstraint("position_id", "at"),)

    position_id: Mapped[UUID] = mapped_column(ForeignKey("positions.id"))
    at: Mapped[datetime]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    mode: Mapped[str]
    rate: Mapped[Decimal] = mapped_column(Numeric(18, 12))
    mark_price: Mapped[Decimal] = mapped_column(PRICE)
    quantity: Mapped[Decimal] = mapped_column(QUANTITY)
    amount: Mapped[Decimal]


class LedgerEntry(Base):
    """One change of a wallet. The sum of a mode's amounts is its balance, the opening deposit included. `source` makes it happen once."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        UniqueConstraint("user_id", "mode", "source", name="ledger_once"),
        CheckConstraint(
            "kind IN ('DEPOSIT', 'REALIZED_PNL', 'FEE', 'FUNDING', 'LIQUIDATION_FEE', 'TRANSFER', 'EXTERNAL')", name="ledger_kind"
        ),
        Index("ledger_of_user", "user_id", "mode", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    mode: Mapped[str]
    at: Mapped[datetime]
    kind: Mapped[str]
    amount: Mapped[Decimal]
    balance_after: Mapped[Decimal]
    source: Mapped[str]
    position_id: Mapped[UUID | None] = mapped_column(ForeignKey("positions.id"), index=True)


class AccountTruth(Base):
    """What is known of a user's account at the exchange: up to when everything is booked, its wallet, and what the ledger lacks to it."""

    __tablename__ = "account_truths"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    begun_at: Mapped[datetime]
    known_until: Mapped[datetime]
    look_back_to: Mapped[datetime | None]
    heard_at: Mapped[datetime]
    wallet: Mapped[Decimal]
    free: Mapped[Decimal]
    position_mode: Mapped[str]
    opened: Mapped[bool]
    difference: Mapped[Decimal]
    differs_since: Mapped[datetime | None]
    alarmed_at: Mapped[datetime | None]


class ForeignHolding(Base):
    """A position or an order at the exchange that is not ours: it is shown, nothing of ours enters its symbol, nobody touches it."""

    __tablename__ = "foreign_holdings"
    __table_args__ = (PrimaryKeyConstraint("user_id", "symbol", "name"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    symbol: Mapped[str]
    name: Mapped[str]
    side: Mapped[str]
    quantity: Mapped[Decimal] = mapped_column(QUANTITY)
    first_seen_at: Mapped[datetime]


class PanicReceipt(Base):
    """What a panic did, position by position, and whether the venue said flat."""

    __tablename__ = "panic_receipts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    phase: Mapped[str]
    results: Mapped[list[Any]]
    open_positions: Mapped[int | None]
    open_orders: Mapped[int | None]


class AuditRow(Base):
    """One entry of a hash chain, one chain a user and one of the system. No foreign key: what happened outlives whom it happened to."""

    __tablename__ = "audit_entries"
    __table_args__ = (UniqueConstraint("chain", "number", name="audit_entries_place"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    chain: Mapped[str]
    number: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]
    user_id: Mapped[str | None]
    kind: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class AuditHeadRow(Base):
    """Where a chain ends. Its lock is the last that a transaction takes."""

    __tablename__ = "audit_heads"

    chain: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]
