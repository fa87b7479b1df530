"""Indicators for all symbols at once: numba kernels over arrays symbols x time.

Decides nothing; `screen`, `rules` and the analyst's case read its last column. Rows are right-aligned, so the last column is every
symbol's newest closed candle, and NaN in front stands for history that a symbol does not have. An output is NaN until its
indicator is defined: "not enough data" stays visible and never compares as true.

Source: TA-Lib 0.6 C sources, whose seeding is the reference (`ema` starts from a simple mean, Wilder's averages from a mean of the first
period); the tests compare each indicator with it to 1e-9.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np
from numba import njit

from engine.core.market import Candles, Floats, Integers

WIDTH = 499
"""Candles read per symbol and timeframe: one more would weigh 5 instead of 2."""

RECENT = 21
"""Columns that the indicators with a fixed window can see; longer history cannot change their newest figure."""

_TINY = 1e-14
"""Below this a divisor counts as zero, as in TA-Lib."""


def _kernel[F: Callable[..., Any]](function: F) -> F:
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # numba found no folder where it may keep compiled code; compiling at each start is slow, not wrong.
        return cast(F, njit(nogil=True)(function))


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """Candles of many symbols as arrays symbols x time, right-aligned; `first` is each row's first column that holds data."""

    symbols: tuple[str, ...]
    first: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def lengths(self) -> Integers:
        """Candles per symbol."""
        return np.asarray(self.close.shape[1] - self.first, dtype=np.int64)


def panel_of(series: Sequence[Candles], width: int = WIDTH) -> Panel:
    """The newest `width` candles of each series in one panel, NaN where a symbol is younger."""
    shape = (len(series), width)
    first = np.empty(len(series), np.int64)
    columns = {name: np.full(shape, np.nan) for name in ("open", "high", "low", "close", "volume")}
    for row, candles in enumerate(series):
        kept = min(len(candles), width)
        first[row] = width - kept
        for name, column in columns.items():
            column[row, width - kept :] = getattr(candles, name)[len(candles) - kept :]
    return Panel(symbols=tuple(candles.symbol for candles in series), first=first, **columns)


@_kernel
def sma(values: Floats, first: Integers, period: int) -> Floats:
    """Simple moving average, row by row; the first period - 1 of each row are NaN."""
    out = np.full(values.shape, np.nan)
    for row in range(values.shape[0]):
        start = first[row]
        for column in range(start + period - 1, values.shape[1]):
            total = 0.0
            for back in range(period):
                total += values[row, column - back]
            out[row, column] = total / period
    return out


@_kernel
def _ema_from(values: Floats, row: int, seed_end: int, period: int, out: Floats) -> None:
    if seed_end >= values.shape[1]:
        return
    total = 0.0
    for column in range(seed_end - period + 1, seed_end + 1):
        total += values[row, column]
    weight = 2.0 / (period + 1)
    average = total / period
    out[row, seed_end] = average
    for column in range(seed_end + 1, values.shape[1]):
        average = (values[row, column] - average) * weight + average
        out[row, column] = average


@_kernel
def ema(values: Floats, first: Integers, period: int) -> Floats:
    """Exponential moving average with weight 2 / (period + 1), seeded by the simple mean of each row's first period."""
    out = np.full(values.shape, np.nan)
    for row in range(values.shape[0]):
        _ema_from(values, row, first[row] + period - 1, period, out)
    return out


@_kernel
def rsi(close: Floats, first: Integers, period: int) -> Floats:
    """Wilder's relative strength index, 0..100; the first `period` of each row are NaN; 0 where nothing moved."""
    out = np.full(close.shape, np.nan)
    for row in range(close.shape[0]):
        start = first[row]
        if start + period >= close.shape[1]:
            continue
        gain = 0.0
        loss = 0.0
        for column in range(start + 1, close.shape[1]):
            change = close[row, column] - close[row, column - 1]
            up = max(change, 0.0)
            down = max(-change, 0.0)
            if column <= start + period:
                gain += up / period
                loss += down / period
            else:
                gain = (gain * (period - 1) + up) / period
                loss = (loss * (period - 1) + down) / period
            if column >= start + period:
                moved = gain + loss
                out[row, column] = 100.0 * gain / moved if moved > _TINY else 0.0
    return out


@_kernel
def _true_range(high: Floats, low: Floats, close: Floats, row: int, column: int) -> float:
    before = close[row, column - 1]
    span = high[row, column] - low[row, column]
    return float(max(span, abs(high[row, column] - before), abs(low[row, column] - before)))


