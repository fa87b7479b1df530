"""The form tokens that were sent already, in Redis: implements the port SentForms for every replica of the site together.

Decides what happens without Redis: the form counts as new, since what a form does is safe to repeat besides.
"""

import asyncio
import hashlib
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.log import logger

KEPT_SECONDS: Final = 600
"""A second tap comes within seconds, a browser's own repetition within minutes."""

_PATIENCE_SECONDS: Final = 0.5
"""A position is closed by a form: it does not wait for a Redis that stands still."""


class RedisSentForms:
    """Implements the port SentForms."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def first(self, user_id: UUID, token: str) -> bool:
        """Whether this is the first time that a user sends this token."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return bool(await self._redis.set(_key(user_id, token), b"1", ex=KEPT_SECONDS, nx=True))
        except (RedisError, OSError) as error:
            logger().warning("a form counts as new while Redis is away", error=str(error) or type(error).__name__)
            return True

    async def forget(self, user_id: UUID, token: str) -> None:
        """What the form asked for could not be done: it may be sent again."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._redis.delete(_key(user_id, token))
        except (RedisError, OSError) as error:
            logger().info("a form token stays spent", error=str(error) or type(error).__name__)


def _key(user_id: UUID, token: str) -> str:
    return f"form:{user_id}:{hashlib.sha256(token.encode()).hexdigest()[:32]}"
