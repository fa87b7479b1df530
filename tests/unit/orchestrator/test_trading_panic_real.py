"""Panic with real money: flat by the exchange's own word, with everything of the account, with the store or without it."""

import asyncio
from datetime import datetime
from uuid import UUID

import pytest
from msgspec import structs

from orchestrator.core.order import OrderStatus
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import StoreUnavailable
from orchestrator.ports import UnitOfWork
from orchestrator.trading.enter import EntryRules
from shared.enums import ExecutionStatus, Mode
from shared.execution import FlattenReply, FlattenRequest, OrderSide, SealedCredentials
from shared.margin import ZERO
from tests.builders import USER, d, signal, trader
from tests.fakes import World
from tests.fakes_real import RealWorld, real_trader

KEYS = SealedCredentials(key_id="k1", sealed="AAAA")
SYMBOLS = ("AAAUSDT", "BBBUSDT")


async def holding(*symbols: str) -> RealWorld:
    """Real positions, protected at the exchange."""
    world = RealWorld(real_trader(credentials=KEYS))
    await world.reconcile()
    await world.enter(*(signal(symbol) for symbol in symbols))
    await world.reconcile()
    return world


def store_away(world: RealWorld | World) -> None:
    """PostgreSQL is gone; a new process finds it so."""

    def begin() -> UnitOfWork:
        raise StoreUnavailable("postgresql: away")

    world.store.begin = begin  # type: ignore[method-assign, assignment]
    world.start()


def store_back(world: RealWorld | World) -> None:
    del world.store.begin
    world.start()


async def test_panic_is_flat_only_by_the_exchanges_own_word_and_the_rows_follow() -> None:
    world = await holding(*SYMBOLS)
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.open_positions, receipt.open_orders) == (True, 0, 0)
    assert {(one.symbol, one.result) for one in receipt.positions} == {(symbol, "closed") for symbol in SYMBOLS}
    assert world.engine.book().working() == []
    assert {position.close_reason for position in world.rows.positions.values()} == {CloseReason.PANIC}
    assert world.rows.claims == {}
    assert not world.rows.traders[USER].auto_trade_enabled
    booked = sum((row.amount for row in world.rows.ledger if row.mode is Mode.REAL), ZERO)
    assert booked == world.engine.book().wallet


