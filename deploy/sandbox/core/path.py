"""The path inside a 15m candle: the one source of every trade, minute, tick and mark price.

A candle is walked in 180 ticks, one in every five seconds, from its open over its high and low to its close; its volume is spread
over them. Each walk is a pure function of (key of the symbol, number of the candle, its open, high, low, close and volume), so any
moment can be looked at without walking there. Where a recording knows the marks inside a candle, they are its path and, as they are, its index
price. Prices are whole ticks and quantities whole steps: sums are exact.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TICKS = 180
"""Ticks in a 15m candle."""
TICKS_A_MINUTE = 12
TICK_MS = 5_000
INDEX_WINDOW = 12
"""Ticks over which the index price is averaged: one minute, so that one wild trade does not liquidate anyone."""

OPEN, HIGH, LOW, CLOSE, VOLUME, TRADES, QUOTE, TAKER_BASE, TAKER_QUOTE = range(9)
"""Rows of a summary table."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0
_SWING = 0.06
_LAST = TICKS - 1


_COMPILED: dict[str, Any] = {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""Compiled once a machine; without what nobody calls, which takes a fifth off the first start."""


@njit(**_COMPILED)
def _mixed(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    x = (x ^ (x >> _S30)) * _MIX_A
    x = (x ^ (x >> _S27)) * _MIX_B
    return x ^ (x >> _S31)


@njit(**_COMPILED)
def _uniform(state, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return float(_mixed(state + np.uint64(k + 1) * _GOLDEN) >> _S11) * _UNIT


@njit(**_COMPILED)
def _extremes(state, o, h, low, c):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Ticks at which the high and the low are reached: a rising candle mostly sees its low first."""
    high_at = 1 + int(_uniform(state, 1000) * (TICKS - 2))
    low_at = 1 + int(_uniform(state, 1001) * (TICKS - 2))
    if high_at == low_at:
        low_at = low_at + 1 if low_at < _LAST - 1 else low_at - 1
    if ((c >= o) == (high_at < low_at)) and _uniform(state, 1002) < 0.7:
        high_at, low_at = low_at, high_at
    if h == o:
        high_at = 0
    elif h == c:
        high_at = _LAST
    if low == o:
        low_at = 0
    elif low == c:
        low_at = _LAST
    return high_at, low_at


@njit(**_COMPILED)
def _bridge(state, a, b, start, end, low, high, price):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Ticks a..b from start to end, wandering inside [low, high]."""
    price[a] = start
    price[b] = end
    swing = 2.0 * _SWING * (high - low)
    slope = (end - start) / (b - a)
    total = 0.0
    steps = np.empty(TICKS, dtype=np.float64)
    for k in range(a + 1, b + 1):
        total += _uniform(state, 2000 + k) - 0.5
        steps[k] = total
    drift = total / (b - a)
    for k in range(a + 1, b):
        p = start + slope * (k - a) + swing * (steps[k] - drift * (k - a))
        price[k] = min(high, max(low, int(p + 0.5)))


@njit(**_COMPILED)
def _wander(state, o, h, low, c, price):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A path of nobody's memory; the ticks at which it first reaches an extreme and the other."""
    high_at, low_at = _extremes(state, o, h, low, c)
    first, second = min(high_at, low_at), max(high_at, low_at)
    first_price, second_price = (h, low) if high_at <= low_at else (low, h)
    at, value = 0, o
    for target, reached in ((first, first_price), (second, second_price), (_LAST, c)):
        if target > at:
            _bridge(state, at, target, value, reached, low, h, price)
            at, value = target, reached
    price[0] = o
    price[_LAST] = c
    return first, second


@njit(**_COMPILED)
def _walk(key, number, candles, paths, j, price, quantity, buyer):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Candle j of those given; its path is the recorded one where there is one."""
    volume = candles[4, j]
    state = _mixed(key + np.uint64(number) * _GOLDEN)
    if paths.shape[0] and paths[j, 0]:
        price[:] = paths[j]
        high_at, low_at = np.argmax(price), np.argmin(price)
        first, second = min(high_at, low_at), max(high_at, low_at)
    else:
        first, second = _wander(state, candles[0, j], candles[1, j], candles[2, j], candles[3, j], price)
    weight = 0.0
    weights = np.empty(TICKS, dtype=np.float64)
    for k in range(TICKS):
        weight += 1.0 / (_uniform(state, 3000 + k) + 0.005)
        weights[k] = weight
    keys = 4 if volume >= 4 else 0
    spread = volume - keys
    given = 0
    share = spread / weight
    for k in range(TICKS):
        until = spread if k == _LAST else min(spread, int(share * weights[k]))
        quantity[k] = until - given
        given = until
        if k > 0 and price[k] != price[k - 1]:
            buyer[k] = price[k] > price[k - 1]
        else:
            buyer[k] = _uniform(state, 4000 + k) < 0.5
    if keys:
        quantity[0] += 1
        quantity[first] += 1
        quantity[second] += 1
        quantity[_LAST] += 1


@njit(**_COMPILED)
def _averages(price, tail, tail_n, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The mean of the last INDEX_WINDOW prices at each tick; `tail` holds the prices before, newest last."""
    total = 0
    count = tail_n
    for k in range(tail_n):
        total += tail[INDEX_WINDOW - 1 - tail_n + k]
    for k in range(TICKS):
        total += price[k]
        if count == INDEX_WINDOW:
            total -= price[k - INDEX_WINDOW] if k >= INDEX_WINDOW else tail[k - 1]
        else:
            count += 1
        index[k] = total / count


@njit(**_COMPILED)
def _hear(marks, j, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Candle j's recorded marks in place of what was averaged, where there are any."""
    if marks.shape[0]:
        for k in range(TICKS):
            if marks[j, k] > 0.0:
                index[k] = marks[j, k]


@njit(**_COMPILED)
def _summary(key, first, candles, paths, marks, has_before, per, table, index_table):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    price = np.zeros(TICKS, dtype=np.int64)
    quantity = np.zeros(TICKS, dtype=np.int64)
    buyer = np.zeros(TICKS, dtype=np.bool_)
    index = np.zeros(TICKS, dtype=np.float64)
    tail = np.zeros(INDEX_WINDOW - 1, dtype=np.int64)
    tail_n = 0
    row = 0
    for j in range(candles.shape[1]):
        _walk(key, first + j, candles, paths, j, price, quantity, buyer)
        _averages(price, tail, tail_n, index)
        _hear(marks, j, index)
        tail[:] = price[TICKS - INDEX_WINDOW + 1 :]
        tail_n = INDEX_WINDOW - 1
        if j == 0 and has_before:
            continue
        for start in range(0, TICKS, per):
            _fold(price, quantity, buyer, index, start, start + per, table[:, row], index_table[:, row])
            row += 1


@njit(**_COMPILED)
def _fold(price, quantity, buyer, index, start, end, out, index_out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Ticks start..end as one candle."""
    high = low = price[start]
    index_high = index_low = index[start]
    volume = trades = quote = taker_base = taker_quote = 0
    for k in range(start, end):
        p, q = price[k], quantity[k]
        high, low = max(high, p), min(low, p)
        index_high, index_low = max(index_high, index[k]), min(index_low, index[k])
        volume += q
        quote += p * q
        trades += q > 0
        if buyer[k]:
            taker_base += q
            taker_quote += p * q
    out[0], out[1], out[2], out[3], out[4] = price[start], high, low, price[end - 1], volume
    out[5], out[6], out[7], out[8] = trades, quote, taker_base, taker_quote
    index_out[0], index_out[1], index_out[2], index_out[3] = index[start], index_high, index_low, index[end - 1]


@njit(**_COMPILED)
def _detail(key, first, candles, paths, marks, price, quantity, buyer, index, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    tail = np.zeros(INDEX_WINDOW - 1, dtype=np.int64)
    tail_n = 0
    last = candles.shape[1] - 1
    for j in range(last + 1):
        _walk(key, first + j, candles, paths, j, price, quantity, buyer)
        if j < last:
            tail[:] = price[TICKS - INDEX_WINDOW + 1 :]
            tail_n = INDEX_WINDOW - 1
    _averages(price, tail, tail_n, index)
    _hear(marks, last, index)
    state = _mixed(key + np.uint64(first + last) * _GOLDEN)
    for k in range(TICKS):
        jitter = int(_uniform(state, 5000 + k) * 4900.0) if k % TICKS_A_MINUTE else 0
        offsets[k] = k * TICK_MS + jitter


UNRECORDED: Ints = np.zeros((0, TICKS), dtype=np.int64)
"""No path of any candle is known."""

UNHEARD: Floats = np.zeros((0, TICKS))
"""No mark of any candle is known."""


def summarise(
    key: int, first: int, candles: Ints, paths: Ints = UNRECORDED, marks: Floats = UNHEARD, *, has_before: bool, ticks_a_row: int
) -> tuple[Ints, Floats]:
    """Walk consecutive candles and fold their ticks.

    Args:
        key: Of the symbol, 64 bits.
        first: Number of the first candle given, counted in quarters of an hour since the epoch.
        candles: Shape (5, n): open, high, low, close in ticks, volume in steps.
        paths: Recorded prices in ticks, shape (n, 180), a row of zeros where none are known, or none at all.
        marks: Recorded marks in ticks, shape (n, 180), zeros where none are known, or no row at all.
        has_before: The first candle only warms up the index average and gives no row.
        ticks_a_row: 180 for 15m rows, 12 for minutes.

    Returns:
        The table, shape (9, rows), and the index price's open, high, low and close, shape (4, rows), in ticks.
    """
    rows = (candles.shape[1] - has_before) * (TICKS // ticks_a_row)
    table = np.zeros((9, rows), dtype=np.int64)
    index_table = np.zeros((4, rows), dtype=np.float64)
    _summary(np.uint64(key), first, candles, paths, marks, has_before, ticks_a_row, table, index_table)
    return table, index_table


def detail(
    key: int, first: int, candles: Ints, paths: Ints = UNRECORDED, marks: Floats = UNHEARD
) -> tuple[Ints, Ints, Bools, Floats, Ints]:
    """Price, quantity, whether the taker bought, index price and offset in ms of each tick of the last candle given.

    Args:
        key: Of the symbol, 64 bits.
        first: Number of the first candle given: the one before, where there is one.
        candles: Shape (5, 1 or 2).
        paths: Their recorded prices, as for `summarise`.
        marks: Their recorded marks, as for `summarise`.
    """
    price, quantity, offsets = (np.zeros(TICKS, dtype=np.int64) for _ in range(3))
    buyer, index = np.zeros(TICKS, dtype=np.bool_), np.zeros(TICKS, dtype=np.float64)
    _detail(np.uint64(key), first, candles, paths, marks, price, quantity, buyer, index, offsets)
    return price, quantity, buyer, index, offsets


def key_of(seed: int, name: str) -> int:
    """A 64 bit key of a seed and a name (FNV-1a), the same on every machine."""
    value = 0xCBF29CE484222325 ^ (seed & 0xFFFFFFFFFFFFFFFF)
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def noise(key: int, *numbers: int) -> float:
    """A uniform number in [0, 1) that depends on nothing but its arguments."""
    value = key
    for number in numbers:
        value = (value + (number + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return (value >> 11) * _UNIT


def noises(key: int, numbers: Ints) -> Floats:
    """Uniform numbers in [0, 1), one for each number given."""
    value = numbers.astype(np.uint64) * _GOLDEN + np.uint64(key)
    value = (value ^ (value >> _S30)) * _MIX_A
    value = (value ^ (value >> _S27)) * _MIX_B
    value ^= value >> _S31
    return (value >> _S11).astype(np.float64) * _UNIT
