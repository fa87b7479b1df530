"""Figures carried from candle to candle equal those of the batch to the bit, and TA-Lib's to 1e-9, however long they were carried."""

from typing import Any

import msgspec
import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import features_steps as steps
from engine.core.features import RECENT, Features, features_of, panel_of
from engine.core.features_bytes import memory_bytes, memory_of
from engine.core.features_live import Closes, LiveFeatures, Track, stacked, warm_up
from engine.core.market import Candles, Floats, Timeframe
from tests.unit.engine.test_features import walk

START = 1_757_030_400_000
M15, H4 = Timeframe.M15, Timeframe.H4


def history(symbol: str, timeframe: Timeframe, seed: int, length: int) -> Candles:
    return Candles(symbol=symbol, timeframe=timeframe, open_ms=START + np.arange(length) * timeframe.ms, **walk(seed, length))


def part(whole: Candles, begin: int, end: int) -> Candles:
    cut: dict[str, Any] = {
        name: getattr(whole, name)[begin:end] for name in ("open_ms", "open", "high", "low", "close", "volume")
    }
    return msgspec.structs.replace(whole, **cut)


def closes(track: Track, *candles: Candles) -> Closes:
    rows = [np.full(len(series), track.rows[series.symbol]) for series in candles]
    return Closes(
        rows=np.concatenate(rows),
        open_ms=np.concatenate([series.open_ms for series in candles]),
        candles=np.concatenate([stacked(series) for series in candles]),
    )


def batch(quarter: list[Candles], four_hour: list[Candles]) -> Features:
    longest = max(RECENT, *(len(series) for series in (*quarter, *four_hour)))
    return features_of(panel_of(quarter, longest), panel_of(four_hour, longest))


def assert_same(found: Features, expected: Features) -> None:
    """To the bit: no operation differs, so nothing may."""
    for name in Features.__struct_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


LENGTHS = (1, 2, 14, 15, 19, 20, 21, 27, 28, 33, 34, 35, 49, 50, 199, 200, 260)


def test_a_seeded_symbol_of_any_age_has_the_figures_of_the_batch() -> None:
    symbols = [f"S{length}" for length in LENGTHS]
    quarter = [history(symbol, M15, length, length) for symbol, length in zip(symbols, LENGTHS, strict=True)]
    four_hour = [history(symbol, H4, 900 + length, length) for symbol, length in zip(symbols, LENGTHS, strict=True)]
    live = LiveFeatures.of(symbols)
    live.quarter.seed(quarter)
    live.four_hour.seed(four_hour)
    assert_same(live.told.features(), batch(quarter, four_hour))


def test_every_close_of_a_growing_market_has_the_figures_of_the_batch() -> None:
    symbols = ["A", "B", "C"]
    whole = {tf: [history(symbol, tf, place + tf.ms, 120) for place, symbol in enumerate(symbols)] for tf in (M15, H4)}
    live = LiveFeatures.of(symbols)
    for track in (live.quarter, live.four_hour):
        track.seed([part(series, 0, place * 15) for place, series in enumerate(whole[track.told.timeframe])])
    for now in range(31, 120):
        for track in (live.quarter, live.four_hour):
            missing = [part(series, track.told.seen[row], now) for row, series in enumerate(whole[track.told.timeframe])]
            assert set(track.close(closes(track, *missing))) == {steps.ADVANCED}
        assert_same(
            live.told.features(),
            batch([part(series, 0, now) for series in whole[M15]], [part(series, 0, now) for series in whole[H4]]),
        )


def by_talib(series: Candles) -> dict[str, Floats]:
    high, low, close, volume = series.high, series.low, series.close, series.volume
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    line, _, histogram = talib.MACD(close, 12, 26, 9)
    mean, deviation = talib.SMA(volume, 20), talib.STDDEV(volume, 20, 1)
    return {
        "ema_50": talib.EMA(close, 50),
        "ema_200": talib.EMA(close, 200),
        "rsi": talib.RSI(close, 14),
        "atr": talib.ATR(high, low, close, 14),
        "adx": talib.ADX(high, low, close, 14),
        "macd": line,
        "macd_histogram": histogram,
        "band_width": (upper - lower) / middle,
        "volume_mean": mean,
        "volume_ratio": volume / mean,
        "volume_z": (volume - mean) / deviation,
        "efficiency": talib.ER(close, 10),
        "roc_3": talib.ROC(close, 3),
    }


