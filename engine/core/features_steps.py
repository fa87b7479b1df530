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
from fractions import Fraction
from typing import Any, Final, cast

import numpy as np
from numba import njit
from numba.extending import intrinsic

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

_SHARE: Final = 1 / int(WILDER)
_SHARE_LOST: Final = float(Fraction(1, int(WILDER)) - Fraction(_SHARE))

_TINY: Final = 1e-14
"""Below this a divisor counts as zero, as in TA-Lib."""


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compiled once and kept; what is divided by zero is infinite or NaN, as in numpy."""
    try:
        return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # numba found no folder where it may keep compiled code; compiling at each start is slow, not wrong.
        return cast(F, njit(nogil=True, error_model="numpy")(function))


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def _fused(_: Any, one: Any, other: Any, added: Any) -> Any:
    """One product and one sum, rounded once."""
    return added(one, other, added), lambda _, builder, __, given: builder.fma(*given)


@kernel
def _fourteenth(value: float) -> float:
    """A value by WILDER, rounded as a division rounds it, in the time of two products.

    With what 1 / 14 lost in rounding added, the sum before its rounding is true to 2^-104, and no quotient by 14 lies closer to the middle
    between two neighbouring numbers than a fourteenth of their distance. Below 1e-290 that ends, where no figure looks.
    """
    return _fused(value, _SHARE, value * _SHARE_LOST)  # type: ignore[no-any-return]  # what numba makes has no types


@kernel
def copy(out: Floats, values: Floats) -> None:
    """Lane by lane."""
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
        average[lane] = _fourteenth(average[lane] * (WILDER - 1) + values[lane])


@kernel
def _share_moves(gain: Floats, loss: Floats, close: Floats, before: Floats) -> None:
    for lane in range(len(gain)):
        move = close[lane] - before[lane]
        gain[lane] += _fourteenth(max(move, 0.0))
        loss[lane] += _fourteenth(max(-move, 0.0))


@kernel
def _smooth_moves(gain: Floats, loss: Floats, close: Floats, before: Floats) -> None:
    for lane in range(len(gain)):
        move = close[lane] - before[lane]
        gain[lane] = _fourteenth(gain[lane] * (WILDER - 1) + max(move, 0.0))
        loss[lane] = _fourteenth(loss[lane] * (WILDER - 1) + max(-move, 0.0))


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
        total[lane] -= _fourteenth(total[lane])


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
        moved = (span[lane] > _TINY) & (both > _TINY * span[lane])
        out[lane] = 100.0 * abs(minus[lane] - plus[lane]) / both if moved else np.nan


@kernel
def _strengthen(strength: Floats, directional: Floats, age: int) -> None:
    for lane in range(len(strength)):
        value, before = directional[lane], strength[lane]
        after = before + _fourteenth(value) if age < 2 * WILDER else _fourteenth(before * (WILDER - 1) + value)
        strength[lane] = before if np.isnan(value) else after


@kernel
def _ringed(state: Floats, ring: int, begin: int, end: int, slot: int, back: int) -> Floats:
    """The values of so many candles ago."""
    values: Floats = state[ring + (slot + RING - back) % RING, begin:end]
    return values


@kernel
def absorb_move(state: Floats, begin: int, end: int, age: int, close: Floats, before: Floats) -> None:
    """Carries what the relative strength is made of: the averages of gains and losses, after `age` other candles."""
    gain, loss = state[_GAIN, begin:end], state[_LOSS, begin:end]
    if age <= WILDER:
        _share_moves(gain, loss, close, before)
    else:
        _smooth_moves(gain, loss, close, before)


@kernel
def strengthen_move(state: Floats, begin: int, end: int, age: int) -> None:
    """The relative strength after a candle that followed `age` others, and the one before it."""
    copy(state[_RSI_BEFORE, begin:end], state[_RSI, begin:end])
    if age >= WILDER:
        _strength_of(state[_RSI, begin:end], state[_GAIN, begin:end], state[_LOSS, begin:end])


@kernel
def _seed_range(state: Floats, begin: int, end: int, age: int, high: Floats, low: Floats, before: Floats, spare: Floats) -> None:
    true_range, rise, fall = spare[0], spare[1], spare[2]
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
def _carry_range(average: Floats, span: Floats, high: Floats, low: Floats, before: Floats) -> None:
    for lane in range(len(average)):
        true_range = max(high[lane] - low[lane], abs(high[lane] - before[lane]), abs(low[lane] - before[lane]))
        average[lane] = _fourteenth(average[lane] * (WILDER - 1) + true_range)
        span[lane] = span[lane] - _fourteenth(span[lane]) + true_range


@kernel
def _carry_larger(total: Floats, up: Floats, from_up: Floats, down: Floats, from_down: Floats) -> None:
    """A move counts where it is positive and larger than the opposite one."""
    for lane in range(len(total)):
        move, other = up[lane] - from_up[lane], down[lane] - from_down[lane]
        total[lane] = total[lane] - _fourteenth(total[lane]) + (move if (move > 0) & (move > other) else 0.0)


@kernel
def _carry_strength(strength: Floats, plus: Floats, minus: Floats, span: Floats) -> None:
    for lane in range(len(strength)):
        both, before = plus[lane] + minus[lane], strength[lane]
        moved = (span[lane] > _TINY) & (both > _TINY * span[lane])
        after = _fourteenth(before * (WILDER - 1) + 100.0 * abs(minus[lane] - plus[lane]) / both)
        strength[lane] = after if moved else before


@kernel
def absorb_range(state: Floats, begin: int, end: int, age: int, high: Floats, low: Floats, before: Floats, spare: Floats) -> None:
    """Carries true range and directional movement, after `age` other candles; `before` is the last close."""
    if age < 2 * WILDER:
        _seed_range(state, begin, end, age, high, low, before, spare)
        return
    plus, minus, span = state[_PLUS, begin:end], state[_MINUS, begin:end], state[_SPAN, begin:end]
    high_before, low_before = state[_HIGH, begin:end], state[_LOW, begin:end]
    _carry_range(state[_RANGE, begin:end], span, high, low, before)
    _carry_larger(plus, high, high_before, low_before, low)
    _carry_larger(minus, low_before, low, high, high_before)
    _carry_strength(state[_STRENGTH, begin:end], plus, minus, span)


@kernel
def keep_edges(state: Floats, begin: int, end: int, opened: Floats, high: Floats, low: Floats) -> None:
    """What of a candle the next one is measured by, and its body."""
    copy(state[_OPEN, begin:end], opened)
    copy(state[_HIGH, begin:end], high)
    copy(state[_LOW, begin:end], low)


@kernel
def absorb_trend(state: Floats, begin: int, end: int, age: int, close: Floats) -> None:
    """Carries the two long averages."""
    _follow(state[_EMA_50, begin:end], close, age, EMA_SHORT)
    _follow(state[_EMA_200, begin:end], close, age, EMA_LONG)


@kernel
def _carry_macd(fast: Floats, slow: Floats, signal: Floats, close: Floats) -> None:
    fast_weight, slow_weight, signal_weight = 2.0 / (MACD_FAST + 1), 2.0 / (MACD_SLOW + 1), 2.0 / (MACD_SIGNAL + 1)
    for lane in range(len(close)):
        quick = (close[lane] - fast[lane]) * fast_weight + fast[lane]
        steady = (close[lane] - slow[lane]) * slow_weight + slow[lane]
        fast[lane] = quick
        slow[lane] = steady
        signal[lane] = ((quick - steady) - signal[lane]) * signal_weight + signal[lane]


@kernel
def absorb_macd(state: Floats, begin: int, end: int, age: int, close: Floats, spare: Floats) -> None:
    """Carries MACD and its signal line, after `age` other candles."""
    fast, slow, signal, line = state[_FAST, begin:end], state[_SLOW, begin:end], state[_SIGNAL, begin:end], spare[0]
    if age >= MACD_SLOW + MACD_SIGNAL:
        _carry_macd(fast, slow, signal, close)
        return
    _follow(fast, close, age - (MACD_SLOW - MACD_FAST), MACD_FAST)
    _follow(slow, close, age, MACD_SLOW)
    _subtract(line, fast, slow)
    _follow(signal, line, age - (MACD_SLOW - 1), MACD_SIGNAL)


@kernel
def histogram_of_macd(state: Floats, begin: int, end: int, age: int) -> None:
    """The histogram after a candle that followed `age` others, and the one before it."""
    histogram = state[_HISTOGRAM, begin:end]
    copy(state[_HISTOGRAM_BEFORE, begin:end], histogram)
    if age >= MACD_SLOW + MACD_SIGNAL - 2:
        _subtract(histogram, state[_FAST, begin:end], state[_SLOW, begin:end])
        _subtract(histogram, histogram, state[_SIGNAL, begin:end])


@kernel
def keep_in_rings(state: Floats, begin: int, end: int, slot: int, close: Floats, volume: Floats) -> None:
    """What is summed over the window."""
    copy(state[_CLOSE_RING + slot, begin:end], close)
    copy(state[_VOLUME_RING + slot, begin:end], volume)


@kernel
def _absorb(state: Floats, begin: int, end: int, age: int, slot: int, candles: Floats, spare: Floats) -> None:
    """Takes the next candle of neighbouring symbols, after `age` others.

    `candles` are (open, high, low, close, volume) x lanes, `spare` is somewhere to write.
    """
    if age > 0:
        before = _ringed(state, _CLOSE_RING, begin, end, slot, 1)
        absorb_move(state, begin, end, age, candles[3], before)
        absorb_range(state, begin, end, age, candles[1], candles[2], before, spare)
    strengthen_move(state, begin, end, age)
    absorb_trend(state, begin, end, age, candles[3])
    absorb_macd(state, begin, end, age, candles[3], spare)
    histogram_of_macd(state, begin, end, age)
    keep_edges(state, begin, end, candles[0], candles[1], candles[2])
    keep_in_rings(state, begin, end, slot, candles[3], candles[4])


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
    copy(figures[CLOSE, begin:end], last)
    copy(figures[RSI, begin:end], state[_RSI, begin:end])
    _subtract(figures[RSI_CHANGE, begin:end], state[_RSI, begin:end], state[_RSI_BEFORE, begin:end])
    copy(figures[MACD_HISTOGRAM, begin:end], state[_HISTOGRAM, begin:end])
    _subtract(figures[MACD_HISTOGRAM_CHANGE, begin:end], state[_HISTOGRAM, begin:end], state[_HISTOGRAM_BEFORE, begin:end])
    _subtract(spare[0], state[_HIGH, begin:end], state[_LOW, begin:end])
    _body(figures[BODY, begin:end], state[_OPEN, begin:end], last, spare[0])
    if seen > WILDER:
        copy(figures[ATR, begin:end], state[_RANGE, begin:end])
        _quotient(figures[ATR_PERCENT, begin:end], state[_RANGE, begin:end], last, 100.0)
    if seen >= MACD_SLOW:
        _subtract(figures[MACD, begin:end], state[_FAST, begin:end], state[_SLOW, begin:end])
    if seen >= 2 * WILDER:
        copy(figures[ADX, begin:end], state[_STRENGTH, begin:end])
    if seen >= EMA_SHORT:
        copy(figures[EMA_50, begin:end], state[_EMA_50, begin:end])
    if seen >= EMA_LONG:
        copy(figures[EMA_200, begin:end], state[_EMA_200, begin:end])


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
    copy(figures[VOLUME_MEAN, begin:end], mean)
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
def tell(state: Floats, begin: int, end: int, seen: int, slot: int, figures: Floats, spare: Floats) -> None:
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
def blank(state: Floats, begin: int, end: int) -> None:
    """Neighbouring symbols before their first candle."""
    state[:, begin:end] = 0.0
    state[_RSI, begin:end] = np.nan
    state[_HISTOGRAM, begin:end] = np.nan


@kernel
def forget(row: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats) -> None:
    """Leaves nothing of a symbol: it waits to be seeded."""
    blank(state, row, row + 1)
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
        tell(state, row, end, count, _slot(newest_ms[row], step_ms), figures, spare)


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
        tell(state, row, end, seen[row] + 1, slot, figures, spare)
        for lane in range(count):
            seen[row + lane] += 1
            newest_ms[row + lane] = open_ms[place]
            outcomes[place + lane] = ADVANCED
        place += count
    return outcomes


@kernel
def tell_trend(state: Floats, seen: int, figures: Floats) -> None:
    """Of a whole `state`, what 4h candles are read for: both long averages and the relative strength; the others stay as they are."""
    copy(figures[RSI], state[_RSI])
    if seen >= EMA_SHORT:
        copy(figures[EMA_50], state[_EMA_50])
    if seen >= EMA_LONG:
        copy(figures[EMA_200], state[_EMA_200])


@kernel
def tell_all(step_ms: int, state: Floats, seen: Integers, newest_ms: Integers, figures: Floats) -> None:
    """Writes every symbol's figures anew from its memory."""
    spare = np.empty((3, 1))
    for row in range(len(seen)):
        figures[:, row] = np.nan
        if seen[row] > 0:
            tell(state, row, row + 1, seen[row], _slot(newest_ms[row], step_ms), figures, spare)


