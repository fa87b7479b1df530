"""One closed candle further: the kernels that carry every indicator of a symbol from one close to the next, O(1) each.

Stands beside `features`, whose batch kernels recompute a whole window. A symbol's memory is one row of `state`: averages that are carried on,
the last candle, and the newest closes and volumes, over which whatever has a window is summed anew, newest first. Every operation is
the batch kernel's own in its own order, seeding included, so the figures are those of the batch over the same candles to the bit and there
is no running sum that could drift.

Source: the same TA-Lib C sources as `features`.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from numba import njit

from engine.core.market import Floats, Integers

EMA_SHORT: Final = 50
EMA_LONG: Final = 200
WILDER: Final = 14
MACD_FAST: Final = 12
MACD_SLOW: Final = 26
MACD_SIGNAL: Final = 9
WINDOW: Final = 20
PATH: Final = 10
CHANGE: Final = 3

_EMA_50, _EMA_200, _GAIN, _LOSS, _RANGE, _PLUS, _MINUS, _SPAN, _STRENGTH, _FAST, _SLOW, _SIGNAL = range(12)
_OPEN, _HIGH, _LOW, _RSI_BEFORE, _HISTOGRAM_BEFORE, _CLOSES = range(12, 18)
_LAST: Final = _CLOSES + WINDOW
_VOLUMES: Final = _LAST + 1
_VOLUME: Final = _VOLUMES + WINDOW - 1
MEMORY: Final = _VOLUME + 1
"""Columns of `state`: one close more than the window, since the efficiency ratio and the change look one candle further back."""

(
    CLOSE, VOLUME_MEAN, VOLUME_RATIO, VOLUME_Z, RSI, RSI_CHANGE, ATR, ATR_PERCENT, ADX, MACD, MACD_HISTOGRAM,
    MACD_HISTOGRAM_CHANGE, BAND_WIDTH, BAND_POSITION, ROC_3, EFFICIENCY, BODY, EMA_50, EMA_200,
) = range(19)  # fmt: skip
FIGURES: Final = (
    "close", "volume_mean", "volume_ratio", "volume_z", "rsi", "rsi_change", "atr", "atr_percent", "adx", "macd", "macd_histogram",
    "macd_histogram_change", "band_width", "band_position", "roc_3", "efficiency", "body", "ema_50", "ema_200",
)  # fmt: skip
"""The rows of `figures`, one array over all symbols each, by the names above; units are those of `features.Features`."""

UNSEEDED: Final = -2
BEGINNING: Final = -1
"""Instead of a newest opening time: nothing is known, and a known history without a candle, which any candle begins."""

ADVANCED, OLD, GAP, UNKNOWN = range(4)
"""What became of a candle: it was taken; it was known already; it did not follow its predecessor, or was not a number, so that the symbol
must be seeded again; its symbol waits to be seeded."""

_TINY: Final = 1e-14
"""Below this a divisor counts as zero, as in TA-Lib."""


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compiled once and kept; what is divided by zero is infinite or NaN, as in numpy."""
    try:
        return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # numba found no folder where it may keep compiled code; compiling at each start is slow, not wrong.
        return cast(F, njit(nogil=True, error_model="numpy")(function))


@kernel
def _ema(average: float, value: float, age: int, period: int) -> float:
    """`age` values came before; the first `period` are summed and seed the average by their mean."""
    if age >= period:
        return (value - average) * (2.0 / (period + 1)) + average
    if age < 0:
        return 0.0
    total = average + value
    return total / period if age == period - 1 else total


@kernel
def _rsi(memory: Floats, seen: int) -> float:
    if seen <= WILDER:
        return np.nan
    moved = memory[_GAIN] + memory[_LOSS]
    return 100.0 * memory[_GAIN] / moved if moved > _TINY else 0.0


@kernel
def _histogram(memory: Floats, seen: int) -> float:
    return (memory[_FAST] - memory[_SLOW]) - memory[_SIGNAL] if seen >= MACD_SLOW + MACD_SIGNAL - 1 else np.nan


@kernel
def _move(memory: Floats, age: int, close: float) -> None:
    """Wilder's averages of gains and losses."""
    change = close - memory[_LAST]
    up = max(change, 0.0)
    down = max(-change, 0.0)
    if age <= WILDER:
        memory[_GAIN] += up / WILDER
        memory[_LOSS] += down / WILDER
    else:
        memory[_GAIN] = (memory[_GAIN] * (WILDER - 1) + up) / WILDER
        memory[_LOSS] = (memory[_LOSS] * (WILDER - 1) + down) / WILDER


@kernel
def _range(memory: Floats, age: int, true_range: float) -> None:
    """Wilder's average true range: a sum until it is seeded by its mean."""
    if age < WILDER:
        memory[_RANGE] += true_range
    elif age == WILDER:
        memory[_RANGE] = (memory[_RANGE] + true_range) / WILDER
    else:
        memory[_RANGE] = (memory[_RANGE] * (WILDER - 1) + true_range) / WILDER


