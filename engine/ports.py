"""What the use cases need from outside, as protocols; adapters stand above and are handed in where the process is composed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from engine.core.features_live import LiveFeatures, Told
from engine.core.instrument import InstrumentRules
from engine.core.large_trades import TradeFlow
from engine.core.market import Book, Candles, ForcedOrder, Funding, Mark, MarkBar, Positioning, Ticker, Timeframe, Trade
from engine.core.order import EntryPlan, Wallet
from engine.core.ticks import Tick
from engine.core.verdict import AnalystFailure, Case, Verdict
from shared.enums import AnalystKind, BracketsSource, OrderKind, PositionMode, Side
from shared.execution import (
    AccountEvent,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    Fill,
    FlattenReply,
    Income,
    OrderReply,
    OrderSide,
    PaperPosition,
    Protection,
    PublicKeyReply,
    RealAccount,
    SealedCredentials,
    Trailing,
    Trigger,
    VenueOrder,
    VenuePosition,
    VenueState,
    VenueTrade,
)
from shared.margin import Bracket
from shared.problem import Problem

# --- the market side -------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Both times: `now` is the market's, `wall` the machine's; aware UTC datetimes, and milliseconds of each."""

    def now(self) -> datetime:
        """Market time."""
        ...

    def wall(self) -> datetime:
        """Wall time."""
        ...

    def now_ms(self) -> int:
        """Market time as an exchange integer."""
        ...

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        """Wall seconds between two moments that the market stamped; None where its time runs faster or slower than the wall's."""
        ...

    def wall_ms(self) -> int:
        """Wall time in milliseconds."""
        ...


class MarketData(Protocol):
    """Public data of the exchange by request. Every method raises an `ExchangeError` where the data did not come."""

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        """The rules of every listed symbol, cached for an hour; those that do not trade are in it with their status."""
        ...

    async def instrument(self, symbol: str) -> InstrumentRules:
        """One symbol's rules; raises UnknownSymbol."""
        ...

    async def tickers(self) -> Mapping[str, Ticker]:
        """The rolling 24 h of all symbols."""
        ...

    async def candles(self, symbol: str, timeframe: Timeframe) -> Candles:
        """Up to 499 closed candles, cached until the next close."""
        ...

    async def book(self, symbol: str) -> Book:
        """The 20 best levels of each side, fresh."""
        ...

    async def mark(self, symbol: str) -> Mark:
        """The mark price, fresh."""
        ...

    async def marks(self) -> Mapping[str, Mark]:
        """All mark prices in one call."""
        ...

    async def trades(self, symbol: str) -> Sequence[Trade]:
        """The last 100 trades."""
        ...

    async def positioning(self, symbol: str, mark: Mark | None = None) -> Positioning:
        """Funding, the mark's where one is known, the top traders' long/short ratio and the change of the open interest; each may be missing."""
        ...

    async def mark_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[MarkBar]:
        """1m mark-price candles that open in [since, until], oldest first, the open one included, paged as needed."""
        ...

    async def fundings(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Funding]:
        """Funding settlements in (since, until], oldest first."""
        ...


class FeedState(msgspec.Struct, frozen=True, kw_only=True):
    """How fresh the feed is, wall milliseconds at the last message of each stream; None before the first."""

    beat_ms: int
    tickers_ms: int | None = None
    marks_ms: int | None = None
    liquidations_ms: int | None = None
    connected: bool = False
    reconnects: int = 0


class FiguresState(msgspec.Struct, frozen=True, kw_only=True):
    """The leading feed's account of the figures that it keeps.

    `leader` names the process, `written_ms` is wall time at the write and `market_ms` market time then. `skew_ms` is what the exchange's clock
    is ahead of our wall clock, None where it is not measured. `seeded` of `wanted` symbols have figures; `stale` waits for candles.
    `late` of them lack a candle that should have come by now. `candles_ms` is wall time at the last closing frame, None before the first.
    """

    leader: str
    written_ms: int
    market_ms: int
    skew_ms: int | None = None
    wanted: int = 0
    seeded: int = 0
    stale: tuple[str, ...] = ()
    late: int = 0
    candles_ms: int | None = None


class TradeWindows(msgspec.Struct, frozen=True, kw_only=True):
    """The large trades of the symbols that the feed listens to, at a wall moment; not connected means that nothing is known since."""

    beat_ms: int
    connected: bool = False
    flows: tuple[TradeFlow, ...] = ()


