"""Fills make positions, in whatever order they come; and what is left after a close."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from orchestrator.core.position import (
    CloseReason,
    PositionStatus,
    Trade,
    after_close,
    after_funding,
    booked,
    break_even,
    liquidation_of,
    replay,
    trailed_stop,
)
from shared.enums import Side
from tests.builders import NOON, d, position

SIDES = st.sampled_from(list(Side))


def trade(number: int, price: str, quantity: str, *, opens: bool) -> Trade:
    moment = NOON + timedelta(seconds=number)
    return Trade(trade_id=str(number), opens=opens, price=d(price), quantity=d(quantity), fee=d("0.01"), at=moment)


@st.composite
def lives(draw: st.DrawFn) -> list[Trade]:
    """The fills of one position in the exchange's order: never more closed than was open."""
    trades: list[Trade] = []
    size = 0
    for number in range(draw(st.integers(1, 12))):
        opens = size == 0 or draw(st.booleans())
        quantity = draw(st.integers(1, 50)) if opens else draw(st.integers(1, size))
        size += quantity if opens else -quantity
        price = str(Decimal(draw(st.integers(1, 1_000_000))) / 1000)
        trades.append(trade(number, price, str(quantity), opens=opens))
    return trades


@given(lives(), SIDES, st.randoms(use_true_random=False))
def test_fills_in_any_order_some_twice_give_the_position_of_the_exchange(life: list[Trade], side: Side, random: Any) -> None:
    shuffled = life + random.sample(life, k=random.randint(0, len(life)))
    random.shuffle(shuffled)
    assert replay(side, shuffled) == replay(side, life)


@given(lives(), SIDES)
def test_the_size_is_what_was_opened_less_what_was_closed(life: list[Trade], side: Side) -> None:
    holding = replay(side, life)
    opened = sum(one.quantity for one in life if one.opens)
    assert holding.opened_size == opened
    assert holding.size == opened - sum(one.quantity for one in life if not one.opens)


@given(lives(), SIDES)
def test_when_flat_the_profit_is_what_came_in_less_what_went_out(life: list[Trade], side: Side) -> None:
    left: Decimal = replay(side, life).size
    rest = [trade(99, "123.456", str(left), opens=False)] if left else []
    life = life + rest
    holding = replay(side, life)
    flows = [one.price * one.quantity * side.sign * (-1 if one.opens else 1) for one in life]
    cash = sum(flows, Decimal(0))
    assert holding.size == 0
    assert abs(sum(holding.realized.values(), Decimal(0)) - cash) < Decimal("0.000001")


def test_a_trade_id_counts_once_even_when_the_ids_grow_longer() -> None:
    trades = [trade(9, "100", "1", opens=True), trade(10, "110", "1", opens=True), trade(10, "110", "1", opens=True)]
    assert replay(Side.LONG, trades).entry_price == d(105)


def test_a_partial_close_leaves_its_share_of_the_margin_and_the_liquidation_price() -> None:
    closing = structs.replace(position(), status=PositionStatus.CLOSING)
    opened, part = trade(1, "100", "10", opens=True), trade(2, "101", "4", opens=False)
    left = after_close(closing, replay(Side.LONG, [opened, part]), liquidation_fees=d(0), reason=CloseReason.MANUAL, at=part.at)
    assert (left.status, left.size, left.margin, left.realized_pnl) == (PositionStatus.OPEN, d(6), d(60), d(4))
    assert left.liquidation_price == closing.liquidation_price
    assert left.pnl is None
    assert left.close_reason is None


def test_a_closed_position_shows_the_margin_of_all_that_was_opened() -> None:
    opened, part, rest = trade(1, "100", "10", opens=True), trade(2, "101", "4", opens=False), trade(3, "99", "6", opens=False)
    closing = structs.replace(position(), status=PositionStatus.CLOSING, size=d(6), margin=d(60), isolated_margin=d(60))
    done = after_close(
        closing, replay(Side.LONG, [opened, part, rest]), liquidation_fees=d(0), reason=CloseReason.STOP, at=rest.at
    )
    assert (done.status, done.size, done.margin, done.isolated_margin) == (PositionStatus.CLOSED_LOSS, d(0), d(100), d(0))
    assert done.pnl == d("-2.03")
    assert done.exit_price == d("99.8")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.decimals("0.01", "99999", places=2), st.integers(1, 125))
def test_parts_add_up_to_the_whole_without_dust(parts: list[int], price: Decimal, leverage: int) -> None:
    """Closed in any parts: nothing is left, the margin is that of all that was opened, the profit is the sum of its bookings."""
    size = d(sum(parts))
    fills = [trade(0, str(price), str(size), opens=True)]
    whole = booked(price * size / leverage)
    held = structs.replace(
        position(), size=size, opened_size=size, entry_price=price, leverage=d(leverage), margin=whole, isolated_margin=whole
    )
    margins = [held.margin]
    for number, part in enumerate(parts, start=1):
        fills.append(trade(number, "77.77", str(part), opens=False))
        closing = structs.replace(held, status=PositionStatus.CLOSING)
        held = after_close(
            closing,
            replay(Side.LONG, fills),
            liquidation_fees=d(0),
            reason=CloseReason.MANUAL,
            at=NOON + timedelta(seconds=number),
        )
        margins.append(held.margin)
    assert (held.size, held.margin, held.isolated_margin) == (d(0), whole, d(0))
    assert margins[:-1] == sorted(margins[:-1], reverse=True)
    assert held.pnl == sum(replay(Side.LONG, fills).realized.values(), d(0)) - d("0.01") * len(fills)
    assert abs(held.realized_pnl - (d("77.77") - price) * size) <= d("0.000000005") * len(parts)


def test_a_result_of_exactly_nothing_is_not_a_win() -> None:
    closing = structs.replace(position(), status=PositionStatus.CLOSING, funding=d("0.02"))
    trades = [trade(1, "100", "10", opens=True), trade(2, "100", "10", opens=False)]
    done = after_close(closing, replay(Side.LONG, trades), liquidation_fees=d(0), reason=CloseReason.MANUAL, at=NOON)
    assert (done.pnl, done.status) == (d(0), PositionStatus.CLOSED_LOSS)


def test_funding_paid_brings_the_liquidation_price_nearer() -> None:
    before = position()
    after = after_funding(before, NOON, d(-1))
    assert (after.funding, after.isolated_margin, after.margin) == (d(-1), d(99), d(100))
    # LONG, cum 0: (99 - 10 x 100) / (10 x (0.01 - 1)) = 901 / 9.9
    assert after.liquidation_price == d("91.010101010101")


def test_a_position_that_cannot_be_liquidated_has_no_liquidation_price() -> None:
    assert liquidation_of(position(leverage=d(1)), d(1000)) is None


def test_break_even_pays_back_both_fees() -> None:
    for side in Side:
        price = break_even(position(side))
        gross = (price - 100) * 10 * side.sign
        assert abs(gross - (d(100) * 10 + price * 10) * d("0.0005")) < d("0.0000001")


def test_trailing_asks_for_no_stop_before_it_would_lock_a_gain() -> None:
    trailing = position(trailing_ratio=d("0.005"), trailing_best=d("100.5"))
    assert trailed_stop(trailing) is None
    assert trailed_stop(structs.replace(trailing, trailing_best=d(102))) == d("101.49")