@pytest.mark.parametrize("trouble", ["lost before", "refused"])
async def test_books_that_were_not_heard_after_a_panic_are_asked_for_again(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget may be spent just then, and without a stream nobody else would ask for a while."""
    monkeypatch.setattr("orchestrator.trading.flatten.BOOK_AGAIN_SECONDS", 0.0)
    world = await holding("SOLUSDT")
    world.engine.trouble["truth"] = [trouble] * 2
    assert (await world.trading.desk.panic(USER)).flat
    assert [row.close_reason for row in world.rows.positions.values()] == [CloseReason.PANIC]


async def test_what_nobody_here_opened_is_flattened_too() -> None:
    world = await holding("AAAUSDT")
    world.engine.prices["ZZZUSDT"] = d(7)
    world.engine.hand("ZZZUSDT", OrderSide.BUY, 3)
    world.engine.rest("AAAUSDT", OrderSide.BUY, 1)
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert world.engine.book().quantity("ZZZUSDT") == 0
    assert world.engine.book().working() == []


async def test_one_symbol_that_the_exchange_refuses_is_told_and_the_others_are_closed() -> None:
    world = await holding(*SYMBOLS)
    world.engine.refusing = {"BBBUSDT"}
    receipt = await world.trading.desk.panic(USER)
    assert (receipt.flat, receipt.open_positions) == (False, 1)
    assert {one.symbol: one.result for one in receipt.positions} == {"AAAUSDT": "closed", "BBBUSDT": "venue_rule"}
    assert receipt.open_orders > 0
    world.engine.refusing = set()
    assert (await world.trading.desk.panic(USER)).flat


@pytest.mark.parametrize("closed_first", [True, False])
async def test_what_became_of_one_side_of_a_hedged_symbol_is_not_hidden_by_the_other(closed_first: bool) -> None:
    world = await holding("AAAUSDT")
    world.engine.refusing = {"AAAUSDT"}
    flatten = world.engine.flatten

    async def both_sides(request: FlattenRequest) -> FlattenReply:
        reply = await flatten(request)
        (refused,) = reply.reports
        closed = structs.replace(refused, status=ExecutionStatus.FILLED, refusal=None)
        return structs.replace(reply, reports=[closed, refused] if closed_first else [refused, closed])

    world.engine.flatten = both_sides  # type: ignore[method-assign]
    receipt = await world.trading.desk.panic(USER)
    assert not receipt.flat
    assert [(one.symbol, one.result) for one in receipt.positions] == [("AAAUSDT", "venue_rule")]


async def test_a_reply_that_is_lost_is_asked_for_again_and_closes_nothing_twice() -> None:
    world = await holding("AAAUSDT")
    world.engine.trouble["flatten"] = ["lost after"]
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    closing = [trade for trade in world.engine.book().trades if trade.client_order_id.startswith("nt-f-")]
    assert len(closing) == 1


async def test_an_account_whose_keys_are_gone_is_never_called_flat() -> None:
    world = await holding("AAAUSDT")
    world.rows.traders[USER] = real_trader(credentials=None)
    receipt = await world.trading.desk.panic(USER)
    assert not receipt.flat
    assert "no_credentials" in {one.result for one in receipt.positions}


async def test_a_user_on_paper_sends_nothing_to_an_exchange() -> None:
    world = RealWorld(trader(credentials=KEYS))
    await world.enter(signal())
    receipt = await world.trading.desk.panic(USER)
    assert receipt.flat
    assert world.engine.sent("flatten") == []


async def test_while_the_store_is_away_the_exchange_is_flattened_and_the_flag_is_up() -> None:
    world = await holding(*SYMBOLS)
    await world.lifeline.keep(USER, KEYS)
    store_away(world)
    receipt = await world.trading.desk.panic(USER)
    assert world.engine.book().quantity("AAAUSDT") == world.engine.book().quantity("BBBUSDT") == 0
    assert world.engine.book().working() == []
    assert (receipt.flat, receipt.open_positions, receipt.open_orders) == (False, 0, 0)
    results = {one.symbol: one.result for one in receipt.positions}
    assert results == {"AAAUSDT": "closed", "BBBUSDT": "closed", "REAL": "flat", "PAPER": "waiting"}
    assert await world.lifeline.stopped(USER)


async def test_while_the_store_is_away_a_user_who_is_not_in_real_sends_nothing_and_is_told_so() -> None:
    world = RealWorld(trader(credentials=KEYS))
    world.engine.prices["ETHUSDT"] = d(100)
    world.engine.hand("ETHUSDT", OrderSide.BUY, 3)
    store_away(world)
    receipt = await world.trading.desk.panic(USER)
    assert world.engine.sent("flatten") == []
    assert world.engine.book().quantity("ETHUSDT") == 3
    assert [(one.symbol, one.result) for one in receipt.positions] == [("REAL", "not_sent"), ("PAPER", "waiting")]
    assert "nothing is sent to the exchange" in receipt.positions[0].detail
    assert await world.lifeline.stopped(USER)


async def test_while_the_store_is_away_a_dry_run_sends_nothing_though_keys_were_kept() -> None:
    world = await holding("AAAUSDT")
    await world.lifeline.keep(USER, KEYS)  # by a process that was live, a minute ago
    world.rules = EntryRules(dry_run=True)
    store_away(world)
    receipt = await world.trading.desk.panic(USER)
    assert world.engine.sent("flatten") == []
    assert [(one.result, one.detail) for one in receipt.positions if one.symbol == "REAL"] == [
        ("not_sent", "this is a dry run: nothing is sent to the exchange")
    ]


async def test_pressed_again_without_the_store_it_is_the_same_panic() -> None:
    world = await holding(*SYMBOLS)
    store_away(world)
    emergency, stop = world.trading.emergency, world.lifeline.stop

    async def answers_later(user_id: UUID, at: datetime) -> None:
        await asyncio.sleep(0)
        await stop(user_id, at)

    world.lifeline.stop = answers_later  # type: ignore[method-assign]
    receipts = await asyncio.gather(*(emergency.run(USER) for _ in range(20)))
    assert len({receipt.receipt_id for receipt in receipts}) == 1
    assert (await emergency.run(USER)).receipt_id != receipts[0].receipt_id


async def test_when_the_store_is_back_the_stop_is_written_the_rows_follow_and_the_flag_goes() -> None:
    world = await holding("AAAUSDT")
    await world.lifeline.keep(USER, KEYS)
    store_away(world)
    await world.trading.desk.panic(USER)
    store_back(world)
    assert await world.trading.emergency.write_back() == 1
    assert not world.rows.traders[USER].auto_trade_enabled
    (position,) = world.rows.positions.values()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED_LOSS, CloseReason.PANIC)
    assert not await world.lifeline.stopped(USER)
    assert await world.trading.emergency.write_back() == 0


async def test_the_receipt_that_was_told_without_the_store_is_the_one_that_the_store_keeps() -> None:
    world = await holding("AAAUSDT")
    await world.lifeline.keep(USER, KEYS)
    store_away(world)
    told = await world.trading.desk.panic(USER)
    store_back(world)
    await world.trading.emergency.write_back()
    (kept,) = world.rows.receipts.values()
    assert kept.id == told.receipt_id
    assert kept.finished_at is not None
    symbols = {result.symbol: result.result for result in kept.results}
    assert symbols["AAAUSDT"] == "closed"
    assert "PAPER" not in symbols
    assert await world.lifeline.receipt(USER) is None


@pytest.mark.parametrize("real", [True, False])
async def test_nothing_new_is_entered_while_the_flag_is_up(real: bool) -> None:
    world = RealWorld(real_trader(credentials=KEYS) if real else trader())
    await world.lifeline.stop(USER, world.clock.wall())
    await world.enter(signal())
    assert world.engine.sent("enter") == []
    (order,) = world.rows.orders.values()
    assert (order.status, order.reason) == (OrderStatus.REFUSED, "stopped")
    assert world.rows.claims == {}


@pytest.mark.parametrize(("real", "sent"), [(True, 0), (False, 1)])
async def test_with_real_money_a_flag_that_cannot_be_read_counts_as_up(real: bool, sent: int) -> None:
    world = RealWorld(real_trader(credentials=KEYS) if real else trader())
    world.lifeline.away = True
    await world.enter(signal())
    assert len(world.engine.sent("enter")) == sent


async def test_without_store_and_without_redis_nothing_is_claimed_to_be_done() -> None:
    world = await holding("AAAUSDT")
    world.lifeline.away = True
    store_away(world)
    with pytest.raises(StoreUnavailable):
        await world.trading.desk.panic(UUID(str(USER)))
    assert world.engine.book().quantity("AAAUSDT") != 0