@kernel
def _direct(memory: Floats, age: int, high: float, low: float, true_range: float) -> None:
    """Wilder's directional movement and its strength."""
    rise = high - memory[_HIGH]
    fall = memory[_LOW] - low
    if age >= WILDER:
        memory[_PLUS] -= memory[_PLUS] / WILDER
        memory[_MINUS] -= memory[_MINUS] / WILDER
        memory[_SPAN] -= memory[_SPAN] / WILDER
    if fall > 0 and rise < fall:
        memory[_MINUS] += fall
    elif rise > 0 and rise > fall:
        memory[_PLUS] += rise
    memory[_SPAN] += true_range
    if age >= WILDER:
        _strengthen(memory, age)


@kernel
def _strengthen(memory: Floats, age: int) -> None:
    both = memory[_PLUS] + memory[_MINUS]
    if not (memory[_SPAN] > _TINY and both / memory[_SPAN] > _TINY):
        return
    directional = 100.0 * abs(memory[_MINUS] - memory[_PLUS]) / both
    if age < 2 * WILDER:
        memory[_STRENGTH] += directional / WILDER
    else:
        memory[_STRENGTH] = (memory[_STRENGTH] * (WILDER - 1) + directional) / WILDER


@kernel
def _absorb(memory: Floats, age: int, candle: Floats) -> None:
    """Takes a symbol's next candle (open, high, low, close, volume), after `age` others."""
    high, low, close = candle[1], candle[2], candle[3]
    memory[_RSI_BEFORE] = _rsi(memory, age)
    memory[_HISTOGRAM_BEFORE] = _histogram(memory, age)
    if age > 0:
        before = memory[_LAST]
        true_range = max(high - low, abs(high - before), abs(low - before))
        _move(memory, age, close)
        _range(memory, age, true_range)
        _direct(memory, age, high, low, true_range)
    memory[_EMA_50] = _ema(memory[_EMA_50], close, age, EMA_SHORT)
    memory[_EMA_200] = _ema(memory[_EMA_200], close, age, EMA_LONG)
    memory[_FAST] = _ema(memory[_FAST], close, age - (MACD_SLOW - MACD_FAST), MACD_FAST)
    memory[_SLOW] = _ema(memory[_SLOW], close, age, MACD_SLOW)
    memory[_SIGNAL] = _ema(memory[_SIGNAL], memory[_FAST] - memory[_SLOW], age - (MACD_SLOW - 1), MACD_SIGNAL)
    for place in range(_CLOSES, _LAST):
        memory[place] = memory[place + 1]
    for place in range(_VOLUMES, _VOLUME):
        memory[place] = memory[place + 1]
    memory[_LAST] = close
    memory[_VOLUME] = candle[4]
    memory[_OPEN], memory[_HIGH], memory[_LOW] = candle[0], high, low


@kernel
def _tell_carried(memory: Floats, seen: int, figures: Floats, row: int) -> None:
    """What is carried on from candle to candle."""
    last = memory[_LAST]
    rsi = _rsi(memory, seen)
    average_range = memory[_RANGE] if seen > WILDER else np.nan
    line = memory[_FAST] - memory[_SLOW] if seen >= MACD_SLOW else np.nan
    histogram = _histogram(memory, seen)
    figures[CLOSE, row] = last
    figures[RSI, row] = rsi
    figures[RSI_CHANGE, row] = rsi - memory[_RSI_BEFORE]
    figures[ATR, row] = average_range
    figures[ATR_PERCENT, row] = average_range / last * 100
    figures[ADX, row] = memory[_STRENGTH] if seen >= 2 * WILDER else np.nan
    figures[MACD, row] = line
    figures[MACD_HISTOGRAM, row] = histogram
    figures[MACD_HISTOGRAM_CHANGE, row] = histogram - memory[_HISTOGRAM_BEFORE]
    span = memory[_HIGH] - memory[_LOW]
    figures[BODY, row] = (last - memory[_OPEN]) / span if span > 0 else 0.0
    figures[EMA_50, row] = memory[_EMA_50] if seen >= EMA_SHORT else np.nan
    figures[EMA_200, row] = memory[_EMA_200] if seen >= EMA_LONG else np.nan


@kernel
def _tell_windows(memory: Floats, seen: int, figures: Floats, row: int) -> None:
    """What is summed over a window, newest first."""
    if seen < WINDOW:
        for place in (VOLUME_MEAN, VOLUME_RATIO, VOLUME_Z, BAND_WIDTH, BAND_POSITION):
            figures[place, row] = np.nan
        return
    price, volume = 0.0, 0.0
    for back in range(WINDOW):
        price += memory[_LAST - back]
        volume += memory[_VOLUME - back]
    price /= WINDOW
    volume /= WINDOW
    price_square, volume_square = 0.0, 0.0
    for back in range(WINDOW):
        price_square += (memory[_LAST - back] - price) ** 2
        volume_square += (memory[_VOLUME - back] - volume) ** 2
    spread = np.sqrt(price_square / WINDOW)
    figures[VOLUME_MEAN, row] = volume
    figures[VOLUME_RATIO, row] = memory[_VOLUME] / volume
    figures[VOLUME_Z, row] = (memory[_VOLUME] - volume) / np.sqrt(volume_square / WINDOW)
    figures[BAND_WIDTH, row] = 4 * spread / price
    figures[BAND_POSITION, row] = (memory[_LAST] - price) / (2 * spread)


