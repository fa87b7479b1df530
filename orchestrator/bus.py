"""From whoever changes something to the live pages: Redis publish and subscribe, with a short log of what must not be missed.

Decides nothing: a lost message loses no truth, pages read the database again. Ticks (`marks`, `balance`, `scan`, `whales`) are only
published; structural events get a number and stay in a stream, so that a page that comes back learns what it missed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, cast
from uuid import UUID, uuid4

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import LiveMessage
from shared.wire import encode

STRUCTURAL: Final = frozenset({"position", "signals", "approvals", "status", "panic", "settings", "notice"})
"""Events that change what a page consists of."""

KEPT: Final = 256
"""Structural messages kept for each user and for everyone; a page that missed more reloads."""

PUBLISH_SECONDS: Final = 1.0
"""What a message may cost whoever sends it: trading never waits for pages."""

SILENT_SECONDS: Final = 1.0
"""After a lost message no other is tried for a while: a panic tells its steps and must not wait for a Redis that stands still at each."""

RECONNECT_SECONDS: Final = 0.5
SILENCE_SECONDS: Final = 5.0
"""How long a read of the subscription waits before it asks again."""

_EVERYONE: Final = "all"
_CHANNELS: Final = "live:*"
_BOOT: Final = "live:boot"

_PUBLISH_NUMBERED: Final = """
local rev = redis.call('INCR', KEYS[1])
local message = '{"rev":' .. rev .. ',' .. string.sub(ARGV[2], 2)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], '*', 'm', message)
redis.call('PUBLISH', ARGV[1], message)
return rev
"""
"""One step, so that the stream's order, the numbers and what listeners hear agree."""


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    event: str
    data: dict[str, Any]
    rev: int | None = None


class RedisBus:
    """Implements the port Bus."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._silent_until = 0.0
        self._numbered = redis.register_script(_PUBLISH_NUMBERED)

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        """Send to one user's pages, or to everyone's where user_id is None. Never raises."""
        whose = _EVERYONE if user_id is None else str(user_id)
        if time.monotonic() < self._silent_until:
            logger().info("a message to the pages was not sent", kind=event)
            return
        try:
            body = encode({"event": event, "data": data})
            async with asyncio.timeout(PUBLISH_SECONDS):
                if event in STRUCTURAL:
                    await self._numbered(keys=["live:rev", f"live:log:{whose}"], args=[f"live:{whose}", body, KEPT])
                else:
                    await self._redis.publish(f"live:{whose}", body)
        except (RedisError, OSError, TimeoutError, TypeError, ValueError) as error:
            if isinstance(error, RedisError | OSError):
                self._silent_until = time.monotonic() + SILENT_SECONDS
            logger().warning("a message to the pages was lost", kind=event, error=str(error) or type(error).__name__)


class RedisLiveLog:
    """Implements the port LiveLog: one subscription for a whole process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def listen(self) -> AsyncIterator[LiveMessage]:
        """Every message from now on, over reconnects, until the caller stops."""
        while True:
            try:
                async for message in self._subscription():
                    yield message
            except (RedisError, OSError, ValueError) as error:
                logger().warning("the live channel broke, subscribing again", error=str(error) or type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def boot(self) -> str:
        """Names the log's life: revs of another boot mean nothing.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        try:
            await self._redis.set(_BOOT, uuid4().hex[:12], nx=True)
            found = await self._redis.get(_BOOT)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}") from error
        return found.decode() if found else ""

    async def recent(self, user_id: UUID) -> list[LiveMessage]:
        """The structural messages still kept for a user and for everyone, oldest first; at most 256 of each.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.xrange(f"live:log:{user_id}")
        pipe.xrange(f"live:log:{_EVERYONE}")
        try:
            own, shared = await cast("Awaitable[list[Any]]", pipe.execute())
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}") from error
        messages = [_message(user_id, fields[b"m"]) for _, fields in own] + [_message(None, fields[b"m"]) for _, fields in shared]
        return sorted((message for message in messages if message), key=lambda message: message.rev or 0)

    async def _subscription(self) -> AsyncIterator[LiveMessage]:
        async with self._redis.pubsub() as channel:
            await channel.psubscribe(_CHANNELS)
            while True:
                received = await channel.get_message(ignore_subscribe_messages=True, timeout=SILENCE_SECONDS)
                if received is None:
                    continue
                message = _message(_owner(received["channel"]), received["data"])
                if message is not None:
                    yield message


def _owner(channel: bytes) -> UUID | None:
    whose = channel.decode().removeprefix("live:")
    return None if whose == _EVERYONE else UUID(whose)


def _message(user_id: UUID | None, body: bytes) -> LiveMessage | None:
    try:
        read = msgspec.json.decode(body, type=_Body)
    except msgspec.MsgspecError as error:
        logger().warning("a malformed message on the live channel", error=str(error))
        return None
    return LiveMessage(user_id=user_id, event=read.event, data=read.data, rev=read.rev)
