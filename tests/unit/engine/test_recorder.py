"""The recording of what the feed saw: whole daily files, nothing twice, nothing beyond its budget, and no disk that stops the feed."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.market import BookTop, Candles, ForcedOrder, Mark, Timeframe
from engine.core.recording import CANDLES, DAY_MS, HISTORY, Kept, Kind, day_name, kept_of, over_budget
from engine.recorder import HALF, HALF_SECONDS, MOST_ROWS, Recorder
from shared.enums import Side

DAY = 20_000 * DAY_MS
"""2024-10-04."""


class _Now:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


def _mark(at_ms: int, price: str = "104387.91234567", symbol: str = "BTCUSDT") -> Mark:
    return Mark(
        symbol=symbol,
        price=Decimal(price),
        at_ms=at_ms,
        funding_rate=Decimal("0.0001"),
        next_funding_ms=DAY + DAY_MS,
        received_ms=0,
    )


def _read(folder: Path, kind: Kind) -> pl.DataFrame:
    return pl.read_parquet(folder / kind / "*.parquet")


def test_what_the_streams_said_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 10, "a", _Now(DAY + 1))
    recorder.marks([_mark(DAY), _mark(DAY, "0.00001234", "PEPEUSDT")])
    recorder.liquidation(
        ForcedOrder(symbol="ETHUSDT", side=Side.LONG, price=Decimal("2500.01"), quantity=Decimal("0.123"), at_ms=DAY + 5)
    )
    recorder.liquidation(
        ForcedOrder(
            symbol="XUSDT", side=Side.SHORT, price=Decimal(2), quantity=Decimal(3), at_ms=DAY + 6, fill_price=Decimal("1.99")
        )
    )
    recorder.book_tops([BookTop(symbol="ETHUSDT", bid=2500.0, bid_quantity=3.5, ask=2500.01, ask_quantity=0.7, at_ms=DAY + 6)])
    ones = np.array([1.5])
    recorder.candles(
        Candles(
            symbol="ETHUSDT",
            timeframe=Timeframe.M15,
            open_ms=np.array([DAY]),
            open=ones,
            high=ones,
            low=ones,
            close=ones,
            volume=ones,
        )
    )
    recorder.write()
    marks = _read(tmp_path, Kind.MARKS)
    assert marks.rows() == [
        (DAY, "BTCUSDT", 104387.91234567, 0.0001, DAY + DAY_MS),
        (DAY, "PEPEUSDT", 0.00001234, 0.0001, DAY + DAY_MS),
    ]
    assert Decimal(repr(marks["mark"][0])) == Decimal("104387.91234567")
    assert _read(tmp_path, Kind.FORCED_ORDERS).rows() == [
        (DAY + 5, "ETHUSDT", "LONG", 2500.01, 0.123, None),
        (DAY + 6, "XUSDT", "SHORT", 2.0, 3.0, 1.99),
    ]
    assert _read(tmp_path, Kind.BOOK_TOPS).rows() == [(DAY + 6, "ETHUSDT", 2500.0, 3.5, 2500.01, 0.7)]
    assert _read(tmp_path, Kind.CANDLES_15M).rows() == [("ETHUSDT", DAY, 1.5, 1.5, 1.5, 1.5, 1.5)]


def test_a_day_that_is_over_becomes_one_file_and_a_row_on_its_border_belongs_to_its_own_day(tmp_path: Path) -> None:
    now = _Now(DAY + 10)
    recorder = Recorder(tmp_path, 10, "a", now)
    recorder.marks([_mark(DAY + 10)])
    recorder.write()
    recorder.marks([_mark(DAY + DAY_MS - 1), _mark(DAY + DAY_MS)])
    now.ms = DAY + DAY_MS + 5
    recorder.write()
    names = sorted(path.name for path in (tmp_path / Kind.MARKS).iterdir())
    assert names[0] == "2024-10-04.parquet"
    assert [name[:11] for name in names[1:]] == ["2024-10-05."]
    assert pl.read_parquet(tmp_path / Kind.MARKS / names[0])["time"].to_list() == [DAY + 10, DAY + DAY_MS - 1]
    assert _read(tmp_path, Kind.MARKS).height == 3


def test_a_day_that_an_older_version_began_is_put_together_with_what_it_did_not_know_yet(tmp_path: Path) -> None:
    now = _Now(DAY)
    recorder = Recorder(tmp_path, 10, "a", now)
    order = ForcedOrder(symbol="XUSDT", side=Side.LONG, price=Decimal(2), quantity=Decimal(3), at_ms=DAY, fill_price=Decimal(1))
    recorder.liquidation(order)
    recorder.write()
    [part] = (tmp_path / Kind.FORCED_ORDERS).iterdir()
    pl.read_parquet(part).drop("fill_price").write_parquet(part)
    recorder.liquidation(msgspec.structs.replace(order, at_ms=DAY + 1))
    now.ms = DAY + DAY_MS
    recorder.write()
    assert [file.name for file in (tmp_path / Kind.FORCED_ORDERS).iterdir()] == ["2024-10-04.parquet"]
    assert _read(tmp_path, Kind.FORCED_ORDERS)["fill_price"].to_list() == [None, 1.0]


def test_a_process_that_died_between_putting_together_and_clearing_up_leaves_no_row_twice(tmp_path: Path) -> None:
    now = _Now(DAY)
    first = Recorder(tmp_path, 10, "a", now)
    first.marks([_mark(DAY)])
    first.write()
    [part] = (tmp_path / Kind.MARKS).iterdir()
    left = part.read_bytes()
    now.ms = DAY + DAY_MS
    first.write()
    part.write_bytes(left)
    (tmp_path / Kind.MARKS / "2024-10-04.torn.writing").write_bytes(b"half")
    second = Recorder(tmp_path, 10, "b", now)
    second.marks([_mark(DAY + 7)])
    second.write()
    whole = pl.read_parquet(tmp_path / Kind.MARKS / "2024-10-04.parquet")
    assert whole["time"].to_list() == [DAY, DAY + 7]
    assert not part.exists()


def test_the_oldest_goes_when_the_budget_is_spent(tmp_path: Path) -> None:
    now = _Now(DAY)
    recorder = Recorder(tmp_path, 0.02, "a", now)
    for day in range(8):
        now.ms = DAY + day * DAY_MS
        recorder.marks([_mark(now.ms + second, f"{100 + second * 7 % 977}.{second:08d}") for second in range(400)])
        recorder.write()
    kept = sorted(path.name[:10] for path in (tmp_path / Kind.MARKS).iterdir())
    assert sum(path.stat().st_size for path in (tmp_path / Kind.MARKS).iterdir()) <= 0.02 * 2**20
    assert kept[-1] == "2024-10-11"
    assert 0 < len(kept) < 8
    assert kept == [f"2024-10-{4 + day:02d}" for day in range(8)][-len(kept) :]


def test_a_day_that_cannot_be_read_does_not_let_the_folder_grow(tmp_path: Path) -> None:
    now = _Now(DAY)
    recorder = Recorder(tmp_path, 0.02, "a", now)
    (tmp_path / Kind.MARKS).mkdir()
    (tmp_path / Kind.MARKS / "2024-10-04.parquet").write_bytes(b"damaged")
    (tmp_path / Kind.MARKS / "2024-10-04.left.parquet").write_bytes(b"damaged")
    now.ms = DAY + DAY_MS
    for part in range(12):
        recorder.marks([_mark(now.ms + part * 400_000 + second, f"{100 + second}.{second:08d}") for second in range(400)])
        recorder.write()
    assert sum(path.stat().st_size for path in (tmp_path / Kind.MARKS).iterdir()) <= 0.02 * 2**20 + 8_000


def test_a_day_that_cannot_be_put_together_keeps_no_other_from_it(tmp_path: Path) -> None:
    now = _Now(DAY)
    recorder = Recorder(tmp_path, 10, "a", now)
    (tmp_path / Kind.MARKS).mkdir()
    damaged = tmp_path / Kind.MARKS / "2024-10-03.left.parquet"
    damaged.write_bytes(b"damaged")
    recorder.marks([_mark(DAY)])
    recorder.write()
    now.ms = DAY + DAY_MS
    recorder.write()
    assert sorted(path.name for path in (tmp_path / Kind.MARKS).iterdir()) == ["2024-10-03.left.parquet", "2024-10-04.parquet"]


def test_what_the_dead_left_half_written_goes_and_what_another_writes_now_stays(tmp_path: Path) -> None:
    (tmp_path / Kind.MARKS).mkdir()
    left, busy = (tmp_path / Kind.MARKS / f"2024-10-04.{writer}{HALF}" for writer in ("dead", "other"))
    for half in (left, busy):
        half.write_bytes(b"half")
    long_ago = time.time() - HALF_SECONDS - 60
    os.utime(left, (long_ago, long_ago))
    Recorder(tmp_path, 10, "a", _Now(DAY)).write()
    assert [path.name for path in (tmp_path / Kind.MARKS).iterdir()] == [busy.name]


def test_two_that_put_the_same_day_together_at_once_leave_it_whole(tmp_path: Path) -> None:
    now = _Now(DAY)
    recorders = [Recorder(tmp_path, 10, writer, now) for writer in "ab"]
    for second in range(40):
        recorders[second % 2].marks([_mark(DAY + second)])
        recorders[second % 2].write()
    now.ms = DAY + DAY_MS
    with ThreadPoolExecutor(2) as both:
        list(both.map(Recorder.write, recorders))
    for recorder in recorders:
        recorder.write()
    assert [path.name for path in (tmp_path / Kind.MARKS).iterdir()] == ["2024-10-04.parquet"]
    assert _read(tmp_path, Kind.MARKS)["time"].to_list() == list(range(DAY, DAY + 40))


def test_of_a_day_parts_go_before_newer_ones() -> None:
    files = [Kept(kind=Kind.MARKS, day="2024-10-04", part=f"{n}", size=10) for n in range(3)]
    assert over_budget(files, 20) == files[:1]
    assert over_budget(files, 30) == []


@given(
    files=st.lists(
        st.builds(
            lambda kind, age, part, size: Kept(kind=kind, day=day_name(DAY - age * DAY_MS), part=part, size=size),
            st.sampled_from(list(Kind)), st.integers(0, 200), st.sampled_from(["", "1", "2"]), st.integers(1, 20),
        ),
        unique_by=lambda file: file.name,
    ),
    budget=st.integers(0, 300),
)  # fmt: skip
def test_what_is_kept_fits_with_no_day_gone_before_an_older_one_and_no_candles_that_it_needs(
    files: list[Kept], budget: int
) -> None:
    going = over_budget(files, budget)
    kept = [file for file in files if file not in going]
    assert sum(file.size for file in kept) <= budget
    assert not going or sum(file.size for file in [*kept, going[-1]]) > budget
    assert going == over_budget(files[::-1], budget)
    for candles in (True, False):
        days = [{date.fromisoformat(file.day) for file in some if (file.kind in CANDLES) is candles} for some in (going, kept)]
        assert not all(days) or max(days[0]) <= min(days[1])
    others = [date.fromisoformat(file.day) for file in kept if file.kind not in CANDLES]
    for file in going:
        if file.kind in CANDLES and others:
            assert min(others) - date.fromisoformat(file.day) > HISTORY


@pytest.mark.parametrize("name", ["2024-10-04.parquet.writing", "notes.txt", "2024-13-04.parquet", "parquet", ".parquet"])
def test_a_file_that_is_not_of_the_recording_is_left_alone(name: str) -> None:
    assert kept_of(Kind.MARKS, name, 1) is None


def test_a_disk_that_cannot_be_written_costs_the_rows_and_not_the_feed(tmp_path: Path) -> None:
    blocked = tmp_path / "recording"
    blocked.write_text("a file where the folder should be")
    recorder = Recorder(blocked, 10, "a", _Now(DAY))
    recorder.marks([_mark(DAY)])
    recorder.write()
    blocked.unlink()
    recorder.marks([_mark(DAY + 1)])
    recorder.write()
    assert _read(blocked, Kind.MARKS)["time"].to_list() == [DAY + 1]


def test_memory_is_bounded_while_nothing_is_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 100, "a", _Now(DAY))
    second = [_mark(DAY, symbol=f"S{n}") for n in range(500)]
    for _ in range(MOST_ROWS // 500 + 3):
        recorder.marks(second)
    recorder.marks([_mark(DAY, symbol="LAST")])
    recorder.write()
    assert _read(tmp_path, Kind.MARKS)["symbol"].n_unique() == 500


def _candles(symbol: str, timeframe: Timeframe, ages: list[int]) -> Candles:
    """Candles that closed so many lengths before the newest that had closed by DAY."""
    ones = np.ones(len(ages))
    opened = np.array([DAY - timeframe.ms * (age + 1) for age in ages])
    return Candles(symbol=symbol, timeframe=timeframe, open_ms=opened, open=ones, high=ones, low=ones, close=ones, volume=ones)


def test_a_folder_lacks_of_each_history_what_reaches_back_to_its_oldest_hole_whether_written_or_waiting(tmp_path: Path) -> None:
    now = _Now(DAY + 60_000)
    recorder = Recorder(tmp_path, 10, "a", now)
    recorder.candles(_candles("WHOLEUSDT", Timeframe.M15, list(range(120))))
    recorder.candles(_candles("WHOLEUSDT", Timeframe.H4, list(range(100))))
    recorder.candles(_candles("HOLEUSDT", Timeframe.M15, [*range(7), *range(9, 100)]))
    recorder.candles(_candles("HOLEUSDT", Timeframe.H4, [*range(1, 100), 99]))
    recorder.write()
    recorder.candles(_candles("YOUNGUSDT", Timeframe.M15, [0, 1, 2]))
    lacks = recorder.lacking(["WHOLEUSDT", "HOLEUSDT", "YOUNGUSDT"], 100)
    assert {(lack.symbol, lack.timeframe): lack.count for lack in lacks} == {
        ("HOLEUSDT", Timeframe.M15): 9,
        ("HOLEUSDT", Timeframe.H4): 1,
        ("YOUNGUSDT", Timeframe.M15): 100,
        ("YOUNGUSDT", Timeframe.H4): 100,
    }


def test_of_a_disk_that_cannot_be_written_nothing_is_said_to_be_lacking(tmp_path: Path) -> None:
    blocked = tmp_path / "recording"
    blocked.write_text("a file where the folder should be")
    recorder = Recorder(blocked, 10, "a", _Now(DAY))
    recorder.marks([_mark(DAY)])
    assert recorder.lacking(["BTCUSDT"], 100) == []
