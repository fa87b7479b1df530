"""The rows of a real account follow the exchange: exits, fees, funding, what is nobody's, what is not ours, and what must be protected."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from msgspec import structs

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import StoreUnavailable
from orchestrator.ports import Closed, OrderRecord, PositionRecord
from shared.enums import ExecutionStatus, Mode, OrderKind
from shared.execution import CloseRequest, ExecutionReport, GuardsReply, GuardsRequest, OrderSide
from shared.margin import ZERO
from tests.builders import USER, d, signal
from tests.fakes import Killed
from tests.fakes_real import RealWorld


async def entered() -> RealWorld:
    """LONG 10 SOLUSDT at 100, stop 98, target 104, protected at the exchange; the books are open."""
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    await world.reconcile()
    return world


def only(world: RealWorld) -> PositionRecord:
    (position,) = world.rows.positions.values()
    return position


def assert_equal_to_the_exchange(world: RealWorld) -> None:
    booked = sum((row.amount for row in world.rows.ledger if row.mode is Mode.REAL), ZERO)
    assert booked == world.engine.book().wallet
    assert world.rows.traders[USER].real_balance_cache == world.engine.book().wallet


async def test_the_first_truth_opens_the_books_with_what_the_wallet_holds() -> None:
    world = RealWorld()
    await world.reconcile()
    (opening,) = [row for row in world.rows.ledger if row.mode is Mode.REAL]
    assert (opening.kind, opening.amount) == (EntryKind.DEPOSIT, d(1000))
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_an_entry_is_booked_with_the_exchanges_fees_and_the_ids_of_what_rests() -> None:
    world = await entered()
    position = only(world)
    entry = next(order for order in world.rows.orders.values())
    name = entry.client_order_id[5:]
    assert (position.stop_order_id, position.target_order_id) == (f"nt-s-{name}", f"nt-t-{name}")
    assert position.protected_at is not None
    assert position.fees == d("0.5")
    assert_equal_to_the_exchange(world)


@pytest.mark.parametrize(
    ("price", "reason", "pnl"), [("97.9", CloseReason.STOP, "-21.9895"), ("104.1", CloseReason.TARGET, "39.9795")]
)
async def test_a_stop_or_target_that_filled_at_the_exchange_closes_the_position(
    price: str, reason: CloseReason, pnl: str
) -> None:
    world = await entered()
    world.engine.tick("SOLUSDT", price)
    await world.reconcile()
    position = only(world)
    assert (position.close_reason, position.pnl) == (reason, d(pnl))
    assert world.rows.claims == {}
    assert world.engine.book().working() == []
    assert_equal_to_the_exchange(world)


async def test_the_same_truth_twice_books_nothing_twice() -> None:
    world = await entered()
    world.engine.tick("SOLUSDT", 97)
    await world.reconcile()
    before = (list(world.rows.ledger), dict(world.rows.fills), dict(world.rows.positions))
    await world.start().reconcile.run()
    assert before == (world.rows.ledger, world.rows.fills, world.rows.positions)


async def test_a_truth_that_does_not_come_changes_nothing() -> None:
    world = await entered()
    world.engine.tick("SOLUSDT", 97)
    rows = world.rows.copy()
    world.engine.broken = {"truth"}
    await world.reconcile()
    assert vars(world.rows) == vars(rows)


async def test_a_position_gone_without_its_trades_is_not_flat() -> None:
    """The position is read at once, the trades come later: nothing is closed by a guess."""
    world = await entered()
    world.engine.lag("trades", "income")
    world.engine.tick("SOLUSDT", 97)
    await world.reconcile()
    assert only(world).status is PositionStatus.OPEN
    assert world.engine.sent("protect") == []
    world.engine.lagging = set()
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    assert_equal_to_the_exchange(world)


async def test_a_trade_of_an_entry_that_is_shown_after_it_was_booked_makes_the_position_larger() -> None:
    world = await entered()
    (entry,) = world.rows.orders.values()
    world.engine.prices["SOLUSDT"] = d(101)
    world.engine.hand("SOLUSDT", OrderSide.BUY, 2, entry.client_order_id)
    await world.reconcile()
    position = only(world)
    assert (position.size, position.opened_size, position.entry_price) == (d(12), d(12), d("100.166666666667"))
    assert (position.margin, position.fees) == (d("120.2"), d("0.601"))
    (stop,) = world.engine.book().stops("SOLUSDT")
    assert stop.quantity == d(12)
    await world.reconcile()
    assert only(world).fees == d("0.601")
    world.engine.tick("SOLUSDT", 97)
    await world.reconcile()
    assert (only(world).close_reason, only(world).size) == (CloseReason.STOP, d(0))
    assert world.rows.foreign.get(USER, []) == []
    assert_equal_to_the_exchange(world)


async def test_a_part_closed_by_hand_is_booked_and_what_rests_is_sized_anew() -> None:
    world = await entered()
    world.engine.hand("SOLUSDT", OrderSide.SELL, 4)
    await world.reconcile()
    position = only(world)
    assert (position.status, position.size) == (PositionStatus.OPEN, d(6))
    (stop,) = world.engine.book().stops("SOLUSDT")
    assert stop.quantity == d(6)
    assert position.stop_order_id == stop.client_order_id
    world.engine.hand("SOLUSDT", OrderSide.SELL, 6, "web_9")
    await world.reconcile()
    assert only(world).close_reason is CloseReason.EXTERNAL
    assert_equal_to_the_exchange(world)


async def test_a_liquidation_is_booked_with_its_insurance_fee_and_told() -> None:
    world = await entered()
    world.engine.prices["SOLUSDT"] = d(91)
    world.engine.liquidate("SOLUSDT", 5)
    await world.reconcile()
    position = only(world)
    assert (position.close_reason, position.status) == (CloseReason.LIQUIDATION, PositionStatus.CLOSED_LOSS)
    assert position.pnl == d("-95.955")
    assert "liquidated by the exchange" in world.bus.events("notice")[0]["say"]
    assert_equal_to_the_exchange(world)


async def test_an_auto_deleveraging_is_told_by_its_name() -> None:
    world = await entered()
    world.engine.liquidate("SOLUSDT", 0, "adl_autoclose")
    await world.reconcile()
    assert only(world).close_reason is CloseReason.ADL


async def test_funding_belongs_to_its_position_and_a_transfer_to_nobody() -> None:
    world = await entered()
    world.engine.pay("FUNDING_FEE", "-0.1", "SOLUSDT")
    world.engine.pay("TRANSFER", 50)
    await world.reconcile()
    assert only(world).funding == d("-0.1")
    assert [row.kind for row in world.rows.ledger[-2:]] == [EntryKind.FUNDING, EntryKind.TRANSFER]
    assert_equal_to_the_exchange(world)


async def test_a_fee_paid_in_another_coin_costs_its_position_but_not_the_wallet_in_usdt() -> None:
    world = RealWorld()
    await world.reconcile()
    book = world.engine.book()
    await world.enter(signal())
    (fee,) = [row for row in book.income if row.kind == "COMMISSION"]
    book.income[book.income.index(fee)] = structs.replace(fee, asset="BNB", amount=d("-0.0008"))
    book.wallet += d("0.5")
    for _ in range(2):
        await world.reconcile()
        world.clock.pass_wall(seconds=60)
    assert only(world).fees == d("0.5")
    assert world.bus.events("notice") == []
    assert_equal_to_the_exchange(world)


async def test_a_life_whose_fees_are_paid_in_bnb_leaves_the_ledger_equal_to_the_income_in_usdt() -> None:
    """Entry, a part closed here, a part by hand, the stop at the exchange; half of it heard from income before it is told as a trade."""
    world = RealWorld()
    await world.reconcile()
    world.engine.bnb_price = d("583.37")
    await world.enter(signal())
    await world.trading.desk.close(USER, only(world).id, d(3))
    await world.reconcile()
    world.engine.bnb_price = d("591.11")
    world.engine.hand("SOLUSDT", OrderSide.SELL, 4)
    await world.reconcile()
    world.engine.pay("FUNDING_FEE", "-0.1", "SOLUSDT")
    world.engine.lag("trades", "positions", "orders")
    world.engine.tick("SOLUSDT", "97.9")
    await world.reconcile()
    world.engine.lagging = set()
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    assert only(world).fees == sum(trade.fee for trade in world.engine.book().trades)
    assert world.rows.truths[USER].difference == 0
    assert_equal_to_the_exchange(world)
    in_usdt = sum((row.amount for row in world.engine.book().income if row.asset == "USDT"), ZERO)
    assert in_usdt == world.engine.book().wallet - d(1000)
    fees = sum((row.amount for row in world.rows.ledger if row.kind is EntryKind.FEE), ZERO)
    given_back = sum((row.amount for row in world.rows.ledger if row.kind is EntryKind.EXTERNAL), ZERO)
    assert fees == -given_back == -only(world).fees


async def test_the_bnb_fee_of_a_trade_that_is_not_ours_keeps_nobody_waiting() -> None:
    """The user adds to our position at the exchange: what that cost in BNB is in no wallet of ours."""
    world = await entered()
    world.engine.bnb_price = d(600)
    world.engine.hand("SOLUSDT", OrderSide.BUY, 2)
    done = None
    for _ in range(3):
        world.clock.pass_wall(seconds=60)
        done = await world.trading.reconcile.user(USER)
    assert done is not None
    assert not done.soon
    assert world.rows.truths[USER].look_back_to is None
    assert_equal_to_the_exchange(world)


async def test_funding_that_comes_after_the_close_changes_the_result() -> None:
    world = await entered()
    world.engine.pay("FUNDING_FEE", -45, "SOLUSDT")
    world.engine.lag("income", "balance")
    world.engine.book().income.pop()
    late = world.engine.book()
    world.engine.tick("SOLUSDT", 105)
    world.engine.lagging = {"balance"}
    await world.reconcile()
    assert only(world).status is PositionStatus.CLOSED_WIN
    late.wallet += d(45)
    world.engine.lagging = set()
    world.engine.pay("FUNDING_FEE", -60, "SOLUSDT")
    await world.reconcile()
    assert only(world).status is PositionStatus.CLOSED_LOSS
    assert_equal_to_the_exchange(world)


async def test_a_stop_that_filled_after_the_positions_were_read_is_not_put_back() -> None:
    """Positions and trades are from before, orders from after: nothing is naked that is just being closed."""
    world = await entered()
    world.engine.lag("positions", "trades", "income", "balance")
    world.engine.tick("SOLUSDT", 97)
    assert (await world.trading.reconcile.user(USER)).soon
    assert world.engine.sent("protect") == []
    world.engine.lagging = set()
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    assert_equal_to_the_exchange(world)


async def test_a_missing_stop_is_put_back_at_once() -> None:
    world = await entered()
    book = world.engine.book()
    for order in book.stops("SOLUSDT"):
        world.engine._end(book, order)
    await world.reconcile()
    (stop,) = book.stops("SOLUSDT")
    assert (stop.quantity, stop.trigger_price) == (d(10), d(98))
    assert only(world).stop_order_id == stop.client_order_id


async def test_a_stop_that_cannot_be_put_back_means_the_position_is_closed() -> None:
    world = await entered()
    book = world.engine.book()
    for order in book.stops("SOLUSDT"):
        world.engine._end(book, order)
    world.engine.no_stops = True
    await world.reconcile()
    assert len(world.engine.sent("protect")) == 2
    assert only(world).close_reason is CloseReason.UNPROTECTED
    assert book.quantity("SOLUSDT") == 0
    await world.reconcile()
    assert book.working() == []
    assert_equal_to_the_exchange(world)


async def test_an_entry_given_up_for_want_of_a_stop_is_a_closed_position_and_an_alert() -> None:
    world = RealWorld()
    await world.reconcile()
    world.engine.no_stops = True
    await world.enter(signal())
    position = only(world)
    assert (position.close_reason, position.status) == (CloseReason.UNPROTECTED, PositionStatus.CLOSED_LOSS)
    assert world.rows.claims == {}
    assert world.engine.book().quantity("SOLUSDT") == 0
    assert len(world.bus.events("notice")) == 1
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_orders_of_ours_that_nothing_owns_are_cancelled() -> None:
    world = await entered()
    world.engine.trouble["close"] = ["lost after"]
    world.engine.tick("SOLUSDT", 98)
    await world.reconcile()
    assert world.engine.sent("cancel")[0].client_order_ids == [only(world).target_order_id]
    assert world.engine.book().working() == []


async def test_two_stops_after_an_amendment_that_died_become_the_newer_one() -> None:
    world = await entered()
    book = world.engine.book()
    world.clock.pass_market(seconds=1)
    world.engine._place(book, "nt-p-aaaaaaaaaaaaaaaaaaaaaaaaaa", "SOLUSDT", d(99), None)
    await world.reconcile()
    (stop,) = book.stops("SOLUSDT")
    position = only(world)
    assert (stop.trigger_price, position.stop_loss, position.stop_order_id) == (d(99), d(99), stop.client_order_id)
    assert len([order for order in book.working() if order.kind is OrderKind.TARGET]) == 1


async def test_something_foreign_is_shown_and_nothing_of_ours_enters_its_symbol() -> None:
    world = RealWorld()
    world.quote("SOLUSDT", 100)
    world.quote("ETHUSDT", 100)
    world.engine.hand("SOLUSDT", OrderSide.BUY, 3)
    world.engine.rest("ETHUSDT", OrderSide.BUY, 1)
    assert (await world.trading.reconcile.user(USER)).soon
    assert world.bus.events("notice") == []
    world.clock.pass_wall(seconds=2)
    await world.reconcile()
    assert [(one.symbol, one.name, one.quantity) for one in world.rows.foreign[USER]] == [
        ("SOLUSDT", "position", d(3)),
        ("ETHUSDT", "web_2", d(1)),
    ]
    await world.enter(signal(), signal("ETHUSDT"))
    assert [row.reason.value for row in world.rows.refusals] == ["foreign_position", "foreign_position"]
    assert world.engine.sent("enter") == []
    assert len(world.bus.events("notice")) == 2
    world.engine.hand("SOLUSDT", OrderSide.SELL, 3, "web_3")
    await world.reconcile()
    assert [one.symbol for one in world.rows.foreign[USER]] == ["ETHUSDT"]
    assert_equal_to_the_exchange(world)


async def test_orders_of_every_symbol_are_asked_for_each_twenty_seconds_and_after_an_exit() -> None:
    world = await entered()
    asked = []
    for seconds in (0, 5, 14, 2, 2):
        world.clock.pass_wall(seconds=seconds)
        await world.trading.reconcile.user(USER)
        asked.append(world.engine.everywhere)
    assert asked == [False, False, False, True, False]
    world.engine.tick("SOLUSDT", 97)
    await world.trading.reconcile.user(USER)
    await world.trading.reconcile.user(USER)
    assert world.engine.everywhere
    assert world.engine.book().working() == []


async def test_what_rests_for_nothing_beside_an_order_under_way_goes_with_the_first_truth_after_that_has_ended() -> None:
    """Its stop closed the position while a close was under way that never arrived: nothing of ours asks for the symbol afterwards."""
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, None)
    world.engine.tick("SOLUSDT", 97)
    world.clock.pass_wall(seconds=30)
    for _ in range(3):
        await world.trading.reconcile.user(USER)
    assert [order.kind for order in world.engine.book().working()] == [OrderKind.TARGET]
    await world.trading.settle.run()
    assert {order.status for order in world.rows.orders.values()} == {OrderStatus.FILLED, OrderStatus.REFUSED}
    await world.trading.reconcile.user(USER)
    assert world.engine.book().working() == []


async def test_orders_of_ours_do_not_stay_beside_a_position_that_is_the_users_own() -> None:
    """Ours was closed by a hand, which opened another: our stop would close it."""
    world = await entered()
    book = world.engine.book()
    world.engine.hand("SOLUSDT", OrderSide.SELL, 10)
    world.engine.hand("SOLUSDT", OrderSide.BUY, 4, "web_9")
    await world.reconcile()
    assert only(world).status in (PositionStatus.CLOSED_WIN, PositionStatus.CLOSED_LOSS)
    assert len(book.working("SOLUSDT")) == 2
    world.clock.pass_wall(seconds=2)
    await world.reconcile()
    assert book.working("SOLUSDT") == []
    assert [request.orphaned for request in world.engine.sent("cancel")] == [True]
    assert book.quantity("SOLUSDT") == 4


async def test_a_holding_that_one_look_alone_shows_is_neither_told_nor_in_the_way() -> None:
    """Its stop filled between the reading of the positions and that of the trades."""
    world = await entered()
    world.engine.lag("positions")
    world.engine.tick("SOLUSDT", 97)
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    world.engine.lagging = set()
    world.clock.pass_wall(seconds=2)
    await world.reconcile()
    assert world.bus.events("notice") == []
    assert world.rows.foreign[USER] == []


async def test_trades_by_hand_in_other_symbols_are_external_and_the_ledger_still_equals_the_wallet() -> None:
    world = await entered()
    world.quote("ETHUSDT", 100)
    world.engine.hand("ETHUSDT", OrderSide.BUY, 3)
    world.engine.prices["ETHUSDT"] = d(110)
    world.engine.hand("ETHUSDT", OrderSide.SELL, 3, "web_3")
    await world.reconcile()
    external = [row for row in world.rows.ledger if row.kind is EntryKind.EXTERNAL]
    assert sum(row.amount for row in external) == d("29.685")
    assert_equal_to_the_exchange(world)


async def test_an_entry_whose_reply_was_lost_is_found_protected_and_booked() -> None:
    world = RealWorld()
    await world.reconcile()
    world.engine.trouble["enter"] = ["unprotected"]
    await world.enter(signal())
    await world.reconcile()
    assert world.rows.positions == {}
    assert world.rows.foreign.get(USER, []) == []
    await world.trading.settle.run()
    assert only(world).stop_order_id is not None
    assert [request.resume for request in world.engine.sent("enter")] == [False, True]
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_an_entry_that_never_arrived_is_refused_after_its_time_and_its_claim_freed() -> None:
    world = RealWorld()
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    await world.trading.settle.run()
    (order,) = world.rows.orders.values()
    assert order.status is OrderStatus.UNKNOWN
    world.clock.pass_wall(seconds=30)
    await world.trading.settle.run()
    (order,) = world.rows.orders.values()
    assert (order.status, world.rows.claims) == (OrderStatus.REFUSED, {})
    assert [request.resume for request in world.engine.sent("enter")] == [False, True, True]


async def test_an_entry_given_up_that_stands_at_the_exchange_is_ours_after_all() -> None:
    world = RealWorld()
    await world.reconcile()
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    world.clock.pass_wall(seconds=30)
    await world.trading.settle.run()
    (order,) = world.rows.orders.values()
    world.engine.hand("SOLUSDT", OrderSide.BUY, 10, order.client_order_id)
    await world.reconcile()
    await world.reconcile()
    position = only(world)
    assert (position.size, position.status) == (d(10), PositionStatus.OPEN)
    await world.reconcile()
    assert len(world.engine.book().stops("SOLUSDT")) == 1
    assert len(world.rows.claims) == 1
    assert_equal_to_the_exchange(world)


async def test_a_stop_that_was_triggered_and_does_not_fill_is_closed_at_the_market_within_seconds() -> None:
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    first = await world.trading.reconcile.user(USER)
    assert first.soon
    assert only(world).status is PositionStatus.OPEN
    world.clock.pass_wall(seconds=3)
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    await world.reconcile()
    assert world.engine.book().working() == []
    assert_equal_to_the_exchange(world)


@pytest.mark.parametrize(("seconds", "closed"), [(0.4, False), (1.5, True), (None, False)])
async def test_a_stop_that_has_waited_before_anybody_looked_is_closed_at_the_first_look(
    seconds: float | None, closed: bool
) -> None:
    """How long it waits is the exchange's word where it says so, since looks may have been kept away."""
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.waits = seconds
    world.engine.tick("SOLUSDT", 97)
    assert (await world.glance()).wrong
    assert (only(world).close_reason is CloseReason.STOP) is closed
    world.clock.pass_wall(seconds=2)
    await world.reconcile()
    await world.reconcile()
    assert only(world).close_reason is CloseReason.STOP
    assert_equal_to_the_exchange(world)


