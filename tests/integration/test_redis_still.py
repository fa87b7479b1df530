"""A Redis that takes connections and answers nothing: worse than one that is gone, and still nobody waits for it long."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from arq.connections import ArqRedis

from orchestrator.bus import RedisBus
from orchestrator.jobs import open_redis
from orchestrator.store.sent_forms import RedisSentForms
from orchestrator.store.throttle import RedisThrottle


@pytest.fixture
async def still() -> AsyncIterator[ArqRedis]:
    over = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    client = open_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield client
    over.set()
    await client.aclose(close_connection_pool=True)
    server.close()


async def test_log_ins_go_on_without_delays(still: ArqRedis) -> None:
    throttle, began = RedisThrottle(still), time.monotonic()
    assert await throttle.spend("login", "198.51.100.4", 60) == 0
    assert await throttle.wait_seconds("ada", "198.51.100.4") == 0
    await throttle.failed("ada", "198.51.100.4")
    await throttle.passed("ada", "198.51.100.4")
    assert time.monotonic() - began < 4


async def test_a_form_counts_as_new(still: ArqRedis) -> None:
    forms, user_id = RedisSentForms(still), uuid4()
    assert await forms.first(user_id, "token")
    await forms.forget(user_id, "token")
    assert await forms.first(user_id, "token")


async def test_whoever_tells_many_things_waits_for_the_first_alone(still: ArqRedis) -> None:
    bus, began = RedisBus(still), time.monotonic()
    for step in range(20):
        await bus.publish(uuid4(), "panic", {"phase": step})
    assert time.monotonic() - began < 3
