"""The invariants that would have caught the first system's defects, each that paper trading can break under its own number.

Numbers are those of the list of invariants in the reference; those about the engine, the web and secrets are proven beside them.
"""

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.position import CloseReason, PositionStatus, break_even
from shared.enums import Mode, Side
from shared.execution import EntryRequest, PaperAccount, RealAccount
from tests.builders import USER, at, bar, d, funding, signal, trader
from tests.fakes import World
from tests.fakes_real import RealWorld, real_trader
from tests.soundness import assert_at_rest, assert_sound


async def one_position(**changes: Any) -> World:
    world = World(trader(**changes))
    await world.enter(signal())
    return world


async def test_invariant_1_a_paper_intent_is_of_a_type_from_which_no_exchange_client_can_be_made() -> None:
    world = await one_position()
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    world.clock.market = at("12:40")
    await world.trading.watch.run()
    requests = [*world.engine.sent("enter"), *world.engine.sent("close")]
    assert len(requests) == 2
    assert all(isinstance(request.account, PaperAccount) for request in requests)


async def test_invariant_1_an_unapproved_entry_sends_nothing() -> None:
    world = await one_position(auto_trade_enabled=False)
    assert [name for name, _ in world.engine.calls] == ["analyze"]


async def test_invariant_2_closing_uses_the_mode_of_the_position_and_not_of_the_user() -> None:
    world = await one_position()
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], mode=Mode.REAL)
    (position,) = world.rows.live(USER)
    await world.trading.desk.close(USER, position.id, None)
    (request,) = world.engine.sent("close")
    assert isinstance(request.account, PaperAccount)
    assert not isinstance(request.account, RealAccount)
    assert all(row.mode is Mode.PAPER for row in world.rows.fills.values())
    assert_at_rest(world.rows)


async def test_invariant_4_the_intent_is_stored_before_it_is_sent_and_a_retry_never_doubles() -> None:
    world = World(trader())
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    for _ in range(3):
        world.clock.pass_wall(seconds=60)
        await world.start().settle.run()
    (position,) = world.rows.live(USER)
    assert position.size == d(10)
    assert len(world.engine.sent("enter")) == 1
    (order,) = world.rows.orders.values()
    assert order.client_order_id == world.engine.sent("enter")[0].client_order_id


async def test_invariant_5_a_stale_writer_never_resurrects_a_closed_position() -> None:
    world = await one_position()
    (stale,) = world.rows.live(USER)
    await world.trading.desk.close(USER, stale.id, None)
    async with world.store.begin() as unit:
        assert await unit.positions.change(stale, stop_loss=d(99)) is None
    assert world.rows.positions[stale.id].status is PositionStatus.CLOSED_LOSS


async def test_invariant_5_an_entry_that_waits_counts_as_live_for_its_symbol() -> None:
    world = await one_position(auto_trade_enabled=False)
    world.clock.pass_market(minutes=75)
    await world.enter(signal(candle_close=at("13:15")))
    assert [row.reason.value for row in world.rows.refusals] == ["entry_under_way"]


@pytest.mark.parametrize("side", list(Side))
async def test_invariant_6_every_live_position_has_a_stop(side: Side) -> None:
    world = World(trader())
    await world.enter(signal(side=side))
    assert all(position.stop_loss is not None and position.take_profit is not None for position in world.rows.live())


async def test_invariant_7_a_stop_on_the_wrong_side_is_no_entry() -> None:
    world = World(trader())
    await world.enter(signal(stop_loss=d(101)))
    assert [row.reason.value for row in world.rows.refusals] == ["stop_beyond_liquidation"]
    assert world.engine.sent("enter") == []


async def test_invariant_8_a_close_never_asks_for_more_than_is_open() -> None:
    world = await one_position()
    (position,) = world.rows.live(USER)
    await world.trading.desk.close(USER, position.id, d(4))
    await world.trading.desk.close(USER, position.id, d(400))
    asked = [request.quantity for request in world.engine.sent("close")]
    assert asked == [d(4), d(6)]
    assert world.rows.positions[position.id].size == 0