async def test_a_stop_that_does_not_fill_is_closed_between_two_truths_that_do_not_come() -> None:
    """The books wait for a truth; what guards a position is glanced at, and that is enough to act on."""
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.engine.trouble["truth"] = ["lost before"]
    assert not (await world.trading.reconcile.user(USER)).heard
    assert (await world.glance()).wrong
    assert only(world).status is PositionStatus.OPEN
    world.clock.pass_wall(seconds=2)
    assert (await world.glance()).wrong
    assert only(world).close_reason is CloseReason.STOP
    await world.reconcile()
    assert_equal_to_the_exchange(world)


@pytest.mark.parametrize("first", ["glance", "truth"])
@pytest.mark.parametrize(("seconds", "closed"), [(0.5, False), (1.5, True), (6.0, False)])
async def test_a_stop_that_does_not_fill_is_closed_though_the_second_look_is_not_heard(
    first: str, seconds: float, closed: bool
) -> None:
    """As where the budget for looking is spent and that for acting is not; but not by a look that is old."""
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    assert (await world.glance() if first == "glance" else await world.trading.reconcile.user(USER)).wrong
    world.clock.pass_wall(seconds=seconds)
    world.engine.trouble["guards"] = ["lost before"]
    assert (await world.glance()).wrong
    assert (only(world).close_reason is CloseReason.STOP) is closed