@_kernel
def atr(high: Floats, low: Floats, close: Floats, first: Integers, period: int) -> Floats:
    """Wilder's average true range in price units; the first `period` of each row are NaN."""
    out = np.full(close.shape, np.nan)
    for row in range(close.shape[0]):
        start = first[row]
        if start + period >= close.shape[1]:
            continue
        average = 0.0
        for column in range(start + 1, start + period + 1):
            average += _true_range(high, low, close, row, column)
        average /= period
        out[row, start + period] = average
        for column in range(start + period + 1, close.shape[1]):
            average = (average * (period - 1) + _true_range(high, low, close, row, column)) / period
            out[row, column] = average
    return out


@_kernel
def _directional_row(high: Floats, low: Floats, close: Floats, row: int, start: int, period: int, out: Floats) -> None:
    plus = 0.0
    minus = 0.0
    span = 0.0
    strength = 0.0
    for column in range(start + 1, close.shape[1]):
        rise = high[row, column] - high[row, column - 1]
        fall = low[row, column - 1] - low[row, column]
        if column >= start + period:
            plus -= plus / period
            minus -= minus / period
            span -= span / period
        if fall > 0 and rise < fall:
            minus += fall
        elif rise > 0 and rise > fall:
            plus += rise
        span += _true_range(high, low, close, row, column)
        if column < start + period:
            continue
        directional = np.nan
        if span > _TINY and plus + minus > _TINY * span:
            directional = 100.0 * abs(minus - plus) / (plus + minus)
        if column < start + 2 * period:
            strength += 0.0 if np.isnan(directional) else directional / period
        elif not np.isnan(directional):
            strength = (strength * (period - 1) + directional) / period
        if column >= start + 2 * period - 1:
            out[row, column] = strength


@_kernel
def adx(high: Floats, low: Floats, close: Floats, first: Integers, period: int) -> Floats:
    """Wilder's average directional index, 0..100; the first 2 * period - 1 of each row are NaN."""
    out = np.full(close.shape, np.nan)
    for row in range(close.shape[0]):
        if first[row] + 2 * period - 1 < close.shape[1]:
            _directional_row(high, low, close, row, first[row], period, out)
    return out


@_kernel
def macd_histogram(close: Floats, first: Integers, fast: int, slow: int, signal: int) -> Floats:
    """MACD minus its signal line, in price units; both averages are seeded so that they begin on the same candle."""
    quick = np.full(close.shape, np.nan)
    steady = np.full(close.shape, np.nan)
    for row in range(close.shape[0]):
        begin = first[row] + slow - 1
        _ema_from(close, row, begin, fast, quick)
        _ema_from(close, row, begin, slow, steady)
    line = quick - steady
    average = np.full(close.shape, np.nan)
    for row in range(close.shape[0]):
        _ema_from(line, row, first[row] + slow + signal - 2, signal, average)
    histogram: Floats = line - average
    return histogram


@_kernel
def deviation(values: Floats, first: Integers, period: int) -> Floats:
    """Population standard deviation over a period."""
    out = np.full(values.shape, np.nan)
    for row in range(values.shape[0]):
        for column in range(first[row] + period - 1, values.shape[1]):
            mean = 0.0
            for back in range(period):
                mean += values[row, column - back]
            mean /= period
            total = 0.0
            for back in range(period):
                total += (values[row, column - back] - mean) ** 2
            out[row, column] = np.sqrt(total / period)
    return out


@_kernel
def rate_of_change(values: Floats, first: Integers, period: int) -> Floats:
    """Change over a period in percent."""
    out = np.full(values.shape, np.nan)
    for row in range(values.shape[0]):
        for column in range(first[row] + period, values.shape[1]):
            before = values[row, column - period]
            if before != 0.0:
                out[row, column] = (values[row, column] / before - 1.0) * 100.0
    return out


