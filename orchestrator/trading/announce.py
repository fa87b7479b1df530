"""What trading tells the live pages: structural events with a sentence each. Losing one loses nothing, pages read the rows again."""

from decimal import Decimal
from uuid import UUID

from orchestrator.core.order import Refusal
from orchestrator.core.position import LIVE, CloseReason
from orchestrator.ports import Bus, OrderRecord, PositionRecord, ReceiptRecord, SignalRecord
from shared.margin import round_to_tick

_CLOSED_BY = {
    CloseReason.STOP: "by its stop",
    CloseReason.TARGET: "at its target",
    CloseReason.TRAILING: "by its trailing stop",
    CloseReason.LIQUIDATION: "by liquidation",
    CloseReason.PANIC: "by panic",
    CloseReason.MANUAL: "by you",
    CloseReason.UNPROTECTED: "at once, because its stop was not confirmed",
    CloseReason.ADL: "by the exchange's auto-deleveraging",
    CloseReason.EXTERNAL: "at the exchange",
}


async def opened(bus: Bus, position: PositionRecord) -> None:
    """A position stands, protected."""
    entry = round_to_tick(position.entry_price, position.tick_size) if position.tick_size > 0 else position.entry_price
    say = f"{position.symbol} {position.side} opened at {entry.normalize():f}."
    await _position(bus, position, "opened", say)


async def reduced(bus: Bus, position: PositionRecord, closed: Decimal) -> None:
    """A position was closed, wholly or in part."""
    if position.status in LIVE:
        await _position(bus, position, "partly_closed", f"{position.symbol}: {closed.normalize():f} closed, the rest stays.")
        return
    by = _CLOSED_BY[position.close_reason or CloseReason.MANUAL]
    await _position(bus, position, "closed", f"{position.symbol} closed {by}, net {_money(position.pnl or Decimal(0))}.")


async def stop_moved(bus: Bus, position: PositionRecord) -> None:
    """Protection was amended, or trailing moved the stop."""
    stop = f"{position.stop_loss.normalize():f}" if position.stop_loss else "none"
    await _position(bus, position, "stop_moved", f"{position.symbol}: the stop is {stop} now.")


async def signalled(bus: Bus, signal: SignalRecord, user_id: UUID | None, outcome: str, refusal: Refusal | None = None) -> None:
    """What became of a signal, for one user or for everyone: "new", "refused", "traded" or "waiting"."""
    why = f": {refusal.detail}" if refusal else ""
    data = {
        "id": str(signal.id),
        "symbol": signal.symbol,
        "side": signal.side.value,
        "confidence": signal.confidence,
        "outcome": outcome,
        "reason": refusal.reason.value if refusal else None,
        "say": f"{signal.symbol} {signal.side}, {signal.confidence} of 100: {outcome}{why}.",
    }
    await bus.publish(user_id, "signals", data)


async def approval(bus: Bus, order: OrderRecord, say: str) -> None:
    """An entry waits for the user, or waits no more."""
    expires_at = order.expires_at.isoformat() if order.expires_at else None
    await bus.publish(
        order.user_id, "approvals", {"id": str(order.id), "symbol": order.symbol, "expires_at": expires_at, "say": say}
    )


async def panic(bus: Bus, receipt: ReceiptRecord) -> None:
    """How far a panic is."""
    data = {
        "receipt_id": str(receipt.id),
        "phase": receipt.phase,
        "positions": [{"symbol": result.symbol, "result": result.result} for result in receipt.results],
        "open_positions": receipt.open_positions,
        "open_orders": receipt.open_orders,
        "done": receipt.finished_at is not None,
    }
    await bus.publish(receipt.user_id, "panic", data)


async def alert(bus: Bus, user_id: UUID, say: str) -> None:
    """Something that its user should look at now."""
    await bus.publish(user_id, "notice", {"level": "alert", "say": say})
    await bus.publish(user_id, "status", {})


async def _position(bus: Bus, position: PositionRecord, change: str, say: str) -> None:
    data = {"id": str(position.id), "symbol": position.symbol, "change": change, "say": say}
    await bus.publish(position.user_id, "position", data)
    await bus.publish(position.user_id, "balance", {})
    await bus.publish(position.user_id, "status", {})


def _money(amount: Decimal) -> str:
    sign = "\N{MINUS SIGN}" if amount < 0 else "+"
    return f"{sign}${abs(amount):,.2f}"
