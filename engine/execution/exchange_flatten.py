"""Closes everything of an account by the exchange's own view, again and again until it shows nothing or the time is up.

Positions go side by side, the two that hedge mode allows in a symbol too, and one that fails never stops another. No report store is
asked: ids follow from the prefix, and orders that only reduce may come twice.

A panic of many positions shall fit into what the budget keeps for it, so that nothing has to wait for the next minute: one reading of
all positions serves every symbol, the dear reading of all orders (weight 80) waits until no position is seen, and trades are left to
whoever keeps the books. Sixty positions cost some 500 of the 2400 weight a minute.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final

import msgspec

from engine.core.fills import order_side_of
from engine.core.order import OrderRefusal, no
from engine.errors import ExchangeError, VenueError
from engine.execution.asking import Bound, Patience, until
from engine.execution.drain import free_of_children
from engine.execution.ids import numbered
from engine.execution.market_orders import ZERO, carry_out
from engine.log import logger
from engine.ports import Clock, Exchange, MarketData, MarketOrder
from shared.enums import ExecutionStatus, Side
from shared.execution import ExecutionReport, FlattenReply, VenueOrder, VenuePosition
from shared.problem import Problem

MOST_TRIES: Final = 99
"""An id has room for two digits more."""

SLOWER: Final = 1.5
"""Each round with something left waits so much longer than the one before it, up to `apart`."""

AT_ONCE: Final = 10
"""Symbols side by side: whatever is on its way when the exchange says "too many" still arrives, and earns a ban."""

ORDERS_EACH: Final = 5
"""Where a position stays, all orders are read every so many rounds: they cost eight times as much as all positions."""


class _Closing(msgspec.Struct, kw_only=True):
    """One position on its way to flat."""

    base_id: str
    seen: VenuePosition
    """As it was first seen."""
    held: Decimal
    """By the last reading."""
    tries: int = 0
    filled: dict[str, Decimal] = {}
    problem: Problem | None = None


class Flattening:
    """One panic.

    Args:
        exchange: The account, with the budget's reserve.
        market: For the largest market order of a symbol.
        clock: Both times.
        patience: Bounds.
        venue: The venue's name, for the reports.
    """

    def __init__(self, exchange: Exchange, market: MarketData, clock: Clock, patience: Patience, venue: str) -> None:
        self._exchange, self._market, self._clock = exchange, market, clock
        self._patience, self._venue = patience, venue
        self._brief = patience.brief(patience.again * 2)
        self._closings: dict[tuple[str, Side], _Closing] = {}
        self._held: set[str] = set()
        """Symbols with a position, by the last reading."""
        self._stale: set[str] = set()
        """Symbols whose orders are to be cancelled as soon as no position needs them any more."""
        self._orders: list[VenueOrder] | None = None
        """By the last reading; None where there was none since something was done."""

    async def run(self, prefix: str) -> FlattenReply | Problem:
        """A report per position, and what the exchange says is left; a Problem where it never said anything."""
        bound, quiet, rounds, wait = Bound(self._patience.flatten), 0, 0, self._patience.poll
        while True:
            if not await self._look(prefix, bound, orders=rounds % ORDERS_EACH == ORDERS_EACH - 1):
                break
            quiet = quiet + 1 if self._is_empty() else 0
            if quiet == 2:
                return self._reply(certain=True)
            rounds += 1
            await self._each([one for one in self._closings.values() if one.held > 0], self._reduce)
            await self._cancel_stale()
            wait = self._patience.poll if not self._held else min(wait * SLOWER, self._patience.apart)
            if not await bound.pause(self._patience.apart if quiet else wait):
                break
        if not rounds:
            return no(OrderRefusal.VENUE_AWAY, "the exchange does not say what is open")
        await self._last_look()
        return self._reply(certain=False)

    async def _look(self, prefix: str, bound: Bound, *, orders: bool) -> bool:
        """Positions, and orders where no position is left or it is time; False where the exchange did not answer."""
        found = await until(self._exchange.positions, bound, self._patience.poll)
        if found is None:
            return False
        self._take(prefix, [position for position in found if position.quantity > 0])
        self._orders = None
        if (self._held or self._stale) and not orders:
            return True
        self._orders = await until(self._exchange.working, bound, self._patience.poll)
        self._stale |= {order.symbol for order in self._orders or []}
        return self._orders is not None

    def _take(self, prefix: str, positions: list[VenuePosition]) -> None:
        for closing in self._closings.values():
            closing.held = ZERO
        for position in sorted(positions, key=lambda one: (one.symbol, one.side)):
            number = len(self._closings) + 1
            closing = self._closings.setdefault(
                (position.symbol, position.side), _Closing(base_id=f"{prefix}-{number}", seen=position, held=ZERO)
            )
            closing.held = position.quantity
        self._held = {position.symbol for position in positions}
        self._stale |= self._held

    def _is_empty(self) -> bool:
        return not self._held and not self._stale and self._orders == []

    async def _reduce(self, closing: _Closing) -> None:
        """One more order for what is left of a position; its id is looked up before it is sent."""
        if closing.tries >= MOST_TRIES:
            return
        symbol, side = closing.seen.symbol, closing.seen.side
        most = await self._most(symbol)
        order = MarketOrder(
            client_order_id=numbered(closing.base_id, closing.tries + 1),
            symbol=symbol,
            order_side=order_side_of(side, reduce_only=True),
            position_side=closing.seen.position_side,
            quantity=min(closing.held, most) if most else closing.held,
            reduce_only=True,
        )
        done = await carry_out(self._exchange, order, self._brief)
        if not isinstance(done, Problem):
            closing.tries += 1
            if isinstance(done, VenueOrder):
                closing.filled[done.client_order_id] = done.filled_quantity
            return
        closing.problem = done
        if done.code == OrderRefusal.REDUCE_ONLY:
            # Nothing to reduce, or another order that closes stands in the way.
            await free_of_children(self._exchange, symbol, side, self._patience)

    async def _cancel_stale(self) -> None:
        """A stop goes only when a reading shows that nothing needs it any more."""
        await self._each(sorted(self._stale - self._held), self._cancel)

    async def _each[T](self, items: list[T], work: Callable[[T], Awaitable[None]]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(item: T) -> None:
            async with places:
                await work(item)

        await asyncio.gather(*(one(item) for item in items))

    async def _cancel(self, symbol: str) -> None:
        try:
            await Bound(self._patience.read).call(self._exchange.cancel_all(symbol))
            self._stale.discard(symbol)
        except VenueError as error:
            logger().warning("orders could not be cancelled", symbol=symbol, error=str(error))

    async def _last_look(self) -> None:
        """What is told as left shall be as young as it can be."""
        if self._orders is None:
            self._orders = await self._once(self._exchange.working)

    async def _once[T](self, question: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await Bound(self._patience.read).call(question())
        except VenueError:
            return None

    async def _most(self, symbol: str) -> Decimal | None:
        try:
            async with asyncio.timeout(self._patience.read):
                return (await self._market.instrument(symbol)).market_max_quantity
        except (ExchangeError, TimeoutError):
            return None

    def _report(self, closing: _Closing) -> ExecutionReport:
        """What was closed of a position, over all rounds; its trades are in the truth."""
        seen, gone = closing.seen, closing.held == 0
        return ExecutionReport(
            client_order_id=closing.base_id,
            venue=self._venue,
            dry_run=False,
            status=ExecutionStatus.FILLED if gone else ExecutionStatus.UNKNOWN,
            symbol=seen.symbol,
            side=seen.side,
            order_side=order_side_of(seen.side, reduce_only=True),
            reduce_only=True,
            leverage=seen.leverage,
            requested_quantity=seen.quantity,
            filled_quantity=sum(closing.filled.values(), ZERO),
            refusal=None if gone else closing.problem or no(OrderRefusal.OUTCOME_UNKNOWN, "the exchange does not show it closed"),
            as_of=self._clock.now(),
        )

    def _reply(self, *, certain: bool) -> FlattenReply:
        """Counts of the last readings; where they are not the last word, never zero and zero."""
        positions, orders = sum(one.held > 0 for one in self._closings.values()), len(self._orders or [])
        if not certain and not positions and not orders:
            positions, orders = len(self._closings) if not self._stale else 0, len(self._stale)
        return FlattenReply(
            reports=[self._report(self._closings[key]) for key in sorted(self._closings)],
            open_positions=positions,
            open_orders=orders,
            flat=certain,
            as_of=self._clock.now(),
        )
