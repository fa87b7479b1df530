"""The exchange's budget as one replica counts it: a reserve for what protects, order windows, and staying away."""

from itertools import pairwise

import pytest

from engine.budget import WeightBudget
from engine.errors import ExchangeThrottled
from engine.ports import Urgency


class Minute:
    """Market time that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_767_744_000_000

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def market() -> Minute:
    return Minute()


@pytest.fixture
def budget(market: Minute) -> WeightBudget:
    return WeightBudget(100, market.now_ms, patience_seconds=0.0, reserve_share=0.2)


async def test_entries_leave_a_share_to_who_watches_and_both_the_reserve_to_what_protects(
    budget: WeightBudget, market: Minute
) -> None:
    await budget.spend(60)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1)
    market.ms += 59_999
    await budget.spend(20, Urgency.WATCH)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.WATCH)
    await budget.spend(20, Urgency.PROTECT)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.PROTECT)
    assert budget.used == 100


async def test_a_new_market_minute_brings_new_weight(budget: WeightBudget, market: Minute) -> None:
    first = await budget.spend(60)
    market.ms += 60_000
    assert await budget.spend(60) == first + 1


async def test_who_watches_sees_all_through_the_minute_however_much_is_watched(budget: WeightBudget, market: Minute) -> None:
    await budget.spend(60)
    seen = []
    for second in range(60):
        market.ms = market.ms // 60_000 * 60_000 + second * 1000
        while budget.take(1, Urgency.WATCH):
            seen.append(second)
    assert len(seen) == 20
    assert seen[:2] == [0, 0]
    assert max(after - before for before, after in pairwise(seen)) <= 5


async def test_what_protects_takes_nothing_of_what_is_kept_for_watching_until_its_own_is_left(
    budget: WeightBudget, market: Minute
) -> None:
    await budget.spend(60)
    await budget.spend(10, Urgency.PROTECT)
    market.ms += 30_000
    await budget.spend(10, Urgency.WATCH)
    assert budget.used == 80
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.WATCH)
    market.ms += 29_999
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.WATCH)
    await budget.spend(20, Urgency.PROTECT)
    assert budget.used == 100


async def test_orders_are_counted_for_each_account_in_ten_seconds_and_in_a_minute(budget: WeightBudget, market: Minute) -> None:
    for _ in range(240):
        await budget.spend(0, Urgency.ENTER, "u1", 1)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(0, Urgency.ENTER, "u1", 1)
    await budget.spend(0, Urgency.ENTER, "u2", 1)
    await budget.spend(0, Urgency.PROTECT, "u1", 1)
    market.ms += 10_000
    await budget.spend(0, Urgency.ENTER, "u1", 1)
    for _ in range(3):
        market.ms += 10_000
        for _ in range(300):
            await budget.spend(0, Urgency.PROTECT, "u1", 1)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(0, Urgency.ENTER, "u1", 1)


async def test_a_ban_holds_for_everything_and_a_full_account_for_its_orders(budget: WeightBudget) -> None:
    budget.block_orders("u1", 60)
    with pytest.raises(ExchangeThrottled) as raised:
        await budget.spend(0, Urgency.PROTECT, "u1", 1)
    assert raised.value.retry_after_seconds == pytest.approx(60, abs=1)
    await budget.spend(0, Urgency.PROTECT, "u2", 1)
    await budget.spend(5)
    budget.block(120)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(1, Urgency.PROTECT)


async def test_what_the_exchange_counted_more_is_taken_over(budget: WeightBudget) -> None:
    minute = await budget.spend(1)
    budget.learn(79, minute)
    budget.learn(500, minute - 1)
    assert budget.used == 79
    with pytest.raises(ExchangeThrottled):
        await budget.spend(2)


async def test_orders_that_others_sent_for_the_account_are_taken_over(budget: WeightBudget, market: Minute) -> None:
    budget.learn_orders("u1", market.ms, [300, -1])
    with pytest.raises(ExchangeThrottled):
        await budget.spend(0, Urgency.PROTECT, "u1", 1)
    market.ms += 10_000
    budget.learn_orders("u1", market.ms - 10_000, [300, -1])
    await budget.spend(0, Urgency.PROTECT, "u1", 1)


async def test_a_lower_limit_is_kept_and_what_is_left_is_told(budget: WeightBudget, market: Minute) -> None:
    assert (await budget.left(), await budget.left(Urgency.PROTECT)) == (60, 100)
    await budget.spend(30)
    budget.lower(60)
    assert (budget.limit, await budget.left(), await budget.left(Urgency.PROTECT)) == (60, 6, 30)
    with pytest.raises(ExchangeThrottled):
        await budget.spend(7)
    budget.lower(5_000)
    assert budget.limit == 100
    market.ms += 60_000
    budget.block(30)
    assert await budget.left() == 0
