"""What a conditional order asks for, read from its parameters and held against the symbol's filters.

Source: Binance USDⓈ-M "New Algo Order" and "Error Codes" (read 2026-11).
"""

from decimal import Decimal

import msgspec

from deploy.sandbox.core.errors import Rejected, missing, out_of_range
from deploy.sandbox.core.order_request import (
    CONDITIONAL,
    check_price,
    check_quantity,
    chosen,
    client_id,
    flag,
    good_till,
    number,
    position_side,
    side_of,
    time_in_force,
)
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import ZERO

TRAILING = "TRAILING_STOP_MARKET"
LEAST_CALLBACK, MOST_CALLBACK = Decimal("0.1"), Decimal(20)
"""Percent."""


class AlgoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional order as asked for; absent numbers are 0."""

    symbol: str
    side: str
    kind: str
    position_side: str
    quantity: Decimal
    trigger: Decimal
    price: Decimal
    callback: Decimal
    activate: Decimal
    time_in_force: str
    on_mark: bool
    reduce_only: bool
    close_position: bool
    price_protect: bool
    client_id: str | None
    good_till: int = 0


def algo_request(query: Query) -> AlgoRequest:
    """The parameters of POST /fapi/v1/algoOrder.

    Raises:
        Rejected: Something is missing, malformed or contradicts itself.
    """
    chosen(query, "algoType", ("CONDITIONAL",), None, out_of_range("algoType"))
    kind = chosen(query, "type", tuple(sorted(CONDITIONAL)), None, Rejected(-1116, "Invalid orderType."))
    working = chosen(query, "workingType", ("CONTRACT_PRICE", "MARK_PRICE"), "CONTRACT_PRICE", out_of_range("workingType"))
    asked = AlgoRequest(
        symbol=query.required("symbol"),
        side=side_of(query),
        kind=kind,
        position_side=position_side(query),
        quantity=number(query, "quantity") or ZERO,
        trigger=number(query, "triggerPrice") or ZERO,
        price=number(query, "price") or ZERO,
        callback=number(query, "callbackRate") or ZERO,
        activate=number(query, "activatePrice") or ZERO,
        time_in_force=time_in_force(query, "MARKET"),
        on_mark=working == "MARK_PRICE",
        reduce_only=flag(query, "reduceOnly"),
        close_position=flag(query, "closePosition"),
        price_protect=flag(query, "priceProtect"),
        client_id=client_id(query, "clientAlgoId"),
        good_till=good_till(query),
    )
    _check_complete(asked)
    return asked


def _check_complete(asked: AlgoRequest) -> None:
    if asked.close_position:
        _check_closing(asked)
    elif not asked.quantity:
        raise missing("quantity")
    if asked.kind == TRAILING:
        if not LEAST_CALLBACK <= asked.callback <= MOST_CALLBACK:
            raise Rejected(-2007, "Invalid callBack rate.") if asked.callback else missing("callbackRate")
    elif not asked.trigger:
        raise missing("triggerPrice")
    if asked.kind in ("STOP", "TAKE_PROFIT") and not asked.price:
        raise missing("price")


def _check_closing(asked: AlgoRequest) -> None:
    if asked.kind not in ("STOP_MARKET", "TAKE_PROFIT_MARKET"):
        raise Rejected(-4136, "Target strategy invalid for orderType closePosition, only STOP_MARKET and TAKE_PROFIT_MARKET.")
    if asked.quantity:
        raise Rejected(-4137, "Quantity must be zero with closePosition equals true.")
    if asked.reduce_only:
        raise Rejected(-4138, "Reduce only must be true with closePosition equals true.")


def check_filters(rules: SymbolRules, asked: AlgoRequest) -> None:
    """Hold a conditional order's numbers against the filters; whether margin suffices is asked only when it triggers.

    Raises:
        Rejected: One of them does not fit.
    """
    if asked.quantity:
        check_quantity(rules, asked.quantity, market=asked.kind.endswith("MARKET"))
    for price in (asked.trigger, asked.price, asked.activate):
        if price:
            check_price(rules, price)
