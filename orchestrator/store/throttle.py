"""Delays after failed log-ins, in Redis: implements the port Throttle. Names and addresses are kept as hashes.

A delay belongs to one name from one address, so that a stranger elsewhere delays nobody but themselves. Where Redis does not answer
there is no delay: the bounded hasher still limits how fast anybody can try.
"""

import asyncio
import hashlib
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.log import logger

FREE_FAILURES: Final = 3
"""People mistype; the delay begins after these."""

LONGEST_SECONDS: Final = 60
FORGET_SECONDS: Final = 900
_MINUTE_MS: Final = 60_000
_PATIENCE_SECONDS: Final = 0.5
"""A Redis that stands still must not keep people from the page with the Panic button."""


class RedisThrottle:
    """Implements the port Throttle."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def wait_seconds(self, name: str, address: str) -> float:
        """How long this name from this address must wait before its next attempt; 0 means go on."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                left = await self._redis.pttl(f"auth:wait:{_key(name, address)}")
        except (RedisError, OSError) as error:
            return _unthrottled(error)
        return max(int(left), 0) / 1000

    async def failed(self, name: str, address: str) -> None:
        """Note a failure: 1, 2, 4, … seconds after the free ones, LONGEST_SECONDS at most."""
        key = _key(name, address)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                failures = int(await self._redis.incr(f"auth:failures:{key}"))
                await self._redis.expire(f"auth:failures:{key}", FORGET_SECONDS)
                if failures > FREE_FAILURES:
                    delay = min(2 ** min(failures - FREE_FAILURES - 1, 30), LONGEST_SECONDS)
                    await self._redis.set(f"auth:wait:{key}", b"1", px=delay * 1000)
        except (RedisError, OSError) as error:
            _unthrottled(error)

    async def passed(self, name: str, address: str) -> None:
        """Forget the failures of this name and address."""
        key = _key(name, address)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._redis.delete(f"auth:failures:{key}", f"auth:wait:{key}")
        except (RedisError, OSError) as error:
            _unthrottled(error)

    async def spend(self, what: str, address: str, limit: int) -> float:
        """Take one of `limit` attempts a minute of an address; the seconds to wait when none is left, else 0."""
        key = f"auth:spent:{what}:{_key('', address)}"
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, px=_MINUTE_MS, nx=True)
                pipe.incr(key)
                pipe.pttl(key)
                _, spent, left = await pipe.execute()
        except (RedisError, OSError) as error:
            return _unthrottled(error)
        return max(int(left), 1000) / 1000 if int(spent) > limit else 0.0


def _key(name: str, address: str) -> str:
    return hashlib.sha256(f"{name.lower()}\n{address}".encode()).hexdigest()[:32]


def _unthrottled(error: Exception) -> float:
    logger().warning("no delays on log-in while Redis is away", error=str(error) or type(error).__name__)
    return 0.0
