"""The feed's snapshots in a real Redis: what is written is read, what is odd is as if absent, and Redis may go and come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from deploy.servers import EmbeddedRedis, free_port
from engine.core.features_bytes import memory_bytes, told_bytes
from engine.core.features_live import LiveFeatures
from engine.core.large_trades import TradeFlow
from engine.core.market import ForcedOrder, Mark, Ticker, Timeframe
from engine.core.ticks import MOST_FRAMES, Tick, TickFrame
from engine.errors import SnapshotsUnavailable
from engine.feed import Feed, keep_writing
from engine.ports import FeedState, FiguresState, TradeWindows
from engine.snapshots import FIGURES, LIQUIDATIONS, MEMORY, TICKERS, TICKS, WANTED_TRADES, RedisSnapshots, connect
from shared.enums import Side
from tests.polling import eventually
from tests.unit.engine.execution_desk import StandingClock
from tests.unit.engine.market_world import dip

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("redis")]

TICKER = Ticker(symbol="币安人生USDT", last=1.5, change_percent=-3.25, quote_volume=4e7, received_ms=1)
MARK = Mark(
    symbol="XUSDT", price=Decimal("0.00000123"), at_ms=1, funding_rate=Decimal("-0.0001"), next_funding_ms=2, received_ms=3
)
ORDER = ForcedOrder(symbol="XUSDT", side=Side.SHORT, price=Decimal("1.5"), quantity=Decimal(7), at_ms=1)
STATE = FeedState(beat_ms=5, tickers_ms=4, connected=True, reconnects=2)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def test_what_the_feed_writes_is_what_the_app_reads(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    await snapshots.write(STATE, tickers=[TICKER], marks=[MARK], liquidations=[ORDER])
    assert await snapshots.tickers() == {TICKER.symbol: TICKER}
    assert await snapshots.marks() == {"XUSDT": MARK}
    assert await snapshots.liquidations() == [ORDER]
    assert await snapshots.state() == STATE


async def test_windows_of_large_trades_and_the_wish_for_them_are_read_as_written(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    assert (await snapshots.large_trades(), await snapshots.wanted_trades()) == (None, [])
    flow = TradeFlow(symbol="币安人生USDT", bought_usd=60_000.5, sold_usd=0.0, trades=1, since_ms=3)
    windows = TradeWindows(beat_ms=7, connected=True, flows=(flow,))
    await snapshots.write_large_trades(windows)
    assert await snapshots.large_trades() == windows
    await snapshots.want_trades(["XUSDT"])
    await snapshots.want_trades(["币安人生USDT"])
    await snapshots.want_trades([])
    assert await snapshots.wanted_trades() == ["币安人生USDT", "XUSDT"]
    await redis.zadd(WANTED_TRADES, {"OLDUSDT": 1.0})
    assert "OLDUSDT" not in await snapshots.wanted_trades()
    await snapshots.want_trades(["XUSDT"])
    assert await redis.zcard(WANTED_TRADES) == 2


async def test_figures_memory_and_their_account_are_read_as_written_and_odd_bytes_are_as_if_absent(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    assert (await snapshots.figures(), await snapshots.memory(), await snapshots.figures_state()) == (None, None, None)
    live, account = LiveFeatures.of(["DIPUSDT"]), FiguresState(leader="one", written_ms=1, market_ms=2, skew_ms=-3, stale=("X",))
    quarter, four_hour = dip("DIPUSDT")
    live.quarter.seed([quarter])
    live.four_hour.seed([four_hour])
    await snapshots.write_figures(told_bytes(live.told), memory_bytes(live), account)
    live.quarter.forget("DIPUSDT")
    await snapshots.write_figures(told_bytes(live.told))
    told, memory = await snapshots.figures(), await snapshots.memory()
    assert told is not None
    assert memory is not None
    assert await snapshots.figures_state() == account
    assert (told.quarter.seen[0], told.four_hour.seen[0]) == (0, len(four_hour))
    assert memory.quarter.told.newest_ms[0] + Timeframe.M15.ms == quarter.closed_ms
    for key in (FIGURES, MEMORY):
        assert 0 < await redis.ttl(key) <= 3600
        await redis.set(key, b"odd")
    assert (await snapshots.figures(), await snapshots.memory()) == (None, None)


async def test_a_part_that_is_not_written_stays_as_it_was(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    await snapshots.write(STATE, tickers=[TICKER])
    await snapshots.write(STATE, marks=[MARK])
    assert await snapshots.tickers() == {TICKER.symbol: TICKER}


async def test_nothing_written_is_empty_and_what_does_not_fit_is_as_if_absent(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    assert (await snapshots.tickers(), await snapshots.liquidations(), await snapshots.state()) == ({}, [], None)
    await redis.set(TICKERS, b"\xc1garbage")
    assert await snapshots.tickers() == {}


async def test_snapshots_expire_so_that_a_feed_of_yesterday_says_nothing(redis: Redis) -> None:
    await RedisSnapshots(redis).write(STATE, liquidations=[ORDER])
    assert 0 < await redis.ttl(LIQUIDATIONS) <= 3600


def frames(*seconds: int) -> list[TickFrame]:
    return [TickFrame(at_ms=second * 1_000, symbols="XUSDT,YUSDT", prices=f"{second},0.5") for second in seconds]


async def heard(snapshots: RedisSnapshots, since_ms: int = 0) -> list[int]:
    return [tick.at_ms // 1_000 for tick in (await snapshots.ticks({"XUSDT": since_ms}))["XUSDT"]]


async def test_ticks_add_up_and_only_the_time_asked_for_is_read_with_the_tick_that_stood_at_its_start(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    await snapshots.write(STATE, ticks=frames(1, 2))
    await snapshots.write(STATE)
    await snapshots.write(STATE, ticks=frames(3, 4, 5))
    found = await snapshots.ticks({"XUSDT": 0, "ZUSDT": 0})
    assert found == {"XUSDT": [Tick(at_ms=second * 1_000, price=Decimal(second)) for second in (1, 2, 3, 4, 5)], "ZUSDT": []}
    assert await heard(snapshots, 4_500) == [3, 4, 5]
    both = await snapshots.ticks({"XUSDT": 0, "YUSDT": 6_000})
    assert ([tick.at_ms for tick in both["YUSDT"]], len(both["XUSDT"])) == ([5_000], 5)


async def test_a_mark_of_another_moment_than_its_event_keeps_its_own(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    feed = Feed(StandingClock())
    late = Mark(symbol="YUSDT", price=Decimal(7), at_ms=900, funding_rate=Decimal(0), next_funding_ms=0, received_ms=1)
    feed.take_marks([msgspec.structs.replace(MARK, at_ms=1_000), late])
    await feed.write(snapshots)
    found = await snapshots.ticks({"XUSDT": 0, "YUSDT": 0})
    assert found == {"XUSDT": [Tick(at_ms=1_000, price=MARK.price)], "YUSDT": [Tick(at_ms=900, price=Decimal(7))]}


async def test_ticks_are_bounded_by_count_and_by_time(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    for start in range(0, 3 * MOST_FRAMES, 60):
        await snapshots.write(STATE, ticks=frames(*range(start, start + 60)))
    assert await heard(snapshots) == list(range(2 * MOST_FRAMES, 3 * MOST_FRAMES))
    assert 0 < await redis.ttl(TICKS) <= 3600


async def test_an_event_that_is_written_again_counts_once_and_odd_bytes_are_as_if_absent(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    await snapshots.write(STATE, ticks=frames(1, 2))
    await redis.zadd(TICKS, {b"\xc1garbage": 2_000})
    await snapshots.write(
        STATE,
        ticks=[
            *frames(2),
            TickFrame(at_ms=3_000, symbols="AUSDT,XUSDT", prices="1,nonsense"),
            TickFrame(at_ms=4_000, symbols="AUSDT,XUSDT", prices="1"),
        ],
    )
    assert await heard(snapshots) == [1, 2]


async def test_market_time_that_went_back_forgets_what_came_after(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    await snapshots.write(STATE, ticks=frames(100, 101))
    await snapshots.write(STATE, ticks=frames(50))
    assert await heard(snapshots) == [50]


async def test_a_feed_that_starts_again_goes_on_where_the_one_before_ended_and_its_absence_shows(redis: Redis) -> None:
    snapshots = RedisSnapshots(redis)
    for moments in ((1, 2, 3), (9, 10)):
        feed = Feed(StandingClock())
        for second in moments:
            feed.take_marks([msgspec.structs.replace(MARK, at_ms=second * 1_000)])
        await feed.write(snapshots)
    assert await heard(snapshots) == [1, 2, 3, 9, 10]


async def test_without_redis_every_question_says_so() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    snapshots = RedisSnapshots(client)
    for question in (snapshots.tickers, snapshots.marks, snapshots.liquidations, snapshots.state, snapshots.beat):
        with pytest.raises(SnapshotsUnavailable):
            await question()
    with pytest.raises(SnapshotsUnavailable):
        await snapshots.ticks({"XUSDT": 0})
    with pytest.raises(SnapshotsUnavailable):
        await snapshots.write(STATE)
    await client.aclose()


async def test_a_feed_rebuilds_a_redis_that_died_and_came_back_empty(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", free_port(), durable=False)
    await asyncio.to_thread(server.start)
    client = connect(server.url)
    snapshots = RedisSnapshots(client)
    feed = Feed(StandingClock())
    feed.take_tickers([TICKER])
    feed.take_marks([MARK])
    writing = asyncio.create_task(keep_writing(feed, snapshots))

    async def whole() -> bool:
        try:
            return bool(await snapshots.tickers() and await snapshots.marks() and await snapshots.state())
        except SnapshotsUnavailable:
            return False

    async def gone() -> bool:
        try:
            await snapshots.beat()
        except SnapshotsUnavailable:
            return True
        return False

    try:
        await eventually(whole, seconds=10, what="the first snapshots")
        await asyncio.to_thread(server.stop)
        await eventually(gone, seconds=10, what="a dead Redis")
        await asyncio.to_thread(server.start)
        await eventually(whole, seconds=10, what="snapshots written anew")
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        await client.aclose()
        await asyncio.to_thread(server.stop)