@kernel
def _step_quarter(
    begin: int, end: int, opened: Floats, high: Floats, low: Floats, close: Floats, state: Floats, spare: Floats
) -> None:
    """Step by step, as `_absorb` without its rings."""
    lanes = close.shape[1]
    for place in range(begin, end):
        if place > 0:
            absorb_move(state, 0, lanes, place, close[place], close[place - 1])
            absorb_range(state, 0, lanes, place, high[place], low[place], close[place - 1], spare)
        absorb_macd(state, 0, lanes, place, close[place], spare)
        strengthen_move(state, 0, lanes, place)
        histogram_of_macd(state, 0, lanes, place)
        keep_edges(state, 0, lanes, opened, high[place], low[place])


@kernel
def _run_quarter(begin: int, end: int, high: Floats, low: Floats, close: Floats, state: Floats) -> None:
    """The same steps past all seeding, without what nobody reads in between."""
    gain, loss, average, span, strength = state[_GAIN], state[_LOSS], state[_RANGE], state[_SPAN], state[_STRENGTH]
    plus, minus, fast, slow, signal = state[_PLUS], state[_MINUS], state[_FAST], state[_SLOW], state[_SIGNAL]
    for place in range(begin, end):
        now, up, down = close[place], high[place], low[place]
        before, up_before, down_before = close[place - 1], high[place - 1], low[place - 1]
        _smooth_moves(gain, loss, now, before)
        _carry_range(average, span, up, down, before)
        _carry_larger(plus, up, up_before, down_before, down)
        _carry_larger(minus, down_before, down, up, up_before)
        _carry_strength(strength, plus, minus, span)
        _carry_macd(fast, slow, signal, now)
    copy(state[_HIGH], high[end - 1])
    copy(state[_LOW], low[end - 1])


