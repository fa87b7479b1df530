"""One closed candle further: the kernels that carry every indicator of all symbols from one close to the next, O(1) each.

Stands beside `features`, whose batch kernels recompute a whole window. A symbol's memory is one column of `state`: averages that are carried on,
the last candle, and rings of the newest closes and volumes, over which whatever has a window is summed anew, newest first. Every operation
is the batch kernel's own in its own order, seeding included, so the figures are those of the batch over the same candles to the bit and
there is no running sum that could drift.

Neighbouring symbols whose candles came together go together: each loop below does one thing to all of them, so that the compiler takes eight at
once. That is why symbols lie side by side, and why a loop touches few arrays.

Source: the same TA-Lib C sources as `features`.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from numba import njit

from engine.core.market import Floats, Integers


def _number_of(value: int) -> int:
    """As numpy's integer: numba would compile a function that takes a plain constant once more for each of its values."""
    return cast(int, np.int64(value))


EMA_SHORT, EMA_LONG, WILDER, MACD_FAST, MACD_SLOW, MACD_SIGNAL, PATH, CHANGE = map(_number_of, (50, 200, 14, 12, 26, 9, 10, 3))
"""Candles."""

WINDOW: Final = 20
RING: Final = WINDOW + 1
"""Candles that a ring holds; a candle's place in it follows from its opening time, so that neighbours share it."""

LANES: Final = 256
"""At most so many symbols go together: enough that a loop's begin costs nothing, few enough that their rings stay in a near cache."""

_EMA_50, _EMA_200, _GAIN, _LOSS, _RANGE, _PLUS, _MINUS, _SPAN, _STRENGTH, _FAST, _SLOW, _SIGNAL = range(12)
_OPEN, _HIGH, _LOW, _RSI, _RSI_BEFORE, _HISTOGRAM, _HISTOGRAM_BEFORE, _CLOSES = range(12, 20)
MEMORY: Final = _CLOSES + 2 * RING
"""Rows of `state`."""

