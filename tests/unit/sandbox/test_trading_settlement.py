"""Symbols that are taken off or get other rules while accounts trade them."""

from decimal import Decimal

import msgspec
import pytest

from deploy.sandbox.core.board import TapeBoard
from deploy.sandbox.core.conditional import Conditional
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.facts import symbol_row
from deploy.sandbox.core.order_request import order_request
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.rules import RECORDED, changed_rules
from deploy.sandbox.core.settlement import SETTLED, deleverage, settle
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from shared.margin import ZERO
from tests.unit.sandbox.trading_board import SYMBOL, Floor

NOW = DEFAULT_START_MS + 12_345


def test_a_settled_symbol_leaves_no_order_and_no_position() -> None:
    floor = Floor()
    floor.ada.listening = True
    floor.order(quantity="0.1")
    floor.order(symbol="ETHUSDT", quantity="1")
    resting = floor.limit("SELL", "51000", reduceOnly="true")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.board.move(SYMBOL, Decimal(50500), floor.now, Decimal(1), Decimal("50400.12345678"))
    floor.trading.herald.drained()
    assert settle(floor.trading, floor.conditional, SYMBOL, floor.now) == 1
    assert (resting.status, stop.status, floor.held(), floor.held("ETHUSDT")) == ("EXPIRED", "EXPIRED", ZERO, Decimal(1))
    last = floor.ada.trades[-1]
    assert (last.price, last.fee) == (Decimal("50400.12345678"), ZERO)
    assert floor.ada.orders[last.order_id].client_id.startswith(SETTLED)
    assert floor.imbalance() == ZERO
    assert [notice.kind for notice in floor.trading.herald.drained()][-1] == "ACCOUNT_UPDATE"


def test_a_deleveraged_position_is_closed_at_the_mark_and_its_stop_stays() -> None:
    floor = Floor()
    floor.ada.listening = True
    floor.order(quantity="0.1")
    stop = floor.algo(triggerPrice="49000", reduceOnly="true")
    floor.trading.herald.drained()
    order = deleverage(floor.trading, floor.ada, floor.ada.position(SYMBOL, "BOTH"), floor.now)
    told = [notice.body for notice in floor.trading.herald.drained() if notice.kind == "ORDER_TRADE_UPDATE"]
    assert (order.client_id, order.status, floor.held(), stop.status) == ("adl_autoclose", "FILLED", ZERO, "NEW")
    assert [body["o"]["x"] for body in told] == ["NEW", "CALCULATED"]
    assert (floor.ada.trades[-1].fee, floor.imbalance()) == (ZERO, ZERO)


def test_a_symbol_that_was_taken_off_is_listed_and_does_not_trade() -> None:
    market = Exchange(SandboxOptions(port=0, speed=0)).market
    trading = Trading(TapeBoard(market))
    settle(trading, Conditional(trading), "SOLUSDT", NOW)
    market.close("SOLUSDT", NOW)
    assert "SOLUSDT" not in {tape.rules.symbol for tape in market.live(NOW)}
    assert [rules.status for rules in market.listed(NOW) if rules.symbol == "SOLUSDT"] == ["SETTLING"]
    account = trading.open_account("key", "secret", Decimal(1000), NOW)
    wanted = {"symbol": "SOLUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    with pytest.raises(Rejected) as refusal:
        trading.place(account, order_request(Query(wanted)), NOW)
    assert refusal.value.code == -1122


def test_changed_rules_are_told_and_checked() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0))
    account = exchange.trading.open_account("key", "secret", Decimal(10_000), NOW)
    before = msgspec.json.encode(exchange.facts.exchange_info(0, NOW))
    given = {"step": Decimal(1), "tick": Decimal("0.1"), "min_notional": Decimal(20)}
    rules = changed_rules(exchange.market.tapes["SOLUSDT"].rules, given)
    exchange.market.rule("SOLUSDT", rules)
    assert msgspec.json.encode(exchange.facts.exchange_info(0, NOW)) != before
    filters = {row["filterType"]: row for row in symbol_row(rules)["filters"]}
    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"], filters["LOT_SIZE"]["minQty"]) == (
        "0.1",
        "1",
        "1",
    )
    words = {"symbol": "SOLUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    last = exchange.trading.board.last("SOLUSDT", NOW)
    for quantity, price, code in (("1.5", f"{last:.1f}", -4023), ("1", f"{last:.1f}1", -4014)):
        with pytest.raises(Rejected) as refusal:
            exchange.trading.place(account, order_request(Query(words | {"quantity": quantity, "price": price})), NOW)
        assert refusal.value.code == code


@pytest.mark.parametrize("given", [{"tick": "0.001"}, {"tick": "0.3"}, {"step": "0"}, {"min_notional": "-5"}, {"step": "NaN"}])
def test_a_grid_finer_than_the_tape_or_no_grid_at_all_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be|positive"):
        changed_rules(RECORDED["SOLUSDT"], {name: Decimal(value) for name, value in given.items()})


def test_a_second_reduce_only_order_for_the_same_quantity_is_refused() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    floor.limit("SELL", "51000", reduceOnly="true")
    with pytest.raises(Rejected) as refusal:
        floor.limit("SELL", "52000", reduceOnly="true")
    assert refusal.value.code == -4118
    floor.order(side="SELL", reduceOnly="true")
    assert floor.held() == ZERO
