"""Changes what guards a position at the exchange: new orders rest and are read back before old ones go.

Asked for what rests already it changes nothing, so asking twice is safe. Only orders of ours are ever replaced. A trailing stop keeps
its size when a part is closed: it is reduce-only, and a new one would forget the best price it has seen.

Changes of one symbol take turns, and a stop is cancelled only where another one is seen to rest: neither a change that failed nor
one that ran beside it may leave the position bare.
"""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from engine.core.fills import order_side_of
from engine.core.order import OrderRefusal, no
from engine.execution.asking import Bound, Patience, answered, insisted, until
from engine.execution.conditions import clear, known_under, rest
from engine.execution.ids import MOST_TRIES, OURS, numbered, stop_id, target_id, trailing_id
from engine.execution.turns import Turn
from engine.log import logger
from engine.ports import Clock, Condition, Exchange, Guard, Unknown
from shared.enums import OrderKind, OrderState, Side
from shared.execution import Protection, VenueOrder, VenuePosition
from shared.problem import Problem

STANDS_TRIES = 3
"""Changes whose stop was gone again when all was done: somebody else's hand, or a change beside this one."""


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """Our conditional orders for one position, newest first."""

    stops: list[VenueOrder]
    targets: list[VenueOrder]
    trailing: list[VenueOrder]

    def of(self, kind: OrderKind) -> list[VenueOrder]:
        """Those of a kind."""
        return {OrderKind.STOP: self.stops, OrderKind.TARGET: self.targets}.get(kind, self.trailing)


def resting(orders: Sequence[VenueOrder], side: Side) -> Resting:
    """What guards a position of a side among the working orders of its symbol."""
    closing = order_side_of(side, reduce_only=True)
    ours = [one for one in orders if one.conditional and one.order_side is closing and one.client_order_id.startswith(OURS)]
    newest = sorted(ours, key=lambda one: one.created_at, reverse=True)
    return Resting(
        stops=[one for one in newest if one.kind is OrderKind.STOP],
        targets=[one for one in newest if one.kind is OrderKind.TARGET],
        trailing=[one for one in newest if one.kind is OrderKind.TRAILING],
    )


