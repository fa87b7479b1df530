"""The feed against the sandbox exchange and a real Redis: who leads, what a standby takes over, and figures that no gap makes wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from redis.asyncio import Redis

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.faults import Kind, Rule
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import open_market
from deploy.sandbox.options import SandboxOptions
from engine import candles
from engine.budget import WeightBudget
from engine.candles import BinanceData, Door, open_session
from engine.candles.history import CandleHistory
from engine.candles.klines import candles_of, klines_of
from engine.clock import MarketClock, market_clock
from engine.core import features_live
from engine.core.features import features_of, panel_of
from engine.core.features_live import LiveFeatures, Told
from engine.core.market import Candles, Timeframe
from engine.errors import LeaseLost
from engine.feed import lead_once
from engine.feeding import telling
from engine.feeding.backfill import look_at_universe
from engine.feeding.keeper import WHOLE, Keeper
from engine.feeding.leading import lead
from engine.lease import KEY, Lease
from engine.ports import FeedState, FiguresState
from engine.settings import EngineSettings
from engine.snapshots import Fence, RedisSnapshots, connect
from tests.polling import eventually

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("redis")]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "币安人生USDT")
QUARTER = Timeframe.M15.ms
SPEED = 900.0
"""A 15m candle a second."""


class World:
    """The exchange of a few symbols, a Redis, and feeds that may be started and killed."""

    def __init__(self, redis: Redis, redis_url: str, exchange: Exchange, url: str, clock: MarketClock) -> None:
        self.redis = redis
        self.exchange = exchange
        self.url = url
        self.clock = clock
        self.settings = EngineSettings(
            engine_token="-",
            redis_url=redis_url,
            binance_rest_url=url,
            binance_ws_url=url.replace("http", "ws"),
        )
        self.snapshots = RedisSnapshots(redis)
        self.feeds: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, *, dies: bool = False) -> None:
        """A process of the feed; one that dies leaves its lease behind, as a killed one does."""
        lease = Dying(self.redis, name) if dies else Lease(self.redis, name)
        self.feeds[name] = asyncio.create_task(
            lead(lease, lambda: lead_once(self.settings, self.clock, self.redis, lease)), name=name
        )

    async def end(self, name: str) -> None:
        task = self.feeds.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def told_by(self, leader: str, so: Callable[[FiguresState, Told], bool], seconds: float = 15) -> Told:
        """What a leader tells as soon as it is so."""

        async def told() -> Told | None:
            state, found = await self.snapshots.figures_state(), await self.snapshots.figures()
            return found if state is not None and found is not None and state.leader == leader and so(state, found) else None

        return await eventually(told, seconds=seconds, what=f"figures of {leader}")

    async def whole_by(self, leader: str) -> Told:
        return await self.told_by(leader, lambda state, _: state.wanted == len(SYMBOLS) and not state.stale)


class Dying(Lease):
    async def leave(self) -> None:
        """Nobody is told."""


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    features_live.warm_up()
    candles.warm_up()


@pytest.fixture(scope="module")
def market() -> Exchange:
    exchange = Exchange(SandboxOptions(port=0, speed=SPEED))
    tapes = exchange.market.tapes
    for symbol in set(tapes) - set(SYMBOLS):
        del tapes[symbol]
    return exchange


@pytest.fixture
async def world(redis_url: str, market: Exchange) -> AsyncIterator[World]:
    redis = connect(redis_url)
    async with running_exchange(market) as url:
        world = World(redis, redis_url, market, url, await market_clock(url))
        try:
            yield world
        finally:
            for name in list(world.feeds):
                await world.end(name)
            market.faults.clear()
            await redis.aclose()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candles were asked for at a time."""
    asked: list[int] = []
    read = CandleHistory.newest_candles

    async def counted(self: CandleHistory, symbol: str, timeframe: Timeframe, count: int) -> Candles:
        asked.append(count)
        return await read(self, symbol, timeframe, count)

    monkeypatch.setattr(CandleHistory, "newest_candles", counted)
    return asked


