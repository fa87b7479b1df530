"""Conditional orders at the exchange: let one rest and read it back, cancel others and prove that they are gone."""

import asyncio
from collections.abc import Callable
from typing import Any

from engine.core.order import OrderRefusal, no
from engine.errors import VenueAway, VenueError
from engine.execution.asking import Bound, Patience, until, wait_of
from engine.ports import Condition, Exchange
from shared.enums import OrderState
from shared.execution import VenueOrder
from shared.problem import Problem


async def rest(
    exchange: Exchange, condition: Condition, bound: Bound, patience: Patience, *, fresh: bool
) -> VenueOrder | Problem | None:
    """Lets one conditional order rest and reads it back.

    Args:
        exchange: The account.
        condition: What to place. One that is not seen after a while is handed over again under the same id, which the exchange lets rest
            once; a second one would be reduce-only and swept. So is one that has no answer after that while; it is looked for all along.
        bound: When it must be confirmed.
        patience: How often it is read.
        fresh: Its request is known to be new, so that its id need not be looked up.

    Returns:
        The order as it was read; a Problem where it certainly does not rest; None where that is not known at the bound.
    """
    known = None if fresh else await known_under(exchange, condition, bound, patience)
    if isinstance(known, VenueOrder):
        return _standing(known)
    if not fresh and known is None:
        return None
    placing = asyncio.ensure_future(_placed(exchange, condition, bound, patience))
    under_way: list[asyncio.Future[Any]] = [placing]
    try:
        if isinstance(placed := await placing, Problem):
            return placed
        looking = asyncio.ensure_future(until(lambda: _find(exchange, condition), bound, patience.poll))
        under_way.append(looking)
        while not (await asyncio.wait({looking}, timeout=patience.silence if bound.left > patience.silence else None))[0]:
            placing = under_way[0] = asyncio.ensure_future(_placed(exchange, condition, bound, patience))
            await asyncio.wait({placing, looking}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done() and isinstance(placed := placing.result(), Problem):
                return placed
        found = looking.result()
        return None if found is None else _standing(found)
    finally:
        for one in under_way:
            one.cancel()


async def _find(exchange: Exchange, condition: Condition) -> VenueOrder | None:
    return await exchange.find(condition.symbol, condition.client_order_id, conditional=True)


async def known_under(exchange: Exchange, condition: Condition, bound: Bound, patience: Patience) -> VenueOrder | bool | None:
    """The order that has the id already, whatever became of it; False where none has, None where the exchange did not say."""

    async def look() -> VenueOrder | bool:
        return await _find(exchange, condition) or False

    return await until(look, bound, patience.poll)


async def _placed(exchange: Exchange, condition: Condition, bound: Bound, patience: Patience) -> Problem | None:
    """Hands the order over; asked again only where it certainly was not taken."""
    while True:
        try:
            answer = await Bound(min(patience.silence, bound.left)).call(exchange.rest(condition))
        except VenueAway as error:
            if not await bound.pause(max(patience.poll, wait_of(error))):
                return no(OrderRefusal.NOT_PROTECTED, f"the exchange did not take {condition.kind} in time: {error}")
        except VenueError:
            return None
        else:
            return answer if isinstance(answer, Problem) else None


def _standing(order: VenueOrder) -> VenueOrder | Problem:
    """One that ended without being filled protects nothing; one that was filled has done its work."""
    if order.state is OrderState.ENDED and order.filled_quantity <= 0:
        return no(OrderRefusal.NOT_PROTECTED, f"the exchange took {order.client_order_id} and ended it")
    return order


async def clear(
    exchange: Exchange,
    symbol: str,
    unwanted: Callable[[VenueOrder], bool],
    patience: Patience,
    *,
    known: list[VenueOrder] | None = None,
) -> bool:
    """Cancels the working orders of a symbol that are unwanted; True where a reading proves that none is left."""

    async def none_left() -> bool | None:
        orders = [order for order in await exchange.working(symbol) if unwanted(order)]
        for order in orders:
            await exchange.cancel(order)
        return None if orders else True

    for order in known or []:
        await _cancelled(exchange, order, patience)
    return bool(await until(none_left, Bound(patience.clear), patience.poll))


async def _cancelled(exchange: Exchange, order: VenueOrder, patience: Patience) -> None:
    try:
        await Bound(patience.read).call(exchange.cancel(order))
    except VenueError:
        return  # The reading that follows tells.
