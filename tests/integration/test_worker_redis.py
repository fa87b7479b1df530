"""Leases, the bus and the queue on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from arq.connections import ArqRedis

from orchestrator.bus import KEPT, RedisBus, RedisLiveLog
from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.jobs import RedisJobs, open_redis, scan_job_id
from orchestrator.lifeline import RedisLifeline
from orchestrator.mutex import RedisMutex
from orchestrator.ports import LiveMessage, PanicReceipt, SymbolResult
from shared.execution import SealedCredentials
from tests.polling import eventually

pytestmark = pytest.mark.servers

CLOSE = datetime(2025, 9, 22, 6, 15, tzinfo=UTC)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    client = open_redis(redis_url)
    yield client
    await client.aclose(close_connection_pool=True)


async def nobody() -> ArqRedis:
    return open_redis("redis://127.0.0.1:1/0")


async def test_one_holds_a_lease_and_the_next_one_after_it(redis: ArqRedis) -> None:
    mutex = RedisMutex(redis)
    async with mutex.hold("scan", 30) as first:
        assert first is not None
        async with mutex.hold("scan", 30) as second, mutex.hold("other", 30) as other:
            assert second is None
            assert other is not None
    async with mutex.hold("scan", 30) as third:
        assert third is not None


async def test_a_lease_ends_by_itself_and_its_holder_is_told(redis: ArqRedis) -> None:
    mutex = RedisMutex(redis)
    async with mutex.hold("scan", 30) as lease:
        assert lease is not None
        await lease.extend()
        await redis.delete("lease:scan")
        async with mutex.hold("scan", 30) as next_one:
            assert next_one is not None
            with pytest.raises(LeaseLost):
                await lease.extend()
            await lease.release()
            await next_one.extend()


async def test_extending_starts_the_whole_time_anew(redis: ArqRedis) -> None:
    async with RedisMutex(redis).hold("scan", 30) as lease:
        assert lease is not None
        await redis.pexpire("lease:scan", 500)
        await lease.extend()
        assert await redis.pttl("lease:scan") > 25_000


async def test_a_cancelled_holder_frees_its_lease_at_once(redis: ArqRedis) -> None:
    mutex = RedisMutex(redis)
    held = asyncio.Event()

    async def work() -> None:
        async with mutex.hold("scan", 30):
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with mutex.hold("scan", 30) as lease:
        assert lease is not None


async def test_a_mutex_without_redis_says_that_nobody_knows() -> None:
    client = await nobody()
    with pytest.raises(StoreUnavailable):
        async with RedisMutex(client).hold("scan", 30):
            pytest.fail("nobody may hold it")
    await client.aclose(close_connection_pool=True)


async def heard(log: RedisLiveLog, redis: ArqRedis, count: int) -> asyncio.Task[list[LiveMessage]]:
    """A task that listens already and ends with its first `count` messages."""

    async def listen() -> list[LiveMessage]:
        messages: list[LiveMessage] = []
        async for message in log.listen():
            messages.append(message)
            if len(messages) == count:
                break
        return messages

    task = asyncio.create_task(listen())
    await eventually(redis.pubsub_numpat, seconds=5, what="the subscription")
    return task


async def test_pages_hear_their_own_messages_and_everyones_in_order(redis: ArqRedis) -> None:
    bus, log, user_id = RedisBus(redis), RedisLiveLog(redis), uuid4()
    listening = await heard(log, redis, 4)
    await bus.publish(user_id, "position", {"id": "p1", "pnl": Decimal("0.00000001")})
    await bus.publish(None, "marks", {"at": CLOSE, "marks": {}})
    await bus.publish(None, "notice", {})
    await bus.publish(user_id, "balance", {})
    messages = await asyncio.wait_for(listening, 5)
    assert messages == [
        LiveMessage(user_id=user_id, event="position", data={"id": "p1", "pnl": "0.00000001"}, rev=1),
        LiveMessage(user_id=None, event="marks", data={"at": "2025-09-22T06:15:00Z", "marks": {}}),
        LiveMessage(user_id=None, event="notice", data={}, rev=2),
        LiveMessage(user_id=user_id, event="balance", data={}),
    ]
    assert [message.rev for message in await log.recent(user_id)] == [1, 2]
    assert [message.rev for message in await log.recent(uuid4())] == [2]


async def test_only_the_newest_structural_messages_are_kept(redis: ArqRedis) -> None:
    bus, user_id = RedisBus(redis), uuid4()
    for number in range(KEPT + 20):
        await bus.publish(user_id, "signals", {"n": number})
    kept = await RedisLiveLog(redis).recent(user_id)
    assert [message.data["n"] for message in kept] == list(range(20, KEPT + 20))


async def test_listening_goes_on_after_redis_dropped_the_connection(redis: ArqRedis) -> None:
    bus, log = RedisBus(redis), RedisLiveLog(redis)
    listening = await heard(log, redis, 2)
    await bus.publish(None, "notice", {"n": 1})
    await redis.client_kill_filter(_type="pubsub")

    async def told() -> bool:
        await bus.publish(None, "notice", {"n": 2})
        return listening.done()

    await eventually(told, seconds=10, what="a message after the break")
    assert [message.data["n"] for message in listening.result()] == [1, 2]


async def test_the_log_names_its_life_once(redis: ArqRedis) -> None:
    log = RedisLiveLog(redis)
    boot = await log.boot()
    assert boot
    assert await log.boot() == boot


async def test_a_bus_without_redis_loses_the_message_and_nothing_else() -> None:
    client = await nobody()
    await RedisBus(client).publish(None, "notice", {})
    log = RedisLiveLog(client)
    with pytest.raises(StoreUnavailable):
        await log.boot()
    with pytest.raises(StoreUnavailable):
        await log.recent(uuid4())
    await client.aclose(close_connection_pool=True)


async def test_the_same_close_twice_is_one_job(redis: ArqRedis) -> None:
    jobs = RedisJobs(redis)
    assert await jobs.enqueue_scan_of(CLOSE) == await jobs.enqueue_scan_of(CLOSE) == scan_job_id(CLOSE)
    assert await jobs.enqueue_scan() == await jobs.enqueue_scan()
    assert await jobs.waiting() == 2
    assert scan_job_id(CLOSE) == "scan:2025-09-22T06:15:00Z"


async def test_a_queue_without_redis_says_so() -> None:
    client = await nobody()
    with pytest.raises(StoreUnavailable):
        await RedisJobs(client).enqueue_scan()
    with pytest.raises(StoreUnavailable):
        await RedisJobs(client).waiting()
    await client.aclose(close_connection_pool=True)


async def test_sealed_keys_and_stop_flags_outlive_the_process_that_kept_them(redis: ArqRedis, redis_url: str) -> None:
    user, other, keys = uuid4(), uuid4(), SealedCredentials(key_id="k1", sealed="AAAA")
    lifeline = RedisLifeline(redis)
    await lifeline.keep(user, keys)
    await lifeline.stop(user, CLOSE)
    result = SymbolResult(symbol="AAAUSDT", result="closed")
    told = PanicReceipt(
        receipt_id=uuid4(),
        auto_trade_enabled=False,
        positions=[result],
        open_positions=0,
        open_orders=0,
        flat=False,
        stored=False,
    )
    await lifeline.keep_receipt(user, told)
    another = open_redis(redis_url)
    try:
        seen = RedisLifeline(another)
        assert await seen.credentials(user) == keys
        assert await seen.credentials(other) is None
        assert (await seen.stopped(user), await seen.stopped(other)) == (True, False)
        assert await seen.all_stopped() == [user]
        assert (await seen.receipt(user), await seen.receipt(other)) == (told, None)
        await seen.take_down(user)
        await seen.forget(user)
    finally:
        await another.aclose(close_connection_pool=True)
    assert not await lifeline.stopped(user)
    assert await lifeline.credentials(user) is None
    assert await lifeline.receipt(user) is None


async def test_a_lifeline_without_redis_says_so() -> None:
    lifeline = RedisLifeline(await nobody())
    with pytest.raises(StoreUnavailable):
        await lifeline.stopped(uuid4())
    with pytest.raises(StoreUnavailable):
        await lifeline.stop(uuid4(), CLOSE)
