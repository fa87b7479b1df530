"""POST /marks with the feed up: the part of a minute after `since` is told second by second, a gap never as if it were none."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.analysis import Sources, look
from engine.core.market import Funding, Mark, MarkBar, at, ms_of
from engine.core.ticks import Tick
from shared.analysis import Bar, MarksRequest, SymbolMarks
from tests.unit.engine.execution_desk import StandingClock
from tests.unit.engine.market_world import MINUTE, NOW_MS, Kept, World, mark

SECOND = 1_000


def tick(at_ms: int, price: str = "100") -> Tick:
    return Tick(at_ms=at_ms, price=Decimal(price))


def seconds(first_ms: int, last_ms: int, **odd: str) -> list[Tick]:
    """A tick each second, at 100; `odd` prices by second after NOW, as s30="90"."""
    prices = {int(name[1:]) * SECOND + NOW_MS: price for name, price in odd.items()}
    return [tick(at_ms, prices.get(at_ms, "100")) for at_ms in range(first_ms, last_ms + 1, SECOND)]


def klines(path: Sequence[Tick]) -> list[MarkBar]:
    """What the exchange's 1m klines say of a path."""
    minutes: dict[int, list[Decimal]] = {}
    for one in path:
        minutes.setdefault(one.at_ms // MINUTE * MINUTE, []).append(one.price)
    return [
        MarkBar(open_ms=opened, close_ms=opened + MINUTE, open=prices[0], high=max(prices), low=min(prices))
        for opened, prices in minutes.items()
    ]


class Market:
    """One symbol's true path, of which the feed heard all but what falls within its gaps, with a lag; each look sets the clock."""

    def __init__(self, path: Sequence[Tick], gaps: Sequence[tuple[int, int]] = ()) -> None:
        self.path, self.gaps, self.lag_ms, self.mark_lag_ms = path, gaps, 0, 0
        self.clock = StandingClock()
        self.world, self.kept = World(self.clock), Kept()

    async def look(self, since_ms: int, now_ms: int) -> SymbolMarks:
        self.clock.market = at(now_ms)
        past = [one for one in self.path if one.at_ms <= now_ms]
        self.world.bars_of["X"] = klines(past)
        known = [one for one in past if one.at_ms <= now_ms - self.mark_lag_ms] or past
        self.world.mark_of["X"] = mark("X", str(known[-1].price), at_ms=known[-1].at_ms)
        self.kept.ticks_of["X"] = [
            one
            for one in past
            if one.at_ms <= now_ms - self.lag_ms and not any(start <= one.at_ms < end for start, end in self.gaps)
        ]
        sources = Sources(market=self.world, snapshots=self.kept, clock=self.clock)
        return (await look(MarksRequest(since={"X": at(since_ms)}), sources)).marks["X"]


def lows(bars: Sequence[Bar]) -> Decimal:
    return min(bar.low for bar in bars)


async def test_a_touch_between_two_looks_of_the_minute_in_which_a_position_opened_is_seen() -> None:
    market = Market(seconds(NOW_MS - 5 * SECOND, NOW_MS + 50 * SECOND, s33="90"))
    found = await market.look(NOW_MS + 10_500, NOW_MS + 40_000)
    assert [(bar.from_, bar.to, bar.low) for bar in found.bars if bar.low < 100] == [
        (at(NOW_MS + 33_000), at(NOW_MS + 33_000), Decimal(90))
    ]
    assert found.since == at(NOW_MS + 10_500)


async def test_nothing_before_since_is_told_however_deep_it_went() -> None:
    market = Market(seconds(NOW_MS - 5 * SECOND, NOW_MS + 50 * SECOND, s9="50", s10="60"))
    found = await market.look(NOW_MS + 10_001, NOW_MS + 40_000)
    assert found.bars[0].from_ == at(NOW_MS + 11_000)
    assert lows(found.bars) == 100


async def test_the_end_of_the_part_minute_is_seen_by_a_look_that_comes_in_the_next_minute() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 90 * SECOND, s58="90"))
    found = await market.look(NOW_MS + 10_500, NOW_MS + 65_000)
    assert lows(found.bars) == 90
    assert found.since == at(NOW_MS + MINUTE)


async def test_a_tick_that_is_still_on_its_way_at_the_end_of_the_part_minute_is_waited_for() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 90 * SECOND, s59="90"))
    market.gaps = [(NOW_MS + 59 * SECOND, NOW_MS + 90 * SECOND)]
    early = await market.look(NOW_MS + 10_500, NOW_MS + 60_400)
    assert early.since == at(NOW_MS + 10_500)
    market.gaps = []
    found = await market.look(ms_of(early.since), NOW_MS + 61_400)
    assert lows(found.bars) == 90
    assert found.since == at(NOW_MS + MINUTE)


