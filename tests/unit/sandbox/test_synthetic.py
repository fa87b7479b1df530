"""The synthetic market is one that a screener can find something in, and a plausible one."""

import numpy as np
import pytest

from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.liquidations import MOST_SHARE, THRESHOLD, forced_orders
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import Floats, Ints
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, HISTORY_DAYS, SYMBOLS, SyntheticMarket

START = DEFAULT_START_MS // QUARTER_MS
DAY = 96


@pytest.fixture(scope="module")
def source() -> SyntheticMarket:
    return SyntheticMarket(7)


@pytest.fixture(scope="module")
def candles(source: SyntheticMarket) -> Ints:
    first, _ = source.span(0)
    return np.stack([source.candles(number, first, START + 5 * DAY) for number in range(SYMBOLS)])


def closes(source: SyntheticMarket, candles: Ints) -> Floats:
    prices: Floats = candles[:, 3] * np.array([[float(rules.tick)] for rules in source.rules])
    return prices


def test_every_candle_is_a_possible_one(candles: Ints) -> None:
    opened, high, low, close, volume = (candles[:, row] for row in range(5))
    assert (high >= np.maximum(opened, close)).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (low > 0).all()
    assert (volume > 0).all()


def test_history_reaches_back_far_enough_for_every_indicator(source: SyntheticMarket) -> None:
    first, end = source.span(0)
    assert START - first == HISTORY_DAYS * DAY >= 499 * 16
    assert end is None


def test_most_symbols_turn_over_more_than_the_production_threshold(source: SyntheticMarket, candles: Ints) -> None:
    steps = np.array([[float(rules.step)] for rules in source.rules])
    turnover = (candles[:, 4, -DAY:] * steps * closes(source, candles)[:, -DAY:]).sum(axis=1)
    assert (turnover >= 3e7).sum() >= 80
    assert 2e9 < turnover[0] < 5e10


def test_returns_have_fat_tails_clusters_and_follow_btc(source: SyntheticMarket, candles: Ints) -> None:
    returns = np.diff(np.log(closes(source, candles)), axis=1)
    centred = returns - returns.mean(axis=1, keepdims=True)
    assert np.median((centred**4).mean(axis=1) / centred.var(axis=1) ** 2) > 4.5
    sizes = np.abs(centred)
    assert np.median([np.corrcoef(row[:-1], row[1:])[0, 1] for row in sizes]) > 0.08
    assert np.median(np.corrcoef(returns)[0, 1:]) > 0.2


def test_a_day_has_liquidation_cascades(source: SyntheticMarket) -> None:
    market = Market(source, 7, DEFAULT_START_MS)
    told = [order for tape in market.tapes.values() for n in range(START, START + DAY) for order in forced_orders(tape, n)]
    assert len(told) > 50
    assert {order.side for order in told} == {"BUY", "SELL"}


def test_forced_orders_lie_on_the_tape(source: SyntheticMarket) -> None:
    market = Market(source, 7, DEFAULT_START_MS)
    told = market.liquidations(DEFAULT_START_MS, DEFAULT_START_MS + 3_600_000)
    assert told == sorted(told, key=lambda item: item.time_ms)
    for item in told:
        tape = market.tapes[item.symbol]
        ticks = tape.ticks(item.time_ms // QUARTER_MS)
        at = int(np.searchsorted(ticks.times, item.time_ms))
        assert ticks.times[at] == item.time_ms
        assert float(item.order["ap"]) == pytest.approx(float(ticks.price[at]) * float(tape.rules.tick))
        assert item.synthetic


def test_every_labelled_cascade_moves_its_tape_by_about_its_size(source: SyntheticMarket, candles: Ints) -> None:
    first, _ = source.span(0)
    labels = source.cascades(START, START + 5 * DAY)
    assert {label.whole_market for label in labels} == {True, False}
    assert [label.candle for label in labels] == sorted(label.candle for label in labels)
    prices = np.log(closes(source, candles))
    moves = np.array(
        [prices[label.number, label.candle - first + 1] - prices[label.number, label.candle - first - 1] for label in labels]
    )
    sizes = np.array([label.size for label in labels])
    assert np.corrcoef(moves, sizes)[0, 1] > 0.9
    assert abs(np.median(moves / sizes) - 1) < 0.15


def test_a_forced_order_is_a_new_extreme_and_at_most_its_share_of_what_was_traded_by_then(source: SyntheticMarket) -> None:
    market = Market(source, 7, DEFAULT_START_MS)
    seen = 0
    for tape in market.tapes.values():
        for number in range(START, START + DAY):
            orders = forced_orders(tape, number)
            if not orders:
                continue
            ticks = tape.ticks(number)
            opened = int(ticks.price[0])
            for order in orders:
                at = int(np.searchsorted(ticks.times, order.time_ms))
                before = ticks.price[:at] / opened - 1
                beyond = ticks.price[at] / opened - 1
                assert abs(beyond) >= THRESHOLD
                assert abs(beyond) > max(0.0, float((before * np.sign(beyond)).max()))
            spent = np.cumsum([order.quantity for order in orders])
            places = np.searchsorted(ticks.times, [order.time_ms for order in orders])
            assert (spent <= MOST_SHARE * np.cumsum(ticks.quantity)[places]).all()
            seen += len(orders)
    assert seen > 50
