"""What crosses the wire at POST /analyze, GET /whales and POST /marks: the engine's view of the market.

Money and prices are Decimal; features and scores are floats, since nothing is ever paid with them.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.enums import AnalystKind, BracketsSource, Side
from shared.margin import Bracket
from shared.wire import require_finite

type At = Annotated[datetime, Meta(tz=True)]
type Symbol = Annotated[str, Meta(min_length=1, max_length=40)]
type Confidence = Annotated[int, Meta(ge=0, le=100)]
type Features = dict[str, float | str | bool | None]


class RejectionReason(StrEnum):
    """Why the engine dropped a symbol, in the order in which it looks."""

    LOW_QUOTE_VOLUME = "low_quote_volume"
    LOW_CHANGE = "low_change"
    OUTSIDE_TOP_MOVERS = "outside_top_movers"
    MARKET_DATA_MISSING = "market_data_missing"
    MARKET_DATA_STALE = "market_data_stale"
    REQUEST_WEIGHT_SPENT = "request_weight_spent"
    NOT_ENOUGH_HISTORY = "not_enough_history"
    LOW_VOLUME_RATIO = "low_volume_ratio"
    RSI_DEAD_ZONE = "rsi_dead_zone"
    LOW_EFFICIENCY = "low_efficiency"
    LOW_RANGE = "low_range"
    NO_SETUP = "no_setup"
    NO_SCORE = "no_score"
    LOW_SCORE = "low_score"
    OUTRANKED = "outranked"
    WHALE_VETO = "whale_veto"
    NO_SYMBOL_RULES = "no_symbol_rules"
    ANALYST_OVER_BUDGET = "analyst_over_budget"
    ANALYST_FAILED = "analyst_failed"
    ANALYST_WAITS = "analyst_waits"
    LOW_CONFIDENCE = "low_confidence"
    WRONG_SIDE_STOP = "wrong_side_stop"
    WRONG_SIDE_TARGET = "wrong_side_target"
    STOP_TOO_CLOSE = "stop_too_close"
    STOP_TOO_FAR = "stop_too_far"
    POOR_REWARD_RISK = "poor_reward_risk"
    STALE_PRICE = "stale_price"


class WhaleSignal(StrEnum):
    """What the whale detector expects next."""

    PUMP_IMMINENT = "PUMP_IMMINENT"
    DUMP_IMMINENT = "DUMP_IMMINENT"
    SQUEEZE_LONGS = "SQUEEZE_LONGS"
    SQUEEZE_SHORTS = "SQUEEZE_SHORTS"
    NEUTRAL = "NEUTRAL"


class LiquidationPressure(StrEnum):
    """Which side was liquidated in the last 300 s of market time."""

    NONE = "NONE"
    LONG_HEAVY = "LONG_HEAVY"
    SHORT_HEAVY = "SHORT_HEAVY"
    BALANCED = "BALANCED"


class CascadeState(StrEnum):
    """Where a symbol's liquidation cascade stands, judged from its last 300 s of market time."""

    NONE = "NONE"
    BUILDING = "BUILDING"
    RUNNING = "RUNNING"
    EXHAUSTED = "EXHAUSTED"


