"""Panic and stop: off first, everything flat, and an honest word about what is not."""

import asyncio

import pytest
from msgspec import structs

from orchestrator.core.order import OrderStatus
from shared.execution import CloseRequest, ExecutionReport
from tests.builders import USER, d, signal, trader
from tests.fakes import FakeUnit, World
from tests.soundness import assert_at_rest, assert_sound

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")


async def three_positions() -> World:
    world = World(trader())
    await world.enter(*(signal(symbol) for symbol in SYMBOLS))
    return world


async def test_panic_closes_everything_and_proves_it() -> None:
    world = await three_positions()
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.open_positions, receipt.open_orders) == (True, 0, 0)
    assert {(one.symbol, one.result) for one in receipt.positions} == {(symbol, "closed") for symbol in SYMBOLS}
    assert not world.rows.traders[USER].auto_trade_enabled
    assert world.rows.claims == {}
    assert_at_rest(world.rows)


async def test_auto_trading_is_off_before_anything_is_closed() -> None:
    world = await three_positions()
    world.engine.broken = {"close"}
    receipt = await world.trading.desk.panic(USER)
    assert not receipt.flat
    assert not world.rows.traders[USER].auto_trade_enabled


async def test_panic_with_nothing_open_is_flat_at_once() -> None:
    world = World(trader())
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.positions) == (True, [])


async def test_one_symbol_that_cannot_be_closed_never_keeps_another_open() -> None:
    world = await three_positions()
    del world.engine.prices["BBBUSDT"]
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.open_positions) == (False, 1)
    results = {one.symbol: one.result for one in receipt.positions}
    assert results == {"AAAUSDT": "closed", "BBBUSDT": "venue_refused", "CCCUSDT": "closed"}
    world.quote("BBBUSDT", 99)
    assert (await world.trading.desk.panic(USER)).flat
    assert_at_rest(world.rows)


async def test_approvals_are_cancelled_by_panic() -> None:
    world = World(trader(auto_trade_enabled=False))
    await world.enter(signal())
    receipt = await world.trading.desk.panic(USER)
    (order,) = world.rows.orders.values()
    assert (order.status, order.reason) == (OrderStatus.DECLINED, "stopped")
    assert receipt.flat
    assert_at_rest(world.rows)


async def test_a_close_of_unknown_outcome_is_settled_within_the_panic() -> None:
    world = await three_positions()
    world.engine.trouble["close"] = ["lost after", "lost before"]
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert len([fill for fill in world.rows.fills.values() if not fill.opens]) == 3
    assert_at_rest(world.rows)


async def test_an_entry_of_unknown_outcome_is_settled_and_closed_by_panic() -> None:
    world = World(trader())
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert [position.status.value for position in world.rows.positions.values()] == ["CLOSED_LOSS"]
    assert_at_rest(world.rows)


async def test_pressed_twice_it_is_one_panic_with_one_receipt() -> None:
    world = await three_positions()
    first, second = await asyncio.gather(world.trading.desk.panic(USER), world.trading.desk.panic(USER))
    assert first == second
    assert first.flat
    assert len(world.rows.receipts) == 1
    assert len(world.engine.sent("close")) == 3


async def test_a_panic_whose_process_died_is_finished_by_a_worker() -> None:
    world = await three_positions()
    await world.trading.panic._begin(USER)
    world.start()
    assert await world.trading.panic.resume() == 0
    world.clock.pass_wall(seconds=51)
    assert await world.trading.panic.resume() == 1
    assert world.rows.live() == []
    (receipt,) = world.rows.receipts.values()
    assert receipt.phase == "flat"
    assert_at_rest(world.rows)


async def test_panic_touches_nobody_else() -> None:
    world = World(trader(1), trader(2))
    await world.enter(signal())
    await world.trading.desk.panic(USER)
    assert [position.user_id.int for position in world.rows.live()] == [2]
    assert world.rows.traders[trader(2).id].auto_trade_enabled


async def test_stop_keeps_positions_protected_when_asked_to() -> None:
    world = await three_positions()
    stopped = await world.trading.desk.stop(USER, close_positions=False)
    assert [one.result for one in stopped.positions] == ["kept"] * 3
    assert all(position.stop_loss == d(98) for position in world.rows.live())
    world.clock.pass_market(minutes=75)
    await world.enter(signal("DDDUSDT", candle_close=world.clock.now()))
    assert [order.status.value for order in world.rows.orders.values()][-1] == "AWAITING_APPROVAL"
    assert_sound(world.rows)


