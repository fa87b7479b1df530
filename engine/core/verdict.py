"""What an analyst says of a candidate, and the checks that make it a signal or a rejection.

Stands between the analyst and the wire: nothing becomes a Signal without passing here.
"""

from decimal import Decimal

import msgspec

from shared.analysis import Candidate
from shared.enums import AnalystKind, Side


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What an analyst is shown of one candidate: live price in USDT, ATR of 15m candles in USDT, wider indicators."""

    candidate: Candidate
    price: Decimal
    tick_size: Decimal
    atr: float
    indicators: dict[str, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """An analyst's word: a side with stop and target, or None to wait."""

    side: Side | None
    confidence: int
    stop_loss: Decimal | None
    take_profit: Decimal | None
    reasoning: str
    analyst: AnalystKind
    model: str = ""


class AnalystFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an analyst gave no verdict; never holds the untrusted reply itself."""

    reason: str
