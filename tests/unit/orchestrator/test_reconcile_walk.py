"""Whatever happens to a real account, in whatever order, with whatever lost: at rest the rows equal the exchange and everything is guarded."""

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.order import LIVE as LIVE_ORDERS
from orchestrator.core.position import PositionStatus
from shared.enums import Mode, Side
from shared.execution import OrderSide
from shared.margin import ZERO
from tests.builders import USER, d, signal
from tests.fakes import Killed
from tests.fakes_real import RealWorld

SYMBOLS = ("AAAUSDT", "BBBUSDT")
FOREIGN = "HANDUSDT"
PARTS = ("balance", "positions", "orders", "trades", "income")
TROUBLES = (None, "lost before", "lost after", "unprotected")
HERE = ("enter", "close", "amend", "reconcile", "settle", "kill")
THERE = ("tick", "hand", "hand elsewhere", "fund", "transfer", "liquidate", "lag", "no stops")


def assert_at_rest_with_the_exchange(world: RealWorld) -> None:
    """No duplicate, no orphan, nothing naked, and the ledger to the cent."""
    rows, book = world.rows, world.engine.book()
    booked = sum((row.amount for row in rows.ledger if row.mode is Mode.REAL), ZERO)
    assert booked == book.wallet
    assert all(order.status not in LIVE_ORDERS for order in rows.orders.values())
    held = {symbol: one.quantity for symbol, one in book.held.items() if one.quantity != 0 and symbol != FOREIGN}
    live = rows.live()
    assert {row.symbol: row.size * row.side.sign for row in live} == held
    assert all(row.status is PositionStatus.OPEN for row in live)
    assert set(rows.claims) == {(USER, row.symbol, Mode.REAL) for row in live}
    for row in live:
        (stop,) = book.stops(row.symbol)
        assert (stop.quantity, stop.client_order_id, stop.trigger_price) == (row.size, row.stop_order_id, row.stop_loss)
    assert {order.symbol for order in book.working() if order.client_order_id.startswith("nt-")} == set(held)
    for row in rows.positions.values():
        of_it = sum((entry.amount for entry in rows.ledger if entry.position_id == row.id), ZERO)
        assert of_it == row.realized_pnl - row.fees + row.funding


async def step(world: RealWorld, what: str, data: st.DataObject) -> None:
    symbol = data.draw(st.sampled_from(SYMBOLS), label="symbol")
    if what == "enter":
        world.engine.prices[symbol] = d(100)
        await world.enter(signal(symbol, data.draw(st.sampled_from(list(Side)), label="side"), candle_close=world.clock.now()))
    elif what == "reconcile":
        await world.trading.reconcile.run()
    elif what == "settle":
        await world.trading.settle.run()
    elif what == "kill":
        world.cuts.at = len(world.cuts.steps) + data.draw(st.integers(1, 12), label="kill after")
    elif what in ("close", "amend"):
        await with_a_position(world, what, data)
    else:
        at_the_exchange(world, what, symbol, data)


def at_the_exchange(world: RealWorld, what: str, symbol: str, data: st.DataObject) -> None:
    held = world.engine.book().quantity(symbol)
    if what == "tick":
        world.engine.tick(symbol, data.draw(st.sampled_from([95, 97, 99, 100, 101, 103, 105]), label="price"))
    elif what == "transfer":
        world.engine.pay("TRANSFER", data.draw(st.sampled_from([-5, 20]), label="transfer"))
    elif what == "lag":
        world.engine.lag(*data.draw(st.lists(st.sampled_from(PARTS), max_size=3, unique=True), label="lag"))
    elif what == "no stops":
        world.engine.no_stops = data.draw(st.booleans(), label="no stops")
    elif what == "hand elsewhere":
        world.engine.prices.setdefault(FOREIGN, d(50))
        world.engine.hand(FOREIGN, data.draw(st.sampled_from(list(OrderSide)), label="side"), 2)
    elif held == 0:
        return
    elif what == "hand":
        part = data.draw(st.sampled_from([4, 50]), label="part")
        world.engine.hand(symbol, OrderSide.SELL if held > 0 else OrderSide.BUY, min(abs(held), d(part)))
    elif what == "fund":
        world.engine.pay("FUNDING_FEE", data.draw(st.sampled_from(["-0.37", "0.11"]), label="funding"), symbol)
    else:
        world.engine.liquidate(symbol, 3)


async def with_a_position(world: RealWorld, what: str, data: st.DataObject) -> None:
    live = world.rows.live()
    if not live:
        return
    position = data.draw(st.sampled_from(live), label="position")
    if what == "close":
        part = data.draw(st.sampled_from([None, d(3)]), label="part")
        await world.trading.desk.close(USER, position.id, part)
        return
    stop = position.entry_price * (1 - position.side.sign * data.draw(st.sampled_from([d("0.01"), d("0.03")]), label="stop"))
    await world.trading.desk.amend(USER, position.id, stop_loss=stop, take_profit=None, trailing_ratio=None)


@given(st.data())
@settings(max_examples=60, deadline=None)
async def test_at_rest_the_rows_equal_the_exchange_after_any_walk(data: st.DataObject) -> None:
    world = RealWorld()
    for symbol in SYMBOLS:
        world.quote(symbol, 100)
    await world.reconcile()
    for number in range(data.draw(st.integers(1, 10), label="steps")):
        trouble: dict[str, list[Any]] = {
            method: [data.draw(st.sampled_from(TROUBLES), label=method)]
            for method in ("enter", "close", "protect", "truth", "cancel")
        }
        world.engine.trouble = trouble
        world.clock.pass_market(minutes=20)
        world.clock.pass_wall(seconds=data.draw(st.sampled_from([1, 30]), label="wait"))
        what = data.draw(st.sampled_from(HERE + THERE), label=f"step {number}")
        with suppress(Killed):
            await step(world, what, data)
        if world.cuts.at is not None and len(world.cuts.steps) >= world.cuts.at:
            world.cuts.at = None
            world.start()
    world.cuts.at = None
    world.start()
    await rest(world)
    assert_at_rest_with_the_exchange(world)


async def rest(world: RealWorld) -> None:
    """Faults off, a minute later, and the rounds that the worker makes."""
    world.engine.trouble, world.engine.lagging, world.engine.no_stops = {}, set(), False
    for _ in range(4):
        world.clock.pass_wall(seconds=60)
        await world.trading.settle.run()
        await world.trading.reconcile.run()