@pytest.mark.parametrize("since", ["the row has changed", "all was well"])
async def test_a_look_counts_no_more_once_another_was_heard_or_the_position_has_changed(since: str) -> None:
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    row = only(world)
    if since == "the row has changed":
        world.rows.positions[row.id] = structs.replace(row, version=row.version + 1)
    else:
        asked = world.engine.guards

        async def sound(request: GuardsRequest) -> GuardsReply:
            return structs.replace(await asked(request), sound=True)

        world.engine.guards = sound  # type: ignore[method-assign]
        assert not (await world.glance()).wrong
        world.engine.guards = asked  # type: ignore[method-assign]
    world.clock.pass_wall(seconds=1.5)
    world.engine.trouble["guards"] = ["lost before"]
    await world.glance()
    assert only(world).status is PositionStatus.OPEN
    assert world.engine.sent("close") == []


async def test_a_glance_puts_back_a_stop_that_two_of_them_did_not_see() -> None:
    world = await entered()
    book = world.engine.book()
    [stop] = book.stops("SOLUSDT")
    world.engine.take(stop.client_order_id)
    assert (await world.glance()).wrong
    assert book.stops("SOLUSDT") == []
    world.clock.pass_wall(seconds=1)
    await world.glance()
    assert [one.trigger_price for one in book.stops("SOLUSDT")] == [stop.trigger_price]
    assert not (await world.glance()).wrong


