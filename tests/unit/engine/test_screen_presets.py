"""The screener's presets: each rule, setup and point at its bound by name, sides, unknown figures, and the same ranking however symbols come."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import talib

from engine.core.features import Features, Panel, features_of, panel_of
from engine.core.market import Candles, Timeframe
from engine.core.screen import Screened, near_misses, screen
from engine.core.screen_presets import PRESETS
from engine.core.screen_rules import V3_1, DropRule, Points, RuleSet
from engine.core.structure import Structure, structure_of, swing_form
from shared.analysis import Rejection, RejectionReason
from tests.unit.engine.test_features import candles
from tests.unit.engine.test_screen import figures
from tests.unit.engine.test_screen_recorded import candles_until

LATER = [preset for preset in PRESETS.values() if preset is not V3_1]
CALM: dict[str, Any] = {
    "volume_ratio": 1.0, "volume_z": 0.0, "rsi": 50.0, "efficiency": 0.4, "band_width": 0.05, "band_position": 0.2, "atr_percent": 0.5,
    "adx": 20.0, "roc_3": 0.2, "close": 110.0, "ema_200_4h": 100.0,
}  # fmt: skip
FORM: dict[str, Any] = {"swing": "UNCLEAR", "resistance": 120.0, "support": 90.0, "rsi_slope": 0.0}


def split(changes: dict[str, Any]) -> tuple[Features, Structure]:
    """One symbol's figures and form: calm in a bull market, save for the changes."""
    form = {**FORM, **{name: value for name, value in changes.items() if name in FORM}}
    levels = {name: np.array([form[name]]) for name in FORM if name != "swing"}
    plain = {**CALM, **{name: value for name, value in changes.items() if name not in FORM}}
    return figures(**plain), Structure(swing=(form["swing"],), **levels)


def screened(preset: RuleSet, **changes: Any) -> Screened:
    features, structure = split(changes)
    return screen(features, 10, preset, structure)


def column(name: str, expression: pl.Expr, changes: dict[str, Any]) -> Any:
    """What an expression says of the calm symbol with changes; NaN stands for unknown."""
    row = {**CALM, **FORM, "candles_15m": 499, "candles_4h": 499, "score": 100.0, **changes}
    frame = pl.DataFrame({key: pl.Series([value], strict=False) for key, value in row.items()})
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None)).select(expression.alias(name)).item()


def below(bound: float) -> float:
    return math.nextafter(bound, -math.inf)


def above(bound: float) -> float:
    return math.nextafter(bound, math.inf)


