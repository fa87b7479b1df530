"""On recorded candles the screener picks the candidates that TA-Lib, coin by coin, picks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib

from engine.core.features import WIDTH, features_of, panel_of
from engine.core.market import Candles, Timeframe
from engine.core.screen import screen


def candles_until(folder: Path, name: str, timeframe: Timeframe, now_ms: int) -> dict[str, Candles]:
    frame = pl.scan_parquet(folder / name).filter(
        pl.col("open_time").is_between(now_ms - WIDTH * timeframe.ms, now_ms - timeframe.ms)
    )
    return {
        str(symbol): Candles(
            symbol=str(symbol),
            timeframe=timeframe,
            open_ms=rows["open_time"].to_numpy(),
            **{column: rows[column].cast(pl.Float64).to_numpy() for column in ("open", "high", "low", "close", "volume")},
        )
        for (symbol,), rows in frame.collect().sort("symbol", "open_time").group_by("symbol", maintain_order=True)
    }


def by_talib(quarter: Candles, four_hour: Candles) -> tuple[str, float] | None:
    """Screener v3.1 written once more, coin by coin, as the first system ran it."""
    if len(quarter) < 50 or len(four_hour) < 200:
        return None
    ratio = quarter.volume[-1] / talib.SMA(quarter.volume, 20)[-1]
    strength = talib.RSI(quarter.close, 14)[-1]
    bull = quarter.close[-1] > talib.EMA(four_hour.close, 200)[-1]
    if not ratio >= 1.2 or (40 <= strength <= 60 and ratio < 3.0):
        return None
    if bull and strength < 45:
        return "LONG", 50 - strength + 5 * ratio
    if not bull and strength > 55:
        return "SHORT", strength - 50 + 5 * ratio
    return None


@pytest.mark.parametrize("now_ms", [1758506400000, 1758520800000, 1758553200000, 1757030400000])
def test_the_candidates_are_those_of_talib_on_the_whole_recorded_market(data_folder: Path, now_ms: int) -> None:
    quarter = candles_until(data_folder, "universe_15m_2025-09.parquet", Timeframe.M15, now_ms)
    four_hour = candles_until(data_folder, "universe_4h_2025-09.parquet", Timeframe.H4, now_ms)
    symbols = sorted(quarter.keys() & four_hour.keys())
    found = screen(features_of(panel_of([quarter[s] for s in symbols]), panel_of([four_hour[s] for s in symbols])), len(symbols))
    expected = {symbol: pick for symbol in symbols if (pick := by_talib(quarter[symbol], four_hour[symbol])) is not None}
    assert expected
    assert {kept.symbol: str(kept.direction) for kept in found.candidates} == {
        symbol: side for symbol, (side, _) in expected.items()
    }
    for kept in found.candidates:
        assert kept.score == pytest.approx(expected[kept.symbol][1], rel=1e-9)
    assert np.all(np.diff([kept.score for kept in found.candidates]) <= 0)
