"""POST /marks: never anything before `since`, nothing lost between two looks, one missing symbol alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from engine.analysis import Sources, look
from engine.core.market import Funding, at, ms_of
from shared.analysis import MarksReply, MarksRequest, SymbolMarks
from tests.unit.engine.execution_desk import NOW, StandingClock
from tests.unit.engine.market_world import MINUTE, NOW_MS, Kept, World, bar, mark

HALF = timedelta(seconds=30)


class Look:
    """A market whose clock stands at 12:00:30, marks fresh by request."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.clock.market = NOW + HALF
        self.world, self.kept = World(self.clock), Kept()
        self.world.mark_of["X"] = mark("X", "100", at_ms=NOW_MS + 30_000)
        self.world.bars_of["X"] = [bar(NOW_MS - back * MINUTE) for back in range(60, -1, -1)]

    async def at(self, **since_ms: int) -> MarksReply:
        sources = Sources(market=self.world, snapshots=self.kept, clock=self.clock)
        return await look(MarksRequest(since={symbol: at(ms) for symbol, ms in since_ms.items()}), sources)

    async def one(self, since_ms: int) -> SymbolMarks:
        return (await self.at(X=since_ms)).marks["X"]


async def test_bars_begin_with_the_first_whole_minute_after_since_and_end_with_the_live_mark() -> None:
    found = await Look().one(NOW_MS - 3 * MINUTE + 1)
    assert [(bar.from_, bar.to) for bar in found.bars] == [
        (at(NOW_MS - 2 * MINUTE), at(NOW_MS - MINUTE)),
        (at(NOW_MS - MINUTE), at(NOW_MS)),
        (at(NOW_MS), at(NOW_MS + 30_000)),
        (at(NOW_MS + 30_000), at(NOW_MS + 30_000)),
    ]
    assert found.bars[-1].high == found.bars[-1].low == Decimal(100)


async def test_the_minute_that_holds_since_is_left_out_since_it_would_reach_before_it() -> None:
    found = await Look().one(NOW_MS + 10_000)
    assert [bar.from_ for bar in found.bars] == [at(NOW_MS + 30_000)]
    assert found.since == at(NOW_MS + 10_000)


async def test_the_next_look_starts_at_the_open_minute_so_that_no_moment_is_lost() -> None:
    world = Look()
    world.world.fundings_of["X"] = [Funding(at_ms=NOW_MS, rate=Decimal(0), mark=Decimal(100))]
    first = await world.one(NOW_MS - 5 * MINUTE)
    assert first.since == at(NOW_MS)
    world.clock.market = NOW + timedelta(minutes=2, seconds=5)
    world.world.bars_of["X"] += [bar(NOW_MS + MINUTE), bar(NOW_MS + 2 * MINUTE)]
    world.world.mark_of["X"] = mark("X", "100", at_ms=ms_of(world.clock.market))
    second = await world.one(ms_of(first.since))
    assert [bar.from_ for bar in second.bars][:3] == [at(NOW_MS), at(NOW_MS + MINUTE), at(NOW_MS + 2 * MINUTE)]


async def test_a_mark_older_than_the_newest_bar_is_not_told_after_it() -> None:
    world = Look()
    world.world.mark_of["X"] = mark("X", "100", at_ms=NOW_MS - 1)
    found = await world.one(NOW_MS - 2 * MINUTE)
    assert [bar.from_ for bar in found.bars] == sorted(bar.from_ for bar in found.bars)
    assert found.bars[-1].from_ == at(NOW_MS)


async def test_one_missing_symbol_never_affects_another() -> None:
    world = Look()
    world.world.mark_of["Y"] = mark("Y")
    world.world.broken.add("Y")
    found = await world.at(X=NOW_MS - MINUTE, Y=NOW_MS - MINUTE, Z=NOW_MS - MINUTE)
    assert set(found.marks) == {"X"}
    assert set(found.missing) == {"Y", "Z"}


async def test_a_symbol_that_is_slow_is_missing_and_never_delays_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.analysis.marks.LOOK_SECONDS", 0.1)
    world = Look()
    world.world.mark_of["SLOW"] = mark("SLOW", at_ms=NOW_MS)
    world.world.slow.add("SLOW")
    found = await asyncio.wait_for(world.at(X=NOW_MS - MINUTE, SLOW=NOW_MS - MINUTE), 5)
    assert set(found.marks) == {"X"}
    assert set(found.missing) == {"SLOW"}


