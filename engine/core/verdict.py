"""What an analyst says of a candidate, and the checks that make it a signal or a rejection.

Stands between the analyst and the wire: nothing becomes a Signal without passing here.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from engine.core.instrument import InstrumentRules
from engine.core.whales import forbids
from shared.analysis import Candidate, Instrument, Rejection, RejectionReason, Signal, WhaleView
from shared.enums import AnalystKind, BracketsSource, Side
from shared.margin import Bracket, round_to_tick

MIN_STOP_RATIO: Final = Decimal("0.002")
"""A nearer stop is inside the noise and the spread."""

MAX_STOP_RATIO: Final = Decimal("0.05")
"""A farther stop would not stand before the liquidation price at the usual leverage of 20."""

MIN_REWARD_RISK: Final = Decimal("1.5")
MAX_PRICE_AGE_MS: Final = 5_000
"""Wall time since receipt; past it nothing is decided on a price."""


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
    """Why an analyst gave no verdict; never holds the untrusted reply itself. `over_budget`: it was not even asked."""

    reason: str
    over_budget: bool = False


class LivePrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price a verdict is checked against, at market time `at`, and how long ago it was received, wall milliseconds."""

    price: Decimal
    at: datetime
    age_ms: int


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a signal stands on besides the verdict."""

    candidate: Candidate
    live: LivePrice
    candle_close: datetime
    rules: InstrumentRules
    brackets: tuple[Bracket, ...]
    brackets_source: BracketsSource


def judge(verdict: Verdict, ground: Ground, min_confidence: int) -> Signal | Rejection:
    """A signal where the verdict stands against the live price, else the first reason why not.

    Args:
        verdict: Of any analyst; its prices are untrusted and are rounded to the tick here.
        ground: Live price, rules and candle it is checked against.
        min_confidence: 0..100.
    """
    symbol = ground.candidate.symbol
    waits = _not_a_trade(verdict, min_confidence) or _against_whales(verdict.side, ground.candidate.whale)
    if waits is not None:
        return Rejection(symbol=symbol, reason=waits[0], detail=waits[1])
    if verdict.side is None or verdict.stop_loss is None or verdict.take_profit is None:
        return Rejection(symbol=symbol, reason=RejectionReason.ANALYST_WAITS, detail=verdict.reasoning)
    tick = ground.rules.tick_size
    stop, target, price = (round_to_tick(value, tick) for value in (verdict.stop_loss, verdict.take_profit, ground.live.price))
    wrong = _wrong_geometry(verdict.side, price, stop, target, ground.live.age_ms)
    if wrong is not None:
        return Rejection(symbol=symbol, reason=wrong[0], detail=wrong[1])
    return _signal(verdict, ground, verdict.side, price, stop, target)


type _No = tuple[RejectionReason, str]


def _not_a_trade(verdict: Verdict, min_confidence: int) -> _No | None:
    if verdict.side is None:
        return RejectionReason.ANALYST_WAITS, verdict.reasoning
    if verdict.confidence < min_confidence:
        return RejectionReason.LOW_CONFIDENCE, f"confidence {verdict.confidence} of {min_confidence}: {verdict.reasoning}"
    return None


def _against_whales(side: Side | None, view: WhaleView | None) -> _No | None:
    """The screener vetoed by the candidate's direction; an analyst may have turned it round."""
    against = None if side is None or view is None else forbids(view, side)
    return None if against is None else (RejectionReason.WHALE_VETO, against)


def _wrong_geometry(side: Side, price: Decimal, stop: Decimal, target: Decimal, age_ms: int) -> _No | None:
    if price <= 0 or age_ms > MAX_PRICE_AGE_MS:
        return RejectionReason.STALE_PRICE, f"the price is {age_ms} ms old"
    risk, reward = (price - stop) * side.sign, (target - price) * side.sign
    if risk <= 0 or stop <= 0:
        return RejectionReason.WRONG_SIDE_STOP, f"stop {stop} against {side} at {price}"
    if reward <= 0 or target <= 0:
        return RejectionReason.WRONG_SIDE_TARGET, f"target {target} against {side} at {price}"
    return _poor_distances(price, risk, reward)


def _poor_distances(price: Decimal, risk: Decimal, reward: Decimal) -> _No | None:
    distance = risk / price
    if distance < MIN_STOP_RATIO:
        return RejectionReason.STOP_TOO_CLOSE, f"stop {distance:.3%} away"
    if distance > MAX_STOP_RATIO:
        return RejectionReason.STOP_TOO_FAR, f"stop {distance:.2%} away"
    if reward / risk < MIN_REWARD_RISK:
        return RejectionReason.POOR_REWARD_RISK, f"reward/risk {reward / risk:.2f}"
    return None


def _signal(verdict: Verdict, ground: Ground, side: Side, price: Decimal, stop: Decimal, target: Decimal) -> Signal:
    return Signal(
        symbol=ground.candidate.symbol,
        side=side,
        confidence=verdict.confidence,
        signal_price=price,
        stop_loss=stop,
        take_profit=target,
        reward_risk=round(float((target - price) / (price - stop)), 4),
        reasoning=verdict.reasoning,
        analyst=verdict.analyst,
        model=verdict.model,
        candle_close=ground.candle_close,
        price_at=ground.live.at,
        features=ground.candidate.features,
        whale=ground.candidate.whale,
        instrument=instrument_of(ground),
    )


def instrument_of(ground: Ground) -> Instrument:
    """The rules as they travel with a signal; quantity bounds are those of market orders, which is what an entry is."""
    rules = ground.rules
    return Instrument(
        symbol=rules.symbol,
        tick_size=rules.tick_size,
        step_size=rules.step_size,
        min_quantity=max(rules.min_quantity, rules.market_min_quantity),
        max_quantity=min(rules.max_quantity, rules.market_max_quantity),
        min_notional=rules.min_notional,
        brackets=list(ground.brackets),
        brackets_source=ground.brackets_source,
        liquidation_fee_ratio=rules.liquidation_fee_ratio,
    )
