"""The same id twice is one order: reports, claims, and what NOT_FOUND proves."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from engine.core.market import Book
from engine.errors import ClientOrderIdReused
from engine.execution.close import close
from engine.execution.entry import enter
from engine.execution.lookup import look_up
from engine.execution.once import WAIT_SECONDS, WORK_SECONDS
from engine.reports import CLAIM_SECONDS
from shared.enums import ExecutionStatus, OrderLookup
from tests.unit.engine.execution_desk import StandingMarket, World, closing, entry, held, paper, real, refusal_of


class SlowMarket(StandingMarket):
    """A market whose book comes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for_book = asyncio.Event()
        self.go_on = asyncio.Event()

    async def book(self, symbol: str) -> Book:
        self.asked_for_book.set()
        await self.go_on.wait()
        return await super().book(symbol)


def slow_world(*, work_seconds: float = 1.0, wait_seconds: float = 0.2) -> tuple[World, SlowMarket]:
    market = SlowMarket()
    return World(market=market, work_seconds=work_seconds, wait_seconds=wait_seconds), market


async def test_the_same_order_again_answers_the_same_report_whatever_the_market_does_since() -> None:
    world = World()
    first = await enter(world.desk, entry())
    world.set_book(asks=((Decimal(60_100), Decimal(5)),))

    assert await enter(world.desk, entry()) == first


async def test_a_repeat_is_the_same_order_though_the_paper_book_has_changed() -> None:
    world = World()
    first = await enter(world.desk, entry(paper(balance="10000")))

    assert await enter(world.desk, entry(paper(balance="9999"))) == first


@pytest.mark.parametrize(
    "change", [{"amount_usdt": Decimal(700)}, {"leverage": Decimal(10)}, {"stop_loss": Decimal(59_500)}], ids=str
)
async def test_an_id_with_another_order_behind_it_is_refused(change: dict[str, Any]) -> None:
    world = World()
    await enter(world.desk, entry())

    with pytest.raises(ClientOrderIdReused):
        await enter(world.desk, entry(**change))


async def test_an_id_cannot_pass_from_an_entry_to_a_close() -> None:
    world = World()
    await enter(world.desk, entry(client_order_id="x"))

    with pytest.raises(ClientOrderIdReused):
        await close(world.desk, closing(paper(held()), client_order_id="x"))


async def test_an_id_cannot_pass_from_paper_to_real() -> None:
    world = World()
    await enter(world.desk, entry())

    with pytest.raises(ClientOrderIdReused):
        await enter(world.desk, entry(real(dry_run=True)))


async def test_a_refused_entry_stays_refused() -> None:
    world = World()
    world.market.down = True
    first = await enter(world.desk, entry())
    world.market.down = False

    assert await enter(world.desk, entry()) == first


async def test_two_callers_at_once_get_one_fill() -> None:
    world, market = slow_world(wait_seconds=5.0)
    first = asyncio.create_task(enter(world.desk, entry()))
    await market.asked_for_book.wait()
    second = asyncio.create_task(enter(world.desk, entry()))
    market.go_on.set()

    reports = await asyncio.gather(first, second)

    assert reports[0] == reports[1]
    assert reports[0].status is ExecutionStatus.FILLED


async def test_a_second_caller_who_waited_long_enough_is_told_that_it_is_unknown() -> None:
    world, market = slow_world(wait_seconds=0.05)
    first = asyncio.create_task(enter(world.desk, entry()))
    await market.asked_for_book.wait()

    second = await enter(world.desk, entry())

    assert second.status is ExecutionStatus.UNKNOWN
    assert refusal_of(second) == "outcome_unknown"
    market.go_on.set()
    assert (await first).status is ExecutionStatus.FILLED


async def test_a_market_that_hangs_ends_as_a_refusal() -> None:
    world, _ = slow_world(work_seconds=0.05)

    report = await enter(world.desk, entry())

    assert refusal_of(report) == "market_data_unavailable"


async def test_nothing_happens_without_a_report_store() -> None:
    world = World()
    world.reports.down = True

    report = await enter(world.desk, entry())

    assert report.status is ExecutionStatus.REFUSED
    assert refusal_of(report) == "report_store_unavailable"
    assert world.market.asked == 0


async def test_a_report_that_may_not_have_been_kept_is_unknown() -> None:
    world = World()
    world.reports.lose_keep = True

    report = await enter(world.desk, entry())

    assert report.status is ExecutionStatus.UNKNOWN
    assert report.fills == []


async def test_a_worker_that_was_too_slow_cannot_fill_after_its_claim_is_gone() -> None:
    world, market = slow_world()
    late = asyncio.create_task(enter(world.desk, entry()))
    await market.asked_for_book.wait()
    world.reports.expire_claims()
    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.NOT_FOUND

    market.go_on.set()

    assert (await late).status is ExecutionStatus.UNKNOWN
    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.NOT_FOUND


async def test_an_engine_that_dies_at_work_leaves_an_id_that_may_be_sent_again() -> None:
    world, market = slow_world()
    dying = asyncio.create_task(enter(world.desk, entry()))
    await market.asked_for_book.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    world.reports.expire_claims()
    market.go_on.set()

    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.NOT_FOUND
    assert (await enter(world.desk, entry())).status is ExecutionStatus.FILLED


async def test_a_filled_order_is_found_with_its_report() -> None:
    world = World()
    report = await enter(world.desk, entry())

    found = await look_up(world.desk, paper(), "e-1")

    assert (found.state, found.report) == (OrderLookup.FILLED, report)


async def test_a_refused_order_is_not_found_and_says_why() -> None:
    world = World()
    report = await enter(world.desk, entry(amount_usdt=Decimal(1)))

    found = await look_up(world.desk, paper(), "e-1")

    assert (found.state, found.report) == (OrderLookup.NOT_FOUND, report)


async def test_an_order_under_way_is_unknown() -> None:
    world, market = slow_world()
    first = asyncio.create_task(enter(world.desk, entry()))
    await market.asked_for_book.wait()

    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.UNKNOWN
    market.go_on.set()
    await first


async def test_a_lookup_without_a_report_store_proves_nothing() -> None:
    world = World()
    world.reports.down = True

    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.UNKNOWN


async def test_a_missing_report_proves_nothing_about_real_money() -> None:
    world = World()

    assert (await look_up(world.desk, real(dry_run=False), "e-1")).state is OrderLookup.UNKNOWN
    assert (await look_up(world.desk, real(dry_run=True), "e-1")).state is OrderLookup.NOT_FOUND


class BrokenMarket(StandingMarket):
    """A market that breaks its promise once."""

    async def book(self, symbol: str) -> Book:
        if self.asked < 2:
            self.asked = 2
            raise ZeroDivisionError
        return await super().book(symbol)


async def test_an_order_that_crashed_gives_its_id_back() -> None:
    world = World(market=BrokenMarket())
    with pytest.raises(ZeroDivisionError):
        await enter(world.desk, entry())

    assert (await look_up(world.desk, paper(), "e-1")).state is OrderLookup.NOT_FOUND
    assert (await enter(world.desk, entry())).status is ExecutionStatus.FILLED


def test_a_claim_outlives_the_work_and_both_questions_to_redis() -> None:
    redis_seconds = 2.0  # the socket time-out of engine.snapshots.connect

    assert WORK_SECONDS + 2 * redis_seconds < CLAIM_SECONDS
    assert WAIT_SECONDS > WORK_SECONDS