@pytest.mark.parametrize("timeframe", [M15, H4])
def test_after_ten_thousand_closes_every_figure_is_talibs_and_no_further_off_than_at_first(timeframe: Timeframe) -> None:
    whole = history("A", timeframe, 5, 10_300)
    track = Track(["A"], timeframe)
    track.seed([part(whole, 0, 300)])
    told: dict[str, list[float]] = {name: [] for name in steps.FIGURES}
    for place in range(300, len(whole)):
        assert track.close(closes(track, part(whole, place, place + 1)))[0] == steps.ADVANCED
        for name, value in zip(steps.FIGURES, track.told.table[:, 0], strict=True):
            told[name].append(float(value))
    price = float(np.median(whole.close))
    for name, oracle in by_talib(whole).items():
        # MACD may be near zero, where only its distance in prices says how far off it is.
        scale = price if name.startswith("macd") else 0.0
        np.testing.assert_allclose(told[name], oracle[300:], rtol=1e-9, atol=1e-9 * scale, err_msg=name)
    expected = batch([whole], [whole])
    for name in Features.__struct_fields__:
        if name in told:
            assert told[name][-1] == getattr(expected, name)[0], name


def test_a_missing_candle_makes_its_symbol_stale_until_it_is_seeded_again_and_no_other() -> None:
    whole = {symbol: history(symbol, M15, place, 80) for place, symbol in enumerate(["A", "B"])}
    track = Track(["A", "B"], M15)
    track.seed([part(series, 0, 60) for series in whole.values()])
    found = track.close(closes(track, part(whole["A"], 61, 63), part(whole["B"], 60, 62)))
    assert list(found) == [steps.GAP, steps.UNKNOWN, steps.ADVANCED, steps.ADVANCED]
    assert track.unseeded() == ("A",)
    assert np.isnan(track.told.table[:, 0]).all()
    assert np.isfinite(track.told.of("rsi")[1])
    track.seed([part(whole["A"], 0, 63)])
    assert list(track.close(closes(track, part(whole["A"], 63, 64)))) == [steps.ADVANCED]
    again = Track(["A"], M15)
    again.seed([part(whole["A"], 0, 64)])
    np.testing.assert_array_equal(track.told.table[:, 0], again.told.table[:, 0])


def test_a_candle_that_comes_again_changes_nothing() -> None:
    whole = history("A", M15, 1, 70)
    track = Track(["A"], M15)
    track.seed([part(whole, 0, 60)])
    before = track.told.table.copy()
    assert list(track.close(closes(track, part(whole, 57, 60)))) == [steps.OLD] * 3
    np.testing.assert_array_equal(track.told.table, before)


def test_candles_may_come_in_any_order_and_each_is_answered_in_its_place() -> None:
    whole = {symbol: history(symbol, M15, place, 70) for place, symbol in enumerate("ABC")}
    one, other = Track("ABC", M15), Track("ABC", M15)
    for track in (one, other):
        track.seed([part(series, 0, 60) for series in whole.values()])
    come = closes(one, *(part(series, 58, 70) for series in whole.values()))
    order = np.random.default_rng(1).permutation(len(come.rows))
    mixed = Closes(rows=come.rows[order], open_ms=come.open_ms[order], candles=come.candles[order])
    expected = one.close(come)
    np.testing.assert_array_equal(other.close(mixed), expected[order])
    assert list(expected) == ([steps.OLD] * 2 + [steps.ADVANCED] * 10) * 3
    np.testing.assert_array_equal(one.told.table, other.told.table)


