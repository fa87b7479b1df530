"""Whether an entry may be made at all, and how large: the one place where a user's limits are enforced.

Stands between defence and order. Pure: the account is read under the user's row lock and handed in.
"""

from decimal import Decimal
from typing import Final

import msgspec

from orchestrator.core.order import Refusal, RefusalReason
from orchestrator.core.user import UserSettings
from shared.analysis import Instrument
from shared.enums import Side
from shared.margin import (
    TAKER_FEE_RATIO,
    bracket_for,
    fee_of,
    floor_to_step,
    initial_margin,
    liquidation_price,
    max_leverage_for,
    notional_of,
)

STOP_WITHIN: Final = Decimal("0.7")
"""The stop must lie within this share of the way to the liquidation price: the rest is for a gap, slippage and funding."""

MIN_NOTIONAL: Final = Decimal(5)
"""USDT; whatever a symbol's rules say, never below. Source: seed document, section 2."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a signal wants, at the price at which it is judged now."""

    symbol: str
    side: Side
    price: Decimal
    stop_loss: Decimal
    instrument: Instrument


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """A user's money in one mode at one moment, USDT.

    Args:
        balance: Of the wallet; None where nobody knows it.
        fresh: Whether the balance is young enough to decide on.
        margin_in_use: Isolated margin of live positions.
        margin_claimed: Of entries under way or waiting for approval, with the fees that they will pay.
        exposure: Notional of live positions and of claims.
        positions: Live positions and claims.
        today: Booked result since 00:00 UTC of market time, plus the unrealized result of what is open where that is a loss.
        lowest_today: The lowest that the booked result has been since then, zero or less: a day that was lost stays lost, also when
            an open position wins some of it back.
    """

    balance: Decimal | None
    fresh: bool
    margin_in_use: Decimal
    margin_claimed: Decimal
    exposure: Decimal
    positions: int
    today: Decimal
    lowest_today: Decimal = Decimal(0)


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that risk allows: margin and notional in USDT, notional = margin x leverage."""

    symbol: str
    side: Side
    margin: Decimal
    notional: Decimal
    leverage: Decimal


def size_entry(plan: Plan, settings: UserSettings, account: AccountState) -> OrderIntent | Refusal:
    """Size an entry from the margin the user puts up, or say why not.

    Source: seed document, "Order Sizing Logic": notional = margin x leverage.
    """
    notional = settings.fixed_order_size * settings.leverage
    refusal = (
        _balance_known(account)
        or _day_goes_on(settings, account)
        or _place_left(settings, account)
        or _leverage_allowed(plan, settings, notional)
        or _large_enough(plan, notional)
        or _margin_free(settings, account, notional)
        or _exposure_left(settings, account, notional)
        or _stop_before_liquidation(plan, settings, notional)
    )
    if refusal is not None:
        return refusal
    return OrderIntent(
        symbol=plan.symbol, side=plan.side, margin=settings.fixed_order_size, notional=notional, leverage=settings.leverage
    )


def _balance_known(account: AccountState) -> Refusal | None:
    if account.balance is None:
        return Refusal(reason=RefusalReason.BALANCE_UNKNOWN, detail="the balance is not known")
    if not account.fresh:
        return Refusal(reason=RefusalReason.BALANCE_STALE, detail="the balance known is too old")
    return None


def _day_goes_on(settings: UserSettings, account: AccountState) -> Refusal | None:
    worst = min(account.today, account.lowest_today)
    if worst > -settings.max_daily_loss:
        return None
    said = f"today's result {'is' if worst == account.today else 'fell to'} {worst:.2f} USDT"
    detail = f"{said}, the limit is a loss of {settings.max_daily_loss:.2f}; entries stop until 00:00 UTC"
    return Refusal(reason=RefusalReason.DAILY_LOSS_REACHED, detail=detail)


def _place_left(settings: UserSettings, account: AccountState) -> Refusal | None:
    if account.positions < settings.max_positions:
        return None
    detail = f"{account.positions} positions are open or under way, the limit is {settings.max_positions}"
    return Refusal(reason=RefusalReason.TOO_MANY_POSITIONS, detail=detail)


def _leverage_allowed(plan: Plan, settings: UserSettings, notional: Decimal) -> Refusal | None:
    highest = max_leverage_for(plan.instrument.brackets, notional)
    if settings.leverage <= highest:
        return None
    detail = f"{plan.symbol} allows {highest}x at {notional:.2f} USDT, not {settings.leverage:f}x"
    return Refusal(reason=RefusalReason.LEVERAGE_ABOVE_BRACKET, detail=detail)


def _large_enough(plan: Plan, notional: Decimal) -> Refusal | None:
    quantity = floor_to_step(notional / plan.price, plan.instrument.step_size)
    least = max(plan.instrument.min_notional, MIN_NOTIONAL)
    if quantity >= plan.instrument.min_quantity and notional_of(quantity, plan.price) >= least:
        return None
    detail = f"{notional:.2f} USDT is below the smallest order of {plan.symbol}, {least:f} USDT"
    return Refusal(reason=RefusalReason.BELOW_MIN_NOTIONAL, detail=detail)


def _margin_free(settings: UserSettings, account: AccountState, notional: Decimal) -> Refusal | None:
    free = (account.balance or Decimal(0)) - account.margin_in_use - account.margin_claimed
    needed = settings.fixed_order_size + fee_of(notional, TAKER_FEE_RATIO)
    if needed <= free:
        return None
    detail = f"{needed:.2f} USDT with its fee are needed, {free:.2f} are free"
    return Refusal(reason=RefusalReason.NOT_ENOUGH_MARGIN, detail=detail)


def _exposure_left(settings: UserSettings, account: AccountState, notional: Decimal) -> Refusal | None:
    if account.exposure + notional <= settings.max_exposure:
        return None
    detail = f"{account.exposure:.2f} USDT are exposed, {notional:.2f} more would pass {settings.max_exposure:.2f}"
    return Refusal(reason=RefusalReason.TOO_MUCH_EXPOSURE, detail=detail)


def _stop_before_liquidation(plan: Plan, settings: UserSettings, notional: Decimal) -> Refusal | None:
    quantity = notional / plan.price
    margin = initial_margin(notional, int(settings.leverage))
    liquidation = liquidation_price(plan.side, quantity, plan.price, margin, bracket_for(plan.instrument.brackets, notional))
    way, stop = abs(plan.price - liquidation), plan.side.sign * (plan.price - plan.stop_loss)
    if 0 < stop <= way * STOP_WITHIN:
        return None
    detail = (
        f"at {settings.leverage:f}x the stop {plan.stop_loss:f} is too near to the liquidation price {liquidation:.6g}, or beyond"
    )
    return Refusal(reason=RefusalReason.STOP_BEYOND_LIQUIDATION, detail=detail)
