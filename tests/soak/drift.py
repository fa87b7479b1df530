"""How far the figures in Redis are from the batch over the same candles, read from the exchange again."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from engine.budget import WeightBudget
from engine.candles import Door, open_session
from engine.candles.klines import candles_of, klines_of
from engine.clock import MarketClock
from engine.core.features import Features, features_of, panel_of
from engine.core.features_live import Figures, Told
from engine.core.market import Candles

MOST_CANDLES: Final = 1500
"""Of one request; a symbol that has been carried further is not compared."""

COLUMNS: Final = ("open_ms", "open", "high", "low", "close", "volume")


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison."""

    symbols: int
    carried: int
    """The most 15m candles that one symbol's figures rest on."""
    error: float
    """The greatest relative difference; infinite where only one side knows a figure."""
    worst: str = ""


async def drift_of(told: Told, symbols: Sequence[str], url: str, clock: MarketClock) -> Drift:
    """Compares the figures of some symbols with the batch."""
    wanted = set(symbols)
    asked = np.array([_comparable(told, row) and symbol in wanted for row, symbol in enumerate(told.symbols)], np.bool_)
    rows = np.flatnonzero(asked).tolist()
    if not rows:
        return Drift(symbols=0, carried=0, error=0.0)
    panels = []
    async with open_session() as session:
        door = Door(session, url, WeightBudget(10**9, clock.now_ms))
        for figures in (told.quarter, told.four_hour):
            series = [await _read(door, told.symbols[row], figures, row, clock) for row in rows]
            panels.append(panel_of(series, max(map(len, series))))
    error, worst = _difference(told.features(asked), features_of(*panels))
    return Drift(symbols=len(rows), carried=int(told.quarter.seen[rows].max()), error=error, worst=worst)


def _comparable(told: Told, row: int) -> bool:
    return all(0 < figures.seen[row] <= MOST_CANDLES for figures in (told.quarter, told.four_hour))


async def _read(door: Door, symbol: str, figures: Figures, row: int, clock: MarketClock) -> Candles:
    timeframe, ends = figures.timeframe, int(figures.newest_ms[row]) + figures.timeframe.ms - 1
    params = {"symbol": symbol, "interval": timeframe.value, "limit": MOST_CANDLES, "endTime": ends}
    found = candles_of(symbol, timeframe, await door.read("/fapi/v1/klines", klines_of, params, 10), clock.now_ms())
    return msgspec.structs.replace(found, **{name: getattr(found, name)[-int(figures.seen[row]) :] for name in COLUMNS})


def _difference(ours: Features, batch: Features) -> tuple[float, str]:
    worst = (0.0, "")
    for name in batch.__struct_fields__:
        if name == "symbols":
            continue
        found, expected = (np.asarray(getattr(side, name), np.float64) for side in (ours, batch))
        scale = np.maximum(np.abs(found), np.abs(expected))
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.where(same, 0.0, np.abs(found - expected) / scale)
        relative[np.isnan(relative)] = np.inf
        row = int(relative.argmax())
        worst = max(worst, (float(relative[row]), f"{name} of {batch.symbols[row]}"))
    return worst
