"""Orders on the floor: what takes, what rests, what is refused, and what each does to the position."""

from decimal import Decimal

import pytest

from deploy.sandbox.core.amendment import amend
from deploy.sandbox.core.errors import Rejected
from shared.margin import ZERO
from tests.unit.sandbox.trading_board import SYMBOL, Floor


def test_a_market_order_walks_the_book_and_pays_the_taker_fee() -> None:
    floor = Floor(wallet="100000")
    order = floor.order(quantity="1.5")
    assert (order.status, order.executed) == ("FILLED", Decimal("1.5"))
    assert order.average == (Decimal("50000.1") + Decimal("50000.2") / 2) / Decimal("1.5")
    assert [trade.price for trade in floor.ada.trades] == [Decimal("50000.1"), Decimal("50000.2")]
    assert floor.ada.wallet == 100000 - (order.quote * Decimal("0.0005"))
    assert floor.imbalance() == 0


def test_takers_of_one_moment_share_one_book() -> None:
    floor = Floor(wallet="100000")
    floor.order(quantity="1")
    assert floor.order(quantity="0.1").average == Decimal("50000.2")
    floor.move("50000")
    assert floor.order(quantity="0.1").average == Decimal("50000.1")


def test_a_market_order_beyond_the_book_expires_with_what_it_got() -> None:
    floor = Floor(wallet="1000000", size="0.1")
    order = floor.order(quantity="2")
    assert (order.status, order.executed) == ("EXPIRED", Decimal("0.5"))


def test_a_limit_order_takes_to_its_price_and_rests_with_the_rest() -> None:
    floor = Floor(wallet="100000")
    order = floor.limit("BUY", "50000.2", "2.5")
    assert (order.status, order.executed) == ("PARTIALLY_FILLED", Decimal(2))
    floor.move("50000.2")
    assert order.executed == 2
    floor.move("50000.1", quantity="0.3")
    assert (order.status, order.executed) == ("PARTIALLY_FILLED", Decimal("2.3"))
    floor.move("50000.1")
    assert (order.status, order.average < Decimal("50000.2")) == ("FILLED", True)
    assert [(trade.maker, trade.price) for trade in floor.ada.trades[-2:]] == [(True, Decimal("50000.2"))] * 2
    assert floor.ada.trades[-1].fee == Decimal("0.2") * Decimal("50000.2") * Decimal("0.0002")


def test_immediate_or_cancel_expires_with_the_rest() -> None:
    floor = Floor(wallet="100000")
    order = floor.limit("BUY", "50000.1", "1.2", timeInForce="IOC")
    assert (order.status, order.executed) == ("EXPIRED", Decimal(1))


@pytest.mark.parametrize(("time_in_force", "refused"), [("FOK", -5021), ("GTX", -5022)])
def test_fill_or_kill_and_post_only_do_nothing_where_they_cannot_be(time_in_force: str, refused: int) -> None:
    floor = Floor(wallet="100000")
    with pytest.raises(Rejected) as refusal:
        floor.limit("BUY", "50000.1", "1.2", timeInForce=time_in_force)
    assert (refusal.value.code, floor.ada.orders, floor.ada.trades) == (refused, {}, [])


def test_a_canceled_order_never_fills() -> None:
    floor = Floor()
    order = floor.limit("BUY", "49000")
    floor.trading.cancel(floor.ada, order, floor.now)
    floor.move("48000")
    assert (order.status, order.executed) == ("CANCELED", ZERO)
    with pytest.raises(Rejected) as refusal:
        floor.trading.cancel(floor.ada, order, floor.now)
    assert refusal.value.code == -2011


def test_a_reduce_only_order_is_cut_to_the_position() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    order = floor.order(side="SELL", quantity="5", reduceOnly="true")
    assert (order.quantity, order.status, floor.held()) == (Decimal("0.1"), "FILLED", ZERO)
    with pytest.raises(Rejected) as refusal:
        floor.order(side="SELL", reduceOnly="true")
    assert refusal.value.code == -2022


def test_a_resting_reduce_only_order_expires_when_there_is_nothing_left_to_reduce() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    target = floor.limit("SELL", "51000", reduceOnly="true")
    floor.order(side="SELL", quantity="0.1")
    floor.move("51001")
    assert (target.status, target.executed, floor.held()) == ("EXPIRED", ZERO, ZERO)


