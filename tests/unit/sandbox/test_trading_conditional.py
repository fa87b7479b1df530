"""Conditional orders: when they trigger, on which price, what becomes of them."""

from decimal import Decimal

import pytest

from deploy.sandbox.core.conditional import state
from deploy.sandbox.core.errors import Rejected
from shared.margin import ZERO
from tests.unit.sandbox.trading_board import Floor


def test_a_stop_closes_the_position_when_the_last_price_reaches_it() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true", clientAlgoId="stop-1")
    floor.move("49001")
    assert (stop.status, floor.held()) == ("NEW", Decimal("0.1"))
    floor.move("49000")
    child = floor.ada.orders[stop.child or 0]
    assert (state(floor.ada, stop), floor.held()) == ("FINISHED", ZERO)
    assert (child.client_id, child.kind, child.original) == ("stop-1", "MARKET", "STOP_MARKET")
    assert floor.imbalance() == 0


def test_a_stop_on_the_mark_price_does_not_look_at_the_last() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", closePosition="true", workingType="MARK_PRICE")
    floor.move("48900", mark="49500")
    assert stop.status == "NEW"
    floor.move("49200", mark="49000")
    assert (state(floor.ada, stop), floor.held()) == ("FINISHED", ZERO)


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "price"),
    [
        ("STOP_MARKET", "BUY", "51000", "51000"),
        ("STOP_MARKET", "SELL", "49000", "48000"),
        ("TAKE_PROFIT_MARKET", "BUY", "49000", "49000"),
        ("TAKE_PROFIT_MARKET", "SELL", "51000", "52000"),
    ],
)
def test_stops_and_targets_trigger_on_their_own_side(kind: str, side: str, trigger: str, price: str) -> None:
    floor = Floor()
    algo = floor.algo(type=kind, side=side, triggerPrice=trigger)
    floor.move("50000")
    assert algo.status == "NEW"
    floor.move(price)
    assert state(floor.ada, algo) == "FINISHED"
    assert floor.held() == (Decimal("0.1") if side == "BUY" else Decimal("-0.1"))


def test_a_trailing_stop_follows_the_best_price() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    algo = floor.algo(type="TRAILING_STOP_MARKET", callbackRate="1", activatePrice="51000", reduceOnly="true")
    for price in ("50400", "51000", "52000", "51500"):
        floor.move(price)
    assert (algo.status, algo.extreme) == ("NEW", Decimal(52000))
    floor.move("51480")
    assert (state(floor.ada, algo), floor.held()) == ("FINISHED", ZERO)


def test_a_conditional_limit_order_rests_at_its_price() -> None:
    floor = Floor()
    algo = floor.algo(type="STOP", side="BUY", triggerPrice="51000", price="50900")
    floor.move("51000")
    assert state(floor.ada, algo) == "TRIGGERED"
    [child] = floor.ada.open_orders()
    floor.move("50899")
    assert (child.status, state(floor.ada, algo)) == ("FILLED", "FINISHED")


def test_margin_is_asked_for_only_when_it_triggers() -> None:
    floor = Floor(wallet="100")
    algo = floor.algo(side="BUY", triggerPrice="51000", quantity="1")
    floor.move("51000")
    assert (algo.status, algo.reason, floor.held()) == ("REJECTED", "Margin is insufficient.", ZERO)


def test_a_stop_that_closes_nothing_expires() -> None:
    floor = Floor()
    algo = floor.algo(triggerPrice="49000", closePosition="true")
    floor.move("48000")
    assert (algo.status, floor.ada.orders) == ("EXPIRED", {})


def test_a_protected_stop_waits_while_last_and_mark_price_are_apart() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true", priceProtect="true")
    floor.move("48900", mark="52000")
    assert (stop.status, floor.held()) == ("NEW", Decimal("0.1"))
    floor.move("48900", mark="48900")
    assert (state(floor.ada, stop), floor.held()) == ("FINISHED", ZERO)


def test_a_canceled_stop_never_triggers() -> None:
    floor = Floor()
    algo = floor.algo(triggerPrice="49000")
    floor.conditional.cancel(floor.ada, algo, floor.now)
    floor.move("48000")
    assert (algo.status, floor.held()) == ("CANCELED", ZERO)
    with pytest.raises(Rejected) as refusal:
        floor.conditional.cancel(floor.ada, algo, floor.now)
    assert refusal.value.code == -2011


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"triggerPrice": "50000"}, -2021),
        ({"triggerPrice": "51000"}, -2021),
        ({"type": "TAKE_PROFIT_MARKET", "triggerPrice": "49000"}, -2021),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "1", "activatePrice": "49000"}, -2021),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "21"}, -2007),
        ({"type": "MARKET"}, -1116),
        ({"type": "STOP", "triggerPrice": "49000"}, -1102),
        ({}, -1102),
        ({"triggerPrice": "49000", "quantity": "0.0001"}, -1111),
        ({"triggerPrice": "49000", "closePosition": "true", "quantity": "1"}, -4137),
        ({"triggerPrice": "49000", "closePosition": "true", "reduceOnly": "true"}, -4138),
        ({"triggerPrice": "49000", "closePosition": "true", "type": "STOP", "price": "49000"}, -4136),
        ({"triggerPrice": "49000", "algoType": "VP"}, -1130),
        ({"triggerPrice": "49000", "clientAlgoId": "a b"}, -4015),
    ],
)
def test_what_does_not_fit_is_refused_with_its_number(given: dict[str, str], refused: int) -> None:
    floor = Floor()
    with pytest.raises(Rejected) as refusal:
        floor.algo(**given)
    assert (refusal.value.code, floor.ada.algos) == (refused, {})


def test_one_closing_stop_a_direction_and_two_hundred_in_all() -> None:
    floor = Floor()
    floor.algo(triggerPrice="49000", closePosition="true")
    floor.algo(triggerPrice="51000", closePosition="true", type="TAKE_PROFIT_MARKET")
    with pytest.raises(Rejected) as refusal:
        floor.algo(triggerPrice="48000", closePosition="true")
    assert refusal.value.code == -4130
    for _ in range(198):
        floor.algo(triggerPrice="48000")
    with pytest.raises(Rejected) as refusal:
        floor.algo(triggerPrice="48000")
    assert refusal.value.code == -4045