async def test_a_standby_goes_on_within_seconds_from_the_memory_and_the_dead_leader_can_write_no_more(
    world: World, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "MEMORY_SECONDS", 0.2)
    world.start("one", dies=True)
    await world.whole_by("one")
    world.start("two")
    await eventually(lambda: _whole_memory(world), seconds=10, what="a memory of every symbol")
    assert sum(count >= WHOLE for count in reads) == 2 * len(SYMBOLS)
    reads.clear()
    await world.end("one")
    begun = asyncio.get_running_loop().time()
    told = await world.whole_by("two")
    assert asyncio.get_running_loop().time() - begun < 8
    assert all(count < 100 for count in reads)
    assert told.quarter.seen.min() > WHOLE
    dead = RedisSnapshots(world.redis, Fence(key=KEY, holder="one", seconds=3.0))
    with pytest.raises(LeaseLost):
        await dead.write_figures(b"old", b"old")
    with pytest.raises(LeaseLost):
        await dead.write(FeedState(beat_ms=1), tickers=[], marks=[], liquidations=[])
    assert await world.snapshots.figures() is not None
    assert await world.snapshots.tickers()


async def _whole_memory(world: World) -> bool:
    memory = await world.snapshots.memory()
    return memory is not None and bool(memory.quarter.symbols) and not memory.quarter.unseeded() + memory.four_hour.unseeded()


async def test_what_a_leader_saw_is_recorded_and_can_be_replayed(world: World, tmp_path: Path) -> None:
    world.settings = msgspec.structs.replace(world.settings, record_folder=str(tmp_path))
    await world.snapshots.want_trades(["ETHUSDT"])
    world.start("one")
    await world.whole_by("one")
    begun = world.clock.now_ms()
    await _closes(world, 4)
    await world.end("one")

    recorded = open_market(SandboxOptions(market=tmp_path, start_ms=begun))[0]
    assert set(recorded.tapes) >= set(SYMBOLS) - {"BTCUSDT"}
    for symbol in set(SYMBOLS) & set(recorded.tapes):
        mine, theirs = recorded.tapes[symbol], world.exchange.market.tapes[symbol]
        span = begun // QUARTER - 400, begun // QUARTER + 1
        scale = float(theirs.rules.tick) / float(mine.rules.tick)
        assert np.allclose(mine.candles(*span)[:4], theirs.candles(*span)[:4] * scale, rtol=1e-12)
    marks, tops = (pl.read_parquet(tmp_path / kind / "*.parquet") for kind in ("marks", "book_tops"))
    assert set(marks["symbol"]) >= set(SYMBOLS)
    assert set(tops["symbol"]) == {"ETHUSDT"}
    assert (tops["bid"] < tops["ask"]).all()
    assert tops["time"].is_between(begun - 60 * QUARTER, world.clock.now_ms()).all()