@kernel
def _tell_moves(memory: Floats, seen: int, figures: Floats, row: int) -> None:
    """How far and how straight the price went."""
    before = memory[_LAST - CHANGE]
    figures[ROC_3, row] = (memory[_LAST] / before - 1.0) * 100.0 if seen > CHANGE and before != 0.0 else np.nan
    if seen <= PATH:
        figures[EFFICIENCY, row] = np.nan
        return
    path = 0.0
    for back in range(PATH):
        path += abs(memory[_LAST - back] - memory[_LAST - back - 1])
    net = abs(memory[_LAST] - memory[_LAST - PATH])
    figures[EFFICIENCY, row] = net / path if path > _TINY else 0.0


@kernel
def _tell(memory: Floats, seen: int, figures: Floats, row: int) -> None:
    _tell_carried(memory, seen, figures, row)
    _tell_windows(memory, seen, figures, row)
    _tell_moves(memory, seen, figures, row)


@kernel
def _number(candle: Floats) -> bool:
    total = 0.0
    for place in range(5):
        total += abs(candle[place])
    return total < np.inf


@kernel
def forget(row: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats) -> None:
    """Leaves nothing of a symbol: it waits to be seeded."""
    state[row, :] = 0.0
    figures[:, row] = np.nan
    seen[row] = 0
    newest_ms[row] = UNSEEDED


@kernel
def seed(
    row: int,
    open_ms: Integers,
    candles: Floats,
    step_ms: int,
    state: Floats,
    seen: Integers,
    newest_ms: Integers,
    figures: Floats,
) -> int:
    """Begins a symbol anew from a history; only what follows its last hole counts.

    Args:
        row: The symbol's.
        open_ms: Oldest first.
        candles: Candles x (open, high, low, close, volume).
        step_ms: Length of a candle.
        state: Symbols x MEMORY.
        seen: Candles taken, per symbol.
        newest_ms: Opening time of the newest candle, per symbol.
        figures: FIGURES x symbols.

    Returns:
        Candles taken.
    """
    forget(row, state, seen, newest_ms, figures)
    begin = len(open_ms)
    while begin > 0 and _number(candles[begin - 1]) and (begin == len(open_ms) or open_ms[begin] - open_ms[begin - 1] == step_ms):
        begin -= 1
    memory = state[row]
    for place in range(begin, len(open_ms)):
        _absorb(memory, place - begin, candles[place])
    taken = len(open_ms) - begin
    seen[row] = taken
    newest_ms[row] = open_ms[-1] if taken > 0 else (BEGINNING if len(open_ms) == 0 else UNSEEDED)
    if taken > 0:
        _tell(memory, taken, figures, row)
    return taken


@kernel
def advance(
    rows: Integers,
    open_ms: Integers,
    candles: Floats,
    step_ms: int,
    state: Floats,
    seen: Integers,
    newest_ms: Integers,
    figures: Floats,
) -> Integers:
    """Takes one closed candle for each of `rows`, in the order given; a row may come more than once, older candles first.

    Args:
        rows: Whose candles these are.
        open_ms: Of each candle.
        candles: Candles x (open, high, low, close, volume).
        step_ms: Length of a candle.
        state: Symbols x MEMORY.
        seen: Candles taken, per symbol.
        newest_ms: Opening time of the newest candle, per symbol.
        figures: FIGURES x symbols.

    Returns:
        ADVANCED, OLD, GAP or UNKNOWN for each candle.
    """
    outcomes = np.empty(len(rows), np.int64)
    for place in range(len(rows)):
        row = rows[place]
        newest = newest_ms[row]
        if newest == UNSEEDED:
            outcomes[place] = UNKNOWN
        elif newest != BEGINNING and open_ms[place] <= newest:
            outcomes[place] = OLD
        elif (newest != BEGINNING and open_ms[place] != newest + step_ms) or not _number(candles[place]):
            forget(row, state, seen, newest_ms, figures)
            outcomes[place] = GAP
        else:
            memory = state[row]
            _absorb(memory, seen[row], candles[place])
            seen[row] += 1
            newest_ms[row] = open_ms[place]
            _tell(memory, seen[row], figures, row)
            outcomes[place] = ADVANCED
    return outcomes


@kernel
def tell_all(state: Floats, seen: Integers, figures: Floats) -> None:
    """Writes every symbol's figures anew from its memory."""
    for row in range(len(seen)):
        if seen[row] > 0:
            _tell(state[row], seen[row], figures, row)
        else:
            figures[:, row] = np.nan
