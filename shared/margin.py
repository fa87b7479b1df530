"""The arithmetic on which both services and the sandbox must agree: notional, margin, fees, PnL, liquidation price.

Everything is `Decimal`, isolated margin, one-way mode, USDT-margined linear contracts. Nothing here rounds but `floor_to_step`
and `round_to_tick`; callers quantise by the symbol's rules.

Source: Binance Futures FAQ, "How to Calculate Liquidation Price of USDⓈ-M Futures Contracts" and "Leverage and Margin of
USDⓈ-M Futures" (read 2026-11).
"""

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

import msgspec

from shared.enums import Side

ZERO = Decimal(0)

TAKER_FEE_RATIO = Decimal("0.0005")
"""VIP 0 taker fee. Source: Binance fee schedule; commissionRate "0.000500"."""

MAKER_FEE_RATIO = Decimal("0.0002")
"""VIP 0 maker fee. Source: Binance fee schedule; commissionRate "0.000200"."""


class Bracket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One notional tier of a symbol, as `GET /fapi/v1/leverageBracket` gives it.

    `floor` is exclusive and `cap` inclusive, in USDT; `cum` is the maintenance amount that makes the tiers join without a step.
    """

    floor: Decimal
    cap: Decimal
    max_leverage: int
    maintenance_ratio: Decimal
    cum: Decimal


def bracket_for(brackets: Sequence[Bracket], notional: Decimal) -> Bracket:
    """The tier that holds a notional; the last one where the notional is beyond every cap.

    Args:
        brackets: One symbol's, lowest first, at least one.
        notional: USDT, not negative.

    Raises:
        ValueError: No bracket was given.
    """
    if not brackets:
        raise ValueError("no bracket given")
    return next((bracket for bracket in brackets if notional <= bracket.cap), brackets[-1])


def max_leverage_for(brackets: Sequence[Bracket], notional: Decimal) -> int:
    """The highest leverage that the exchange allows at a notional; 0 beyond the last cap."""
    bracket = bracket_for(brackets, notional)
    return bracket.max_leverage if notional <= bracket.cap else 0


def floor_to_step(quantity: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of the step that is not above the quantity, so that rounding never exceeds the notional asked for."""
    if step <= 0:
        raise ValueError("step must be positive")
    return ((quantity / step).to_integral_value(rounding=ROUND_DOWN) * step).quantize(step)


def round_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """The multiple of the tick that is nearest to the price, ties to even."""
    if tick <= 0:
        raise ValueError("tick must be positive")
    return ((price / tick).to_integral_value(rounding=ROUND_HALF_EVEN) * tick).quantize(tick)


def notional_of(quantity: Decimal, price: Decimal) -> Decimal:
    """Quantity in base asset times price, USDT."""
    return quantity * price


def initial_margin(notional: Decimal, leverage: int) -> Decimal:
    """The margin that a notional ties up, USDT."""
    return notional / leverage


def maintenance_margin(notional: Decimal, bracket: Bracket) -> Decimal:
    """The margin below which a position is liquidated, USDT; notional at mark price."""
    return notional * bracket.maintenance_ratio - bracket.cum


def fee_of(notional: Decimal, fee_ratio: Decimal) -> Decimal:
    """The fee on a fill, USDT, positive when paid."""
    return notional * fee_ratio


def price_pnl(side: Side, quantity: Decimal, entry_price: Decimal, price: Decimal) -> Decimal:
    """Profit of a price change before fees and funding, USDT."""
    return (price - entry_price) * quantity * side.sign


def funding_payment(side: Side, quantity: Decimal, mark_price: Decimal, rate: Decimal) -> Decimal:
    """What funding adds to the wallet, USDT: a long pays when the rate is positive.

    Source: Binance FAQ "Introduction to Binance Futures Funding Rates": amount = position notional x rate.
    """
    return -quantity * mark_price * rate * side.sign


def pnl_percent(pnl: Decimal, margin: Decimal) -> Decimal:
    """PnL / margin x 100, two decimals. Source: seed document, section 6."""
    if margin <= 0:
        return ZERO
    return (pnl / margin * 100).quantize(Decimal("0.01"))


def liquidation_price(side: Side, quantity: Decimal, entry_price: Decimal, isolated_margin: Decimal, bracket: Bracket) -> Decimal:
    """The mark price at which an isolated position's margin balance equals its maintenance margin; 0 where it has none.

    Args:
        side: Of the position.
        quantity: Base asset, positive.
        entry_price: Volume-weighted.
        isolated_margin: USDT put up, funding already settled against it.
        bracket: The tier of the position's notional.

    Source: Binance FAQ, "How to Calculate Liquidation Price of USDⓈ-M Futures Contracts", isolated, one-way:
        LP = (margin + cum - side * q * entry) / (q * (mmr - side)).
    """
    sign = side.sign
    numerator = isolated_margin + bracket.cum - sign * quantity * entry_price
    price = numerator / (quantity * (bracket.maintenance_ratio - sign))
    return max(price, ZERO)