@kernel
def carry_quarter(
    opened: Floats, high: Floats, low: Floats, close: Floats, volume: Floats, state: Floats, figures: Floats
) -> None:
    """From the first 15m candle of symbols of one age to the last, into `figures`.

    Arrays are candles x lanes, `volume` the newest of them, `opened` the last. `state` is blank and holds no other symbols.
    """
    count, lanes = close.shape
    spare = np.empty((3, lanes))
    seeded = min(count, MACD_SLOW + MACD_SIGNAL)
    _step_quarter(0, seeded, opened, high, low, close, state, spare)
    if seeded < count - 2:
        _run_quarter(seeded, count - 2, high, low, close, state)
        seeded = count - 2
    _step_quarter(seeded, count, opened, high, low, close, state, spare)
    for kept in range(len(volume)):
        place = count - len(volume) + kept
        keep_in_rings(state, 0, lanes, place % RING, close[place], volume[kept])
    tell(state, 0, lanes, count, (count - 1) % RING, figures, spare)


@kernel
def _run_trend(begin: int, close: Floats, state: Floats) -> None:
    """Past all seeding."""
    gain, loss, short, long = state[_GAIN], state[_LOSS], state[_EMA_50], state[_EMA_200]
    short_weight, long_weight = 2.0 / (EMA_SHORT + 1), 2.0 / (EMA_LONG + 1)
    for place in range(begin, len(close)):
        now = close[place]
        _smooth_moves(gain, loss, now, close[place - 1])
        for lane in range(len(now)):
            short[lane] = (now[lane] - short[lane]) * short_weight + short[lane]
            long[lane] = (now[lane] - long[lane]) * long_weight + long[lane]


@kernel
def carry_trend(close: Floats, state: Floats, figures: Floats) -> None:
    """From the first 4h close of symbols of one age to the last, what `tell_trend` tells.

    `close` is candles x lanes. `state` is blank and holds no other symbols.
    """
    count, lanes = close.shape
    seeded = min(count, EMA_LONG)
    for place in range(seeded):
        if place > 0:
            absorb_move(state, 0, lanes, place, close[place], close[place - 1])
        absorb_trend(state, 0, lanes, place, close[place])
    _run_trend(seeded, close, state)
    strengthen_move(state, 0, lanes, count - 1)
    tell_trend(state, count, figures)
