"""The queue: what is asked of the worker, under ids that make asking twice the same as asking once; and the worker's sign of life.

Only scans go through it. Nothing that protects a position waits in a queue.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from orchestrator.errors import StoreUnavailable

QUEUE: Final = "neurotrade:jobs"
SCAN: Final = "scan"
ON_DEMAND: Final = "now"
"""The argument of a scan that somebody asked for, in place of its candle's close."""

JOB_EXPIRES_SECONDS: Final = 900.0
"""A scan that waited longer is of an old candle; it is dropped rather than run."""

DONE_SECONDS: Final = 86_400
PULSE_KEY: Final = "health:worker"
PULSE_SECONDS: Final = 86_400
"""Kept long, so that the age of a worker that is gone can be seen to grow."""

SOCKET_SECONDS: Final = 2.0
"""Our commands take a millisecond; a Redis that hangs for longer is away."""

CONNECT_SECONDS: Final = 1.0
RETRIES: Final = 1


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's sign of life, all in wall time: when it was given, and when each kind of work last ended well."""

    at: datetime
    last_scan: datetime | None = None
    last_watch: datetime | None = None
    last_settle: datetime | None = None


class RedisJobs:
    """Implements the port Jobs: enqueues; the worker runs."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def enqueue_scan_of(self, candle_close: datetime) -> str:
        """Queue the scan of a candle's close; the same close twice is one job. The job's id.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return await self._enqueue(scan_job_id(candle_close), candle_close.astimezone(UTC).isoformat())

    async def enqueue_scan(self) -> str:
        """Queue a scan on demand; while one waits or runs, the same one. The job's id.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return await self._enqueue(f"{SCAN}:{ON_DEMAND}", ON_DEMAND)

    async def waiting(self) -> int:
        """How many jobs wait or run.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with _answering():
            return int(await self._redis.zcard(QUEUE))

    async def done(self, candle_close: datetime) -> bool:
        """Whether that close was scanned already.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with _answering():
            return bool(await self._redis.exists(_done_key(candle_close)))

    async def mark_done(self, candle_close: datetime) -> None:
        """Note that a close was scanned; losing the note costs a scan that finds nothing new.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with _answering():
            await self._redis.set(_done_key(candle_close), 1, ex=DONE_SECONDS)

    async def beat(self, pulse: Pulse) -> None:
        """Give the worker's sign of life.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with _answering():
            await self._redis.set(PULSE_KEY, msgspec.json.encode(pulse), ex=PULSE_SECONDS)

    async def last_pulse(self) -> Pulse | None:
        """The newest sign of life of any worker; None when none was ever given.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with _answering():
            found = await self._redis.get(PULSE_KEY)
        return msgspec.json.decode(found, type=Pulse) if found else None

    async def _enqueue(self, job_id: str, argument: str) -> str:
        with _answering():
            await self._redis.enqueue_job(SCAN, argument, _job_id=job_id, _queue_name=QUEUE, _expires=JOB_EXPIRES_SECONDS)
        return job_id


def scan_job_id(candle_close: datetime) -> str:
    """The deterministic id of a close's scan: `scan:2025-09-22T06:00:00Z`."""
    return f"{SCAN}:{candle_close.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def open_redis(url: str) -> ArqRedis:
    """A client that reconnects; connects at first use. Jobs are written as JSON, so that reading one runs no code.

    Args:
        url: redis://, rediss:// or unix://.
    """
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES),
    )
    return ArqRedis(pool, job_serializer=serialize, job_deserializer=msgspec.json.decode, default_queue_name=QUEUE)


def serialize(job: dict[str, Any]) -> bytes:
    """A job or its result as JSON; an exception becomes its text."""
    return msgspec.json.encode(job, enc_hook=str)


def _done_key(candle_close: datetime) -> str:
    return f"{scan_job_id(candle_close)}:done"


@contextmanager
def _answering() -> Iterator[None]:
    """Calls Redis' silence by its name."""
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable(f"redis: {type(error).__name__}") from error
