"""Kline intervals: where a candle of each length opens and closes."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]

MINUTE_MS = 60_000
QUARTER_MS = 15 * MINUTE_MS
"""The tape's own candle: 15 minutes."""
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 4 * DAY_MS
"""The first Monday after the Unix epoch, a Thursday."""

FIXED_MS: dict[str, int] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": QUARTER_MS,
    "30m": 2 * QUARTER_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}
"""Every interval of constant length, Source: Binance USDⓈ-M "Kline/Candlestick chart intervals"."""

INTERVALS = frozenset(FIXED_MS) | {"1M"}


def open_times(interval: str, times: Times) -> Times:
    """The open time of the candle that holds each time, Unix milliseconds."""
    if interval == "1M":
        months = times.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    length = FIXED_MS[interval]
    shift = MONDAY_MS if interval == "1w" else 0
    return (times - shift) // length * length + shift


def open_time(interval: str, time_ms: int) -> int:
    """The open time of the candle that holds a time."""
    if interval == "1M":
        return int(open_times(interval, np.array([time_ms], dtype=np.int64))[0])
    length = FIXED_MS[interval]
    shift = MONDAY_MS if interval == "1w" else 0
    return (time_ms - shift) // length * length + shift


def next_open(interval: str, opened_ms: int, count: int = 1) -> int:
    """The open time `count` candles later; negative counts go back."""
    if interval != "1M":
        return opened_ms + count * FIXED_MS[interval]
    moment = datetime.fromtimestamp(opened_ms / 1000, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() * 1000)
