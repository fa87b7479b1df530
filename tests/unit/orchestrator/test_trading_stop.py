"""Stopping says what is known: whether a stop rests at the exchange, and what was on its way when somebody said stop."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.enums import OrderKind
from shared.execution import EntryRequest, ExecutionReport, OrderSide, SealedCredentials
from tests.builders import USER, d, signal, trader
from tests.fakes import World
from tests.fakes_real import RealWorld, real_trader

KEYS = SealedCredentials(key_id="k1", sealed="AAAA")


async def holding() -> RealWorld:
    world = RealWorld(real_trader(credentials=KEYS))
    await world.reconcile()
    await world.enter(signal("AAAUSDT"))
    await world.reconcile()
    return world


async def said_of(world: World) -> list[tuple[str, str, str]]:
    stopped = await world.trading.desk.stop(USER, close_positions=False)
    return [(one.symbol, one.result, one.detail) for one in stopped.positions]


async def test_a_stop_that_rests_is_told_with_its_price_as_the_exchange_has_it() -> None:
    world = await holding()
    assert await said_of(world) == [("AAAUSDT", "kept", "its stop at 98 rests at the exchange")]


async def test_a_stop_that_is_gone_is_never_said_to_rest() -> None:
    world = await holding()
    book = world.engine.book()
    book.orders = [order for order in book.orders if order.kind is not OrderKind.STOP]
    ((_, result, detail),) = await said_of(world)
    assert result == "no_stop_seen"
    assert detail == "no stop is seen at the exchange: it is being put back, or the position is closed"


async def test_an_exchange_that_is_not_heard_is_told_as_that() -> None:
    world = await holding()
    world.engine.broken = {"guards"}
    ((_, result, detail),) = await said_of(world)
    assert result == "not_heard"
    assert detail.startswith("the exchange was not heard, so whether its stop rests is not known now; at ")
    assert detail.endswith(" UTC it rested at 98")
    assert not world.rows.traders[USER].auto_trade_enabled


async def test_a_position_that_the_exchange_shows_no_more_is_not_kept() -> None:
    world = await holding()
    world.engine.hand("AAAUSDT", OrderSide.SELL, 10)
    ((_, result, _),) = await said_of(world)
    assert result == "closing"


async def test_a_paper_positions_stop_is_watched_here_and_no_exchange_is_asked() -> None:
    world = RealWorld(trader())
    await world.enter(signal())
    ((_, result, detail),) = await said_of(world)
    assert (result, detail) == ("kept", "its stop at 98 is watched here")
    assert world.engine.sent("guards") == []


async def on_its_way(world: World) -> tuple[asyncio.Event, "asyncio.Task[None]"]:
    """An entry whose answer comes when the event is set."""
    gate, arrived = asyncio.Event(), asyncio.Event()
    enter: Callable[[EntryRequest], Awaitable[ExecutionReport]] = world.engine.enter

    async def slow(request: EntryRequest) -> ExecutionReport:
        arrived.set()
        await gate.wait()
        return await enter(request)

    world.engine.enter = slow  # type: ignore[method-assign]
    entering = asyncio.create_task(world.enter(signal("AAAUSDT")))
    await arrived.wait()
    return gate, entering


@pytest.mark.parametrize("real", [True, False])
async def test_stop_and_close_waits_for_an_entry_on_its_way_and_closes_it_too(real: bool) -> None:
    world = RealWorld(real_trader(credentials=KEYS) if real else trader())
    await world.reconcile()
    gate, entering = await on_its_way(world)
    stopping = asyncio.create_task(world.trading.desk.stop(USER, close_positions=True))
    await asyncio.sleep(0)
    gate.set()
    stopped = await stopping
    await entering
    assert [(one.symbol, one.result) for one in stopped.positions] == [("AAAUSDT", "closed")]
    assert world.rows.live() == []


@pytest.mark.parametrize("close", [True, False])
async def test_an_entry_that_has_no_answer_is_named(close: bool) -> None:
    world = RealWorld(real_trader(credentials=KEYS))
    await world.reconcile()
    gate, entering = await on_its_way(world)
    stopped = await world.trading.desk.stop(USER, close_positions=close)
    ((symbol, result, detail),) = [(one.symbol, one.result, one.detail) for one in stopped.positions]
    assert (symbol, result) == ("AAAUSDT", "under_way")
    assert ("is not closed by this" in detail) is close
    gate.set()
    await entering
    assert [position.stop_loss for position in world.rows.live()] == [d(98)]