async def test_a_fresh_mark_of_the_feed_saves_the_request_and_an_old_one_does_not() -> None:
    world = Look()
    world.kept.mark_of["X"] = mark("X", "101", at_ms=NOW_MS + 29_000)
    assert (await world.one(NOW_MS)).mark == Decimal(101)
    assert "mark" not in world.world.asked
    world.clock.pass_wall(timedelta(seconds=6))
    assert (await world.one(NOW_MS)).mark == Decimal(100)


async def test_a_feed_that_market_time_has_outrun_is_not_believed() -> None:
    world = Look()
    world.kept.mark_of["X"] = mark("X", "101", at_ms=NOW_MS - MINUTE)
    assert (await world.one(NOW_MS)).mark == Decimal(100)


async def test_without_redis_the_marks_come_by_request() -> None:
    world = Look()
    world.kept.down = True
    assert (await world.one(NOW_MS)).mark == Decimal(100)


async def test_many_symbols_share_one_request_for_their_marks() -> None:
    world = Look()
    names = [f"S{place}" for place in range(12)]
    world.world.mark_of.update({name: mark(name, at_ms=NOW_MS + 30_000) for name in names})
    found = await world.at(**dict.fromkeys(names, NOW_MS))
    assert len(found.marks) == 12
    assert world.world.asked.count("marks") == 1
    assert "mark" not in world.world.asked


async def test_funding_between_two_looks_is_told_once_with_the_mark_it_was_paid_at() -> None:
    world = Look()
    world.clock.market = NOW + timedelta(minutes=5)
    world.world.mark_of["X"] = mark("X", "100", at_ms=NOW_MS + 5 * MINUTE)
    world.world.fundings_of["X"] = [
        Funding(at_ms=NOW_MS - 8 * 60 * MINUTE, rate=Decimal("0.0003"), mark=Decimal(90)),
        Funding(at_ms=NOW_MS + 5, rate=Decimal("0.0001"), mark=Decimal("99.5")),
    ]
    first = await world.one(NOW_MS - MINUTE)
    assert [(event.at, event.rate, event.mark) for event in first.funding] == [
        (at(NOW_MS + 5), Decimal("0.0001"), Decimal("99.5"))
    ]
    assert (await world.one(ms_of(first.since))).funding == []


async def test_a_settlement_without_a_recorded_mark_is_paid_at_the_opening_of_its_minute() -> None:
    world = Look()
    world.world.fundings_of["X"] = [Funding(at_ms=NOW_MS + 5, rate=Decimal("0.0001"), mark=None)]
    assert (await world.one(NOW_MS - MINUTE)).funding[0].mark == Decimal(100)


async def test_within_an_hour_nobody_asks_for_funding() -> None:
    world = Look()
    world.clock.market = NOW + timedelta(minutes=9)
    await world.one(NOW_MS + 2 * MINUTE)
    assert "fundings" not in world.world.asked


async def test_a_settlement_that_is_published_late_is_not_lost() -> None:
    world = Look()
    first = await world.one(NOW_MS - 30 * MINUTE)
    assert first.funding == []
    assert first.since < at(NOW_MS)
    world.world.fundings_of["X"] = [Funding(at_ms=NOW_MS + 3, rate=Decimal("0.0001"), mark=Decimal(100))]
    world.clock.market = NOW + timedelta(seconds=50)
    second = await world.one(ms_of(first.since))
    assert [event.at for event in second.funding] == [at(NOW_MS + 3)]
    assert second.since == at(NOW_MS)


async def test_a_since_in_the_future_is_handed_back() -> None:
    found = await Look().one(NOW_MS + 10 * MINUTE)
    assert (found.bars, found.since) == ([], at(NOW_MS + 10 * MINUTE))


async def test_the_last_moment_that_a_calendar_knows_is_handed_back_too() -> None:
    world = Look()
    sources = Sources(market=world.world, snapshots=world.kept, clock=world.clock)
    end = datetime.max.replace(tzinfo=UTC)
    found = await look(MarksRequest(since={"X": end}), sources)
    assert (found.marks["X"].bars, found.marks["X"].since) == ([], end)