class Snapshots(Protocol):
    """What the feed process keeps in Redis. Every method raises SnapshotsUnavailable where Redis does not answer."""

    async def tickers(self) -> Mapping[str, Ticker]:
        """Latest tickers; empty when the feed never wrote."""
        ...

    async def marks(self) -> Mapping[str, Mark]:
        """Latest marks; empty when the feed never wrote."""
        ...

    async def ticks(self, since_ms: Mapping[str, int]) -> Mapping[str, Sequence[Tick]]:
        """The marks of each symbol from just before its moment of market time on, oldest first; what was not heard is not in it."""
        ...

    async def liquidations(self) -> Sequence[ForcedOrder]:
        """The forced orders of the window, oldest first."""
        ...

    async def state(self) -> FeedState | None:
        """The feed's own account of itself; None when it never wrote."""
        ...

    async def large_trades(self) -> TradeWindows | None:
        """Large trades of the symbols that are listened to; None when the feed never wrote."""
        ...

    async def want_trades(self, symbols: Sequence[str]) -> None:
        """Asks the feed to listen to the trades of these symbols for the next minutes."""
        ...

    async def figures(self) -> Told | None:
        """What candles say of every symbol; None when nobody wrote it, or in another form."""
        ...

    async def memory(self) -> LiveFeatures | None:
        """What a feed needs to carry the figures on; None when nobody wrote it, or in another form."""
        ...

    async def figures_state(self) -> FiguresState | None:
        """The leader's account of the figures; None when nobody wrote it."""
        ...


class Heart(Protocol):
    """A source that can be asked whether it lives."""

    @property
    def answered_ms(self) -> int | None:
        """Wall milliseconds at its last answer; None before the first."""
        ...

    async def beat(self) -> None:
        """Asks it; raises an EngineError where it does not answer."""
        ...


class Analyst(Protocol):
    """Who argues a trade. A failure is a value and means: no trade.

    `answered_ms` is wall time at the last verdict, None before the first; `failing` says that the last question had none.
    """

    kind: AnalystKind
    model: str
    answered_ms: int | None
    failing: bool

    async def argue(self, case: Case) -> Verdict | AnalystFailure:
        """Judges one candidate; never raises for what a model or a network does."""
        ...


# --- the execution side ----------------------------------------------------------------------------------------------------


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue says is open. With state UNKNOWN the list proves nothing: unknown is not flat.

    `told` are the same positions in an exchange's own words and figures, where one was asked.
    """

    state: VenueState
    positions: tuple[PaperPosition, ...] = ()
    told: tuple[VenuePosition, ...] | None = None


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A reduce-only order that passed. `position` is None where the venue cannot see it (dry run), `sent_at` as in CloseRequest."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    position: PaperPosition | None
    trigger: Trigger | None
    sent_at: datetime | None = None


class Executed(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue did: its trades, oldest first, and what a liquidation cost besides (USDT).

    `protection` is what rests now for what is left of a position after a part was closed, where anything rests at the venue.
    """

    fills: list[Fill]
    liquidation_fee: Decimal = Decimal(0)
    protection: Protection | None = None


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """It may or may not have been carried out, wholly or in part: the id is to be looked up, never sent again."""

    detail: str


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that was filled, and its protection; or its reason for having none, and then the trades that closed it at once.

    `unprotected_seconds` is wall time from the fill to the confirmed stop, or to flat: from the moment its order left where it was sent
    here, else by the exchange's own times; None where nobody can say.
    """

    requested: Decimal
    fills: list[Fill]
    protection: Protection | None
    refusal: Problem | None = None
    unprotected_seconds: float | None = None
    closing_order_id: str = ""
    closing_fills: list[Fill] = []


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On which leverage brackets a venue trades a symbol for an account."""

    brackets: Sequence[Bracket]
    source: BracketsSource


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """Stop, target and trailing stop that shall rest for a position; `client_order_id` is the request's, theirs follow from it."""

    client_order_id: str
    symbol: str
    side: Side
    stop_loss: Decimal
    take_profit: Decimal | None
    trailing: Trailing | None = None
    end_trailing: bool = False