def test_an_opposite_order_closes_first_and_opens_the_other_way_with_the_rest() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.move("51000")
    floor.order(side="SELL", quantity="0.3")
    position = floor.ada.position(SYMBOL, "BOTH")
    assert (position.quantity, position.entry_price) == (Decimal("-0.2"), Decimal("50999.9"))
    assert sum(trade.realized for trade in floor.ada.trades) == Decimal("0.1") * (Decimal("50999.9") - Decimal("50000.1"))
    assert floor.imbalance() == 0


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"symbol": "NOPE"}, -1121),
        ({"side": "UP"}, -1117),
        ({"type": "STOP_MARKET"}, -4120),
        ({"type": "GUESS"}, -1116),
        ({"quantity": "0.0001"}, -1111),
        ({"quantity": "0"}, -4003),
        ({"quantity": "121"}, -4005),
        ({"quantity": "0.001", "symbol": "ETHUSDT"}, -4164),
        ({"quantity": "100"}, -2019),
        ({"quantity": "1e3"}, -1100),
        ({"quantity": ""}, -1102),
        ({"price": "1"}, -1106),
        ({"positionSide": "LONG"}, -4061),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"type": "LIMIT", "price": "50000"}, -1102),
        ({"type": "LIMIT", "price": "50000", "timeInForce": "SOON"}, -1115),
        ({"type": "LIMIT", "price": "50000.05", "timeInForce": "GTC"}, -4014),
        ({"type": "LIMIT", "price": "50000.005", "timeInForce": "GTC"}, -1111),
        ({"type": "LIMIT", "price": "60000", "timeInForce": "GTC"}, -4016),
        ({"type": "LIMIT", "price": "40000", "timeInForce": "GTC", "side": "SELL"}, -4024),
        ({"type": "LIMIT", "price": "400", "timeInForce": "GTC"}, -4013),
        ({"type": "LIMIT", "price": "5000000", "timeInForce": "GTC"}, -4002),
    ],
)
def test_what_does_not_fit_is_refused_with_its_number(given: dict[str, str], refused: int) -> None:
    floor = Floor()
    with pytest.raises(Rejected) as refusal:
        floor.order(**given)
    assert (refusal.value.code, floor.ada.orders, floor.ada.wallet) == (refused, {}, Decimal(10000))


def test_a_book_far_from_the_mark_price_refuses_market_orders() -> None:
    floor = Floor()
    floor.move("50000", mark="45000")
    with pytest.raises(Rejected) as refusal:
        floor.order()
    assert refusal.value.code == -4131


def test_client_order_ids_are_unique_among_open_orders_only() -> None:
    floor = Floor()
    floor.order(newClientOrderId="one", quantity="0.01")
    floor.order(newClientOrderId="one", quantity="0.01")
    floor.limit("BUY", "49000", "0.01", newClientOrderId="two")
    with pytest.raises(Rejected) as refusal:
        floor.limit("BUY", "49000", "0.01", newClientOrderId="two")
    assert refusal.value.code == -4116


def test_only_two_hundred_orders_rest_in_a_symbol() -> None:
    floor = Floor(wallet="1000000")
    for _ in range(200):
        floor.limit("BUY", "49000", "0.002")
    with pytest.raises(Rejected) as refusal:
        floor.limit("BUY", "49000", "0.002")
    assert refusal.value.code == -2025


def test_a_resting_order_is_amended_and_takes_what_it_now_reaches() -> None:
    floor = Floor()
    order = floor.limit("BUY", "49000", "0.1")
    amend(floor.trading, floor.ada, order, Decimal(49500), Decimal("0.2"), floor.now)
    assert (order.price, order.quantity, order.status) == (Decimal(49500), Decimal("0.2"), "NEW")
    amend(floor.trading, floor.ada, order, Decimal("50000.1"), Decimal("0.2"), floor.now)
    assert (order.status, floor.held()) == ("FILLED", Decimal("0.2"))
    assert floor.imbalance() == ZERO


@pytest.mark.parametrize(("price", "quantity", "refused"), [("49000", "0.1", -5027), ("49500", "50", -2019), ("9", "1", -4013)])
def test_an_amendment_that_is_refused_leaves_the_order_as_it_was(price: str, quantity: str, refused: int) -> None:
    floor = Floor()
    order = floor.limit("BUY", "49000", "0.1")
    with pytest.raises(Rejected) as refusal:
        amend(floor.trading, floor.ada, order, Decimal(price), Decimal(quantity), floor.now)
    assert refusal.value.code == refused
    assert (order.price, order.quantity, order.status) == (Decimal(49000), Decimal("0.1"), "NEW")
