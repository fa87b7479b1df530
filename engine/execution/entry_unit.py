"""From a filled entry order to a protected position, or to none: the part of an entry that must not be left half done.

Stop and target are placed at once, for exactly what was filled, while the trades are still being read. No confirmed stop in time,
or a fill on the wrong side of its stop or target: the position is closed, reduce-only.
"""

import asyncio
from datetime import datetime
from decimal import Decimal

import msgspec

from engine.core.fills import average_price, order_side_of
from engine.core.order import OrderRefusal, no, sides_fit
from engine.execution.asking import Bound, Patience, until
from engine.execution.conditions import clear, rest
from engine.execution.drain import Drain, Drained, held_quantity, position_of
from engine.execution.ids import emergency_id, stop_id, target_id
from engine.execution.market_orders import fills_of
from engine.log import logger
from engine.ports import Clock, Condition, Entered, Exchange, Unknown
from shared.enums import OrderKind, OrderState, Side
from shared.execution import Fill, Protection, VenueOrder
from shared.problem import Problem

SHORTEST = 3
"""However late an order was heard of, its stop has a third of the usual time."""


type Reading = asyncio.Future[list[Fill] | None]
type Aiming = asyncio.Future[VenueOrder | Problem | None]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An entry order that was filled, wholly or in part, and what shall guard it.

    `fresh`: nobody worked on its id before. `waited`: seconds since it left, in which it may have been filled already.
    """

    order: VenueOrder
    client_order_id: str
    side: Side
    stop_loss: Decimal
    take_profit: Decimal
    fresh: bool
    waited: float = 0.0
    most: Decimal | None = None

    @property
    def symbol(self) -> str:
        """Of the position."""
        return self.order.symbol

    def condition(self, kind: OrderKind) -> Condition:
        """The stop or the target, for exactly what was filled."""
        stop = kind is OrderKind.STOP
        return Condition(
            client_order_id=stop_id(self.client_order_id) if stop else target_id(self.client_order_id),
            symbol=self.symbol,
            kind=kind,
            order_side=order_side_of(self.side, reduce_only=True),
            quantity=self.order.filled_quantity,
            trigger_price=self.stop_loss if stop else self.take_profit,
        )


class EntryUnit:
    """Finishes one filled entry.

    Args:
        exchange: The account, with the budget's reserve.
        clock: Both times.
        patience: Bounds.
    """

    def __init__(self, exchange: Exchange, clock: Clock, patience: Patience) -> None:
        self._exchange, self._clock, self._patience = exchange, clock, patience

    async def finish(self, opened: Opened) -> Entered | Unknown:
        """Protects it or closes it; Unknown where its trades could not be read, and then it is protected or closed all the same.

        A stop that may not rest waits for nothing else: neither the trades nor the target, which may be slow, keep the position open.
        """
        began = asyncio.get_running_loop().time() - opened.waited
        bound = Bound(max(self._patience.protect - opened.waited, self._patience.protect / SHORTEST))
        reading = asyncio.ensure_future(fills_of(self._exchange, opened.order, self._patience))
        aiming = asyncio.ensure_future(self._rest(opened, OrderKind.TARGET, bound))
        stop = _still_waits(await self._rest(opened, OrderKind.STOP, bound))
        seconds = asyncio.get_running_loop().time() - began
        if not isinstance(stop, VenueOrder):
            late = no(OrderRefusal.NOT_PROTECTED, f"the stop was not confirmed within {self._patience.protect:g} s")
            return await self._abandon(opened, began, stop or late, reading, aiming)
        fills = await reading
        price = average_price(fills) if fills else None
        wrong = None if price is None else sides_fit(opened.side, price, opened.stop_loss, opened.take_profit)
        if wrong is not None:
            return await self._abandon(opened, began, wrong, reading, aiming)
        target = await aiming
        if not fills:
            return Unknown(detail=f"{opened.client_order_id} is protected, its trades are not shown yet")
        return Entered(
            requested=opened.order.quantity,
            fills=fills,
            protection=self._protection(opened, target),
            refusal=_target_refusal(target),
            unprotected_seconds=seconds if opened.fresh else self._between(fills, stop.created_at),
        )

    async def _rest(self, opened: Opened, kind: OrderKind, bound: Bound) -> VenueOrder | Problem | None:
        return await rest(self._exchange, opened.condition(kind), bound, self._patience, fresh=opened.fresh)

    def _protection(self, opened: Opened, target: VenueOrder | Problem | None) -> Protection:
        """A target whose fate is unknown keeps its id, so that it is not taken for an orphan."""
        refused = isinstance(target, Problem)
        return Protection(
            stop_loss=opened.stop_loss,
            take_profit=None if refused else opened.take_profit,
            stop_order_id=stop_id(opened.client_order_id),
            target_order_id="" if refused else target_id(opened.client_order_id),
            confirmed_at=self._clock.now(),
        )

    async def _abandon(
        self, opened: Opened, began: float, reason: Problem, reading: Reading | None = None, aiming: Aiming | None = None
    ) -> Entered | Unknown:
        logger().warning(
            "an entry is closed at once",
            symbol=opened.symbol,
            client_order_id=opened.client_order_id,
            reason=reason.code,
        )
        order_id = emergency_id(opened.client_order_id)
        known = opened.order.filled_quantity if opened.fresh else await self._ours(opened)
        drain = Drain(self._exchange, opened.symbol, opened.side, order_id, self._patience, known=known, most=opened.most)
        drained = await drain.run(self._patience.drain)
        seconds: float | None = asyncio.get_running_loop().time() - began
        if aiming is not None:
            await aiming  # a target that is just being placed would be left behind
        if drained.flat:
            await self._clear(opened)
        fills = (await reading if reading else None) or await fills_of(self._exchange, opened.order, self._patience) or []
        if not fills:
            return Unknown(detail=f"{opened.client_order_id} was closed at once, its trades are not shown yet")
        if not opened.fresh:
            seconds = self._between(fills, _last(drained.fills) if drained.flat else None)
        return Entered(
            requested=opened.order.quantity,
            fills=fills,
            protection=None,
            refusal=_told(reason, drained),
            unprotected_seconds=seconds,
            closing_order_id=order_id if drained.fills else "",
            closing_fills=drained.fills,
        )

    async def _ours(self, opened: Opened) -> Decimal:
        """What is held where none of it can be a hand's, so that of two orders that close all of it one finds nothing; else 0."""
        held = await until(
            lambda: held_quantity(self._exchange, opened.symbol, opened.side), Bound(self._patience.again), self._patience.poll
        )
        return held if held is not None and held <= opened.order.filled_quantity else Decimal(0)

    def _between(self, fills: list[Fill], until: datetime | None) -> float | None:
        """Wall seconds from the first fill on, by the exchange's clock alone: whoever worked on it before told nobody when that was."""
        seconds = None if until is None else self._clock.wall_seconds(min(fill.at for fill in fills), until)
        return None if seconds is None else max(0.0, seconds)

    async def _clear(self, opened: Opened) -> None:
        ours = {stop_id(opened.client_order_id), target_id(opened.client_order_id)}
        if not await clear(self._exchange, opened.symbol, lambda order: order.client_order_id in ours, self._patience):
            logger().warning("orders of a closed entry may be left", symbol=opened.symbol, client_order_id=opened.client_order_id)

    async def resume(self, opened: Opened) -> Entered | Unknown:
        """Finishes an entry whose worker may have ended anywhere: what is gone already is only told, what is open is guarded.

        A stop that has done its work, an emergency close that was sent, a hand at the exchange: each of them may have closed it.
        """
        held = await until(lambda: self._is_held(opened), Bound(self._patience.read), self._patience.poll)
        if held is None:
            return Unknown(detail="the exchange does not say whether the position is open")
        if held and not await self._being_closed(opened):
            return await self.finish(opened)
        if held:
            reason = no(OrderRefusal.NOT_PROTECTED, "the stop was not confirmed in time")
            return await self._abandon(opened, asyncio.get_running_loop().time(), reason)
        return await self._gone(opened)

    async def _is_held(self, opened: Opened) -> bool:
        """A reading that shows none may be behind the fill: it is gone only where the trades tell of its exit."""
        for last in (False, True):
            if await position_of(self._exchange, opened.symbol, opened.side) is not None:
                return True
            if await self._has_left(opened):
                return False
            if not last:
                await asyncio.sleep(self._patience.apart / 2)
        return True

    async def _has_left(self, opened: Opened) -> bool:
        """Whether as much was traded the other way since as was opened."""
        closing = order_side_of(opened.side, reduce_only=True)
        trades = await self._exchange.account_trades(opened.symbol, opened.order.created_at)
        return sum((one.quantity for one in trades if one.order_side is closing), Decimal(0)) >= opened.order.filled_quantity

    async def _being_closed(self, opened: Opened) -> bool:
        return await self._find_closing(opened) is not None

    async def _find_closing(self, opened: Opened) -> VenueOrder | None:
        return await self._find(opened.symbol, emergency_id(opened.client_order_id), conditional=False)

    async def _find(self, symbol: str, order_id: str, *, conditional: bool) -> VenueOrder | None:
        async def look() -> VenueOrder | bool:
            return await self._exchange.find(symbol, order_id, conditional=conditional) or False

        found = await until(look, Bound(self._patience.read), self._patience.poll)
        return found if isinstance(found, VenueOrder) else None

    async def _gone(self, opened: Opened) -> Entered | Unknown:
        fills = await fills_of(self._exchange, opened.order, self._patience)
        closing = await self._find_closing(opened)
        closing_fills = await fills_of(self._exchange, closing, self._patience) if closing else []
        if not fills or closing_fills is None:
            return Unknown(detail=f"the trades of {opened.client_order_id} are not shown yet")
        await self._clear(opened)
        ended = _last(closing_fills) or await self._stop_stood_at(opened)
        return Entered(
            requested=opened.order.quantity,
            fills=fills,
            protection=None,
            refusal=no(OrderRefusal.NOT_PROTECTED, "the position is not open any more"),
            unprotected_seconds=self._between(fills, ended),
            closing_order_id=closing.client_order_id if closing and closing_fills else "",
            closing_fills=closing_fills,
        )

    async def _stop_stood_at(self, opened: Opened) -> datetime | None:
        """When the stop was taken that guarded it once; None where there was none."""
        stop = await self._find(opened.symbol, stop_id(opened.client_order_id), conditional=True)
        return None if stop is None else stop.created_at


def _last(fills: list[Fill]) -> datetime | None:
    return max((fill.at for fill in fills), default=None)


def _still_waits(stop: VenueOrder | Problem | None) -> VenueOrder | Problem | None:
    """A stop that was triggered and has not filled protects nothing: what it should have closed is closed."""
    if isinstance(stop, VenueOrder) and stop.triggered and stop.state is OrderState.WORKING:
        return no(OrderRefusal.NOT_PROTECTED, "the stop was triggered and has not filled")
    return stop


def _target_refusal(target: VenueOrder | Problem | None) -> Problem | None:
    if isinstance(target, VenueOrder):
        return None
    detail = target.detail if target else "it was not confirmed in time"
    return no(OrderRefusal.TARGET_MISSING, f"the stop rests, the target may not: {detail}")


def _told(reason: Problem, drained: Drained) -> Problem:
    if drained.flat:
        return reason
    why = f": {drained.problem.detail}" if drained.problem else ""
    return no(OrderRefusal.NOT_PROTECTED, f"{reason.detail}; and the exchange does not show it closed yet{why}")


def is_filled(order: VenueOrder) -> bool:
    """Whether a final order opened anything."""
    return order.state is not OrderState.WORKING and order.filled_quantity > 0
