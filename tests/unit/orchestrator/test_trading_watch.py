"""Paper positions live on the mark price's bars: each example is worked by hand, to the cent, beside what was booked."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec import structs

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderPurpose, Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.ports import PositionRecord
from shared.enums import Side
from shared.execution import CloseRequest, ExecutionReport
from tests.builders import USER, at, bar, d, funding, instrument, signal, trader
from tests.fakes import World
from tests.polling import eventually
from tests.soundness import assert_at_rest, assert_sound


@pytest.fixture
async def world() -> World:
    """One LONG of 10 SOLUSDT at 100: notional 1000, margin 100, entry fee 1000 x 0.0005 = 0.50; stop 98, target 104."""
    world = World(trader())
    await world.enter(signal())
    world.clock.market = at("12:40")
    return world


def only(world: World) -> PositionRecord:
    (position,) = world.rows.positions.values()
    return position


def kinds(world: World) -> dict[EntryKind, Decimal]:
    sums: dict[EntryKind, Decimal] = {}
    for entry in world.rows.ledger:
        sums[entry.kind] = sums.get(entry.kind, Decimal(0)) + entry.amount
    return sums


async def test_a_stop_touched_only_by_a_wick_while_the_worker_was_down_for_40_minutes_is_booked_at_its_time_and_price(
    world: World,
) -> None:
    """Down from 12:00 to 12:40; the wick of 12:21 goes to 97.50 and back. The market is at 101 when the worker returns.

    Exit at the stop, 98: gross (98 - 100) x 10 = -20.00; exit fee 980 x 0.0005 = 0.49; net -20.00 - 0.50 - 0.49 = -20.99.
    """
    world.quote("SOLUSDT", 101)
    world.engine.bars["SOLUSDT"] = [
        bar("12:05", "12:06", 100, 101, "99.5"),
        bar("12:21", "12:22", "99.2", "99.4", "97.5"),
        bar("12:35", "12:36", "100.8", 101, "100.5"),
    ]
    world.start()
    await world.trading.watch.run()
    position = only(world)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED_LOSS, CloseReason.STOP)
    assert (position.exit_price, position.closed_at) == (d(98), at("12:21"))
    assert position.pnl == d("-20.99")
    assert world.balance(USER) == d("9979.01")
    assert_at_rest(world.rows)


async def test_target_and_stop_in_one_bar_book_the_stop(world: World) -> None:
    """The bar of 12:10 spans 97 to 105. The worse counts: -20.00 - 0.50 - 0.49 = -20.99, not +40.00 - 0.50 - 0.52."""
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, 105, 97)]
    await world.trading.watch.run()
    assert (only(world).close_reason, only(world).pnl) == (CloseReason.STOP, d("-20.99"))
    assert world.balance(USER) == d("9979.01")


async def test_a_target_is_booked_at_its_price(world: World) -> None:
    """Gross (104 - 100) x 10 = 40.00; exit fee 1040 x 0.0005 = 0.52; net 40.00 - 0.50 - 0.52 = 38.98."""
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 103, 105, 102)]
    await world.trading.watch.run()
    assert (only(world).status, only(world).pnl) == (PositionStatus.CLOSED_WIN, d("38.98"))
    assert world.balance(USER) == d("10038.98")


async def test_a_bar_that_opens_beyond_the_stop_books_its_open(world: World) -> None:
    """Opens at 95: gross -50.00; exit fee 950 x 0.0005 = 0.475; net -50 - 0.50 - 0.475 = -50.975."""
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 95, 96, 94)]
    await world.trading.watch.run()
    assert (only(world).exit_price, only(world).pnl) == (d(95), d("-50.975"))


async def test_funding_across_a_restart_is_paid_once(world: World) -> None:
    """At 12:30 the rate is 0.0001 and the mark 101: pays 10 x 101 x 0.0001 = 0.101. Stop at 12:45: net -20.99 - 0.101 = -21.091."""
    world.engine.funding["SOLUSDT"] = [funding("12:30", "0.0001", 101)]
    await world.trading.watch.run()
    await world.trading.watch.run()
    world.start()
    await world.trading.watch.run()
    assert kinds(world)[EntryKind.FUNDING] == d("-0.101")
    assert (only(world).funding, only(world).isolated_margin) == (d("-0.101"), d("99.899"))
    assert world.balance(USER) == d("9999.399")
    world.clock.market = at("12:46")
    world.engine.bars["SOLUSDT"] = [bar("12:45", "12:46", 99, 99, 98)]
    world.start()
    await world.trading.watch.run()
    assert only(world).pnl == d("-21.091")
    assert world.balance(USER) == d("9978.909")
    assert_at_rest(world.rows)


async def test_funding_missed_while_down_is_paid_before_the_stop_that_followed_it(world: World) -> None:
    world.engine.funding["SOLUSDT"] = [funding("12:10", "0.0001", 100), funding("12:30", "0.0001", 100)]
    world.engine.bars["SOLUSDT"] = [bar("12:20", "12:21", 99, 99, 97)]
    world.start()
    await world.trading.watch.run()
    assert kinds(world)[EntryKind.FUNDING] == d("-0.1")
    assert only(world).pnl == d("-21.09")


async def test_a_liquidation_at_50x_loses_the_margin_and_not_a_cent_more() -> None:
    """50x: notional 5000, 50 SOL at 100, margin 100, entry fee 2.50. Maintenance 1 %: liquidated at (100 - 5000) / (50 x -0.99)
    = 98.98989899. The bar opens at 98.50, beyond it. Gross at the liquidation price (98.989898989899 - 100) x 50 = -50.50505051;
    exit fee 50 x 98.989898989899 x 0.0005 = 2.47474747; the liquidator takes the rest of the margin, 47.02020202.
    Net -100 - 2.50 = -102.50.
    """
    world = World(trader(leverage=d(50)))
    await world.enter(signal(stop_loss=d("99.4"), take_profit=d(102)))
    assert only(world).liquidation_price == d("98.989898989899")
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", "98.5", "98.6", "97")]
    await world.trading.watch.run()
    position = only(world)
    assert (position.close_reason, position.status) == (CloseReason.LIQUIDATION, PositionStatus.CLOSED_LOSS)
    sums = kinds(world)
    assert sums[EntryKind.REALIZED_PNL] == d("-50.50505051")
    assert sums[EntryKind.LIQUIDATION_FEE] == d("-47.02020202")
    assert position.pnl == d("-102.50000000")
    assert world.balance(USER) == d("9897.50")
    assert_at_rest(world.rows)


async def test_trailing_locks_a_gain_and_closes_as_trailing(world: World) -> None:
    """Best 103: the stop goes to 103 x 0.995 = 102.485, up to the tick 102.49. Gross 24.90; exit fee 1024.9 x 0.0005 = 0.51245;
    net 24.90 - 0.50 - 0.51245 = 23.88755.
    """
    world.clock.market = at("12:05")
    await world.trading.desk.amend(USER, only(world).id, stop_loss=None, take_profit=d(120), trailing_ratio=d("0.005"))
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, 103, 100)]
    await world.trading.watch.run()
    assert only(world).stop_loss == d("102.49")
    world.clock.market = at("12:50")
    world.engine.bars["SOLUSDT"] = [bar("12:45", "12:46", 103, 103, 102)]
    await world.trading.watch.run()
    assert (only(world).close_reason, only(world).pnl) == (CloseReason.TRAILING, d("23.88755"))
    assert world.bus.events("position")[-1]["change"] == "closed"


async def test_a_symbol_without_a_mark_decides_nothing_and_the_others_go_on() -> None:
    world = World(trader())
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"))
    world.clock.market = at("12:40")
    for symbol in ("AAAUSDT", "BBBUSDT"):
        world.engine.bars[symbol] = [bar("12:10", "12:11", 99, 99, 97)]
    del world.engine.prices["AAAUSDT"]
    await world.trading.watch.run()
    status = {position.symbol: position.status for position in world.rows.positions.values()}
    assert status == {"AAAUSDT": PositionStatus.OPEN, "BBBUSDT": PositionStatus.CLOSED_LOSS}
    world.quote("AAAUSDT", 100)
    await world.trading.watch.run()
    assert all(position.closed_at == at("12:10") for position in world.rows.positions.values())


async def test_a_stale_price_decides_nothing(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.age_ms["SOLUSDT"] = 5001
    await world.trading.watch.run()
    assert only(world).status is PositionStatus.OPEN
    assert only(world).judged_until == at("12:00")


async def test_two_positions_of_one_symbol_are_each_judged_from_their_own_opening() -> None:
    world = World(trader(1), trader(2, auto_trade_enabled=False))
    await world.enter(signal())
    world.clock.market = at("12:20")
    (approval,) = [order for order in world.rows.orders.values() if order.expires_at]
    await world.trading.desk.approve(approval.user_id, approval.id)
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    await world.trading.watch.run()
    status = {position.user_id.int: position.status for position in world.rows.positions.values()}
    assert status == {1: PositionStatus.CLOSED_LOSS, 2: PositionStatus.OPEN}


async def test_a_trigger_whose_close_was_refused_is_judged_again_from_its_bar(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.trouble["close"] = ["refused"]
    await world.trading.watch.run()
    assert only(world).status is PositionStatus.OPEN
    await world.trading.watch.run()
    assert (only(world).close_reason, only(world).closed_at) == (CloseReason.STOP, at("12:10"))
    assert_at_rest(world.rows)


async def test_two_workers_that_look_at_once_close_once(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.funding["SOLUSDT"] = [funding("12:05", "0.0001", 100)]
    one, other = world.trading, world.start()
    await one.watch.run()
    stale = structs.replace(only(world))
    await other.watch.run()
    assert only(world) == stale
    assert len(world.engine.sent("close")) == 1
    assert_at_rest(world.rows)


async def test_the_marks_of_everything_held_are_told_to_the_pages(world: World) -> None:
    await world.trading.watch.run()
    assert world.bus.events("marks") == [
        {"at": at("12:40").isoformat(), "marks": {"SOLUSDT": {"mark_price": "100", "age_ms": 0}}}
    ]


async def test_a_look_at_nothing_new_moves_only_the_time(world: World) -> None:
    before = only(world)
    await world.trading.watch.run()
    assert only(world) == structs.replace(before, judged_until=at("12:40"), funded_until=at("12:40"))


async def test_a_short_mirrors_a_long() -> None:
    """SHORT 10 at 100, stop 102 by a wick: gross -20.00; exit fee 1020 x 0.0005 = 0.51; net -20 - 0.50 - 0.51 = -21.01."""
    world = World(trader())
    await world.enter(signal(side=Side.SHORT))
    world.clock.market = at("12:40")
    world.engine.funding["SOLUSDT"] = [funding("12:05", "0.0001", 100)]
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, 102, 99)]
    await world.trading.watch.run()
    assert only(world).pnl == d("-20.91")
    assert_sound(world.rows)


async def test_a_position_opened_while_the_engine_is_away_is_judged_when_it_returns(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.broken = {"marks"}
    await world.trading.watch.run()
    assert only(world).status is PositionStatus.OPEN
    world.engine.broken = set()
    world.clock.market += timedelta(minutes=30)
    await world.trading.watch.run()
    assert only(world).closed_at == at("12:10")


async def test_a_stop_touched_while_nobody_looked_is_not_escaped_by_a_close(world: World) -> None:
    """The wick of 12:21 reached the stop; the user closes at 12:40 at 103 before any worker has looked."""
    world.quote("SOLUSDT", 103)
    world.engine.bars["SOLUSDT"] = [bar("12:21", "12:22", 99, 99, 97)]
    refused = await world.trading.desk.close(USER, only(world).id, None)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.NOT_OPEN
    assert (only(world).close_reason, only(world).pnl) == (CloseReason.STOP, d("-20.99"))


async def test_a_stop_touched_while_nobody_looked_is_not_escaped_by_panic_or_by_moving_it(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:21", "12:22", 99, 99, 97)]
    refused = await world.trading.desk.amend(USER, only(world).id, stop_loss=d(95), take_profit=None, trailing_ratio=None)
    assert isinstance(refused, Refusal)
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert only(world).close_reason is CloseReason.STOP


async def test_what_happened_before_a_stop_was_moved_never_touches_it(world: World) -> None:
    """A low of 99 in the minute of 12:39; the stop goes to 99.5 at 12:40, and the same minute comes again."""
    world.engine.bars["SOLUSDT"] = [bar("12:39", "12:40", 100, 100, 99)]
    await world.trading.desk.amend(USER, only(world).id, stop_loss=d("99.5"), take_profit=None, trailing_ratio=None)
    world.clock.market = at("12:41")
    await world.trading.watch.run()
    assert (only(world).status, only(world).stop_loss) == (PositionStatus.OPEN, d("99.5"))


async def test_nothing_is_amended_without_a_fresh_price(world: World) -> None:
    world.engine.age_ms["SOLUSDT"] = 60_000
    refused = await world.trading.desk.amend(USER, only(world).id, stop_loss=d(99), take_profit=None, trailing_ratio=None)
    assert isinstance(refused, Refusal)
    assert only(world).stop_loss == d(98)


def test_the_example_stands_on_the_rules_that_it_names() -> None:
    assert instrument().brackets[0].maintenance_ratio == d("0.01")


async def two_held() -> World:
    """AAA's stop is touched, BBB's too."""
    world = World(trader())
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"))
    world.clock.market = at("12:40")
    for symbol in ("AAAUSDT", "BBBUSDT"):
        world.engine.bars[symbol] = [bar("12:10", "12:11", 99, 99, 97)]
    return world


async def test_one_close_that_hangs_keeps_no_other_position_from_being_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.trading.watch.PATIENCE_SECONDS", 0.01)
    world = await two_held()
    answer, closing = asyncio.Event(), world.engine.close

    async def hanging(request: CloseRequest) -> ExecutionReport:
        if request.symbol == "AAAUSDT":
            await answer.wait()
        return await closing(request)

    monkeypatch.setattr(world.engine, "close", hanging)
    world.start()
    await world.trading.watch.run()
    assert [position.symbol for position in world.rows.live()] == ["AAAUSDT"]
    assert (await world.trading.watch.run()).positions == 0
    answer.set()

    async def closed() -> bool:
        return not world.rows.live()

    await eventually(closed, seconds=5, what="the late close")
    assert len([order for order in world.rows.orders.values() if order.purpose is OrderPurpose.CLOSE]) == 2
    assert_at_rest(world.rows)


@pytest.mark.parametrize("price", ["0", "-1", "NaN"])
async def test_marks_that_no_market_can_give_touch_no_stop_and_hold_up_no_other_symbol(price: str) -> None:
    world = await two_held()
    world.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, price)]
    await world.trading.watch.run()
    assert [position.symbol for position in world.rows.live()] == ["AAAUSDT"]
    world.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    await world.trading.watch.run()
    assert world.rows.live() == []
    assert_at_rest(world.rows)


async def test_a_position_that_cannot_be_reckoned_with_holds_up_no_other() -> None:
    world = await two_held()
    broken = next(position for position in world.rows.live() if position.symbol == "AAAUSDT")
    world.rows.positions[broken.id] = structs.replace(
        broken, tick_size=d(0), trailing_ratio=d("0.005"), trailing_best=d(103), stop_loss=d(90)
    )
    await world.trading.watch.run()
    assert [position.symbol for position in world.rows.live()] == ["AAAUSDT"]


async def test_a_close_that_the_venue_keeps_refusing_is_tried_less_often_but_always_again(world: World) -> None:
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.engine.trouble["close"] = ["refused"] * 8
    refused = 0
    for _ in range(60):
        refused += (await world.trading.watch.run()).refused
        world.clock.pass_wall(seconds=1)
    assert refused == len(world.engine.sent("close")) == 7
    assert only(world).status is PositionStatus.OPEN
    world.engine.trouble["close"] = []
    for _ in range(16):
        await world.trading.watch.run()
        world.clock.pass_wall(seconds=1)
    assert (only(world).close_reason, only(world).exit_price, only(world).pnl) == (CloseReason.STOP, d(98), d("-20.99"))
    assert_at_rest(world.rows)


async def test_a_liquidation_whose_trade_is_told_twice_pays_the_liquidator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the liquidation at 50x above: the whole margin and the entry fee, -102.50, in the ledger as in the position."""
    world = World(trader(leverage=d(50)))
    await world.enter(signal(stop_loss=d("99.4"), take_profit=d(102)))
    closing = world.engine.close

    async def twice(request: CloseRequest) -> ExecutionReport:
        report = await closing(request)
        return structs.replace(report, fills=report.fills * 2)

    monkeypatch.setattr(world.engine, "close", twice)
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", "98.5", "98.6", "97")]
    await world.trading.watch.run()
    assert (only(world).pnl, world.balance(USER)) == (d("-102.50000000"), d("9897.50"))
    assert_at_rest(world.rows)