async def test_a_feed_that_died_is_not_waited_for() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 90 * SECOND))
    market.gaps = [(NOW_MS + 50 * SECOND, NOW_MS + 200 * SECOND)]
    found = await market.look(NOW_MS + 10_500, NOW_MS + 75_000)
    assert found.since == at(NOW_MS + MINUTE)
    assert at(NOW_MS + MINUTE) in [bar.from_ for bar in found.bars]


async def test_a_minute_that_was_heard_whole_is_told_by_its_ticks_in_the_order_of_their_touches() -> None:
    market = Market(seconds(NOW_MS - SECOND, NOW_MS + 70 * SECOND, s20="110", s40="90"))
    found = await market.look(NOW_MS, NOW_MS + 65_000)
    assert [bar.high for bar in found.bars if bar.high != 100] == [Decimal(110), Decimal(90)]
    assert all(bar.from_ == bar.to for bar in found.bars)
    assert "mark_bars" not in market.world.asked


async def test_a_minute_with_a_gap_is_told_by_its_kline_which_knows_what_the_feed_missed() -> None:
    market = Market(seconds(NOW_MS - SECOND, NOW_MS + 150 * SECOND, s30="90"), [(NOW_MS + 30 * SECOND, NOW_MS + 31 * SECOND)])
    found = await market.look(NOW_MS, NOW_MS + 125_000)
    first = found.bars[0]
    assert (first.from_, first.to, first.low) == (at(NOW_MS), at(NOW_MS + MINUTE), Decimal(90))
    assert [bar.from_ for bar in found.bars[1:]] == [at(NOW_MS + second * SECOND) for second in range(60, 126)]


async def test_in_the_part_minute_what_was_heard_around_a_gap_is_told_and_what_was_not_is_not_made_up() -> None:
    path = seconds(NOW_MS, NOW_MS + 50 * SECOND, s20="95", s30="50", s40="90")
    market = Market(path, [(NOW_MS + 25 * SECOND, NOW_MS + 35 * SECOND)])
    found = await market.look(NOW_MS + 10_000, NOW_MS + 45_000)
    assert [bar.low for bar in found.bars if bar.low != 100] == [Decimal(95), Decimal(90)]


async def test_before_the_reach_of_the_ticks_klines_are_told() -> None:
    market = Market(seconds(NOW_MS - 20 * MINUTE, NOW_MS + 50 * SECOND))
    found = await market.look(NOW_MS - 10 * MINUTE, NOW_MS + 30_000)
    whole = [bar.from_ for bar in found.bars if bar.to > bar.from_]
    assert whole == [at(NOW_MS - back * MINUTE) for back in range(10, 2, -1)]
    assert [bar.from_ for bar in found.bars] == sorted(bar.from_ for bar in found.bars)
    assert len({bar.from_ for bar in found.bars}) == len(found.bars)


async def test_without_redis_the_minutes_are_told_as_klines() -> None:
    market = Market(seconds(NOW_MS - 5 * MINUTE, NOW_MS + 50 * SECOND, s20="90"))
    market.kept.down = True
    found = await market.look(NOW_MS - 2 * MINUTE, NOW_MS + 30_000)
    assert [bar.from_ for bar in found.bars] == [
        *(at(NOW_MS - back * MINUTE) for back in (2, 1, 0)),
        at(NOW_MS + 30_000),
    ]
    assert lows(found.bars) == 90


class Together(Kept):
    """Answers for marks only once it was asked for ticks as well."""

    def __init__(self) -> None:
        super().__init__()
        self.both = asyncio.Event()

    async def marks(self) -> Mapping[str, Mark]:
        await self.both.wait()
        return await super().marks()

    async def ticks(self, since_ms: Mapping[str, int]) -> Mapping[str, Sequence[Tick]]:
        self.both.set()
        return await super().ticks(since_ms)


async def test_marks_and_ticks_are_asked_side_by_side_so_that_a_redis_that_hangs_costs_one_wait() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 50 * SECOND))
    market.kept = Together()
    assert (await asyncio.wait_for(market.look(NOW_MS + 10_000, NOW_MS + 30_000), 5)).mark == 100


