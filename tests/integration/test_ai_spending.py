"""What the model costs, counted for all replicas on a real Redis."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import pytest
import structlog
from redis.asyncio import Redis
from structlog.typing import EventDict

from engine.budget import DailySpending, Prices

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000
NOON_MS = 20_780 * DAY_MS + DAY_MS // 2
PRICES = Prices(prompt=Decimal("0.30"), completion=Decimal("1.20"))


class Wall:
    """Wall time that a test moves."""

    ms = NOON_MS

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def replica(redis: Redis, wall: Wall, bound_usd: str = "0.002") -> DailySpending:
    return DailySpending(redis, Decimal(bound_usd), PRICES, wall.now_ms)


async def test_replicas_share_the_days_budget_and_the_next_utc_day_has_its_own(redis: Redis) -> None:
    wall = Wall()
    one, other = replica(redis, wall), replica(redis, wall)
    await one.add(1000, 500)
    await other.add(1000, 500)
    assert not await one.exhausted()
    await one.add(1000, 500)
    assert "budget" in await other.exhausted()
    assert other.spent_usd == Decimal("0.0027")
    wall.ms += DAY_MS // 2
    assert not await other.exhausted()
    assert other.spent_usd == 0


async def test_the_count_ends_by_itself(redis: Redis) -> None:
    await replica(redis, Wall()).add(1000, 500)
    (key,) = await redis.keys("*")
    assert key == b"neurotrade:ai-spent:1:20780"
    assert 0 < await redis.ttl(key) <= 2 * 86_400


async def test_what_was_counted_without_redis_is_told_when_it_is_back(redis: Redis) -> None:
    wall = Wall()
    one, other = replica(redis, wall), replica(redis, wall)
    await redis.set("neurotrade:ai-spent:1:20780", "no number")
    await one.add(1000, 500)
    assert one.spent_usd == Decimal("0.0009")
    await redis.delete("neurotrade:ai-spent:1:20780")
    await one.add(1000, 500)
    await other.add(0, 0)
    assert other.spent_usd == Decimal("0.0018")


async def test_reaching_the_budget_is_said_once_a_day(redis: Redis, logs: list[EventDict]) -> None:
    wall = Wall()
    one = replica(redis, wall)
    await one.add(10_000, 5_000)
    assert await one.exhausted()
    assert await one.exhausted()
    wall.ms += DAY_MS
    await one.add(10_000, 5_000)
    assert await one.exhausted()
    assert len([entry for entry in logs if "is spent" in entry["event"]]) == 2
