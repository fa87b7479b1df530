"""A reply of klines read from its bytes holds the numbers that a JSON decoder and Python's float() read, and fails where they fail."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.candles.klines import TENS, VALUES, Klines, candles_of, klines_of, read_rows
from engine.candles.rows import KlineRow
from engine.core.market import Timeframe

MS = 900_000
ROW: list[Any] = [1499040000000, "0.01634790", "0.80", "0.01575800", "0.01577100", "148976.11427815", 1499644799999]
TAIL: list[Any] = ["2434.19055334", 308, "1756.87402397", "28.46694368", "0"]


def body_of(rows: list[list[Any]]) -> bytes:
    return json.dumps(rows, separators=(",", ":")).encode()


def read_at_once(body: bytes) -> int:
    """How many rows are read without JSON."""
    return int(read_rows(np.frombuffer(body, np.uint8), TENS, np.empty((2, 99), np.int64), np.empty((VALUES, 99))))


def by_msgspec(body: bytes) -> list[KlineRow] | None:
    try:
        return msgspec.json.decode(body, type=list[KlineRow], strict=False)
    except msgspec.MsgspecError:
        return None


def assert_same(found: Klines, rows: list[KlineRow]) -> None:
    assert list(found.open_ms) == [row.open_ms for row in rows]
    assert list(found.close_ms) == [row.close_ms for row in rows]
    expected = [[row.open, row.high, row.low, row.close, row.volume] for row in rows]
    np.testing.assert_array_equal(found.values, np.array(expected, np.float64).reshape(-1, VALUES).T)


NUMBERS = st.one_of(
    st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=8).map(lambda value: f"{value:f}"),
    st.integers(0, 10**24).map(str),
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,25})?", fullmatch=True),
    st.floats(0, allow_nan=False, allow_infinity=False).map(str),
)
ROWS = st.builds(
    lambda times, values, tail: [times[0], *values, times[1], *tail],
    st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)),
    st.lists(NUMBERS, min_size=VALUES, max_size=VALUES),
    st.sampled_from([[], TAIL]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=4))
@example([[0, "9007199254740993", "9007199254740992.00000000", "0.1", "0.30000000000000004", "1e5", 1]])
@example([[0, "123456789012345678", "1234567890123456789", "0.000000000000000001", "5", "0.0000000000000000000000001", 1]])
def test_every_number_is_the_one_that_float_reads(rows: list[list[Any]]) -> None:
    body, expected = body_of(rows), by_msgspec(body_of(rows))
    if expected is None:
        with pytest.raises(msgspec.MsgspecError):
            klines_of(body)
        return
    found = klines_of(body)
    assert_same(found, expected)
    assert list(found.values.T.flat) == [float(value) for row in rows for value in row[1 : 1 + VALUES]]


WHOLE = body_of([ROW + TAIL, ROW + TAIL])
CLOSING = WHOLE.index(b"1499644799999")


@settings(max_examples=250, deadline=None)
@given(
    st.integers(0, len(WHOLE) - 1),
    st.integers(0, 3),
    st.one_of(st.sampled_from([b"", b'"', b",", b"[", b"]", b"\\", b".", b"0", b"-"]), st.binary(max_size=2)),
)
@example(CLOSING + 10, 3, b",")
@example(CLOSING + 8, 3, b',"')
@example(CLOSING + 13, 0, b"5,")
@example(CLOSING + 13, 3, b"5,")
@example(WHOLE.index(b"],["), 3, b",")
def test_a_damaged_reply_says_what_json_says_or_nothing_past_what_nobody_reads(place: int, length: int, sign: bytes) -> None:
    body = WHOLE[:place] + sign + WHOLE[place + length :]
    expected = by_msgspec(body)
    if expected is not None:
        assert_same(klines_of(body), expected)
        return
    try:
        found = klines_of(body)
    except msgspec.MsgspecError:
        return
    undamaged = klines_of(body_of([ROW, ROW]))
    np.testing.assert_array_equal(found.values, undamaged.values)
    np.testing.assert_array_equal([found.open_ms, found.close_ms], [undamaged.open_ms, undamaged.close_ms])


def test_moments_of_any_length_are_read() -> None:
    for moment in (0, 7, 99_999_999, 1_499_040_000_000, 9_999_999_999_999, 10_000_000_000_000, 2**53):
        found = klines_of(body_of([[moment, *ROW[1:6], moment + 1, *TAIL]]))
        assert (int(found.open_ms[0]), int(found.close_ms[0])) == (moment, moment + 1)


@pytest.mark.parametrize("end", range(1, len(body_of([ROW + TAIL, ROW]))))
def test_a_reply_cut_off_anywhere_is_refused(end: int) -> None:
    with pytest.raises(msgspec.MsgspecError):
        klines_of(body_of([ROW + TAIL, ROW])[:end])


def test_the_exchanges_own_form_is_read_at_once_and_other_forms_as_json() -> None:
    assert read_at_once(body_of([ROW + TAIL, ROW + TAIL])) == 2
    assert read_at_once(body_of([[*ROW[:5], "1234567890.00000000", ROW[6], *TAIL]])) == 1
    for other in (json.dumps([ROW]).encode(), body_of([[*ROW[:5], 148976.1, ROW[6]]]), body_of([[*ROW[:5], "-1", ROW[6]]])):
        assert read_at_once(other) == 0
        assert len(klines_of(other).open_ms) == 1


def test_a_young_symbol_without_candles_has_none() -> None:
    assert len(candles_of("XUSDT", Timeframe.M15, klines_of(b"[]"), 10**13)) == 0


@pytest.mark.parametrize(
    ("now_ms", "kept"),
    [(3 * MS + 1_999, 2), (3 * MS + 2_001, 3), (2 * MS + 1, 2), (2 * MS - 1, 1)],
    ids=["the newest may still move", "all are past", "the newest is open", "a clock runs behind"],
)
def test_only_candles_that_closed_are_kept(now_ms: int, kept: int) -> None:
    rows = [[place * MS, "1", "2", "0.5", "1.5", "10", (place + 1) * MS - 1] for place in range(3)]
    found = candles_of("XUSDT", Timeframe.M15, klines_of(body_of(rows)), now_ms)
    assert list(found.open_ms) == [place * MS for place in range(kept)]
    columns = zip(found.open, found.high, found.low, found.close, found.volume, strict=True)
    assert list(columns) == [(1.0, 2.0, 0.5, 1.5, 10.0)] * kept


def test_rows_out_of_their_order_are_kept_where_they_closed() -> None:
    rows = [[place * MS, "1", "2", "0.5", "1.5", "10", (place + 1) * MS - 1] for place in (5, 0, 9, 1)]
    assert list(candles_of("XUSDT", Timeframe.M15, klines_of(body_of(rows)), 3 * MS).open_ms) == [0, MS]