GATES: list[tuple[str, dict[str, Any], bool]] = [
    ("thin volume", {"volume_ratio": 0.5}, False),
    ("thin volume", {"volume_ratio": below(0.5)}, True),
    ("thin volume", {"volume_ratio": 0.1, "band_width": below(0.02)}, False),
    ("thin volume", {"volume_ratio": 0.1, "band_width": 0.02}, True),
    ("inefficient move", {"efficiency": 0.25}, False),
    ("inefficient move", {"efficiency": below(0.25)}, True),
    ("inefficient move", {"efficiency": 0.0, "band_width": 0.01}, False),
    ("narrow range", {"atr_percent": 0.15}, False),
    ("narrow range", {"atr_percent": below(0.15)}, True),
    ("short history", {"candles_15m": 49}, True),
    ("short history", {"candles_4h": 199}, True),
    ("short history", {"candles_15m": 50, "candles_4h": 200}, False),
    *[("undefined figure", {name: math.nan}, True) for name in ("close", "ema_200_4h", "rsi", "efficiency", "band_width", "adx")],
    ("undefined figure", {}, False),
]
OWN: list[tuple[str, str, dict[str, Any], bool]] = [
    ("v4", "low score", {"score": 15.0}, True),
    ("v4", "low score", {"score": above(15.0)}, False),
    ("v5", "low score", {"score": 20.0}, True),
    ("v5", "low score", {"score": above(20.0)}, False),
    ("squeeze", "no setup", {"band_width": 0.02}, True),
    ("squeeze", "no setup", {"band_width": below(0.02)}, False),
    ("efficiency", "no setup", {"efficiency": 0.5}, True),
    ("efficiency", "no setup", {"efficiency": above(0.5)}, False),
    ("z-score", "no setup", {"volume_z": 3.0}, True),
    ("z-score", "no setup", {"volume_z": above(3.0)}, False),
    ("momentum", "no setup", {"roc_3": 1.0, "volume_ratio": 2.0}, True),
    ("momentum", "no setup", {"roc_3": -1.2, "volume_ratio": 1.5}, True),
    ("momentum", "no setup", {"roc_3": -1.2, "volume_ratio": above(1.5)}, False),
    *[("structure", "no setup", {"swing": swing}, True) for swing in ("CHOPPY", "UNCLEAR")],
    *[("structure", "no setup", {"swing": swing}, False) for swing in ("UPTREND", "DISTRIBUTION")],
]
POINTS: list[tuple[str, str, dict[str, Any], float]] = [
    ("v4", "volume", {"volume_ratio": 1.7}, 8.5),
    ("v4", "trend strength", {"adx": 31.0}, 6.2),
    ("v4", "squeeze", {}, 0.0),
    ("v4", "squeeze", {"band_width": 0.019, "volume_z": 2.0}, 40.0),
    ("v4", "squeeze", {"band_width": 0.019, "volume_z": 2.1}, 70.0),
    ("v5", "squeeze", {"band_width": 0.019, "volume_z": 2.0}, 30.0),
    ("v5", "squeeze", {"band_width": 0.019, "volume_z": 2.1}, 50.0),
    ("v4", "efficient move", {"efficiency": 0.5}, 0.0),
    ("v4", "efficient move", {"efficiency": 0.6}, 20.0),
    ("v4", "efficient move", {"efficiency": 0.71}, 40.0),
    ("v5", "efficient move", {"efficiency": 0.6}, 0.0),
    ("v5", "efficient move", {"efficiency": 0.7}, 20.0),
    ("v5", "efficient move", {"efficiency": 0.81}, 40.0),
    ("v4", "volume spike", {"volume_z": 3.0}, 0.0),
    ("v4", "volume spike", {"volume_z": 3.1}, 35.0),
    ("v5", "volume spike", {"volume_z": 3.1}, 25.0),
    ("v5", "volume spike", {"volume_z": 4.1}, 40.0),
    ("v4", "stretched against the trend", {"rsi": 34.0}, 15.0),
    ("v4", "stretched against the trend", {"rsi": 34.0, "close": 90.0}, 0.0),
    ("v4", "stretched against the trend", {"rsi": 66.0, "close": 90.0}, 15.0),
    ("v5", "stretched against the trend", {"rsi": 39.0}, 15.0),
    ("v5", "stretched against the trend", {"rsi": 61.0, "close": 90.0}, 15.0),
    ("v5", "stretched against the trend", {"rsi": 61.0}, 0.0),
    ("v5", "RSI turns with the trend", {"rsi_slope": 3.1}, 10.0),
    ("v5", "RSI turns with the trend", {"rsi_slope": -3.1}, 0.0),
    ("v5", "RSI turns with the trend", {"rsi_slope": -3.1, "close": 90.0}, 10.0),
    ("v5", "momentum", {"roc_3": 1.6, "volume_ratio": 2.1}, 50.0),
    ("v5", "momentum", {"roc_3": -1.6, "volume_ratio": 2.0}, 30.0),
    ("v5", "momentum", {"roc_3": 1.0, "volume_ratio": 3.0}, 0.0),
    ("v5", "choppy", {"swing": "CHOPPY"}, -20.0),
    ("v5", "choppy", {"swing": "UPTREND"}, 0.0),
    ("v5", "near a level", {}, 0.0),
    ("v5", "near a level", {"resistance": 110.3}, -15.0),
    ("v5", "near a level", {"support": 109.7}, -15.0),
    ("v5", "near a level", {"band_position": 0.9}, -15.0),
    ("v5", "near a level", {"band_position": -0.9}, -15.0),
    ("structure", "structure", {"swing": "DOWNTREND"}, 80.0),
    ("structure", "structure", {"swing": "ACCUMULATION"}, 60.0),
]
SIDES: list[tuple[str, dict[str, Any], str | None]] = [
    ("v4", {}, "LONG"),
    ("v4", {"close": 90.0}, "SHORT"),
    ("squeeze", {"close": 90.0, "band_position": 0.4}, "LONG"),
    ("squeeze", {"band_position": -0.4}, "SHORT"),
    ("efficiency", {"roc_3": -0.5}, "SHORT"),
    ("z-score", {"roc_3": 0.5, "close": 90.0}, "LONG"),
    ("momentum", {"roc_3": -2.0}, "SHORT"),
    ("momentum", {"roc_3": 0.0}, "LONG"),
    ("structure", {"swing": "DISTRIBUTION"}, "SHORT"),
    ("structure", {"swing": "ACCUMULATION", "close": 90.0}, "LONG"),
    ("v5", {"roc_3": -1.2, "volume_ratio": 1.6}, "SHORT"),
    ("v5", {"roc_3": -1.2, "volume_ratio": 1.5}, "LONG"),
    ("v5", {"rsi": 34.0, "roc_3": -1.0}, "LONG"),
    ("v5", {"rsi": 29.0, "close": 90.0}, "LONG"),
    ("v5", {"rsi": 71.0}, "SHORT"),
    ("v5", {"rsi": 71.0, "close": 90.0}, "SHORT"),
    ("v5", {"close": 90.0}, "SHORT"),
    ("v4", {"close": math.nan}, None),
]