async def test_stop_closes_positions_when_asked_to() -> None:
    world = await three_positions()
    stopped = await world.trading.desk.stop(USER, close_positions=True)
    assert [one.result for one in stopped.positions] == ["closed"] * 3
    assert world.rows.live() == []


async def test_the_pages_are_told_how_far_a_panic_is() -> None:
    world = await three_positions()
    await world.trading.desk.panic(USER)
    told = world.bus.events("panic")
    assert [one["done"] for one in told] == [False] * (len(told) - 1) + [True]
    assert told[-1]["phase"] == "flat"


async def test_an_entry_that_never_arrived_is_not_sent_again_by_a_panic() -> None:
    world = World(trader())
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert len(world.engine.sent("enter")) == 1
    assert world.rows.positions == {}
    assert_at_rest(world.rows)


async def test_an_entry_that_never_arrived_is_not_sent_again_once_auto_trading_is_off() -> None:
    world = World(trader())
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    await world.trading.desk.stop(USER, close_positions=False)
    await world.trading.settle.run()
    assert len(world.engine.sent("enter")) == 1
    assert world.rows.claims == {}


async def test_pressed_again_after_auto_trading_was_switched_on_it_goes_off_again_and_another_panic_follows() -> None:
    """The first one still runs: its receipt knows nothing of what was opened since."""
    world = await three_positions()
    begun, on_again = asyncio.Event(), asyncio.Event()
    close = world.engine.close

    async def slow(request: CloseRequest) -> ExecutionReport:
        begun.set()
        await on_again.wait()
        for _ in range(20):  # turns of the loop in which the second press is heard
            await asyncio.sleep(0)
        assert not world.rows.traders[USER].auto_trade_enabled
        return await close(request)

    world.engine.close = slow  # type: ignore[method-assign]
    first = asyncio.create_task(world.trading.desk.panic(USER))
    await begun.wait()
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], auto_trade_enabled=True)
    world.clock.pass_wall(seconds=1)
    second = asyncio.create_task(world.trading.desk.panic(USER))
    on_again.set()
    receipts = await asyncio.gather(first, second)
    assert receipts[0].receipt_id != receipts[1].receipt_id
    assert all(receipt.flat for receipt in receipts)
    assert_at_rest(world.rows)


async def test_an_approval_that_appears_while_a_panic_runs_is_cancelled_too() -> None:
    world = await three_positions()
    del world.engine.prices["BBBUSDT"]

    async def pause(seconds: float) -> None:
        world.clock.pass_wall(seconds=seconds)
        if "DDDUSDT" not in world.engine.prices:
            await world.enter(signal("DDDUSDT"))
            world.quote("BBBUSDT", 100)

    world.trading.panic._pause = pause
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert world.rows.claims == {}
    assert_at_rest(world.rows)


async def test_an_approved_entry_of_unknown_outcome_is_not_sent_again_after_a_panic() -> None:
    """Nobody can say during the panic what became of it, so the panic ends not flat; when the engine is back, nothing opens."""
    world = World(trader(auto_trade_enabled=False))
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    world.engine.trouble["enter"] = ["lost before"]
    await world.trading.desk.approve(USER, order.id)
    world.engine.broken = {"order"}
    assert not (await world.trading.desk.panic(USER)).flat
    world.engine.broken = set()
    world.clock.pass_wall(seconds=30)
    await world.trading.settle.run()
    assert len(world.engine.sent("enter")) == 1
    assert (world.rows.positions, world.rows.claims) == ({}, {})
    assert_at_rest(world.rows)


async def test_auto_trading_that_is_switched_off_between_decision_and_order_sends_nothing() -> None:
    world = World(trader())
    world.engine.prices["SOLUSDT"] = d(100)
    await world.enter()
    commit, traders = FakeUnit.commit, world.rows.traders

    async def off_after_the_claim(unit: FakeUnit) -> None:
        await commit(unit)
        if any(order.status is OrderStatus.CLAIMED for order in world.rows.orders.values()):
            world.rows.traders = traders | {USER: structs.replace(traders[USER], auto_trade_enabled=False)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeUnit, "commit", off_after_the_claim)
        await world.enter(signal())
    (order,) = world.rows.orders.values()
    assert (order.status, order.reason) == (OrderStatus.REFUSED, "stopped")
    assert world.engine.sent("enter") == []
    assert world.rows.claims == {}
    assert_at_rest(world.rows)


async def test_pressed_again_after_its_process_died_a_panic_is_taken_over_by_whoever_pressed() -> None:
    world = await three_positions()
    await world.trading.panic._begin(USER)
    world.start()
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert len(world.rows.receipts) == 1
    assert_at_rest(world.rows)