_CLOSE_RING: Final = _number_of(_CLOSES)
_VOLUME_RING: Final = _number_of(_CLOSES + RING)

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
def _copy(out: Floats, values: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = values[lane]


@kernel
def _clear(out: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = 0.0


@kernel
def _add(total: Floats, values: Floats) -> None:
    for lane in range(len(total)):
        total[lane] += values[lane]


@kernel
def _add_four(total: Floats, one: Floats, two: Floats, three: Floats, four: Floats) -> None:
    for lane in range(len(total)):
        total[lane] = total[lane] + one[lane] + two[lane] + three[lane] + four[lane]


@kernel
def _add_four_squares(total: Floats, mean: Floats, one: Floats, two: Floats, three: Floats, four: Floats) -> None:
    for lane in range(len(total)):
        middle = mean[lane]
        sum_two = total[lane] + (one[lane] - middle) ** 2 + (two[lane] - middle) ** 2
        total[lane] = sum_two + (three[lane] - middle) ** 2 + (four[lane] - middle) ** 2


@kernel
def _subtract(out: Floats, one: Floats, other: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = one[lane] - other[lane]


@kernel
def _divide(values: Floats, by: float) -> None:
    for lane in range(len(values)):
        values[lane] /= by


@kernel
def _seeds(average: Floats, values: Floats, age: int, period: int) -> bool:
    """Sums the first `period` values and makes their mean of them; false once that is done."""
    if age >= period:
        return False
    if age >= 0:
        _add(average, values)
    if age == period - 1:
        _divide(average, period)
    return True


@kernel
def _follow(average: Floats, values: Floats, age: int, period: int) -> None:
    """An exponential average, `age` values after its first."""
    if _seeds(average, values, age, period):
        return
    weight = 2.0 / (period + 1)
    for lane in range(len(average)):
        average[lane] = (values[lane] - average[lane]) * weight + average[lane]


@kernel
def _smooth(average: Floats, values: Floats) -> None:
    """Wilder's average."""
    for lane in range(len(average)):
        average[lane] = (average[lane] * (WILDER - 1) + values[lane]) / WILDER


@kernel
def _add_share(total: Floats, values: Floats) -> None:
    for lane in range(len(total)):
        total[lane] += values[lane] / WILDER


@kernel
def _rise(out: Floats, now: Floats, before: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = max(now[lane] - before[lane], 0.0)


@kernel
def _fall(out: Floats, now: Floats, before: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = max(-(now[lane] - before[lane]), 0.0)


@kernel
def _strength_of(rsi: Floats, gain: Floats, loss: Floats) -> None:
    for lane in range(len(rsi)):
        moved = gain[lane] + loss[lane]
        rsi[lane] = 100.0 * gain[lane] / moved if moved > _TINY else 0.0


@kernel
def _true_range(out: Floats, high: Floats, low: Floats, before: Floats) -> None:
    for lane in range(len(out)):
        span = high[lane] - low[lane]
        out[lane] = max(span, abs(high[lane] - before[lane]), abs(low[lane] - before[lane]))


@kernel
def _leak(total: Floats) -> None:
    for lane in range(len(total)):
        total[lane] -= total[lane] / WILDER


@kernel
def _add_larger(total: Floats, move: Floats, other: Floats) -> None:
    """A move counts where it is positive and larger than the opposite one."""
    for lane in range(len(total)):
        total[lane] += move[lane] if (move[lane] > 0) & (move[lane] > other[lane]) else 0.0


@kernel
def _directional(out: Floats, plus: Floats, minus: Floats, span: Floats) -> None:
    """Wilder's directional index, NaN where nothing moved."""
    for lane in range(len(out)):
        both = plus[lane] + minus[lane]
        moved = (span[lane] > _TINY) & (both / span[lane] > _TINY)
        out[lane] = 100.0 * abs(minus[lane] - plus[lane]) / both if moved else np.nan


@kernel
def _strengthen(strength: Floats, directional: Floats, age: int) -> None:
    for lane in range(len(strength)):
        value, before = directional[lane], strength[lane]
        after = before + value / WILDER if age < 2 * WILDER else (before * (WILDER - 1) + value) / WILDER
        strength[lane] = before if np.isnan(value) else after


@kernel
def _ringed(state: Floats, ring: int, begin: int, end: int, slot: int, back: int) -> Floats:
    """The values of so many candles ago."""
    values: Floats = state[ring + (slot + RING - back) % RING, begin:end]
    return values


@kernel
def _absorb_move(state: Floats, begin: int, end: int, age: int, close: Floats, before: Floats, spare: Floats) -> None:
    gain, loss, rsi, move = state[_GAIN, begin:end], state[_LOSS, begin:end], state[_RSI, begin:end], spare[0]
    _rise(move, close, before)
    if age <= WILDER:
        _add_share(gain, move)
    else:
        _smooth(gain, move)
    _fall(move, close, before)
    if age <= WILDER:
        _add_share(loss, move)
    else:
        _smooth(loss, move)
    if age >= WILDER:
        _strength_of(rsi, gain, loss)


@kernel
def _absorb_range(state: Floats, begin: int, end: int, age: int, candles: Floats, before: Floats, spare: Floats) -> None:
    high, low, true_range, rise, fall = candles[1], candles[2], spare[0], spare[1], spare[2]
    average, plus, minus = state[_RANGE, begin:end], state[_PLUS, begin:end], state[_MINUS, begin:end]
    span = state[_SPAN, begin:end]
    _true_range(true_range, high, low, before)
    if not _seeds(average, true_range, age - 1, WILDER):
        _smooth(average, true_range)
    _subtract(rise, high, state[_HIGH, begin:end])
    _subtract(fall, state[_LOW, begin:end], low)
    if age >= WILDER:
        _leak(plus)
        _leak(minus)
        _leak(span)
    _add_larger(plus, rise, fall)
    _add_larger(minus, fall, rise)
    _add(span, true_range)
    if age >= WILDER:
        _directional(rise, plus, minus, span)
        _strengthen(state[_STRENGTH, begin:end], rise, age)


@kernel
def _absorb_averages(state: Floats, begin: int, end: int, age: int, close: Floats, spare: Floats) -> None:
    fast, slow, signal, line = state[_FAST, begin:end], state[_SLOW, begin:end], state[_SIGNAL, begin:end], spare[0]
    _follow(state[_EMA_50, begin:end], close, age, EMA_SHORT)
    _follow(state[_EMA_200, begin:end], close, age, EMA_LONG)
    _follow(fast, close, age - (MACD_SLOW - MACD_FAST), MACD_FAST)
    _follow(slow, close, age, MACD_SLOW)
    _subtract(line, fast, slow)
    _follow(signal, line, age - (MACD_SLOW - 1), MACD_SIGNAL)
    if age >= MACD_SLOW + MACD_SIGNAL - 2:
        _subtract(state[_HISTOGRAM, begin:end], line, signal)


@kernel
def _absorb(state: Floats, begin: int, end: int, age: int, slot: int, candles: Floats, spare: Floats) -> None:
    """Takes the next candle of neighbouring symbols, after `age` others.

    `candles` are (open, high, low, close, volume) x lanes, `spare` is somewhere to write.
    """
    _copy(state[_RSI_BEFORE, begin:end], state[_RSI, begin:end])
    _copy(state[_HISTOGRAM_BEFORE, begin:end], state[_HISTOGRAM, begin:end])
    if age > 0:
        before = _ringed(state, _CLOSE_RING, begin, end, slot, 1)
        _absorb_move(state, begin, end, age, candles[3], before, spare)
        _absorb_range(state, begin, end, age, candles, before, spare)
    _absorb_averages(state, begin, end, age, candles[3], spare)
    _copy(state[_OPEN, begin:end], candles[0])
    _copy(state[_HIGH, begin:end], candles[1])
    _copy(state[_LOW, begin:end], candles[2])
    _copy(state[_CLOSE_RING + slot, begin:end], candles[3])
    _copy(state[_VOLUME_RING + slot, begin:end], candles[4])


@kernel
def _quotient(out: Floats, one: Floats, other: Floats, factor: float) -> None:
    for lane in range(len(out)):
        out[lane] = one[lane] / other[lane] * factor


@kernel
def _body(out: Floats, opened: Floats, close: Floats, span: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = (close[lane] - opened[lane]) / span[lane] if span[lane] > 0 else 0.0


@kernel
def _tell_carried(state: Floats, begin: int, end: int, seen: int, last: Floats, figures: Floats, spare: Floats) -> None:
    """What is carried on from candle to candle."""
    _copy(figures[CLOSE, begin:end], last)
    _copy(figures[RSI, begin:end], state[_RSI, begin:end])
    _subtract(figures[RSI_CHANGE, begin:end], state[_RSI, begin:end], state[_RSI_BEFORE, begin:end])
    _copy(figures[MACD_HISTOGRAM, begin:end], state[_HISTOGRAM, begin:end])
    _subtract(figures[MACD_HISTOGRAM_CHANGE, begin:end], state[_HISTOGRAM, begin:end], state[_HISTOGRAM_BEFORE, begin:end])
    _subtract(spare[0], state[_HIGH, begin:end], state[_LOW, begin:end])
    _body(figures[BODY, begin:end], state[_OPEN, begin:end], last, spare[0])
    if seen > WILDER:
        _copy(figures[ATR, begin:end], state[_RANGE, begin:end])
        _quotient(figures[ATR_PERCENT, begin:end], state[_RANGE, begin:end], last, 100.0)
    if seen >= MACD_SLOW:
        _subtract(figures[MACD, begin:end], state[_FAST, begin:end], state[_SLOW, begin:end])
    if seen >= 2 * WILDER:
        _copy(figures[ADX, begin:end], state[_STRENGTH, begin:end])
    if seen >= EMA_SHORT:
        _copy(figures[EMA_50, begin:end], state[_EMA_50, begin:end])
    if seen >= EMA_LONG:
        _copy(figures[EMA_200, begin:end], state[_EMA_200, begin:end])


@kernel
def _mean(state: Floats, ring: int, begin: int, end: int, slot: int, mean: Floats, deviation: Floats) -> None:
    """Mean and population deviation over the window, newest first, four candles a loop."""
    _clear(mean)
    _clear(deviation)
    for back in range(0, WINDOW, 4):
        one, two = _ringed(state, ring, begin, end, slot, back), _ringed(state, ring, begin, end, slot, back + 1)
        three, four = _ringed(state, ring, begin, end, slot, back + 2), _ringed(state, ring, begin, end, slot, back + 3)
        _add_four(mean, one, two, three, four)
    _divide(mean, WINDOW)
    for back in range(0, WINDOW, 4):
        one, two = _ringed(state, ring, begin, end, slot, back), _ringed(state, ring, begin, end, slot, back + 1)
        three, four = _ringed(state, ring, begin, end, slot, back + 2), _ringed(state, ring, begin, end, slot, back + 3)
        _add_four_squares(deviation, mean, one, two, three, four)
    for lane in range(len(deviation)):
        deviation[lane] = np.sqrt(deviation[lane] / WINDOW)


@kernel
def _bands(width: Floats, deviation: Floats, mean: Floats) -> None:
    for lane in range(len(width)):
        width[lane] = 4 * deviation[lane] / mean[lane]


@kernel
def _distance(out: Floats, value: Floats, mean: Floats, deviation: Floats, factor: float) -> None:
    for lane in range(len(out)):
        out[lane] = (value[lane] - mean[lane]) / (factor * deviation[lane])


@kernel
def _tell_windows(state: Floats, begin: int, end: int, slot: int, figures: Floats, spare: Floats) -> None:
    """What is summed over the window."""
    mean, deviation = spare[0], spare[1]
    close, volume = state[_CLOSE_RING + slot, begin:end], state[_VOLUME_RING + slot, begin:end]
    _mean(state, _CLOSE_RING, begin, end, slot, mean, deviation)
    _bands(figures[BAND_WIDTH, begin:end], deviation, mean)
    _distance(figures[BAND_POSITION, begin:end], close, mean, deviation, 2.0)
    _mean(state, _VOLUME_RING, begin, end, slot, mean, deviation)
    _copy(figures[VOLUME_MEAN, begin:end], mean)
    _quotient(figures[VOLUME_RATIO, begin:end], volume, mean, 1.0)
    _distance(figures[VOLUME_Z, begin:end], volume, mean, deviation, 1.0)


@kernel
def _change(out: Floats, last: Floats, before: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = (last[lane] / before[lane] - 1.0) * 100.0 if before[lane] != 0.0 else np.nan


@kernel
def _add_step(path: Floats, one: Floats, other: Floats) -> None:
    for lane in range(len(path)):
        path[lane] += abs(one[lane] - other[lane])


@kernel
def _straightness(out: Floats, last: Floats, before: Floats, path: Floats) -> None:
    for lane in range(len(out)):
        out[lane] = abs(last[lane] - before[lane]) / path[lane] if path[lane] > _TINY else 0.0


@kernel
def _tell_path(state: Floats, begin: int, end: int, slot: int, last: Floats, figures: Floats, spare: Floats) -> None:
    """How straight the price went."""
    path = spare[0]
    _clear(path)
    for back in range(PATH):
        newer = _ringed(state, _CLOSE_RING, begin, end, slot, back)
        _add_step(path, newer, _ringed(state, _CLOSE_RING, begin, end, slot, back + 1))
    _straightness(figures[EFFICIENCY, begin:end], last, _ringed(state, _CLOSE_RING, begin, end, slot, PATH), path)


@kernel
def _tell(state: Floats, begin: int, end: int, seen: int, slot: int, figures: Floats, spare: Floats) -> None:
    """Writes the figures of neighbouring symbols; what their history cannot say yet stays NaN."""
    last = state[_CLOSE_RING + slot, begin:end]
    _tell_carried(state, begin, end, seen, last, figures, spare)
    if seen >= WINDOW:
        _tell_windows(state, begin, end, slot, figures, spare)
    if seen > CHANGE:
        _change(figures[ROC_3, begin:end], last, _ringed(state, _CLOSE_RING, begin, end, slot, CHANGE))
    if seen > PATH:
        _tell_path(state, begin, end, slot, last, figures, spare)


@kernel
def _number(candle: Floats) -> bool:
    total = 0.0
    for place in range(5):
        total += abs(candle[place])
    return total < np.inf


@kernel
def _slot(open_ms: int, step_ms: int) -> int:
    return (open_ms // step_ms) % RING


@kernel
def forget(row: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats) -> None:
    """Leaves nothing of a symbol: it waits to be seeded."""
    state[:, row] = 0.0
    state[_RSI, row] = np.nan
    state[_HISTOGRAM, row] = np.nan
    figures[:, row] = np.nan
    seen[row] = 0
    newest_ms[row] = UNSEEDED


@kernel
def unbroken_from(open_ms: Integers, candles: Floats, step_ms: int) -> int:
    """The place of the first candle after the last hole of a history; its length where the newest candle is not a number.

    Args:
        open_ms: Oldest first.
        candles: Candles x (open, high, low, close, volume).
        step_ms: Length of a candle.
    """
    begin = len(open_ms)
    while begin > 0 and _number(candles[begin - 1]) and (begin == len(open_ms) or open_ms[begin] - open_ms[begin - 1] == step_ms):
        begin -= 1
    return begin


@kernel
def seed(
    row: int, begin_ms: int, candles: Floats, step_ms: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats
) -> None:
    """Begins neighbouring symbols anew from histories of the same time without a hole.

    Args:
        row: The first symbol's.
        begin_ms: Opening time of the first candle.
        candles: Candles x (open, high, low, close, volume) x at most LANES symbols; none lets the next candle begin the symbols.
        step_ms: Length of a candle.
        state: MEMORY x symbols.
        seen: Candles taken, per symbol.
        newest_ms: Opening time of the newest candle, per symbol.
        figures: FIGURES x symbols.
    """
    count, end = len(candles), row + candles.shape[2]
    spare = np.empty((3, end - row))
    for lane in range(row, end):
        forget(lane, state, seen, newest_ms, figures)
    for place in range(count):
        _absorb(state, row, end, place, _slot(begin_ms + place * step_ms, step_ms), candles[place], spare)
    seen[row:end] = count
    newest_ms[row:end] = begin_ms + (count - 1) * step_ms if count > 0 else BEGINNING
    if count > 0:
        _tell(state, row, end, count, _slot(newest_ms[row], step_ms), figures, spare)


@kernel
def _outcome(open_ms: int, newest_ms: int, step_ms: int, candle: Floats) -> int:
    if newest_ms == UNSEEDED:
        return UNKNOWN
    if newest_ms != BEGINNING and open_ms <= newest_ms:
        return OLD
    if (newest_ms != BEGINNING and open_ms != newest_ms + step_ms) or not _number(candle):
        return GAP
    return ADVANCED


@kernel
def _alike(seen: int, other: int) -> bool:
    """Past the longest seeding, age makes no difference any more."""
    return min(seen, EMA_LONG) == min(other, EMA_LONG)


@kernel
def _together(
    rows: Integers, open_ms: Integers, candles: Floats, step_ms: int, seen: Integers, newest_ms: Integers, place: int
) -> int:
    """How many candles from `place` on are of neighbours, of the same time and age, and can be taken."""
    most = min(len(rows) - place, LANES)
    for count in range(1, most):
        row, after = rows[place] + count, place + count
        if rows[after] != row or open_ms[after] != open_ms[place] or not _alike(seen[row], seen[rows[place]]):
            return count
        if _outcome(open_ms[after], newest_ms[row], step_ms, candles[after]) != ADVANCED:
            return count
    return most


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
        state: MEMORY x symbols.
        seen: Candles taken, per symbol.
        newest_ms: Opening time of the newest candle, per symbol.
        figures: FIGURES x symbols.

    Returns:
        ADVANCED, OLD, GAP or UNKNOWN for each candle.
    """
    outcomes = np.empty(len(rows), np.int64)
    room, spare_room = np.empty(5 * LANES), np.empty(3 * LANES)
    place = 0
    while place < len(rows):
        row = rows[place]
        outcomes[place] = _outcome(open_ms[place], newest_ms[row], step_ms, candles[place])
        if outcomes[place] == GAP:
            forget(row, state, seen, newest_ms, figures)
        if outcomes[place] != ADVANCED:
            place += 1
            continue
        count = _together(rows, open_ms, candles, step_ms, seen, newest_ms, place)
        end, slot = row + count, _slot(open_ms[place], step_ms)
        turned, spare = room[: 5 * count].reshape(5, count), spare_room[: 3 * count].reshape(3, count)
        for lane in range(count):
            for part in range(5):
                turned[part, lane] = candles[place + lane, part]
        _absorb(state, row, end, seen[row], slot, turned, spare)
        _tell(state, row, end, seen[row] + 1, slot, figures, spare)
        for lane in range(count):
            seen[row + lane] += 1
            newest_ms[row + lane] = open_ms[place]
            outcomes[place + lane] = ADVANCED
        place += count
    return outcomes


@kernel
def tell_all(step_ms: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats) -> None:
    """Writes every symbol's figures anew from its memory."""
    spare = np.empty((3, 1))
    for row in range(len(seen)):
        figures[:, row] = np.nan
        if seen[row] > 0:
            _tell(state, row, row + 1, seen[row], _slot(newest_ms[row], step_ms), figures, spare)
