"""The signed REST door: whose request it is, what it costs, and which part of the trading side answers it."""

from typing import NamedTuple

from deploy.sandbox.core.errors import no_such_path
from deploy.sandbox.core.order_counts import NONE
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.core.signing import check_signature, check_time, no_key, parameters, unknown_key
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_accounts import account_endpoints
from deploy.sandbox.signed_algos import algo_endpoints
from deploy.sandbox.signed_listening import listen_endpoints
from deploy.sandbox.signed_orders import order_endpoints


class SignedRequest(NamedTuple):
    """One request as it came, not yet believed."""

    method: str
    path: str
    key: str | None
    query: str
    body: str
    headers: dict[str, str]
    """Those of the reply: what was counted is told there."""

    def parameters(self) -> Query:
        """Its parameters, wherever they stand."""
        return Query(parameters(self.query, self.body))


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
        endpoint = self._endpoints.get((request.method, request.path))
        return endpoint.weight(request.parameters()) if endpoint else 1

    def answer(self, request: SignedRequest, now: int) -> Reply:
        """Believe a request, bring the floor up to now, and answer.

        Raises:
            Rejected: The key, the signature, the time or the request itself is refused.
        """
        if not request.key:
            raise no_key()
        account = self._exchange.trading.accounts.get(request.key)
        if account is None or account.revoked:
            raise unknown_key()
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            raise no_such_path(request.path, request.method)
        query = request.parameters()
        if endpoint.signed:
            check_signature(account.secret, request.query, request.body)
            check_time(query, self._exchange.wall_ms())
        if endpoint.trades and not account.may_trade:
            raise unknown_key()
        self._exchange.advance(now)
        if endpoint.orders != NONE:
            request.headers.update(self._exchange.count_orders(account, endpoint.orders, now).headers())
        try:
            return endpoint.answer(account, query, now)
        finally:
            self._exchange.told()
