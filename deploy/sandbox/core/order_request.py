"""What an order asks for, read from its parameters and held against the symbol's filters, before anything of the account is looked at.

Source: Binance USDⓈ-M "New Order", "Common Definition: filters" and "Error Codes" (read 2026-11).
"""

import re
from decimal import Decimal, InvalidOperation

import msgspec

from deploy.sandbox.core.errors import Rejected, missing
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import ZERO

KINDS = ("LIMIT", "MARKET")
CONDITIONAL = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTX", "GTD")
EARLIEST_END_MS, LATEST_END_MS = 600_000, 253402300799000
"""Of a GTD order: more than ten minutes from now, before the year 10000."""
CLIENT_ID = re.compile(r"[\.A-Z\:/a-z0-9_-]{1,36}")
NUMBER = re.compile(r"\d{1,20}(\.\d{1,20})?")


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A regular order as asked for."""

    symbol: str
    side: str
    kind: str
    quantity: Decimal
    price: Decimal
    time_in_force: str
    reduce_only: bool
    position_side: str
    client_id: str | None
    good_till: int = 0
    """Of a GTD order, market time."""


def number(query: Query, name: str) -> Decimal | None:
    """A decimal parameter, None where it is absent.

    Raises:
        Rejected: It is empty or no plain number.
    """
    text = query.text(name)
    if text is None:
        return None
    if not text:
        raise missing(name)
    if not NUMBER.fullmatch(text.removeprefix("-")):
        raise Rejected(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^([0-9]{{1,20}})(\\.[0-9]{{1,20}})?$'."
        )
    try:
        return Decimal(text)
    except InvalidOperation as error:  # pragma: no cover - the pattern admits numbers only
        raise missing(name) from error


def flag(query: Query, name: str) -> bool:
    """A "true" or "false" parameter, false where it is absent."""
    text = (query.text(name) or "false").lower()
    if text not in ("true", "false"):
        raise Rejected(-1130, f"Data sent for parameter '{name}' is not valid.")
    return text == "true"


def chosen(query: Query, name: str, choices: tuple[str, ...], default: str | None, refusal: Rejected) -> str:
    """A word out of a list."""
    text = query.text(name) or default
    if text is None:
        raise missing(name)
    if text not in choices:
        raise refusal
    return text


def order_request(query: Query) -> OrderRequest:
    """The parameters of POST /fapi/v1/order.

    Raises:
        Rejected: Something is missing, malformed or belongs to the algo service.
    """
    symbol, side, kind = query.required("symbol"), side_of(query), query.required("type")
    if kind in CONDITIONAL:
        raise Rejected(-4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.")
    if kind not in KINDS:
        raise Rejected(-1116, "Invalid orderType.")
    quantity = number(query, "quantity")
    if quantity is None:
        raise missing("quantity")
    price = number(query, "price")
    if kind == "LIMIT" and price is None:
        raise missing("price")
    if kind == "MARKET" and price is not None:
        raise Rejected(-1106, "Parameter 'price' sent when not required.")
    return OrderRequest(
        symbol=symbol,
        side=side,
        kind=kind,
        quantity=quantity,
        price=price or ZERO,
        time_in_force=time_in_force(query, kind),
        reduce_only=flag(query, "reduceOnly"),
        position_side=position_side(query),
        client_id=client_id(query, "newClientOrderId"),
        good_till=good_till(query),
    )


def side_of(query: Query) -> str:
    """BUY or SELL."""
    return chosen(query, "side", ("BUY", "SELL"), None, Rejected(-1117, "Invalid side."))


def position_side(query: Query) -> str:
    """BOTH, LONG or SHORT."""
    return chosen(query, "positionSide", ("BOTH", "LONG", "SHORT"), "BOTH", Rejected(-4060, "Invalid position side."))


def time_in_force(query: Query, kind: str) -> str:
    """How long an order stays; a limit order must say it."""
    default = None if kind == "LIMIT" else "GTC"
    return chosen(query, "timeInForce", TIMES_IN_FORCE, default, Rejected(-1115, "Invalid timeInForce."))


def good_till(query: Query) -> int:
    """When a GTD order expires, whole seconds of market time; 0 for every other."""
    if query.text("timeInForce") != "GTD":
        return 0
    date = query.whole("goodTillDate")
    if date is None:
        raise missing("goodTillDate")
    return date // 1000 * 1000


def check_good_till(date: int, now: int) -> None:
    """Hold a GTD order's end against the earliest and the latest that are allowed."""
    if date and not now + EARLIEST_END_MS < date < LATEST_END_MS:
        raise Rejected(-4221, "Good till date is smaller than the minimum or larger than the maximum.")


def client_id(query: Query, name: str) -> str | None:
    """The caller's own id.

    Raises:
        Rejected: It is longer than 36 characters or has others than allowed.
    """
    text = query.text(name)
    if text and not CLIENT_ID.fullmatch(text):
        raise Rejected(-4015, "Client order id is not valid.")
    return text or None


def check_quantity(rules: SymbolRules, quantity: Decimal, *, market: bool) -> None:
    """Hold a quantity against LOT_SIZE, or MARKET_LOT_SIZE."""
    if quantity <= 0:
        raise Rejected(-4003, "Quantity less than or equal to zero.")
    if _decimals(quantity) > rules.quantity_precision:
        raise precision()
    if quantity < Decimal(rules.min_quantity):
        raise Rejected(-4004, "Quantity less than min quantity.")
    if quantity > Decimal(rules.max_market_quantity if market else rules.max_quantity):
        raise Rejected(-4005, "Quantity greater than max quantity.")
    if quantity % Decimal(rules.step_size):
        raise Rejected(-4023, "Quantity not increased by step size.")


def check_price(rules: SymbolRules, price: Decimal) -> None:
    """Hold a price against PRICE_FILTER."""
    if price <= 0:
        raise Rejected(-4001, "Price less than 0.")
    if _decimals(price) > max(rules.price_precision, rules.price_decimals):
        raise precision()
    if price > Decimal(rules.max_price):
        raise Rejected(-4002, "Price greater than max price.")
    if price < Decimal(rules.min_price):
        raise Rejected(-4013, "Price less than min price.")
    if price % Decimal(rules.tick_size):
        raise Rejected(-4014, "Price not increased by tick size.")


def check_limit(rules: SymbolRules, side: str, price: Decimal, mark: Decimal) -> None:
    """Hold a limit price against PERCENT_PRICE."""
    if side == "BUY" and price > mark * Decimal(rules.percent_up):
        raise Rejected(-4016, f"Limit price can't be higher than {mark * Decimal(rules.percent_up):.{rules.price_decimals}f}.")
    if side == "SELL" and price < mark * Decimal(rules.percent_down):
        raise Rejected(-4024, f"Limit price can't be lower than {mark * Decimal(rules.percent_down):.{rules.price_decimals}f}.")


def check_notional(rules: SymbolRules, notional: Decimal) -> None:
    """Hold what an opening order is worth against MIN_NOTIONAL."""
    if notional < Decimal(rules.min_notional):
        raise Rejected(-4164, f"Order's notional must be no smaller than {rules.min_notional} (unless you choose reduce only).")


def precision() -> Rejected:
    """More decimals than the symbol has."""
    return Rejected(-1111, "Precision is over the maximum defined for this asset.")


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))