async def test_invariant_9_unknown_is_not_flat() -> None:
    """An unknown entry blocks its symbol; an unknown close keeps its position, its claim and its margin."""
    world = await one_position()
    world.engine.trouble["close"] = ["lost before"]
    (position,) = world.rows.live(USER)
    await world.trading.desk.close(USER, position.id, None)
    world.engine.broken = {"order"}
    await world.trading.settle.run()
    assert world.rows.positions[position.id].status is PositionStatus.CLOSING
    assert len(world.rows.claims) == 1
    world.clock.pass_market(minutes=75)
    await world.enter(signal(candle_close=at("13:15")))
    assert [row.reason.value for row in world.rows.refusals] == ["position_held"]


async def test_invariant_10_money_changes_only_from_fills() -> None:
    """The balance is recomputed from deposits, fills and funding alone, after a life with every kind of entry."""
    world = await one_position()
    world.clock.market = at("12:40")
    world.engine.funding["SOLUSDT"] = [funding("12:05", "0.0001", 100)]
    world.quote("SOLUSDT", 101)
    await world.trading.watch.run()
    await world.trading.desk.close(USER, world.rows.live(USER)[0].id, d(3))
    await world.trading.desk.close(USER, world.rows.live(USER)[0].id, None)
    assert_at_rest(world.rows)


async def test_invariant_12_margin_is_reserved_before_anything_leaves() -> None:
    """Of 250 USDT two entries of 100 fit, though none of the three is filled when the next is judged."""
    world = World(trader(paper_balance=d(250), auto_trade_enabled=False))
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"), signal("CCCUSDT"))
    assert len(world.rows.claims) == 2
    assert [row.reason.value for row in world.rows.refusals] == ["not_enough_margin"]


async def test_invariant_13_panic_switches_off_first_and_says_when_it_is_not_flat() -> None:
    world = await one_position()
    world.engine.broken = {"close", "order"}
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.auto_trade_enabled, receipt.open_positions) == (False, False, 1)
    assert [(one.symbol, one.result) for one in receipt.positions] == [("SOLUSDT", "outcome_unknown")]


async def test_invariant_14_trailing_at_20x_never_locks_a_loss() -> None:
    """The first system armed at +1 % of margin (0.05 % of price at 20x) and put the stop 0.45 % below entry."""
    world = World(trader(leverage=d(20)))
    await world.enter(signal(stop_loss=d(98), take_profit=d(104)))
    (position,) = world.rows.live(USER)
    await world.trading.desk.amend(USER, position.id, stop_loss=None, take_profit=None, trailing_ratio=d("0.005"))
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, "100.05", 100)]
    await world.trading.watch.run()
    (position,) = world.rows.live(USER)
    assert position.stop_loss == d(98)
    world.clock.market = at("12:50")
    world.engine.bars["SOLUSDT"] = [bar("12:45", "12:46", "100.6", "100.7", "100.6")]
    await world.trading.watch.run()
    (position,) = world.rows.live(USER)
    assert position.stop_loss is not None
    assert position.stop_loss >= break_even(position)


async def test_invariant_15_one_missing_symbol_never_affects_another_and_old_prices_decide_nothing() -> None:
    world = World(trader())
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"), signal("CCCUSDT"))
    world.clock.market = at("12:40")
    for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT"):
        world.engine.bars[symbol] = [bar("12:10", "12:11", 99, 99, 97)]
    del world.engine.prices["AAAUSDT"]
    world.engine.age_ms["BBBUSDT"] = 5001
    await world.trading.watch.run()
    assert sorted(position.symbol for position in world.rows.live()) == ["AAAUSDT", "BBBUSDT"]


async def test_invariant_21_a_signal_is_kept_with_the_features_that_decided() -> None:
    world = World(trader())
    await world.enter(signal(features={"rsi": 61.0, "volume_ratio": 2.5}))
    (stored,) = world.rows.signals.values()
    assert stored.features == {"rsi": 61.0, "volume_ratio": 2.5}


