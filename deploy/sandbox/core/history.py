"""How far back the exchange remembers, and which part of it one reply shows.

Source: Binance USDⓈ-M "All Orders", "Account Trade List", "Get Income History" (read 2026-11): a week at a time and the last week unless
told otherwise; an order that ended without a fill is forgotten after three days, every other after ninety.
"""

from collections.abc import Sequence

from deploy.sandbox.core.account import Income
from deploy.sandbox.core.errors import Rejected, out_of_range
from deploy.sandbox.core.intervals import DAY_MS
from deploy.sandbox.core.orders import Order, Trade
from deploy.sandbox.core.query import Query

WEEK_MS = 7 * DAY_MS
UNFILLED_MS, FILLED_MS = 3 * DAY_MS, 90 * DAY_MS
ENDED_WITHOUT = frozenset({"CANCELED", "EXPIRED"})


def forgotten(order: Order, now: int) -> bool:
    """Whether an order is so old that it is not found any more."""
    age = now - order.created_ms
    return not order.open and (age > FILLED_MS or (order.status in ENDED_WITHOUT and not order.executed and age > UNFILLED_MS))


def week(query: Query, now: int) -> tuple[int, int]:
    """The span that a reply is of: a week at most, the last one where none is given.

    Raises:
        Rejected: It is longer.
    """
    since, until = query.whole("startTime"), query.whole("endTime")
    if until is None:
        until = now if since is None else min(now, since + WEEK_MS)
    if since is None:
        since = until - WEEK_MS
    if until - since > WEEK_MS:
        raise Rejected(-1127, "More than 168 hours between startTime and endTime.")
    return since, until


def orders_shown(orders: Sequence[Order], query: Query, now: int) -> Sequence[Order]:
    """A page of allOrders, oldest first: from an id on, from a time on, or the newest."""
    first, limit = query.whole("orderId"), query.limit(500, 1000)
    kept = [order for order in orders if not forgotten(order, now)]
    if first is not None:
        return [order for order in kept if order.id >= first][:limit]
    since, until = week(query, now)
    kept = [order for order in kept if since <= order.created_ms <= until]
    return kept[-limit:] if query.whole("startTime") is None else kept[:limit]


def trades_shown(trades: Sequence[Trade], query: Query, now: int) -> Sequence[Trade]:
    """A page of userTrades, oldest first: of an order, from an id on, from a time on, or the newest."""
    order, first, limit = query.whole("orderId"), query.whole("fromId"), query.limit(500, 1000)
    if first is not None:
        if query.whole("startTime") is not None or query.whole("endTime") is not None:
            raise out_of_range("fromId")
        return [trade for trade in trades if trade.id >= first and order in (None, trade.order_id)][:limit]
    if order is not None:
        return [trade for trade in trades if trade.order_id == order][:limit]
    since, until = week(query, now)
    kept = [trade for trade in trades if since <= trade.time_ms <= until]
    return kept[-limit:] if query.whole("startTime") is None else kept[:limit]


def incomes_shown(incomes: Sequence[Income], query: Query, now: int) -> Sequence[Income]:
    """A page of the money history, oldest first; the last week where no time is given."""
    since, until, limit = query.whole("startTime"), query.whole("endTime"), query.limit(100, 1000)
    page = max(1, query.whole("page") or 1)
    if since is None and until is None:
        since = now - WEEK_MS
    kept = [item for item in incomes if (since is None or item.time_ms >= since) and (until is None or item.time_ms <= until)]
    if query.whole("startTime") is None and query.whole("page") is None:
        return kept[-limit:]
    return kept[(page - 1) * limit : page * limit]
