"""A lease in Redis: one holder at a time, for a while, with an honest answer when the while is over.

It saves work and keeps scans apart; it never stands alone before money. The last word there is a row in PostgreSQL.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.log import logger

_TAKE: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0
"""
"""The second line answers a retry after a reply that was lost on the way."""

_EXTEND: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisLease:
    """Implements the port Lease."""

    def __init__(self, redis: Redis, key: str, seconds: float) -> None:
        self._key = key
        self._token = secrets.token_hex(16)
        self._milliseconds = int(seconds * 1000)
        self._take = redis.register_script(_TAKE)
        self._extend = redis.register_script(_EXTEND)
        self._release = redis.register_script(_RELEASE)

    async def take(self) -> bool:
        """Whether it is ours now.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        try:
            return bool(await self._take(keys=[self._key], args=[self._token, self._milliseconds]))
        except RedisError as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}") from error

    async def extend(self) -> None:
        """Hold it for its full time from now.

        Raises:
            LeaseLost: It had expired or was taken, or Redis did not say that it was not.
        """
        try:
            held = await self._extend(keys=[self._key], args=[self._token, self._milliseconds])
        except RedisError as error:
            raise LeaseLost(f"{self._key}: nobody says who holds it") from error
        if not held:
            raise LeaseLost(f"{self._key} expired or was taken")

    async def release(self) -> None:
        """Free it if it is still ours; says so in the log when it was not."""
        try:
            if not await self._release(keys=[self._key], args=[self._token]):
                logger().warning("a lease had ended before its work", name=self._key)
        except RedisError as error:
            logger().warning("a lease was left to expire", name=self._key, error=type(error).__name__)


class RedisMutex:
    """Implements the port Mutex."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[RedisLease | None]:
        """A lease of that many wall seconds, released at the end by its token; None when another holds it.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        lease = RedisLease(self._redis, f"lease:{name}", seconds)
        if not await lease.take():
            yield None
            return
        try:
            yield lease
        finally:
            await _to_the_end(lease.release())


async def _to_the_end(release: Coroutine[None, None, None]) -> None:
    """Releases even while the holder is being cancelled, so that the next one need not wait for the expiry."""
    task = asyncio.ensure_future(release)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):
            await task
        raise