async def test_the_status_follows_the_net_result_and_not_the_barrier() -> None:
    """A stop trailed into profit is a win; a target so near that fees eat it is a loss."""
    world = World(trader(1))
    await world.enter(signal(take_profit=d("100.05"), stop_loss=d(99)))
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, "100.06", 100)]
    await world.trading.watch.run()
    (position,) = world.rows.positions.values()
    assert (position.close_reason, position.status) == (CloseReason.TARGET, PositionStatus.CLOSED_LOSS)


async def real_position() -> RealWorld:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    return world


async def test_invariant_2_a_real_position_is_closed_at_the_exchange_whatever_mode_its_user_is_in_now() -> None:
    world = await real_position()
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], mode=Mode.PAPER)
    (position,) = world.rows.live(USER)
    await world.trading.desk.close(USER, position.id, None)
    (request,) = world.engine.sent("close")
    assert isinstance(request.account, RealAccount)
    assert not request.account.dry_run
    assert world.engine.book().quantity("SOLUSDT") == 0
    assert world.balance(USER) == d(10_000)


async def test_invariant_5_a_stale_writer_never_resurrects_a_position_that_the_exchange_closed() -> None:
    world = await real_position()
    (stale,) = world.rows.live(USER)
    world.engine.tick("SOLUSDT", 97)
    await world.reconcile()
    async with world.store.begin() as unit:
        assert await unit.positions.change(stale, stop_loss=d(99)) is None
    assert world.rows.positions[stale.id].close_reason is CloseReason.STOP


async def test_invariant_5_a_real_entry_of_unknown_outcome_counts_as_live_for_its_symbol() -> None:
    world = RealWorld()
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    world.clock.pass_market(minutes=75)
    await world.enter(signal(candle_close=at("13:15")))
    assert [row.reason.value for row in world.rows.refusals] == ["entry_under_way"]


async def test_invariant_9_a_truth_that_is_not_heard_closes_no_row_and_a_stale_balance_enters_nothing() -> None:
    world = await real_position()
    world.engine.tick("SOLUSDT", 97)
    world.engine.broken = {"truth", "balance"}
    await world.reconcile()
    (position,) = world.rows.live(USER)
    assert position.status is PositionStatus.OPEN
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], real_balance_at=None)
    await world.enter(signal("ETHUSDT", candle_close=at("12:15")))
    assert [row.reason.value for row in world.rows.refusals] == ["balance_stale"]


async def test_invariant_10_real_money_is_what_the_exchange_booked_and_no_formula() -> None:
    """The exchange's own profit and fee stand in the ledger, also where our arithmetic would say otherwise."""
    world = await real_position()
    world.engine.tick("SOLUSDT", 97)
    trade = world.engine.book().trades[-1]
    told = structs.replace(trade, realized_pnl=d("-29.5"), fee=d("0.4"))
    world.engine.book().trades[-1] = told
    world.engine.book().income[-2:] = []
    await world.reconcile()
    (position,) = world.rows.positions.values()
    assert (position.realized_pnl, position.fees) == (d("-29.5"), d("0.9"))


async def test_invariant_12_the_day_of_real_money_is_lost_by_the_exchanges_own_figures() -> None:
    world = RealWorld(real_trader(max_daily_loss=d(31)))
    await world.reconcile()
    await world.enter(signal())
    world.engine.tick("SOLUSDT", 97)
    world.engine.pay("TRANSFER", 500)
    await world.reconcile()
    await world.enter(signal("ETHUSDT", candle_close=at("12:15")))
    assert [row.reason.value for row in world.rows.refusals] == []
    world.engine.pay("FUNDING_FEE", "-0.5", "ETHUSDT")
    await world.reconcile()
    await world.enter(signal("XRPUSDT", candle_close=at("12:30")))
    assert [row.reason.value for row in world.rows.refusals] == ["daily_loss_reached"]


