"""The market of a soak as files that the sandbox plays: the recorded universe, or walks where it is absent or few symbols do."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

QUARTER_MS: Final = 900_000
FOUR_HOURS_MS: Final = 16 * QUARTER_MS
BEGIN_MS: Final = 1_756_080_000_000
"""2025-08-25 00:00 UTC, a close of both timeframes."""

OLDER: Final = 600
QUARTERS: Final = 2_400
"""Of a walk: a hundred days of 4h before twenty-five of 15m."""

RECORDED_START: Final = "2025-09-20T00:00"
"""Nearly every recorded symbol is listed by then; a day of many liquidations is two days away."""

RECORDED_HOURS: Final = 250.0
"""What is left of the recording from there."""

RECORDED: Final = ("universe_15m_2025-09.parquet", "universe_4h_2025-09.parquet")


def walked_market(folder: Path, symbols: int, seed: int = 7) -> list[str]:
    """Writes a market of random walks; returns the sandbox's options for it."""
    random = np.random.default_rng(seed)
    quarters, older = [], []
    for number in range(symbols):
        symbol, scale = f"W{number:03}USDT", float(10.0 ** random.integers(0, 4))
        before = _walk(symbol, BEGIN_MS - OLDER * FOUR_HOURS_MS, FOUR_HOURS_MS, OLDER, scale, 0.016, random)
        older.append(before)
        quarters.append(_walk(symbol, BEGIN_MS, QUARTER_MS, QUARTERS, float(before["close"][-1]), 0.004, random))
    return _written(folder, pl.concat(quarters), pl.concat(older))


def recorded_market(folder: Path, data: Path, symbols: int) -> list[str]:
    """Writes the recorded universe, its most traded symbols first; where fewer were recorded some are played under two names.

    Raises:
        FileNotFoundError: Nothing was recorded there.
    """
    quarters, older = (pl.read_parquet(data / name).select(COLUMNS) for name in RECORDED)
    traded = (pl.col("close") * pl.col("volume")).sum().alias("traded")
    ranked = quarters.group_by("symbol").agg(traded).sort("traded", descending=True)["symbol"].to_list()
    chosen = ranked[:symbols]
    again = {symbol: f"TWO{symbol}" for symbol in ranked[: symbols - len(chosen)]}
    return [*_written(folder, *(_chosen(frame, chosen, again) for frame in (quarters, older))), "--start", RECORDED_START]


COLUMNS: Final = ("symbol", "open_time", "open", "high", "low", "close", "volume")


def _chosen(frame: pl.DataFrame, chosen: list[str], again: dict[str, str]) -> pl.DataFrame:
    copies = frame.filter(pl.col("symbol").is_in(list(again))).with_columns(pl.col("symbol").replace(again))
    return pl.concat([frame.filter(pl.col("symbol").is_in(chosen)), copies]).sort("symbol", "open_time")


def _written(folder: Path, quarters: pl.DataFrame, older: pl.DataFrame) -> list[str]:
    market, history = folder / "market.parquet", folder / "history.parquet"
    quarters.write_parquet(market)
    older.write_parquet(history)
    return ["--market", str(market), "--history", str(history)]


def _walk(
    symbol: str, begin_ms: int, step_ms: int, count: int, first: float, sigma: float, random: np.random.Generator
) -> pl.DataFrame:
    """Candles whose closes walk, with regimes of drift and of volume, so that rules find something now and then."""
    drift = np.repeat(random.normal(0, sigma / 3, count // 40 + 1), 40)[:count]
    closes = first * np.exp(np.cumsum(random.normal(0, sigma, count) + drift))
    opens = np.concatenate([[first], closes[:-1]])
    wicks = np.abs(random.normal(0, sigma / 2, (2, count)))
    volumes = 2e6 / first * np.exp(random.normal(0, 0.9, count))
    values = {
        "open": opens,
        "high": np.maximum(opens, closes) * (1 + wicks[0]),
        "low": np.minimum(opens, closes) * (1 - wicks[1]),
        "close": closes,
        "volume": volumes,
    }
    times = begin_ms + step_ms * np.arange(count)
    return pl.DataFrame({"symbol": [symbol] * count, "open_time": times, **{k: np.round(v, 4) for k, v in values.items()}})
