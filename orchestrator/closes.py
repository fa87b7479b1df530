"""Hears from the feed that the figures of a close are whole. Decides nothing: what is not heard is asked for by the clock, a little later."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.log import logger
from shared.closes import CHANNEL, CloseTold

RECONNECT_SECONDS: Final = 0.5
SILENCE_SECONDS: Final = 5.0
"""How long a read of the subscription waits before it asks again."""


class RedisCloses:
    """One subscription for a whole worker."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def listen(self) -> AsyncIterator[datetime]:
        """Every close that is told from now on, market time, over reconnects, until the caller stops."""
        while True:
            try:
                async for close in self._subscription():
                    yield close
            except (RedisError, OSError) as error:
                logger().warning("closes are not heard; the clock goes on", error=str(error) or type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _subscription(self) -> AsyncIterator[datetime]:
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            while True:
                received = await channel.get_message(ignore_subscribe_messages=True, timeout=SILENCE_SECONDS)
                close = None if received is None else _close(received["data"])
                if close is not None:
                    yield close


def _close(body: bytes) -> datetime | None:
    try:
        return msgspec.json.decode(body, type=CloseTold).candle_close
    except msgspec.MsgspecError as error:
        logger().warning("a malformed message on the channel of closes", error=str(error))
        return None
