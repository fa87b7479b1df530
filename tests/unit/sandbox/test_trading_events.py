"""What an account's listeners are told, and in which order: the exchange's."""

from decimal import Decimal
from typing import Any

import pytest

from deploy.sandbox.core.account_settings import set_margin_type
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.listen_keys import VALIDITY_MS, ListenKeys
from tests.unit.sandbox.trading_board import SYMBOL, Floor


def listening(**given: str) -> Floor:
    floor = Floor(**given)
    floor.ada.listening = True
    floor.trading.herald.drained()
    return floor


def told(floor: Floor) -> list[dict[str, Any]]:
    return [notice.body for notice in floor.trading.herald.drained() if notice.kind != "TRADE_LITE"]


def brief(events: list[dict[str, Any]]) -> list[str]:
    """Each event in two words."""
    words = {
        "ORDER_TRADE_UPDATE": lambda body: f"{body['o']['x']} {body['o']['X']}",
        "ACCOUNT_UPDATE": lambda body: f"account {body['a']['m']}",
        "ALGO_UPDATE": lambda body: f"algo {body['o']['X']}",
        "MARGIN_CALL": lambda body: f"call {body['p'][0]['s']}",
        "ACCOUNT_CONFIG_UPDATE": lambda body: f"leverage {body['ac']['l']}",
    }
    return [words[body["e"]](body) for body in events]


def test_fills_come_one_by_one_and_the_account_after_them() -> None:
    floor = listening(size="0.06")
    floor.order(quantity="0.1", newClientOrderId="entry-1")
    events = told(floor)
    assert brief(events) == ["NEW NEW", "TRADE PARTIALLY_FILLED", "TRADE FILLED", "account ORDER"]
    first, last, account = events[1]["o"], events[2]["o"], events[3]["a"]
    assert (first["c"], first["l"], first["z"], first["L"]) == ("entry-1", "0.060", "0.060", "50000.1")
    assert (last["z"], last["i"], last["n"], last["N"]) == ("0.100", first["i"], f"{floor.ada.trades[1].fee:.8f}", "USDT")
    assert [Decimal(row["pa"]) for row in account["P"]] == [Decimal("0.1")]
    assert Decimal(account["B"][0]["wb"]) == floor.ada.wallet
    assert all(event["E"] >= event["T"] == floor.now for event in events)


def test_what_the_book_cannot_fill_expires_before_the_account_is_told() -> None:
    floor = listening(size="0.01")
    floor.order(quantity="0.1")
    assert brief(told(floor))[-2:] == ["EXPIRED EXPIRED", "account ORDER"]


def test_a_resting_order_is_told_when_it_comes_changes_and_goes() -> None:
    floor = listening()
    order = floor.limit("BUY", "49000")
    floor.trading.cancel(floor.ada, order, floor.now)
    second = floor.limit("BUY", "49500")
    floor.move("49499")
    assert brief(told(floor)) == ["NEW NEW", "CANCELED CANCELED", "NEW NEW", "TRADE FILLED", "account ORDER"]
    assert second.status == "FILLED"


def test_a_stop_is_told_from_its_trigger_to_its_end() -> None:
    floor = listening()
    floor.order(quantity="0.1")
    floor.algo(triggerPrice="49000", reduceOnly="true", clientAlgoId="stop-1")
    told(floor)
    floor.move("48999")
    events = told(floor)
    assert brief(events) == ["algo TRIGGERING", "algo TRIGGERED", "NEW NEW", "TRADE FILLED", "algo FINISHED", "account ORDER"]
    child = events[2]["o"]
    assert (child["c"], child["ot"], child["R"]) == ("stop-1", "STOP_MARKET", True)
    assert (events[1]["o"]["ai"], events[4]["o"]["aq"]) == (str(child["i"]), "0.100")
    assert Decimal(events[3]["o"]["rp"]) < 0


def test_a_triggered_order_takes_its_time_to_the_book() -> None:
    floor = listening()
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.conditional.latency_ms = 7_000
    floor.move("48999")
    assert (stop.status, floor.ada.unfinished(), floor.ada.waiting()) == ("TRIGGERING", [stop], [])
    with pytest.raises(Rejected) as refusal:
        floor.conditional.cancel(floor.ada, stop, floor.now)
    assert refusal.value.code == -2011
    floor.move("48998")
    floor.move("48998")
    assert (stop.status, floor.held()) == ("TRIGGERED", Decimal(0))


def test_a_stop_that_cannot_become_an_order_says_why() -> None:
    floor = listening()
    floor.algo(triggerPrice="49000", reduceOnly="true")
    told(floor)
    floor.move("48999")
    events = told(floor)
    assert brief(events) == ["algo TRIGGERING", "algo REJECTED"]
    assert events[1]["o"]["rm"] == "ReduceOnly Order is rejected."


