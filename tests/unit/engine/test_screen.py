"""Screener v3.1: who is kept, who falls, and why; whales reach the decision by direction only."""

from typing import Any

import msgspec
import numpy as np
import pytest

from engine.core.features import Features, features_of, panel_of
from engine.core.screen import ScreenBounds, preselect, screen, weigh_whales, whale_boost
from shared.analysis import LiquidationPressure, RejectionReason, WhaleSignal, WhaleView
from shared.enums import Side
from tests.unit.engine.market_world import candidate, dip, ticker

BOUNDS = ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=10)


def figures(**changes: Any) -> Features:
    """One symbol's figures: a bull market, RSI 30, volume 2 times its mean."""
    pair = dip("XUSDT")
    base = features_of(panel_of([pair[0]]), panel_of([pair[1]]))
    given: dict[str, Any] = {
        "candles_15m": 499, "candles_4h": 499, "close": 110.0, "ema_200_4h": 100.0, "rsi": 30.0, "volume_ratio": 2.0, **changes,
    }  # fmt: skip
    return msgspec.structs.replace(base, **{name: np.array([value]) for name, value in given.items()})


def reason_of(**changes: Any) -> RejectionReason:
    found = screen(figures(**changes), 10)
    assert not found.candidates
    return found.rejections[0].reason


def view(signal: WhaleSignal, confidence: int = 80, symbol: str = "XUSDT") -> WhaleView:
    return WhaleView(
        symbol=symbol,
        signal=signal,
        confidence=confidence,
        pressure=LiquidationPressure.NONE,
        long_liquidations_usd=0,
        short_liquidations_usd=0,
        pump_points=0,
        dump_points=0,
    )


def test_the_most_moved_of_the_liquid_symbols_are_read_and_each_other_says_why_not() -> None:
    tickers = {name: ticker(name, change, volume) for name, change, volume in [
        ("A", 5.0, 1e9), ("B", -9.0, 1e9), ("C", 1.0, 1e9), ("D", 7.0, 1e6), ("E", 5.0, 1e9),
    ]}  # fmt: skip
    found = preselect([*tickers, "F"], tickers, BOUNDS)
    assert found.symbols == ("B", "A", "E")
    assert {no.symbol: no.reason for no in found.rejections} == {
        "C": RejectionReason.LOW_CHANGE,
        "D": RejectionReason.LOW_QUOTE_VOLUME,
        "F": RejectionReason.MARKET_DATA_MISSING,
    }


def test_sixty_symbols_are_read_at_most_however_many_candidates_are_wanted() -> None:
    tickers = {f"S{place:03}": ticker(f"S{place:03}", change=2 + place / 100) for place in range(100)}
    assert len(preselect(tickers, tickers, BOUNDS).symbols) == 60
    assert len(preselect(tickers, tickers, msgspec.structs.replace(BOUNDS, top_n=20)).symbols) == 60
    few = preselect(tickers, tickers, msgspec.structs.replace(BOUNDS, top_n=2))
    assert len(few.symbols) == 12
    assert {no.reason for no in few.rejections} == {RejectionReason.OUTSIDE_TOP_MOVERS}


def test_a_low_rsi_in_a_bull_market_is_a_long_scored_by_depth_and_volume() -> None:
    (kept,) = screen(figures(), 10).candidates
    assert kept.direction is Side.LONG
    assert kept.score == pytest.approx((50 - 30) + 5 * 2.0)
    assert kept.features["trend"] == "BULL"


