"""The report store against a real Redis: what two replicas of the engine see of one id."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from deploy.servers import EmbeddedRedis, free_port
from engine.errors import ClientOrderIdReused, ReportStoreUnavailable
from engine.execution.desk import Desk
from engine.execution.entry import enter
from engine.execution.once import Once
from engine.ports import Claimed, InFlight
from engine.reports import KEY_PREFIX, RedisReports
from shared.enums import ExecutionStatus, Side
from shared.execution import ExecutionReport, Fill, OrderSide
from tests.unit.engine.execution_desk import World, entry

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("redis")]

AT = datetime(2026, 1, 7, tzinfo=UTC)
REPORT = ExecutionReport(
    client_order_id="e-1",
    venue="paper",
    dry_run=False,
    status=ExecutionStatus.FILLED,
    symbol="BTCUSDT",
    side=Side.LONG,
    order_side=OrderSide.BUY,
    reduce_only=False,
    requested_quantity=Decimal("0.00000001"),
    filled_quantity=Decimal("0.00000001"),
    fills=[Fill(trade_id="e-1-1", price=Decimal(60000), quantity=Decimal("1E-8"), fee=Decimal(0), maker=False, at=AT)],
    as_of=AT,
)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def gone(redis: "Redis", key: str) -> None:
    """Waits until a key has expired."""
    for _ in range(200):
        if not await redis.exists(key):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{key} did not expire")


async def claimed(reports: RedisReports) -> Claimed:
    claim = await reports.claim("e-1", "digest")
    assert isinstance(claim, Claimed)
    return claim


async def test_one_replica_takes_the_id_and_the_other_sees_it_under_way(redis: "Redis") -> None:
    await claimed(RedisReports(redis))

    assert isinstance(await RedisReports(redis).claim("e-1", "digest"), InFlight)
    assert isinstance(await RedisReports(redis).find("e-1"), InFlight)


async def test_of_twenty_callers_at_once_one_takes_the_id(redis: "Redis") -> None:
    answers = await asyncio.gather(*(RedisReports(redis).claim("e-1", "digest") for _ in range(20)))

    assert sum(isinstance(answer, Claimed) for answer in answers) == 1


async def test_a_kept_report_is_the_answer_for_every_replica_and_for_a_day(redis: "Redis") -> None:
    reports = RedisReports(redis)
    assert await reports.keep("e-1", "digest", await claimed(reports), REPORT)

    assert await RedisReports(redis).claim("e-1", "digest") == REPORT
    assert await RedisReports(redis).find("e-1") == REPORT
    assert 86_390 < await redis.ttl(KEY_PREFIX + "e-1") <= 86_400


async def test_keeping_a_report_twice_is_keeping_it_once(redis: "Redis") -> None:
    reports = RedisReports(redis)
    claim = await claimed(reports)

    assert await reports.keep("e-1", "digest", claim, REPORT)
    assert await reports.keep("e-1", "digest", claim, REPORT)


async def test_another_order_under_the_same_id_is_refused_under_way_and_after(redis: "Redis") -> None:
    reports = RedisReports(redis)
    claim = await claimed(reports)
    with pytest.raises(ClientOrderIdReused):
        await reports.claim("e-1", "another")

    await reports.keep("e-1", "digest", claim, REPORT)
    with pytest.raises(ClientOrderIdReused):
        await reports.claim("e-1", "another")


async def test_a_claim_of_a_dead_worker_expires_and_can_keep_nothing_any_more(redis: "Redis") -> None:
    reports = RedisReports(redis, claim_seconds=0.05)
    dead = await claimed(reports)
    await gone(redis, KEY_PREFIX + "e-1")

    assert await reports.find("e-1") is None
    assert not await reports.keep("e-1", "digest", dead, REPORT)
    assert await reports.find("e-1") is None


async def test_a_slow_worker_cannot_overwrite_the_one_who_took_over(redis: "Redis") -> None:
    slow = await claimed(RedisReports(redis, claim_seconds=0.05))
    await gone(redis, KEY_PREFIX + "e-1")
    reports = RedisReports(redis)
    await claimed(reports)

    assert not await reports.keep("e-1", "digest", slow, REPORT)
    assert isinstance(await reports.find("e-1"), InFlight)


async def test_a_released_id_may_come_again(redis: "Redis") -> None:
    reports = RedisReports(redis)
    await reports.release("e-1", "digest", await claimed(reports))

    assert await reports.find("e-1") is None
    assert isinstance(await reports.claim("e-1", "another"), Claimed)


async def test_only_the_holder_of_a_claim_releases_it(redis: "Redis") -> None:
    reports = RedisReports(redis)
    await claimed(reports)
    await reports.release("e-1", "digest", Claimed(token="somebody else"))

    assert isinstance(await reports.find("e-1"), InFlight)


ASK: list[Callable[[RedisReports], object]] = [
    lambda reports: reports.claim("e-1", "digest"),
    lambda reports: reports.keep("e-1", "digest", Claimed(token="t"), REPORT),
    lambda reports: reports.release("e-1", "digest", Claimed(token="t")),
    lambda reports: reports.find("e-1"),
]


@pytest.mark.parametrize("ask", ASK, ids=["claim", "keep", "release", "find"])
async def test_a_redis_that_is_gone_has_one_name_for_every_question(ask: Callable[[RedisReports], object]) -> None:
    nobody = Redis(host="127.0.0.1", port=free_port(), socket_connect_timeout=0.5)
    try:
        with pytest.raises(ReportStoreUnavailable):
            await ask(RedisReports(nobody))  # type: ignore[misc]
    finally:
        await nobody.aclose()


async def test_two_replicas_that_get_one_order_twenty_times_fill_it_once(redis: "Redis") -> None:
    def replica() -> Desk:
        once = Once(reports=RedisReports(redis), work_seconds=2.0, wait_seconds=2.0)
        return msgspec.structs.replace(World().desk, once=once)

    desks = [replica(), replica()]
    reports = await asyncio.gather(*(enter(desks[number % 2], entry()) for number in range(20)))

    assert {report.status for report in reports} == {ExecutionStatus.FILLED}
    assert all(report == reports[0] for report in reports)


async def test_an_order_goes_through_once_redis_has_come_back(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", free_port(), durable=False)
    server.start()
    client: Redis = Redis.from_url(server.url, socket_timeout=2.0, socket_connect_timeout=2.0)
    desk = msgspec.structs.replace(World().desk, once=Once(reports=RedisReports(client)))
    try:
        assert (await enter(desk, entry(client_order_id="before"))).status is ExecutionStatus.FILLED
        server.stop()
        gone = await enter(desk, entry(client_order_id="during"))
        assert gone.refusal is not None
        assert gone.refusal.code == "report_store_unavailable"
        server.start()
        assert (await enter(desk, entry(client_order_id="after"))).status is ExecutionStatus.FILLED
    finally:
        await client.aclose()
        server.stop()
