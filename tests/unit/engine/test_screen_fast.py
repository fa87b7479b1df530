"""The screener over arrays says what the tables say, word for word, on any figures and on a market that is followed close by close."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import screen_fast
from engine.core.features import WIDTH, Features, features_of, panel_of
from engine.core.features_bytes import memory_bytes, memory_of, told_bytes, told_of
from engine.core.features_live import LiveFeatures, Told
from engine.core.market import Candles, Timeframe
from engine.core.screen import ScreenBounds, preselect, screen
from engine.core.screen_fast import KEPT, NOT_ASKED, rank, rank_told
from engine.core.screen_rules import V3_1
from tests.unit.engine.market_world import ticker
from tests.unit.engine.test_features_live import closes, part
from tests.unit.engine.test_screen_recorded import candles_until
from tests.unit.engine.test_screen_rules import NAMES, around, some_features

M15, H4 = Timeframe.M15, Timeframe.H4
NOW = 1758553200000
"""On 2025-09-22, a day of market-wide liquidation."""


@settings(max_examples=100, deadline=None)
@given(some_features(), st.integers(1, 4))
def test_the_fast_screen_is_that_of_the_tables_word_for_word(features: Features, top_n: int) -> None:
    assert screen_fast.screen_fast(features, top_n) == screen(features, top_n)


@settings(max_examples=60, deadline=None)
@given(NAMES, st.data())
def test_the_fast_choice_of_the_most_moved_is_that_of_the_tables_word_for_word(names: list[str], data: st.DataObject) -> None:
    listed = [name for name in names if data.draw(st.booleans())]
    tickers = {
        name: ticker(name, change=data.draw(around(-9.0, -1.5, 1.5, 9.0)), volume=data.draw(around(3e7))) for name in listed
    }
    bounds = ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=1)
    known = frozenset(name for name in names if data.draw(st.booleans()))
    assert screen_fast.preselect_fast(names, tickers, bounds) == preselect(names, tickers, bounds)
    assert screen_fast.preselect_fast(names, tickers, bounds, known) == preselect(names, tickers, bounds, known)


def test_what_is_known_is_never_cut_and_the_limit_is_for_those_who_must_be_read() -> None:
    tickers = {f"S{place:02}": ticker(f"S{place:02}", change=20.0 - place) for place in range(12)}
    bounds = ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=1)
    found = preselect(tickers, tickers, bounds, {"S00", "S11"})
    assert found.symbols == ("S00", "S01", "S02", "S03", "S04", "S05", "S06", "S11")
    assert [(no.symbol, no.detail) for no in found.rejections][:2] == [
        ("S07", "24 h change +13.00 %, rank 8"),
        ("S08", "24 h change +12.00 %, rank 9"),
    ]


def test_every_outcome_is_the_place_of_the_rule_that_it_is_named_after() -> None:
    places = [V3_1.rules[place].name for place in range(len(V3_1.rules))]
    assert places == ["short history", "undefined figure", "low volume ratio", "dead zone", "no score"]
    named = (screen_fast.SHORT_HISTORY, screen_fast.UNDEFINED, screen_fast.LOW_VOLUME, screen_fast.IN_DEAD_ZONE)
    assert (*named, screen_fast.NO_SCORE) == (0, 1, 2, 3, 4)


class Recorded:
    """A recorded market: every symbol's candles until a moment, and what a scan then saw."""

    def __init__(self, folder: Path, until_ms: int) -> None:
        quarter = candles_until(folder, "candles_15m_60.parquet", M15, until_ms)
        four_hour = candles_until(folder, "candles_4h_60.parquet", H4, until_ms)
        self.symbols = sorted(quarter.keys() & four_hour.keys())
        self.candles = {M15: quarter, H4: four_hour}

    def until(self, symbol: str, timeframe: Timeframe, now_ms: int) -> Candles:
        whole = self.candles[timeframe][symbol]
        return part(whole, 0, int(np.searchsorted(whole.open_ms, now_ms - timeframe.ms, side="right")))

    def features(self, symbols: list[str], now_ms: int) -> Features:
        quarter, four_hour = ([self.until(symbol, tf, now_ms) for symbol in symbols] for tf in (M15, H4))
        return features_of(panel_of(quarter, WIDTH), panel_of(four_hour, WIDTH))


@pytest.fixture(scope="module")
def recorded(data_folder: Path) -> Recorded:
    return Recorded(data_folder, NOW)


