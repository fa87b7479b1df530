"""Signed endpoints of the algo service.

Source: Binance USDⓈ-M "Algo Order" endpoints (read 2026-11).
"""

from deploy.sandbox.core import algo_replies as replies
from deploy.sandbox.core.account import Account
from deploy.sandbox.core.algo_request import algo_request
from deploy.sandbox.core.errors import Rejected, missing
from deploy.sandbox.core.order_counts import NONE, ONE
from deploy.sandbox.core.orders import AlgoOrder
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.trading import unknown_order
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_endpoint import Endpoints, SignedEndpoint, by_symbol, fixed
from deploy.sandbox.signed_orders import ALL_CANCELED


def algo_endpoints(exchange: Exchange) -> Endpoints:
    """By method and path."""
    door = AlgoDoor(exchange)
    rows = [
        ("POST", "algoOrder", door.place, fixed(0)),
        ("GET", "algoOrder", door.one, fixed(1)),
        ("DELETE", "algoOrder", door.cancel, fixed(1)),
        ("GET", "openAlgoOrders", door.waiting, by_symbol(1, 40)),
        ("GET", "allAlgoOrders", door.every, fixed(5)),
        ("DELETE", "algoOpenOrders", door.cancel_all, fixed(1)),
    ]
    return {
        (method, f"/fapi/v1/{path}"): SignedEndpoint(
            answer, weight, orders=ONE if method == "POST" else NONE, trades=method != "GET"
        )
        for method, path, answer, weight in rows
    }


class AlgoDoor:
    """Answers about conditional orders.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._market, self._conditional = exchange.market, exchange.conditional

    def place(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/algoOrder."""
        algo = self._conditional.place(account, algo_request(query), now)
        return replies.placed(account, algo, self._rules(algo.symbol, now))

    def one(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/algoOrder: waiting or past."""
        algo = _found(account, query)
        if algo is None:
            raise Rejected(-2013, "Order does not exist.")
        return replies.told(account, algo, self._rules(algo.symbol, now))

    def cancel(self, account: Account, query: Query, now: int) -> Reply:
        """DELETE /fapi/v1/algoOrder."""
        algo = _found(account, query)
        if algo is None:
            raise unknown_order()
        self._conditional.cancel(account, algo, now)
        return replies.canceled(algo)

    def waiting(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/openAlgoOrders."""
        return [replies.told(account, algo, self._rules(algo.symbol, now)) for algo in account.unfinished(query.text("symbol"))]

    def every(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/allAlgoOrders: the newest, oldest first."""
        rules, first = self._rules(query.required("symbol"), now), query.whole("algoId") or 0
        found = [algo for algo in account.algos.values() if algo.symbol == rules.symbol and algo.id >= first]
        return [replies.told(account, algo, rules) for algo in found[-query.limit(500, 1000) :]]

    def cancel_all(self, account: Account, query: Query, now: int) -> Reply:
        """DELETE /fapi/v1/algoOpenOrders."""
        for algo in account.waiting(self._rules(query.required("symbol"), now).symbol):
            self._conditional.cancel(account, algo, now)
        return ALL_CANCELED

    def _rules(self, symbol: str, now: int) -> SymbolRules:
        return self._market.tape(symbol, now).rules


def _found(account: Account, query: Query) -> AlgoOrder | None:
    """The order of an id, or the newest of a client id; the symbol is not asked for."""
    number, client = query.whole("algoId"), query.text("clientAlgoId")
    if number is not None:
        return account.algos.get(number)
    if not client:
        raise missing("algoId")
    named = [algo for algo in account.algos.values() if algo.client_id == client]
    return next((algo for algo in named if algo.status == "NEW"), named[-1] if named else None)
