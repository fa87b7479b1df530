"""Signed endpoints about regular orders, their fills and the account's money history.

Source: Binance USDⓈ-M "Trade Endpoints" and "Account Endpoints" (read 2026-11).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from deploy.sandbox.core import order_replies as replies
from deploy.sandbox.core.account import Account
from deploy.sandbox.core.amendment import amend
from deploy.sandbox.core.errors import Rejected, missing, out_of_range
from deploy.sandbox.core.history import forgotten, incomes_shown, orders_shown, trades_shown
from deploy.sandbox.core.notices import FORCED
from deploy.sandbox.core.order_counts import BATCH, NONE, ONE
from deploy.sandbox.core.order_request import number, order_request
from deploy.sandbox.core.orders import Order
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.settlement import DELEVERAGED
from deploy.sandbox.core.trading import unknown_order
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_endpoint import Endpoints, SignedEndpoint, by_symbol, fixed

ALL_CANCELED = {"code": 200, "msg": "The operation of cancel all open order is done."}
COUNTED = {
    ("POST", "order"): ONE,
    ("PUT", "order"): ONE,
    ("POST", "batchOrders"): BATCH,
    ("PUT", "batchOrders"): BATCH,
}
MOST_PLACED, MOST_CANCELED = 5, 10
"""Items of a batch."""


def order_endpoints(exchange: Exchange) -> Endpoints:
    """By method and path."""
    door = OrderDoor(exchange)
    rows = [
        ("POST", "order", door.place, fixed(0)),
        ("PUT", "order", door.amend, fixed(0)),
        ("POST", "order/test", door.test, fixed(1)),
        ("POST", "batchOrders", door.place_batch, fixed(5)),
        ("PUT", "batchOrders", door.amend_batch, fixed(5)),
        ("DELETE", "batchOrders", door.cancel_batch, fixed(1)),
        ("GET", "order", door.one, fixed(1)),
        ("DELETE", "order", door.cancel, fixed(1)),
        ("GET", "openOrder", door.open_one, fixed(1)),
        ("GET", "openOrders", door.open_all, by_symbol(1, 40)),
        ("GET", "allOrders", door.every, fixed(5)),
        ("DELETE", "allOpenOrders", door.cancel_all, fixed(1)),
        ("GET", "userTrades", door.trades, fixed(5)),
        ("GET", "forceOrders", door.forced, by_symbol(20, 50)),
        ("GET", "income", door.incomes, fixed(30)),
        ("GET", "rateLimit/order", door.limits, fixed(1)),
        ("POST", "countdownCancelAll", door.count_down, fixed(10)),
    ]
    return {
        (method, f"/fapi/v1/{path}"): SignedEndpoint(
            answer, weight, orders=COUNTED.get((method, path), NONE), trades=method != "GET"
        )
        for method, path, answer, weight in rows
    }


class OrderDoor:
    """Answers about orders.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._market, self._trading = exchange, exchange.market, exchange.trading

    def place(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/order."""
        order = self._trading.place(account, order_request(query), now)
        word = replies.acted if query.text("newOrderRespType") == "RESULT" else replies.acknowledged
        return word(order, self._rules(order.symbol, now), average=self._exchange.average_in_replies)

    def test(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002 - one shape for all answers
        """POST /fapi/v1/order/test: whether it reads and fits the filters; nothing happens."""
        request = order_request(query)
        self._trading.check(request, now)
        fresh = Order(
            id=0,
            client_id=request.client_id or "test",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            kind=request.kind,
            quantity=request.quantity,
            price=request.price,
            time_in_force=request.time_in_force,
            reduce_only=request.reduce_only,
            original=request.kind,
            updated_ms=now,
        )
        return replies.acted(fresh, self._rules(request.symbol, now), average=self._exchange.average_in_replies)

    def amend(self, account: Account, query: Query, now: int) -> Reply:
        """PUT /fapi/v1/order: price and quantity of a resting limit order."""
        order = _found(account, query)
        if order is None:
            raise no_such_order()
        price, quantity = number(query, "price"), number(query, "quantity")
        if price is None or quantity is None:
            raise missing("price" if price is None else "quantity")
        if query.text("side") not in (None, order.side):
            raise Rejected(-1117, "Invalid side.")
        amend(self._trading, account, order, price, quantity, now)
        return replies.acted(order, self._rules(order.symbol, now), average=self._exchange.average_in_replies)

    def place_batch(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/batchOrders: five at most, each refused or accepted by itself."""
        return each(orders_of(query), lambda item: self.place(account, item, now))

    def amend_batch(self, account: Account, query: Query, now: int) -> Reply:
        """PUT /fapi/v1/batchOrders."""
        return each(orders_of(query), lambda item: self.amend(account, item, now))

    def cancel_batch(self, account: Account, query: Query, now: int) -> Reply:
        """DELETE /fapi/v1/batchOrders, by lists of ids or of client ids."""
        symbol = query.required("symbol")
        named = [("orderId", text) for text in listed(query, "orderIdList", MOST_CANCELED)]
        named += [("origClientOrderId", text) for text in listed(query, "origClientOrderIdList", MOST_CANCELED)]
        if not named:
            raise missing("orderIdList")
        return each([Query({"symbol": symbol, name: text}) for name, text in named], lambda item: self.cancel(account, item, now))

    def forced(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/forceOrders: the account's own liquidations and deleveragings."""
        symbol, kind = query.text("symbol"), query.text("autoCloseType")
        begins = {"LIQUIDATION": (FORCED,), "ADL": (DELEVERAGED,)}.get(kind or "", (FORCED, DELEVERAGED))
        found = [order for order in account.orders.values() if order.client_id.startswith(begins)]
        found = [order for order in found if symbol in (None, order.symbol)]
        return [replies.told(order, self._rules(order.symbol, now)) for order in found[-query.limit(50, 100) :]]

    def one(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/order: open or past."""
        order = _found(account, query)
        if order is None or forgotten(order, now):
            raise no_such_order()
        return replies.told(order, self._rules(order.symbol, now))

    def open_one(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/openOrder."""
        order = _found(account, query)
        if order is None or not order.open:
            raise no_such_order()
        return replies.told(order, self._rules(order.symbol, now))

    def cancel(self, account: Account, query: Query, now: int) -> Reply:
        """DELETE /fapi/v1/order."""
        order = _found(account, query)
        if order is None:
            raise unknown_order()
        self._trading.cancel(account, order, now)
        return replies.acted(order, self._rules(order.symbol, now), average=self._exchange.average_in_replies)

    def cancel_all(self, account: Account, query: Query, now: int) -> Reply:
        """DELETE /fapi/v1/allOpenOrders."""
        for order in account.open_orders(self._rules(query.required("symbol"), now).symbol):
            self._trading.cancel(account, order, now)
        return ALL_CANCELED

    def open_all(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/openOrders."""
        return [replies.told(order, self._rules(order.symbol, now)) for order in account.open_orders(query.text("symbol"))]

    def every(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/allOrders."""
        rules = self._rules(query.required("symbol"), now)
        orders = [order for order in account.orders.values() if order.symbol == rules.symbol]
        return [replies.told(order, rules) for order in orders_shown(orders, query, now)]

    def trades(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/userTrades."""
        rules = self._rules(query.required("symbol"), now)
        trades = [trade for trade in account.trades if trade.symbol == rules.symbol]
        return [replies.trade(trade, rules) for trade in trades_shown(trades, query, now)]

    def incomes(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/income."""
        kind, symbol = query.text("incomeType"), query.text("symbol")
        kept = [item for item in account.incomes if kind in (None, item.kind) and symbol in (None, item.symbol)]
        return [replies.income(item) for item in incomes_shown(kept, query, now)]

    def limits(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/rateLimit/order."""
        short, minute = self._exchange.order_limits
        return [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": short},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": minute},
        ]

    def count_down(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/countdownCancelAll."""
        symbol, countdown = self._rules(query.required("symbol"), now).symbol, query.whole("countdownTime")
        if countdown is None:
            raise missing("countdownTime")
        self._exchange.countdowns.set(account, symbol, countdown, self._exchange.wall_ms())
        return {"symbol": symbol, "countdownTime": str(countdown)}

    def _rules(self, symbol: str, now: int) -> SymbolRules:
        return self._market.tape(symbol, now).rules


def each(queries: list[Query], act: Callable[[Query], Reply]) -> Reply:
    """What became of each item; a refusal is an item like any other."""

    def answer(query: Query) -> Reply:
        try:
            return act(query)
        except Rejected as refusal:
            return {"code": refusal.code, "msg": refusal.message}

    return [answer(query) for query in queries]


def orders_of(query: Query) -> list[Query]:
    """The items of a batch, whose numbers may be numbers or text."""
    rows = _array(query.required("batchOrders"), "batchOrders", MOST_PLACED)
    if not all(isinstance(row, dict) for row in rows):
        raise out_of_range("batchOrders")
    return [Query({name: _text(value) for name, value in row.items()}) for row in rows]


def listed(query: Query, name: str, most: int) -> list[str]:
    """A list of ids; the exchange reads its name in any case."""
    text = query.text(name) or query.text(name.lower())
    return [_text(item) for item in _array(text, name, most)] if text else []


def _array(text: str, name: str, most: int) -> list[Any]:
    try:
        rows = msgspec.json.decode(text, type=list[Any])
    except msgspec.DecodeError as error:
        raise out_of_range(name) from error
    if not 0 < len(rows) <= most:
        raise out_of_range(name)
    return rows


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def no_such_order() -> Rejected:
    """Nothing of that id is known."""
    return Rejected(-2013, "Order does not exist.")


def _found(account: Account, query: Query) -> Order | None:
    """The order of an id, or the newest of a client order id: those are unique among open orders only."""
    symbol, number, client = query.required("symbol"), query.whole("orderId"), query.text("origClientOrderId")
    if number is not None:
        order = account.orders.get(number)
        return order if order and order.symbol == symbol else None
    if not client:
        raise missing("orderId")
    named = [order for order in account.orders.values() if (order.client_id, order.symbol) == (client, symbol)]
    return next((order for order in named if order.open), named[-1] if named else None)
