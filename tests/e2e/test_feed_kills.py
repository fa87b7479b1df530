"""The leading feed, an engine replica and Redis are killed in turn: the next scan is right and says what it fell back to.

Right means: the same candidates as a scan from the exchange's candles at that moment, or fewer, and every one that is missing with its reason.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import httpx
import msgspec
import pytest

from deploy.errors import ServerFailed
from engine import candles
from engine.analysis import CANDLE_SETTLES_MS, RulesAnalyst, ScanPlan, Sources, scan
from engine.budget import WeightBudget
from engine.candles import BinanceData, Door, open_session
from engine.clock import MarketClock, market_clock
from engine.core import features_batch, screen_fast
from engine.core.market import Timeframe
from engine.core.screen import ScreenBounds
from engine.lease import KEY
from engine.ports import FiguresState
from engine.snapshots import RedisSnapshots, connect
from shared.analysis import AnalyzeReply, AnalyzeRequest, RejectionReason
from tests.conftest import missing
from tests.polling import eventually
from tests.soak.market import walked_market
from tests.soak.stack import TOKEN, Child, Stack

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("feed-kills")]

SYMBOLS: Final = 40
SPEED: Final = 60
"""A 15m candle closes every fifteen seconds."""

ROOM_SECONDS: Final = 5.0
"""Wall time before the next close that a comparison wants, so that both scans judge the same candles."""

LEADS_SECONDS: Final = 8.0
WATCHED_SECONDS: Final = 1.5


NOT_KNOWN: Final = frozenset(
    {
        RejectionReason.OUTSIDE_TOP_MOVERS,
        RejectionReason.MARKET_DATA_MISSING,
        RejectionReason.MARKET_DATA_STALE,
        RejectionReason.REQUEST_WEIGHT_SPENT,
    }
)
"""Why a candidate may be missing: not what was found out about it, but that nothing could be."""


class World:
    """Two feeds, two replicas, and the exchange asked directly beside them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.replicas: dict[str, tuple[Child, str]] = {name: stack.start_engine(name) for name in ("engine-1", "engine-2")}
        self.feeds = {name: self.feed(name) for name in ("feed-1", "feed-2")}
        self.redis = connect(stack.redis.url)
        self.snapshots = RedisSnapshots(self.redis)
        self.clock = MarketClock()
        self.client = httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=20)

    def feed(self, name: str) -> Child:
        return self.stack.start(name, "-m", "engine.feed")

    async def leader(self) -> Child | None:
        """Who holds the lease."""
        held = await self.redis.get(KEY)
        return next((feed for feed in self.feeds.values() if held and str(feed.pid) in held.decode().split(":")), None)

    async def state_by(self, feed: Child) -> FiguresState | None:
        """The account of the figures, once a feed wrote it and no symbol lacks a candle."""
        state = await self.snapshots.figures_state()
        return (
            state if state and str(feed.pid) in state.leader.split(":") and state.wanted == SYMBOLS and not state.stale else None
        )

    async def analyze(self, replica: str) -> AnalyzeReply:
        answer = await self.client.post(f"{self.replicas[replica][1]}/analyze", json={"top_n": 200})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=AnalyzeReply)

    async def from_candles(self) -> AnalyzeReply:
        """What a scan that has nothing but the exchange says now."""
        plan = ScanPlan(bounds=ScreenBounds(min_quote_volume=0, min_change_percent=0, top_n=200), min_confidence=75)
        nothing = RedisSnapshots(connect("redis://127.0.0.1:1"))
        async with open_session() as session:
            data = BinanceData(Door(session, self.stack.url, WeightBudget(10**6, self.clock.now_ms)), self.clock)
            sources = Sources(market=data, snapshots=nothing, clock=self.clock, settles_ms=CANDLE_SETTLES_MS)
            return await scan(AnalyzeRequest(), plan, sources, RulesAnalyst(), None)

    async def room(self) -> None:
        """Waits until the next close is not near, and the exchange has written the last."""
        period = Timeframe.M15.ms

        async def there() -> bool:
            since = self.clock.now_ms() % period
            return CANDLE_SETTLES_MS < since < period - ROOM_SECONDS * SPEED * 1000

        await eventually(there, seconds=2 * period / 1000 / SPEED, what="the middle of a candle")

    async def right(self, reply: AnalyzeReply) -> int:
        """Fails unless a reply is right; how many the screen kept."""
        told = await self.from_candles()
        assert candle_of(told.as_of) == candle_of(reply.as_of), "a candle closed between the two scans"
        ours, theirs = kept(reply), kept(told)
        assert ours <= theirs
        assert theirs - ours <= {no.symbol for no in reply.rejections if no.reason in NOT_KNOWN}
        return len(ours)


def tell(line: str) -> None:
    """What one reads with `pytest -s`."""
    sys.stdout.write(line + "\n")


def candle_of(moment: datetime) -> int:
    return int(moment.timestamp() * 1000) // Timeframe.M15.ms


