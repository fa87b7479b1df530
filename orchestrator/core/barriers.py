"""What the mark price did to a position since the last look: funding, liquidation, stop, target, trailing; the worse first.

Reads bars (oldest first, each from one look to the next or a minute long) and answers what must be booked. Only bars decide here;
the engine books the closing at the trigger's time and price.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import structs

from orchestrator.core.position import Position, after_funding, booked, trailed_stop, trailing_armed
from shared.analysis import Bar, FundingEvent
from shared.enums import Side, TriggerKind
from shared.execution import Trigger
from shared.margin import funding_payment


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One funding settlement of this position; `amount` is what the wallet gets, USDT."""

    at: datetime
    rate: Decimal
    mark: Decimal
    quantity: Decimal
    amount: Decimal


class Judgement[P: Position](msgspec.Struct, frozen=True, kw_only=True):
    """The position after the look, what funding it paid or got on the way, and the trigger that closes it, if one was touched."""

    position: P
    payments: list[Payment]
    trigger: Trigger | None


class Outcome(StrEnum):
    """Which barrier of a signal came first."""

    TARGET = "TARGET"
    STOP = "STOP"
    NEITHER = "NEITHER"


def judge[P: Position](position: P, bars: Sequence[Bar], funding: Sequence[FundingEvent], until: datetime) -> Judgement[P]:
    """Walks the bars and settlements in the order of time.

    A settlement at a bar's first moment is paid before the bar is judged. Within a bar the stop that stood before it is judged,
    losses before gains, and only then trailing moves it. The newest bar may still be growing and be seen again: where it moved the
    stop, judged_until goes to its end, since what it did before must not touch a stop that was not there yet. With a trigger,
    judged_until stops at its bar, so that a close which the venue refuses is judged again from there.

    Args:
        position: OPEN.
        bars: Of its symbol; those that began before judged_until are skipped.
        funding: Of its symbol; those up to funded_until are skipped.
        until: Where the next look starts when nothing was triggered.
    """
    payments: list[Payment] = []
    seen = max(position.judged_until, until)
    for _, step in sorted(_steps(position, bars, funding), key=lambda timed: timed[0]):
        if isinstance(step, FundingEvent):
            payment = _payment(position, step)
            payments.append(payment)
            position = after_funding(position, payment.at, payment.amount)
            continue
        trigger = touched(position, step)
        if trigger is not None:
            judged = structs.replace(position, judged_until=max(position.judged_until, step.from_))
            return Judgement(position=judged, payments=payments, trigger=trigger)
        trailed = trail(position, step)
        if trailed.stop_loss != position.stop_loss:
            seen = max(seen, step.to)
        position = trailed
    judged = structs.replace(position, judged_until=seen, funded_until=max(position.funded_until, until))
    return Judgement(position=judged, payments=payments, trigger=None)


def touched(position: Position, bar: Bar) -> Trigger | None:
    """The condition that the bar touched, the worse first.

    A bar that opens beyond the liquidation price liquidates, whatever the stop was: nothing can have filled in between. Else the
    nearer of stop and liquidation price is met first, and at last the target.
    """
    sign = position.side.sign
    worst, best = (bar.low, bar.high) if position.side is Side.LONG else (bar.high, bar.low)
    liquidation, stop, target = position.liquidation_price, position.stop_loss, position.take_profit
    if liquidation is not None and sign * (bar.open - liquidation) <= 0:
        return _trigger(TriggerKind.LIQUIDATION, liquidation, bar)
    if stop is not None and sign * (worst - stop) <= 0 and (liquidation is None or sign * (stop - liquidation) > 0):
        return _trigger(TriggerKind.TRAILING if trailing_armed(position) else TriggerKind.STOP, stop, bar)
    if liquidation is not None and sign * (worst - liquidation) <= 0:
        return _trigger(TriggerKind.LIQUIDATION, liquidation, bar)
    if target is not None and sign * (best - target) >= 0:
        return _trigger(TriggerKind.TARGET, target, bar)
    return None


def trail[P: Position](position: P, bar: Bar) -> P:
    """The position with its best price and, where that locks more, its stop moved; a stop never moves back."""
    if position.trailing_ratio is None:
        return position
    seen = bar.high if position.side is Side.LONG else bar.low
    sign, best = position.side.sign, position.trailing_best
    if best is not None and sign * (seen - best) <= 0:
        return position
    position = structs.replace(position, trailing_best=seen)
    stop = trailed_stop(position)
    if stop is None or (position.stop_loss is not None and sign * (stop - position.stop_loss) <= 0):
        return position
    return structs.replace(position, stop_loss=stop)


def first_barrier(side: Side, stop: Decimal, target: Decimal, bars: Sequence[Bar]) -> tuple[Outcome, datetime] | None:
    """Which of a signal's barriers the bars touched first, the stop before the target within one bar; None while neither was.

    Args:
        side: Of the signal.
        stop: Trigger price of the loss.
        target: Trigger price of the gain.
        bars: Oldest first, none before the signal.
    """
    for bar in bars:
        worst, best = (bar.low, bar.high) if side is Side.LONG else (bar.high, bar.low)
        if side.sign * (worst - stop) <= 0:
            return Outcome.STOP, bar.from_
        if side.sign * (best - target) >= 0:
            return Outcome.TARGET, bar.from_
    return None


def _steps(
    position: Position, bars: Sequence[Bar], funding: Sequence[FundingEvent]
) -> list[tuple[tuple[datetime, int], Bar | FundingEvent]]:
    settlements: list[tuple[tuple[datetime, int], Bar | FundingEvent]] = [
        ((event.at, 0), event) for event in funding if event.at > position.funded_until
    ]
    return settlements + [((bar.from_, 1), bar) for bar in bars if bar.from_ >= position.judged_until]


def _payment(position: Position, event: FundingEvent) -> Payment:
    amount = booked(funding_payment(position.side, position.size, event.mark, event.rate))
    return Payment(at=event.at, rate=event.rate, mark=event.mark, quantity=position.size, amount=amount)


def _trigger(kind: TriggerKind, price: Decimal, bar: Bar) -> Trigger:
    return Trigger(kind=kind, price=price, at=bar.from_, bar_open=bar.open)
