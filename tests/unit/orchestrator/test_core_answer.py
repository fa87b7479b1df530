"""A report that does not answer the order changes no money: it is UNKNOWN, and loud."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from orchestrator.core.answer import Asked, trades_of, wrong_with
from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import PositionStatus
from shared.enums import ExecutionStatus, Mode, Side
from shared.execution import ExecutionReport, Fill, OrderSide, Protection
from tests.builders import NOON, USER, d, signal, trader
from tests.fakes import World
from tests.soundness import assert_at_rest, assert_sound

ENTRY = Asked(
    client_order_id="nt-e-1", symbol="SOLUSDT", side=Side.LONG, mode=Mode.PAPER, dry_run=False, opens=True,
    leverage=d(10), notional=d(1000), quantity=None,
)  # fmt: skip


def fill(**changes: Any) -> Fill:
    values: dict[str, Any] = {
        "trade_id": "nt-e-1-1", "price": d(100), "quantity": d(10), "fee": d("0.5"), "maker": False, "at": NOON,
    }  # fmt: skip
    return Fill(**(values | changes))


def report(**changes: Any) -> ExecutionReport:
    values: dict[str, Any] = {
        "client_order_id": "nt-e-1", "venue": "paper", "dry_run": False, "status": ExecutionStatus.FILLED, "symbol": "SOLUSDT",
        "side": Side.LONG, "order_side": OrderSide.BUY, "reduce_only": False, "leverage": d(10), "requested_quantity": d(10),
        "filled_quantity": d(10), "fills": [fill()], "margin": d(100), "as_of": NOON,
    }  # fmt: skip
    return ExecutionReport(**(values | changes))


CLOSE = structs.replace(ENTRY, opens=False, quantity=d(10))
CLOSED = report(order_side=OrderSide.SELL, reduce_only=True)


def test_an_honest_report_answers_its_order() -> None:
    assert wrong_with(ENTRY, report()) is None
    assert wrong_with(CLOSE, CLOSED) is None
    assert wrong_with(ENTRY, report(status=ExecutionStatus.REFUSED, fills=[], filled_quantity=d(0))) is None


REAL = structs.replace(ENTRY, mode=Mode.REAL, signal_price=d(100))


def at_exchange(quantity: Decimal, price: Decimal) -> ExecutionReport:
    filled = fill(quantity=quantity, price=price, fee=d(0))
    return report(venue="binance", requested_quantity=quantity, filled_quantity=quantity, fills=[filled])


def test_what_the_exchange_bought_is_booked_however_far_the_market_had_jumped() -> None:
    assert wrong_with(REAL, at_exchange(d(10), d(134))) is None


def test_a_quantity_beyond_what_was_asked_for_is_no_answer_whatever_it_cost() -> None:
    wrong = wrong_with(REAL, at_exchange(d("10.2"), d(97)))
    assert wrong is not None
    assert "more than 1000" in wrong


def test_on_paper_the_price_paid_is_bounded_too() -> None:
    jumped = report(fills=[fill(price=d(134), fee=d(0))])
    assert wrong_with(structs.replace(ENTRY, signal_price=d(100)), jumped) is not None


def test_a_trade_that_is_told_twice_counts_once() -> None:
    twice = report(fills=[fill(), fill()])
    assert wrong_with(ENTRY, twice) is None
    assert trades_of(twice) == [fill()]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_order_id": "nt-e-2"},
        {"symbol": "AAAUSDT"},
        {"side": Side.SHORT},
        {"order_side": OrderSide.SELL},
        {"reduce_only": True},
        {"venue": "binance"},
        {"leverage": d(20)},
        {"margin": d(0)},
        {"margin": Decimal("NaN")},
        {"filled_quantity": d(11)},
        {"filled_quantity": d(10), "requested_quantity": d(9)},
        {"filled_quantity": d(11), "requested_quantity": d(11), "fills": [fill(quantity=d(11))]},
        {"fills": [fill(price=d(0))]},
        {"fills": [fill(price=d(-100))]},
        {"fills": [fill(price=Decimal("NaN"))]},
        {"fills": [fill(quantity=d(-10))], "filled_quantity": d(-10)},
        {"fills": [fill(fee=d(-1))]},
        {"fills": [fill(fee=d(500))]},
        {"fills": [fill(fee=Decimal("Infinity"))]},
        {"fills": [fill(), fill(price=d(90))]},
        {"liquidation_fee": d(-1)},
        {"liquidation_fee": d(3)},
        {"status": ExecutionStatus.REFUSED},
        {"protection": Protection(stop_loss=d(0), take_profit=None, confirmed_at=NOON)},
    ],
    ids=str,
)
def test_a_report_of_something_else_or_with_absurd_numbers_does_not_answer(changes: dict[str, Any]) -> None:
    assert wrong_with(ENTRY, report(**changes))


def test_a_close_never_reduces_more_than_was_asked() -> None:
    assert wrong_with(structs.replace(CLOSE, quantity=d(4)), CLOSED)


def test_a_dry_run_that_was_sent_is_told() -> None:
    dry = structs.replace(ENTRY, mode=Mode.REAL, dry_run=True)
    assert wrong_with(dry, report(venue="binance")) == "a dry run was sent to the exchange"
    assert wrong_with(dry, report(venue="binance", dry_run=True)) is None


async def test_an_entry_answered_with_anothers_report_stays_unknown_with_its_claim() -> None:
    world = World(trader())
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    (order,) = world.rows.orders.values()
    honest = world.engine.reports[order.client_order_id]
    world.engine.reports[order.client_order_id] = structs.replace(honest, symbol="AAAUSDT")
    await world.trading.settle.run()
    await world.trading.settle.run()
    assert (world.rows.orders[order.id].status, world.rows.positions, len(world.rows.claims)) == (OrderStatus.UNKNOWN, {}, 1)
    assert world.balance(USER) == d(10_000)
    world.engine.reports[order.client_order_id] = honest
    await world.trading.settle.run()
    assert len(world.rows.live(USER)) == 1
    assert_at_rest(world.rows)


async def test_a_close_answered_with_too_much_stays_closing_and_books_nothing() -> None:
    world = World(trader())
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    world.engine.trouble["close"] = ["lost after"]
    await world.trading.desk.close(USER, position.id, d(4))
    close = next(row for row in world.rows.orders.values() if row.purpose is OrderPurpose.CLOSE)
    honest = world.engine.reports[close.client_order_id]
    more = [structs.replace(one, quantity=d(14)) for one in honest.fills]
    absurd = structs.replace(honest, fills=more, filled_quantity=d(14), requested_quantity=d(14))
    answer = await world.trading.close.book(close, absurd)
    assert isinstance(answer, Refusal)
    assert answer.reason is RefusalReason.OUTCOME_UNKNOWN
    assert (world.rows.positions[position.id].status, world.rows.positions[position.id].size) == (PositionStatus.CLOSING, d(10))
    assert_sound(world.rows)
