"""What the REST API answers of users, settings and positions, and how a number is written: money always a string in plain notation.

No struct here has a field for a secret, and rows are turned into them field by field.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from orchestrator.ports import UserRow
from orchestrator.web.valuation import LIVE, Valued
from shared.wire import plain


def amount(value: Decimal) -> str:
    """A number in plain notation without zeros that say nothing: "0.0000001", "10000"."""
    return plain(value.normalize()) if value else "0"


def maybe(value: Decimal | None) -> str | None:
    """As `amount`; unknown stays unknown."""
    return None if value is None else amount(value)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The head of what the API answers."""


class Registered(Reply, frozen=True, kw_only=True):
    """A new user."""

    id: UUID
    username: str
    role: str
    mode: str


class Access(Reply, frozen=True, kw_only=True):
    """An access token; `csrf_token` goes into X-CSRF-Token where the cookie is used instead."""

    access_token: str
    token_type: str
    expires_in: int
    csrf_token: str


class Me(Reply, frozen=True, kw_only=True):
    """The user who asks."""

    id: UUID
    username: str
    role: str
    mode: str
    paper_balance: str
    real_balance: str | None
    real_balance_status: str
    real_balance_at: datetime | None
    fixed_order_size: str
    leverage: str
    auto_trade_enabled: bool
    has_api_key: bool
    totp_enabled: bool


class Settings(Reply, frozen=True, kw_only=True):
    """What a user may set. `version` grows with each change; send it back to be told of changes elsewhere."""

    mode: str
    fixed_order_size: str
    leverage: str
    auto_trade_enabled: bool
    max_daily_loss: str
    max_positions: int
    max_exposure: str
    version: int


class LackReply(Reply, frozen=True, kw_only=True):
    """Something that is missing, or would be wiser: a word and a sentence."""

    code: str
    detail: str


class Arming(Reply, frozen=True, kw_only=True):
    """How far real money is. With `dry_run` entries in REAL send nothing to the exchange."""

    armed: bool
    dry_run: bool
    armed_at: datetime | None
    audited_at: datetime | None
    canary_at: datetime | None
    canary_detail: str
    refusal: str | None
    missing: list[LackReply]
    advice: list[LackReply]


class TotpBegun(Reply, frozen=True, kw_only=True):
    """A secret for an authenticator, shown once."""

    secret: str
    otpauth_uri: str

    def __repr__(self) -> str:
        return "TotpBegun(***)"


class RecoveryCodes(Reply, frozen=True, kw_only=True):
    """Each is good for one use instead of a code; shown once."""

    recovery_codes: list[str]

    def __repr__(self) -> str:
        return "RecoveryCodes(***)"


class PositionReply(Reply, frozen=True, kw_only=True):
    """A position; pnl is net of fees and funding, null while no mark is known."""

    id: UUID
    symbol: str
    side: str
    mode: str
    dry_run: bool
    size: str
    opened_size: str
    entry_price: str
    exit_price: str | None
    mark_price: str | None
    mark_at: datetime | None
    stop_loss: str | None
    take_profit: str | None
    trailing: str | None
    leverage: str
    margin: str
    pnl: str | None
    pnl_percent: str | None
    fees: str
    funding: str
    liquidation_price: str | None
    status: str
    close_reason: str | None
    opened_at: datetime
    closed_at: datetime | None
    signal_id: UUID | None


class Positions(Reply, frozen=True, kw_only=True):
    """Positions, the newest first; `more` says that others follow: ask again with an offset."""

    positions: list[PositionReply]
    more: bool = False


class ClosedReply(Reply, frozen=True, kw_only=True):
    """What closing did."""

    id: UUID
    symbol: str
    closed_quantity: str
    left: str
    status: str
    pnl: str | None


class AmendedReply(Reply, frozen=True, kw_only=True):
    """The protection that holds now."""

    id: UUID
    stop_loss: str | None
    take_profit: str | None
    trailing: str | None


class SymbolOutcome(Reply, frozen=True, kw_only=True):
    """What happened to one position."""

    symbol: str
    result: str
    detail: str


class StopReply(Reply, frozen=True, kw_only=True):
    """Auto-trading is off."""

    auto_trade_enabled: bool
    positions: list[SymbolOutcome]


class PanicReply(Reply, frozen=True, kw_only=True):
    """The receipt of a panic."""

    receipt_id: UUID
    auto_trade_enabled: bool
    positions: list[SymbolOutcome]
    open_positions: int
    open_orders: int


REAL_BALANCE_FRESH = timedelta(seconds=30)
"""Wall time; the trading's own bound for a decision."""


def is_fresh(row: UserRow, wall: datetime) -> bool:
    """Whether the real balance was heard so lately that it may be decided on."""
    return row.real_balance_at is not None and wall - row.real_balance_at <= REAL_BALANCE_FRESH


def real_balance_status(row: UserRow, wall: datetime, *, syncing: bool) -> str:
    """How good the real balance is: fresh; syncing, while the exchange is being asked; stale, where it was not heard since; none, never.

    Args:
        row: The user.
        wall: Wall time.
        syncing: A sync is under way.
    """
    if is_fresh(row, wall):
        return "fresh"
    if syncing:
        return "syncing"
    return "none" if row.real_balance_at is None else "stale"


def me_of(row: UserRow, wall: datetime, *, syncing: bool) -> Me:
    """A user's own view."""
    return Me(
        id=row.id,
        username=row.username,
        role=row.role,
        mode=row.mode,
        paper_balance=amount(row.paper_balance),
        real_balance=maybe(row.real_balance_cache),
        real_balance_status=real_balance_status(row, wall, syncing=syncing),
        real_balance_at=row.real_balance_at,
        fixed_order_size=amount(row.fixed_order_size),
        leverage=amount(row.leverage),
        auto_trade_enabled=row.auto_trade_enabled,
        has_api_key=row.has_api_key,
        totp_enabled=row.totp_enabled,
    )


def settings_of(row: UserRow) -> Settings:
    """A user's settings."""
    return Settings(
        mode=row.mode,
        fixed_order_size=amount(row.fixed_order_size),
        leverage=amount(row.leverage),
        auto_trade_enabled=row.auto_trade_enabled,
        max_daily_loss=amount(row.max_daily_loss),
        max_positions=row.max_positions,
        max_exposure=amount(row.max_exposure),
        version=row.settings_version,
    )


def position_of(valued: Valued) -> PositionReply:
    """A position at its mark; the size of a closed one is what was opened."""
    row = valued.row
    return PositionReply(
        id=row.id,
        symbol=row.symbol,
        side=row.side,
        mode=row.mode,
        dry_run=row.dry_run,
        size=amount(row.size if row.status in LIVE else row.opened_size),
        opened_size=amount(row.opened_size),
        entry_price=amount(row.entry_price),
        exit_price=maybe(row.exit_price),
        mark_price=None if valued.mark is None else amount(valued.mark.price),
        mark_at=None if valued.mark is None else valued.mark.at,
        stop_loss=maybe(row.stop_loss),
        take_profit=maybe(row.take_profit),
        trailing=maybe(row.trailing_ratio),
        leverage=amount(row.leverage),
        margin=amount(row.margin),
        pnl=maybe(valued.pnl),
        pnl_percent=maybe(valued.pnl_percent),
        fees=amount(row.fees),
        funding=amount(row.funding),
        liquidation_price=maybe(row.liquidation_price),
        status=row.status,
        close_reason=row.close_reason,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        signal_id=row.signal_id,
    )
