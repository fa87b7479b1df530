"""Reduces a position at market until the exchange shows none: what stands behind an unprotected entry and a panic.

Each try is a reduce-only order under its own id, so a doubled or a late one can never open anything; that is why here, and only here,
an order without an answer is followed by another.
"""

import asyncio
from datetime import datetime
from decimal import Decimal

import msgspec

from engine.core.fills import order_side_of
from engine.core.order import OrderRefusal
from engine.errors import VenueError
from engine.execution.asking import Bound, Patience, until
from engine.execution.ids import MOST_TRIES, numbered
from engine.execution.market_orders import ZERO, carry_out, fills_of
from engine.ports import Exchange, MarketOrder
from shared.enums import Side
from shared.execution import Fill, VenueOrder, VenuePosition
from shared.problem import Problem

_UNBOUNDED = Decimal("Infinity")


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What closing a position at market came to.

    `flat` is what a reading said, or that as much was filled as was to be closed at most; `problem` is why the last try failed. `tried`:
    an order of it was sent or found, whatever became of it. `spent_at`: every number of the id was used up, the newest order is of then.
    """

    fills: list[Fill]
    flat: bool
    tried: bool
    spent_at: datetime | None = None
    problem: Problem | None = None


class Drain:
    """One position on its way to flat.

    Args:
        exchange: The account, with the budget's reserve.
        symbol: Its symbol.
        side: Of the position.
        base_id: The first try's id.
        patience: Bounds.
        known: Base asset that is certainly held, all of it to be closed, though readings may not show it yet.
        most: The largest market order that the symbol takes.
        total: No more than this is closed, all tries together: what a hand added is not ours to sell.
        unseen: Under the first id an order was sent already, and nothing is known of it.
    """

    def __init__(
        self,
        exchange: Exchange,
        symbol: str,
        side: Side,
        base_id: str,
        patience: Patience,
        *,
        known: Decimal = ZERO,
        most: Decimal | None = None,
        total: Decimal | None = None,
        unseen: bool = False,
    ) -> None:
        self._exchange, self._symbol, self._side, self._base_id = exchange, symbol, side, base_id
        self._patience = patience
        self._known, self._most, self._total = known, most, total
        self._orders: list[VenueOrder] = []
        self._unseen = [base_id] if unseen else []
        self._first = self._attempt = 1 + len(self._unseen)
        self._problem: Problem | None = None

    async def run(self, seconds: float) -> Drained:
        """Tries until a reading shows flat, or the time is up."""
        bound, flat, left = Bound(seconds), False, await self._left()
        while not flat:
            spent = self._attempt > MOST_TRIES
            self._known = ZERO if spent else self._known  # no order can tell any more what is held
            held = self._known if self._known > 0 else await self._held(bound)
            if held is None or (spent and held > 0):
                break
            ours = min(held, left)
            flat = (held == 0 or (ours > 0 and await self._try(ours))) and await self._shows_flat()
            left = left if flat else await self._left()
            flat = flat or left <= 0
            if not flat and not await self._paused(bound):
                break
        tried = self._attempt > self._first
        fills = await self.fills()
        spent_at = max((one.created_at for one in self._orders), default=None) if self._attempt > MOST_TRIES else None
        return Drained(fills=fills, flat=flat, tried=tried, spent_at=spent_at, problem=None if flat else self._problem)

    def count(self, first: VenueOrder) -> None:
        """Takes its first order for what it did."""
        self._unseen.remove(self._base_id)
        self._orders.append(first)

    async def pick_up(self) -> None:
        """Takes over what an earlier run sent under further numbers of the id: its answer may be lost, its orders are not.

        Any number may be missing, since a try may never have arrived: all are looked for, at once.
        """
        numbers = range(self._attempt, MOST_TRIES + 1)
        seen = await asyncio.gather(*(self._glimpse(numbered(self._base_id, number)) for number in numbers))
        found = {number: order for number, order in zip(numbers, seen, strict=True) if order is not None}
        self._orders += found.values()
        self._attempt = max(found, default=self._attempt - 1) + 1

    async def _left(self) -> Decimal:
        """How much may still be closed; what had no answer is looked for once first."""
        if self._total is None:
            return _UNBOUNDED
        unseen = [] if self._known > 0 else self._unseen  # all that is held is ours: of two orders for it one finds nothing
        for order_id in list(unseen):
            found = await self._glimpse(order_id)
            if found is not None:
                self._unseen.remove(order_id)
                self._orders.append(found)
        return self._total - sum((order.filled_quantity for order in self._orders), ZERO)

    async def _paused(self, bound: Bound) -> bool:
        """A moment between two tries. Where no reading is waited for, one may tell in it that a hand added to what is held.

        Then what is ours cannot be told from it any more, and each try is followed until a reading shows what it did.
        """
        if self._known <= 0:
            return await bound.pause(self._patience.poll)
        in_time, shown = await asyncio.gather(bound.pause(self._patience.poll), self._held(Bound(self._patience.poll * 2)))
        if shown is None or shown <= self._known:
            return in_time
        self._known = ZERO
        return await bound.pause(self._patience.apart)

    async def _glimpse(self, order_id: str) -> VenueOrder | None:
        """An order as it stands, by one short look; None where it is not there or nobody answers: the position must not wait for that."""
        try:
            return await Bound(self._patience.again).call(self._exchange.find(self._symbol, order_id, conditional=False))
        except VenueError:
            return None

    async def _held(self, bound: Bound) -> Decimal | None:
        return await until(lambda: held_quantity(self._exchange, self._symbol, self._side), bound, self._patience.poll)

    async def _try(self, quantity: Decimal) -> bool:
        """Whether it may be flat now: not where the exchange certainly took nothing, and still holds it."""
        order_id = numbered(self._base_id, self._attempt)
        order = MarketOrder(
            client_order_id=order_id,
            symbol=self._symbol,
            order_side=order_side_of(self._side, reduce_only=True),
            quantity=min(quantity, self._most) if self._most else quantity,
            reduce_only=True,
        )
        shown = self._patience.poll if self._known > 0 else None
        done = await carry_out(self._exchange, order, self._patience.brief(self._patience.again, shown))
        if isinstance(done, Problem):
            return await self._refused(done)
        self._attempt += 1
        if isinstance(done, VenueOrder):
            self._orders.append(done)
            self._known = max(self._known - done.filled_quantity, ZERO)
        else:
            self._unseen.append(order_id)
        return True

    async def _refused(self, problem: Problem) -> bool:
        """Nothing to reduce, or a triggered stop's own order stands in the way: it goes, the position is closed here."""
        self._problem = problem
        if problem.code != OrderRefusal.REDUCE_ONLY:
            return False
        self._known = ZERO
        await free_of_children(self._exchange, self._symbol, self._side, self._patience)
        return True

    async def _shows_flat(self) -> bool:
        """Right after an order a reading may be behind: it is given a moment."""

        async def flat() -> bool | None:
            return True if await held_quantity(self._exchange, self._symbol, self._side) == 0 else None

        if self._known > 0:
            return False
        seen = await until(flat, Bound(self._patience.apart), self._patience.poll)
        if not seen or self._orders:
            return bool(seen)
        await Bound(self._patience.apart * 2).pause(self._patience.apart)
        return bool(await until(flat, Bound(self._patience.read), self._patience.poll))

    async def fills(self) -> list[Fill]:
        """The trades of all its orders that are seen."""
        fills: list[Fill] = []
        for order_id in self._unseen:
            late = await carry_on(self._exchange, self._symbol, order_id, self._patience)
            self._orders += [late] if late else []
        for order in self._orders:
            fills += await fills_of(self._exchange, order, self._patience) or []
        return fills