def test_six_hundred_symbols_at_once_have_the_figures_that_each_has_alone() -> None:
    lengths = [260 if place % 97 else 40 + place % 7 for place in range(600)]
    whole = [history(f"S{place}", M15, place, length) for place, length in enumerate(lengths)]
    late = [part(series, len(series) - 3, len(series)) for series in whole]
    together = Track([series.symbol for series in whole], M15)
    together.seed([part(series, 0, len(series) - 3) for series in whole])
    assert set(together.close(closes(together, *late))) == {steps.ADVANCED}
    for place in (0, 1, 96, 97, 98, 255, 256, 257, 511, 512, 599):
        alone = Track([whole[place].symbol], M15)
        alone.seed([whole[place]])
        np.testing.assert_array_equal(together.told.table[:, place], alone.told.table[:, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_candle_that_is_not_a_number_makes_its_symbol_stale_and_poisons_nothing(bad: float) -> None:
    whole = history("A", M15, 1, 70)
    track = Track(["A"], M15)
    track.seed([part(whole, 0, 60)])
    wrong = closes(track, part(whole, 60, 61))
    wrong.candles[0, 4] = bad
    assert list(track.close(wrong)) == [steps.GAP]
    assert track.unseeded() == ("A",)


def test_of_a_history_with_a_hole_only_what_follows_it_counts() -> None:
    whole = history("A", M15, 1, 90)
    holed = part(whole, 0, 90)
    keep = np.arange(90) != 29
    holed = msgspec.structs.replace(
        holed, **{name: getattr(whole, name)[keep] for name in ("open_ms", "open", "high", "low", "close", "volume")}
    )
    track, clean = Track(["A"], M15), Track(["A"], M15)
    track.seed([holed])
    clean.seed([part(whole, 30, 90)])
    assert track.told.seen[0] == 60
    np.testing.assert_array_equal(track.told.table, clean.told.table)


def test_a_symbol_without_history_begins_with_its_first_candle_and_one_not_seeded_does_not() -> None:
    born, other = history("NEW", M15, 1, 3), history("OTHER", M15, 2, 3)
    track = Track(["NEW", "OTHER"], M15)
    track.seed([part(born, 0, 0)])
    assert track.unseeded() == ("OTHER",)
    assert list(track.close(closes(track, part(born, 0, 1), part(other, 0, 1)))) == [steps.ADVANCED, steps.UNKNOWN]
    assert track.told.of("close")[0] == born.close[0]


def test_only_a_symbol_whose_last_candle_is_the_last_that_can_have_closed_is_fresh() -> None:
    live = LiveFeatures.of(["A", "B"])
    live.four_hour.seed([history(symbol, H4, 1, 4) for symbol in "AB"])
    live.quarter.seed([history("A", M15, 1, 64), history("B", M15, 2, 63)])
    now = START + 4 * H4.ms
    assert list(live.told.fresh(now)) == [True, False]
    assert list(live.told.fresh(now + M15.ms - 1)) == [True, False]
    assert list(live.told.fresh(now + M15.ms)) == [False, False]


def test_a_row_that_no_symbol_has_is_refused_and_nothing_is_written() -> None:
    track = Track(["A"], M15)
    track.seed([history("A", M15, 1, 30)])
    before = track.state.copy()
    for row in (-1, 1):
        with pytest.raises(IndexError):
            track.close(Closes(rows=np.array([row]), open_ms=np.array([START]), candles=np.ones((1, 5))))
    with pytest.raises(IndexError):
        track.close(Closes(rows=np.array([0]), open_ms=np.array([START]), candles=np.ones((1, 4))))
    np.testing.assert_array_equal(track.state, before)


def test_symbols_come_and_go_and_those_that_stay_keep_what_is_known_of_them() -> None:
    whole = {symbol: history(symbol, M15, place, 61) for place, symbol in enumerate("ABC")}
    track = Track("ABC", M15)
    track.seed([part(series, 0, 60) for series in whole.values()])
    moved = track.carried_to(["C", "NEW", "A"])
    assert moved.unseeded() == ("NEW",)
    for now in (track, moved):
        now.close(closes(now, part(whole["A"], 60, 61), part(whole["C"], 60, 61)))
    np.testing.assert_array_equal(moved.told.table[:, [2, 0]], track.told.table[:, [0, 2]])
    assert track.carried_to([]).symbols == ()


PRICES = st.sampled_from([0.0, 1e-7, 1.0, 1.0, 1.5, 3.0, 1e5])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), min_size=1, max_size=70), st.integers(0, 70))
def test_on_any_candles_and_any_split_into_history_and_closes_the_figures_are_those_of_the_batch(
    rows: list[tuple[float, ...]], split: int
) -> None:
    table = np.array(rows, np.float64)
    whole = Candles(
        symbol="A", timeframe=M15, open_ms=START + np.arange(len(rows)) * M15.ms, open=table[:, 0], high=table.max(axis=1),
        low=table.min(axis=1), close=table[:, 1], volume=table[:, 2],
    )  # fmt: skip
    live = LiveFeatures.of(["A"])
    for track in (live.quarter, live.four_hour):
        stretched = msgspec.structs.replace(whole, open_ms=START + np.arange(len(rows)) * track.told.timeframe.ms)
        track.seed([part(stretched, 0, split)])
        track.close(closes(track, part(stretched, split, len(rows))))
    assert_same(live.told.features(), batch([whole], [whole]))