async def test_a_position_that_never_had_a_stop_gets_one_at_the_first_glance() -> None:
    """After an entry that was neither protected nor closed: there is no order of which the glance could be too early to tell."""
    world = await entered()
    book = world.engine.book()
    book.orders = []
    row = only(world)
    never = structs.replace(row, stop_order_id=None, target_order_id=None, trailing_order_id=None)
    world.rows.positions[row.id] = never
    await world.glance()
    assert [one.trigger_price for one in book.stops("SOLUSDT")] == [row.stop_loss]
    assert not (await world.glance()).wrong


async def test_a_glance_that_was_not_heard_changes_nothing_and_asks_for_another() -> None:
    world = await entered()
    world.engine.trouble["guards"] = ["lost before"]
    before = only(world)
    assert (await world.glance()).wrong
    assert only(world) == before
    assert not (await world.glance()).wrong


async def test_a_close_that_nobody_carries_any_more_is_taken_over_where_the_position_has_no_stop() -> None:
    """Its row was committed, and whoever wrote it never heard so, or died: nobody waits until the carrier is presumed dead."""
    before = await entered()
    world = before
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.engine.trouble["close"] = ["lost before"]
    async with world.store.begin() as unit:
        owner = await unit.traders.lock(USER)
        assert owner is not None
        await world.trading.close.begin(unit, owner, only(world), CloseReason.STOP)
        await unit.commit()
    assert (await world.glance()).wrong
    assert world.engine.sent("close") == []
    world.clock.pass_wall(seconds=2)
    assert (await world.glance()).wrong
    assert [request.resume for request in world.engine.sent("close")] == [True]


