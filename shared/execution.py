"""What crosses the wire at /execute: orders as the orchestrator wants them, reports as the engine saw them.

The account travels with each request. A paper account is a book of its own type: no path leads from it to an exchange client.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.analysis import At, Symbol
from shared.enums import BracketsSource, ExecutionStatus, OrderKind, OrderLookup, OrderState, PositionMode, Side, TriggerKind
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
    """One trade of an order: the only thing that changes money state. Fee in USDT, positive when paid.

    `realized_pnl` is gross, as the exchange booked it; None where no exchange booked it (paper, dry run).
    """

    trade_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    maker: bool
    at: At
    realized_pnl: Decimal | None = None


class Protection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stop and target that rest, with our client ids under which they rest; ids are empty for paper.

    `trailing_order_id` names a trailing stop that rests beside the plain one.
    """

    stop_loss: Decimal
    take_profit: Decimal | None
    stop_order_id: str = ""
    target_order_id: str = ""
    trailing_order_id: str = ""
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
    """Open a position. `amount_usdt` is the notional; `signal_price` is what stop and target were computed from.

    With `resume` nothing new is opened: the id is looked up at the venue, and what is found is finished (fill read, protection placed and
    confirmed, or closed). Where the venue provably never got it the report is REFUSED with `never_arrived`, otherwise UNKNOWN.

    `sent_at` is the wall time at which the caller first sent this id (the orchestrator's order row has it); send it with the first request
    and with every resume. A REAL order is never sent to the exchange later than 10 s after it (`venue_away`), so that from 20 s after it
    on, when no signed request can be under way any more, a resume may say `never_arrived`. A resume without it never says so.
    """

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    amount_usdt: Decimal
    leverage: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    signal_price: Decimal
    resume: bool = False
    sent_at: At | None = None

    def __post_init__(self) -> None:
        require_finite(self.amount_usdt, self.stop_loss, self.take_profit, self.signal_price)
        require_leverage(self.leverage)


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Close a position or a part of it, always reduce-only; no quantity means all. `resume` and `sent_at` as in EntryRequest.

    `widened_to` makes the resume of a part one of so much, the whole row: what guards it failed, and it cannot wait for the part's outcome.
    """

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    quantity: Decimal | None = None
    trigger: Trigger | None = None
    resume: bool = False
    widened_to: Decimal | None = None
    sent_at: At | None = None

    def __post_init__(self) -> None:
        require_finite(self.quantity, self.widened_to)


class ExecutionReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one order.

    `side` is the position's, `order_side` what was sent. REFUSED carries the refusal and no fill. `margin`, `liquidation_price`,
    `maintenance_ratio` and `maintenance_amount` describe the position that an entry opened. `unchecked` lists what a dry run
    could not check without a signed call. `closing_fills` are the trades of the reduce-only order `closing_order_id` that closed an
    entry at once because its stop was not confirmed in time. `unprotected_seconds` is the wall time from fill to confirmed stop, or to flat:
    of an order that was sent now it begins when that left, else it is the exchange's own times; None where nobody can say.
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
    closing_order_id: str = ""
    closing_fills: list[Fill] = []
    refusal: Problem | None = None
    unchecked: list[str] = []
    as_of: At


class AccountRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question about an account. A real order is looked up by its symbol too: the exchange knows no id without one."""

    account: Account
    symbol: Symbol | None = None


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


class VenuePosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One position as the venue sees it; `position_side` is BOTH in one-way mode, else its side."""

    symbol: Symbol
    side: Side
    position_side: str = "BOTH"
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


class Trailing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trailing stop at the exchange: `ratio` behind the best price since `activation_price` was reached; at once where that is None."""

    ratio: Decimal
    activation_price: Decimal | None = None

    def __post_init__(self) -> None:
        require_positive(self.ratio, *([] if self.activation_price is None else [self.activation_price]))


class ProtectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amend stop, target and trailing stop of an open position; an absent one is left as it is.

    For REAL, new ones are placed and confirmed before old ones are cancelled, all for the quantity that the exchange holds; asking again
    without any of them re-sizes what rests. `end_trailing` cancels the trailing stop.
    """

    account: Account
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trailing: Trailing | None = None
    end_trailing: bool = False

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


# --- what only an exchange can say -----------------------------------------------------------------------------------------


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cancel orders of ours that nothing owns any more, regular or conditional, and prove that they are gone.

    `orphaned` says that what the exchange holds in the symbol is not ours, so that its last stop may go too.
    """

    account: Account
    symbol: Symbol
    client_order_ids: list[ClientOrderId]
    orphaned: bool = False


class CancelReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those that do not rest any more, and those of which it is not known."""

    gone: list[str]
    unknown: list[str]
    as_of: At


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One order as the exchange tells it.

    `triggered` says that a conditional order's price was met, whatever the price does since; `child_order_id` is the regular order that it
    became. One that works all the same has waited `triggered_seconds` of wall time for its fill; None where nobody can say.
    """

    symbol: Symbol
    client_order_id: str
    venue_order_id: str
    kind: OrderKind
    conditional: bool
    state: OrderState
    order_side: OrderSide
    position_side: str = "BOTH"
    reduce_only: bool
    close_position: bool = False
    quantity: Decimal
    filled_quantity: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    triggered: bool = False
    triggered_seconds: float | None = None
    child_order_id: str = ""
    created_at: At


class VenueTrade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trade of the account, with the client id of its order: ours, a conditional order's, or `autoclose-…` for a liquidation."""

    symbol: Symbol
    trade_id: str
    venue_order_id: str
    client_order_id: str
    order_side: OrderSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    realized_pnl: Decimal
    maker: bool
    at: At


class Income(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change of the wallet as the exchange booked it; `kind` is its incomeType, `trade_id` empty where no trade caused it."""

    income_id: str
    kind: str
    symbol: str = ""
    amount: Decimal
    asset: str
    trade_id: str = ""
    at: At


class TruthRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange says of an account; trades and ended orders only of `symbols`, trades and income from `since` on (inclusive).

    Working orders of every symbol cost half of all that is asked: without `everywhere` those of `symbols` will do.
    """

    account: Account
    symbols: list[Symbol]
    since: At
    everywhere: bool = True


class TruthReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account as the exchange tells it. All parts were asked within the same second or two; `as_of` is from before the first.

    `orders` are all that work now, regular and conditional, of every symbol or of `symbols`, and those of `symbols` that ended since `since`.
    """

    as_of: At
    balance: BalanceReply
    position_mode: PositionMode
    positions: list[VenuePosition]
    orders: list[VenueOrder]
    trades: list[VenueTrade]
    income: list[Income]


class Guarded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A position of ours that a stop of ours should cover."""

    symbol: Symbol
    side: Side
    quantity: Decimal


class GuardsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What guards an account's positions in some symbols now: cheap enough to be asked each second while something is wrong.

    With `guarded` positions are not read where a stop of ours stands for each: nothing is wrong then.
    """

    account: Account
    symbols: list[Symbol]
    guarded: list[Guarded] = []


class GuardsReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All positions, and the orders that work in the symbols asked for. It tells nothing of what ended, so nothing is booked by it.

    `sound` says that stops of ours that were not triggered cover all that should be guarded; of few symbols positions were not read then. Of many
    orders are told only where something is held.
    """

    as_of: At
    positions: list[VenuePosition]
    orders: list[VenueOrder]
    sound: bool = False


class AccountEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A nudge from the user data stream: something about a symbol (or, with an empty one, the account) changed; ask for the truth.

    `kind` is the exchange's event name, CONNECTED after each (re)connection, or PING every few seconds while nothing happens.
    """

    kind: str
    symbol: str = ""
    client_order_id: str = ""
    at: At


class CanaryReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a protective order could be placed far from the market, read back and cancelled; nothing is left open."""

    passed: bool
    symbol: str
    detail: str
    as_of: At


# --- keys ------------------------------------------------------------------------------------------------------------------


class PublicKeyReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What exchange keys are sealed to: the newest key's id and its public bytes, base64; `claimable` says whether an `.env` pair waits."""

    key_id: str
    public_key: str
    claimable: bool = False


class ResealRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seal a user's credentials anew to the newest key."""

    user_id: str
    credentials: SealedCredentials


class ClaimKeysRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seal the pair of the engine's environment for the one admin who claims it."""

    user_id: str


class KeyCheckReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit of a key pair. `problems` stop arming, `advice` does not; both are sentences with a code."""

    can_trade: bool
    can_withdraw: bool
    ip_restricted: bool
    position_mode: PositionMode | None
    problems: list[Problem]
    advice: list[Problem]
    as_of: At
