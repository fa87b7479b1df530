"""Candles from the exchange's own bytes, without a Python object a number.

A reply of klines is of one form, row after row, and the numbers in it are short: what is of that form is read in one go, and every other reply
as JSON, by msgspec, which also says what is wrong with it. Both read the same numbers to the bit.

Source: Binance USDⓈ-M "Kline/Candlestick Data" (2026-05). W. D. Clinger, "How to read floating point numbers accurately" (1990): an integer
below 2^53 over a power of ten up to 10^22, both exact, divides to the nearest number.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

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

VALUES: Final = 5
QUOTE, COMMA, POINT, ZERO, OPEN, CLOSE, ESCAPE, SPACE = b'",.0[]\\ '
LAST_PLAIN: Final = 126

type Bytes = np.ndarray[Any, np.dtype[np.uint8]]


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
    """Closed candles only: those whose closing time lies before `now_ms`.

    The newest row has no successor to prove that the exchange closed it too, so it must be past by more than clocks lie apart: a
    candle that still moves would be kept until the next close.
    """
    closed = klines.close_ms < now_ms
    closed[-1:] &= klines.close_ms[-1:] < now_ms - CLOCKS_APART_MS
    kept: Any = slice(int(closed.sum())) if closed[: closed.sum()].all() else closed
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


@kernel
def _digits(body: Bytes, place: int, value: int) -> tuple[int, int]:
    """A number carried on by the digits from a place on, and the place after them; meaningless past DIGITS."""
    digit: Any = np.int64(body[place]) - ZERO
    while 0 <= digit <= 9:
        value = value * 10 + digit
        place += 1
        digit = np.int64(body[place]) - ZERO
    return value, place


@kernel
def _integer(body: Bytes, place: int) -> tuple[int, int]:
    """A plain integer and the place after it; a place below zero where none begins."""
    value, end = _digits(body, place, 0)
    count = end - place
    if count == 0 or count > DIGITS or (count > 1 and body[place] == ZERO):
        return 0, -1
    return value, end


@kernel
def _decimal(value: int, decimals: int, tens: Floats) -> tuple[float, bool]:
    """An integer over a power of ten, and whether it is the nearest number to it."""
    while value > WHOLE and decimals > 0 and value % 10 == 0:
        value //= 10
        decimals -= 1
    return value / tens[decimals], value <= WHOLE


@kernel
def _number(body: Bytes, place: int, tens: Floats) -> tuple[float, int]:
    """A quoted decimal number and the place after it; a place below zero where it has another form or too many digits."""
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
    number, exact = _decimal(value, decimals, tens)
    return number, (place + 1 if exact else -1)


@kernel
def _past_string(body: Bytes, place: int) -> int:
    while body[place] != QUOTE:
        if body[place] < SPACE or body[place] > LAST_PLAIN or body[place] == ESCAPE or body[place] == CLOSE:
            return -1
        place += 1
    return place + 1


@kernel
def _past(body: Bytes, place: int) -> int:
    """The place after the values that nobody reads, where their row must end; below zero where they have another form."""
    while place >= 0 and body[place] == COMMA:
        place += 1
        if body[place] == QUOTE:
            place = _past_string(body, place + 1)
        else:
            _, place = _integer(body, place)
    return place


@kernel
def _read_row(body: Bytes, place: int, tens: Floats, row: int, times: Integers, values: Floats) -> int:
    """The place after a row; below zero where it has another form."""
    if body[place] != OPEN:
        return -1
    times[0, row], place = _integer(body, place + 1)
    for column in range(VALUES):
        if place < 0 or body[place] != COMMA:
            return -1
        values[column, row], place = _number(body, place + 1, tens)
    if place < 0 or body[place] != COMMA:
        return -1
    times[1, row], place = _integer(body, place + 1)
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
    place = 1
    for row in range(times.shape[1]):
        place = _read_row(body, place, tens, row, times, values)
        if place < 0 or place > last:
            return 0
        if body[place] != COMMA:
            return row + 1 if place == last else 0
        place += 1
    return 0


def warm_up() -> None:
    """Loads or compiles the kernels, so that the first reply does not wait for it."""
    klines_of(b'[[0,"1.5","1.5","1.5","1.5","1.5",1]]')
