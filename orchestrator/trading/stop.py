"""Stops auto-trading and leaves positions protected, or closes them; a user's ordinary way out, panic is the other."""

from typing import Final
from uuid import UUID

from orchestrator.core.position import CloseReason
from orchestrator.ports import Bus, Clock, PositionRecord, Refusal, Stopped, SymbolResult, Transactions
from orchestrator.trading.bounded import each
from orchestrator.trading.close import Close
from orchestrator.trading.watch import Watch

CLOSES_AT_ONCE: Final = 32
"""More than most users hold, so that a panic whose engine hangs waits for one call and not for one after another."""


class Stop:
    """Switches auto-trading off."""

    def __init__(self, transactions: Transactions, watch: Watch, close: Close, bus: Bus, clock: Clock) -> None:
        self._transactions = transactions
        self._watch = watch
        self._close = close
        self._bus = bus
        self._clock = clock

    async def run(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        """Off first, committed; then each position is kept or closed, one by one's own result."""
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            await unit.traders.switch_auto_trade_off(user_id, self._clock.wall())
            positions = await unit.positions.live_of_user(user_id)
            await unit.commit()
        await self._bus.publish(user_id, "settings", {})
        await self._bus.publish(user_id, "status", {})
        if not close_positions:
            kept = [SymbolResult(symbol=position.symbol, result="kept", detail="its stop rests") for position in positions]
            return Stopped(auto_trade_enabled=False, positions=kept)
        await self._watch.catch_up(user_id)
        results = await close_all(self._close, positions, CloseReason.MANUAL)
        return Stopped(auto_trade_enabled=False, positions=results)


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
