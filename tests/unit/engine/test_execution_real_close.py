"""Closing, amending and flattening at the exchange: never more than is held, never a moment without a stop, nothing left behind."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.order import MAX_ARMING_DRIFT_RATIO, OrderRefusal, break_even, no, trailing_fits
from engine.execution.canary import canary
from engine.execution.cancel import cancel
from engine.execution.close import close
from engine.execution.drain import free_of_children
from engine.execution.events import listen
from engine.execution.flatten import flatten
from engine.execution.lasting_once import all_ended
from engine.execution.lookup import look_up
from engine.execution.protect import protect
from engine.execution.truth import HELD_FIRST, guards, truth
from engine.execution.turns import Turns
from engine.ports import Condition, MarketOrder
from shared.enums import ExecutionStatus, OrderKind, OrderLookup, OrderState, Side
from shared.execution import (
    AccountEvent,
    CanaryReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    FlattenReply,
    FlattenRequest,
    Guarded,
    GuardsReply,
    GuardsRequest,
    OrderSide,
    ProtectRequest,
    Trailing,
    TruthReply,
    TruthRequest,
    VenueOrder,
)
from shared.problem import Problem
from tests.polling import eventually
from tests.unit.engine.execution_desk import NOW, WALL_MS, World, armed, closing, paper, real, refusal_of
from tests.unit.engine.fake_exchange import FakeExchange, Fault

ID = "nt-c-ABC"
SENT = datetime.fromtimestamp(WALL_MS / 1000, UTC)
VENUE_RULE = no(OrderRefusal.VENUE_RULE, "-4400: rules")


def condition(kind: OrderKind, price: str, request: str = "OLD", quantity: str = "0.01") -> Condition:
    letter = {OrderKind.STOP: "s", OrderKind.TARGET: "t", OrderKind.TRAILING: "r"}[kind]
    return Condition(
        client_order_id=f"nt-{letter}-{request}",
        symbol="BTCUSDT",
        kind=kind,
        order_side=OrderSide.SELL,
        quantity=Decimal(quantity),
        trigger_price=Decimal(price),
    )


def holding(quantity: str = "0.01") -> tuple[World, FakeExchange]:
    """A LONG with its stop and target."""
    exchange = FakeExchange()
    exchange.open(Side.LONG, quantity)
    exchange.lay(condition(OrderKind.STOP, "59400", quantity=quantity))
    exchange.lay(condition(OrderKind.TARGET, "61200", quantity=quantity))
    return World(dry_run=False, exchanges=exchange), exchange


def real_close(**changes: Any) -> CloseRequest:
    fields: dict[str, Any] = {"client_order_id": ID, "sent_at": SENT}
    return closing(armed(), **(fields | changes))


def ending_the_old_one_after_the_new_one_rests(exchange: FakeExchange) -> None:
    """As a hand at the exchange does."""
    placed = exchange.rest

    async def rest(condition: Condition) -> VenueOrder | Problem:
        answer = await placed(condition)
        if condition.kind is OrderKind.STOP:
            exchange.end("nt-s-OLD")
        return answer

    exchange.rest = rest  # type: ignore[method-assign]


def amend(**changes: Any) -> ProtectRequest:
    fields: dict[str, Any] = {"account": armed(), "client_order_id": "nt-p-NEW", "symbol": "BTCUSDT", "side": Side.LONG}
    return ProtectRequest(**(fields | changes))


@pytest.mark.parametrize("stale", [0, 2])
async def test_a_full_close_takes_what_the_exchange_shows_and_leaves_no_order(stale: int) -> None:
    world, exchange = holding("0.017")
    exchange.stale = stale

    report = await close(world.desk, real_close(quantity=Decimal(5)))

    assert (report.status, report.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.017"))
    assert report.reduce_only
    assert exchange.held() == 0
    assert exchange.guards() == []


async def test_a_partial_close_makes_protection_fit_what_is_left() -> None:
    world, exchange = holding()

    report = await close(world.desk, real_close(quantity=Decimal("0.004")))

    assert report.filled_quantity == Decimal("0.004")
    assert exchange.held() == Decimal("0.006")
    assert {(order.client_order_id, order.quantity) for order in exchange.guards()} == {
        ("nt-s-ABC", Decimal("0.006")),
        ("nt-t-ABC", Decimal("0.006")),
    }
    assert report.protection is not None
    assert report.protection.stop_order_id == "nt-s-ABC"


async def test_a_position_larger_than_any_order_is_closed_as_far_as_one_order_goes() -> None:
    world, exchange = holding()
    world.set_rules(market_max_quantity=Decimal("0.004"))
    exchange.fail("send", no(OrderRefusal.ABOVE_MAX_QUANTITY, "-4005: Quantity greater than max quantity."))

    report = await close(world.desk, real_close())

    assert (report.status, report.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.004"))
    assert {guard.quantity for guard in exchange.guards()} == {exchange.held()} == {Decimal("0.006")}


async def test_a_position_that_is_gone_is_refused_so_that_its_true_exit_is_booked() -> None:
    world = World(dry_run=False, exchanges=FakeExchange())

    assert refusal_of(await close(world.desk, real_close())) == "no_position"


async def test_a_stop_that_triggered_and_does_not_fill_is_cancelled_and_the_position_closed() -> None:
    world, exchange = holding()
    exchange.trigger("nt-s-OLD", stuck=True)

    report = await close(world.desk, real_close())

    assert report.status is ExecutionStatus.FILLED
    assert exchange.held() == 0


def stuck_on_both_sides() -> tuple[World, FakeExchange]:
    """A LONG bound by its triggered stop, and the triggered stop of a SHORT, which readings that are behind may not show yet."""
    world, exchange = holding()
    exchange.lay(msgspec.structs.replace(condition(OrderKind.STOP, "60600", "NEW"), order_side=OrderSide.BUY))
    exchange.trigger("nt-s-OLD", stuck=True)
    exchange.trigger("nt-s-NEW", stuck=True)
    return world, exchange


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "drained"])
async def test_only_the_triggered_stop_of_its_own_side_is_cancelled_for_a_close(lost: bool) -> None:
    world, exchange = stuck_on_both_sides()
    exchange.fail("send", *[Fault.LOST] * lost)

    report = await close(world.desk, real_close())

    assert report.status is ExecutionStatus.FILLED
    assert exchange.held() == 0
    assert [order.client_order_id for order in await exchange.working() if not order.conditional] == ["nt-s-NEW"]


async def test_only_the_triggered_stop_of_its_own_side_is_cancelled_for_a_panic_before_it_is_flat() -> None:
    world, exchange = stuck_on_both_sides()

    assert (await panic(world)).flat
    assert exchange.calls.count("cancel") == 1
    assert await exchange.working() == []


async def test_a_partial_close_without_an_answer_is_looked_up_and_never_sent_again() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.LOST)
    part = {"quantity": Decimal("0.004")}

    first = await close(world.desk, real_close(**part))
    again = await close(world.desk, real_close(**part))
    world.clock.pass_wall(timedelta(seconds=21))
    resumed = await close(world.desk, real_close(resume=True, **part))

    assert (first.status, again.status) == (ExecutionStatus.UNKNOWN, ExecutionStatus.UNKNOWN)
    assert refusal_of(resumed) == "never_arrived"
    assert exchange.calls.count("send") == 1


async def test_the_resume_of_a_part_whose_guard_failed_closes_all_that_is_held() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.LOST)
    part = {"quantity": Decimal("0.004")}
    first = await close(world.desk, real_close(**part))
    exchange.trigger("nt-s-OLD", stuck=True)

    waiting = await close(world.desk, real_close(resume=True, **part))
    whole = await close(world.desk, real_close(resume=True, widened_to=Decimal("0.010"), **part))

    assert (first.status, waiting.status) == (ExecutionStatus.UNKNOWN, ExecutionStatus.UNKNOWN)
    assert (whole.status, whole.filled_quantity, whole.requested_quantity) == (ExecutionStatus.FILLED, *[Decimal("0.010")] * 2)
    assert len({fill.trade_id for fill in whole.fills}) == len(whole.fills)
    assert exchange.held() == 0
    assert exchange.guards() == []


@pytest.mark.parametrize(
    "part", [{}, {"quantity": Decimal("0.004"), "widened_to": Decimal("0.010")}], ids=["whole", "widened part"]
)
async def test_the_resume_of_a_close_of_all_waits_for_no_reading_between_two_tries(part: dict[str, Decimal]) -> None:
    world, exchange = holding()
    exchange.always["send"] = Fault.LOST
    assert (await close(world.desk, real_close(**part))).status is ExecutionStatus.UNKNOWN
    del exchange.always["send"]
    exchange.calls.clear()
    exchange.fail("send", Fault.LOST)

    done = await close(world.desk, real_close(resume=True, **part))

    first, second = (index for index, call in enumerate(exchange.calls) if call == "send")
    assert exchange.calls[first:second].count("positions") <= 1
    assert (done.status, exchange.held()) == (ExecutionStatus.FILLED, Decimal(0))


async def test_a_close_of_all_without_an_answer_is_followed_by_another_without_waiting_for_a_reading() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.LOST, Fault.LOST)

    done = await close(world.desk, real_close())

    first, *_, last = (index for index, call in enumerate(exchange.calls) if call == "send")
    assert exchange.calls.count("send") == 3
    assert exchange.calls[first:last].count("positions") <= 1
    assert (done.status, exchange.held()) == (ExecutionStatus.FILLED, Decimal(0))


async def test_of_two_orders_that_close_all_the_second_finds_nothing_where_the_first_was_taken_after_all() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.SILENT)

    done = await close(world.desk, real_close())

    assert (done.status, done.filled_quantity, exchange.held()) == (ExecutionStatus.FILLED, Decimal("0.010"), Decimal(0))
    assert exchange.guards() == []


async def test_what_a_hand_adds_between_two_orders_that_close_all_is_not_sold() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.LOST, Fault.LOST)
    sends = exchange.send

    async def send(order: MarketOrder) -> VenueOrder | Problem:
        if order.client_order_id.endswith("-2"):
            exchange.open(Side.LONG, "0.025")
        return await sends(order)

    exchange.send = send  # type: ignore[method-assign]

    done = await close(world.desk, real_close())

    assert (done.status, done.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.010"))
    assert exchange.held() == Decimal("0.015")


@pytest.mark.parametrize("age", [5, 21])
async def test_a_part_that_one_look_did_not_find_counts_all_the_same_where_a_hand_added_to_the_position(age: int) -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.SILENT)
    exchange.fail("find", Fault.OK, *[Fault.LOST] * 999)
    part = {"quantity": Decimal("0.004")}
    assert (await close(world.desk, real_close(**part))).status is ExecutionStatus.UNKNOWN
    exchange.faults.clear()
    exchange.open(Side.LONG, "0.011")
    world.clock.pass_wall(timedelta(seconds=age))
    exchange.fail("find", Fault.AWAY)

    done = await close(world.desk, real_close(resume=True, widened_to=Decimal("0.010"), **part))

    assert (done.status, done.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.010"))
    assert exchange.held() == Decimal("0.005")


async def test_what_a_part_that_was_filled_left_bare_is_closed_by_the_same_request() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.SILENT)
    exchange.fail("find", Fault.OK, *[Fault.LOST] * 999)
    part = {"quantity": Decimal("0.004")}
    await close(world.desk, real_close(**part))
    exchange.faults.clear()
    exchange.trigger("nt-s-OLD", stuck=True)

    done = await close(world.desk, real_close(resume=True, widened_to=Decimal("0.010"), **part))

    assert (done.status, done.filled_quantity, exchange.held()) == (ExecutionStatus.FILLED, Decimal("0.010"), Decimal(0))
    assert exchange.guards() == []


async def test_a_resumed_close_of_more_than_the_largest_order_is_made_of_several() -> None:
    world, exchange = holding("200")
    sends = exchange.send

    async def send(order: MarketOrder) -> VenueOrder | Problem:
        if order.quantity > 120:
            return no(OrderRefusal.ABOVE_MAX_QUANTITY, "-4005")
        return await sends(order)

    exchange.send = send  # type: ignore[method-assign]

    done = await close(world.desk, real_close(resume=True, quantity=Decimal(200)))

    assert (done.status, done.filled_quantity, exchange.held()) == (ExecutionStatus.FILLED, Decimal(200), Decimal(0))


async def lost_part_of_a_row(held: str = "0.015") -> tuple[World, FakeExchange, dict[str, Decimal]]:
    """A part of a row of 0.010 was asked for and has no answer; since then a hand made what is held another."""
    world, exchange = holding()
    exchange.fail("send", Fault.LOST)
    part = {"quantity": Decimal("0.004")}
    await close(world.desk, real_close(**part))
    exchange.open(Side.LONG, held)
    return world, exchange, {**part, "widened_to": Decimal("0.010")}


async def test_a_close_that_has_used_up_its_numbers_in_a_thin_book_is_told_for_what_it_closed() -> None:
    """What is left keeps its guard, and is closed by another request: a close that stays unknown would keep everybody from it."""
    world, exchange = holding("1")
    exchange.fail("send", Fault.LOST)
    exchange.fill_ratio = Decimal("0.1")
    first = await close(world.desk, real_close(quantity=Decimal(1)))
    assert (first.status, len(exchange.sent())) == (ExecutionStatus.UNKNOWN, 8)
    left = exchange.held()
    assert left > 0
    again = await close(world.desk, real_close(quantity=Decimal(1), resume=True))
    assert (again.status, len(exchange.sent())) == (ExecutionStatus.UNKNOWN, 8)
    world.clock.pass_wall(timedelta(seconds=21))
    world.clock.market += timedelta(seconds=21)
    told = await close(world.desk, real_close(quantity=Decimal(1), resume=True))
    assert (told.status, told.filled_quantity, exchange.held()) == (ExecutionStatus.FILLED, 1 - left, left)
    assert len({fill.trade_id for fill in told.fills}) == len(told.fills)
    assert [order.quantity for order in exchange.guards(OrderKind.STOP)] == [left]
    exchange.fill_ratio = Decimal(1)
    rest = await close(world.desk, real_close(client_order_id="nt-c-DEF", quantity=left, sent_at=world.clock.wall()))
    assert (rest.status, rest.filled_quantity, exchange.held()) == (ExecutionStatus.FILLED, left, Decimal(0))


async def test_a_widened_close_takes_no_more_than_the_row_holds_where_a_hand_added_to_it() -> None:
    world, exchange, widened = await lost_part_of_a_row()

    done = await close(world.desk, real_close(resume=True, **widened))
    again = await close(world.desk, real_close(resume=True, **widened))

    assert (done.status, done.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.010"))
    assert (again.status, again.fills) == (ExecutionStatus.FILLED, done.fills)
    assert exchange.held() == Decimal("0.005")


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.SILENT])
async def test_a_widened_close_counts_a_try_without_an_answer_once_it_is_seen(fault: Fault) -> None:
    world, exchange, widened = await lost_part_of_a_row()
    exchange.fail("send", fault)

    done = await close(world.desk, real_close(resume=True, **widened))

    assert (done.status, done.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.010"))
    assert exchange.held() == Decimal("0.005")


async def test_a_drain_whose_report_was_lost_is_told_by_the_next_resume_and_never_as_not_arrived() -> None:
    world, exchange, widened = await lost_part_of_a_row("0.010")
    done = await close(world.desk, real_close(resume=True, **widened))

    world.clock.pass_wall(timedelta(seconds=21))
    late = await close(world.desk, real_close(resume=True, **widened))

    assert (late.status, late.fills) == (ExecutionStatus.FILLED, done.fills)
    assert exchange.held() == 0


async def test_a_try_that_never_arrived_hides_none_of_those_after_it() -> None:
    world, exchange, widened = await lost_part_of_a_row("0.010")
    exchange.fail("send", Fault.LOST)
    done = await close(world.desk, real_close(resume=True, **widened))
    names = [order.client_order_id for order in exchange.sent()]

    world.clock.pass_wall(timedelta(seconds=21))
    late = await close(world.desk, real_close(resume=True, **widened))

    assert names == [f"{ID}-3"]
    assert (late.status, late.fills) == (ExecutionStatus.FILLED, done.fills)


@pytest.mark.parametrize("widened", [True, False])
async def test_the_resume_of_a_close_leaves_alone_what_was_opened_on_the_other_side_since(widened: bool) -> None:
    world, exchange, request = await lost_part_of_a_row("0.010")
    exchange.now.orders.clear()
    exchange.open(Side.SHORT, "0.020")
    guard = msgspec.structs.replace(condition(OrderKind.STOP, "60600", "NEW", "0.020"), order_side=OrderSide.BUY)
    exchange.lay(guard)

    told = await close(world.desk, real_close(resume=True, **(request if widened else {"quantity": Decimal("0.010")})))

    assert told.status is ExecutionStatus.UNKNOWN
    assert exchange.held() == Decimal("-0.020")
    assert [order.client_order_id for order in exchange.guards()] == ["nt-s-NEW"]


async def test_a_widened_close_whose_part_never_arrived_closes_all_at_once_and_not_by_another_request() -> None:
    """Whoever asked might not hear of the proof, and would have to ask again."""
    world, exchange, widened = await lost_part_of_a_row("0.010")
    world.clock.pass_wall(timedelta(seconds=21))

    done = await close(world.desk, real_close(resume=True, **widened))

    assert (done.status, done.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.010"))
    assert exchange.held() == 0


async def test_a_widened_close_of_what_is_gone_already_tells_that_its_part_never_arrived() -> None:
    world, exchange, widened = await lost_part_of_a_row("0.010")
    exchange.trigger("nt-s-OLD")
    sent = exchange.calls.count("send")

    young = await close(world.desk, real_close(resume=True, **widened))
    world.clock.pass_wall(timedelta(seconds=21))
    old = await close(world.desk, real_close(resume=True, **widened))

    assert (young.status, refusal_of(old)) == (ExecutionStatus.UNKNOWN, "never_arrived")
    assert exchange.calls.count("send") == sent


async def test_a_widened_close_does_not_wait_for_a_proof_that_nobody_can_give_yet() -> None:
    world, exchange, widened = await lost_part_of_a_row("0.010")
    exchange.fail("account_trades", *[Fault.AWAY] * 99)
    asked = exchange.calls.count("account_trades")

    done = await close(world.desk, real_close(resume=True, **widened))

    assert done.status is ExecutionStatus.FILLED
    assert exchange.calls.count("account_trades") == asked


async def test_that_an_order_never_arrived_is_proven_though_single_readings_fail() -> None:
    """Nothing guards or closes the rest of the position by its own order until that is known."""
    world, exchange = holding()
    exchange.fail("send", Fault.LOST)
    part = {"quantity": Decimal("0.004")}
    await close(world.desk, real_close(**part))
    world.clock.pass_wall(timedelta(seconds=21))
    for method in ("find", "working", "account_trades"):
        exchange.fail(method, Fault.AWAY, Fault.OK, Fault.AWAY)

    resumed = await close(world.desk, real_close(resume=True, **part))

    assert refusal_of(resumed) == "never_arrived"
    assert exchange.calls.count("account_trades") == 4


async def test_the_close_of_a_whole_position_waits_for_no_answer_since_its_stop_may_have_failed() -> None:
    """Two reduce-only orders close one position: whichever comes late finds nothing."""
    world, exchange = holding()
    exchange.fail("send", Fault.LOST)

    report = await close(world.desk, real_close())

    assert (report.status, report.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.01"))
    assert [order.client_order_id for order in exchange.sent()] == [f"{ID}-2"]
    assert exchange.held() == 0
    assert exchange.guards() == []


async def test_the_resumed_close_of_a_whole_position_goes_on_under_the_next_number() -> None:
    world, exchange = holding()
    exchange.always["send"] = Fault.LOST
    first = await close(world.desk, real_close())
    exchange.always.clear()

    report = await close(world.desk, real_close(resume=True))

    assert (first.status, report.status) == (ExecutionStatus.UNKNOWN, ExecutionStatus.FILLED)
    assert exchange.held() == 0


async def test_a_close_that_was_carried_out_without_an_answer_is_found() -> None:
    world, exchange = holding()
    exchange.fail("send", Fault.SILENT)

    report = await close(world.desk, real_close())

    assert report.status is ExecutionStatus.FILLED
    assert exchange.guards() == []


async def test_a_resumed_close_finishes_what_its_worker_left() -> None:
    world, exchange = holding()
    await close(world.desk, real_close())
    world.reports.kept.clear()
    exchange.lay(condition(OrderKind.STOP, "59400", "LEFT"))

    report = await close(world.desk, real_close(resume=True))

    assert (report.status, report.filled_quantity) == (ExecutionStatus.FILLED, Decimal("0.01"))
    assert exchange.guards() == []


async def test_a_close_needs_no_report_store() -> None:
    world, exchange = holding()
    world.reports.down = True

    assert (await close(world.desk, real_close())).status is ExecutionStatus.FILLED
    again = await close(world.desk, real_close(resume=True))
    assert again.filled_quantity == Decimal("0.01")
    assert len(exchange.sent()) == 1


async def test_a_close_goes_on_when_its_caller_leaves() -> None:
    world, exchange = holding()
    exchange.stale = 2
    caller = asyncio.create_task(close(world.desk, real_close()))
    await eventually(lambda: seen("send" in exchange.calls), seconds=5, what="the order to be sent")
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    await eventually(lambda: seen(not exchange.guards()), seconds=5, what="the guards to go")
    assert exchange.held() == 0


async def test_a_process_that_ends_waits_for_what_is_under_way() -> None:
    world, exchange = holding()
    exchange.stale = 2
    caller = asyncio.create_task(close(world.desk, real_close()))
    await eventually(lambda: seen("send" in exchange.calls), seconds=5, what="the order to be sent")
    caller.cancel()

    await all_ended(5.0)

    assert exchange.held() == 0
    assert exchange.guards() == []
    await all_ended(5.0)  # nothing is under way: at once


async def seen(true: bool) -> bool | None:
    return True if true else None


# --- amend -----------------------------------------------------------------------------------------------------------------


async def test_a_new_stop_rests_before_the_old_one_goes() -> None:
    world, exchange = holding()

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700)))

    assert report.status is ExecutionStatus.FILLED
    assert report.protection is not None
    assert (report.protection.stop_order_id, report.protection.target_order_id) == ("nt-s-NEW", "nt-t-OLD")
    assert [order.client_order_id for order in exchange.guards(OrderKind.STOP)] == ["nt-s-NEW"]
    assert exchange.calls.index("rest STOP") < exchange.calls.index("cancel")
    assert "find" in exchange.calls[exchange.calls.index("rest STOP") : exchange.calls.index("cancel")]


@pytest.mark.parametrize("fault", [VENUE_RULE, Fault.AWAY, Fault.LOST, Fault.HALTED], ids=str)
async def test_a_stop_that_cannot_rest_leaves_the_old_one(fault: Fault) -> None:
    world, exchange = holding()
    exchange.always["rest STOP"] = fault

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700)))

    assert report.status is not ExecutionStatus.FILLED
    assert [order.client_order_id for order in exchange.guards(OrderKind.STOP)] == ["nt-s-OLD"]


async def test_a_change_that_is_refused_in_its_second_half_is_undone() -> None:
    world, exchange = holding()
    exchange.always["rest TARGET"] = VENUE_RULE

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700), take_profit=Decimal(62_000)))

    assert report.status is ExecutionStatus.REFUSED
    assert {order.client_order_id for order in exchange.guards()} == {"nt-s-OLD", "nt-t-OLD"}


async def test_a_change_that_fails_keeps_its_new_stop_where_the_old_one_is_gone() -> None:
    """Whatever took the old one meanwhile: the new one may be the only one."""
    world, exchange = holding()
    exchange.always["rest TARGET"] = VENUE_RULE
    ending_the_old_one_after_the_new_one_rests(exchange)

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700), take_profit=Decimal(62_000)))

    assert report.status is ExecutionStatus.REFUSED
    assert [order.client_order_id for order in exchange.guards(OrderKind.STOP)] == ["nt-s-NEW"]


async def test_changes_of_one_symbol_take_turns_so_that_none_cancels_the_others_stop() -> None:
    world, exchange = holding()
    wanted = {f"nt-p-{price}": Decimal(price) for price in (59_100, 59_200, 59_300)}

    reports = await asyncio.gather(
        *(protect(world.desk, amend(client_order_id=name, stop_loss=price)) for name, price in wanted.items())
    )

    assert [report.status for report in reports] == [ExecutionStatus.FILLED] * 3
    [stop] = exchange.guards(OrderKind.STOP)
    assert stop.trigger_price in wanted.values()
    assert exchange.bare == 0


async def test_a_stop_that_somebody_takes_as_soon_as_it_rests_is_put_back() -> None:
    world, exchange = holding()
    taken: list[str] = []

    async def take(order: VenueOrder) -> None:
        await FakeExchange.cancel(exchange, order)
        if not taken:
            taken.append("nt-s-NEW")
            exchange.end("nt-s-NEW")

    exchange.cancel = take  # type: ignore[method-assign]

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700)))

    assert taken
    assert report.status is ExecutionStatus.FILLED
    [stop] = exchange.guards(OrderKind.STOP)
    assert stop.trigger_price == Decimal(59_700)
    assert report.protection is not None
    assert report.protection.stop_order_id == stop.client_order_id


async def test_the_same_change_twice_is_one() -> None:
    world, exchange = holding()
    await protect(world.desk, amend(stop_loss=Decimal(59_700)))

    await protect(world.desk, amend(stop_loss=Decimal(59_700)))

    assert exchange.calls.count("rest STOP") == 1
    assert len(exchange.guards()) == 2


async def test_asking_for_nothing_makes_protection_fit_the_position() -> None:
    world, exchange = holding()
    exchange.open(Side.LONG, "0.004")

    report = await protect(world.desk, amend())

    assert report.status is ExecutionStatus.FILLED
    assert {order.quantity for order in exchange.guards()} == {Decimal("0.004")}


async def test_a_second_change_under_the_same_id_never_takes_the_stop_that_the_first_one_placed() -> None:
    world, exchange = holding()
    exchange.open(Side.LONG, "0.006")
    await protect(world.desk, amend())
    exchange.open(Side.LONG, "0.003")  # a part was closed by hand

    report = await protect(world.desk, amend())

    assert report.status is ExecutionStatus.FILLED
    [stop] = exchange.guards(OrderKind.STOP)
    [target] = exchange.guards(OrderKind.TARGET)
    assert (stop.quantity, target.quantity) == (Decimal("0.003"), Decimal("0.003"))
    assert report.protection is not None
    assert (report.protection.stop_order_id, report.protection.target_order_id) == (stop.client_order_id, target.client_order_id)


async def test_a_change_that_was_undone_may_come_again_under_its_id() -> None:
    world, exchange = holding()
    exchange.fail("rest TARGET", VENUE_RULE)
    refused = await protect(world.desk, amend(stop_loss=Decimal(59_700), take_profit=Decimal(61_000)))

    report = await protect(world.desk, amend(stop_loss=Decimal(59_700), take_profit=Decimal(61_000)))

    assert (refused.status, report.status) == (ExecutionStatus.REFUSED, ExecutionStatus.FILLED)
    assert [order.trigger_price for order in exchange.guards()] == [Decimal(59_700), Decimal(61_000)]


async def test_a_position_whose_stop_is_missing_is_given_one() -> None:
    exchange = FakeExchange()
    exchange.open()
    world = World(dry_run=False, exchanges=exchange)

    assert (await protect(world.desk, amend())).refusal == no(
        OrderRefusal.STOP_MISSING, "a position is never left without a stop"
    )
    assert (await protect(world.desk, amend(stop_loss=Decimal(59_400)))).status is ExecutionStatus.FILLED
    assert len(exchange.guards(OrderKind.STOP)) == 1


@pytest.mark.parametrize(
    ("side", "ratio", "activation", "code"),
    [
        (Side.LONG, "0.01", "60500", "trailing_below_break_even"),
        (Side.LONG, "0.01", "59000", "trailing_below_break_even"),
        (Side.LONG, "0.201", "90000", "trailing_ratio"),
        (Side.LONG, "0.2", "90000", None),
        (Side.LONG, "0.0001", "61000", "trailing_ratio"),
        (Side.SHORT, "0.01", "59500", "trailing_below_break_even"),
        (Side.LONG, "0.01", "60700", None),
        (Side.SHORT, "0.01", "59300", None),
    ],
)
async def test_a_trailing_stop_is_never_worse_than_break_even_once_armed(
    side: Side, ratio: str, activation: str, code: str | None
) -> None:
    exchange = FakeExchange()
    exchange.open(side)
    world = World(dry_run=False, exchanges=exchange)
    stop = Decimal(60_000 - side.sign * 600)
    trailing = Trailing(ratio=Decimal(ratio), activation_price=Decimal(activation))

    report = await protect(world.desk, amend(side=side, stop_loss=stop, trailing=trailing))

    assert (report.refusal.code if report.refusal else None) == code
    assert len(exchange.guards(OrderKind.TRAILING)) == (code is None)


@pytest.mark.parametrize(("side", "entry", "reached"), [(Side.LONG, 58_000, 58_700), (Side.SHORT, 62_000, 61_300)])
async def test_a_trailing_stop_of_a_position_in_gain_follows_at_once(side: Side, entry: int, reached: int) -> None:
    exchange = FakeExchange()
    exchange.open(side)
    exchange.now.entries["BTCUSDT"] = Decimal(entry)
    world = World(dry_run=False, exchanges=exchange)
    stop = Decimal(60_000 - side.sign * 600)
    trailing = Trailing(ratio=Decimal("0.01"), activation_price=Decimal(reached))

    report = await protect(world.desk, amend(side=side, stop_loss=stop, trailing=trailing))

    assert report.status is ExecutionStatus.FILLED, report.refusal
    [order] = exchange.guards(OrderKind.TRAILING)
    assert order.trigger_price is None


@pytest.mark.parametrize(
    ("side", "entry", "reached", "armed_at"), [(Side.LONG, 59_300, 59_959, 60_300), (Side.SHORT, 60_700, 60_039, 59_700)]
)
async def test_a_trailing_stop_without_slack_waits_for_a_price_that_keeps_break_even_wherever_the_mark_has_gone(
    side: Side, entry: int, reached: int, armed_at: int
) -> None:
    exchange = FakeExchange()
    exchange.open(side)
    exchange.now.entries["BTCUSDT"] = Decimal(entry)
    exchange.price = Decimal(60_000 - side.sign * 60)
    world = World(dry_run=False, exchanges=exchange)
    stop = Decimal(60_000 - side.sign * 600)
    trailing = Trailing(ratio=Decimal("0.01"), activation_price=Decimal(reached))

    report = await protect(world.desk, amend(side=side, stop_loss=stop, trailing=trailing))

    assert report.status is ExecutionStatus.FILLED, report.refusal
    [order] = exchange.guards(OrderKind.TRAILING)
    assert order.trigger_price == armed_at


@given(
    side=st.sampled_from(Side),
    past=st.decimals("-0.01", "0.02", places=4),
    ratio=st.decimals("0.001", "0.2", places=3),
    ahead=st.none() | st.decimals("-0.3", "0.3", places=4),
    drift=st.decimals(-MAX_ARMING_DRIFT_RATIO, MAX_ARMING_DRIFT_RATIO, places=5),
    tick=st.sampled_from([Decimal("0.1"), Decimal(1000)]),
)
def test_no_trailing_stop_locks_a_loss_though_the_mark_runs_before_the_exchange_has_it(
    side: Side, past: Decimal, ratio: Decimal, ahead: Decimal | None, drift: Decimal, tick: Decimal
) -> None:
    entry, kept = Decimal(60_000), 1 - side.sign * ratio
    least = break_even(side, entry)
    mark = least / kept * (1 + side.sign * past)
    asked = None if ahead is None else mark * (1 + side.sign * ahead)

    fits = trailing_fits(side, entry, mark, Trailing(ratio=ratio, activation_price=asked), tick)

    if isinstance(fits, Problem):
        return
    starts_at = fits.activation_price or mark * (1 + drift)
    assert (starts_at * kept - least) * side.sign >= 0
    assert fits.activation_price is None or (fits.activation_price - mark) * side.sign > 0
    assert fits.activation_price is None or fits.activation_price % tick == 0


async def test_a_trailing_stop_ends_when_asked() -> None:
    world, exchange = holding()
    await protect(world.desk, amend(trailing=Trailing(ratio=Decimal("0.01"), activation_price=Decimal(61_000))))
    assert len(exchange.guards(OrderKind.TRAILING)) == 1

    report = await protect(world.desk, amend(client_order_id="nt-p-END", end_trailing=True))

    assert report.protection is not None
    assert report.protection.trailing_order_id == ""
    assert exchange.guards(OrderKind.TRAILING) == []


# --- flatten ---------------------------------------------------------------------------------------------------------------


def many(*symbols: str) -> tuple[World, FakeExchange]:
    exchange = FakeExchange()
    for symbol in symbols:
        exchange.open(Side.LONG, symbol=symbol)
    exchange.lay(condition(OrderKind.STOP, "59400"))
    return World(dry_run=False, exchanges=exchange), exchange


async def panic(world: World) -> FlattenReply:
    done = await flatten(world.desk, FlattenRequest(account=armed(), client_order_prefix="nt-f-ABC"))
    assert isinstance(done, FlattenReply)
    return done


async def test_flatten_closes_by_the_exchanges_own_view_without_the_report_store() -> None:
    world, exchange = many("BTCUSDT", "ETHUSDT", "SOLUSDT")
    world.reports.down = True

    done = await panic(world)

    assert (done.flat, done.open_positions, done.open_orders) == (True, 0, 0)
    assert [report.status for report in done.reports] == [ExecutionStatus.FILLED] * 3
    assert all(report.filled_quantity == Decimal("0.01") for report in done.reports)
    assert exchange.guards() == []


async def test_flatten_goes_on_through_faults_and_partial_fills() -> None:
    world, exchange = many("BTCUSDT", "ETHUSDT", "SOLUSDT")
    exchange.fail("send", Fault.LOST, Fault.AWAY, Fault.SILENT, VENUE_RULE)
    exchange.fail("positions", Fault.AWAY)
    exchange.stale = 2

    done = await panic(world)

    assert done.flat
    assert all(held == 0 for held in exchange.now.positions.values())
    assert all(order.reduce_only for order in exchange.sent())


async def test_one_symbol_that_fails_is_told_and_stops_no_other() -> None:
    world, exchange = many("BTCUSDT", "ETHUSDT")
    send = exchange.send

    async def send_but_not_eth(order: Any) -> Any:
        return VENUE_RULE if order.symbol == "ETHUSDT" else await send(order)

    exchange.send = send_but_not_eth  # type: ignore[method-assign]

    done = await panic(world)

    assert (done.flat, done.open_positions) == (False, 1)
    assert exchange.held("BTCUSDT") == 0
    assert {report.symbol: report.status for report in done.reports} == {
        "BTCUSDT": ExecutionStatus.FILLED,
        "ETHUSDT": ExecutionStatus.UNKNOWN,
    }


@pytest.mark.parametrize(("order_side", "left"), [(OrderSide.SELL, []), (OrderSide.BUY, ["by-hand"])])
async def test_in_hedge_mode_what_closes_by_its_sides_gives_way_and_what_opens_does_not(
    order_side: OrderSide, left: list[str]
) -> None:
    world, exchange = holding()
    exchange.trigger("nt-s-OLD", stuck=True)
    child = msgspec.structs.replace(
        exchange.now.orders[-1], client_order_id="by-hand", order_side=order_side, position_side="LONG", reduce_only=False
    )
    exchange.now.orders[-1] = child

    await free_of_children(exchange, "BTCUSDT", Side.LONG, world.patience)

    assert [order.client_order_id for order in exchange.sent() if order.state is OrderState.WORKING] == left


async def test_an_exchange_that_says_nothing_is_never_flat() -> None:
    world, exchange = many("BTCUSDT")
    exchange.always["positions"] = Fault.AWAY

    done = await flatten(world.desk, FlattenRequest(account=armed(), client_order_prefix="nt-f-ABC"))

    assert isinstance(done, Problem)
    assert done.code == "venue_away"


async def test_flatten_again_under_the_same_prefix_is_harmless() -> None:
    world, exchange = many("BTCUSDT")
    await panic(world)
    exchange.open(Side.SHORT)

    done = await panic(world)

    assert done.flat
    assert exchange.held() == 0


# --- what only an exchange can say -----------------------------------------------------------------------------------------


async def test_the_truth_holds_state_and_history() -> None:
    world, _ = holding()
    await close(world.desk, real_close(quantity=Decimal("0.004")))

    told = await truth(world.desk, TruthRequest(account=armed(), symbols=["BTCUSDT"], since=NOW))

    assert isinstance(told, TruthReply)
    assert [position.quantity for position in told.positions] == [Decimal("0.006")]
    assert {trade.client_order_id for trade in told.trades} == {ID}
    assert len({order.venue_order_id for order in told.orders}) == len(told.orders) == 5


async def test_a_truth_that_is_not_of_everywhere_asks_for_the_orders_of_its_symbols_alone() -> None:
    world, exchange = holding()
    exchange.lay(
        msgspec.structs.replace(condition(OrderKind.STOP, "1", quantity="1"), symbol="SOLUSDT", client_order_id="elsewhere")
    )
    request = TruthRequest(account=armed(), symbols=["BTCUSDT"], since=NOW, everywhere=False)

    narrow, wide = await truth(world.desk, request), await truth(world.desk, msgspec.structs.replace(request, everywhere=True))

    assert isinstance(narrow, TruthReply)
    assert isinstance(wide, TruthReply)
    assert {order.symbol for order in narrow.orders} == {"BTCUSDT"}
    assert {order.symbol for order in wide.orders} == {"BTCUSDT", "SOLUSDT"}


@pytest.mark.parametrize(
    ("quantity", "change", "sound"),
    [
        ("0.01", {}, True),
        ("0.02", {}, False),
        ("0.01", {0: {"triggered": True}}, False),
        ("0.01", {1: {"triggered": True}}, False),
        ("0.01", {0: {"client_order_id": "web_1"}}, False),
        ("0.01", {0: {"order_side": OrderSide.BUY}}, False),
        (None, {}, False),
    ],
    ids=[
        "all stand",
        "too small",
        "stop triggered",
        "target triggered",
        "another's",
        "of the other side",
        "positions are wanted",
    ],
)
async def test_positions_are_not_read_where_every_stop_of_ours_stands(
    quantity: str | None, change: dict[int, dict[str, Any]], sound: bool
) -> None:
    world, exchange = holding()
    for place, fields in change.items():
        exchange.now.orders[place] = msgspec.structs.replace(exchange.now.orders[place], **fields)
    exchange.calls.clear()
    wanted = [] if quantity is None else [Guarded(symbol="BTCUSDT", side=Side.LONG, quantity=Decimal(quantity))]

    told = await guards(world.desk, GuardsRequest(account=armed(), symbols=["BTCUSDT"], guarded=wanted))

    assert isinstance(told, GuardsReply)
    assert told.sound is sound
    assert ("positions" in exchange.calls) is not sound
    assert len(told.orders) == 2


async def test_of_many_symbols_orders_are_asked_only_where_something_is_held() -> None:
    """After a panic over sixty positions a glance at all their orders would spend what the books need to hear that they are gone."""
    world, exchange = holding()
    many = ["BTCUSDT", *(f"S{number}USDT" for number in range(HELD_FIRST))]
    wanted = [Guarded(symbol="BTCUSDT", side=Side.LONG, quantity=Decimal("0.01"))]
    exchange.calls.clear()

    full = await guards(world.desk, GuardsRequest(account=armed(), symbols=many))
    light = await guards(world.desk, GuardsRequest(account=armed(), symbols=many, guarded=wanted))

    assert isinstance(full, GuardsReply)
    assert isinstance(light, GuardsReply)
    assert (full.sound, light.sound) == (False, True)
    assert [len(reply.orders) for reply in (full, light)] == [2, 2]
    assert [position.symbol for position in full.positions] == ["BTCUSDT"]
    assert sorted(exchange.calls) == ["positions", "positions", "working", "working"]
    assert (await close(world.desk, real_close())).status is ExecutionStatus.FILLED
    exchange.calls.clear()
    gone = await guards(world.desk, GuardsRequest(account=armed(), symbols=many, guarded=wanted))
    assert isinstance(gone, GuardsReply)
    assert (gone.sound, gone.positions, gone.orders, exchange.calls) == (False, [], [], ["positions"])


async def test_half_a_truth_is_none() -> None:
    world, exchange = holding()
    exchange.fail("income", Fault.AWAY, Fault.AWAY)

    told = await truth(world.desk, TruthRequest(account=armed(), symbols=["BTCUSDT"], since=NOW))

    assert isinstance(told, Problem)
    assert told.code == "venue_away"


@pytest.mark.parametrize("account", [paper(), real(dry_run=False)], ids=["paper", "no key"])
async def test_only_an_account_with_a_key_has_a_truth(account: Any) -> None:
    told = await truth(World().desk, TruthRequest(account=account, symbols=[], since=NOW))

    assert isinstance(told, Problem)


async def test_the_last_stop_of_an_open_position_is_never_cancelled() -> None:
    """Who asks has seen another one, which may have gone since."""
    world, exchange = holding()
    ids = ["nt-s-OLD", "nt-t-OLD"]

    alone = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=ids))
    exchange.lay(condition(OrderKind.STOP, "59500", "NEW"))
    doubled = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=ids))

    assert isinstance(alone, CancelReply)
    assert isinstance(doubled, CancelReply)
    assert (alone.gone, alone.unknown) == (["nt-t-OLD"], ["nt-s-OLD"])
    assert (doubled.gone, doubled.unknown) == (ids, [])
    assert [order.client_order_id for order in exchange.guards()] == ["nt-s-NEW"]


async def test_nothing_is_cancelled_while_somebody_changes_what_guards_the_position() -> None:
    """That change may fail, and then what is to go here is its only stop."""
    world, exchange = holding()
    exchange.lay(condition(OrderKind.STOP, "59500", "NEW"))
    world.desk = msgspec.structs.replace(world.desk, turns=Turns(world.reports, wait_seconds=0.02))
    request = CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=["nt-s-OLD"])

    async with world.desk.turns.of(armed().user_id)("BTCUSDT"):
        during = await cancel(world.desk, request)
    after = await cancel(world.desk, request)

    assert isinstance(during, CancelReply)
    assert isinstance(after, CancelReply)
    assert (during.gone, during.unknown) == ([], ["nt-s-OLD"])
    assert (after.gone, after.unknown) == (["nt-s-OLD"], [])


async def test_where_positions_cannot_be_read_nothing_is_cancelled() -> None:
    world, exchange = holding()
    exchange.always["positions"] = Fault.AWAY

    done = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=["nt-t-OLD"]))

    assert isinstance(done, CancelReply)
    assert (done.gone, done.unknown) == ([], ["nt-t-OLD"])
    assert len(exchange.guards()) == 2


async def test_orders_of_ours_are_cancelled_and_proven_gone() -> None:
    world, exchange = holding()
    exchange.now.positions.clear()
    exchange.fail("cancel", Fault.LOST, Fault.AWAY)
    ids = ["nt-s-OLD", "nt-t-OLD", "nt-s-NEVER"]

    done = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=ids))

    assert isinstance(done, CancelReply)
    assert (done.gone, done.unknown) == (ids, [])
    assert exchange.guards() == []


async def test_nothing_is_cancelled_that_is_not_ours() -> None:
    world, exchange = holding()

    done = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=["nt-s-OLD", "by-hand"]))

    assert isinstance(done, Problem)
    assert len(exchange.guards()) == 2


async def test_an_order_that_cannot_be_cancelled_is_unknown() -> None:
    world, exchange = holding()
    exchange.always["cancel"] = Fault.AWAY

    done = await cancel(world.desk, CancelRequest(account=armed(), symbol="BTCUSDT", client_order_ids=["nt-s-OLD"]))

    assert isinstance(done, CancelReply)
    assert (done.gone, done.unknown) == ([], ["nt-s-OLD"])


async def test_the_canary_places_and_cancels_one_order_far_away() -> None:
    exchange = FakeExchange()
    world = World(dry_run=False, exchanges=exchange)

    sung = await canary(world.desk, armed())

    assert isinstance(sung, CanaryReply)
    assert sung.passed
    assert [order.trigger_price for order in exchange.now.orders] == [Decimal("42000.0")]
    assert exchange.guards() == []


@pytest.mark.parametrize("method", ["rest", "cancel"])
async def test_a_canary_that_cannot_sing_says_why_and_passes_nobody(method: str) -> None:
    exchange = FakeExchange()
    exchange.always[method] = Fault.HALTED

    sung = await canary(World(dry_run=False, exchanges=exchange).desk, armed())

    assert isinstance(sung, CanaryReply)
    assert not sung.passed
    assert sung.detail


async def test_a_dry_run_canary_places_nothing() -> None:
    exchange = FakeExchange()

    sung = await canary(World(dry_run=True, exchanges=exchange).desk, armed())

    assert isinstance(sung, CanaryReply)
    assert sung.passed
    assert "rest STOP" not in exchange.calls


async def test_events_come_as_lines_until_the_stream_ends() -> None:
    world, exchange = holding()
    exchange.told = [AccountEvent(kind="CONNECTED", at=NOW), AccountEvent(kind="ACCOUNT_UPDATE", symbol="BTCUSDT", at=NOW)]

    lines = await listen(world.desk, armed())

    assert not isinstance(lines, Problem)
    assert [line.count(b"\n") for line in [line async for line in lines]] == [1, 1]


async def test_a_key_that_the_exchange_does_not_take_hears_nothing() -> None:
    world, exchange = holding()
    exchange.always["events"] = Fault.HALTED

    lines = await listen(world.desk, armed())

    assert isinstance(lines, Problem)
    assert lines.code == "venue_halted"


async def test_an_id_is_looked_up_at_the_exchange_where_no_report_is_kept() -> None:
    world, exchange = holding()
    await close(world.desk, real_close())
    world.reports.kept.clear()

    filled = await look_up(world.desk, armed(), ID, "BTCUSDT")
    never = await look_up(world.desk, armed(), "nt-e-NEVER", "BTCUSDT")
    exchange.always["find"] = Fault.AWAY
    unknown = await look_up(world.desk, armed(), ID, "BTCUSDT")

    assert [one.state for one in (filled, never, unknown)] == [OrderLookup.FILLED, OrderLookup.NOT_FOUND, OrderLookup.UNKNOWN]
    assert filled.report is not None
    assert (filled.report.side, filled.report.filled_quantity) == (Side.LONG, Decimal("0.01"))
