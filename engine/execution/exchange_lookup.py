"""What became of an id of which no report is kept, as the exchange shows it now."""

from engine.core.fills import average_price
from engine.errors import VenueError
from engine.execution.asking import Bound, Patience
from engine.execution.market_orders import fills_of
from engine.ports import Exchange
from shared.enums import ExecutionStatus, OrderLookup, OrderState, Side
from shared.execution import ExecutionReport, Fill, OrderReply, OrderSide, VenueOrder
from shared.problem import Problem


async def look_up(exchange: Exchange | Problem, client_order_id: str, symbol: str | None, patience: Patience) -> OrderReply:
    """OPEN, FILLED with its trades, NOT_FOUND where the exchange shows none or it ended unfilled, else UNKNOWN.

    NOT_FOUND proves nothing about an order that may still be under way.
    """
    unknown = OrderReply(client_order_id=client_order_id, state=OrderLookup.UNKNOWN)
    if isinstance(exchange, Problem) or symbol is None:
        return unknown
    try:
        order = await _find(exchange, symbol, client_order_id, patience)
    except VenueError:
        return unknown
    if order is None or (order.state is OrderState.ENDED and order.filled_quantity <= 0):
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.NOT_FOUND)
    if order.state is OrderState.WORKING:
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.OPEN)
    fills = await fills_of(exchange, order, patience)
    if not fills:
        return unknown
    return OrderReply(client_order_id=client_order_id, state=OrderLookup.FILLED, report=_report(order, fills))


async def _find(exchange: Exchange, symbol: str, client_order_id: str, patience: Patience) -> VenueOrder | None:
    bound = Bound(patience.read)
    found = await bound.call(exchange.find(symbol, client_order_id, conditional=False))
    return found or await bound.call(exchange.find(symbol, client_order_id, conditional=True))


def _report(order: VenueOrder, fills: list[Fill]) -> ExecutionReport:
    opens_long = (order.order_side is OrderSide.BUY) is not order.reduce_only
    return ExecutionReport(
        client_order_id=order.client_order_id,
        venue="binance",
        dry_run=False,
        status=ExecutionStatus.FILLED,
        symbol=order.symbol,
        side=Side.LONG if opens_long else Side.SHORT,
        order_side=order.order_side,
        reduce_only=order.reduce_only,
        requested_quantity=order.quantity,
        filled_quantity=sum((fill.quantity for fill in fills), start=order.filled_quantity * 0),
        average_price=average_price(fills),
        fills=fills,
        as_of=fills[-1].at,
    )