def kept(reply: AnalyzeReply) -> set[str]:
    """Whom the screen kept; what whales say of them changes from moment to moment."""
    vetoed = {no.symbol for no in reply.rejections if no.reason is RejectionReason.WHALE_VETO}
    return {candidate.symbol for candidate in reply.candidates} | vetoed


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("kills")
    settings = {"MIN_VOLUME_USDT": "0", "MIN_VOLATILITY_24H": "0", "REQUEST_WEIGHT_LIMIT": "2400"}
    sandbox = [*walked_market(folder, SYMBOLS), "--speed", str(SPEED), "--weight-limit", "1000000"]
    stack = Stack(folder, sandbox, settings)
    try:
        stack.__enter__()
    except ServerFailed as failure:
        missing(str(failure))
    try:
        world = World(stack)
        for kernels in (features_batch, screen_fast, candles):
            kernels.warm_up()
        stack.wait_exchange()
        world.clock = await market_clock(stack.url)
        yield world
        await world.client.aclose()
        await world.redis.aclose()
    finally:
        stack.__exit__(None, None, None)


async def test_after_each_kill_the_next_scan_is_right_and_says_what_it_fell_back_to(world: World) -> None:
    leader = await eventually(world.leader, seconds=40, what="a leader")
    await eventually(lambda: world.state_by(leader), seconds=20, what="whole figures")
    for name in world.replicas:
        await eventually(lambda name=name: answers(world, name), seconds=40, what=name)  # type: ignore[misc]
    await world.room()
    found = await world.right(await eventually(lambda: whole_reply(world, "engine-1"), seconds=15, what="a scan by the feed"))

    leader.kill()
    killed = time.monotonic()
    reply = await world.analyze("engine-1")
    found += await world.right(reply)
    [standby] = (feed for feed in world.feeds.values() if feed is not leader)
    await eventually(lambda: leads(world, standby), seconds=LEADS_SECONDS, what="the standby to lead")
    tell(f"the standby leads {time.monotonic() - killed:.1f} s after the leader's end")
    world.feeds["feed-3"] = world.feed("feed-3")
    await eventually(lambda: world.state_by(standby), seconds=LEADS_SECONDS, what="whole figures of the standby")
    tell(f"and its figures are whole after {time.monotonic() - killed:.1f} s")

    world.replicas["engine-1"][0].kill()
    await world.room()
    found += await world.right(await world.analyze("engine-2"))
    assert await eventually(
        lambda: whole_reply(world, "engine-2"), seconds=15, what="a scan by the standby's figures and streams"
    )

    await world.room()
    world.stack.kill_redis()
    reply = await world.analyze("engine-2")
    tell(f"without Redis a scan says: {'; '.join(reply.fallbacks)}")
    assert {"tickers from REST", f"candles of {SYMBOLS} symbols from REST"} <= set(reply.fallbacks)
    assert any(said.startswith("no liquidations") for said in reply.fallbacks)
    found += await world.right(reply)
    world.stack.begin_redis_anew()
    assert await eventually(lambda: whole_again(world), seconds=15, what="figures in the empty Redis")
    await world.room()
    found += await world.right(await eventually(lambda: whole_reply(world, "engine-2"), seconds=15, what="a scan by the feed"))
    assert found > 0, "no candidate was ever compared"

    await paused_leader_writes_nothing(world)


async def paused_leader_writes_nothing(world: World) -> None:
    paused = await eventually(world.leader, seconds=LEADS_SECONDS, what="a leader")
    paused.send(signal.SIGSTOP)
    stopped = time.monotonic()
    following = await eventually(lambda: leads_but(world, paused), seconds=LEADS_SECONDS + 10, what="another leader")
    await eventually(lambda: world.state_by(following), seconds=LEADS_SECONDS, what="its figures")
    tell(f"another feed's figures are whole {time.monotonic() - stopped:.1f} s after the leader stood still")
    said = paused.output.count("another feed leads")
    paused.send(signal.SIGCONT)
    ends = time.monotonic() + WATCHED_SECONDS
    looks = 0
    while time.monotonic() < ends or paused.output.count("another feed leads") == said:
        state = await world.snapshots.figures_state()
        assert state is not None
        assert str(following.pid) in state.leader.split(":")
        assert await world.leader() is following
        looks += 1
        assert time.monotonic() < ends + LEADS_SECONDS, "the feed that stood still does not know that another leads"
        await asyncio.sleep(0.02)
    assert looks > 10
    assert paused.lives()
    assert following.lives()


async def answers(world: World, replica: str) -> bool:
    try:
        return (await world.client.get(f"{world.replicas[replica][1]}/health")).status_code == 200
    except httpx.HTTPError:
        return False


async def leads(world: World, feed: Child) -> bool:
    return await world.leader() is feed


async def leads_but(world: World, other: Child) -> Child | None:
    leader = await world.leader()
    return None if leader is other else leader


def by_the_feed(reply: AnalyzeReply) -> bool:
    """Whether the screen rests on the feed alone; who is shortlisted only now has no window of large trades yet, nor marks at this pace."""
    return all(said.startswith(("large trades", "no marks")) for said in reply.fallbacks)


async def whole_reply(world: World, name: str) -> AnalyzeReply | None:
    reply = await world.analyze(name)
    return reply if by_the_feed(reply) else None


async def whole_again(world: World) -> bool:
    leader = await world.leader()
    if leader is None or await world.state_by(leader) is None:
        return False
    return by_the_feed(await world.analyze("engine-2"))
