"""Loops of the worker: rounds follow each other whatever one of them meets, and stop when told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from orchestrator.errors import Conflict, EngineUnavailable, LeaseLost, StoreUnavailable
from orchestrator.log import TRACE_ID
from orchestrator.loops import LONGEST_PAUSE_SECONDS, Loop, backoff, one_at_a_time, pause, repeat
from orchestrator.metrics import Metrics
from orchestrator.ports import Lease
from orchestrator.trading.scan import ScanOutcome, ScanResult, last_close
from orchestrator.worker import CloseFeed, Scans, hear_closes, settling


class Watcher:
    def __init__(self) -> None:
        self.well = 0
        self.wrong = 0

    def went_well(self, loop: str, seconds: float) -> None:
        self.well += 1

    def went_wrong(self, loop: str) -> None:
        self.wrong += 1


class Rounds:
    """Work that meets the given troubles first, then goes well, and stops its loop after `count` rounds."""

    def __init__(self, stop: asyncio.Event, count: int, *troubles: Exception) -> None:
        self.stop = stop
        self.left = count
        self.troubles = list(troubles)
        self.traces: list[str] = []

    async def run(self) -> None:
        self.traces.append(TRACE_ID.get())
        self.left -= 1
        if self.left == 0:
            self.stop.set()
        if self.troubles:
            raise self.troubles.pop(0)


class FakeMutex:
    """Free, taken, or without Redis."""

    def __init__(self, *, taken: bool = False, away: bool = False) -> None:
        self.taken = taken
        self.away = away

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[Lease | None]:
        if self.away:
            raise StoreUnavailable("redis: ConnectionError")
        yield None if self.taken else FakeLease()


class FakeLease:
    async def extend(self) -> None: ...


class FakeJobs:
    def __init__(self) -> None:
        self.closes: list[datetime] = []
        self.away = False

    async def enqueue_scan_of(self, candle_close: datetime) -> str:
        if self.away:
            raise StoreUnavailable("redis: ConnectionError")
        self.closes.append(candle_close)
        return ""


class FakeClock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def wall(self) -> datetime:
        return self.at


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2025, 9, 22, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    "trouble", [EngineUnavailable("away"), StoreUnavailable("away"), Conflict("moved"), LeaseLost("late"), KeyError("a mistake")]
)
async def test_a_round_that_fails_is_followed_by_the_next(trouble: Exception) -> None:
    stop, watcher = asyncio.Event(), Watcher()
    rounds = Rounds(stop, 2, trouble)
    await asyncio.wait_for(repeat(Loop(name="watch", every_seconds=0, run=rounds.run), stop, watcher), 5)
    assert (watcher.well, watcher.wrong) == (1, 1)


async def test_each_round_has_a_trace_id_of_its_own() -> None:
    stop = asyncio.Event()
    rounds = Rounds(stop, 3)
    await asyncio.wait_for(repeat(Loop(name="watch", every_seconds=0, run=rounds.run), stop, Watcher()), 5)
    assert len({trace for trace in rounds.traces if trace}) == 3


async def test_a_pause_ends_when_the_worker_is_told_to_stop() -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(pause(stop, 60))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(waiting, 1)


def test_pauses_grow_and_stay_short() -> None:
    pauses = [backoff(failures) for failures in range(1, 2000, 7)]
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize(("mutex", "runs"), [(FakeMutex(), 1), (FakeMutex(taken=True), 0), (FakeMutex(away=True), 1)])
async def test_a_round_is_left_to_the_worker_that_is_at_it_and_never_to_a_redis_that_is_away(mutex: FakeMutex, runs: int) -> None:
    rounds = Rounds(asyncio.Event(), 9)
    await one_at_a_time(mutex, "watch", rounds.run)
    assert len(rounds.traces) == runs


async def test_what_the_work_itself_says_of_the_store_is_not_taken_for_a_missing_lease() -> None:
    rounds = Rounds(asyncio.Event(), 9, StoreUnavailable("postgresql: OperationalError"))
    with pytest.raises(StoreUnavailable, match="postgresql"):
        await one_at_a_time(FakeMutex(), "watch", rounds.run)
    assert len(rounds.traces) == 1


@pytest.mark.parametrize(
    ("now", "close"),
    [(at(6, 0), at(6, 0)), (at(6, 14, 59), at(6, 0)), (at(6, 15), at(6, 15)), (at(0, 3), at(0, 0))],
)
def test_the_last_close_is_the_quarter_that_has_passed(now: datetime, close: datetime) -> None:
    assert last_close(now) == close


async def test_each_close_is_asked_for_once_a_little_after_it_and_missed_ones_are_not_made_up() -> None:
    clock, jobs = FakeClock(at(6, 15)), FakeJobs()
    feed = CloseFeed(clock, jobs)
    for moment in (at(6, 15), at(6, 15, 1), at(6, 15, 2), at(6, 15, 3), at(7, 2), at(7, 2, 1)):
        clock.at = moment
        await feed.run()
    assert jobs.closes == [at(6, 0), at(6, 15), at(7, 0)]


async def test_a_close_that_could_not_be_queued_is_asked_for_again() -> None:
    jobs = FakeJobs()
    feed = CloseFeed(FakeClock(at(6, 20)), jobs)
    jobs.away = True
    with pytest.raises(StoreUnavailable):
        await feed.run()
    jobs.away = False
    await feed.run()
    assert jobs.closes == [at(6, 15)]


async def test_a_close_that_the_feed_tells_is_asked_for_at_once_and_the_clock_does_not_ask_for_it_again() -> None:
    clock, jobs = FakeClock(at(6, 15, 0)), FakeJobs()
    feed = CloseFeed(clock, jobs)
    await feed.run()
    await feed.hear(at(6, 15))
    for moment in (at(6, 15, 1), at(6, 15, 2), at(6, 20)):
        clock.at = moment
        await feed.run()
        await feed.hear(at(6, 15))
    assert jobs.closes == [at(6, 0), at(6, 15)]


@pytest.mark.parametrize(
    ("now", "told", "asked"),
    [
        (at(6, 14, 59), at(6, 15), [at(6, 15)]),
        (at(6, 14, 57), at(6, 15), []),
        (at(6, 40), at(6, 15), []),
        (at(6, 40), at(23, 15), []),
    ],
)
async def test_only_the_newest_close_is_taken_from_the_feed_by_a_clock_that_may_be_a_little_behind(
    now: datetime, told: datetime, asked: list[datetime]
) -> None:
    jobs = FakeJobs()
    await CloseFeed(FakeClock(now), jobs).hear(told)
    assert jobs.closes == asked


@pytest.mark.parametrize(("speed", "seconds"), [(1, 2), (4, 2), (60, 30), (450, 225), (100_000, 225)])
async def test_where_market_time_runs_fast_the_clock_leaves_a_close_to_the_feed_for_half_a_second_or_a_quarter_of_it(
    speed: float, seconds: int
) -> None:
    clock, jobs = FakeClock(at(6, 15)), FakeJobs()
    feed = CloseFeed(clock, jobs, settling(speed))
    for after in (seconds - 1, seconds):
        clock.at = at(6, 15) + timedelta(seconds=after)
        await feed.run()
    assert jobs.closes == [at(6, 0), at(6, 15)]


class ToldCloses:
    """Tells closes, then nothing more."""

    def __init__(self, *closes: datetime) -> None:
        self.closes = closes

    async def listen(self) -> AsyncIterator[datetime]:
        for close in self.closes:
            yield close
        await asyncio.Event().wait()


async def test_a_close_that_is_heard_while_the_queue_is_away_is_asked_for_by_the_clock_and_hearing_goes_on_until_the_end() -> (
    None
):
    clock, jobs, stop = FakeClock(at(6, 15)), FakeJobs(), asyncio.Event()
    feed = CloseFeed(clock, jobs)
    jobs.away = True
    hearing = asyncio.create_task(hear_closes(ToldCloses(at(6, 15)), feed, stop))
    await asyncio.sleep(0.01)
    assert not hearing.done()
    jobs.away = False
    clock.at = at(6, 15, 2)
    await feed.run()
    assert jobs.closes == [at(6, 15)]
    stop.set()
    await asyncio.wait_for(hearing, 1)


class _Jobs:
    def __init__(self) -> None:
        self.closes: list[datetime] = []

    async def done(self, candle_close: datetime) -> bool:
        return candle_close in self.closes

    async def mark_done(self, candle_close: datetime) -> None:
        self.closes.append(candle_close)


class _Scan:
    async def run(self, candle_close: datetime | None = None, scanned: _Jobs | None = None) -> ScanResult:
        assert candle_close is not None
        assert scanned is not None
        await scanned.mark_done(candle_close)
        return ScanResult(outcome=ScanOutcome.DONE)


class _BusyScan(_Scan):
    """Another scan runs for the first two looks."""

    def __init__(self) -> None:
        self.looks = 0

    async def run(self, candle_close: datetime | None = None, scanned: _Jobs | None = None) -> ScanResult:
        self.looks += 1
        if self.looks <= 2:
            return ScanResult(outcome=ScanOutcome.ANOTHER_RUNS)
        return await super().run(candle_close, scanned)


async def test_a_close_that_meets_a_running_scan_is_scanned_soon_after_its_end() -> None:
    jobs = _Jobs()
    scans = Scans(cast("Any", _BusyScan()), FakeClock(at(12, 15, 3)), cast("Any", jobs), Metrics(), asyncio.Event())
    async with asyncio.timeout(0.45):
        await scans.job({}, at(12, 15).isoformat())
    assert jobs.closes == [at(12, 15)]


async def test_a_late_job_leaves_a_candle_that_is_still_being_written_to_its_own_job() -> None:
    """One second after 12:15 the exchange still writes that candle: the job of 12:00 scans 12:00; two seconds after, 12:15."""
    clock, jobs = FakeClock(at(12, 15, 1)), _Jobs()
    scans = Scans(cast("Any", _Scan()), clock, cast("Any", jobs), Metrics(), asyncio.Event())
    await scans.job({}, at(12, 0).isoformat())
    clock.at = at(12, 15, 2)
    await scans.job({}, at(12, 0).isoformat())
    assert jobs.closes == [at(12, 0), at(12, 15)]
