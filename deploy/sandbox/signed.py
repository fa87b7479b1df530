"""The signed REST door: whose request it is, what it costs, and which part of the trading side answers it."""

from typing import Any, NamedTuple

from deploy.sandbox.core.errors import no_such_path
from deploy.sandbox.core.order_counts import NONE
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.core.signing import check_signature, check_time, no_key, unknown_key
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_accounts import account_endpoints
from deploy.sandbox.signed_algos import algo_endpoints
from deploy.sandbox.signed_listening import listen_endpoints
from deploy.sandbox.signed_orders import order_endpoints
from deploy.sandbox.wire import Asked


class SignedRequest(NamedTuple):
    """One request that needs a key."""

    asked: Asked
    query: Query
    """Its parameters, wherever they stand."""
    headers: dict[str, str]
    """Those of the reply: what was counted is told there."""


class Signed:
    """Every endpoint that needs a key.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._endpoints = (
            account_endpoints(exchange) | order_endpoints(exchange) | algo_endpoints(exchange) | listen_endpoints(exchange)
        )

    def weight(self, request: SignedRequest) -> int:
        """What a request costs."""
        endpoint = self._endpoints.get((request.asked.method, request.asked.path))
        return endpoint.weight(request.query) if endpoint else 1

    def answer(self, request: SignedRequest, now: int) -> Reply:
        """Believe a request, bring the floor up to now, and answer.

        Raises:
            Rejected: The key, the signature, the time or the request itself is refused.
        """
        asked, query = request.asked, request.query
        if not asked.key:
            raise no_key()
        account = self._exchange.trading.accounts.get(asked.key)
        if account is None or account.revoked:
            raise unknown_key()
        endpoint = self._endpoints.get((asked.method, asked.path))
        if endpoint is None:
            raise no_such_path(asked.path, asked.method)
        if endpoint.signed:
            check_signature(account.secret, asked.query, asked.body)
            check_time(query, self._exchange.wall_ms())
        if endpoint.trades and not account.may_trade:
            raise unknown_key()
        self._exchange.advance(now)
        if endpoint.orders != NONE:
            request.headers.update(self._exchange.count_orders(account, endpoint.orders, now).headers())
        if endpoint.signed and asked.method != "GET":
            self._record(asked, query, now)
        try:
            shown = self._exchange.past.seen(account, self._exchange.wall_ms() - asked.lag_ms) if asked.lag_ms else account
            return endpoint.answer(shown, query, now)
        finally:
            self._exchange.told()

    def again(self, given: dict[str, Any], now: int) -> Reply:
        """Carry out once more what a journal kept.

        Raises:
            Rejected: As it was then.
        """
        account = self._exchange.trading.accounts[given["key"]]
        return self._endpoints[given["method"], given["path"]].answer(account, Query(given["parameters"]), now)

    def _record(self, asked: Asked, query: Query, now: int) -> None:
        given = {"key": asked.key, "method": asked.method, "path": asked.path, "parameters": query.values}
        self._exchange.record("call", now, given)
