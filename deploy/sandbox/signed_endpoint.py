"""What a signed endpoint is: an answer for an account, and its weight."""

from collections.abc import Callable
from typing import NamedTuple

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.order_counts import NONE, OrderCount
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply

Answer = Callable[[Account, Query, int], Reply]


class SignedEndpoint(NamedTuple):
    """One signed endpoint."""

    answer: Answer
    weight: Callable[[Query], int]
    signed: bool = True
    """Whether the key alone will not do."""
    orders: OrderCount = NONE
    """What it counts as orders sent."""
    trades: bool = False
    """Whether a key that may not trade is refused."""


Endpoints = dict[tuple[str, str], SignedEndpoint]
"""By method and path."""


def fixed(weight: int) -> Callable[[Query], int]:
    """The same weight always."""
    return lambda query: weight  # noqa: ARG005


def by_symbol(one: int, everything: int) -> Callable[[Query], int]:
    """One weight with a symbol, another for all symbols."""
    return lambda query: one if query.text("symbol") else everything
