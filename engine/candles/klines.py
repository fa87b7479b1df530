"""Candles from the exchange's own bytes, without a Python object a number.

A reply of klines is of one form, row after row, and the numbers in it are short: what is of that form is read in one go, and every other reply
as JSON, by msgspec, which also says what is wrong with it. Both read the same numbers to the bit. What follows a row's closing time is not read,
only passed over as far as it may be numbers.

Source: Binance USDⓈ-M "Kline/Candlestick Data" (2026-05). W. D. Clinger, "How to read floating point numbers accurately" (1990): an integer
below 2^53 over a power of ten up to 10^22, both exact, divides to the nearest number.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from engine.candles.rows import KlineRow
from engine.core.features_steps import kernel
from engine.core.market import Candles, Floats, Integers, Timeframe

CLOCKS_APART_MS: Final = 2_000
"""Market time by which our clock may run before the exchange's."""

TENS: Final = np.array([10.0**power for power in range(23)])
DIGITS: Final = 18
"""As many fit a signed integer of 64 bits, whatever they are."""

WHOLE: Final = 2**53
SHORTEST_ROW: Final = 40
"""Bytes: two opening times, five numbers of a digit and what stands between them need more."""

LONGEST_REST: Final = 120
"""Bytes of a row after its closing time: more are likely another row whose beginning is gone."""

VALUES: Final = 5
QUOTE, COMMA, POINT, ZERO, OPEN, CLOSE, SPACE = b'",.0[] '

UPPER, SIXES, THREES, ZEROS, CLASS, PLAIN = (
    np.uint64(each * 0x0101010101010101) for each in (0xF0, 0x06, 0x33, 0x30, 0xE0, 0x20)
)
PAIRS = np.uint64(0x000000FF000000FF)
HUNDRED_AND_MILLION, ONE_AND_TEN_THOUSAND = np.uint64(0x000F424000000064), np.uint64(0x0000271000000001)
TEN, FOUR = np.uint64(10), np.uint64(4)

type Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def _part[F: Callable[..., Any]](function: F) -> F:
    """A part of `read_rows`, compiled into it: a call for every number would take longer than reading it."""
    return cast(F, njit(nogil=True, error_model="numpy", forceinline=True)(function))


class Klines(msgspec.Struct, frozen=True):
    """A reply's rows as columns; `values` are (open, high, low, close, volume) x rows."""

    open_ms: Integers
    close_ms: Integers
    values: Floats


def klines_of(body: bytes) -> Klines:
    """A reply of klines.

    Raises:
        msgspec.MsgspecError: It is not one.
    """
    most = len(body) // SHORTEST_ROW + 1
    times, values = np.empty((2, most), np.int64), np.empty((VALUES, most))
    rows = read_rows(np.frombuffer(body, np.uint8), TENS, times, values)
    if rows > 0:
        return Klines(times[0, :rows].copy(), times[1, :rows].copy(), values[:, :rows].copy())
    return _columns(msgspec.json.decode(body, type=list[KlineRow], strict=False))


def _columns(rows: Sequence[KlineRow]) -> Klines:
    values = [(row.open, row.high, row.low, row.close, row.volume) for row in rows]
    return Klines(
        np.array([row.open_ms for row in rows], np.int64),
        np.array([row.close_ms for row in rows], np.int64),
        np.ascontiguousarray(np.array(values, np.float64).reshape(-1, VALUES).T),
    )