class Venue(Protocol):
    """Where orders go for one account. A venue's "no" is a Problem, and then nothing happened; nothing it does raises a VenueError.

    `lasting` says that what it does can be read there again; else the reply alone holds it.
    """

    name: str
    executor: str
    dry_run: bool
    lasting: bool

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What a live order would meet and a dry run could not look at."""
        ...

    async def wallet(self) -> Wallet | Problem | None:
        """The account's USDT; None where only a signed call could say."""
        ...

    async def holdings(self) -> Holdings | Problem:
        """The account's open positions."""
        ...

    async def terms(self, symbol: str) -> Terms | Problem:
        """What the account may trade a symbol on; a Problem where its settings forbid it."""
        ...

    async def held(self, symbol: str, side: Side) -> PaperPosition | Problem | None:
        """One position with the stop and target that guard it; None where the venue cannot see (dry run)."""
        ...

    async def enter(self, plan: EntryPlan) -> Entered | Problem | Unknown:
        """Opens a position by a market order and protects it, or closes it again."""
        ...

    async def resume_entry(self, request: EntryRequest) -> Entered | Problem | Unknown:
        """Finishes what is found of an entry; a Problem where it provably never arrived."""
        ...

    async def close(self, closing: Closing) -> Executed | Problem | Unknown:
        """Reduces a position by a market order, never more than it holds."""
        ...

    async def resume_close(self, request: CloseRequest) -> Executed | Problem | Unknown:
        """Finishes what is found of a close; a Problem where it provably never arrived."""
        ...

    async def protect(self, guard: Guard) -> Protection | Problem | Unknown:
        """Lets stop and target rest, in place of those that do, never without a stop in between."""
        ...

    async def flatten(self, prefix: str) -> FlattenReply | Problem | None:
        """Closes everything of the account; None where the venue has no view of its own and positions are closed one by one."""
        ...

    async def look_up(self, client_order_id: str, symbol: str | None) -> OrderReply:
        """What became of an id of which no report is kept."""
        ...


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """An opened API key pair; it never leaves the process, and nothing prints it."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "KeyPair(***)"


class Keys(Protocol):
    """The engine's seal: only here sealed credentials are opened. Every method raises SealBroken, `open` alone where credentials are wrong."""

    def public(self, *, claimable: bool) -> PublicKeyReply:
        """What is sealed to now."""
        ...

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        """The pair; refused where it was sealed for another user, to an unknown key, or is damaged."""
        ...

    def seal(self, user_id: str, pair: KeyPair) -> SealedCredentials:
        """A pair sealed to the newest key, for one user."""
        ...

    def reseal(self, user_id: str, credentials: SealedCredentials) -> SealedCredentials:
        """The same pair under the newest key."""
        ...


class MarketOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A MARKET order to be sent: quantity in base asset, a multiple of the step.

    `position_side` is LONG or SHORT in hedge mode alone, where the order against that side can only reduce it.
    """

    client_order_id: str
    symbol: str
    order_side: OrderSide
    position_side: str = "BOTH"
    quantity: Decimal
    reduce_only: bool


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional order to be placed with the algo service, always reduce-only, quantity exact, judged on the mark price.

    `callback_ratio` belongs to TRAILING alone, whose `trigger_price` is the activation price: None where it is active at once.
    """

    client_order_id: str
    symbol: str
    kind: OrderKind
    order_side: OrderSide
    quantity: Decimal
    trigger_price: Decimal | None
    callback_ratio: Decimal | None = None


class Urgency(StrEnum):
    """What a call is for, by what it must leave of the shared budget.

    PROTECT: stops, closes, cancels and the look-ups of those may use all. WATCH: a glance at what guards positions leaves the reserve to
    them. ENTER: entries, scans and the books leave the watch its share too.
    """

    ENTER = "ENTER"
    WATCH = "WATCH"
    PROTECT = "PROTECT"


