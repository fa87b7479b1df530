"""Stops auto-trading and leaves positions protected, or closes them; a user's ordinary way out, panic is the other.

What was on its way to the exchange when somebody said stop is named, and with "close" waited for, so that it is closed too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.position import CloseReason
from orchestrator.ports import Bus, Clock, Engine, OrderRecord, PositionRecord, Refusal, Stopped, SymbolResult, Transactions
from orchestrator.trading.bounded import each
from orchestrator.trading.close import Close
from orchestrator.trading.kept import kept
from orchestrator.trading.watch import Watch

CLOSES_AT_ONCE: Final = 32
"""More than most users hold, so that a panic whose engine hangs waits for one call and not for one after another."""

LOOKS: Final = 25
LOOK_SECONDS: Final = 0.2
"""Five seconds for entries on their way, which take one or two; then it says honestly that they still are."""

UNDER_WAY: Final = frozenset({OrderStatus.CLAIMED, OrderStatus.SENT, OrderStatus.UNKNOWN})
IF_KEPT: Final = "an entry is on its way: where it fills, its stop is placed with it"
IF_CLOSED: Final = "an entry is on its way and has no answer yet: what it opens is not closed by this; look again"


class Stop:
    """Switches auto-trading off."""

    def __init__(
        self,
        transactions: Transactions,
        engine: Engine,
        watch: Watch,
        close: Close,
        bus: Bus,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._watch = watch
        self._close = close
        self._bus = bus
        self._clock = clock
        self._pause = pause

    async def run(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        """Off first, committed; then each position is kept or closed, one by one's own result."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
            await unit.traders.switch_auto_trade_off(user_id, self._clock.wall())
            positions = await unit.positions.live_of_user(user_id)
            entries = _entries(await unit.orders.live_of_user(user_id))
            await unit.commit()
        await self._bus.publish(user_id, "settings", {})
        await self._bus.publish(user_id, "status", {})
        if close_positions:
            results = await self._closed(user_id, positions, entries)
        else:
            results = [] if trader is None else await kept(self._engine, trader, positions)
            results += [_on_its_way(order, IF_KEPT) for order in entries]
        return Stopped(auto_trade_enabled=False, positions=results)

    async def _closed(self, user_id: UUID, positions: list[PositionRecord], entries: list[OrderRecord]) -> list[SymbolResult]:
        await self._watch.catch_up(user_id)
        results = await close_all(self._close, positions, CloseReason.MANUAL)
        if not entries:
            return results
        for _ in range(LOOKS):
            opened, entries = await self._live(user_id)
            if not entries:
                break
            await self._pause(LOOK_SECONDS)
        known = {position.id for position in positions}
        results += await close_all(self._close, [one for one in opened if one.id not in known], CloseReason.MANUAL)
        return results + [_on_its_way(order, IF_CLOSED) for order in entries]

    async def _live(self, user_id: UUID) -> tuple[list[PositionRecord], list[OrderRecord]]:
        async with self._transactions() as unit:
            return await unit.positions.live_of_user(user_id), _entries(await unit.orders.live_of_user(user_id))


async def close_all(close: Close, positions: list[PositionRecord], reason: CloseReason) -> list[SymbolResult]:
    """Closes positions at once, each with its own result; one that fails never keeps another open."""

    async def one(position: PositionRecord) -> SymbolResult:
        done = await close.close(position.user_id, position.id, None, reason)
        if isinstance(done, Refusal):
            return SymbolResult(symbol=position.symbol, result=done.reason.value, detail=done.detail)
        return SymbolResult(symbol=position.symbol, result="closed" if done.left == 0 else "partly_closed")

    results = await each(positions, one, what="closing a position", at_once=CLOSES_AT_ONCE)
    answered = {result.symbol for result in results}
    lost = [
        SymbolResult(symbol=position.symbol, result="failed", detail="an inner error, see the log")
        for position in positions
        if position.symbol not in answered
    ]
    return results + lost


def _entries(orders: list[OrderRecord]) -> list[OrderRecord]:
    return [order for order in orders if order.purpose is OrderPurpose.ENTRY and order.status in UNDER_WAY]


def _on_its_way(order: OrderRecord, detail: str) -> SymbolResult:
    return SymbolResult(symbol=order.symbol, result="under_way", detail=detail)
