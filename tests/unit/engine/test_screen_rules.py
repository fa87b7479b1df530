"""The screener's declared rules, each at its bound by name, and the tables against plain Python."""

import math
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.features import Features
from engine.core.screen import ScreenBounds, preselect, ranked, screen
from engine.core.screen_rules import OUTRANKED, OUTSIDE_TOP_MOVERS, V3_1, DropRule, cut, sift, table, ticker_rules
from shared.analysis import Rejection, RejectionReason
from tests.unit.engine.market_world import candidate, ticker
from tests.unit.engine.screen_reference import preselect_plainly, screen_plainly

BOUNDS = ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=2)
TICKER_RULES = ticker_rules(BOUNDS.min_quote_volume, BOUNDS.min_change_percent)
ROW = {
    "symbol": "XUSDT", "candles_15m": 50, "candles_4h": 200, "close": 110.0, "ema_200_4h": 100.0, "rsi": 30.0, "volume_ratio": 2.0,
    "quote_volume": 3e7, "change_percent": -1.5,
}  # fmt: skip
AT_BOUNDS: list[tuple[str, dict[str, Any], bool]] = [
    ("no ticker", {}, False),
    ("no ticker", {"quote_volume": math.nan}, True),
    ("no ticker", {"change_percent": math.nan}, True),
    ("low quote volume", {"quote_volume": 3e7}, False),
    ("low quote volume", {"quote_volume": math.nextafter(3e7, 0)}, True),
    ("low quote volume", {"quote_volume": math.nan}, False),
    ("low change", {"change_percent": -1.5}, False),
    ("low change", {"change_percent": math.nextafter(-1.5, 0)}, True),
    ("low change", {"change_percent": math.nan}, False),
    ("short history", {}, False),
    ("short history", {"candles_15m": 49}, True),
    ("short history", {"candles_4h": 199}, True),
    ("undefined figure", {}, False),
    *[("undefined figure", {name: math.nan}, True) for name in ("close", "ema_200_4h", "rsi", "volume_ratio")],
    ("low volume ratio", {"volume_ratio": 1.2}, False),
    ("low volume ratio", {"volume_ratio": math.nextafter(1.2, 0)}, True),
    ("low volume ratio", {"volume_ratio": math.nan}, False),
    ("dead zone", {"rsi": math.nextafter(40, 0)}, False),
    ("dead zone", {"rsi": 40.0}, True),
    ("dead zone", {"rsi": 60.0}, True),
    ("dead zone", {"rsi": math.nextafter(60, 99)}, False),
    ("dead zone", {"rsi": 50.0, "volume_ratio": 3.0}, False),
    ("dead zone", {"rsi": math.nan}, False),
    ("no score", {"rsi": math.nextafter(45, 0)}, False),
    ("no score", {"rsi": 45.0}, True),
    ("no score", {"close": 90.0, "rsi": 55.0}, True),
    ("no score", {"close": 90.0, "rsi": math.nextafter(55, 99)}, False),
    ("no score", {"close": 100.0, "rsi": 30.0}, True),
    ("no score", {"rsi": math.nan}, False),
    ("no score", {"close": math.nan}, False),
]


def one_row(**changes: Any) -> pl.DataFrame:
    given = {**ROW, **changes}
    rows = table({name: [value] if name == "symbol" else np.array([value]) for name, value in given.items()})
    return rows.with_columns(trend=V3_1.trend, direction=V3_1.direction, score=V3_1.score)


def named(name: str) -> DropRule:
    (rule,) = [rule for rule in (*TICKER_RULES, *V3_1.rules) if rule.name == name]
    return rule


@pytest.mark.parametrize(("name", "changes", "drops"), AT_BOUNDS)
def test_each_rule_drops_on_one_side_of_its_bound_and_never_on_an_unknown_figure_it_does_not_ask_for(
    name: str, changes: dict[str, Any], drops: bool
) -> None:
    kept, fallen = sift(one_row(**changes), [named(name)])
    assert (kept.height == 0) is drops
    assert [no.reason for no in fallen] == [named(name).reason] * drops


def test_every_rule_has_a_name_of_its_own_and_is_tried_on_both_sides() -> None:
    names = [rule.name for rule in (*TICKER_RULES, *V3_1.rules)]
    assert len(set(names)) == len(names)
    assert {(name, drops) for name, _, drops in AT_BOUNDS} == {(name, drops) for name in names for drops in (True, False)}


def test_the_first_rule_that_drops_gives_the_reason() -> None:
    row = one_row(candles_4h=10, rsi=math.nan, volume_ratio=0.5)
    _, fallen = sift(row, V3_1.rules)
    assert fallen == (Rejection(symbol="XUSDT", reason=RejectionReason.NOT_ENOUGH_HISTORY, detail="50 candles of 15m, 10 of 4h"),)
    _, turned = sift(row, V3_1.rules[::-1])
    assert [no.reason for no in turned] == [RejectionReason.LOW_VOLUME_RATIO]