def seeded(recorded: Recorded, now_ms: int) -> LiveFeatures:
    live = LiveFeatures.of(recorded.symbols)
    for track in (live.quarter, live.four_hour):
        track.seed([recorded.until(symbol, track.told.timeframe, now_ms) for symbol in recorded.symbols])
    return live


def advance(live: LiveFeatures, recorded: Recorded, now_ms: int, lost: set[str]) -> None:
    """The candles that closed at `now_ms` come in, save those of symbols whose frames are lost."""
    for track in (live.quarter, live.four_hour):
        if now_ms % track.told.timeframe.ms == 0:
            heard = [recorded.until(symbol, track.told.timeframe, now_ms) for symbol in recorded.symbols if symbol not in lost]
            track.close(closes(track, *(part(series, len(series) - 1, len(series)) for series in heard)))


def mend(live: LiveFeatures, recorded: Recorded, now_ms: int) -> None:
    """Whoever waits to be seeded is, from a read of its candles."""
    for track in (live.quarter, live.four_hour):
        track.seed([recorded.until(symbol, track.told.timeframe, now_ms) for symbol in track.unseeded()])


def assert_screens_alike(told: Told, recorded: Recorded, now_ms: int) -> set[str]:
    """Those who are fresh are screened as a read of everybody's candles would; returns them."""
    asked = told.fresh(now_ms)
    fresh = [symbol for symbol, known in zip(told.symbols, asked, strict=True) if known]
    expected = screen(recorded.features(fresh, now_ms), len(fresh) or 1)
    assert screen_fast.screen_fast(told.features(asked), len(fresh) or 1) == expected
    ranking = rank_told(told, asked)
    assert [told.symbols[row] for row in ranking.best] == [kept.symbol for kept in expected.candidates]
    assert [float(ranking.score[row]) for row in ranking.best] == [kept.score for kept in expected.candidates]
    assert set(np.flatnonzero(ranking.outcome == NOT_ASKED)) == set(np.flatnonzero(~asked))
    return set(fresh)


def test_a_recorded_day_followed_close_by_close_through_gaps_and_restarts_has_the_candidates_of_the_batch(
    recorded: Recorded,
) -> None:
    random = np.random.default_rng(3)
    begin = NOW - 40 * M15.ms
    live, found = seeded(recorded, begin), 0
    for now_ms in range(begin + M15.ms, NOW + 1, M15.ms):
        lost = {symbol for symbol in recorded.symbols if random.random() < 0.03}
        advance(live, recorded, now_ms, lost)
        fresh = assert_screens_alike(live.told, recorded, now_ms)
        assert not fresh & lost
        again = told_of(told_bytes(live.told))
        assert again is not None
        assert assert_screens_alike(again, recorded, now_ms) == fresh
        found += len(rank_told(live.told, live.told.fresh(now_ms)).best)
        if now_ms % H4.ms == 0:
            restarted = memory_of(memory_bytes(live))
            assert restarted is not None
            live = restarted
        mend(live, recorded, now_ms)
    assert found > 40


def test_whoever_is_not_asked_takes_no_part_and_changes_nobody_elses_place(recorded: Recorded) -> None:
    told = seeded(recorded, NOW).told
    everyone = told.fresh(NOW)
    whole = rank_told(told, everyone)
    assert (whole.outcome[whole.best] == KEPT).all()
    without = everyone.copy()
    without[whole.best[0]] = False
    rest = rank_told(told, without)
    assert list(rest.best) == list(whole.best[1:])
    assert rest.outcome[whole.best[0]] == NOT_ASKED


def test_ties_are_broken_by_name_whatever_the_order_of_the_symbols(recorded: Recorded) -> None:
    one = told_features_of_one(recorded)
    for symbols in (("B", "A", "C"), ("C", "B", "A")):
        ranking = rank(msgspec.structs.replace(one, symbols=symbols))
        assert [symbols[row] for row in ranking.best] == ["A", "B", "C"]


def told_features_of_one(recorded: Recorded) -> Features:
    """The best candidate's figures, thrice."""
    told = seeded(recorded, NOW).told
    (best, *_) = rank_told(told, told.fresh(NOW)).best
    whole = told.features()
    columns = {name: np.repeat(getattr(whole, name)[best], 3) for name in Features.__struct_fields__ if name != "symbols"}
    return Features(symbols=("A", "B", "C"), **columns)
