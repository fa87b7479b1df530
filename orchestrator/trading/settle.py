"""Settles what a crash or a time-out left open: looks each order's id up and books what became of it.

Runs at start and every few seconds, on any number of workers: an order is taken over by compare-and-set when its carrier's time is
up. An unknown outcome is never settled by a guess. For PAPER and a dry run NOT_FOUND proves that nothing happened, so the same
request may be sent again under the same id while its reason lasts; a real order is never sent again: the engine finishes what the
exchange has of its id, or proves that it never arrived.
"""

from datetime import timedelta
from typing import Any, Final

import msgspec

from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import CloseReason
from orchestrator.errors import EngineUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import Clock, Engine, OrderRecord, Transactions, UnitOfWork
from orchestrator.trading.bounded import each
from orchestrator.trading.claims import CARRY, was_approved
from orchestrator.trading.close import Close
from orchestrator.trading.enter import Enter
from shared.enums import Mode, OrderLookup
from shared.execution import Account, CloseRequest, EntryRequest

RESEND_WITHIN: Final = timedelta(minutes=15)
"""Market time after the first sending in which an entry, or a close that somebody wished for, may be sent again: one candle. A
triggered close may be sent for ever, since its time and price are fixed."""

ASK_AGAIN: Final = timedelta(seconds=2)
"""Wall time between two looks at an order whose outcome stays unknown."""

AT_MOST: Final = 100
"""Orders a run, the oldest first."""


class Settle:
    """Takes abandoned orders over and ends them."""

    def __init__(self, transactions: Transactions, engine: Engine, enter: Enter, close: Close, clock: Clock) -> None:
        self._transactions = transactions
        self._engine = engine
        self._enter = enter
        self._close = close
        self._clock = clock

    async def run(self) -> int:
        """Settles every order whose carrier's time is up; how many were looked at."""
        async with self._transactions() as unit:
            orders = await unit.orders.under_way(self._clock.wall(), AT_MOST)
        await each(orders, self.settle, what="settling an order")
        return len(orders)

    async def settle(self, order: OrderRecord) -> None:
        """Settles one order, unless somebody still carries it or takes it over first."""
        if order.carried_until is None or order.carried_until <= self._clock.wall():
            await self.take_over(order)

    async def take_over(self, order: OrderRecord, *, whole: CloseReason | None = None) -> None:
        """Settles one order whoever carries it, unless the row has moved: for what stands at the exchange and cannot wait.

        With `whole` the close of a part becomes one of all that is left, for that reason.
        """
        wall = self._clock.wall()
        async with self._transactions() as unit:
            wider = await _widened(unit, order, whole) if whole is not None else {}
            mine = await unit.orders.advance(order, order.status, carried_until=wall + CARRY, **wider)
            await unit.commit()
        if mine is None:
            return
        with bound_trace(mine.trace_id):
            if mine.status is OrderStatus.CLAIMED:
                await self._continue(mine)
            elif mine.mode is Mode.PAPER or mine.dry_run:
                await self._look_up(mine)
            else:
                await self._resume(mine)

    async def _resume(self, order: OrderRecord) -> None:
        if order.purpose is OrderPurpose.ENTRY:
            await self._enter.send(order, resume=True)
        else:
            await self._close.carry(order, resume=True)

    async def _continue(self, order: OrderRecord) -> None:
        """Nothing has left yet: a young entry that is still wanted goes on, another is freed."""
        if self._clock.now() - order.created_at <= RESEND_WITHIN and await self._wanted(order):
            await self._enter.carry(order)
            return
        await self._enter.free(order.id, OrderStatus.REFUSED, _interrupted(order))

    async def _look_up(self, order: OrderRecord) -> None:
        try:
            reply = await self._engine.order(order.client_order_id, _account(order))
        except EngineUnavailable as unavailable:
            logger().warning("an order cannot be looked up yet", client_order_id=order.client_order_id, error=str(unavailable))
            await self._wait(order)
            return
        logger().info(
            "an order was looked up", client_order_id=order.client_order_id, symbol=order.symbol, status=reply.state.value
        )
        if reply.state is OrderLookup.FILLED and reply.report is not None:
            await (self._enter if order.purpose is OrderPurpose.ENTRY else self._close).book(order, reply.report)
        elif reply.state is OrderLookup.NOT_FOUND:
            await self._send_again_or_end(order)
        else:
            await self._wait(order)

    async def _send_again_or_end(self, order: OrderRecord) -> None:
        young = order.sent_at is not None and self._clock.now() - order.sent_at <= RESEND_WITHIN
        if order.purpose is OrderPurpose.ENTRY:
            if young and await self._wanted(order):
                await self._enter.send(order)
            else:
                await self._enter.free(order.id, OrderStatus.REFUSED, _interrupted(order))
        elif young or _triggered(order):
            await self._close.carry(order)
        else:
            await self._close.give_up(order, _interrupted(order))

    async def _wanted(self, order: OrderRecord) -> bool:
        """Whether the user would still have this entry: no panic runs, and it was approved or auto-trading is on."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(order.user_id)
            panicking = await unit.receipts.running(order.user_id) is not None
        return trader is not None and not panicking and (was_approved(order) or trader.auto_trade_enabled)

    async def _wait(self, order: OrderRecord) -> None:
        async with self._transactions() as unit:
            await unit.orders.advance(order, order.status, carried_until=self._clock.wall() + ASK_AGAIN)
            await unit.commit()


async def _widened(unit: UnitOfWork, order: OrderRecord, reason: CloseReason) -> dict[str, Any]:
    """What changes in the row of a part's close that closes all; nothing in any other."""
    if order.purpose is not OrderPurpose.CLOSE or order.position_id is None or order.quantity is None:
        return {}
    position = await unit.positions.get(order.position_id)
    if position is None or order.quantity >= position.size:
        return {}
    return {"quantity": position.size, "close_reason": reason}


def _account(order: OrderRecord) -> Account:
    if order.purpose is OrderPurpose.ENTRY:
        return msgspec.convert(order.request, EntryRequest).account
    return msgspec.convert(order.request, CloseRequest).account


def _triggered(order: OrderRecord) -> bool:
    return order.request is not None and order.request.get("trigger") is not None


def _interrupted(order: OrderRecord) -> Refusal:
    return Refusal(
        reason=RefusalReason.ENGINE_UNAVAILABLE,
        detail=f"the order in {order.symbol} was interrupted, provably did nothing, and is too old or no longer wanted",
    )
