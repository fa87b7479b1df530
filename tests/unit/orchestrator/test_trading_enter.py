"""From a signal to a position: claim, order, fill; and every way in which nothing or nobody knows what happens."""

from decimal import Decimal

import msgspec
import pytest

from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.ports import Closed, Entered
from orchestrator.trading.claims import CARRY
from shared.enums import Mode, Side
from shared.execution import EntryRequest, ExecutionReport, PaperAccount
from tests.builders import USER, at, bar, d, instrument, signal, trader
from tests.fakes import World
from tests.soundness import assert_at_rest, assert_sound


@pytest.fixture
def world() -> World:
    return World(trader())


def reasons(world: World) -> list[str]:
    return [refusal.reason.value for refusal in world.rows.refusals]


async def test_a_signal_becomes_a_protected_position_and_a_booked_fee(world: World) -> None:
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    assert (position.size, position.entry_price, position.margin) == (d(10), d(100), d(100))
    assert (position.stop_loss, position.take_profit) == (d(98), d(104))
    assert world.balance(USER) == d("9999.5")
    assert_at_rest(world.rows)


async def test_the_paper_account_travels_whole_with_the_request(world: World) -> None:
    await world.enter(signal("AAAUSDT"))
    world.clock.pass_market(minutes=15)
    await world.enter(signal("BBBUSDT", candle_close=at("12:15")))
    request = world.engine.sent("enter")[1]
    assert isinstance(request.account, PaperAccount)
    assert request.account.book.balance == d("9999.5")
    assert [held.symbol for held in request.account.book.positions] == ["AAAUSDT"]


async def test_one_trace_id_runs_from_the_scan_to_the_fill(world: World) -> None:
    await world.enter(signal())
    (scan,), (stored,) = world.rows.scans, world.rows.signals.values()
    (order,), (fill,) = world.rows.orders.values(), world.rows.fills.values()
    assert len({scan.trace_id, stored.trace_id, order.trace_id, fill.trace_id}) == 1


async def test_the_order_is_committed_as_sent_before_the_call(world: World) -> None:
    await world.enter(signal())
    steps = world.cuts.steps
    call = steps.index("before enter")
    assert steps[call - 1] == "after commit"


@pytest.mark.parametrize("trouble", ["refused"])
async def test_a_refused_entry_frees_its_claim_and_leaves_its_row_with_the_reason(world: World, trouble: str) -> None:
    world.engine.trouble["enter"] = [trouble]
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    assert (order.status, order.reason) == (OrderStatus.REFUSED, "venue_refused")
    assert "report_store_unavailable" in (order.detail or "")
    assert world.rows.claims == {}
    assert reasons(world) == ["venue_refused"]
    assert_at_rest(world.rows)


async def test_a_refusing_report_frees_the_claim_too(world: World) -> None:
    world.engine.signals = [signal()]
    await world.trading.scan.run()
    assert reasons(world) == ["venue_refused"]
    assert_at_rest(world.rows)


async def test_a_reply_that_was_lost_is_settled_by_its_id_and_never_doubled(world: World) -> None:
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    assert order.status is OrderStatus.UNKNOWN
    assert len(world.rows.claims) == 1
    await world.trading.settle.run()
    assert len(world.rows.live(USER)) == 1
    assert len(world.engine.sent("enter")) == 1
    assert_at_rest(world.rows)


async def test_a_request_that_never_arrived_is_sent_again_with_the_same_id_and_body(world: World) -> None:
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    await world.trading.settle.run()
    first, second = world.engine.sent("enter")
    assert first == second
    assert len(world.rows.live(USER)) == 1
    assert_at_rest(world.rows)


async def test_a_request_that_never_arrived_and_grew_old_is_freed(world: World) -> None:
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    world.clock.pass_market(minutes=16)
    await world.trading.settle.run()
    assert len(world.engine.sent("enter")) == 1
    assert reasons(world) == ["engine_unavailable"]
    assert_at_rest(world.rows)


async def test_an_unknown_entry_keeps_its_claim_while_the_engine_is_away(world: World) -> None:
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    world.engine.broken = {"order"}
    await world.trading.settle.run()
    world.clock.pass_market(minutes=61)
    await world.enter(signal(candle_close=at("13:00")))
    assert reasons(world) == ["entry_under_way"]
    assert_sound(world.rows)


async def test_an_order_that_is_carried_is_left_alone_until_its_carrier_must_be_dead(world: World) -> None:
    world.cuts.at = None
    world.engine.broken = {"enter"}
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    world.rows.orders[order.id] = msgspec.structs.replace(
        order, status=OrderStatus.SENT, carried_until=world.clock.wall() + CARRY
    )
    world.engine.broken = set()
    await world.trading.settle.run()
    assert world.rows.live(USER) == []
    world.clock.pass_wall(seconds=CARRY.total_seconds())
    await world.trading.settle.run()
    assert len(world.rows.live(USER)) == 1


