"""What each error of the exchange means for an order: one table, decided on the number and never on ccxt's class.

ccxt's class is asked only where no reply came at all; then `CLASSES` says whether the request may have arrived.

Source: Binance USDⓈ-M "Error Codes" and "General Info", HTTP return codes (read 2026-11); the two sentences of a 503 are the latter's.
"""

from enum import StrEnum
from typing import Final

import msgspec

from engine.core.order import OrderRefusal


class Action(StrEnum):
    """What follows from an error.

    DONE: it is as we wanted it. AGAIN: certainly not carried out, may be sent later. WAIT: the same, and not before Retry-After.
    CLOCK: the same, after asking for the exchange's time. UNSURE: it may have been carried out, look it up. DUPLICATE: an order of that
    id is open, look it up. ABSENT: the exchange knows no such order, or key of a stream, now. REFUSE: a certain no. HALT: nothing goes for
    this account until somebody has mended it.
    """

    DONE = "done"
    AGAIN = "again"
    WAIT = "wait"
    CLOCK = "clock"
    UNSURE = "unsure"
    DUPLICATE = "duplicate"
    ABSENT = "absent"
    REFUSE = "refuse"
    HALT = "halt"


class Decision(msgspec.Struct, frozen=True):
    """An action, and the word for the user where it is a refusal."""

    action: Action
    refusal: OrderRefusal = OrderRefusal.VENUE_RULE


_UNSURE: Final = Decision(Action.UNSURE)
_AGAIN: Final = Decision(Action.AGAIN)
_WAIT: Final = Decision(Action.WAIT)
_CLOCK: Final = Decision(Action.CLOCK)
_HALT: Final = Decision(Action.HALT)
_ABSENT: Final = Decision(Action.ABSENT)
_DONE: Final = Decision(Action.DONE)


def _refuse(refusal: OrderRefusal) -> Decision:
    return Decision(Action.REFUSE, refusal)


_RULE: Final = _refuse(OrderRefusal.VENUE_RULE)
_MARGIN: Final = _refuse(OrderRefusal.NOT_ENOUGH_MARGIN)
_CLOSED: Final = _refuse(OrderRefusal.SYMBOL_NOT_TRADING)
_LEVERAGE: Final = _refuse(OrderRefusal.LEVERAGE)
_PRICE: Final = _refuse(OrderRefusal.OUTSIDE_PRICE_BOUNDS)
_SMALL: Final = _refuse(OrderRefusal.BELOW_MIN_QUANTITY)
_REDUCE: Final = _refuse(OrderRefusal.REDUCE_ONLY)
_TRIGGER: Final = _refuse(OrderRefusal.WOULD_TRIGGER)
_ISOLATED: Final = _refuse(OrderRefusal.MARGIN_TYPE)
_HEDGE: Final = _refuse(OrderRefusal.HEDGE_MODE)
_ONLY_REDUCING: Final = _refuse(OrderRefusal.VENUE_HALTED)
"""The account may still close: a refusal of this order, not a halt of the account."""

