"""TA-Lib is the oracle of every indicator: the same seeding, the same figures to 1e-9, on series of any length."""

from typing import Any

import numpy as np
import pytest
import talib

from engine.core import features
from engine.core.market import Candles, Floats, Timeframe


def walk(seed: int, length: int) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, length)))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.01, length))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.01, length))
    return {"open": opened, "high": high, "low": low, "close": close, "volume": random.uniform(1, 1e6, length)}


def candles(seed: int, length: int, symbol: str = "XUSDT") -> Candles:
    return Candles(symbol=symbol, timeframe=Timeframe.M15, open_ms=np.arange(length) * 900_000, **walk(seed, length))


LENGTHS = (1, 14, 15, 20, 27, 28, 34, 50, 199, 200, 499)


@pytest.fixture(scope="module")
def panel() -> features.Panel:
    return features.panel_of([candles(seed, length) for seed, length in enumerate(LENGTHS)])


def oracle_of(panel: features.Panel, call: Any, *columns: str) -> Floats:
    rows = []
    for row, length in enumerate(LENGTHS):
        values = [np.ascontiguousarray(getattr(panel, column)[row, -length:]) for column in columns]
        rows.append(np.concatenate([np.full(features.WIDTH - length, np.nan), call(*values)]))
    return np.array(rows)


CASES: list[tuple[str, Any, Any, tuple[str, ...]]] = [
    ("sma20 of volume", lambda p: features.sma(p.volume, p.first, 20), lambda v: talib.SMA(v, 20), ("volume",)),
    ("ema200", lambda p: features.ema(p.close, p.first, 200), lambda c: talib.EMA(c, 200), ("close",)),
    ("ema50", lambda p: features.ema(p.close, p.first, 50), lambda c: talib.EMA(c, 50), ("close",)),
    ("rsi14", lambda p: features.rsi(p.close, p.first, 14), lambda c: talib.RSI(c, 14), ("close",)),
    (
        "atr14",
        lambda p: features.atr(p.high, p.low, p.close, p.first, 14),
        lambda h, low, c: talib.ATR(h, low, c, 14),
        ("high", "low", "close"),
    ),
    (
        "adx14",
        lambda p: features.adx(p.high, p.low, p.close, p.first, 14),
        lambda h, low, c: talib.ADX(h, low, c, 14),
        ("high", "low", "close"),
    ),
    (
        "macd histogram",
        lambda p: features.macd_histogram(p.close, p.first, 12, 26, 9),
        lambda c: talib.MACD(c, 12, 26, 9)[2],
        ("close",),
    ),
    ("deviation20", lambda p: features.deviation(p.close, p.first, 20), lambda c: talib.STDDEV(c, 20, 1), ("close",)),
    ("roc3", lambda p: features.rate_of_change(p.close, p.first, 3), lambda c: talib.ROC(c, 3), ("close",)),
]


@pytest.mark.parametrize(("ours", "oracle", "columns"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_indicator_equals_talib_on_every_length(
    panel: features.Panel, ours: Any, oracle: Any, columns: tuple[str, ...]
) -> None:
    np.testing.assert_allclose(ours(panel), oracle_of(panel, oracle, *columns), rtol=1e-9, atol=1e-9, equal_nan=True)


def test_a_market_that_does_not_move_has_figures_and_no_nan_where_history_is_enough() -> None:
    flat = np.full(60, 5.0)
    still = Candles(
        symbol="S", timeframe=Timeframe.M15, open_ms=np.arange(60), open=flat, high=flat, low=flat, close=flat, volume=flat
    )
    panel = features.panel_of([still])
    np.testing.assert_allclose(features.rsi(panel.close, panel.first, 14)[0, -60:], talib.RSI(flat, 14), equal_nan=True)
    np.testing.assert_allclose(
        features.adx(panel.high, panel.low, panel.close, panel.first, 14)[0, -60:], talib.ADX(flat, flat, flat, 14)
    )
    assert features.efficiency_ratio(panel.close, panel.first, 10)[0, -1] == 0.0


def test_efficiency_ratio_is_one_on_a_straight_way_and_small_on_a_zigzag() -> None:
    straight = np.array([[float(step) for step in range(40)]], np.float64)
    zigzag = np.array([[1.0, 2.0] * 20])
    first = np.zeros(1, np.int64)
    assert features.efficiency_ratio(straight, first, 10)[0, -1] == pytest.approx(1.0)
    assert features.efficiency_ratio(zigzag, first, 10)[0, -1] == pytest.approx(0.0)


def test_a_young_symbol_has_nan_for_what_its_history_cannot_say() -> None:
    young, old = candles(1, 30, "YOUNG"), candles(2, 300, "OLD")
    found = features.features_of(features.panel_of([young, old]), features.panel_of([young, old]))
    assert np.isnan(found.ema_200_4h[0])
    assert np.isfinite(found.ema_200_4h[1])
    assert np.isfinite(found.rsi).all()
    assert list(found.candles_15m) == [30, 300]


def test_volume_ratio_divides_by_a_mean_that_holds_the_last_candle() -> None:
    series = candles(3, 60)
    series.volume[:] = 10.0
    series.volume[-1] = 200.0
    found = features.features_of(features.panel_of([series]), features.panel_of([series]))
    assert found.volume_ratio[0] == pytest.approx(200 / ((19 * 10 + 200) / 20))