@pytest.mark.parametrize("another", [False, True], ids=["alone", "beside a look that began before"])
async def test_a_close_of_a_failed_stop_that_broke_off_is_taken_over_by_the_next_glance(another: bool) -> None:
    """The store took the row and its answer was lost: nobody carries it, and who dropped it knows that, whatever another look met."""
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    world.clock.pass_wall(seconds=2)
    carry = world.trading.close.carry

    async def broken_off(order: OrderRecord, *, resume: bool = False) -> Closed | Refusal:
        raise StoreUnavailable("postgresql: OperationalError")

    world.trading.close.carry = broken_off  # type: ignore[method-assign]
    before = only(world)
    await world.glance()
    world.trading.close.carry = carry  # type: ignore[method-assign]
    closing = only(world)
    assert (closing.status, world.engine.sent("close")) == (PositionStatus.CLOSING, [])
    if another:
        reads = world.engine.guards

        async def meanwhile(request: GuardsRequest) -> GuardsReply:
            world.rows.positions[closing.id] = closing
            return await reads(request)

        world.engine.guards = meanwhile  # type: ignore[method-assign]
        orders, world.rows.orders = world.rows.orders, {}
        world.rows.positions[closing.id] = before

        await world.glance()
        world.engine.guards, world.rows.orders = reads, orders  # type: ignore[method-assign]
        assert world.engine.sent("close") == []
    await world.glance()
    assert [request.resume for request in world.engine.sent("close")] == [True]