class Budget(Protocol):
    """What the exchange grants us, over all replicas: request weight a market minute, and orders of an account in 10 s and in a minute."""

    async def spend(self, weight: int, urgency: Urgency = Urgency.ENTER, account: str = "", orders: int = 0) -> int:
        """Takes weight, and order counts of an account, waiting a little where they are spent; only PROTECT may take the reserve.

        Returns the market minute that it was taken from. Raises ExchangeThrottled: the wait would be, or was, too long, or the
        exchange told us to stay away.
        """
        ...

    def learn(self, used: int, minute: int) -> None:
        """Takes over what the exchange counted of a minute's weight, where it counted more than we did."""
        ...

    def learn_orders(self, account: str, at_ms: int, counts: Sequence[int]) -> None:
        """Takes over what the exchange counted of an account's orders in 10 s and in a minute when one was sent; -1: it did not say."""
        ...

    def block(self, seconds: float) -> None:
        """Stays away for wall seconds, as a 429 or 418 demands: all replicas."""
        ...

    def lower(self, limit: int) -> None:
        """Believes for a while that the exchange grants no more weight a minute than this, where it is less than ours: all replicas."""
        ...

    def block_orders(self, account: str, seconds: float) -> None:
        """Sends no order of an account for wall seconds."""
        ...


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do, as the exchange tells it; None where it would not say."""

    can_trade: bool | None
    can_withdraw: bool | None
    ip_restricted: bool | None


class AccountModes(msgspec.Struct, frozen=True, kw_only=True):
    """How an account is set; in multi-assets mode the exchange refuses isolated margin."""

    position: PositionMode
    multi_assets: bool


class Exchange(Protocol):
    """One account at an exchange by signed calls, one or two calls a method; never a retry of an order inside.

    A certain "no" of the exchange is a Problem (code: one of OrderRefusal, detail with the exchange's number and words). Every method
    raises VenueUnsure, VenueAway or VenueHalted where no answer came. Reads may be behind what was just written.
    """

    async def wallet(self) -> Wallet:
        """USDT wallet balance, and what is available."""
        ...

    async def modes(self) -> AccountModes:
        """One-way or hedge, single-asset or multi-assets."""
        ...

    async def positions(self) -> list[VenuePosition]:
        """Everything open, of every symbol; quantities unsigned."""
        ...

    async def brackets(self, symbol: str) -> Sequence[Bracket]:
        """The account's own leverage brackets of a symbol."""
        ...

    async def set_isolated(self, symbol: str) -> Problem | None:
        """Isolated margin; that it was isolated already is fine."""
        ...

    async def set_leverage(self, symbol: str, leverage: int) -> Problem | None:
        """Leverage of a symbol."""
        ...

    async def send(self, order: MarketOrder) -> VenueOrder | Problem:
        """Sends once. A duplicate id that is open is answered with that order."""
        ...

    async def rest(self, condition: Condition) -> VenueOrder | Problem:
        """Places once; `would_trigger` where the market is beyond the trigger already (-2021)."""
        ...

    async def find(self, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | None:
        """An order by our id, open or past; None where the exchange knows none now."""
        ...

    async def trades(self, symbol: str, order: VenueOrder) -> list[Fill]:
        """The trades of one order (a conditional one's child), oldest first, fees in USDT."""
        ...

    async def working(self, symbol: str | None = None) -> list[VenueOrder]:
        """All orders that work now, regular and conditional; None means every symbol."""
        ...

    async def ended(self, symbol: str, since: datetime) -> list[VenueOrder]:
        """Regular and conditional orders of a symbol that ended, created at or after `since` or a little before."""
        ...

    async def account_trades(self, symbol: str, since: datetime) -> list[VenueTrade]:
        """All trades of a symbol from `since` on, oldest first, paged as needed, each with its order's client id."""
        ...

    async def income(self, since: datetime) -> list[Income]:
        """All income from `since` on, oldest first, paged as needed."""
        ...

    async def cancel(self, order: VenueOrder) -> None:
        """Cancels; that it is gone already is fine (whether by a fill must be read)."""
        ...

    async def cancel_all(self, symbol: str) -> None:
        """Cancels every order of a symbol, regular and conditional."""
        ...

    async def permissions(self) -> Permissions:
        """What the key may do."""
        ...

    def events(self) -> AsyncIterator[AccountEvent]:
        """The user data stream, reconnected for ever: CONNECTED after each connection, PING while nothing happens."""
        ...


class Exchanges(Protocol):
    """Opens accounts; clients are kept per key and closed when the process ends."""

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        """The account's exchange; raises SealBroken, or VenueHalted where the account has no credentials."""
        ...


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """The caller alone may work on an id, until the claim expires."""

    token: str


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else works on the id now."""


class Reports(Protocol):
    """Execution reports by client order id, shared by all replicas. Every method raises ReportStoreUnavailable.

    A claim that expires without a report means that its worker died: for PAPER nothing happened then, since `keep` refuses a report
    whose claim is gone.
    """

    async def claim(
        self, client_order_id: str, digest: str, seconds: float | None = None
    ) -> Claimed | InFlight | ExecutionReport:
        """Takes the id, for its usual time or so many seconds, or says who has it, or what became of it.

        Raises ClientOrderIdReused where the digest differs.
        """
        ...

    async def keep(self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport) -> bool:
        """Stores the report for a day in place of the claim; False where the claim had expired, and nothing is stored."""
        ...

    async def release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        """Gives the id back: nothing happened, it may come again."""
        ...

    async def find(self, client_order_id: str) -> ExecutionReport | InFlight | None:
        """What is known of an id; None proves that no claim lives and no report is kept."""
        ...