EVENTS = st.sampled_from(["close", "close", "close", "close", "lost", "again", "seed", "short", "restart", "universe"])
NAMES = ("A", "B", "C")


class Model:
    """What must be known of each symbol: the span of its candles since it was last seeded, or None."""

    def __init__(self) -> None:
        self.market = {name: history(name, M15, place + 40, 400) for place, name in enumerate(NAMES)}
        self.spans: dict[str, tuple[int, int] | None] = dict.fromkeys(NAMES, (0, 30))
        self.live = LiveFeatures.of(NAMES)
        self.live.quarter.seed([part(series, 0, 30) for series in self.market.values()])
        self.now = 30

    def heard(self, name: str, begin: int, end: int) -> list[int]:
        return list(self.live.quarter.close(closes(self.live.quarter, part(self.market[name], begin, end))))

    def happen(self, event: str, name: str) -> None:
        """One more candle has closed; `event` befalls `name`, everybody else hears the candle."""
        self.now += 1
        for other in NAMES:
            if (event, other) != ("lost", name):
                self.take(other)
        if event in ("again", "seed", "short", "restart", "universe"):
            getattr(self, event)(name)

    def take(self, name: str) -> None:
        span = self.spans[name]
        if span is None:
            assert self.heard(name, self.now - 1, self.now) == [steps.UNKNOWN]
        elif span[1] == self.now - 1:
            assert self.heard(name, self.now - 1, self.now) == [steps.ADVANCED]
            self.spans[name] = (span[0], self.now)
        else:
            assert self.heard(name, self.now - 1, self.now) == [steps.GAP]
            self.spans[name] = None

    def again(self, name: str) -> None:
        expected = steps.UNKNOWN if self.spans[name] is None else steps.OLD
        assert self.heard(name, self.now - 2, self.now) == [expected] * 2

    def seed(self, name: str) -> None:
        self.spans[name] = (self.now - 30, self.now)
        self.live.quarter.seed([part(self.market[name], self.now - 30, self.now)])

    def short(self, name: str) -> None:
        self.spans[name] = (self.now - 3, self.now)
        self.live.quarter.seed([part(self.market[name], self.now - 3, self.now)])

    def restart(self, name: str) -> None:
        read = memory_of(memory_bytes(self.live))
        assert read is not None
        self.live = read

    def universe(self, name: str) -> None:
        """A symbol is delisted and listed again: nothing is known of it."""
        self.live = self.live.carried_to([other for other in NAMES if other != name]).carried_to(NAMES[::-1])
        self.spans[name] = None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.sampled_from(NAMES)), min_size=1, max_size=60))
def test_through_any_gaps_repeats_restarts_and_listings_a_symbols_figures_are_those_of_the_batch_over_its_candles(
    events: list[tuple[str, str]],
) -> None:
    model = Model()
    for event, name in events:
        model.happen(event, name)
    track = model.live.quarter
    assert set(track.unseeded()) == {name for name, span in model.spans.items() if span is None}
    for name, span in model.spans.items():
        if span is None:
            assert np.isnan(track.told.table[:, track.rows[name]]).all()
        else:
            series = part(model.market[name], *span)
            asked = np.array([symbol == name for symbol in track.symbols])
            found, expected = model.live.told.features(asked), batch([series], [part(series, 0, 0)])
            assert_same(found, expected)


def test_figures_of_other_forms_are_taken_without_compiling_again() -> None:
    warm_up()
    compiled = len(steps.advance.signatures), len(steps.seed.signatures)  # type: ignore[attr-defined]
    whole = history("A", M15, 1, 70)
    whole.open_ms.flags.writeable = False
    track = Track(["A"], M15)
    track.seed([part(whole, 0, 60)])
    last = closes(track, part(whole, 60, 61))
    track.close(Closes(rows=last.rows.astype(np.int32), open_ms=last.open_ms, candles=np.asfortranarray(last.candles)))
    assert track.told.seen[0] == 61
    assert (len(steps.advance.signatures), len(steps.seed.signatures)) == compiled  # type: ignore[attr-defined]
