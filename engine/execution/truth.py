"""POST /execute/truth: an account as the exchange tells it, for whoever keeps the books."""

import asyncio
from datetime import datetime

from engine.execution.asking import answered
from engine.execution.desk import Desk
from engine.ports import Exchange, Urgency
from shared.execution import BalanceReply, TruthReply, TruthRequest, VenueOrder, VenueTrade
from shared.problem import Problem

TRUTH_SECONDS = 13.0
"""Below the 15 s that the caller waits; some of it is paged."""


async def truth(desk: Desk, request: TruthRequest) -> TruthReply | Problem:
    """All parts asked at once, or a Problem where one of them did not come: half a truth is none.

    It is asked often and costs much weight, so it leaves the budget's reserve to what acts.
    """
    exchange = desk.venues.exchange(request.account, Urgency.ENTER)
    if isinstance(exchange, Problem):
        return exchange
    return await answered(_read(exchange, request, desk.clock.now()), TRUTH_SECONDS)


async def _read(exchange: Exchange, request: TruthRequest, as_of: datetime) -> TruthReply:
    """What is now first, then what happened: so the history holds whatever the state shows, and an order that ends meanwhile is in it."""
    symbols, since = sorted(set(request.symbols)), request.since
    wallet, mode, positions, working = await asyncio.gather(
        exchange.wallet(), exchange.position_mode(), exchange.positions(), exchange.working()
    )
    ended, trades, income = await asyncio.gather(
        _ended(exchange, symbols, since), _trades(exchange, symbols, since), exchange.income(since)
    )
    return TruthReply(
        as_of=as_of,
        balance=BalanceReply(asset="USDT", total=wallet.total, free=wallet.free, as_of=as_of),
        position_mode=mode,
        positions=[position for position in positions if position.quantity > 0],
        orders=_once([*working, *ended]),
        trades=trades,
        income=income,
    )


async def _ended(exchange: Exchange, symbols: list[str], since: datetime) -> list[VenueOrder]:
    found = await asyncio.gather(*(exchange.ended(symbol, since) for symbol in symbols))
    return [order for orders in found for order in orders]


async def _trades(exchange: Exchange, symbols: list[str], since: datetime) -> list[VenueTrade]:
    found = await asyncio.gather(*(exchange.account_trades(symbol, since) for symbol in symbols))
    return sorted((trade for trades in found for trade in trades), key=lambda trade: trade.at)


def _once(orders: list[VenueOrder]) -> list[VenueOrder]:
    """An order that ended between two questions is told by the later one."""
    known = {(order.symbol, order.conditional, order.venue_order_id): order for order in orders}
    return list(known.values())