@pytest.mark.parametrize(("fails", "reason"), [("stuck", CloseReason.STOP), ("gone", CloseReason.UNPROTECTED)])
async def test_a_guard_that_fails_while_a_part_is_being_closed_closes_all_without_waiting_for_the_part(
    fails: str, reason: CloseReason
) -> None:
    """Whether the part arrived is proven only after its receive window: too long for a position without a stop."""
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    assert only(world).status is PositionStatus.CLOSING
    if fails == "stuck":
        world.engine.stuck.add("SOLUSDT")
        world.engine.tick("SOLUSDT", 97)
    else:
        world.engine.take(world.engine.book().stops("SOLUSDT")[0].client_order_id)
    for _ in range(2):
        await world.glance()
        world.clock.pass_wall(seconds=2)
    await world.glance()
    assert [(request.quantity, request.widened_to) for request in world.engine.sent("close")][-1] == (d(4), d(10))
    assert world.engine.book().quantity("SOLUSDT") == 0
    await world.reconcile()
    position = only(world)
    assert (position.status, position.close_reason, position.size) == (PositionStatus.CLOSED_LOSS, reason, d(0))
    assert_equal_to_the_exchange(world)


async def taken_over_twice(
    world: RealWorld, looking: asyncio.Event, closing: asyncio.Event
) -> tuple[asyncio.Task[None], asyncio.Task[Any]]:
    """A part's close, by a truth that has just seen the stop triggered, and by a glance that has seen it for long enough."""
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    first = asyncio.create_task(world.reconcile())
    await asyncio.wait_for(looking.wait(), 3)
    world.clock.pass_wall(seconds=2)
    second = asyncio.create_task(world.glance())
    await asyncio.wait_for(closing.wait(), 3)
    return first, second


async def test_a_close_of_all_waits_for_nobody_who_still_looks_for_the_part() -> None:
    """A truth that saw the stop triggered, but not for long enough, took the part over: to prove that it never came takes seconds."""
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    world.clock.pass_wall(seconds=3)
    carried, asked = world.engine.close, list[object]()
    looking, proven, closing, closed = (asyncio.Event() for _ in range(4))

    async def slow(request: CloseRequest) -> ExecutionReport:
        asked.append(request.widened_to)
        begun, ended = (looking, proven) if request.widened_to is None else (closing, closed)
        begun.set()
        await ended.wait()
        return await carried(request)

    world.engine.close = slow  # type: ignore[method-assign]
    first, second = await taken_over_twice(world, looking, closing)
    proven.set()
    await first
    await asyncio.wait_for(world.glance(), 3)
    assert asked == [None, d(10)]
    closed.set()
    await second
    assert world.engine.book().quantity("SOLUSDT") == 0
    await world.reconcile()
    assert (only(world).status, only(world).close_reason) == (PositionStatus.CLOSED_LOSS, CloseReason.STOP)
    assert_equal_to_the_exchange(world)


async def test_a_close_that_hangs_is_taken_over_by_the_next_glance() -> None:
    """As where the engine's replica stands still that was asked to close what had lost its stop."""
    world = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    world.clock.pass_wall(seconds=2)
    carried, asked, hanging = world.engine.close, list[bool](), asyncio.Event()

    async def slow(request: CloseRequest) -> ExecutionReport:
        asked.append(request.resume)
        if not request.resume:
            hanging.set()
            await asyncio.Event().wait()
        book = world.engine.book()
        world.engine.hand("SOLUSDT", OrderSide.SELL, book.quantity("SOLUSDT"), request.client_order_id)
        return await carried(request)

    world.engine.close = slow  # type: ignore[method-assign]
    first = asyncio.create_task(world.glance())
    await asyncio.wait_for(hanging.wait(), 3)
    world.clock.pass_wall(seconds=3)
    await asyncio.wait_for(world.glance(), 3)
    assert (asked, world.engine.book().quantity("SOLUSDT")) == ([False, True], d(0))
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    await world.reconcile()
    assert only(world).status is PositionStatus.CLOSED_LOSS
    assert_equal_to_the_exchange(world)