async def carry_on(exchange: Exchange, symbol: str, order_id: str, patience: Patience) -> VenueOrder | None:
    """An order that had no answer, as it stands now."""
    return await until(lambda: exchange.find(symbol, order_id, conditional=False), Bound(patience.apart), patience.poll)


async def held_quantity(exchange: Exchange, symbol: str, side: Side) -> Decimal:
    """Base asset that a reading shows on one side of a symbol."""
    position = await position_of(exchange, symbol, side)
    return ZERO if position is None else position.quantity


async def position_of(exchange: Exchange, symbol: str, side: Side) -> VenuePosition | None:
    """A position as a reading shows it."""
    held = [position for position in await exchange.positions() if position.symbol == symbol and position.side is side]
    return next((position for position in held if position.quantity > 0), None)


def guarded_a_position(side: Side, order: VenueOrder) -> bool:
    """Whether an order has no meaning without a position on that side; the other side may have been opened while this one was closed."""
    return order.order_side is order_side_of(side, reduce_only=True) and (order.reduce_only or order.close_position)


async def free_of_children(exchange: Exchange, symbol: str, side: Side, patience: Patience) -> None:
    """Cancels the orders that close a side, such as a triggered condition left working: they bind the position that is to be closed."""
    try:
        bound = Bound(patience.read)
        for order in await bound.call(exchange.working(symbol)):
            if _closes(order) and order.order_side is order_side_of(side, reduce_only=True) and not order.conditional:
                await bound.call(exchange.cancel(order))
    except VenueError:
        return  # The next try tells.


def _closes(order: VenueOrder) -> bool:
    """In hedge mode by its sides."""
    hedged = order.position_side in Side
    return order.reduce_only or (hedged and order.order_side is order_side_of(Side(order.position_side), reduce_only=True))
