"""POST /execute/cancel: orders of ours that nothing owns any more, cancelled and proven gone."""

import asyncio

from engine.core.order import OrderRefusal, no
from engine.errors import VenueError
from engine.execution.asking import Bound, Patience, until
from engine.execution.desk import Desk
from engine.execution.ids import OURS
from engine.execution.lasting_once import kept_going
from engine.ports import Exchange
from shared.enums import OrderState
from shared.execution import CancelReply, CancelRequest, RealAccount, VenueOrder
from shared.problem import Problem


async def cancel(desk: Desk, request: CancelRequest) -> CancelReply | Problem:
    """Which of the ids do not rest any more; one that is not of ours is refused with all others, unasked."""
    foreign = [order_id for order_id in request.client_order_ids if not order_id.startswith(OURS)]
    if foreign:
        return no(OrderRefusal.VENUE_RULE, f"{foreign[0]} is no order of ours")
    if isinstance(request.account, RealAccount) and request.account.dry_run:
        return no(OrderRefusal.REAL_NOT_AVAILABLE, "a dry run changes nothing at the exchange")
    exchange = desk.venues.exchange(request.account)
    if isinstance(exchange, Problem):
        return exchange
    return await kept_going(_cancelled(desk, exchange, request))


async def _cancelled(desk: Desk, exchange: Exchange, request: CancelRequest) -> CancelReply:
    ids = list(dict.fromkeys(request.client_order_ids))
    done = await asyncio.gather(*(_gone(exchange, request.symbol, order_id, desk.patience) for order_id in ids))
    gone = [order_id for order_id, is_gone in zip(ids, done, strict=True) if is_gone]
    unknown = [order_id for order_id in ids if order_id not in gone]
    return CancelReply(gone=gone, unknown=unknown, as_of=desk.clock.now())


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
