"""The budget over replicas against a real Redis: together they spend what one may, and a ban told to one is obeyed by all."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from deploy.servers import free_port
from engine.budget import SharedBudget
from engine.budget.shared import PREFIX
from engine.candles.budget import DATA, FUNDING
from engine.errors import ExchangeThrottled
from engine.ports import Urgency
from tests.polling import eventually

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("redis")]

type Replica = Callable[[], SharedBudget]
ACCOUNT = uuid.uuid4().hex


class Minute:
    def __init__(self) -> None:
        self.ms = 1_767_744_000_000

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def market() -> Minute:
    return Minute()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    client = Redis.from_url(redis_url)
    await forget(client)
    yield client
    await forget(client)
    await client.aclose()


async def forget(client: "Redis") -> None:
    keys = [key async for key in client.scan_iter(PREFIX + "*")]
    if keys:
        await client.delete(*keys)


@pytest.fixture
def replica(redis: "Redis", market: Minute) -> Replica:
    return lambda: SharedBudget(redis, 100, market.now_ms, patience_seconds=0.0)


async def test_spending_nothing_takes_nothing_from_anybody(replica: Replica) -> None:
    one, other = replica(), replica()
    whole = await other.left()
    await one.spend(0)
    assert (one.used, await other.left()) == (0, whole)
    await other.spend(whole)
    assert other.used == whole


async def test_two_replicas_spend_one_weight(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    await one.spend(40)
    await other.spend(20)
    for budget in (one, other):
        with pytest.raises(ExchangeThrottled):
            await budget.spend(1)
    await one.spend(2, Urgency.WATCH)
    with pytest.raises(ExchangeThrottled):
        await other.spend(1, Urgency.WATCH)
    await one.spend(38, Urgency.PROTECT)
    with pytest.raises(ExchangeThrottled):
        await other.spend(1, Urgency.PROTECT)
    assert other.used == 100
    market.ms += 60_000
    await other.spend(60)


async def test_two_replicas_share_what_is_kept_for_watching_whatever_protected(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    await one.spend(40)
    await other.spend(20)
    await one.spend(10, Urgency.PROTECT)
    market.ms += 30_000
    await one.spend(6, Urgency.WATCH)
    await other.spend(4, Urgency.WATCH)
    for budget in (one, other):
        with pytest.raises(ExchangeThrottled):
            await budget.spend(1, Urgency.WATCH)
    await other.spend(20, Urgency.PROTECT)
    assert other.used == 100
    market.ms += 30_000
    await one.spend(60)
    await other.spend(2, Urgency.WATCH)
    assert other.used == 62


async def test_many_at_once_never_take_more_than_there_is(replica: Replica) -> None:
    replicas = [replica() for _ in range(3)]
    taken = await asyncio.gather(*(replicas[n % 3].spend(3) for n in range(60)), return_exceptions=True)
    taken_by = sum(not isinstance(end, BaseException) for end in taken)
    assert taken_by in (60 // 3, 60 // 3 - 1)  # a piece taken ahead may keep a remainder


async def test_a_scans_hundreds_of_reads_ask_redis_a_few_times(redis: "Redis", market: Minute) -> None:
    budget = SharedBudget(redis, 2400, market.now_ms, patience_seconds=0.0)
    before = (await redis.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
    await asyncio.gather(*(budget.spend(2) for _ in range(500)))
    asked = (await redis.info("commandstats"))["cmdstat_eval"]["calls"] - before
    assert asked <= 30
    assert budget.used == 1000


async def test_a_ban_told_to_one_replica_is_obeyed_by_the_others(replica: Replica) -> None:
    one, other = replica(), replica()
    one.block(30)
    await eventually(lambda: refused(other), seconds=2, what="the ban at the other replica")
    assert await refused(other) == pytest.approx(30, abs=2)


async def test_a_limit_lowered_at_one_replica_holds_for_all_and_what_is_left_is_of_all(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    await one.spend(30, Urgency.PROTECT)
    assert await other.left() == 30
    one.lower(60)
    await eventually(lambda: left_is(other, 6), seconds=2, what="the lowered limit at the other replica")
    with pytest.raises(ExchangeThrottled):
        await other.spend(7)
    await other.spend(20, Urgency.PROTECT)
    assert await one.left() == 0
    market.ms += 60_000
    assert (await one.left(), await other.left()) == (36, 36)


async def left_is(budget: SharedBudget, weight: int) -> bool:
    return await budget.left() == weight


async def test_an_account_out_of_orders_is_so_everywhere_and_alone(replica: Replica) -> None:
    one, other = replica(), replica()
    one.block_orders(ACCOUNT, 30)
    await eventually(lambda: refused(other, ACCOUNT), seconds=2, what="the full account at the other replica")
    await other.spend(1)
    await other.spend(0, Urgency.PROTECT, "another", 1)


async def test_orders_of_an_account_are_counted_over_replicas(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    for _ in range(120):
        await one.spend(0, Urgency.ENTER, ACCOUNT, 1)
        await other.spend(0, Urgency.ENTER, ACCOUNT, 1)
    with pytest.raises(ExchangeThrottled):
        await one.spend(0, Urgency.ENTER, ACCOUNT, 1)
    await other.spend(0, Urgency.PROTECT, ACCOUNT, 1)
    market.ms += 10_000
    await one.spend(0, Urgency.ENTER, ACCOUNT, 1)


async def test_what_the_exchange_counted_reaches_the_others_with_the_next_request(replica: Replica) -> None:
    one, other = replica(), replica()
    minute = await one.spend(1)
    one.learn(58, minute)
    await one.spend(1)
    with pytest.raises(ExchangeThrottled):
        await other.spend(2)


async def test_orders_that_others_sent_reach_all_replicas_with_the_accounts_next_one(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    one.learn_orders(ACCOUNT, market.ms, [298, 298])
    await one.spend(0, Urgency.PROTECT, ACCOUNT, 1)
    await other.spend(0, Urgency.PROTECT, ACCOUNT, 1)
    with pytest.raises(ExchangeThrottled):
        await other.spend(0, Urgency.PROTECT, ACCOUNT, 1)


async def test_the_pools_of_public_pages_are_shared_and_begin_anew_with_each_window(replica: Replica, market: Minute) -> None:
    one, other = replica(), replica()
    for budget in (one, other) * (FUNDING.limit // 2):
        await budget.draw(FUNDING)
    for budget in (one, other):
        with pytest.raises(ExchangeThrottled, match="funding rates"):
            await budget.draw(FUNDING)
    await one.draw(DATA)
    market.ms += FUNDING.window_ms
    await other.draw(FUNDING)


async def test_without_redis_a_replica_draws_from_pools_alone(market: Minute) -> None:
    away = Redis.from_url(f"redis://127.0.0.1:{free_port()}/0", socket_connect_timeout=0.2)
    budget = SharedBudget(away, 100, market.now_ms, patience_seconds=0.0)
    for _ in range(FUNDING.limit):
        await budget.draw(FUNDING)
    with pytest.raises(ExchangeThrottled):
        await budget.draw(FUNDING)
    await away.aclose()


async def test_without_redis_a_replica_counts_alone_and_says_so_once(market: Minute, capsys: pytest.CaptureFixture[str]) -> None:
    away = Redis.from_url(f"redis://127.0.0.1:{free_port()}/0", socket_connect_timeout=0.2)
    budget = SharedBudget(away, 100, market.now_ms, patience_seconds=0.0)
    await budget.spend(30)
    await budget.spend(30)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1)
    budget.block(60)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.PROTECT)
    assert capsys.readouterr().out.count("counts the exchange's budget alone") == 1
    await away.aclose()


async def test_a_redis_that_is_silent_holds_a_scan_up_once_and_not_read_by_read(market: Minute) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    redis = Redis.from_url(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", socket_timeout=2.0)
    budget = SharedBudget(redis, 2400, market.now_ms, patience_seconds=0.0)
    async with asyncio.timeout(1.5):
        await asyncio.gather(*(budget.spend(2) for _ in range(50)))
    assert budget.used == 100
    await redis.aclose()
    server.close()


async def refused(budget: SharedBudget, account: str = "") -> float | None:
    """Seconds that a protective call has to wait; None where it may go."""
    try:
        await budget.spend(0, Urgency.PROTECT, account, 1 if account else 0)
    except ExchangeThrottled as error:
        return error.retry_after_seconds
    return None
