"""What crosses the wire at /execute: orders as the orchestrator wants them, reports as the engine saw them.

The account travels with each request. A paper account is a book of its own type: no path leads from it to an exchange client.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.analysis import At, Symbol
from shared.enums import BracketsSource, ExecutionStatus, OrderLookup, Side, TriggerKind
from shared.problem import Problem
from shared.wire import require_finite, require_leverage, require_positive

CLIENT_ORDER_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}\Z"
"""Binance's pattern for client ids. Source: USDⓈ-M "New Algo Order" and "New Order" (2026-05)."""

type ClientOrderId = Annotated[str, Meta(pattern=CLIENT_ORDER_ID)]


class SealedCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user's API key pair, sealed with the engine's public key; only the engine opens it. Base64."""

    key_id: str
    sealed: str

    def __repr__(self) -> str:
        return "SealedCredentials(***)"


class PaperPosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One open position of a paper account. Quantity in base asset, margin isolated, USDT."""

    symbol: Symbol
    side: Side
    quantity: Decimal
    entry_price: Decimal
    leverage: Decimal
    margin: Decimal
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None

    def __post_init__(self) -> None:
        require_finite(self.quantity, self.margin, self.stop_loss, self.take_profit)
        require_positive(self.entry_price)
        if self.quantity < 0:
            raise ValueError("a quantity is never signed")
        require_leverage(self.leverage)


class RealAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="REAL", tag_field="mode"):
    """An account at the exchange.

    A dry-run position exists only in the orchestrator: `dry_positions` tells the engine of them, None says nothing about them. An
    account that is not dry is asked of the exchange, and they are ignored.
    """

    user_id: str
    dry_run: bool
    credentials: SealedCredentials | None = None
    dry_positions: list[PaperPosition] | None = None


class PaperBook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A paper account whole: wallet balance in USDT and what is open."""

    balance: Decimal
    positions: list[PaperPosition] = []

    def __post_init__(self) -> None:
        require_finite(self.balance)


class PaperAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="PAPER", tag_field="mode"):
    """An account that exists only in the request."""

    book: PaperBook


type Account = RealAccount | PaperAccount


class OrderSide(StrEnum):
    """The side of an order at the exchange."""

    BUY = "BUY"
    SELL = "SELL"


class Fill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trade of an order: the only thing that changes money state. Fee in USDT, positive when paid."""

    trade_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    maker: bool
    at: At


class Protection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stop and target that rest, with the ids under which they rest; ids are empty for paper."""

    stop_loss: Decimal
    take_profit: Decimal | None
    stop_order_id: str = ""
    target_order_id: str = ""
    confirmed_at: At


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The resting condition that closes a paper position: booked at `at`, at the worse of `price` and the open of the bar that met it.

    Who does not say `bar_open` leaves it to the engine to find that minute of the mark price.
    """

    kind: TriggerKind
    price: Decimal
    at: At
    bar_open: Decimal | None = None

    def __post_init__(self) -> None:
        require_positive(self.price, self.bar_open)


class EntryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open a position. `amount_usdt` is the notional; `signal_price` is what stop and target were computed from."""

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    amount_usdt: Decimal
    leverage: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    signal_price: Decimal

    def __post_init__(self) -> None:
        require_finite(self.amount_usdt, self.stop_loss, self.take_profit, self.signal_price)
        require_leverage(self.leverage)


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Close a position or a part of it, always reduce-only; no quantity means all."""

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    quantity: Decimal | None = None
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        require_finite(self.quantity)


class ExecutionReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one order.

    `side` is the position's, `order_side` what was sent. REFUSED carries the refusal and no fill. `margin`, `liquidation_price`,
    `maintenance_ratio` and `maintenance_amount` describe the position that an entry opened. `unchecked` lists what a dry run
    could not check without a signed call.
    """

    client_order_id: str
    venue: str
    dry_run: bool
    status: ExecutionStatus
    symbol: Symbol
    side: Side
    order_side: OrderSide
    reduce_only: bool
    leverage: Decimal | None = None
    requested_quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None = None
    fills: list[Fill] = []
    protection: Protection | None = None
    margin: Decimal | None = None
    liquidation_price: Decimal | None = None
    maintenance_ratio: Decimal | None = None
    maintenance_amount: Decimal | None = None
    liquidation_fee: Decimal = Decimal(0)
    brackets_source: BracketsSource | None = None
    unprotected_seconds: float | None = None
    refusal: Problem | None = None
    unchecked: list[str] = []
    as_of: At


class AccountRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question about an account."""

    account: Account


class BalanceReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wallet in USDT; `free` is what a new position may use."""

    asset: str
    total: Decimal
    free: Decimal
    as_of: At


class VenueState(StrEnum):
    """A venue's answer about a position. UNKNOWN is not FLAT: it blocks entries and closes nothing."""

    FLAT = "FLAT"
    OPEN = "OPEN"
    UNKNOWN = "UNKNOWN"


class VenuePosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One position as the venue sees it."""

    symbol: Symbol
    side: Side
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal | None
    leverage: Decimal
    margin: Decimal
    unrealized_pnl: Decimal | None
    liquidation_price: Decimal | None


class PositionsReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All open positions; with state UNKNOWN the list proves nothing."""

    state: VenueState
    positions: list[VenuePosition]
    as_of: At


class ProtectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amend stop and target of an open position; an absent one is left as it is."""

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None

    def __post_init__(self) -> None:
        require_finite(self.stop_loss, self.take_profit)


class ProtectReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The protection that rests after an amendment, or why nothing changed."""

    status: ExecutionStatus
    protection: Protection | None = None
    refusal: Problem | None = None
    as_of: At


class FlattenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Close everything; `client_order_prefix` plus the position's number makes each order's id."""

    account: Account
    client_order_prefix: Annotated[str, Meta(pattern=r"^[\.A-Z\:/a-z0-9_-]{1,30}\Z")]


class FlattenReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A report per position and what the venue says is left; `flat` only when it says 0 and 0."""

    reports: list[ExecutionReport]
    open_positions: int
    open_orders: int
    flat: bool
    as_of: At


class OrderReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a client order id; for PAPER, NOT_FOUND proves that nothing happened."""

    client_order_id: str
    state: OrderLookup
    report: ExecutionReport | None = None
