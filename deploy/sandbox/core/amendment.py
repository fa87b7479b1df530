"""An order that rests gets another price or size. It is checked like a new one, and loses its place only where it fails.

Source: Binance USDⓈ-M "Modify Order" (read 2026-11): limit orders only, quantity and price both given; a quantity not above what is
executed cancels the order.
"""

from decimal import Decimal

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.order_request import check_limit, check_notional, check_price, check_quantity
from deploy.sandbox.core.orders import Order
from deploy.sandbox.core.trading import Trading, unknown_order


def amend(trading: Trading, account: Account, order: Order, price: Decimal, quantity: Decimal, now: int) -> Order:
    """Change a resting order.

    Args:
        trading: The floor.
        account: Whose order.
        order: Must rest.
        price: The new limit.
        quantity: The new whole size, the executed part included.
        now: Market time.

    Raises:
        Rejected: It does not rest, nothing would change, or the new order would be refused; it then stays as it was.
    """
    if not order.open:
        raise unknown_order()
    if (price, quantity) == (order.price, order.quantity):
        raise Rejected(-5027, "No need to modify the order.")
    rules, mark = trading.board.rules(order.symbol, now), trading.board.mark(order.symbol, now)
    check_quantity(rules, quantity, market=False)
    check_price(rules, price)
    check_limit(rules, order.side, price, mark)
    if not order.reduce_only:
        check_notional(rules, quantity * price)
    if quantity <= order.executed:
        return trading.cancel(account, order, now)
    return trading.replace(account, order, price, quantity, now)
