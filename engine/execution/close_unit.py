"""A close at the exchange with its aftercare: a flat position leaves no order behind, a smaller one is guarded for its size.

The close of a whole position waits for no answer: its stop may be the very thing that failed. Being reduce-only it is followed by
another under the next number, of which at most one finds anything to close. A part that is closed twice would be another part, so
that one is sent once.
"""

from decimal import Decimal
from functools import partial

import msgspec

from engine.core.fills import order_side_of
from engine.core.order import OrderRefusal, no
from engine.execution.amend import Amendment
from engine.execution.asking import Bound, Patience, until
from engine.execution.conditions import clear
from engine.execution.drain import Drain, Drained, free_of_children, guarded_a_position, held_quantity
from engine.execution.market_orders import RARER, ZERO, TooLate, carry_out, fills_of, in_time
from engine.log import logger
from engine.ports import Clock, Closing, Exchange, Executed, MarketOrder, Unknown
from shared.enums import Side
from shared.execution import Fill, Protection, VenueOrder
from shared.problem import Problem


class CloseUnit:
    """One close.

    Args:
        exchange: The account, with the budget's reserve.
        amendment: Re-sizes what guards the rest.
        clock: Tells whether an order can still be under way.
        patience: Bounds.
        too_late: Whether the order may not be sent any more.
        resumed: Whether the close was begun before: an earlier run may have sent further numbers of its id.
    """

    def __init__(
        self,
        exchange: Exchange,
        amendment: Amendment,
        clock: Clock,
        patience: Patience,
        too_late: TooLate = in_time,
        *,
        resumed: bool = False,
    ) -> None:
        self._exchange, self._amendment, self._clock, self._resumed = exchange, amendment, clock, resumed
        self._patience = msgspec.structs.replace(patience, linger=0.0)
        self._too_late = too_late

    async def run(self, closing: Closing) -> Executed | Problem | Unknown:
        """Sent once; where a triggered stop that does not fill binds the position, that goes first."""
        order = MarketOrder(
            client_order_id=closing.client_order_id,
            symbol=closing.symbol,
            order_side=order_side_of(closing.side, reduce_only=True),
            quantity=closing.quantity,
            reduce_only=True,
        )
        before = closing.position.quantity if closing.position else None
        whole = before is not None and closing.quantity >= before
        patience = self._patience.brief(self._patience.again, self._patience.poll) if whole else self._patience
        done = await carry_out(self._exchange, order, patience, self._too_late)
        if isinstance(done, Problem) and done.code == OrderRefusal.REDUCE_ONLY:
            done = await self._unbound(order, closing, done)
        if isinstance(done, Unknown) and before is not None and whole:
            name, symbol, side = closing.client_order_id, closing.symbol, closing.side
            return await self.drain(name, symbol, side, closing.quantity, known=before) or done
        if not isinstance(done, VenueOrder):
            return done
        left = None if before is None else max(before - done.filled_quantity, ZERO)
        return await self.finish(done, closing.client_order_id, closing.side, left)

    async def recalled(self, request_id: str, symbol: str, side: Side) -> Executed | None:
        """What an earlier run closed under further numbers of an id, where nothing is held any more; None where nothing is known of such."""
        drain = Drain(self._exchange, symbol, side, request_id, self._patience, unseen=True)
        await drain.pick_up()
        fills = await drain.fills()
        return Executed(fills=in_order(fills), protection=None) if fills else None

    async def drain(
        self,
        request_id: str,
        symbol: str,
        side: Side,
        total: Decimal | None,
        known: Decimal = ZERO,
        most: Decimal | None = None,
        first: VenueOrder | None = None,
    ) -> Executed | Unknown | None:
        """Closes what is held under further numbers of an id whose first order has no answer, or left something open.

        It is told once that first order is seen, or can come no more, so that it never meets a position that was opened since. Where all
        numbers are used up and none of their orders can come any more, what they closed is told, and what is left is for another request.

        Args:
            request_id: The id.
            symbol: What is held.
            side: Of the position.
            total: No more than this is closed; None is all that is held.
            known: What was just seen to be held, none of it a hand's: then a try without an answer is followed by another without waiting
                for readings, of which the exchange takes at most one.
            most: The largest market order that the symbol takes.
            first: The first order, where it is seen already.

        Returns:
            None where nothing was held any more, and nothing was sent for that.
        """
        bound = Bound(self._patience.outcome)
        drain = Drain(self._exchange, symbol, side, request_id, self._patience, known=known, most=most, total=total, unseen=True)
        if first is not None:
            drain.count(first)
        if self._resumed:
            await drain.pick_up()
        drained = await drain.run(self._patience.drain)
        if not drained.flat and self._can_come_no_more(drained):
            protection = await self._aftercare(symbol, request_id, side, None)
            return Executed(fills=in_order(drained.fills), protection=protection)
        if not drained.flat:
            return Unknown(detail=drained.problem.detail if drained.problem else f"{symbol} is not shown closed yet")
        await self._aftercare(symbol, request_id, side, ZERO)
        first = first or await until(
            lambda: self._exchange.find(symbol, request_id, conditional=False), bound, self._patience.poll * RARER
        )
        if first is None and not drained.tried:
            return None
        late = [] if first is None else await fills_of(self._exchange, first, self._patience)
        if late is None or not (late or drained.fills):
            return Unknown(detail=f"{symbol} is closed, the trades are not shown yet")
        return Executed(fills=in_order([*drained.fills, *late]), protection=None)

    def _can_come_no_more(self, drained: Drained) -> bool:
        """Whether all that was sent under a request's numbers is final: the last of them is older than any that is under way."""
        if drained.spent_at is None or not drained.fills:
            return False
        seconds = self._clock.wall_seconds(drained.spent_at, self._clock.now())
        return seconds is not None and seconds >= self._patience.arrives_within

    async def _unbound(self, order: MarketOrder, closing: Closing, refusal: Problem) -> VenueOrder | Problem | Unknown:
        """The exchange has nothing to reduce, or holds it back for an order that works: then that is cancelled."""
        if await self._is_flat(closing.symbol, closing.side):
            return no(OrderRefusal.NO_POSITION, f"the exchange shows no {closing.side} position in {closing.symbol} any more")
        await free_of_children(self._exchange, closing.symbol, closing.side, self._patience)
        again = await carry_out(self._exchange, order, self._patience, self._too_late)
        return refusal if isinstance(again, Problem) else again

    async def _is_flat(self, symbol: str, side: Side) -> bool:
        held = await self.held(symbol, side)
        if held is None or held > 0:
            return False
        await Bound(self._patience.apart * 2).pause(self._patience.apart)
        return await self.held(symbol, side) == 0

    async def finish(
        self, order: VenueOrder, request_id: str, side: Side, left: Decimal | None = None
    ) -> Executed | Problem | Unknown:
        """Trades and aftercare of a final order.

        Args:
            order: The close.
            request_id: What the ids of new orders follow from.
            side: Of the position.
            left: What should be left of the position; None where nobody knows.
        """
        fills = await fills_of(self._exchange, order, self._patience)
        if order.filled_quantity <= 0:
            return no(OrderRefusal.THIN_BOOK, "the exchange ended the order without a fill")
        protection = await self._aftercare(order.symbol, request_id, side, left)
        if fills is None:
            return Unknown(detail=f"{request_id} was filled, its trades are not shown yet")
        return Executed(fills=fills, protection=protection)

    async def _aftercare(self, symbol: str, request_id: str, side: Side, left: Decimal | None) -> Protection | None:
        held = await self._held_as_expected(symbol, side, left)
        if held is None or (held == 0 and left and not await self._is_flat(symbol, side)):
            logger().warning("what a close left open is not known", symbol=symbol, client_order_id=request_id)
            return None
        if held > 0:
            fitted = await self._amendment.refit(request_id, symbol, side)
            if isinstance(fitted, Protection):
                return fitted
            logger().warning(
                "what is left is guarded for the old size", symbol=symbol, client_order_id=request_id, reason=fitted.detail
            )
            return None
        if not await clear(self._exchange, symbol, partial(guarded_a_position, side), self._patience):
            logger().warning("orders of a closed position may be left", symbol=symbol, client_order_id=request_id)
        return None

    async def held(self, symbol: str, side: Side) -> Decimal | None:
        """Base asset that a reading shows; None where none came in time."""
        return await until(lambda: held_quantity(self._exchange, symbol, side), Bound(self._patience.read), self._patience.poll)

    async def _held_as_expected(self, symbol: str, side: Side, left: Decimal | None) -> Decimal | None:
        """What a reading shows, given a moment to show what the close must have left."""

        async def as_expected() -> Decimal | None:
            held = await held_quantity(self._exchange, symbol, side)
            return held if left is None or held == left else None

        seen = await until(as_expected, Bound(self._patience.apart), self._patience.poll)
        return seen if seen is not None else await self.held(symbol, side)


def in_order(fills: list[Fill]) -> list[Fill]:
    """Each trade once, oldest first."""
    return sorted({fill.trade_id: fill for fill in fills}.values(), key=lambda fill: fill.at)