def rule_of(preset: RuleSet, name: str) -> DropRule:
    (rule,) = [rule for rule in preset.rules if rule.name == name]
    return rule


def points_of(preset: RuleSet, name: str) -> Points:
    (points,) = [points for points in preset.points if points.name == name]
    return points


@pytest.mark.parametrize(("name", "changes", "drops"), GATES)
def test_every_later_preset_has_the_same_gates(name: str, changes: dict[str, Any], drops: bool) -> None:
    for preset in LATER:
        assert bool(column(name, rule_of(preset, name).drops, changes)) is drops, preset.name


@pytest.mark.parametrize(("preset", "name", "changes", "drops"), OWN)
def test_each_preset_asks_for_its_own_setup(preset: str, name: str, changes: dict[str, Any], drops: bool) -> None:
    assert column(name, rule_of(PRESETS[preset], name).drops, changes) is drops


@pytest.mark.parametrize(("preset", "name", "changes", "worth"), POINTS)
def test_points_are_given_at_their_bounds(preset: str, name: str, changes: dict[str, Any], worth: float) -> None:
    assert column(name, points_of(PRESETS[preset], name).expression, changes) == pytest.approx(worth)


@pytest.mark.parametrize(("preset", "changes", "side"), SIDES)
def test_the_side_follows_from_what_the_preset_looks_at(preset: str, changes: dict[str, Any], side: str | None) -> None:
    assert column("side", PRESETS[preset].direction, changes) == side


def test_every_rule_and_every_point_is_tried() -> None:
    tried = {name for name, _, _ in GATES} | {name for _, name, _, _ in OWN}
    assert {rule.name for preset in LATER for rule in preset.rules} == tried
    assert {points.name for preset in LATER for points in preset.points} == {name for _, name, _, _ in POINTS}
    for preset in LATER:
        assert len({rule.name for rule in preset.rules}) == len(preset.rules)