@pytest.mark.parametrize("part_is_booked_first", [True, False])
async def test_a_part_that_came_after_all_and_the_rest_that_was_closed_beside_it_are_booked_once(
    part_is_booked_first: bool,
) -> None:
    """Two carriers of one close: one finds the part filled, one closed what the part left under the next number of its id."""
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    world.clock.pass_wall(seconds=3)
    looking, found, closing, closed = (asyncio.Event() for _ in range(4))

    async def slow(request: CloseRequest) -> ExecutionReport:
        name, book = request.client_order_id, world.engine.book()
        begun, ended = (looking, found) if request.widened_to is None else (closing, closed)
        begun.set()
        await ended.wait()
        if book.quantity("SOLUSDT") == 10:
            world.engine.hand("SOLUSDT", OrderSide.SELL, d(4), name)
            world.engine.hand("SOLUSDT", OrderSide.SELL, d(6), f"{name}-2")
            book.orders = [one for one in book.orders if one.kind is OrderKind.MARKET]
        fills = world.engine._fills_of(book, name)
        if request.widened_to is not None:
            fills += world.engine._fills_of(book, f"{name}-2")
        return structs.replace(world.engine._report(request, ExecutionStatus.FILLED, fills), dry_run=False, protection=None)

    world.engine.close = slow  # type: ignore[method-assign]
    first, second = await taken_over_twice(world, looking, closing)
    for ended, run in [(found, first), (closed, second)] if part_is_booked_first else [(closed, second), (found, first)]:
        ended.set()
        await run
    world.engine.stuck.clear()
    for _ in range(3):
        await world.reconcile()
        world.clock.pass_wall(seconds=3)
    assert (only(world).status, only(world).size) == (PositionStatus.CLOSED_LOSS, d(0))
    assert_equal_to_the_exchange(world)


async def test_a_truth_that_shows_a_stuck_stop_widens_a_part_s_close_as_a_glance_does() -> None:
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    for _ in range(2):
        await world.reconcile()
        world.clock.pass_wall(seconds=2)
    assert [request.widened_to for request in world.engine.sent("close")][-1] == d(10)
    assert world.engine.book().quantity("SOLUSDT") == 0


async def test_a_close_of_all_stays_what_it_was_asked_for_where_a_stop_fails_meanwhile() -> None:
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, None)
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    for _ in range(3):
        await world.glance()
        world.clock.pass_wall(seconds=2)
    assert {request.widened_to for request in world.engine.sent("close")} == {None}
    assert only(world).close_reason is CloseReason.MANUAL


async def test_what_a_hand_added_while_a_part_is_being_closed_widens_nothing_as_long_as_our_stop_rests() -> None:
    world = await entered()
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    world.engine.hand("SOLUSDT", OrderSide.BUY, d(5))
    for _ in range(3):
        await world.glance()
        world.clock.pass_wall(seconds=2)
    assert {request.widened_to for request in world.engine.sent("close")} == {None}
    assert world.engine.book().quantity("SOLUSDT") == 15


@pytest.mark.parametrize("shown", [True, False])
async def test_one_glance_without_a_stop_is_forgotten_once_a_look_showed_it_or_long_ago(shown: bool) -> None:
    """Else a single reading that lags, an hour later, would close all of a position of which a part is being closed."""
    world = await entered()
    book = world.engine.book()
    whole = list(book.orders)
    bare = [order for order in whole if order is not book.stops("SOLUSDT")[0]]
    book.orders = list(bare)
    await world.glance()
    book.orders = list(whole)
    if shown:
        await world.reconcile()
    world.clock.pass_wall(seconds=2 if shown else 3600)
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.desk.close(USER, only(world).id, d(4))
    world.clock.pass_wall(seconds=3)
    book.orders = [order for order in book.orders if order.client_order_id in {one.client_order_id for one in bare}]
    await world.glance()
    assert {request.widened_to for request in world.engine.sent("close")} == {None}


async def test_a_carrier_that_was_overtaken_does_not_end_what_another_carries() -> None:
    world = await entered()
    answered, draining, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    carried = world.engine.close

    async def slow(request: CloseRequest) -> ExecutionReport:
        if not request.resume:
            await answered.wait()
            return world.engine._refused(request, "venue_away")
        draining.set()
        await go.wait()
        return await carried(request)

    world.engine.close = slow  # type: ignore[method-assign]
    first = asyncio.create_task(world.trading.desk.close(USER, only(world).id, d(4)))
    await asyncio.sleep(0)
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    world.clock.pass_wall(seconds=2)
    other = asyncio.create_task(world.glance())
    await asyncio.wait_for(draining.wait(), 3)
    answered.set()
    told = await first
    assert isinstance(told, Refusal)
    assert told.reason is RefusalReason.OUTCOME_UNKNOWN
    assert only(world).status is PositionStatus.CLOSING
    go.set()
    await other
    assert (only(world).status, world.engine.book().quantity("SOLUSDT")) == (PositionStatus.CLOSED_LOSS, d(0))
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_an_entry_whose_stop_was_triggered_and_does_not_fill_is_taken_over() -> None:
    """Its reply is on the way: no row tells of the position yet, and its stop is no stop any more."""
    world = RealWorld()
    await world.reconcile()
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.clock.pass_wall(seconds=2)
    assert (await world.glance()).wrong
    assert [request.resume for request in world.engine.sent("enter")] == [False, True]


