"""How long positions went without a working stop, as the sandbox itself saw it."""

from decimal import Decimal
from typing import Any

from deploy.sandbox.core.truth import truth
from tests.unit.sandbox.trading_board import STEP_MS, Floor


def spans(floor: Floor) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = truth(floor.trading, floor.ada, floor.now)["unprotected"]
    return out


def test_a_span_lasts_from_the_fill_to_a_stop_for_the_whole_quantity() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.move("50001")
    floor.algo(triggerPrice="49000", quantity="0.06", reduceOnly="true")
    floor.move("50002")
    [span] = spans(floor)
    assert (span["lasting"], span["market_ms"]) == (True, 2 * STEP_MS)
    floor.algo(triggerPrice="48000", quantity="0.04", reduceOnly="true", workingType="MARK_PRICE")
    floor.move("50003")
    [span] = spans(floor)
    assert (span["lasting"], span["market_ms"], span["quantity"]) == (False, 2 * STEP_MS, "0.1")


def test_what_is_no_stop_does_not_end_a_span() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.algo(triggerPrice="51000", type="TAKE_PROFIT_MARKET", reduceOnly="true")
    floor.algo(triggerPrice="51000", side="BUY")
    floor.limit("SELL", "51000", reduceOnly="true")
    floor.move("50001")
    assert [span["lasting"] for span in spans(floor)] == [True]
    floor.algo(triggerPrice="49000", closePosition="true")
    assert [span["lasting"] for span in spans(floor)] == [False]


def test_a_stop_in_the_same_moment_leaves_no_span_and_a_canceled_one_opens_one() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true")
    assert spans(floor) == []
    floor.conditional.cancel(floor.ada, stop, floor.now)
    floor.move("50001")
    floor.order(side="SELL", reduceOnly="true")
    assert [(span["lasting"], span["market_ms"]) for span in spans(floor)] == [(False, STEP_MS)]


def test_a_stop_that_becomes_the_closing_order_leaves_no_span() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.move("48999")
    assert (floor.held(), spans(floor)) == (Decimal(0), [])


def test_a_stop_that_is_stuck_on_its_way_protects_nothing() -> None:
    floor = Floor()
    floor.conditional.stuck = lambda account, algo: True
    floor.order(quantity="0.1")
    floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.move("48999")
    floor.move("48998")
    [span] = spans(floor)
    assert (span["lasting"], span["market_ms"]) == (True, STEP_MS)


def test_a_trailing_stop_protects_from_the_moment_of_its_activation_on() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.algo(type="TRAILING_STOP_MARKET", callbackRate="1", activatePrice="51000", reduceOnly="true")
    floor.move("50500")
    assert [(span["lasting"], span["market_ms"]) for span in spans(floor)] == [(True, STEP_MS)]
    floor.move("51000")
    floor.move("50900")
    assert [(span["lasting"], span["market_ms"]) for span in spans(floor)] == [(False, 2 * STEP_MS)]


def test_a_stop_that_goes_beside_a_trailing_stop_not_activated_yet_leaves_the_position_bare() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.algo(type="TRAILING_STOP_MARKET", callbackRate="1", activatePrice="55000", reduceOnly="true")
    assert spans(floor) == []
    floor.conditional.cancel(floor.ada, stop, floor.now)
    floor.move("50001")
    assert [(span["lasting"], span["quantity"]) for span in spans(floor)] == [(True, "0.1")]


def test_a_trailing_stop_without_an_activation_price_protects_at_once() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.algo(type="TRAILING_STOP_MARKET", callbackRate="1", reduceOnly="true")
    floor.move("50001")
    assert spans(floor) == []


def test_time_in_which_orders_were_refused_is_told_apart() -> None:
    floor = Floor()
    vigil, start = floor.trading.herald.vigil, floor.now
    floor.order(quantity="0.1")
    vigil.refuse("ada", start - 500, start + 1_000)
    vigil.refuse("ada", start + 800, start + 2_000)
    vigil.refuse("ada", start + 4_000, start + 9_000)
    floor.move("50001")
    [span] = spans(floor)
    assert (span["wall_ms"], span["refused_wall_ms"], span["counted_wall_ms"]) == (STEP_MS, 3_000, 2_000)


def test_a_key_that_is_given_back_ends_its_own_refusal_and_no_outage() -> None:
    floor = Floor()
    vigil, start = floor.trading.herald.vigil, floor.now
    floor.order(quantity="0.1")
    vigil.revoke("ada", start + 500)
    vigil.refuse("ada", start + 3_000, start + 4_000)
    vigil.accept("ada", start + 2_000)
    floor.move("50001")
    [span] = spans(floor)
    assert (span["wall_ms"], span["refused_wall_ms"]) == (STEP_MS, 2_500)


def test_an_outage_goes_on_when_a_key_is_given_back_within_it() -> None:
    floor = Floor()
    vigil, start = floor.trading.herald.vigil, floor.now
    floor.order(quantity="0.1")
    vigil.refuse("ada", start, start + 3_000)
    vigil.revoke("ada", start + 500)
    vigil.accept("ada", start + 2_000)
    floor.move("50001")
    assert spans(floor)[0]["refused_wall_ms"] == 3_000
