"""The arithmetic on which engine, orchestrator and sandbox agree, against worked examples and properties."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import margin
from shared.enums import Side
from shared.margin import Bracket

BTC = (
    Bracket(floor=Decimal(0), cap=Decimal(300_000), max_leverage=150, maintenance_ratio=Decimal("0.004"), cum=Decimal(0)),
    Bracket(floor=Decimal(300_000), cap=Decimal(800_000), max_leverage=100, maintenance_ratio=Decimal("0.005"), cum=Decimal(300)),
    Bracket(
        floor=Decimal(800_000), cap=Decimal(3_000_000), max_leverage=75, maintenance_ratio=Decimal("0.0065"), cum=Decimal(1500)
    ),
)
"""BTCUSDT's first tiers as recorded from the exchange's leverageBracket."""

CENT = Decimal("0.00000001")

prices = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(200_000), places=4)
steps = st.integers(min_value=-3, max_value=8).map(lambda places: Decimal(1).scaleb(-places))
amounts = st.decimals(min_value=Decimal(5), max_value=Decimal(1_000_000), places=2)
leverages = st.integers(min_value=1, max_value=125)
sides = st.sampled_from(Side)


@given(amounts, prices, steps)
def test_rounding_never_exceeds_the_notional_asked_for(amount: Decimal, price: Decimal, step: Decimal) -> None:
    quantity = margin.floor_to_step(amount / price, step)

    assert quantity * price <= amount * (1 + Decimal("1e-24"))
    assert (quantity + step) * price > amount * (1 - Decimal("1e-24"))
    assert quantity % step == 0


@given(sides, prices, leverages, st.decimals(min_value=1, max_value=2_000_000, places=2))
def test_at_the_liquidation_price_the_margin_balance_equals_the_maintenance_margin(
    side: Side, entry: Decimal, leverage: int, notional: Decimal
) -> None:
    bracket = margin.bracket_for(BTC, notional)
    quantity = notional / entry
    put_up = margin.initial_margin(notional, leverage)

    price = margin.liquidation_price(side, quantity, entry, put_up, bracket)

    if price > 0:
        balance = put_up + margin.price_pnl(side, quantity, entry, price)
        maintenance = margin.maintenance_margin(quantity * price, bracket)
        assert abs(balance - maintenance) < CENT


@given(prices, st.integers(min_value=2, max_value=125))
def test_a_long_is_liquidated_below_its_entry_and_a_short_above(entry: Decimal, leverage: int) -> None:
    quantity = Decimal(1000) / entry
    put_up = margin.initial_margin(Decimal(1000), leverage)

    assert margin.liquidation_price(Side.LONG, quantity, entry, put_up, BTC[0]) < entry
    assert margin.liquidation_price(Side.SHORT, quantity, entry, put_up, BTC[0]) > entry


def test_a_long_without_leverage_has_no_liquidation_price() -> None:
    assert margin.liquidation_price(Side.LONG, Decimal(1), Decimal(100), Decimal(100), BTC[0]) == 0


def test_the_liquidation_price_of_a_twenty_times_long_by_hand() -> None:
    # 0.01 BTC at 60,000 = 600 USDT, margin 30: (30 - 600) / (0.01 * (0.004 - 1)) = 57,228.9156...
    price = margin.liquidation_price(Side.LONG, Decimal("0.01"), Decimal(60_000), Decimal(30), BTC[0])

    assert price.quantize(Decimal("0.01")) == Decimal("57228.92")


def test_the_maintenance_amount_joins_the_tiers_without_a_step() -> None:
    for lower, upper in pairwise(BTC):
        assert margin.maintenance_margin(lower.cap, lower) == margin.maintenance_margin(lower.cap, upper)
        assert upper.cum == lower.cum + upper.floor * (upper.maintenance_ratio - lower.maintenance_ratio)


def test_a_tier_holds_its_cap_and_not_its_floor() -> None:
    assert margin.bracket_for(BTC, Decimal(300_000)) == BTC[0]
    assert margin.bracket_for(BTC, Decimal("300000.01")) == BTC[1]


def test_beyond_the_last_cap_no_leverage_is_allowed() -> None:
    assert margin.max_leverage_for(BTC, Decimal(3_000_000)) == 75
    assert margin.max_leverage_for(BTC, Decimal(3_000_001)) == 0


def test_no_bracket_at_all_is_an_error_not_a_guess() -> None:
    with pytest.raises(ValueError, match="no bracket"):
        margin.bracket_for((), Decimal(1))


def test_a_step_must_be_positive() -> None:
    with pytest.raises(ValueError, match="step"):
        margin.floor_to_step(Decimal(1), Decimal(0))
    with pytest.raises(ValueError, match="tick"):
        margin.round_to_tick(Decimal(1), Decimal(0))


@given(prices, steps)
def test_a_rounded_price_is_a_multiple_of_the_tick_and_at_most_half_a_tick_away(price: Decimal, tick: Decimal) -> None:
    rounded = margin.round_to_tick(price, tick)

    assert rounded % tick == 0
    assert abs(rounded - price) <= tick / 2


@given(sides, prices, prices, st.decimals(min_value=Decimal("0.001"), max_value=1000, places=3))
def test_what_a_long_wins_a_short_loses(side: Side, entry: Decimal, leave: Decimal, quantity: Decimal) -> None:
    won = margin.price_pnl(side, quantity, entry, leave)

    assert won == -margin.price_pnl(side.opposite, quantity, entry, leave)


def test_a_long_pays_positive_funding_and_a_short_receives_it() -> None:
    paid = margin.funding_payment(Side.LONG, Decimal(2), Decimal(100), Decimal("0.0001"))

    assert paid == Decimal("-0.02")
    assert margin.funding_payment(Side.SHORT, Decimal(2), Decimal(100), Decimal("0.0001")) == Decimal("0.02")


def test_notional_margin_and_fee_by_hand() -> None:
    notional = margin.notional_of(Decimal("0.01"), Decimal(60_000))

    assert notional == 600
    assert margin.initial_margin(notional, 20) == 30
    assert margin.fee_of(notional, margin.TAKER_FEE_RATIO) == Decimal("0.3")


def test_pnl_percent_is_of_the_margin_with_two_decimals() -> None:
    assert margin.pnl_percent(Decimal("-1.13"), Decimal(30)) == Decimal("-3.77")
    assert margin.pnl_percent(Decimal(1), Decimal(0)) == 0
