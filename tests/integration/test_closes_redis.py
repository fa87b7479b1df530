"""From the feed to the worker over a real Redis: a close is heard once its figures stand there."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from arq.connections import ArqRedis

from engine.snapshots import FIGURES, Fence, RedisSnapshots, connect
from orchestrator.closes import RedisCloses
from orchestrator.jobs import open_redis
from shared.closes import CHANNEL
from tests.polling import eventually

pytestmark = pytest.mark.servers

CLOSE = datetime(2025, 9, 22, 6, 15, tzinfo=UTC)
CLOSED_MS = int(CLOSE.timestamp() * 1000)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    client = open_redis(redis_url)
    yield client
    await client.aclose(close_connection_pool=True)


async def listening(redis: ArqRedis, heard: list[datetime]) -> asyncio.Task[None]:
    async def listen() -> None:
        closes = RedisCloses(redis).listen()
        while True:
            heard.append(await anext(closes))

    async def subscribed() -> bool:
        return bool((await redis.pubsub_numsub(CHANNEL))[0][1])

    task = asyncio.create_task(listen())
    await eventually(subscribed, seconds=5, what="the subscription")
    return task


async def test_a_close_is_heard_with_its_figures_over_words_that_mean_nothing_and_over_a_cut(
    redis: ArqRedis, redis_url: str
) -> None:
    heard: list[datetime] = []
    task = await listening(redis, heard)
    feed = connect(redis_url)
    snapshots = RedisSnapshots(feed, Fence(key="lease:test-feed", holder="one", seconds=5))
    await snapshots.write_figures(b"figures")
    for odd in (b"\xff", b"{}", b'{"candle_close": "2025-09-22T06:15:00"}', b'{"candle_close": 7}'):
        await redis.publish(CHANNEL, odd)
    await snapshots.write_figures(b"figures", closed_ms=CLOSED_MS)

    async def one_heard() -> bool:
        return bool(heard)

    await eventually(one_heard, seconds=5, what="the close")
    assert heard == [CLOSE]
    assert await redis.get(FIGURES) == b"figures"
    await redis.client_kill_filter(_type="pubsub")

    async def heard_again() -> bool:
        await snapshots.write_figures(b"figures", closed_ms=CLOSED_MS + 900_000)
        return len(heard) > 1

    await eventually(heard_again, seconds=10, what="a close after the cut")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await feed.aclose()