async def test_settling_by_two_workers_books_once(world: World) -> None:
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    one, other = world.trading, world.start()
    await one.settle.settle(order)
    await other.settle.settle(order)
    assert len(world.rows.fills) == 1
    assert_at_rest(world.rows)


async def test_a_fill_that_comes_twice_is_booked_once(world: World) -> None:
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    again = await world.trading.enter.book(order, world.engine.reports[order.client_order_id])
    assert again == Entered(position_id=world.rows.live(USER)[0].id, symbol="SOLUSDT")
    assert_at_rest(world.rows)


async def test_a_real_user_without_a_known_balance_gets_no_order() -> None:
    world = World(trader(mode=Mode.REAL))
    await world.enter(signal())
    assert reasons(world) == ["balance_unknown"]
    assert world.engine.sent("enter") == []


async def test_an_old_signal_is_not_entered(world: World) -> None:
    world.clock.pass_market(minutes=61)
    await world.enter(signal())
    assert reasons(world) == ["signal_stale"]


async def test_todays_loss_stops_entries_until_the_next_utc_day() -> None:
    """One LONG loses 20.99 by its stop; the limit is 20. At 00:00 UTC the sum begins anew."""
    world = World(trader(max_daily_loss=d(20)))
    await world.enter(signal())
    world.quote("SOLUSDT", 98)
    await world.trading.desk.close(USER, world.rows.live(USER)[0].id, None)
    world.clock.market = at("23:59")
    await world.enter(signal("AAAUSDT", candle_close=at("23:45")))
    assert reasons(world) == ["daily_loss_reached"]
    world.clock.pass_market(minutes=1)
    await world.enter(signal("BBBUSDT", candle_close=world.clock.now()))
    assert [position.symbol for position in world.rows.live(USER)] == ["BBBUSDT"]


async def test_an_unrealized_loss_counts_against_the_day() -> None:
    world = World(trader(max_daily_loss=d(15)))
    await world.enter(signal("AAAUSDT"))
    world.quote("AAAUSDT", "98.5")
    world.clock.pass_market(minutes=15)
    await world.enter(signal("BBBUSDT", candle_close=at("12:15")))
    assert reasons(world) == ["daily_loss_reached"]


async def test_a_position_without_a_mark_counts_with_the_loss_at_its_stop() -> None:
    world = World(trader(max_daily_loss=d(15)))
    await world.enter(signal("AAAUSDT"))
    world.engine.age_ms["AAAUSDT"] = 60_000
    world.clock.pass_market(minutes=15)
    await world.enter(signal("BBBUSDT", candle_close=at("12:15")))
    assert reasons(world) == ["daily_loss_reached"]


async def test_margin_in_use_is_not_free() -> None:
    world = World(trader(paper_balance=d(150)))
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"))
    assert [position.symbol for position in world.rows.live(USER)] == ["AAAUSDT"]
    assert reasons(world) == ["not_enough_margin"]


async def test_a_manual_close_books_profit_fees_and_frees_the_claim(world: World) -> None:
    """Closes at 103: gross 30.00, exit fee 1030 x 0.0005 = 0.515; net 30 - 0.50 - 0.515 = 28.985."""
    await world.enter(signal())
    world.quote("SOLUSDT", 103)
    done = await world.trading.desk.close(USER, world.rows.live(USER)[0].id, None)
    assert isinstance(done, Closed)
    assert (done.status, done.left, done.pnl) == ("CLOSED_WIN", d(0), d("28.985"))
    assert world.rows.claims == {}
    assert_at_rest(world.rows)


async def test_parts_are_closed_pro_rata_and_sum_up_to_the_whole(world: World) -> None:
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    world.quote("SOLUSDT", 101)
    part = await world.trading.desk.close(USER, position.id, d("4.05"))
    assert isinstance(part, Closed)
    assert (part.closed_quantity, part.left, part.status) == (d(4), d(6), "OPEN")
    assert world.rows.positions[position.id].margin == d(60)
    rest = await world.trading.desk.close(USER, position.id, d(999))
    assert isinstance(rest, Closed)
    assert (rest.closed_quantity, rest.left, rest.pnl) == (d(6), d(0), d("8.995"))
    assert world.rows.positions[position.id].margin == d(100)
    assert_at_rest(world.rows)