class WhaleView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The detector's view of one symbol. USD sums are those of the 300 s window, an undercount by the stream's nature.

    `liquidations` counts the forced orders that were told, at most one a second. `cascade_side` is the position that is being liquidated:
    LONG means down. `cascade_heat` is 0..100, `cascade_answer_ratio` how far the price moved with the forced orders. Large trades are those of
    $50k and more in 300 s (of the last 100 trades where the stream does not follow the symbol). None: not asked here, or no answer.
    """

    symbol: Symbol
    signal: WhaleSignal
    confidence: Confidence
    pressure: LiquidationPressure
    long_liquidations_usd: float
    short_liquidations_usd: float
    pump_points: int
    dump_points: int
    reasons: list[str] = []
    liquidations: int = 0
    cascade: CascadeState = CascadeState.NONE
    cascade_side: Side | None = None
    cascade_heat: float = 0.0
    cascade_answer_ratio: float | None = None
    book_imbalance_ratio: float | None = None
    buy_wall: bool | None = None
    sell_wall: bool | None = None
    large_bought_usd: float | None = None
    large_sold_usd: float | None = None
    funding_ratio: float | None = None
    open_interest_change_ratio: float | None = None
    long_short_ratio: float | None = None


class Liquidation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One forced order as the feed saw it; `side` is the position that was liquidated."""

    symbol: Symbol
    side: Side
    price: Decimal
    quantity: Decimal
    usd: float
    at: At


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A symbol that the screener kept, best score first."""

    symbol: Symbol
    score: float
    direction: Side
    features: Features
    whale: WhaleView | None = None


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange's rules say of a symbol, and its leverage tiers with where they come from."""

    symbol: Symbol
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    brackets: list[Bracket]
    brackets_source: BracketsSource
    liquidation_fee_ratio: Decimal

    def __post_init__(self) -> None:
        require_finite(self.tick_size, self.step_size, self.min_quantity, self.max_quantity, self.min_notional)


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict that passed every check against the live price.

    `signal_price` is the price it was checked against, seen at `price_at`; `candle_close` is the close of the newest closed 15m
    candle that decided, so that the same candle never yields the same signal twice.
    """

    symbol: Symbol
    side: Side
    confidence: Confidence
    signal_price: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    reward_risk: float
    reasoning: str
    analyst: AnalystKind
    model: str = ""
    candle_close: At
    price_at: At
    features: Features
    whale: WhaleView | None = None
    instrument: Instrument

    def __post_init__(self) -> None:
        require_finite(self.signal_price, self.stop_loss, self.take_profit)


class Rejection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a symbol gave no signal, with the figures that decided."""

    symbol: Symbol
    reason: RejectionReason
    detail: str = ""


class AnalyzeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to analyse; absent fields take the engine's settings. More symbols would eat the request weight that stops need."""

    symbols: Annotated[list[Symbol], Meta(max_length=200)] | None = None
    top_n: Annotated[int, Meta(ge=1, le=200)] | None = None
    min_confidence: Confidence | None = None


class AnalyzeReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scan. `universe` counts tradable perpetuals, `screened` those that were judged by their candles, from wherever.

    `fallbacks` says in words what did not come from where it usually does, and what could not be read.
    """

    as_of: At
    universe: int
    screened: int
    analyst: AnalystKind
    candidates: list[Candidate]
    signals: list[Signal]
    rejections: list[Rejection]
    timings_ms: dict[str, float]
    fallbacks: list[str] = []


class WhalesReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The liquidation window at a moment: symbols with the heaviest flow first, and the newest events."""

    as_of: At
    feed_age_ms: int | None
    views: list[WhaleView]
    recent: list[Liquidation]


class Bar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mark price between two moments of market time."""

    from_: At = msgspec.field(name="from")
    to: At
    open: Decimal
    high: Decimal
    low: Decimal


class FundingEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One funding settlement of a symbol: a long pays quantity x mark x rate when the rate is positive."""

    at: At
    rate: Decimal
    mark: Decimal


class SymbolMarks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A symbol's mark price, its age by wall clock since receipt, and what it did since the caller last looked.

    `bars` are oldest first and never reach before the caller's `since`; `since` is where the next look should start.
    """

    mark: Decimal
    as_of: At
    age_ms: int
    bars: list[Bar]
    funding: list[FundingEvent]
    since: At


class MarksRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which moment of market time each symbol's bars are wanted."""

    since: Annotated[dict[Symbol, At], Meta(max_length=1000)]


class MarksReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Marks of the symbols that have one; the others with the reason. One missing symbol never affects another."""

    as_of: At
    marks: dict[str, SymbolMarks]
    missing: dict[str, str]
