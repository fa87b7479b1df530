"""POST /execute/cancel: orders of ours that nothing owns any more, cancelled and proven gone.

What the caller has seen may be over by now: the last stop of a position that is open is never cancelled, unless
the caller has seen in two truths that the position is not ours.
"""

import asyncio
from decimal import Decimal

from engine.core.fills import order_side_of
from engine.core.order import OrderRefusal, no
from engine.errors import VenueError
from engine.execution.asking import Bound, Patience, answered, until
from engine.execution.desk import Desk
from engine.execution.ids import OURS
from engine.execution.lasting_once import kept_going
from engine.execution.turns import Turn
from engine.log import logger
from engine.ports import Exchange
from shared.enums import OrderKind, OrderState
from shared.execution import CancelReply, CancelRequest, RealAccount, VenueOrder
from shared.problem import Problem


async def cancel(desk: Desk, request: CancelRequest) -> CancelReply | Problem:
    """Which of the ids do not rest any more; one that is not of ours is refused with all others, unasked."""
    foreign = [order_id for order_id in request.client_order_ids if not order_id.startswith(OURS)]
    if foreign:
        return no(OrderRefusal.VENUE_RULE, f"{foreign[0]} is no order of ours")
    account = request.account
    if not isinstance(account, RealAccount) or account.dry_run:
        return no(OrderRefusal.REAL_NOT_AVAILABLE, "a paper account and a dry run change nothing at the exchange")
    exchange = desk.venues.exchange(account)
    if isinstance(exchange, Problem):
        return exchange
    return await kept_going(_in_turn(desk, exchange, desk.turns.of(account.user_id), request))


async def _in_turn(desk: Desk, exchange: Exchange, turn: Turn, request: CancelRequest) -> CancelReply:
    async with turn(request.symbol) as mine:
        if mine:
            return await _cancelled(desk, exchange, request)
        # Whoever has the turn may be about to need just what is to go here.
        return CancelReply(gone=[], unknown=list(dict.fromkeys(request.client_order_ids)), as_of=desk.clock.now())


async def _cancelled(desk: Desk, exchange: Exchange, request: CancelRequest) -> CancelReply:
    needed = set() if request.orphaned else await _last_stops(desk, exchange, request)
    ids = [order_id for order_id in dict.fromkeys(request.client_order_ids) if order_id not in needed]
    if needed:
        logger().warning("the last stop of a position stays", symbol=request.symbol, client_order_id=min(needed))
    done = await asyncio.gather(*(_gone(exchange, request.symbol, order_id, desk.patience) for order_id in ids))
    gone = [order_id for order_id, is_gone in zip(ids, done, strict=True) if is_gone]
    unknown = [order_id for order_id in dict.fromkeys(request.client_order_ids) if order_id not in gone]
    return CancelReply(gone=gone, unknown=unknown, as_of=desk.clock.now())


async def _last_stops(desk: Desk, exchange: Exchange, request: CancelRequest) -> set[str]:
    """Stops that are to go, where the position is open and no other one covers it; all of the ids where that cannot be read."""
    both = asyncio.gather(exchange.positions(), exchange.working(request.symbol))
    told = await answered(both, desk.patience.read)
    if isinstance(told, Problem):
        return set(request.client_order_ids)
    positions, orders = told
    held = next((one for one in positions if one.symbol == request.symbol and one.quantity > 0), None)
    if held is None:
        return set()
    closing = order_side_of(held.side, reduce_only=True)
    stops = [one for one in orders if one.conditional and one.kind is OrderKind.STOP and one.order_side is closing]
    going = {one.client_order_id for one in stops} & set(request.client_order_ids)
    stays = any(_covers(one, held.quantity) for one in stops if one.client_order_id not in going)
    return set() if stays else going


def _covers(stop: VenueOrder, quantity: Decimal) -> bool:
    return stop.close_position or stop.quantity - stop.filled_quantity >= quantity


async def _gone(exchange: Exchange, symbol: str, order_id: str, patience: Patience) -> bool:
    """Regular and conditional orders have ids of their own: both are asked."""
    both = await asyncio.gather(*(_of_kind(exchange, symbol, order_id, conditional, patience) for conditional in (True, False)))
    return all(both)


async def _of_kind(exchange: Exchange, symbol: str, order_id: str, conditional: bool, patience: Patience) -> bool:
    """Cancelled until a reading shows it ended, or shows none of that id."""

    async def ended() -> bool | None:
        order = await exchange.find(symbol, order_id, conditional=conditional)
        if order is None or order.state is not OrderState.WORKING:
            return True
        await _try(exchange, order)
        return None

    return bool(await until(ended, Bound(patience.clear), patience.poll))


async def _try(exchange: Exchange, order: VenueOrder) -> None:
    try:
        await exchange.cancel(order)
    except VenueError:
        return  # The reading that follows tells.