class Amendment:
    """One change of a position's protection.

    Args:
        exchange: The account, with the budget's reserve.
        clock: Both times.
        patience: Bounds.
        turn: Keeps changes of one symbol apart.
    """

    def __init__(self, exchange: Exchange, clock: Clock, patience: Patience, turn: Turn) -> None:
        self._exchange, self._clock, self._patience, self._turn = exchange, clock, patience, turn

    async def run(self, guard: Guard) -> Protection | Problem | Unknown:
        """Everything as wanted and read back, or everything as it was and why, or Unknown."""
        async with self._turn(guard.symbol) as mine:
            if not mine:
                logger().warning(
                    "protection is changed without a turn", symbol=guard.symbol, client_order_id=guard.client_order_id
                )
            for _ in range(STANDS_TRIES):
                done = await self._change(guard)
                if not isinstance(done, Protection) or await self._works(guard.symbol, done.stop_order_id):
                    return done
                logger().warning("a stop that rested is gone again", symbol=guard.symbol, client_order_id=guard.client_order_id)
        return Unknown(detail=f"the stop of {guard.symbol} was placed and is not seen to rest")

    async def _change(self, guard: Guard) -> Protection | Problem | Unknown:
        seen = await self._see(guard.symbol, guard.side)
        if isinstance(seen, Problem):
            return seen
        position, now = seen
        placed: list[Condition] = []
        for wanted in _wanted(guard, position.quantity):
            if _rests(wanted, now):
                continue
            bound = Bound(self._patience.protect)
            condition = await self._named(wanted, bound)
            placed.append(condition)
            done = await rest(self._exchange, condition, bound, self._patience, fresh=False)
            if not isinstance(done, VenueOrder):
                return await self._undone(guard, now, placed, done)
        await self._remove(guard, now, placed)
        return self._told(guard, now, placed)

    async def _named(self, wanted: Condition, bound: Bound) -> Condition:
        """Under the first of its ids that is free, or under which just that rests: an earlier try of the request may have used one."""
        for attempt in range(1, MOST_TRIES):
            named = msgspec.structs.replace(wanted, client_order_id=numbered(wanted.client_order_id, attempt))
            known = await known_under(self._exchange, named, bound, self._patience)
            if not isinstance(known, VenueOrder) or _is(known, named):
                return named
        return msgspec.structs.replace(wanted, client_order_id=numbered(wanted.client_order_id, MOST_TRIES))

    async def refit(self, request_id: str, symbol: str, side: Side) -> Protection | Problem | Unknown:
        """The same stop and target for the quantity that is held now."""
        seen = await self._see(symbol, side)
        if isinstance(seen, Problem):
            return seen
        now = seen[1]
        stop = _trigger(now.stops)
        if stop is None:
            return no(OrderRefusal.STOP_MISSING, f"no stop rests for {symbol}")
        return await self.run(
            Guard(client_order_id=request_id, symbol=symbol, side=side, stop_loss=stop, take_profit=_trigger(now.targets))
        )

    async def _see(self, symbol: str, side: Side) -> tuple[VenuePosition, Resting] | Problem:
        async def both() -> tuple[list[VenuePosition], list[VenueOrder]]:
            return await asyncio.gather(self._exchange.positions(), self._exchange.working(symbol))

        bound = Bound(self._patience.read)
        told = await answered(insisted(both, bound, self._patience.poll), self._patience.read)
        if isinstance(told, Problem):
            return told
        positions, orders = told
        found = next((one for one in positions if one.symbol == symbol and one.side is side and one.quantity > 0), None)
        if found is None:
            return no(OrderRefusal.NO_POSITION, f"the exchange shows no {side} position in {symbol}")
        return found, resting(orders, side)

    async def _undone(
        self, guard: Guard, before: Resting, placed: Sequence[Condition], failed: Problem | None
    ) -> Problem | Unknown:
        """Takes back what this change placed, where what rested before it is seen to protect still; else a new stop may be the only one."""
        if before.stops and await self._works(guard.symbol, before.stops[0].client_order_id):
            await self._undo(guard, placed)
            return failed or Unknown(
                detail=f"{placed[-1].client_order_id} was not confirmed in time; what rested before still does"
            )
        await self._undo(guard, [condition for condition in placed if condition.kind is not OrderKind.STOP])
        return failed or Unknown(detail=f"{placed[-1].client_order_id} was not confirmed in time")

    async def _works(self, symbol: str, order_id: str) -> bool:
        """Whether an order is seen to rest, or has done its work."""

        async def seen() -> bool | None:
            order = await self._exchange.find(symbol, order_id, conditional=True)
            return None if order is None else order.state is OrderState.WORKING or order.filled_quantity > 0

        return bool(await until(seen, Bound(self._patience.read), self._patience.poll))

    async def _undo(self, guard: Guard, placed: Sequence[Condition]) -> None:
        ids = {condition.client_order_id for condition in placed}
        if ids and not await clear(self._exchange, guard.symbol, lambda order: order.client_order_id in ids, self._patience):
            logger().warning(
                "new orders of a refused change may be left", symbol=guard.symbol, client_order_id=guard.client_order_id
            )

    async def _remove(self, guard: Guard, before: Resting, placed: Sequence[Condition]) -> None:
        """Those that were replaced, those that rest doubly, and a trailing stop that shall end."""
        replaced = {condition.kind for condition in placed}
        old: list[VenueOrder] = []
        for kind in (OrderKind.STOP, OrderKind.TARGET, OrderKind.TRAILING):
            old += before.of(kind) if kind in replaced else before.of(kind)[1:]
        old += before.trailing[:1] if guard.end_trailing and OrderKind.TRAILING not in replaced else []
        ids = {order.client_order_id for order in old} - {condition.client_order_id for condition in placed}
        old = [order for order in old if order.client_order_id in ids]
        if ids and not await clear(
            self._exchange, guard.symbol, lambda order: order.client_order_id in ids, self._patience, known=old
        ):
            logger().warning("replaced orders may be left", symbol=guard.symbol, client_order_id=guard.client_order_id)

    def _told(self, guard: Guard, before: Resting, placed: Sequence[Condition]) -> Protection:
        new = {condition.kind: condition.client_order_id for condition in placed}

        def id_of(kind: OrderKind) -> str:
            return new.get(kind) or next((order.client_order_id for order in before.of(kind)), "")

        ended = guard.end_trailing and OrderKind.TRAILING not in new
        return Protection(
            stop_loss=guard.stop_loss,
            take_profit=guard.take_profit,
            stop_order_id=id_of(OrderKind.STOP),
            target_order_id="" if guard.take_profit is None else id_of(OrderKind.TARGET),
            trailing_order_id="" if ended else id_of(OrderKind.TRAILING),
            confirmed_at=self._clock.now(),
        )


def _wanted(guard: Guard, quantity: Decimal) -> list[Condition]:
    order_side = order_side_of(guard.side, reduce_only=True)

    def condition(kind: OrderKind, order_id: str, price: Decimal | None, ratio: Decimal | None = None) -> Condition:
        return Condition(
            client_order_id=order_id,
            symbol=guard.symbol,
            kind=kind,
            order_side=order_side,
            quantity=quantity,
            trigger_price=price,
            callback_ratio=ratio,
        )

    wanted = [condition(OrderKind.STOP, stop_id(guard.client_order_id), guard.stop_loss)]
    if guard.take_profit is not None:
        wanted.append(condition(OrderKind.TARGET, target_id(guard.client_order_id), guard.take_profit))
    if guard.trailing is not None:
        trailing = guard.trailing
        order_id = trailing_id(guard.client_order_id)
        wanted.append(condition(OrderKind.TRAILING, order_id, trailing.activation_price, trailing.ratio))
    return wanted


def _rests(wanted: Condition, now: Resting) -> bool:
    """Whether the newest of its kind is just that one; a trailing stop is known by its id alone."""
    newest = next(iter(now.of(wanted.kind)), None)
    if newest is None:
        return False
    if wanted.kind is OrderKind.TRAILING:
        return newest.client_order_id == wanted.client_order_id
    return _is(newest, wanted)


def _is(order: VenueOrder, wanted: Condition) -> bool:
    """A trailing stop tells no ratio, and keeps its size."""
    if order.state is not OrderState.WORKING or wanted.kind is OrderKind.TRAILING:
        return order.state is OrderState.WORKING
    return order.quantity == wanted.quantity and order.trigger_price == wanted.trigger_price


def _trigger(orders: Sequence[VenueOrder]) -> Decimal | None:
    return orders[0].trigger_price if orders else None