def test_a_trailing_stop_says_when_it_begins_to_trail() -> None:
    floor = listening()
    floor.order(quantity="0.1")
    told(floor)
    floor.algo(type="TRAILING_STOP_MARKET", callbackRate="1", activatePrice="51000", reduceOnly="true")
    floor.move("50500")
    floor.move("51000")
    assert [event["o"]["ia"] for event in told(floor)] == [False, True]


def test_a_closing_stop_expires_with_its_position() -> None:
    floor = listening()
    floor.order(quantity="0.1")
    floor.algo(triggerPrice="49000", closePosition="true")
    floor.algo(triggerPrice="48000", reduceOnly="true")
    told(floor)
    floor.order(side="SELL", reduceOnly="true")
    assert brief(told(floor)) == ["NEW NEW", "TRADE FILLED", "account ORDER", "algo EXPIRED"]
    assert [algo.status for algo in floor.ada.algos.values()] == ["EXPIRED", "NEW"]


def test_an_order_with_an_end_expires_at_it() -> None:
    floor = listening()
    until = floor.now // 1000 * 1000 + 700_000
    order = floor.limit("BUY", "49000", timeInForce="GTD", goodTillDate=str(until))
    floor.passage.advance(until - 1)
    assert order.status == "NEW"
    floor.passage.advance(until)
    assert (order.status, order.updated_ms) == ("EXPIRED", until)
    floor.now = until
    with pytest.raises(Rejected) as refusal:
        floor.limit("BUY", "49000", timeInForce="GTD", goodTillDate=str(until + 1))
    assert refusal.value.code == -4221


@pytest.mark.parametrize("isolated", [True, False])
def test_a_margin_is_called_once_and_then_liquidated(*, isolated: bool) -> None:
    floor = listening(wallet="300" if not isolated else "1000")
    if isolated:
        set_margin_type(floor.ada, SYMBOL, isolated=True)
    floor.order(quantity="0.1")
    told(floor)
    for price in ("47740", "47730", "44000") if isolated else ("47260", "47250", "44000"):
        floor.move(price)
    events = told(floor)
    assert brief(events).count("call BTCUSDT") == 1
    liquidation = brief(events)[brief(events).index("NEW NEW") :]
    assert liquidation[:2] == ["NEW NEW", "CALCULATED FILLED"]
    assert liquidation[-2:] == ["account ORDER", "account INSURANCE_CLEAR"]
    forced = next(event["o"] for event in events if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "CALCULATED")
    assert forced["c"].startswith("autoclose-")
    assert forced["o"] == "LIQUIDATION"


@pytest.mark.parametrize("isolated", [True, False])
def test_funding_tells_the_balance_and_only_isolated_positions(*, isolated: bool) -> None:
    floor = listening()
    if isolated:
        set_margin_type(floor.ada, SYMBOL, isolated=True)
    floor.order(quantity="0.1")
    told(floor)
    floor.board.pay_funding(SYMBOL, Decimal("0.0001"), floor.now + 1)
    floor.passage.advance(floor.now + 1)
    [event] = told(floor)
    assert (event["a"]["m"], event["a"]["S"], len(event["a"]["P"])) == ("FUNDING_FEE", SYMBOL, int(isolated))
    assert Decimal(event["a"]["B"][0]["bc"]) == floor.ada.incomes[-1].amount


def test_nobody_listens_and_nothing_is_kept() -> None:
    floor = Floor()
    floor.order()
    assert floor.trading.herald.drained() == []


def test_a_listen_key_is_the_same_while_it_is_good_and_lasts_an_hour() -> None:
    floor, keys = Floor(), ListenKeys()
    first = keys.opened(floor.ada, 0)
    assert keys.opened(floor.ada, 1000) == first
    assert keys.extended(floor.ada, 2000) == first
    assert (keys.of(first), keys.ended(1999 + VALIDITY_MS)) == (floor.ada, [])
    assert [ended.text for ended in keys.ended(2000 + VALIDITY_MS)] == [first]
    assert (keys.of(first), floor.ada.listening) == (None, False)
    for act in (keys.extended, keys.closed):
        with pytest.raises(Rejected) as refusal:
            act(floor.ada, 2001 + VALIDITY_MS)
        assert refusal.value.code == -1125
    second = keys.opened(floor.ada, 2001 + VALIDITY_MS)
    assert second != first
    keys.closed(floor.ada, 2002 + VALIDITY_MS)
    assert (keys.of(second), keys.ended(2003 + VALIDITY_MS)) == (None, [])
