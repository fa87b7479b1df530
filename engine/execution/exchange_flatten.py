"""Closes everything of an account by the exchange's own view, again and again until it shows nothing or the time is up.

Symbols go side by side, and one that fails never stops another. No report store is asked: ids follow from the prefix, and reduce-only
orders may come twice.
"""

import asyncio
from decimal import Decimal

from engine.core.fills import average_price, order_side_of
from engine.core.order import OrderRefusal, no
from engine.errors import ExchangeError, VenueError
from engine.execution.asking import Bound, Patience, until
from engine.execution.drain import Drain, Drained
from engine.log import logger
from engine.ports import Clock, Exchange, MarketData
from shared.enums import ExecutionStatus, Side
from shared.execution import ExecutionReport, FlattenReply, VenueOrder, VenuePosition
from shared.problem import Problem

type View = tuple[list[VenuePosition], list[VenueOrder]]


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
        self._numbers: dict[tuple[str, Side], int] = {}
        self._reports: dict[tuple[str, Side], ExecutionReport] = {}

    async def run(self, prefix: str) -> FlattenReply | Problem:
        """A report per position, and what the exchange says is left; a Problem where it never said anything."""
        bound = Bound(self._patience.flatten)
        view = await self._view(bound)
        if view is None:
            return no(OrderRefusal.VENUE_AWAY, "the exchange does not say what is open")
        quiet = 0
        while quiet < 2:
            positions, orders = view
            quiet = 0 if positions or orders else quiet + 1
            await self._round(prefix, positions, orders, bound)
            if quiet < 2 and not await bound.pause(self._patience.poll if positions or orders else self._patience.apart):
                break
            seen = await self._view(bound) if quiet < 2 else view
            if seen is None:
                return self._reply(view, certain=False)
            view = seen
        return self._reply(view, certain=quiet >= 2)

    async def _view(self, bound: Bound) -> View | None:
        async def both() -> View:
            positions, orders = await asyncio.gather(self._exchange.positions(), self._exchange.working())
            return [position for position in positions if position.quantity > 0], orders

        return await until(both, bound, self._patience.poll)

    async def _round(self, prefix: str, positions: list[VenuePosition], orders: list[VenueOrder], bound: Bound) -> None:
        """Positions first: a stop goes only when nothing needs it any more."""
        for position in sorted(positions, key=lambda one: (one.symbol, one.side)):
            self._numbers.setdefault((position.symbol, position.side), len(self._numbers) + 1)
        held = {position.symbol for position in positions}
        closing = [self._drain(prefix, position, bound) for position in positions]
        await asyncio.gather(*closing, *(self._cancel(symbol) for symbol in {order.symbol for order in orders} - held))

    async def _drain(self, prefix: str, position: VenuePosition, bound: Bound) -> None:
        key = position.symbol, position.side
        base_id = f"{prefix}-{self._numbers[key]}"
        most = await self._most(position.symbol)
        drain = Drain(self._exchange, position.symbol, position.side, base_id, self._patience, most=most)
        drained = await drain.run(min(self._patience.drain, bound.left))
        self._reports[key] = self._report(base_id, position, drained, self._reports.get(key))
        if drained.flat:
            await self._cancel(position.symbol)

    async def _cancel(self, symbol: str) -> None:
        try:
            await Bound(self._patience.read).call(self._exchange.cancel_all(symbol))
        except VenueError as error:
            logger().warning("orders could not be cancelled", symbol=symbol, error=str(error))

    async def _most(self, symbol: str) -> Decimal | None:
        try:
            async with asyncio.timeout(self._patience.read):
                return (await self._market.instrument(symbol)).market_max_quantity
        except (ExchangeError, TimeoutError):
            return None

    def _report(self, base_id: str, position: VenuePosition, done: Drained, before: ExecutionReport | None) -> ExecutionReport:
        """What was closed of a position, over all rounds."""
        known = {fill.trade_id: fill for fill in (*(before.fills if before else ()), *done.fills)}
        fills = sorted(known.values(), key=lambda fill: fill.at)
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        return ExecutionReport(
            client_order_id=base_id,
            venue=self._venue,
            dry_run=False,
            status=ExecutionStatus.FILLED if done.flat and fills else ExecutionStatus.UNKNOWN,
            symbol=position.symbol,
            side=position.side,
            order_side=order_side_of(position.side, reduce_only=True),
            reduce_only=True,
            leverage=position.leverage,
            requested_quantity=before.requested_quantity if before else position.quantity,
            filled_quantity=filled,
            average_price=average_price(fills),
            fills=fills,
            refusal=None
            if done.flat
            else done.problem or no(OrderRefusal.OUTCOME_UNKNOWN, "the exchange does not show it closed"),
            as_of=self._clock.now(),
        )

    def _reply(self, view: View, *, certain: bool) -> FlattenReply:
        """Counts of the last reading; where it is not the last word, never zero and zero."""
        positions, orders = view
        left = len(positions) if certain or positions or orders else len(self._reports)
        return FlattenReply(
            reports=[self._reports[key] for key in sorted(self._reports)],
            open_positions=left,
            open_orders=len(orders),
            flat=certain and not positions and not orders,
            as_of=self._clock.now(),
        )
