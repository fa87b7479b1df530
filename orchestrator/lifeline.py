"""What panic needs while PostgreSQL is away, kept in Redis: sealed credentials, and a flag for each user who said stop.

Sealed credentials open nowhere but in the engine, so that keeping them twice gives nothing away. They are here only while their user is in REAL
and entries are live, so that a panic that finds none sends nothing. A flag stays up until the store has it.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import PanicReceipt
from shared.execution import SealedCredentials

CREDENTIALS: Final = "lifeline:credentials"
"""A hash: user id → sealed credentials, of who trades with real money now."""

STOPPED: Final = "lifeline:stopped"
"""A hash: user id → wall time at which they said stop."""

RECEIPTS: Final = "lifeline:receipts"
"""A hash: user id → receipt of the panic that ran without the store."""


class RedisLifeline:
    """Implements the port Lifeline."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def keep(self, user_id: UUID, credentials: SealedCredentials) -> None:
        """From arming on, while the user is in REAL."""
        async with _answering():
            await _asked(self._redis.hset(CREDENTIALS, str(user_id), msgspec.json.encode(credentials).decode()))

    async def forget(self, user_id: UUID) -> None:
        """The key is gone, or the user left REAL, or entries are dry runs."""
        async with _answering():
            await _asked(self._redis.hdel(CREDENTIALS, str(user_id)))

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """What was kept."""
        async with _answering():
            found = await _asked(self._redis.hget(CREDENTIALS, str(user_id)))
        return msgspec.json.decode(found, type=SealedCredentials) if found else None

    async def all_kept(self) -> list[UUID]:
        """Whose credentials are kept; who left REAL meanwhile is to be forgotten."""
        return await self._names(CREDENTIALS)

    async def stop(self, user_id: UUID, at: datetime) -> None:
        """The flag is up."""
        async with _answering():
            await _asked(self._redis.hset(STOPPED, str(user_id), at.isoformat()))

    async def stopped(self, user_id: UUID) -> bool:
        """Whether the flag is up."""
        async with _answering():
            return bool(await _asked(self._redis.hexists(STOPPED, str(user_id))))

    async def all_stopped(self) -> list[UUID]:
        """Whose flags are up."""
        return await self._names(STOPPED)

    async def keep_receipt(self, user_id: UUID, receipt: PanicReceipt) -> None:
        """What a panic without the store came to."""
        async with _answering():
            await _asked(self._redis.hset(RECEIPTS, str(user_id), msgspec.json.encode(receipt).decode()))

    async def receipt(self, user_id: UUID) -> PanicReceipt | None:
        """What was kept."""
        async with _answering():
            found = await _asked(self._redis.hget(RECEIPTS, str(user_id)))
        return msgspec.json.decode(found, type=PanicReceipt) if found else None

    async def take_down(self, user_id: UUID) -> None:
        """The store has it."""
        async with _answering():
            await _asked(self._redis.hdel(STOPPED, str(user_id)))
            await _asked(self._redis.hdel(RECEIPTS, str(user_id)))

    async def _names(self, key: str) -> list[UUID]:
        async with _answering():
            found = await _asked(self._redis.hkeys(key))
        return [UUID(name.decode() if isinstance(name, bytes) else name) for name in found]


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Calls Redis' silence by its name."""
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable(f"redis: {type(error).__name__}") from error


def _asked[T](call: Awaitable[T] | T) -> Awaitable[T]:
    """The vendor's types cannot tell its asynchronous client from the other one."""
    return cast("Awaitable[T]", call)