@pytest.mark.parametrize(
    ("preset", "changes", "reason", "words"),
    [
        ("v4", {"volume_ratio": 0.3}, RejectionReason.LOW_VOLUME_RATIO, "volume ratio 0.30, no squeeze"),
        ("v4", {"efficiency": 0.2}, RejectionReason.LOW_EFFICIENCY, "efficiency ratio 0.20, no squeeze"),
        ("v4", {"atr_percent": 0.1}, RejectionReason.LOW_RANGE, "ATR 0.10 % of the price"),
        ("v4", {}, RejectionReason.LOW_SCORE, "score 9.0, more than 15 is wanted"),
        ("v5", {"swing": None}, RejectionReason.NOT_ENOUGH_HISTORY, "a figure is undefined"),
        ("squeeze", {}, RejectionReason.NO_SETUP, "band width 0.050"),
        ("momentum", {}, RejectionReason.NO_SETUP, "+0.20 % in three candles, volume ratio 1.00"),
        ("structure", {}, RejectionReason.NO_SETUP, "swings are UNCLEAR"),
    ],
)
def test_a_dropped_symbol_reads_why(preset: str, changes: dict[str, Any], reason: RejectionReason, words: str) -> None:
    found = screened(PRESETS[preset], **changes)
    assert found.rejections == (Rejection(symbol="XUSDT", reason=reason, detail=words),)


def test_a_score_is_the_sum_of_its_points_and_the_form_travels_with_a_candidate_whose_preset_asks_for_it() -> None:
    (kept,) = screened(PRESETS["v5"], roc_3=2.0, volume_ratio=2.5, efficiency=0.9, swing="CHOPPY").candidates
    assert kept.score == pytest.approx(50 + 40 + 12.5 + 4 - 20)
    assert (kept.features["swing"], kept.features["resistance"]) == ("CHOPPY", 120.0)
    (plain,) = screened(PRESETS["efficiency"], efficiency=0.9).candidates
    assert "swing" not in plain.features


def test_without_a_form_a_preset_that_asks_for_it_keeps_nothing() -> None:
    found = screen(split({"swing": "UPTREND"})[0], 10, PRESETS["structure"])
    assert [no.reason for no in found.rejections] == [RejectionReason.NOT_ENOUGH_HISTORY]


def test_a_near_miss_is_what_a_single_rule_dropped_and_never_what_is_not_known() -> None:
    assert near_misses(figures(volume_ratio=1.1)) == {"XUSDT"}
    assert near_misses(figures(volume_ratio=1.1, rsi=70.0)) == frozenset()
    assert near_misses(figures()) == frozenset()
    assert near_misses(figures(candles_4h=10)) == near_misses(figures(rsi=math.nan)) == frozenset()
    features, structure = split({"swing": "CHOPPY"})
    assert near_misses(features, PRESETS["structure"], structure) == {"XUSDT"}


def bars(*points: float) -> Any:
    return np.array(points, np.float64)


@pytest.mark.parametrize(
    ("highs", "lows", "form"),
    [
        (bars(1, 5, 2, 6, 1), bars(9, 3, 8, 4, 9), "UPTREND"),
        (bars(1, 6, 2, 5, 1), bars(9, 4, 8, 3, 9), "DOWNTREND"),
        (bars(1, 6, 2, 5, 1), bars(9, 3, 8, 4, 9), "ACCUMULATION"),
        (bars(1, 5, 2, 5, 1), bars(9, 3, 8, 4, 9), "ACCUMULATION"),
        (bars(1, 6, 2, 5, 1), bars(9, 3, 8, 3, 9), "DISTRIBUTION"),
        (bars(1, 5, 2, 6, 1), bars(9, 4, 8, 3, 9), "CHOPPY"),
        (bars(1, 5, 2, 2, 1), bars(9, 3, 8, 4, 9), "UNCLEAR"),
        (bars(1, 2, 3, 4, 5), bars(1, 2, 3, 4, 5), "UNCLEAR"),
    ],
)
def test_swings_have_the_first_systems_names(highs: Any, lows: Any, form: str) -> None:
    assert swing_form(highs, lows) == form