async def test_invariant_12_real_claims_reserve_margin_before_anything_leaves() -> None:
    world = RealWorld(real_trader(real_balance_cache=d(250), auto_trade_enabled=False))
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"), signal("CCCUSDT"))
    assert len(world.rows.claims) == 2
    assert [row.reason.value for row in world.rows.refusals] == ["not_enough_margin"]


async def test_invariant_14_a_real_trailing_stop_is_armed_where_it_locks_break_even() -> None:
    world = await real_position()
    (position,) = world.rows.live(USER)
    await world.trading.desk.amend(USER, position.id, stop_loss=None, take_profit=None, trailing_ratio=d("0.005"))
    (request,) = world.engine.sent("protect")
    assert request.trailing.activation_price * (1 - request.trailing.ratio) >= break_even(position)
    assert len(world.engine.book().stops("SOLUSDT")) == 1


def test_no_use_case_mentions_a_mode_to_decide_what_happens() -> None:
    """The mode picks a type of account in one place; elsewhere it only labels rows, names a wallet, or forbids a second sending."""
    folder = Path(__file__).resolve().parents[3] / "orchestrator" / "trading"
    branching = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Mode"
    }
    assert branching <= {
        "accounts",
        "booking",
        "booking_rows",
        "enter",
        "settle",
        "panic",
        "reconcile",
        "reconcile_booking",
        "balance_sync",
        "follow",
        "claims",
        "flatten",
    }


@given(st.data())
@settings(max_examples=40, deadline=None)
async def test_the_ledger_sums_to_the_balance_after_any_walk(data: st.DataObject) -> None:
    """Random entries, bars, funding, closes, losses of replies and panics; the rows agree with each other after each step."""
    world = World(trader(1), trader(2))
    symbols = ["AAAUSDT", "BBBUSDT"]
    for number in range(data.draw(st.integers(1, 8), label="steps")):
        world.clock.pass_market(minutes=75)
        world.clock.pass_wall(seconds=30)
        close = world.clock.now()
        trouble = data.draw(st.sampled_from([None, "lost before", "lost after", "refused"]))
        world.engine.trouble = {"enter": [trouble], "close": [trouble]}
        what = data.draw(st.sampled_from(["enter", "watch", "close", "panic", "settle"]), label=f"step {number}")
        if what == "enter":
            await world.enter(*(signal(symbol, data.draw(st.sampled_from(list(Side))), candle_close=close) for symbol in symbols))
        elif what == "watch":
            low = data.draw(st.integers(90, 100))
            high = data.draw(st.integers(100, 110))
            start, end = close.strftime("%H:%M:%S"), close.strftime("%H:%M:%S")
            for symbol in symbols:
                step = structs.replace(bar(start, end, 100, high, low), from_=close, to=close)
                world.engine.bars[symbol] = [structs.replace(step, to=world.clock.now())]
                world.engine.funding[symbol] = [structs.replace(funding(start, "0.0003", 100), at=close)]
            await world.trading.watch.run()
        elif what == "close":
            for position in world.rows.live():
                part = data.draw(st.sampled_from([None, d("0.1"), d(3), d(50)]))
                await world.trading.desk.close(position.user_id, position.id, part)
        elif what == "panic":
            await world.trading.desk.panic(USER)
        assert_sound(world.rows)
        await world.trading.settle.run()
        assert_sound(world.rows)
    world.clock.pass_wall(seconds=60)
    await world.trading.settle.run()
    assert_at_rest(world.rows)
    flat = world.rows.live() == []
    assert not flat or all(order.status is not OrderStatus.SENT for order in world.rows.orders.values())


async def test_the_kept_request_of_every_entry_can_be_read_again() -> None:
    world = await one_position()
    entries = [order for order in world.rows.orders.values() if order.purpose is OrderPurpose.ENTRY]
    assert [msgspec.convert(order.request, EntryRequest).symbol for order in entries] == ["SOLUSDT"]
