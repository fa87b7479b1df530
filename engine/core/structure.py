"""What a chart's form says beside its indicators: swings, the nearest highs and lows, the slope of RSI.

Stands beside `features`, for the screener presets that ask for it: it needs more candles than the figures that are carried from close to
close, so it is computed from the panel of 15m candles, and only for such a preset.

Source: the first system's later screener; its words leave ties open, and `swing_form` says how they are read.
"""

from typing import Final

import msgspec
import numpy as np

from engine.core.features import Panel, rsi
from engine.core.market import Floats

OLDEST, NEWEST = 13, 3
"""Swing points are looked for among the candles from the 13th to the 3rd newest, each against its two neighbours."""

LEVEL_CANDLES: Final = 30
SLOPE_CANDLES: Final = 3
RSI_PERIOD: Final = 14


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """Each symbol's form at its newest closed 15m candle, in the panel's order.

    `swing` is None and the figures are NaN where history is too short. `resistance` and `support` are the highest high and the lowest low of
    the last 30 candles, in USDT; `rsi_slope` is what RSI gained in 3 candles.
    """

    swing: tuple[str | None, ...]
    resistance: Floats
    support: Floats
    rsi_slope: Floats


def structure_of(quarter: Panel) -> Structure:
    """The form of every symbol of a 15m panel."""
    strength = rsi(quarter.close, quarter.first, RSI_PERIOD)
    unknown = np.where(quarter.lengths() >= LEVEL_CANDLES, 0.0, np.nan)
    return Structure(
        swing=tuple(_swing(quarter, row) for row in range(len(quarter.symbols))),
        resistance=quarter.high[:, -LEVEL_CANDLES:].max(axis=1) + unknown,
        support=quarter.low[:, -LEVEL_CANDLES:].min(axis=1) + unknown,
        rsi_slope=strength[:, -1] - strength[:, -1 - SLOPE_CANDLES],
    )


def swing_form(highs: Floats, lows: Floats) -> str:
    """The form of the last two swing highs and the last two swing lows, as the first system named them.

    Args:
        highs: Candles' highs, oldest first; the outer two are neighbours only.
        lows: Their lows.

    Returns:
        UPTREND for a higher high and a higher low, DOWNTREND for both lower, ACCUMULATION for a higher low without a higher high,
        DISTRIBUTION for a lower high without a lower or higher low, CHOPPY for anything else, UNCLEAR where there are not two of each.
    """
    tops, bottoms = _peaks(highs), -_peaks(-lows)
    if len(tops) < 2 or len(bottoms) < 2:
        return "UNCLEAR"
    high, low = np.sign(tops[-1] - tops[-2]), np.sign(bottoms[-1] - bottoms[-2])
    if low > 0:
        return "UPTREND" if high > 0 else "ACCUMULATION"
    if high < 0:
        return "DOWNTREND" if low < 0 else "DISTRIBUTION"
    return "CHOPPY"


def _swing(quarter: Panel, row: int) -> str | None:
    begin = quarter.close.shape[1] - OLDEST - 1
    if quarter.first[row] > begin:
        return None
    seen = slice(begin, quarter.close.shape[1] - NEWEST + 2)
    return swing_form(quarter.high[row, seen], quarter.low[row, seen])


def _peaks(values: Floats) -> Floats:
    """Those above both of their neighbours."""
    inner = values[1:-1]
    peaks: Floats = inner[(inner > values[:-2]) & (inner > values[2:])]
    return peaks