async def test_where_market_time_outruns_the_stream_klines_tell_everything() -> None:
    path = seconds(NOW_MS - 30 * MINUTE, NOW_MS + 30 * SECOND)
    market = Market(path, [(one.at_ms, one.at_ms + SECOND) for one in path if one.at_ms % (7 * MINUTE)])
    found = await market.look(NOW_MS - 10 * MINUTE, NOW_MS + 30_000)
    assert [bar.from_ for bar in found.bars[:-1]] == [at(NOW_MS - back * MINUTE) for back in range(10, -1, -1)]


async def test_a_settlement_in_a_minute_of_ticks_is_paid_at_the_first_of_them() -> None:
    market = Market(seconds(NOW_MS - 90 * SECOND, NOW_MS + 90 * SECOND, s0="101", s1="102"))
    market.world.fundings_of["X"] = [Funding(at_ms=NOW_MS, rate=Decimal("0.0001"), mark=None)]
    found = await market.look(NOW_MS - MINUTE, NOW_MS + 65_000)
    assert [event.mark for event in found.funding] == [Decimal(101)]


async def test_a_live_mark_newer_than_the_ticks_is_told_after_them_and_the_same_one_not_twice() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 30 * SECOND))
    same = await market.look(NOW_MS + 10_000, NOW_MS + 30_000)
    assert [bar.from_ for bar in same.bars][-2:] == [at(NOW_MS + 29_000), at(NOW_MS + 30_000)]
    market.gaps = [(NOW_MS + 30 * SECOND, NOW_MS + 31 * SECOND)]
    newer = await market.look(NOW_MS + 10_000, NOW_MS + 30_000)
    assert [bar.from_ for bar in newer.bars][-2:] == [at(NOW_MS + 29_000), at(NOW_MS + 30_000)]


BOUNDARY = st.tuples(st.just(1), st.integers(0, 2_600))
ANYWHERE = st.tuples(st.just(0), st.integers(200, 70_000))
SPIKE = st.tuples(st.integers(0, 4), st.integers(-3, 2), st.sampled_from([-500, 500]))


def moved(now_ms: int, pause: tuple[int, int]) -> int:
    """Some time later, or just after the next minute begins, where a tick of the last one may still be on its way."""
    to_boundary, ms = pause
    return (now_ms // MINUTE + 1) * MINUTE + ms if to_boundary else now_ms + ms


def spiked(spikes: Sequence[tuple[int, int, int]], jitter: int, length: int) -> list[Tick]:
    """A tick about each second for so many seconds, each at a price of its own, with spikes around the turns of minutes."""
    heights = {minute * 60 + second: height for minute, second, height in spikes}
    return [
        tick(NOW_MS + place * SECOND + (jitter if place % 2 else 0), str(1_000 + place % 7 + heights.get(place, 0)))
        for place in range(length)
    ]


@settings(max_examples=200, deadline=None)
@given(
    spikes=st.lists(SPIKE, max_size=6),
    jitter=st.integers(0, 400),
    opened=st.integers(0, 100_000) | st.just(MINUTE),
    pauses=st.lists(BOUNDARY | ANYWHERE, min_size=1, max_size=8),
    gap=st.tuples(st.integers(0, 300), st.integers(0, 40)),
    lag_ms=st.integers(0, 2_500),
)
async def test_successive_looks_judge_exactly_the_extremes_of_the_path_after_since(
    spikes: list[tuple[int, int, int]], jitter: int, opened: int, pauses: list[tuple[int, int]], gap: tuple[int, int], lag_ms: int
) -> None:
    path = spiked(spikes, jitter, 320)
    since_ms = first_ms = NOW_MS + opened
    end_of_part = -(-first_ms // MINUTE) * MINUTE
    gap_ms = max(end_of_part + SECOND, NOW_MS + gap[0] * SECOND)
    market = Market(path, [(gap_ms, gap_ms + gap[1] * SECOND)])
    now_ms, seen = first_ms, set[Bar]()
    for pause, market.lag_ms in [*((pause, lag_ms) for pause in pauses), ((0, 0), 0)]:
        now_ms = max(first_ms, min(moved(now_ms, pause), path[-1].at_ms))
        found = await market.look(since_ms, now_ms)
        seen.update(found.bars)
        assert all(bar.from_ >= at(since_ms) for bar in found.bars)
        assert [bar.from_ for bar in found.bars] == sorted(bar.from_ for bar in found.bars)
        since_ms = ms_of(found.since)
    past = [one.price for one in path if first_ms <= one.at_ms <= now_ms]
    told = [price for bar in seen for price in (bar.high, bar.low)]
    assert (max(told, default=None), min(told, default=None)) == (max(past, default=None), min(past, default=None))