async def test_a_leader_that_goes_on_from_a_memory_reads_the_histories_that_its_folder_lacks_and_the_next_one_does_not(
    world: World, reads: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(telling, "MEMORY_SECONDS", 0.2)
    world.start("one")
    await world.whole_by("one")
    await eventually(lambda: _whole_memory(world), seconds=10, what="a memory of every symbol")
    await world.end("one")
    reads.clear()
    world.settings = msgspec.structs.replace(world.settings, record_folder=str(tmp_path))
    world.start("two")
    await world.whole_by("two")

    async def read() -> bool:
        return sum(count >= WHOLE for count in reads) == 2 * len(SYMBOLS)

    await eventually(read, seconds=15, what="a history of every symbol")
    await _closes(world, 2)
    await world.end("two")
    replayed, start_ms = open_market(SandboxOptions(market=tmp_path))
    assert set(replayed.tapes) >= set(SYMBOLS) - {"BTCUSDT"}
    assert replayed.ends_ms is not None
    assert start_ms < replayed.ends_ms
    reads.clear()
    world.start("three")
    await world.whole_by("three")
    await _closes(world, 2)
    assert all(count < 100 for count in reads)


async def test_a_leader_whose_lease_is_another_s_writes_nothing_from_then_on_and_leads_again_when_it_is_free(
    world: World,
) -> None:
    world.start("one")
    await world.whole_by("one")
    await world.redis.set(KEY, "other")
    written = await world.snapshots.figures_state()
    state = await world.snapshots.state()
    assert written is not None
    await _closes(world, 2)
    assert await world.snapshots.figures_state() == written
    assert await world.snapshots.state() == state
    await world.redis.delete(KEY)
    told = await world.told_by("one", lambda now, _: now.written_ms > written.written_ms and not now.stale)
    assert told.quarter.seen.min() >= WHOLE


async def test_a_feed_that_ends_gives_its_lease_back_at_once(world: World) -> None:
    world.start("one")
    await world.whole_by("one")
    assert await world.redis.get(KEY) == b"one"
    await world.end("one")
    assert await world.redis.get(KEY) is None


async def test_an_empty_redis_is_written_anew_by_the_leader_that_was(world: World, reads: list[int]) -> None:
    world.start("one")
    await world.whole_by("one")
    reads.clear()
    await world.redis.flushall()
    told = await world.whole_by("one")
    assert told.quarter.seen.min() >= WHOLE
    assert all(count < 100 for count in reads)


async def test_after_missing_frames_and_cuts_figures_equal_the_batch_over_the_exchange_s_candles(
    world: World, reads: list[int]
) -> None:
    world.start("one")
    await world.whole_by("one")
    reads.clear()
    world.exchange.faults.add(
        [
            Rule(kind=Kind.WS_MISSING_CLOSE, probability=0.4, seed=3),
            Rule(kind=Kind.WS_DROP, probability=0.02, seed=5, times=3),
            Rule(kind=Kind.WS_DOUBLED, probability=0.2, seed=7),
        ],
        world.exchange.wall_ms(),
    )
    await _closes(world, 4)
    fired = {firing.kind for firing in world.exchange.faults.log}
    world.exchange.faults.clear()
    assert Kind.WS_MISSING_CLOSE in fired
    assert reads
    assert max(reads) < 100
    told = await world.whole_by("one")
    await _equal_to_batch(world, told)


async def _closes(world: World, count: int) -> None:
    until = world.clock.now_ms() + count * Timeframe.M15.ms

    async def passed() -> bool:
        return world.clock.now_ms() >= until

    await eventually(passed, seconds=20, what=f"{count} candles")


async def _equal_to_batch(world: World, told: Told) -> None:
    pairs = []
    async with open_session() as session:
        door = Door(session, world.url, WeightBudget(10**6, world.clock.now_ms))
        for figures in (told.quarter, told.four_hour):
            panel = [
                await _exactly(world, door, symbol, figures.timeframe, int(figures.newest_ms[row]), int(figures.seen[row]))
                for row, symbol in enumerate(told.symbols)
            ]
            pairs.append(panel_of(panel, max(map(len, panel))))
    batch, ours = features_of(*pairs), told.features()
    for name in batch.__struct_fields__:
        np.testing.assert_array_equal(getattr(ours, name), getattr(batch, name), err_msg=name)


async def _exactly(world: World, door: Door, symbol: str, timeframe: Timeframe, newest_ms: int, count: int) -> Candles:
    params = {"symbol": symbol, "interval": timeframe.value, "limit": 1500, "endTime": newest_ms + timeframe.ms - 1}
    found = candles_of(symbol, timeframe, await door.read("/fapi/v1/klines", klines_of, params, 10), world.clock.now_ms())
    columns = ("open_ms", "open", "high", "low", "close", "volume")
    return msgspec.structs.replace(found, **{name: getattr(found, name)[-count:] for name in columns})


async def test_a_symbol_that_is_taken_off_is_forgotten_and_the_clocks_are_compared(world: World) -> None:
    async with open_session() as session:
        door = Door(session, world.url, WeightBudget(10**6, world.clock.now_ms))
        assert abs(await CandleHistory(door, world.clock).skew_ms()) < 1_000
        keeper = Keeper(LiveFeatures.of(()), world.clock)
        await look_at_universe(keeper, BinanceData(door, world.clock))
        assert keeper.symbols == tuple(sorted(SYMBOLS))
        world.exchange.market.close("SOLUSDT", world.exchange.now())
        try:
            await look_at_universe(keeper, BinanceData(door, world.clock))
        finally:
            world.exchange.market.tapes["SOLUSDT"].closed_ms = None
    assert keeper.symbols == tuple(sorted(set(SYMBOLS) - {"SOLUSDT"}))
