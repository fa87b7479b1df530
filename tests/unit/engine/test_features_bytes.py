"""What is packed reads back to the bit and goes on as if nothing had happened; what cannot be trusted is not read."""

import struct
from collections.abc import Callable

import numpy as np
import pytest

from engine.core import features_bytes
from engine.core.features_bytes import memory_bytes, memory_of, told_bytes, told_of
from engine.core.features_live import Figures, LiveFeatures
from engine.core.market import Timeframe
from tests.unit.engine.test_features_live import closes, history, part

SYMBOLS = ["BTCUSDT", "1000PEPEUSDT", "币安人生USDT", "YOUNG", "NEVER"]


def some_market() -> LiveFeatures:
    live = LiveFeatures.of(SYMBOLS)
    for track in (live.quarter, live.four_hour):
        timeframe = track.told.timeframe
        track.seed([history(symbol, timeframe, place, 230) for place, symbol in enumerate(SYMBOLS[:3])])
        track.seed([history("YOUNG", timeframe, 9, 20)])
    return live


def assert_same(found: Figures, expected: Figures) -> None:
    assert found.timeframe is expected.timeframe
    for name in ("table", "seen", "newest_ms"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_a_process_that_reads_the_memory_goes_on_as_the_one_that_wrote_it() -> None:
    live = some_market()
    other = memory_of(memory_bytes(live))
    assert other is not None
    for mine, theirs in ((live.quarter, other.quarter), (live.four_hour, other.four_hour)):
        assert theirs.symbols == tuple(SYMBOLS)
        assert_same(theirs.told, mine.told)
        whole = history("YOUNG", mine.told.timeframe, 9, 60)
        for track in (mine, theirs):
            track.close(closes(track, part(whole, 20, 60)))
        assert_same(theirs.told, mine.told)
        assert theirs.unseeded() == ("NEVER",)


def test_what_is_told_reads_back_to_the_bit() -> None:
    told = some_market().told
    again = told_of(told_bytes(told))
    assert again is not None
    assert again.symbols == told.symbols
    assert_same(again.quarter, told.quarter)
    assert_same(again.four_hour, told.four_hour)


def test_an_empty_market_reads_back() -> None:
    live = LiveFeatures.of([])
    again, told = memory_of(memory_bytes(live)), told_of(told_bytes(live.told))
    assert again is not None
    assert told is not None
    assert again.quarter.symbols == told.symbols == ()


@pytest.mark.parametrize("place", range(0, 24, 2))
def test_damaged_torn_or_foreign_bytes_are_not_read(place: int) -> None:
    live = some_market()
    for packed, read in ((memory_bytes(live), memory_of), (told_bytes(live.told), told_of)):
        reader: Callable[[bytes], object] = read
        flipped = bytearray(packed)
        flipped[place] ^= 1
        late = bytearray(packed)
        late[-1 - place] ^= 1
        for wrong in (bytes(flipped), bytes(late), packed[: 20 - place], packed[: -8 * (place + 1)], packed + b"\0" * 8, b""):
            assert reader(wrong) is None
    assert memory_of(told_bytes(live.told)) is None
    assert told_of(memory_bytes(live)) is None


def test_another_versions_bytes_are_not_read() -> None:
    packed = bytearray(memory_bytes(some_market()))
    struct.pack_into("<H", packed, 4, features_bytes.VERSION + 1)
    assert memory_of(bytes(packed)) is None


def test_six_hundred_symbols_are_compact() -> None:
    live = LiveFeatures.of([f"SYMBOL{place}USDT" for place in range(600)])
    assert len(memory_bytes(live)) < 600 * 1_100
    assert len(told_bytes(live.told)) < 600 * 400


def test_bytes_carry_both_timeframes_in_their_order() -> None:
    again = told_of(told_bytes(some_market().told))
    assert again is not None
    assert (again.quarter.timeframe, again.four_hour.timeframe) == (Timeframe.M15, Timeframe.H4)
