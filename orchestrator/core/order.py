"""The life of an order as a table, and the words of a "no". An order is an intent: nothing here moves money.

Stands at the head of the orchestrator's half of the arrow: signal → defence → risk → *order* → fill → position → ledger.
"""

import base64
from enum import StrEnum
from typing import Final

import msgspec


class OrderStatus(StrEnum):
    """Where an order stands.

    CLAIMED is committed with its claim and nothing has left; SENT is committed just before the call; UNKNOWN means that the venue
    may or may not have executed it.
    """

    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    CLAIMED = "CLAIMED"
    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    REFUSED = "REFUSED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"


class OrderPurpose(StrEnum):
    """What an order is for: only an ENTRY opens, a CLOSE is always reduce-only."""

    ENTRY = "ENTRY"
    CLOSE = "CLOSE"


ORDER_TRANSITIONS: Final[dict[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.AWAITING_APPROVAL: frozenset({OrderStatus.CLAIMED, OrderStatus.DECLINED, OrderStatus.EXPIRED}),
    OrderStatus.CLAIMED: frozenset({OrderStatus.SENT, OrderStatus.REFUSED}),
    OrderStatus.SENT: frozenset({OrderStatus.FILLED, OrderStatus.REFUSED, OrderStatus.UNKNOWN}),
    OrderStatus.UNKNOWN: frozenset({OrderStatus.FILLED, OrderStatus.REFUSED}),
    OrderStatus.FILLED: frozenset(),
    OrderStatus.REFUSED: frozenset({OrderStatus.FILLED}),
    OrderStatus.DECLINED: frozenset(),
    OrderStatus.EXPIRED: frozenset(),
}
"""Every step that an order may take. A status with no step is final; REFUSED is final too, unless the exchange shows a trade of it."""

UNDER_WAY: Final = frozenset({OrderStatus.CLAIMED, OrderStatus.SENT, OrderStatus.UNKNOWN})
"""Somebody carries it, or must settle it: its outcome is still open."""

LIVE: Final = UNDER_WAY | {OrderStatus.AWAITING_APPROVAL}
"""Not final: an entry in one of these holds a claim."""


def may_become(status: OrderStatus, to: OrderStatus) -> bool:
    """Whether the table allows the step; staying where it is (a new carrier, a new detail) is always allowed while live."""
    return to in ORDER_TRANSITIONS[status] or (to is status and status in LIVE)


def client_order_id(purpose: OrderPurpose, order_id: bytes) -> str:
    """The id that the venue sees, the same for the same order row for ever.

    Args:
        purpose: Of the order; an entry's id begins with "nt-e-", a close's with "nt-c-".
        order_id: The 16 bytes of the row's UUID.
    """
    return request_id("e" if purpose is OrderPurpose.ENTRY else "c", order_id)


def request_id(letter: str, number: bytes) -> str:
    """The client id of a request: "e" an entry, "c" a close, "p" an amendment of the protection.

    Args:
        letter: One of the three.
        number: The 16 bytes of a UUID.
    """
    return f"nt-{letter}-{base64.b32encode(number).decode().rstrip('=').lower()}"


def resting_order_id(letter: str, of: str) -> str:
    """The client id of what the engine places for a request's id: "s" its stop, "t" its target, "r" its trailing stop, "x" its way out.

    Args:
        letter: One of the four.
        of: The request's id, "nt-?-" and 26 characters.
    """
    return f"nt-{letter}-{of[5:]}"


class RefusalReason(StrEnum):
    """Why an entry or a request was not carried out: the word a user can look up."""

    # the three layers
    SCAN_RUNNING = "scan_running"
    DUPLICATE_IN_BATCH = "duplicate_in_batch"
    DUPLICATE_SIGNAL = "duplicate_signal"
    RECENT_SIGNAL = "recent_signal"
    POSITION_HELD = "position_held"
    ENTRY_UNDER_WAY = "entry_under_way"
    # risk
    NOT_ENOUGH_MARGIN = "not_enough_margin"
    TOO_MANY_POSITIONS = "too_many_positions"
    TOO_MUCH_EXPOSURE = "too_much_exposure"
    DAILY_LOSS_REACHED = "daily_loss_reached"
    STOP_BEYOND_LIQUIDATION = "stop_beyond_liquidation"
    LEVERAGE_ABOVE_BRACKET = "leverage_above_bracket"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    BALANCE_UNKNOWN = "balance_unknown"
    BALANCE_STALE = "balance_stale"
    SIGNAL_STALE = "signal_stale"
    FOREIGN_POSITION = "foreign_position"
    # real money
    NO_CREDENTIALS = "no_credentials"
    REAL_STOPPED = "real_stopped"
    REAL_IN_USE = "real_in_use"
    KEY_CLAIMED = "key_claimed"
    # approvals and requests
    APPROVAL_EXPIRED = "approval_expired"
    DECLINED = "declined"
    NOT_FOUND = "not_found"
    NOT_OPEN = "not_open"
    BAD_QUANTITY = "bad_quantity"
    BAD_PRICE = "bad_price"
    PRICE_UNKNOWN = "price_unknown"
    STOPPED = "stopped"
    # the venue
    VENUE_REFUSED = "venue_refused"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A "no" with the reason and a sentence that a user can read."""

    reason: RefusalReason
    detail: str