def test_swings_are_looked_for_from_the_thirteenth_to_the_third_newest_candle() -> None:
    panel = panel_of([candles(1, 40)])
    begin = panel.close.shape[1]
    high, low = np.full_like(panel.high, 10.0), np.full_like(panel.low, 5.0)
    for back, top in ((13, 11.0), (3, 12.0)):
        high[0, begin - back], low[0, begin - back - (1 if back == 3 else -1)] = top, 4.0
    assert form_of(panel, high, low) == "CHOPPY"
    for shift in (1, -1):
        assert form_of(panel, np.roll(high, shift), low) == "UNCLEAR"


def form_of(panel: Panel, high: Any, low: Any) -> str | None:
    return structure_of(msgspec.structs.replace(panel, high=high, low=low)).swing[0]


def test_levels_and_slope_are_talibs_and_a_young_symbol_has_none() -> None:
    lengths = (13, 14, 17, 18, 29, 30, 499)
    histories = [candles(seed, length, f"S{seed}") for seed, length in enumerate(lengths)]
    found = structure_of(panel_of(histories))
    for row, history in enumerate(histories):
        slope = talib.RSI(history.close, 14)
        pairs = [
            (found.resistance[row], talib.MAX(history.high, 30)[-1]),
            (found.support[row], talib.MIN(history.low, 30)[-1]),
            (found.rsi_slope[row], slope[-1] - slope[-4]),
        ]
        for ours, oracle in pairs:
            np.testing.assert_allclose(ours, oracle, rtol=1e-9, atol=1e-9, equal_nan=True)
        assert (found.swing[row] is None) is (len(history) < 14)


def test_what_the_presets_read_of_the_bands_is_talibs() -> None:
    history = candles(5, 300)
    features = features_of(panel_of([history]), panel_of([history]))
    upper, middle, lower = (band[-1] for band in talib.BBANDS(history.close, 20, 2, 2))
    assert features.band_width[0] == pytest.approx((upper - lower) / middle, rel=1e-9)
    half, place, close = features.band_width[0] / 2, features.band_position[0], history.close[-1]
    assert abs(1 - place) * half / (1 + place * half) == pytest.approx(abs(upper - close) / close, rel=1e-6)
    deviation = talib.STDDEV(history.volume, 20, 1)[-1]
    assert features.volume_z[0] == pytest.approx((history.volume[-1] - talib.SMA(history.volume, 20)[-1]) / deviation, rel=1e-9)


type Recorded = dict[str, tuple[Candles, Candles]]


@pytest.fixture(scope="module")
def recorded(data_folder: Path) -> Recorded:
    quarter = candles_until(data_folder, "universe_15m_2025-09.parquet", Timeframe.M15, 1758520800000)
    four_hour = candles_until(data_folder, "universe_4h_2025-09.parquet", Timeframe.H4, 1758520800000)
    return {symbol: (quarter[symbol], four_hour[symbol]) for symbol in sorted(quarter.keys() & four_hour.keys())}


@pytest.mark.parametrize("name", PRESETS)
def test_on_the_recorded_market_each_preset_keeps_some_ranked_alike_however_they_come(recorded: Recorded, name: str) -> None:
    def found(order: list[str]) -> Screened:
        panel = panel_of([recorded[symbol][0] for symbol in order])
        features = features_of(panel, panel_of([recorded[symbol][1] for symbol in order]))
        return screen(features, 5, PRESETS[name], structure_of(panel))

    ahead = found(list(recorded))
    assert ahead.candidates
    assert len(ahead.candidates) + len(ahead.rejections) == len(recorded)
    assert found(list(recorded)[::-1]).candidates == ahead.candidates
    assert [kept.score for kept in ahead.candidates] == sorted((kept.score for kept in ahead.candidates), reverse=True)