def test_a_high_rsi_in_a_bear_market_is_a_short() -> None:
    (kept,) = screen(figures(close=90.0, rsi=71.0), 10).candidates
    assert kept.direction is Side.SHORT
    assert kept.score == pytest.approx(21 + 10)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candles_15m": 49}, RejectionReason.NOT_ENOUGH_HISTORY),
        ({"candles_4h": 199}, RejectionReason.NOT_ENOUGH_HISTORY),
        ({"rsi": np.nan}, RejectionReason.NOT_ENOUGH_HISTORY),
        ({"volume_ratio": np.nan}, RejectionReason.NOT_ENOUGH_HISTORY),
        ({"volume_ratio": 1.19}, RejectionReason.LOW_VOLUME_RATIO),
        ({"rsi": 44.0, "volume_ratio": 2.99}, RejectionReason.RSI_DEAD_ZONE),
        ({"rsi": 70.0}, RejectionReason.NO_SCORE),
        ({"rsi": 50.0, "volume_ratio": 3.0}, RejectionReason.NO_SCORE),
        ({"close": 100.0, "rsi": 30.0}, RejectionReason.NO_SCORE),
    ],
)
def test_a_symbol_falls_with_the_first_reason_that_holds(changes: dict[str, float], reason: RejectionReason) -> None:
    assert reason_of(**changes) is reason


def test_heavy_volume_lets_a_symbol_out_of_the_dead_zone() -> None:
    (kept,) = screen(figures(rsi=44.0, volume_ratio=3.0), 10).candidates
    assert kept.score == pytest.approx(6 + 15)


def test_a_dip_made_of_candles_is_found_from_end_to_end() -> None:
    pair = dip("DIPUSDT")
    (kept,) = screen(features_of(panel_of([pair[0]]), panel_of([pair[1]])), 10).candidates
    assert (kept.symbol, kept.direction) == ("DIPUSDT", Side.LONG)


def test_ranking_is_the_same_however_the_symbols_come_and_the_rest_are_outranked() -> None:
    pairs = [dip(name) for name in ("C", "A", "B")]
    found = screen(features_of(panel_of([pair[0] for pair in pairs]), panel_of([pair[1] for pair in pairs])), 2)
    assert [kept.symbol for kept in found.candidates] == ["A", "B"]
    assert [(no.symbol, no.reason) for no in found.rejections] == [("C", RejectionReason.OUTRANKED)]


@pytest.mark.parametrize("signal", [WhaleSignal.DUMP_IMMINENT, WhaleSignal.SQUEEZE_LONGS])
def test_a_dump_never_raises_a_long_it_vetoes_it(signal: WhaleSignal) -> None:
    found = weigh_whales([candidate(side=Side.LONG)], {"XUSDT": view(signal)}, 10)
    assert not found.candidates
    assert found.rejections[0].reason is RejectionReason.WHALE_VETO


@pytest.mark.parametrize("signal", [WhaleSignal.PUMP_IMMINENT, WhaleSignal.SQUEEZE_SHORTS])
def test_a_pump_vetoes_a_short_and_raises_a_long(signal: WhaleSignal) -> None:
    views = {"XUSDT": view(signal)}
    assert not weigh_whales([candidate(side=Side.SHORT)], views, 10).candidates
    (kept,) = weigh_whales([candidate(side=Side.LONG, score=20.0)], views, 10).candidates
    assert kept.score == 20.0 + whale_boost(views["XUSDT"]) > 20.0
    assert kept.whale == views["XUSDT"]


def test_a_neutral_view_changes_no_score_and_a_boost_changes_the_rank() -> None:
    candidates = [candidate("A", score=30.0), candidate("B", score=20.0)]
    found = weigh_whales(
        candidates, {"A": view(WhaleSignal.NEUTRAL, symbol="A"), "B": view(WhaleSignal.PUMP_IMMINENT, symbol="B")}, 10
    )
    assert [(kept.symbol, kept.score) for kept in found.candidates] == [("B", 55.0), ("A", 30.0)]


@pytest.mark.parametrize(
    ("signal", "confidence", "boost"),
    [
        (WhaleSignal.PUMP_IMMINENT, 60, 25.0), (WhaleSignal.DUMP_IMMINENT, 95, 42.5), (WhaleSignal.PUMP_IMMINENT, 59, 0.0),
        (WhaleSignal.SQUEEZE_LONGS, 50, 10.0), (WhaleSignal.SQUEEZE_SHORTS, 95, 23.5), (WhaleSignal.NEUTRAL, 100, 0.0),
    ],
)  # fmt: skip
def test_the_boost_is_the_first_systems(signal: WhaleSignal, confidence: int, boost: float) -> None:
    assert whale_boost(view(signal, confidence)) == pytest.approx(boost)
