"""The walk inside candles: exact, the same for the same seed, and the same from whichever side it is summed."""

import numpy as np
import pytest

from deploy.sandbox.core.intervals import FIXED_MS, QUARTER_MS, next_open
from deploy.sandbox.core.klines import candles, first_open, last_open
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import CLOSE, HIGH, LOW, OPEN, TICKS, VOLUME, detail, key_of, summarise
from deploy.sandbox.core.replies import mark_at
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, SyntheticMarket

NOW = DEFAULT_START_MS + 3_723_456


def market(seed: int) -> Market:
    return Market(SyntheticMarket(seed), seed, DEFAULT_START_MS)


@pytest.fixture(scope="module")
def seven() -> Market:
    return market(7)


def random_candles(seed: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    rng = np.random.default_rng(seed)
    opened, close = rng.integers(50, 5_000, (2, count))
    high = np.maximum(opened, close) + rng.integers(0, 40, count)
    low = np.minimum(opened, close) - rng.integers(0, 40, count)
    return np.ascontiguousarray(np.stack([opened, high, low, close, rng.integers(0, 10**7, count)]))


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_visits_exactly_its_candle(seed: int) -> None:
    given = random_candles(seed, 400)
    table, _ = summarise(key_of(seed, "x"), 5, given, has_before=False, ticks_a_row=TICKS)
    assert (table[: VOLUME + 1] == given).all()


@pytest.mark.parametrize("volume", [0, 1, 3, 4, 5, 179])
def test_a_candle_of_hardly_any_volume_still_sums(volume: int) -> None:
    given = np.array([[100], [103], [97], [101], [volume]], dtype=np.int64)
    price, quantity, _, _, offsets = detail(9, 1, given)
    assert quantity.sum() == volume
    assert (quantity >= 0).all()
    assert (price.max(), price.min(), price[0], price[-1]) == (103, 97, 100, 101)
    assert (np.diff(offsets) > 0).all()


@pytest.mark.parametrize(
    "shape", [(100, 100, 100, 100), (100, 105, 100, 105), (105, 105, 100, 100), (100, 105, 100, 100), (5, 6, 5, 5)]
)
def test_degenerate_candles_are_walked_exactly(shape: tuple[int, int, int, int]) -> None:
    given = np.array([[value] for value in (*shape, 1_000)], dtype=np.int64)
    table, _ = summarise(3, 8, given, has_before=False, ticks_a_row=TICKS)
    assert table[[OPEN, HIGH, LOW, CLOSE], 0].tolist() == list(shape)


def test_the_index_price_is_the_same_whether_walked_alone_or_in_a_row() -> None:
    given = random_candles(3, 6)
    _, spot = summarise(11, 100, given, has_before=False, ticks_a_row=TICKS)
    for at in range(1, 6):
        _, _, _, alone, _ = detail(11, 100 + at - 1, np.ascontiguousarray(given[:, at - 1 : at + 1]))
        assert spot[:, at].tolist() == [alone[0], alone.max(), alone.min(), alone[-1]]


def test_the_same_seed_is_equal_to_the_bit() -> None:
    one, two = market(3), market(3)
    for symbol in ("BTCUSDT", "SOLUSDT", next(reversed(one.tapes))):
        a, b = one.tapes[symbol], two.tapes[symbol]
        # The second market is asked in another order: what was looked at before must not matter.
        b.ticks(NOW // QUARTER_MS + 300)
        numbers = range(NOW // QUARTER_MS - 3, NOW // QUARTER_MS + 3)
        assert all(x.tobytes() == y.tobytes() for n in numbers for x, y in zip(a.ticks(n)[1:], b.ticks(n)[1:], strict=True))
        assert a.candles(a.first, a.first + 9_000).tobytes() == b.candles(b.first, b.first + 9_000).tobytes()
        assert mark_at(a, NOW) == mark_at(b, NOW)


def test_another_seed_is_another_market(seven: Market) -> None:
    number = NOW // QUARTER_MS
    ours, other = (m.tapes["BTCUSDT"].candles(number - 9, number) for m in (seven, market(8)))
    assert (ours != other).any()


@pytest.mark.parametrize("interval", sorted(FIXED_MS))
def test_every_interval_folds_from_finer_candles(seven: Market, interval: str) -> None:
    tape = seven.tapes["ETHUSDT"]
    newest = last_open(tape, interval, NOW)
    start = max(first_open(tape, interval), next_open(interval, newest, -2))
    coarse = candles(tape, interval, start, newest, NOW)
    fine = candles(tape, "1m" if FIXED_MS[interval] < QUARTER_MS else "15m", start, NOW, NOW)
    assert len(coarse.opened) == 3
    for at, opened in enumerate(coarse.opened.tolist()):
        inside = (fine.opened >= opened) & (fine.opened < next_open(interval, opened))
        table = fine.table[:, inside]
        assert coarse.table[4:, at].tolist() == table[4:].sum(axis=1).tolist()
        assert coarse.table[:4, at].tolist() == [table[0, 0], table[1].max(), table[2].min(), table[3, -1]]


def test_nothing_behind_now_is_shown(seven: Market) -> None:
    tape = seven.tapes["BTCUSDT"]
    early = candles(tape, "15m", NOW - 3_600_000, NOW + 9_000_000, NOW)
    assert early.opened[-1] == NOW // QUARTER_MS * QUARTER_MS
    ticks, seen = tape.seen(NOW)
    assert ticks.times[seen - 1] <= NOW < ticks.times[seen]
    assert early.table[CLOSE, -1] == ticks.price[seen - 1]


def test_mark_and_last_price_differ_but_not_by_much(seven: Market) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"):
        tape = seven.tapes[symbol]
        ticks, seen = tape.seen(NOW)
        last, mark = float(ticks.price[seen - 1]), mark_at(tape, NOW)
        assert last != mark
        assert abs(mark / last - 1) < 0.01
