"""Orders at an exchange: one at a time, finished though nobody waits, and never told as refused once they may have been sent."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from engine.core.order import OrderRefusal, no
from engine.errors import ClientOrderIdReused
from engine.execution.asking import Patience
from engine.execution.close import refused
from engine.execution.entry import enter
from engine.execution.lasting_once import ANSWER_SECONDS, CLAIM_SECONDS, LastingOnce
from engine.ports import MarketOrder
from orchestrator.engine_client import FLATTEN_SECONDS, ORDER_SECONDS
from shared.enums import ExecutionStatus
from shared.execution import EntryRequest, ExecutionReport, VenueOrder
from shared.problem import Problem
from tests.polling import eventually
from tests.unit.engine.execution_desk import WALL_MS, World, armed, closing, entry, refusal_of
from tests.unit.engine.fake_exchange import FakeExchange

ORDER = entry(armed(), client_order_id="nt-e-ABC", sent_at=datetime.fromtimestamp(WALL_MS / 1000, UTC))


class HeldUp(FakeExchange):
    """Takes an order only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def send(self, order: MarketOrder) -> VenueOrder | Problem:
        self.asked.set()
        await self.go_on.wait()
        return await super().send(order)


def slow_world(answer_seconds: float) -> tuple[World, HeldUp]:
    exchange = HeldUp()
    world = World(dry_run=False, exchanges=exchange, patience=Patience(poll=0.002, apart=0.01, fills=0.5))
    lasting = LastingOnce(reports=world.reports, answer_seconds=answer_seconds)
    world.desk = msgspec.structs.replace(world.desk, lasting=lasting)
    return world, exchange


async def test_an_order_that_takes_too_long_is_unknown_and_goes_on() -> None:
    world, exchange = slow_world(0.05)

    told = await enter(world.desk, ORDER)
    assert told.status is ExecutionStatus.UNKNOWN
    exchange.go_on.set()

    async def guarded() -> bool | None:
        return True if len(exchange.guards()) == 2 else None

    await eventually(guarded, seconds=5, what="the entry to be protected")
    await eventually(lambda: kept(world), seconds=5, what="its report")
    assert (await enter(world.desk, ORDER)).status is ExecutionStatus.FILLED
    assert len(exchange.sent()) == 1


async def kept(world: World) -> bool | None:
    return True if "nt-e-ABC" in world.reports.kept else None


async def test_an_entry_whose_caller_left_is_protected_all_the_same() -> None:
    world, exchange = slow_world(5.0)
    caller = asyncio.create_task(enter(world.desk, ORDER))
    await exchange.asked.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    exchange.go_on.set()

    await eventually(lambda: kept(world), seconds=5, what="its report")
    assert len(exchange.guards()) == 2


async def test_two_replicas_at_once_send_one_order() -> None:
    world, exchange = slow_world(5.0)
    first = asyncio.create_task(enter(world.desk, ORDER))
    await exchange.asked.wait()
    second = asyncio.create_task(enter(world.desk, ORDER))
    exchange.go_on.set()

    assert await first == await second
    assert len(exchange.sent()) == 1


@pytest.mark.parametrize(("widened_to", "waits"), [(None, True), (Decimal("0.02"), False)])
async def test_a_resume_waits_for_another_of_its_id_unless_it_closes_more_than_that_looks_for(
    widened_to: Decimal | None, waits: bool
) -> None:
    world, ended = World(dry_run=False, exchanges=FakeExchange()), asyncio.Event()
    lasting, part = world.desk.lasting, closing(armed(), quantity=Decimal("0.01"), resume=True)
    wider = msgspec.structs.replace(part, widened_to=widened_to)

    def blank(status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
        return refused(world.desk, part, refusal)

    async def looks() -> ExecutionReport:
        await ended.wait()
        return refused(world.desk, part, no(OrderRefusal.NEVER_ARRIVED, "it looked for long"))

    async def closes() -> ExecutionReport:
        return refused(world.desk, wider, no(OrderRefusal.NO_POSITION, "it was there"))

    first = asyncio.create_task(lasting.run(part, looks, blank, keep_refusals=False))
    await asyncio.sleep(0)
    second = asyncio.create_task(lasting.run(wider, closes, blank, keep_refusals=False))
    assert bool((await asyncio.wait({second}, timeout=0.3))[1]) is waits
    ended.set()
    await asyncio.gather(first, second)


async def test_a_report_that_could_not_be_kept_is_told_since_the_exchange_keeps_it() -> None:
    world = World(dry_run=False, exchanges=FakeExchange())
    world.reports.lose_keep = True

    assert (await enter(world.desk, ORDER)).status is ExecutionStatus.FILLED


async def test_an_id_with_another_order_behind_it_is_refused_for_real_money_too() -> None:
    world = World(dry_run=False, exchanges=FakeExchange())
    await enter(world.desk, ORDER)

    with pytest.raises(ClientOrderIdReused):
        await enter(world.desk, msgspec.structs.replace(ORDER, amount_usdt=Decimal(700)))


async def test_a_refusal_is_final_and_a_resume_of_it_says_the_same() -> None:
    world = World(dry_run=False, exchanges=FakeExchange())
    world.market.down = True
    first = await enter(world.desk, ORDER)
    world.market.down = False

    assert refusal_of(first) == "market_data_unavailable"
    assert await enter(world.desk, ORDER) == first
    assert await enter(world.desk, resume_of(ORDER)) == first


def resume_of(order: EntryRequest) -> EntryRequest:
    return msgspec.structs.replace(order, resume=True)


def test_the_bounds_fit_into_each_other() -> None:
    patience = Patience()
    whole = (
        patience.read * 4
        + patience.outcome * 2
        + patience.linger
        + patience.protect
        + patience.fills * 2
        + patience.drain
        + patience.clear
    )

    assert ANSWER_SECONDS < ORDER_SECONDS
    assert whole < CLAIM_SECONDS
    assert patience.flatten < FLATTEN_SECONDS
    assert patience.send_within + 5 < patience.arrives_within