@_kernel
def efficiency_ratio(values: Floats, first: Integers, period: int) -> Floats:
    """Kaufman's efficiency ratio, 0..1: net move over the path walked; 0 where nothing moved."""
    out = np.full(values.shape, np.nan)
    for row in range(values.shape[0]):
        for column in range(first[row] + period, values.shape[1]):
            path = 0.0
            for back in range(period):
                path += abs(values[row, column - back] - values[row, column - back - 1])
            net = abs(values[row, column] - values[row, column - period])
            out[row, column] = net / path if path > _TINY else 0.0
    return out


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Each symbol's figures at its newest closed candles; arrays of one length, NaN where history is too short.

    Ratios are plain numbers, `_percent` are percent, `atr` is in USDT. `volume_ratio` divides the last closed 15m volume by the mean of the last 20,
    the last one included, as the first system did.
    """

    symbols: tuple[str, ...]
    candles_15m: Integers
    candles_4h: Integers
    close: Floats
    volume_ratio: Floats
    volume_z: Floats
    rsi: Floats
    rsi_change: Floats
    atr: Floats
    atr_percent: Floats
    adx: Floats
    macd_histogram: Floats
    macd_histogram_change: Floats
    band_width: Floats
    band_position: Floats
    roc_3: Floats
    efficiency: Floats
    body: Floats
    ema_200_4h: Floats
    ema_50_4h: Floats
    rsi_4h: Floats


QUARTER_FIGURES: Final = (
    "close", "volume_ratio", "volume_z", "rsi", "rsi_change", "atr", "atr_percent", "adx", "macd_histogram", "macd_histogram_change",
    "band_width", "band_position", "roc_3", "efficiency", "body",
)  # fmt: skip
"""The figures of 15m that `Features` has."""


def features_of(quarter: Panel, four_hour: Panel) -> Features:
    """The figures of all symbols from their 15m and 4h panels (same symbols, same order)."""
    return Features(
        symbols=quarter.symbols,
        candles_15m=quarter.lengths(),
        candles_4h=four_hour.lengths(),
        **quarter_figures(quarter),
        **trend_figures(four_hour),
    )


def quarter_figures(panel: Panel) -> dict[str, Floats]:
    """QUARTER_FIGURES of a panel of 15m candles."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _quarter_figures(panel)


def _quarter_figures(quarter: Panel) -> dict[str, Floats]:
    close, first = quarter.close, quarter.first
    recent_close, recent_volume, recent = (
        _recent(close),
        _recent(quarter.volume),
        np.maximum(first - (close.shape[1] - RECENT), 0),
    )
    mean_volume = sma(recent_volume, recent, 20)[:, -1]
    strength = rsi(close, first, 14)
    true_range = atr(quarter.high, quarter.low, close, first, 14)[:, -1]
    histogram = macd_histogram(close, first, 12, 26, 9)
    middle = sma(recent_close, recent, 20)[:, -1]
    spread = deviation(recent_close, recent, 20)[:, -1]
    last, volume = close[:, -1], quarter.volume[:, -1]
    span = quarter.high[:, -1] - quarter.low[:, -1]
    return {
        "close": last,
        "volume_ratio": volume / mean_volume,
        "volume_z": (volume - mean_volume) / deviation(recent_volume, recent, 20)[:, -1],
        "rsi": strength[:, -1],
        "rsi_change": strength[:, -1] - strength[:, -2],
        "atr": true_range,
        "atr_percent": true_range / last * 100,
        "adx": adx(quarter.high, quarter.low, close, first, 14)[:, -1],
        "macd_histogram": histogram[:, -1],
        "macd_histogram_change": histogram[:, -1] - histogram[:, -2],
        "band_width": 4 * spread / middle,
        "band_position": (last - middle) / (2 * spread),
        "roc_3": rate_of_change(recent_close, recent, 3)[:, -1],
        "efficiency": efficiency_ratio(recent_close, recent, 10)[:, -1],
        "body": np.where(span > 0, (last - quarter.open[:, -1]) / span, 0.0),
    }


def trend_figures(panel: Panel) -> dict[str, Floats]:
    """TREND_FIGURES of a panel of 4h candles."""
    return {
        "ema_200_4h": ema(panel.close, panel.first, 200)[:, -1],
        "ema_50_4h": ema(panel.close, panel.first, 50)[:, -1],
        "rsi_4h": rsi(panel.close, panel.first, 14)[:, -1],
    }


def _recent(values: Floats) -> Floats:
    return np.ascontiguousarray(values[:, -RECENT:])


def warm_up() -> None:
    """Loads or compiles every kernel, so that the first scan does not pay for it."""
    rising = np.array([[float(step) for step in range(1, 251)]], np.float64)
    panel = Panel(
        symbols=("WARM",), first=np.zeros(1, np.int64), open=rising, high=rising + 1, low=rising - 1, close=rising, volume=rising
    )
    features_of(panel, panel)