def candles_of(symbol: str, timeframe: Timeframe, klines: Klines, now_ms: int) -> Candles:
    """Closed candles only: those whose closing time lies before `now_ms`, the moment in which they were asked for.

    A reply may be on its way while a candle closes: it tells that candle as it was before.
    The newest row has no successor to prove that the exchange closed it too, so it must be past by more than clocks lie apart: a
    candle that still moves would be kept until the next close.
    """
    count = _closed_prefix(klines.close_ms, now_ms)
    kept: Any = slice(count) if count >= 0 else _are_closed(klines.close_ms, now_ms)
    opened, high, low, close, volume = klines.values[:, kept]
    return Candles(
        symbol=symbol,
        timeframe=timeframe,
        open_ms=klines.open_ms[kept],
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def _eight(_: Any, body: Any, place: Any) -> Any:  # noqa: ARG001  # its type is always intp
    """Eight bytes from a place on as one number, the first the lowest."""

    def load(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, given[0]).data
        wide = builder.bitcast(builder.gep(data, [given[1]]), ir.IntType(64).as_pointer())
        return builder.load(wide, align=1)

    return types.uint64(body, types.intp), load


@_part
def _are_digits(eight: int) -> bool:
    """Whether all of eight bytes are digits: their upper halves are 3, also with 6 added."""
    return (eight & UPPER) | (((eight + SIXES) & UPPER) >> FOUR) == THREES  # type: ignore[no-any-return]


@_part
def _number_of_eight(eight: int) -> int:
    """Eight digits as a number: pairs, then fours, then all."""
    digits: Any = eight - ZEROS
    eight = digits * TEN + (digits >> np.uint64(8))
    upper = (eight & PAIRS) * HUNDRED_AND_MILLION
    lower = ((eight >> np.uint64(16)) & PAIRS) * ONE_AND_TEN_THOUSAND
    return np.int64((upper + lower) >> np.uint64(32))  # type: ignore[return-value]


@_part
def _moment(body: Bytes, place: int) -> tuple[int, int]:
    """An integer of thirteen digits, as milliseconds are until the year 2286, or any other; and the place after it."""
    if place + 16 <= len(body) and body[place] != ZERO:
        first, last = _eight(body, place), _eight(body, place + 5)
        if _are_digits(first) and _are_digits(last) and (body[place + 13] == COMMA or body[place + 13] == CLOSE):
            return _number_of_eight(first) * 100_000 + _number_of_eight(last) % 100_000, place + 13
    return _integer(body, place)


@_part
def _digits(body: Bytes, place: int, value: int) -> tuple[int, int]:
    """A number carried on by the digits from a place on, and the place after them; meaningless past DIGITS."""
    digit: Any = np.int64(body[place]) - ZERO
    while 0 <= digit <= 9:
        value = value * 10 + digit
        place += 1
        digit = np.int64(body[place]) - ZERO
    return value, place


def _are_closed(close_ms: Integers, now_ms: int) -> Any:
    closed = close_ms < now_ms
    closed[-1:] &= close_ms[-1:] < now_ms - CLOCKS_APART_MS
    return closed


@kernel
def _closed_prefix(close_ms: Integers, now_ms: int) -> int:
    """How many rows are closed where those are the first; below zero where they are not."""
    rows = len(close_ms)
    count = 0
    while count < rows and close_ms[count] < now_ms - (CLOCKS_APART_MS if count == rows - 1 else 0):
        count += 1
    for row in range(count, rows):
        if close_ms[row] < now_ms - (CLOCKS_APART_MS if row == rows - 1 else 0):
            return -1
    return count


@_part
def _integer(body: Bytes, place: int) -> tuple[int, int]:
    """A plain integer and the place after it; a place below zero where none begins."""
    value, end = _digits(body, place, 0)
    count = end - place
    if count == 0 or count > DIGITS or (count > 1 and body[place] == ZERO):
        return 0, -1
    return value, end


@_part
def _decimal(value: int, decimals: int, tens: Floats) -> tuple[float, bool]:
    """An integer over a power of ten, and whether it is the nearest number to it."""
    while value > WHOLE and decimals > 0 and value % 10 == 0:
        value //= 10
        decimals -= 1
    return value / tens[decimals], value <= WHOLE


@_part
def _number(body: Bytes, place: int, tens: Floats, shapes: Integers, column: int) -> tuple[float, int]:
    """A quoted decimal number and the place after it; a place below zero where it has another form or too many digits.

    `shapes` learns how many digits the column's numbers have before and after its point.
    """
    if body[place] != QUOTE:
        return 0.0, -1
    begin = place + 1
    value, place = _digits(body, begin, 0)
    whole, decimals = place - begin, 0
    if whole == 0 or (whole > 1 and body[begin] == ZERO):
        return 0.0, -1
    if body[place] == POINT:
        value, end = _digits(body, place + 1, value)
        decimals = end - place - 1
        place = end if decimals > 0 else begin
    if whole + decimals > DIGITS or body[place] != QUOTE:
        return 0.0, -1
    shapes[column, 0], shapes[column, 1] = whole, decimals
    number, exact = _decimal(value, decimals, tens)
    return number, (place + 1 if exact else -1)


@_part
def _some_digits(body: Bytes, place: int, count: int) -> int:
    """One to eight digits as a number, below zero where one of them is none; zeros are put in front of them."""
    missing = np.uint64(8 * (8 - count))
    eight = (_eight(body, place) << missing) | ((ZEROS >> np.uint64(8)) >> np.uint64(8 * (count - 1)))
    return _number_of_eight(eight) if _are_digits(eight) else -1


@_part
def _like(body: Bytes, place: int, tens: Floats, shapes: Integers, column: int) -> tuple[float, int]:
    """A number of the same shape as the one of the row above; a place below zero where it is none.

    In one column most are, and where the next number begins is then known without looking at this one.
    """
    whole, decimals = shapes[column, 0], shapes[column, 1]
    point = place + 1 + whole
    end = point + 1 + decimals
    if not (0 < whole <= 8 and 0 < decimals <= 8) or end + 8 > len(body):
        return 0.0, -1
    if body[place] != QUOTE or body[point] != POINT or body[end] != QUOTE or (whole > 1 and body[place + 1] == ZERO):
        return 0.0, -1
    left, right = _some_digits(body, place + 1, whole), _some_digits(body, point + 1, decimals)
    value = left * np.int64(tens[decimals]) + right
    if left < 0 or right < 0 or value > WHOLE:
        return 0.0, -1
    return value / tens[decimals], end + 1


@_part
def _are_plain(eight: int) -> bool:
    """Whether eight bytes are signs that stand in numbers and between them, which letters, brackets and control signs are not."""
    return eight & CLASS == PLAIN  # type: ignore[no-any-return]


@_part
def _past(body: Bytes, place: int) -> int:
    """The place where a row ends after the values that nobody reads, the first of them quoted; below zero where anything but numbers stands there."""
    if place < 0 or (body[place] != COMMA and body[place] != CLOSE) or (body[place] == COMMA and body[place + 1] != QUOTE):
        return -1
    begin = place
    while place + 8 <= len(body) and _are_plain(_eight(body, place)):
        place += 8
    while body[place] & 0xE0 == SPACE:
        place += 1
    return place if place - begin <= LONGEST_REST else -1


@_part
def _read_row(body: Bytes, place: int, tens: Floats, row: int, times: Integers, values: Floats, shapes: Integers) -> int:
    """The place after a row; below zero where it has another form."""
    if body[place] != OPEN:
        return -1
    times[0, row], place = _moment(body, place + 1)
    for column in range(VALUES):
        if place < 0 or body[place] != COMMA:
            return -1
        begin = place + 1
        values[column, row], place = _like(body, begin, tens, shapes, column)
        if place < 0:
            values[column, row], place = _number(body, begin, tens, shapes, column)
    if place < 0 or body[place] != COMMA:
        return -1
    times[1, row], place = _moment(body, place + 1)
    if times[1, row] < times[0, row]:
        return -1
    place = _past(body, place)
    return place + 1 if place >= 0 and body[place] == CLOSE else -1


@kernel
def read_rows(body: Bytes, tens: Floats, times: Integers, values: Floats) -> int:
    """Reads a reply into its columns, (opening, closing times) and (open, high, low, close, volume) x rows.

    Returns:
        How many rows it has; zero where it has none, or any part of it is not of the one form.
    """
    last = len(body) - 1
    if last < 3 or body[0] != OPEN or body[last] != CLOSE:
        return 0  # no step below goes past the last byte, because none but a row's end takes a closing bracket
    place, shapes = 1, np.zeros((VALUES, 2), np.int64)
    for row in range(times.shape[1]):
        place = _read_row(body, place, tens, row, times, values, shapes)
        if place < 0 or place > last:
            return 0
        if body[place] != COMMA:
            return row + 1 if place == last else 0
        place += 1
    return 0


def warm_up() -> None:
    """Loads or compiles the kernels, so that the first reply does not wait for it."""
    klines_of(b'[[0,"1.5","1.5","1.5","1.5","1.5",1]]')