CODES: Final[dict[int, Decision]] = {
    # Unknown, or known to have failed without a verdict on the order.
    -1000: _UNSURE,
    -1001: _UNSURE,
    -1006: _UNSURE,
    -1007: _UNSURE,
    -2010: _UNSURE,
    -2012: _UNSURE,
    -2020: _UNSURE,
    -4078: _UNSURE,
    -1003: _WAIT,
    -1015: _WAIT,
    -1008: _AGAIN,
    -4117: _AGAIN,  # a stop that is just becoming an order cannot be cancelled yet
    -1021: _CLOCK,
    -5028: _CLOCK,
    # Key, signature, address, account.
    -1005: _HALT,
    -1011: _HALT,
    -1022: _HALT,
    -1099: _HALT,
    -2014: _HALT,
    -2015: _HALT,
    -2017: _HALT,
    -1109: _HALT,
    -4109: _HALT,
    # Parameters: these are bugs of ours, or rules that changed since they were read.
    -1100: _RULE,
    -1101: _RULE,
    -1102: _RULE,
    -1103: _RULE,
    -1104: _RULE,
    -1105: _RULE,
    -1106: _RULE,
    -1111: _RULE,
    -1115: _RULE,
    -1116: _RULE,
    -1117: _RULE,
    -1121: _refuse(OrderRefusal.UNKNOWN_SYMBOL),
    -4144: _refuse(OrderRefusal.UNKNOWN_SYMBOL),
    -1122: _CLOSED,
    -4140: _CLOSED,
    -4141: _CLOSED,
    -1128: _RULE,
    -1130: _RULE,
    -1131: _RULE,
    -5000: _RULE,
    # Orders that are not there.
    -1125: _ABSENT,
    -2011: _ABSENT,
    -2013: _ABSENT,
    -4116: Decision(Action.DUPLICATE),
    # Money and size.
    -2018: _MARGIN,
    -2019: _MARGIN,
    -2027: _refuse(OrderRefusal.LEVERAGE_ABOVE_BRACKET),
    -2028: _LEVERAGE,
    -4028: _LEVERAGE,
    -4161: _LEVERAGE,
    -4202: _LEVERAGE,
    -4203: _LEVERAGE,
    -4205: _LEVERAGE,
    -4206: _LEVERAGE,
    -4208: _LEVERAGE,
    -4209: _LEVERAGE,
    -4164: _refuse(OrderRefusal.BELOW_MIN_NOTIONAL),
    -4001: _PRICE,
    -4002: _PRICE,
    -4013: _PRICE,
    -4016: _PRICE,
    -4024: _PRICE,
    -4131: _PRICE,
    -4183: _PRICE,
    -4184: _PRICE,
    -4210: _PRICE,
    -4211: _PRICE,
    -4003: _SMALL,
    -4004: _SMALL,
    -4005: _refuse(OrderRefusal.ABOVE_MAX_QUANTITY),
    -4014: _RULE,
    -4023: _RULE,
    -4015: _RULE,
    # Protection and reduce-only.
    -2007: _RULE,
    -2021: _TRIGGER,
    -4142: _TRIGGER,
    -2022: _REDUCE,
    -2024: _REDUCE,
    -4118: _REDUCE,
    -2023: _RULE,
    -2025: _RULE,
    -4045: _RULE,
    -4120: _RULE,
    -4130: _RULE,
    -4136: _RULE,
    -4137: _RULE,
    -4138: _RULE,
    -4139: _RULE,
    -5021: _RULE,
    -5022: _RULE,
    -4105: _RULE,
    -4106: _RULE,
    -4107: _RULE,
    # How the account holds positions.
    -4046: _DONE,
    -4059: _DONE,
    -4047: _ISOLATED,
    -4048: _ISOLATED,
    -4168: _refuse(OrderRefusal.MULTI_ASSETS),
    -4060: _HEDGE,
    -4061: _HEDGE,
    -4067: _HEDGE,
    -4068: _HEDGE,
    -4192: _ONLY_REDUCING,
    -4087: _ONLY_REDUCING,
    -4088: _ONLY_REDUCING,
    -4400: _ONLY_REDUCING,
    -4401: _ONLY_REDUCING,
    -4402: _ONLY_REDUCING,
    -4403: _ONLY_REDUCING,
}

STATUSES: Final[dict[int, Decision]] = {
    403: _WAIT,  # the firewall: the request never reached the exchange
    404: _RULE,
    408: _UNSURE,
    418: _WAIT,
    429: _WAIT,
    500: _UNSURE,
    502: _UNSURE,
    503: _UNSURE,
    504: _UNSURE,
}
"""For replies without a code of the table."""

CERTAIN_503: Final = "Service Unavailable"
"""The one sentence of a 503 that says: certainly not carried out. Any other 503 says nothing, a page of HTML with these words least of all:
whoever stands between us and the exchange wrote it, and the order may have passed."""


def decide(status: int, code: int | None, text: str) -> Decision:
    """What an error reply means.

    Args:
        status: Of HTTP.
        code: The exchange's number, None where the body has none.
        text: Its sentence, or the body.
    """
    if status in (418, 429):
        return _WAIT
    known = CODES.get(code) if code is not None else None
    if known is not None:
        return known
    if status == 503 and text.strip().strip('".') == CERTAIN_503:
        return _AGAIN
    return STATUSES.get(status, _UNSURE if status >= 500 or status < 400 else _RULE)


_BEFORE_SENDING: Final = (
    "ArgumentsRequired",
    "BadSymbol",
    "BadRequest",
    "NotSupported",
    "InvalidProxySettings",
    "ExchangeClosedByUser",
    "InvalidAddress",
    "AddressPending",
    "OrderNotCached",
    "MarketClosed",
    "ContractUnavailable",
    "UnsubscribeError",
    "InvalidOrder",
    "OrderNotFound",
    "OrderImmediatelyFillable",
    "OrderNotFillable",
    "DuplicateOrderId",
    "InsufficientFunds",
    "NoChange",
    "MarginModeAlreadySet",
    "OperationRejected",
    "ManualInteractionNeeded",
    "RestrictedLocation",
    "AccountNotEnabled",
    "AccountSuspended",
    "PermissionDenied",
)
"""Without a reply these can only come from ccxt's own checks: nothing left the process."""

_MAYBE_SENT: Final = (
    "BaseError",
    "ExchangeError",
    "OperationFailed",
    "NetworkError",
    "DDoSProtection",
    "RateLimitExceeded",
    "ExchangeNotAvailable",
    "OnMaintenance",
    "InvalidNonce",
    "ChecksumError",
    "RequestTimeout",
    "BadResponse",
    "NullResponse",
    "CancelPending",
)

CLASSES: Final[dict[str, Decision]] = (
    dict.fromkeys(_BEFORE_SENDING, _AGAIN) | dict.fromkeys(_MAYBE_SENT, _UNSURE) | {"AuthenticationError": _HALT}
)
"""Every error class of ccxt where no reply was read; a connection that was never made is AGAIN whatever the class."""
