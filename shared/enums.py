"""The closed sets of words that cross the wire, one member a meaning."""

from enum import StrEnum


class Mode(StrEnum):
    """Whose money an account holds."""

    PAPER = "PAPER"
    REAL = "REAL"


class Side(StrEnum):
    """The side of a position; the engine derives BUY and SELL from it."""

    LONG = "LONG"
    SHORT = "SHORT"

    @property
    def sign(self) -> int:
        """1 for LONG, -1 for SHORT: what a price change is multiplied with."""
        return 1 if self is Side.LONG else -1

    @property
    def opposite(self) -> "Side":
        """The other side."""
        return Side.SHORT if self is Side.LONG else Side.LONG


class ExecutionStatus(StrEnum):
    """How an order ended, as far as the engine knows.

    UNKNOWN means that the venue may or may not have executed it: it is settled by looking the id up, never by sending again.
    """

    FILLED = "FILLED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"


class OrderLookup(StrEnum):
    """What became of a client order id."""

    FILLED = "FILLED"
    OPEN = "OPEN"
    NOT_FOUND = "NOT_FOUND"
    UNKNOWN = "UNKNOWN"


class TriggerKind(StrEnum):
    """Why a resting condition closed a position."""

    STOP = "STOP"
    TARGET = "TARGET"
    TRAILING = "TRAILING"
    LIQUIDATION = "LIQUIDATION"


class BracketsSource(StrEnum):
    """Where leverage brackets come from, best first."""

    EXCHANGE = "EXCHANGE"
    RECORDED = "RECORDED"
    CONSERVATIVE = "CONSERVATIVE"


class AnalystKind(StrEnum):
    """Who argued the trade."""

    MODEL = "model"
    RULES = "rules"


class OrderKind(StrEnum):
    """What kind of order rests or was sent at the exchange. STOP, TARGET and TRAILING are conditional orders (algo service)."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    TARGET = "TARGET"
    TRAILING = "TRAILING"
    OTHER = "OTHER"


class OrderState(StrEnum):
    """Where an order stands at the exchange, regular or conditional; everything but WORKING is final.

    WORKING rests or is being matched (NEW, PARTIALLY_FILLED, TRIGGERING, and TRIGGERED while its child order works). ENDED is final without
    being filled whole (CANCELED, EXPIRED, REJECTED): what was filled of it stands.
    """

    WORKING = "WORKING"
    FILLED = "FILLED"
    ENDED = "ENDED"


class PositionMode(StrEnum):
    """How an account holds positions at the exchange."""

    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"
