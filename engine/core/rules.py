"""The transparent rule-based analyst: used when no model is set, and the baseline that a model must beat.

Decides side, stop, target and confidence of one candidate from named evidence. It fades short moves against the 4h trend, which is what the
screener's candidates are. Confidence is a sum: each piece of evidence adds its points and nothing else does, so that more evidence never means
less confidence. The reasoning names every piece with its figure.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from engine.core.verdict import Case, Verdict
from engine.core.whales import favours
from shared.enums import AnalystKind, Side
from shared.margin import round_to_tick

BASE_CONFIDENCE: Final = 40
MOST_CONFIDENCE: Final = 95

STOP_ATR: Final = 2.0
"""Two average ranges of 15 minutes: farther than the noise of the candle that called."""

MIN_STOP_RATIO: Final = 0.004
MAX_STOP_RATIO: Final = 0.045
"""Kept inside the verdict's bound of 5 %, so that a price that moves on meanwhile does not break it."""

REWARD_RISK: Final = 1.8
"""Above the verdict's 1.5, so that a price that moves on meanwhile does not break it."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One piece: what was seen, with its figure, and the points it adds."""

    points: int
    words: str


type _Piece = Callable[["_View"], Evidence | None]


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate's figures, mirrored so that a bigger number always speaks for its direction."""

    case: Case
    sign: int

    def figure(self, name: str) -> float | None:
        value = self.case.candidate.features.get(name)
        return float(value) if isinstance(value, int | float) else None

    def leaning(self, name: str) -> float | None:
        value = self.figure(name)
        return None if value is None else value * self.sign


def _stretch(view: _View) -> Evidence | None:
    strength = view.figure("rsi")
    if strength is None:
        return None
    depth = (50 - strength) * view.sign
    points = 15 if 12 <= depth <= 19 else 12 if depth > 19 else 8 if depth >= 10 else 0
    return Evidence(points=points, words=f"RSI {strength:.1f} lies {depth:.1f} on the stretched side of 50")


def _calm(view: _View) -> Evidence | None:
    strength = view.figure("adx")
    if strength is None:
        return None
    points = 12 if strength < 20 else 8 if strength < 25 else 0
    return Evidence(points=points, words=f"no trend is running against it: ADX {strength:.1f}")


def _orderly(view: _View) -> Evidence | None:
    ratio = view.figure("volume_ratio")
    if ratio is None:
        return None
    points = 10 if ratio < 1.6 else 5 if ratio < 2 else 0
    return Evidence(points=points, words=f"volume {ratio:.2f} times its mean: interest without panic")


def _early(view: _View) -> Evidence | None:
    body = view.leaning("body")
    if body is None or body > -0.5:
        return None
    return Evidence(
        points=8, words=f"the last candle still went the other way with {-body:.0%} of its range: nobody is ahead of us"
    )


def _trend(view: _View) -> Evidence | None:
    fast, slow = view.leaning("ema_50_4h"), view.leaning("ema_200_4h")
    if fast is None or slow is None or fast <= slow:
        return None
    return Evidence(points=5, words="the 4h averages run its way: EMA50 beyond EMA200")


def _flow(view: _View) -> Evidence | None:
    whale = view.case.candidate.whale
    if whale is None:
        return None
    net = (whale.pump_points - whale.dump_points) * view.sign
    points = 10 if net >= 40 else 6 if net >= 20 else 0
    return Evidence(points=points, words=f"book, large trades, funding and crowd lean its way by {net} points")


def _whales(view: _View) -> Evidence | None:
    whale = view.case.candidate.whale
    if whale is None or not favours(whale, view.case.candidate.direction):
        return None
    points = 20 if whale.confidence >= 75 else 15
    return Evidence(points=points, words=f"whales: {whale.signal} at {whale.confidence} ({', '.join(whale.reasons)})")


PIECES: Final[Mapping[str, _Piece]] = {
    "stretch": _stretch,
    "calm": _calm,
    "orderly": _orderly,
    "early": _early,
    "trend": _trend,
    "flow": _flow,
    "whales": _whales,
}
"""The named evidence; each gives at most the points written in it.

The points of the first four were chosen on recorded candles of 2025-06 to 2025-09 (2,576 candidates of screener v3.1, stop and target as below,
0.1 % costs): a moderate stretch did better than an extreme one, a calm ADX better than a trend, ordinary volume better than a spike, and waiting for
the turn did worse; at 75 and more by these alone the mean outcome was about zero after costs, -0.05 and +0.15 times the risk in the two halves.
Trend, flow and whales have no such record, since no history of order books is published: their points are a judgement. This is a baseline to beat,
not a promise.
"""


def evidence_of(case: Case) -> list[Evidence]:
    """What speaks for the candidate's direction; pieces without points or without figures are left out."""
    view = _View(case=case, sign=case.candidate.direction.sign)
    found = (piece(view) for piece in PIECES.values())
    return [piece for piece in found if piece is not None and piece.points > 0]


def argue(case: Case) -> Verdict:
    """The rule-based verdict on one candidate: always its direction, with the confidence that the evidence adds up to."""
    candidate = case.candidate
    if case.atr <= 0 or case.price <= 0:
        return _waits("no average range to place a stop with")
    evidence = evidence_of(case)
    confidence = min(MOST_CONFIDENCE, BASE_CONFIDENCE + sum(piece.points for piece in evidence))
    stop, target = levels_of(case.price, case.atr, candidate.direction, case.tick_size)
    said = "; ".join(f"{piece.words} (+{piece.points})" for piece in evidence) or "nothing speaks for it"
    return Verdict(
        side=candidate.direction,
        confidence=confidence,
        stop_loss=stop,
        take_profit=target,
        reasoning=f"{candidate.direction} {candidate.symbol}, {BASE_CONFIDENCE} to begin with: {said}.",
        analyst=AnalystKind.RULES,
    )


def levels_of(price: Decimal, atr: float, side: Side, tick: Decimal) -> tuple[Decimal, Decimal]:
    """Stop and target in USDT: two ATR away, within 0.4 % and 4.5 % of the price, reward 1.8 times the risk."""
    ratio = min(max(STOP_ATR * atr / float(price), MIN_STOP_RATIO), MAX_STOP_RATIO)
    risk = price * Decimal(repr(round(ratio, 8)))
    return (
        round_to_tick(price - side.sign * risk, tick),
        round_to_tick(price + side.sign * risk * Decimal(repr(REWARD_RISK)), tick),
    )


def _waits(reason: str) -> Verdict:
    return Verdict(side=None, confidence=0, stop_loss=None, take_profit=None, reasoning=reason, analyst=AnalystKind.RULES)
