"""Symbols taken side by side have the figures of the batch over panels to the bit, whatever their ages and however few they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.features import QUARTER_FIGURES, Features, features_of, panel_of
from engine.core.features_batch import FEWEST, LANES, features_from
from engine.core.market import Candles
from tests.unit.engine.test_features import candles

AGES = (1, 2, 14, 15, 16, 19, 20, 21, 27, 28, 29, 33, 34, 35, 36, 49, 50, 199, 200, 201, 498, 499, 500, 620)


def assert_equal_to_panels(quarter: list[Candles], four_hour: list[Candles]) -> Features:
    found, expected = features_from(quarter, four_hour), features_of(panel_of(quarter), panel_of(four_hour))
    for name in Features.__struct_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    return found


@pytest.mark.parametrize("age", AGES)
def test_symbols_of_one_age_have_the_figures_of_the_batch_to_the_bit(age: int) -> None:
    quarter = [candles(seed, age, f"S{seed}") for seed in range(FEWEST)]
    four_hour = [candles(100 + seed, age, f"S{seed}") for seed in range(FEWEST)]
    found = assert_equal_to_panels(quarter, four_hour)
    defined = {name for name in QUARTER_FIGURES if np.isfinite(getattr(found, name)).all()}
    assert defined == set(QUARTER_FIGURES) if age >= 35 else "close" in defined < set(QUARTER_FIGURES)
    assert np.isfinite(found.ema_200_4h).all() == (age >= 200)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from((0, 3, 20, 40, 260)), min_size=1, max_size=30))
def test_symbols_of_any_ages_in_any_order_have_the_figures_of_the_batch(ages: list[int]) -> None:
    quarter = [candles(seed, age, f"S{seed}") for seed, age in enumerate(ages)]
    four_hour = [candles(100 + seed, age, f"S{seed}") for seed, age in enumerate(reversed(ages))]
    assert_equal_to_panels(quarter, four_hour)


def test_more_symbols_than_go_together_and_young_ones_between_them() -> None:
    ages = [7 if place % 50 == 3 else 60 for place in range(2 * LANES + 9)]
    quarter = [candles(seed, age, f"S{seed}") for seed, age in enumerate(ages)]
    assert_equal_to_panels(quarter, quarter)


def test_a_market_that_stands_still_divides_by_nothing() -> None:
    still, nothing = np.full(60, 5.0), np.zeros(60)
    times = np.arange(60) * 900_000
    quarter = [
        Candles(
            symbol="S",
            timeframe=candles(0, 1).timeframe,
            open_ms=times,
            open=still,
            high=still,
            low=still,
            close=still,
            volume=nothing,
        )
    ] * FEWEST
    found = assert_equal_to_panels(quarter, quarter)
    assert not np.isfinite(found.volume_ratio).any()
    assert (found.adx == 0).all()


def test_nobody_at_all_has_no_figures() -> None:
    assert features_from([], []).symbols == ()