async def test_a_difference_that_lasts_is_told_once_with_both_figures() -> None:
    world = await entered()
    world.engine.book().wallet += d(7)
    for _ in range(4):
        await world.reconcile()
        world.clock.pass_wall(seconds=60)
    (notice,) = world.bus.events("notice")
    assert "1006.50000000" in notice["say"]
    assert "999.50000000" in notice["say"]


async def test_a_close_under_way_is_left_to_whoever_carries_it() -> None:
    world = await entered()
    world.engine.trouble["close"] = ["lost after"]
    await world.trading.desk.close(USER, only(world).id, None)
    await world.reconcile()
    assert only(world).status is PositionStatus.CLOSING
    await world.trading.settle.run()
    assert (only(world).status, only(world).close_reason) == (PositionStatus.CLOSED_LOSS, CloseReason.MANUAL)
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_a_partial_close_keeps_the_ids_of_what_rests_for_the_rest() -> None:
    world = await entered()
    await world.trading.desk.close(USER, only(world).id, d(4))
    position = only(world)
    (stop,) = world.engine.book().stops("SOLUSDT")
    assert (position.size, stop.quantity, position.stop_order_id) == (d(6), d(6), stop.client_order_id)
    await world.reconcile()
    assert_equal_to_the_exchange(world)


async def test_stop_target_and_trailing_of_a_real_position_are_amended_at_the_exchange() -> None:
    world = await entered()
    await world.trading.desk.amend(USER, only(world).id, stop_loss=d(99), take_profit=None, trailing_ratio=d("0.005"))
    position, kinds = only(world), {order.kind: order for order in world.engine.book().working("SOLUSDT")}
    assert (position.stop_loss, position.stop_order_id) == (d(99), kinds[OrderKind.STOP].client_order_id)
    assert position.trailing_order_id == kinds[OrderKind.TRAILING].client_order_id
    (request,) = world.engine.sent("protect")
    assert request.client_order_id.startswith("nt-p-")
    assert request.trailing.activation_price * (1 - d("0.005")) >= d("100.1")
    await world.trading.desk.amend(USER, position.id, stop_loss=None, take_profit=None, trailing_ratio=d(0))
    assert OrderKind.TRAILING not in {order.kind for order in world.engine.book().working("SOLUSDT")}


async def test_a_real_position_is_never_judged_by_our_own_bars() -> None:
    world = await entered()
    await world.trading.watch.run()
    assert world.engine.sent("marks") == []


async def test_an_entry_that_stands_without_a_stop_is_taken_over_from_whoever_carried_it() -> None:
    """Engine and worker died between fill and stop: nobody waits until the order's carrier is presumed dead."""
    before = await entered()
    world = RealWorld()
    world.cuts.at = before.cuts.steps.index("between fill and stop") + 1
    await world.reconcile()
    with suppress(Killed):
        await world.enter(signal())
    world.cuts.at = None
    world.start()
    assert world.engine.book().stops("SOLUSDT") == []
    world.clock.pass_wall(seconds=2)
    await world.reconcile()
    assert only(world).stop_order_id == world.engine.book().stops("SOLUSDT")[0].client_order_id
    await world.reconcile()
    assert_equal_to_the_exchange(world)


@pytest.mark.parametrize(
    "since", [{"mode": Mode.PAPER}, {"entries_stopped": "not proven today"}, {"auto_trade_enabled": False}, {}]
)
async def test_a_real_entry_that_was_claimed_before_its_worker_died_leaves_only_while_its_user_trades_for_real(
    since: dict[str, Any],
) -> None:
    before = await entered()
    world = RealWorld()
    await world.reconcile()
    world.cuts.at = before.cuts.steps.index("before enter") - 1  # its claim is committed, SENT is not
    with suppress(Killed):
        await world.enter(signal())
    world.cuts.at = None
    (order,) = world.rows.orders.values()
    assert order.status is OrderStatus.CLAIMED
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], **since)
    world.start()
    world.clock.pass_wall(seconds=60)
    await world.trading.settle.run()
    (order,) = world.rows.orders.values()
    assert (len(world.engine.sent("enter")), order.status) == ((0, OrderStatus.REFUSED) if since else (1, OrderStatus.FILLED))
    assert bool(world.rows.claims) is not bool(since)


async def test_an_entry_whose_carrier_has_just_sent_it_is_left_to_it() -> None:
    world = RealWorld()
    await world.reconcile()
    world.engine.trouble["enter"] = ["unprotected"]
    await world.enter(signal())
    world.clock.pass_wall(seconds=1)
    assert (await world.trading.reconcile.user(USER)).soon
    assert [request.resume for request in world.engine.sent("enter")] == [False]


async def test_the_books_open_before_whatever_was_under_way_when_they_were_opened() -> None:
    """The entry was executed long before the first truth and is booked after it: its fee is not in the deposit."""
    world = RealWorld()
    world.engine.trouble["enter"] = ["unprotected"]
    await world.enter(signal())
    world.clock.pass_market(hours=3)
    await world.reconcile()
    world.clock.pass_wall(seconds=60)
    await world.trading.settle.run()
    await world.reconcile()
    assert [row.amount for row in world.rows.ledger if row.kind is EntryKind.DEPOSIT and row.mode is Mode.REAL] == [d(1000)]
    assert_equal_to_the_exchange(world)
