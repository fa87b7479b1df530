"""Where a liquidation cascade stands, judged from its last 300 s alone."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.cascade import FEWEST, QUIET_USD, WINDOW_MS, Cascade, Step, cascade_of
from engine.core.market import ForcedOrder
from shared.analysis import CascadeState
from shared.enums import Side
from tests.unit.engine.market_world import NOW_MS, forced

SECOND = 1_000


def burst(count: int, ago: int, every: int = 2, side: Side = Side.LONG, usd: int = 20_000) -> list[ForcedOrder]:
    """Forced orders, the newest `ago` seconds back."""
    return [forced("A", usd, side, NOW_MS - (ago + place * every) * SECOND) for place in range(count)]


def path(*prices: float, every: int = 30) -> list[Step]:
    """Prices that end now."""
    return [(NOW_MS - (len(prices) - 1 - place) * every * SECOND, price) for place, price in enumerate(prices)]


FALL = path(100, 99.6, 99.0, 98.5)
STILL = path(100, 100, 100, 100)


@pytest.mark.parametrize(
    ("orders", "prices", "state"),
    [
        ([], FALL, CascadeState.NONE),
        (burst(FEWEST - 1, 1), FALL, CascadeState.NONE),
        (burst(12, 1, usd=800), FALL, CascadeState.NONE),
        (burst(5, 1) + burst(5, 2, side=Side.SHORT), FALL, CascadeState.NONE),
        (burst(4, 1), STILL, CascadeState.BUILDING),
        (burst(4, 1), [], CascadeState.BUILDING),
        (burst(15, 1), [], CascadeState.BUILDING),
        (burst(10, 1), path(100, 99.4, 98.6, 98.6), CascadeState.RUNNING),
        (burst(10, 61), FALL, CascadeState.EXHAUSTED),
        (burst(10, 1), path(100, 98, 97, 98.2), CascadeState.EXHAUSTED),
        (burst(10, 61), STILL, CascadeState.NONE),
        (burst(10, 301), FALL, CascadeState.NONE),
        (burst(10, 1), path(98.5, 99, 99.6, 100), CascadeState.BUILDING),
        (burst(10, 1, side=Side.SHORT), path(98.5, 99, 99.6, 100), CascadeState.RUNNING),
    ],
    ids=[
        "nothing is forced", "too few", "too small", "both sides alike", "the price has not answered", "nobody heard the price",
        "nobody heard the price of many", "many and falling", "silent for a minute after a fall", "a third of the fall given back",
        "silent and never answered", "all of it is old", "longs are forced while the price rises", "shorts are forced and it rises",
    ],
)  # fmt: skip
def test_a_cascade_is_told_by_its_rate_and_the_answer_of_the_price(
    orders: list[ForcedOrder], prices: list[Step], state: CascadeState
) -> None:
    assert cascade_of(orders, prices, NOW_MS).state is state


def test_it_names_the_liquidated_side_its_orders_and_how_far_the_price_went() -> None:
    found = cascade_of(burst(3, 1) + burst(4, 120), path(100, 101, 99.99, every=60), NOW_MS)
    assert (found.side, found.events, found.recent) == (Side.LONG, 7, 3)
    assert found.answer == pytest.approx(0.01)
    assert found.heat == pytest.approx(25 + 50)


def test_a_price_that_is_not_heard_is_not_made_up() -> None:
    found = cascade_of(burst(5, 1), path(100), NOW_MS)
    assert found.answer is None
    assert found.heat <= 50


def test_the_stage_of_a_whole_cascade_follows_in_order() -> None:
    """Longs are forced for two minutes while the price falls 3 %, then nobody is, and it comes back."""
    orders = [forced("A", 30_000, Side.LONG, NOW_MS + place * 3 * SECOND) for place in range(40)]
    prices = [
        (NOW_MS + second * SECOND, 100.0 if second < 20 else 100 - 0.03 * min(second - 20, 100) + 0.01 * max(0, second - 150))
        for second in range(-60, 420, 5)
    ]
    states = [
        cascade_of(
            [order for order in orders if order.at_ms <= NOW_MS + second * SECOND],
            [step for step in prices if step[0] <= NOW_MS + second * SECOND],
            NOW_MS + second * SECOND,
        ).state
        for second in range(-30, 420, 10)
    ]
    seen = [state for place, state in enumerate(states) if place == 0 or state is not states[place - 1]]
    assert seen == [
        CascadeState.NONE,
        CascadeState.BUILDING,
        CascadeState.RUNNING,
        CascadeState.EXHAUSTED,
        CascadeState.NONE,
    ]


orders_anywhere = st.lists(
    st.builds(
        forced, st.just("A"), st.integers(1, 200_000), st.sampled_from(Side), st.integers(NOW_MS - 400_000, NOW_MS + 60_000)
    ),
    max_size=30,
)
prices_anywhere = st.lists(
    st.tuples(st.integers(NOW_MS - 400_000, NOW_MS + 60_000), st.floats(1, 1000)), max_size=20, unique_by=lambda step: step[0]
).map(sorted)


@settings(max_examples=150, deadline=None)
@given(orders_anywhere, prices_anywhere)
def test_neither_the_future_nor_what_is_older_than_the_window_changes_the_word(
    orders: list[ForcedOrder], prices: list[Step]
) -> None:
    def inside(at_ms: int) -> bool:
        return NOW_MS - WINDOW_MS <= at_ms <= NOW_MS

    found = cascade_of(orders, prices, NOW_MS)
    known = [order for order in orders if inside(order.at_ms)]
    assert found == cascade_of(known[::-1], [step for step in prices if inside(step[0])], NOW_MS)
    assert 0 <= found.heat <= 100
    if sum((order.usd for order in known), 0.0) < QUIET_USD:
        assert found == Cascade()


@settings(max_examples=100, deadline=None)
@given(orders_anywhere, prices_anywhere)
def test_the_unit_of_the_price_decides_nothing(orders: list[ForcedOrder], prices: list[Step]) -> None:
    scaled = [(at_ms, price * 1024) for at_ms, price in prices]
    assert cascade_of(orders, scaled, NOW_MS) == cascade_of(orders, prices, NOW_MS)
    assert all(order.price == Decimal(1) for order in orders)
