"""Endpoints that open, keep and close a user data stream; the key header is all they ask for.

Source: Binance USDⓈ-M "User Data Streams" (read 2026-11).
"""

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_endpoint import Endpoints, SignedEndpoint, fixed

PATH = "/fapi/v1/listenKey"


def listen_endpoints(exchange: Exchange) -> Endpoints:
    """By method and path."""
    keys = exchange.listen_keys

    def begin(account: Account, query: Query, now: int) -> Reply:  # noqa: ARG001 - one shape for all answers
        return {"listenKey": keys.opened(account, exchange.wall_ms())}

    def extend(account: Account, query: Query, now: int) -> Reply:  # noqa: ARG001
        return {"listenKey": keys.extended(account, exchange.wall_ms())}

    def end(account: Account, query: Query, now: int) -> Reply:  # noqa: ARG001
        keys.closed(account, exchange.wall_ms())
        return {}

    answers = {"POST": begin, "PUT": extend, "DELETE": end}
    return {(method, PATH): SignedEndpoint(answer, fixed(1), signed=False) for method, answer in answers.items()}