def test_an_unknown_figure_has_no_trend_no_side_and_no_score() -> None:
    (row,) = one_row(close=math.nan).iter_rows(named=True)
    assert (row["trend"], row["direction"], row["score"]) == (None, None, None)


def test_a_cut_keeps_as_many_as_it_says_and_tells_the_others_their_rank() -> None:
    rows = table({"symbol": ["A", "B"], "score": np.array([2.0, 1.0]), "change_percent": np.array([9.0, -8.0]), "rank": [1, 2]})
    assert cut(rows, 2, OUTRANKED)[1] == ()
    kept, fallen = cut(rows, 1, OUTRANKED)
    assert kept["symbol"].to_list() == ["A"]
    assert fallen == (Rejection(symbol="B", reason=RejectionReason.OUTRANKED, detail="score 1.00, rank 2"),)
    assert [no.detail for no in cut(rows, 1, OUTSIDE_TOP_MOVERS)[1]] == ["24 h change -8.00 %, rank 2"]


def test_a_score_that_is_not_a_number_ranks_last() -> None:
    found = ranked([candidate("A", score=math.nan), candidate("B", score=-1.0)], 1)
    assert [kept.symbol for kept in found.candidates] == ["B"]


def test_nothing_to_look_at_is_nothing_found() -> None:
    assert preselect([], {}, BOUNDS).symbols == ()
    assert ranked([], 5).candidates == ()


WILD = st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
NAMES = st.lists(st.text("AB1币", min_size=1, max_size=3), unique=True, max_size=12)


def around(*bounds: float) -> st.SearchStrategy[float]:
    """Figures anywhere near bounds, exactly on them, and undefined."""
    on = st.sampled_from([*bounds, *(math.nextafter(bound, 0) for bound in bounds)])
    return st.one_of(on, st.floats(min(bounds) * 0.5, max(bounds) * 1.5), WILD)


FIGURES = {
    "rsi": around(40.0, 45.0, 55.0, 60.0), "volume_ratio": around(1.2, 3.0),
    "close": around(100.0), "ema_200_4h": st.one_of(st.just(100.0), WILD),
}  # fmt: skip


@st.composite
def some_features(draw: st.DrawFn) -> Features:
    names = draw(NAMES)
    counts = st.sampled_from([49, 50, 199, 200, 499])

    def column(values: st.SearchStrategy[Any], kind: type) -> Any:
        return np.array(draw(st.lists(values, min_size=len(names), max_size=len(names))), kind)

    others = [name for name in Features.__struct_fields__ if name not in ("symbols", "candles_15m", "candles_4h", *FIGURES)]
    plain = st.one_of(st.floats(-5, 5), WILD)
    return Features(
        symbols=tuple(names),
        candles_15m=column(st.one_of(st.just(499), counts), np.int64),
        candles_4h=column(st.one_of(st.just(499), counts), np.int64),
        **{name: column(values, np.float64) for name, values in FIGURES.items()},
        **{name: column(plain, np.float64) for name in others},
    )


def told(rejections: tuple[Rejection, ...]) -> list[tuple[str, RejectionReason, str]]:
    return [(no.symbol, no.reason, no.detail) for no in rejections]


@settings(max_examples=200, deadline=None)
@given(some_features(), st.integers(1, 4))
def test_the_screen_is_the_plain_one_to_the_bit(features: Features, top_n: int) -> None:
    found = screen(features, top_n)
    picks, fallen = screen_plainly(features, top_n)
    assert [(kept.symbol, kept.score, str(kept.direction)) for kept in found.candidates] == picks
    assert told(found.rejections) == fallen
    for kept in found.candidates:
        row = features.symbols.index(kept.symbol)
        figures = {name: float(getattr(features, name)[row]) for name in kept.features if name != "trend"}
        trend = "BULL" if features.close[row] > features.ema_200_4h[row] else "BEAR"
        assert kept.features == {"trend": trend, **{name: x if math.isfinite(x) else None for name, x in figures.items()}}


@settings(max_examples=200, deadline=None)
@given(NAMES, st.data())
def test_the_choice_of_the_most_moved_is_the_plain_one(names: list[str], data: st.DataObject) -> None:
    tickers = {
        name: ticker(name, change=sign * data.draw(around(1.5, 9.0)), volume=data.draw(around(3e7)))
        for name in names
        if (sign := data.draw(st.sampled_from([-1, 1, None]))) is not None
    }
    bounds = msgspec.structs.replace(BOUNDS, top_n=1)
    found = preselect(names[::-1], tickers, bounds)
    symbols, fallen = preselect_plainly(names, tickers, 3e7, 1.5, bounds.read_limit)
    assert list(found.symbols) == symbols
    assert told(found.rejections) == fallen
