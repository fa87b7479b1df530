"""An entry at the exchange is one unit: after any fault it is protected, closed, or was never sent."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.core.order import OrderRefusal, no
from engine.execution.asking import Bound, Patience
from engine.execution.conditions import rest
from engine.execution.entry import enter
from engine.ports import Condition, MarketOrder
from shared.enums import ExecutionStatus, OrderKind, OrderState, PositionMode, Side
from shared.execution import EntryRequest, ExecutionReport, OrderSide, VenueOrder
from shared.problem import Problem
from tests.unit.engine.execution_desk import BTC_MARK, WALL_MS, World, armed, entry, refusal_of
from tests.unit.engine.fake_exchange import FakeExchange, Fault
from tests.virtual_time import run

ID = "nt-e-ABC"
SENT = datetime.fromtimestamp(WALL_MS / 1000, UTC)
VENUE_RULE = no(OrderRefusal.VENUE_RULE, "-4400: rules")


def real_world() -> tuple[World, FakeExchange]:
    exchange = FakeExchange()
    return World(dry_run=False, exchanges=exchange), exchange


def real_entry(**changes: Any) -> EntryRequest:
    fields: dict[str, Any] = {"client_order_id": ID, "sent_at": SENT}
    return entry(armed(), **(fields | changes))


async def test_an_entry_ends_with_stop_and_target_resting_for_exactly_what_was_filled() -> None:
    world, exchange = real_world()

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.FILLED
    assert report.filled_quantity == exchange.held()
    assert report.fills[0].realized_pnl is not None
    assert report.protection is not None
    assert (report.protection.stop_order_id, report.protection.target_order_id) == ("nt-s-ABC", "nt-t-ABC")
    assert [(order.kind, order.quantity, order.trigger_price) for order in exchange.guards()] == [
        (OrderKind.STOP, exchange.held(), Decimal("59400.0")),
        (OrderKind.TARGET, exchange.held(), Decimal("61200.0")),
    ]
    assert report.unprotected_seconds is not None
    assert report.unprotected_seconds < 3
    assert report.brackets_source == "EXCHANGE"
    assert set(exchange.settings) == {("BTCUSDT", "ISOLATED"), ("BTCUSDT", 20)}


async def test_the_id_is_looked_up_and_the_settings_are_made_before_anything_is_sent() -> None:
    world, exchange = real_world()

    await enter(world.desk, real_entry())

    before = exchange.calls[: exchange.calls.index("send")]
    assert "find" in before
    assert {"set_isolated", "set_leverage", "wallet", "positions", "modes", "brackets"} <= set(before)


async def test_an_id_that_the_exchange_knows_is_not_sent_again() -> None:
    world, exchange = real_world()
    await enter(world.desk, real_entry())
    world.reports.kept.clear()  # another replica, after Redis lost its memory
    exchange.now.positions.clear()

    await enter(world.desk, real_entry())

    assert [order.client_order_id for order in exchange.sent()].count(ID) == 1


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.OK])
@pytest.mark.parametrize("stale", [0, 1, 3])
async def test_an_answer_that_was_lost_or_readings_that_lag_change_nothing(fault: Fault, stale: int) -> None:
    world, exchange = real_world()
    exchange.fail("send", fault)
    exchange.stale = stale

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.FILLED
    assert len(exchange.sent()) == 1
    assert len(exchange.guards()) == 2


async def test_an_order_that_was_lost_on_the_way_is_unknown_and_never_sent_again() -> None:
    world, exchange = real_world()
    exchange.fail("send", Fault.LOST)

    first = await enter(world.desk, real_entry())
    again = await enter(world.desk, real_entry())

    assert (first.status, again.status) == (ExecutionStatus.UNKNOWN, ExecutionStatus.UNKNOWN)
    assert exchange.calls.count("send") == 1
    assert exchange.sent() == []


@pytest.mark.parametrize(("method", "code"), [("set_isolated", "margin_type"), ("set_leverage", "leverage")])
async def test_a_setting_that_is_refused_aborts_the_entry(method: str, code: str) -> None:
    world, exchange = real_world()
    exchange.fail(method, no(OrderRefusal(code), "no"))

    assert refusal_of(await enter(world.desk, real_entry())) == code
    assert "send" not in exchange.calls


@pytest.mark.parametrize("method", ["wallet", "positions", "modes", "brackets", "set_isolated", "set_leverage", "send"])
@pytest.mark.parametrize(("fault", "code"), [(Fault.AWAY, "venue_away"), (Fault.HALTED, "venue_halted")])
async def test_an_exchange_that_is_away_or_refuses_the_key_gets_nothing_sent(method: str, fault: Fault, code: str) -> None:
    world, exchange = real_world()
    exchange.always[method] = fault

    assert refusal_of(await enter(world.desk, real_entry())) == code
    assert exchange.sent() == []


async def test_hedge_mode_is_refused_with_what_to_do() -> None:
    world, exchange = real_world()
    exchange.mode = PositionMode.HEDGE

    report = await enter(world.desk, real_entry())

    assert refusal_of(report) == "hedge_mode"
    assert report.refusal is not None
    assert "one-way mode" in report.refusal.detail
    assert "send" not in exchange.calls


async def test_multi_assets_mode_is_refused_with_what_to_do() -> None:
    world, exchange = real_world()
    exchange.multi_assets = True

    report = await enter(world.desk, real_entry())

    assert refusal_of(report) == "multi_assets"
    assert report.refusal is not None
    assert "single-asset mode" in report.refusal.detail
    assert not {"set_isolated", "send"} & set(exchange.calls)


async def test_a_symbol_that_is_held_is_not_entered() -> None:
    world, exchange = real_world()
    exchange.open(Side.SHORT)

    assert refusal_of(await enter(world.desk, real_entry())) == "position_open"


async def test_without_the_report_store_nothing_is_opened() -> None:
    world, exchange = real_world()
    world.reports.down = True

    assert refusal_of(await enter(world.desk, real_entry())) == "report_store_unavailable"
    assert exchange.calls == []


async def test_a_partial_fill_is_a_position_of_that_size() -> None:
    world, exchange = real_world()
    exchange.fill_ratio = Decimal("0.5")

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.FILLED
    assert report.filled_quantity == exchange.held() < report.requested_quantity
    assert {order.quantity for order in exchange.guards()} == {exchange.held()}


async def test_an_order_that_ended_without_a_fill_opened_nothing() -> None:
    world, exchange = real_world()
    exchange.fill_ratio = Decimal(0)

    assert refusal_of(await enter(world.desk, real_entry())) == "thin_book"
    assert exchange.guards() == []


def assert_closed_at_once(report: ExecutionReport, exchange: FakeExchange) -> None:
    assert report.status is ExecutionStatus.FILLED
    assert report.protection is None
    assert report.refusal is not None
    assert report.closing_order_id == "nt-x-ABC"
    assert sum(fill.quantity for fill in report.closing_fills) == report.filled_quantity
    assert report.unprotected_seconds is not None
    assert exchange.held() == 0
    assert exchange.guards() == []


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.AWAY, Fault.HALTED, VENUE_RULE], ids=str)
async def test_a_stop_that_is_not_confirmed_in_time_closes_the_position(fault: Fault) -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = fault

    assert_closed_at_once(await enter(world.desk, real_entry()), exchange)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HANGS])
async def test_a_stop_without_an_answer_that_is_not_seen_is_handed_over_again_under_its_id(fault: Fault) -> None:
    world, exchange = real_world()
    exchange.fail("rest STOP", fault)

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.FILLED
    assert report.protection is not None
    assert [order.client_order_id for order in exchange.guards(OrderKind.STOP)] == ["nt-s-ABC"]
    assert exchange.calls.count("rest STOP") == 2


class SlowStops(FakeExchange):
    """A stop comes to rest seconds after it was handed over, whether or not anybody still waits for the answer; a look takes 0.15 s."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._under_way: set[asyncio.Future[Any]] = set()

    async def rest(self, condition: Condition) -> VenueOrder | Problem:
        coming = asyncio.ensure_future(self._comes(condition))
        self._under_way.add(coming)
        return await asyncio.shield(coming)

    async def find(self, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | None:
        await asyncio.sleep(0.15)
        return await super().find(symbol, client_order_id, conditional=conditional)

    async def _comes(self, condition: Condition) -> VenueOrder | Problem:
        await asyncio.sleep(self._seconds)
        twin = next((one for one in self.guards() if one.client_order_id == condition.client_order_id), None)
        return twin or await super().rest(condition)


@pytest.mark.parametrize("seconds", [0.9, 1.5, 2.1, 2.5])
def test_a_stop_that_comes_to_rest_late_but_in_time_is_seen_while_it_is_handed_over_again(seconds: float) -> None:
    """Else a good position would be sold, and a twin of its stop left behind."""

    async def entered() -> tuple[ExecutionReport, FakeExchange]:
        exchange = SlowStops(seconds)
        world = World(dry_run=False, exchanges=exchange, patience=Patience())
        report = await enter(world.desk, real_entry())
        await asyncio.sleep(10)
        return report, exchange

    report, exchange = run(entered())

    assert (report.status, exchange.held()) == (ExecutionStatus.FILLED, report.filled_quantity)
    assert report.protection is not None
    assert sorted(order.client_order_id for order in exchange.guards()) == ["nt-s-ABC", "nt-t-ABC"]


async def test_whoever_stops_waiting_for_a_stop_leaves_nobody_behind_who_hands_it_over() -> None:
    exchange = FakeExchange()
    exchange.always["rest STOP"] = Fault.AWAY
    stop = Condition(
        client_order_id="nt-s-ABC", kind=OrderKind.STOP, symbol="BTCUSDT", order_side=OrderSide.SELL,
        quantity=Decimal("0.01"), trigger_price=Decimal(59_000),
    )  # fmt: skip
    patience = Patience(poll=0.001)
    resting = asyncio.create_task(rest(exchange, stop, Bound(5.0), patience, fresh=True))
    await asyncio.sleep(0.02)
    assert exchange.calls.count("rest STOP") > 1
    resting.cancel()
    with suppress(asyncio.CancelledError):
        await resting
    asked = exchange.calls.count("rest STOP")
    await asyncio.sleep(0.02)
    assert exchange.calls.count("rest STOP") == asked


async def test_a_stop_that_is_refused_closes_the_position_before_its_trades_are_shown_and_its_target_is_told() -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = VENUE_RULE
    exchange.always["trades"] = Fault.AWAY
    exchange.always["rest TARGET"] = Fault.AWAY

    report = await enter(world.desk, real_entry())

    closing = [number for number, call in enumerate(exchange.calls) if call == "send"][1]
    assert exchange.calls[:closing].count("rest TARGET") < 5
    assert report.status is ExecutionStatus.UNKNOWN  # until the trades can be read
    assert exchange.held() == 0


async def test_an_order_that_somebody_else_worked_on_is_not_taken_for_a_fresh_one() -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = VENUE_RULE
    await enter(world.desk, real_entry())
    del exchange.always["rest STOP"]
    world.reports.kept.clear()  # Redis lost its memory

    report = await enter(world.desk, real_entry())

    assert report.closing_order_id == "nt-x-ABC"
    assert report.protection is None
    assert exchange.guards() == []


async def test_a_market_beyond_the_stop_at_once_closes_the_position() -> None:
    world, exchange = real_world()
    exchange.price = Decimal(59_300)

    assert_closed_at_once(await enter(world.desk, real_entry()), exchange)


async def test_an_emergency_close_that_is_lost_partial_or_refused_goes_on_until_flat() -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = VENUE_RULE
    exchange.fail("send", Fault.OK, Fault.LOST, VENUE_RULE, Fault.AWAY, Fault.SILENT)

    report = await enter(world.desk, real_entry())

    assert_closed_at_once(report, exchange)
    assert all(order.reduce_only for order in exchange.sent()[1:])


async def test_an_emergency_close_with_stale_readings_never_opens_the_other_side() -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = VENUE_RULE
    exchange.stale = 4

    assert_closed_at_once(await enter(world.desk, real_entry()), exchange)


async def test_a_target_that_cannot_be_placed_never_costs_the_stop() -> None:
    world, exchange = real_world()
    exchange.always["rest TARGET"] = VENUE_RULE

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.FILLED
    assert report.protection is not None
    assert report.protection.take_profit is None
    assert report.refusal is not None
    assert report.refusal.code == "target_missing"
    assert [order.kind for order in exchange.guards()] == [OrderKind.STOP]


async def test_a_stop_whose_answer_was_lost_is_found_by_reading() -> None:
    world, exchange = real_world()
    exchange.fail("rest STOP", Fault.SILENT)

    report = await enter(world.desk, real_entry())

    assert report.protection is not None
    assert len(exchange.guards(OrderKind.STOP)) == 1


async def test_trades_that_are_not_shown_leave_a_protected_position_and_an_unknown_report() -> None:
    world, exchange = real_world()
    exchange.always["trades"] = Fault.AWAY

    report = await enter(world.desk, real_entry())

    assert report.status is ExecutionStatus.UNKNOWN
    assert len(exchange.guards(OrderKind.STOP)) == 1

    del exchange.always["trades"]
    resumed = await enter(world.desk, real_entry(resume=True))
    assert resumed.status is ExecutionStatus.FILLED
    assert resumed.protection is not None
    assert len(exchange.guards()) == 2


async def test_an_order_that_is_handed_over_too_late_is_not_sent() -> None:
    world, exchange = real_world()
    world.clock.pass_wall(timedelta(seconds=11))
    world.set_book(received_ms=world.clock.wall_ms())
    world.market.mark_now = msgspec.structs.replace(BTC_MARK, received_ms=world.clock.wall_ms())

    assert refusal_of(await enter(world.desk, real_entry())) == "venue_away"
    assert exchange.sent() == []


# --- resume ----------------------------------------------------------------------------------------------------------------


async def test_a_resumed_entry_that_never_arrived_is_proven_only_when_it_can_come_no_more() -> None:
    world, exchange = real_world()
    exchange.fail("send", Fault.LOST)
    await enter(world.desk, real_entry())

    early = await enter(world.desk, real_entry(resume=True))
    world.clock.pass_wall(timedelta(seconds=21))
    late = await enter(world.desk, real_entry(resume=True))
    timeless = await enter(world.desk, real_entry(resume=True, sent_at=None))

    assert early.status is ExecutionStatus.UNKNOWN
    assert refusal_of(late) == "never_arrived"
    assert timeless.status is ExecutionStatus.UNKNOWN
    assert exchange.calls.count("send") == 1


async def test_a_resume_never_opens_anything() -> None:
    world, exchange = real_world()

    report = await enter(world.desk, real_entry(resume=True))

    assert report.status is ExecutionStatus.UNKNOWN
    assert "send" not in exchange.calls


async def test_an_entry_whose_worker_died_is_finished_by_a_resume() -> None:
    world, exchange = real_world()
    await _open_and_die(world, exchange)

    report = await enter(world.desk, real_entry(resume=True))

    assert report.status is ExecutionStatus.FILLED
    assert report.protection is not None
    assert {guard.client_order_id for guard in exchange.guards()} == {"nt-s-ABC", "nt-t-ABC"}
    assert len(exchange.sent()) == 1


async def _open_and_die(world: World, exchange: FakeExchange) -> None:
    """The order arrived and filled; whoever sent it was never heard of again."""
    await enter(world.desk, real_entry())
    exchange.now.orders = [order for order in exchange.now.orders if not order.conditional]
    world.reports.kept.clear()


async def test_a_resumed_entry_whose_stop_cannot_rest_is_closed() -> None:
    world, exchange = real_world()
    await _open_and_die(world, exchange)
    exchange.always["rest STOP"] = VENUE_RULE

    report = await enter(world.desk, real_entry(resume=True))

    assert_closed_at_once(report, exchange)


@pytest.mark.parametrize(("added", "blind"), [("0", True), ("0.005", False)])
async def test_the_emergency_close_of_a_resumed_entry_waits_for_readings_only_where_a_hand_has_a_share(
    added: str, blind: bool
) -> None:
    """As that of a fresh one: its stop may have failed, and a try that is lost must not cost seconds."""
    world, exchange = real_world()
    await _open_and_die(world, exchange)
    exchange.now.positions["BTCUSDT"] += Decimal(added)
    exchange.always["rest STOP"] = VENUE_RULE
    exchange.fail("send", Fault.LOST)
    exchange.calls.clear()

    await enter(world.desk, real_entry(resume=True))

    first, second = (index for index, call in enumerate(exchange.calls) if call == "send")
    assert (exchange.calls[first:second].count("positions") <= 1) is blind
    assert exchange.held() == 0


async def test_a_resumed_entry_that_its_stop_has_closed_since_is_told_without_protection() -> None:
    world, exchange = real_world()
    await enter(world.desk, real_entry())
    world.reports.kept.clear()
    exchange.trigger("nt-s-ABC")

    report = await enter(world.desk, real_entry(resume=True))

    assert report.status is ExecutionStatus.FILLED
    assert (report.protection, report.closing_fills) == (None, [])
    assert exchange.guards() == []
    assert [order.state for order in exchange.sent()] == [OrderState.FILLED, OrderState.FILLED]


async def test_a_position_that_readings_do_not_show_yet_is_never_taken_for_a_closed_one() -> None:
    world, exchange = real_world()
    await enter(world.desk, real_entry())
    world.reports.kept.clear()
    held = exchange.now.positions.copy()
    exchange.now.positions.clear()  # this reading is far behind; the trades tell of no exit

    report = await enter(world.desk, real_entry(resume=True))
    exchange.now.positions = held

    assert report.protection is not None
    assert {guard.client_order_id for guard in exchange.guards()} == {"nt-s-ABC", "nt-t-ABC"}


async def test_a_resumed_entry_whose_emergency_close_was_sent_tells_its_fills() -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = VENUE_RULE
    first = await enter(world.desk, real_entry())
    world.reports.kept.clear()

    resumed = await enter(world.desk, real_entry(resume=True))

    assert (resumed.closing_order_id, resumed.closing_fills) == (first.closing_order_id, first.closing_fills)


# --- how long it had no stop -----------------------------------------------------------------------------------------------


class SlowExchange(FakeExchange):
    """Fills at once and answers later."""

    late = 0.04

    async def send(self, order: MarketOrder) -> VenueOrder | Problem:
        done = await super().send(order)
        await asyncio.sleep(self.late)
        return done

    async def find(self, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | None:
        found = await super().find(symbol, client_order_id, conditional=conditional)
        if found is not None and not conditional:
            await asyncio.sleep(self.late)
        return found


async def test_the_time_without_a_stop_begins_when_the_order_left_and_not_when_it_was_heard_of() -> None:
    exchange = SlowExchange()
    world = World(dry_run=False, exchanges=exchange)

    report = await enter(world.desk, real_entry())

    assert report.protection is not None
    assert report.unprotected_seconds is not None
    assert report.unprotected_seconds >= exchange.late / 2


async def test_an_entry_that_another_finishes_tells_the_time_between_the_fill_and_the_stop_as_the_exchange_stamped_them() -> None:
    world, exchange = real_world()
    await _open_and_die(world, exchange)
    exchange.at += timedelta(seconds=7)

    report = await enter(world.desk, real_entry(resume=True))

    [stop] = exchange.guards(OrderKind.STOP)
    assert report.unprotected_seconds == (stop.created_at - report.fills[0].at).total_seconds()
    assert report.unprotected_seconds > 7


async def test_an_entry_that_another_closes_tells_the_time_between_the_fill_and_the_trade_that_closed_it() -> None:
    world, exchange = real_world()
    await _open_and_die(world, exchange)
    exchange.always["rest STOP"] = VENUE_RULE
    exchange.at += timedelta(seconds=9)

    report = await enter(world.desk, real_entry(resume=True))

    assert_closed_at_once(report, exchange)
    assert report.unprotected_seconds == 9


async def test_an_entry_that_is_gone_tells_how_long_it_stood_before_its_stop_did() -> None:
    world, exchange = real_world()
    await enter(world.desk, real_entry())
    world.reports.kept.clear()
    [stop] = exchange.guards(OrderKind.STOP)
    exchange.at += timedelta(hours=1)
    exchange.trigger("nt-s-ABC")

    report = await enter(world.desk, real_entry(resume=True))

    assert report.protection is None
    assert report.unprotected_seconds == (stop.created_at - report.fills[0].at).total_seconds()


@pytest.mark.parametrize("stop", [Fault.OK, VENUE_RULE], ids=str)
async def test_an_exchange_whose_time_runs_faster_than_the_wall_is_not_asked_how_long_it_was(stop: Fault) -> None:
    world, exchange = real_world()
    await _open_and_die(world, exchange)
    exchange.always["rest STOP"] = stop
    exchange.at += timedelta(seconds=900)
    world.clock.speed = 450

    report = await enter(world.desk, real_entry(resume=True))

    assert report.status is ExecutionStatus.FILLED
    assert report.unprotected_seconds is None