async def test_less_than_a_step_cannot_be_closed(world: World) -> None:
    await world.enter(signal())
    refused = await world.trading.desk.close(USER, world.rows.live(USER)[0].id, d("0.05"))
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.BAD_QUANTITY


async def test_a_close_pressed_twice_closes_once(world: World) -> None:
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    await world.trading.desk.close(USER, position.id, None)
    again = await world.trading.desk.close(USER, position.id, None)
    assert isinstance(again, Refusal)
    assert again.reason is RefusalReason.NOT_OPEN
    assert len(world.engine.sent("close")) == 1


async def test_nobody_closes_the_position_of_another() -> None:
    world = World(trader(1), trader(2))
    await world.enter(signal())
    (mine,) = world.rows.live(USER)
    refused = await world.trading.desk.close(trader(2).id, mine.id, None)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.NOT_FOUND


async def test_a_close_without_a_price_leaves_the_position_open_and_protected(world: World) -> None:
    """No free escape at the entry price when the feed is down."""
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    del world.engine.prices["SOLUSDT"]
    refused = await world.trading.desk.close(USER, position.id, None)
    assert isinstance(refused, Refusal)
    assert world.rows.positions[position.id].status is PositionStatus.OPEN
    assert world.rows.positions[position.id].stop_loss == d(98)


async def test_a_close_whose_reply_was_lost_is_settled_by_its_id(world: World) -> None:
    await world.enter(signal())
    world.engine.trouble["close"] = ["lost after"]
    refused = await world.trading.desk.close(USER, world.rows.live(USER)[0].id, None)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.OUTCOME_UNKNOWN
    assert world.rows.live(USER)[0].status is PositionStatus.CLOSING
    await world.trading.settle.run()
    assert world.rows.live(USER) == []
    assert len(world.engine.sent("close")) == 1
    assert_at_rest(world.rows)


async def test_a_triggered_close_is_sent_again_however_late_at_its_own_time(world: World) -> None:
    await world.enter(signal())
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.trouble["close"] = ["lost before"]
    await world.trading.watch.run()
    world.clock.pass_market(hours=5)
    await world.trading.settle.run()
    (position,) = world.rows.positions.values()
    assert (position.closed_at, position.close_reason) == (at("12:10"), CloseReason.STOP)
    assert_at_rest(world.rows)


async def test_the_request_that_was_kept_is_the_request_that_was_sent(world: World) -> None:
    await world.enter(signal(instrument=instrument()))
    (order,) = [row for row in world.rows.orders.values() if row.purpose is OrderPurpose.ENTRY]
    assert msgspec.convert(order.request, EntryRequest) == world.engine.sent("enter")[0]
    assert order.side is Side.LONG
    assert order.notional == Decimal(1000)


def split(report: ExecutionReport, *quantities: str) -> ExecutionReport:
    """The same report, filled in several trades, the last of them told first and once more."""
    (fill,) = report.fills
    fills = [
        msgspec.structs.replace(
            fill, trade_id=f"{report.client_order_id}-{number}", quantity=d(quantity), fee=fill.price * d(quantity) * d("0.0005")
        )
        for number, quantity in enumerate(quantities, start=1)
    ]
    return msgspec.structs.replace(report, fills=[fills[-1], *fills])


async def test_an_order_that_filled_in_several_trades_told_out_of_order_and_twice_is_one_position(world: World) -> None:
    """10 at 100 in three trades, closed at 101 in two: gross 10.00, fees 0.50 and 0.505, net 8.995, as in one trade each."""
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    await world.trading.enter.book(order, split(world.engine.reports[order.client_order_id], "5", "3", "2"))
    (position,) = world.rows.live(USER)
    assert (position.size, position.entry_price, position.fees) == (d(10), d(100), d("0.5"))
    world.quote("SOLUSDT", 101)
    world.engine.trouble["close"] = ["lost after"]
    await world.trading.desk.close(USER, position.id, None)
    close = next(row for row in world.rows.orders.values() if row.purpose is OrderPurpose.CLOSE)
    await world.trading.close.book(close, split(world.engine.reports[close.client_order_id], "7", "3"))
    assert world.rows.positions[position.id].pnl == d("8.995")
    assert len(world.rows.fills) == 5
    assert_at_rest(world.rows)


async def test_what_waits_reserves_its_fee_as_well_as_its_margin() -> None:
    """Each entry needs 100 and a fee of 0.50; 201 is just enough for two, 200.99 for one."""
    for balance, waiting in (("201", 2), ("200.99", 1)):
        world = World(trader(paper_balance=d(balance), auto_trade_enabled=False))
        await world.enter(signal("AAAUSDT"), signal("BBBUSDT"))
        assert len(world.rows.claims) == waiting
