"""Execution reports in Redis by client order id, so that every replica answers the same: the adapter of the Reports port.

One key an id. It holds first the claim of whoever works on the order, for seconds, and then the report, for a day. The report
replaces the claim only while that claim is still the one that stands, in one step at the server.
"""

import secrets
from collections.abc import Awaitable
from typing import cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.errors import ClientOrderIdReused, ReportStoreUnavailable
from engine.ports import Claimed, InFlight
from shared.execution import ExecutionReport
from shared.wire import decode, encode

KEY_PREFIX = "neurotrade:report:1:"

CLAIM_SECONDS = 8.0
"""More than an order may take with both questions to Redis (3 s and twice 2 s): a claim that is gone belongs to a dead worker, not to
a slow one. Less would be unsafe, more would leave the order of a killed engine open for longer."""

REPORT_SECONDS = 24 * 3600
"""Source: wire contract, POST /execute/entry: reports are kept for 24 h."""

KEEP_SCRIPT = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return redis.call('GET', KEYS[1]) == ARGV[2] and 1 or 0
"""
"""Kept twice is kept once: a retry after a lost answer finds its own report."""

RELEASE_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What stands under an id: a claim until there is a report."""

    digest: str
    claim: str = ""
    report: ExecutionReport | None = None


class RedisReports:
    """See `engine.ports.Reports`.

    Args:
        redis: A client that decodes nothing.
        claim_seconds: How long a claim lives without a report.
        report_seconds: How long a report is kept.
    """

    def __init__(self, redis: "Redis", claim_seconds: float = CLAIM_SECONDS, report_seconds: float = REPORT_SECONDS) -> None:
        self._redis = redis
        self._claim_ms = round(claim_seconds * 1000)
        self._report_ms = round(report_seconds * 1000)

    async def claim(
        self, client_order_id: str, digest: str, seconds: float | None = None
    ) -> Claimed | InFlight | ExecutionReport:
        """Takes the id, or says what stands under it."""
        lives_ms = self._claim_ms if seconds is None else round(seconds * 1000)
        token = secrets.token_hex(16)
        mine = _written(Record(digest=digest, claim=token))
        taken = await _asked(self._redis.set(_key(client_order_id), mine, px=lives_ms, nx=True))
        if taken:
            return Claimed(token=token)
        record = await self._record(client_order_id)
        if record is None:
            return InFlight()  # It went in between; the caller asks again.
        if record.digest != digest:
            raise ClientOrderIdReused(client_order_id)
        if record.claim == token:
            return Claimed(token=token)  # Taken, and the answer was lost on the way.
        return record.report or InFlight()

    async def keep(self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport) -> bool:
        """Puts the report in the claim's place; False where the claim no longer stands."""
        mine = _written(Record(digest=digest, claim=claim.token))
        told = _written(Record(digest=digest, report=report))
        script = self._redis.eval(KEEP_SCRIPT, 1, _key(client_order_id), mine, told, str(self._report_ms))
        return bool(await _asked(cast(Awaitable[object], script)))

    async def release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        """Takes the claim away, if it still is the caller's."""
        mine = _written(Record(digest=digest, claim=claim.token))
        await _asked(cast(Awaitable[object], self._redis.eval(RELEASE_SCRIPT, 1, _key(client_order_id), mine)))

    async def find(self, client_order_id: str) -> ExecutionReport | InFlight | None:
        """What stands under an id."""
        record = await self._record(client_order_id)
        return None if record is None else record.report or InFlight()

    async def _record(self, client_order_id: str) -> Record | None:
        raw = await _asked(self._redis.get(_key(client_order_id)))
        return None if raw is None else decode(raw, Record)


def _key(client_order_id: str) -> str:
    return KEY_PREFIX + client_order_id


def _written(record: Record) -> str:
    return encode(record).decode()


async def _asked[T](question: Awaitable[T]) -> T:
    try:
        return await question
    except (RedisError, OSError, TimeoutError) as error:
        raise ReportStoreUnavailable(f"redis does not answer: {type(error).__name__}") from error
