"""Entries that wait because auto-trading is off: approved, declined or expired. What waits holds its claim.

An approval is priced and judged again at the moment it is given: the stop and target must still make sense at the price of now.
"""

from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import structs

from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.risk import Plan
from orchestrator.ports import Bus, Clock, Engine, Entered, OrderRecord, SignalRecord, Trader, Transactions, UnitOfWork
from orchestrator.trading import announce
from orchestrator.trading.accounts import Marks
from orchestrator.trading.bounded import each
from orchestrator.trading.claims import CARRY, entry_request, free_entry, stopped_for_real
from orchestrator.trading.enter import Enter
from orchestrator.trading.prices import fresh_marks

MIN_REWARD_RISK: Final = Decimal(1)
"""At the price of the approval the target must still be as far away as the stop, at least."""

AT_MOST: Final = 200
"""Expired approvals a run."""


class Approve:
    """Ends approvals, one way or the other."""

    def __init__(self, transactions: Transactions, engine: Engine, enter: Enter, bus: Bus, clock: Clock) -> None:
        self._transactions = transactions
        self._engine = engine
        self._enter = enter
        self._bus = bus
        self._clock = clock

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        """Enters what waits, at the price of now. A "no" of price or risk leaves it waiting until it expires."""
        async with self._transactions() as unit:
            waiting = await _find(unit, user_id, approval_id)
            held = await unit.positions.live_of_user(user_id)
        if isinstance(waiting, Refusal):
            return waiting
        if waiting.expires_at is not None and waiting.expires_at <= self._clock.wall():
            return await self._expire(waiting)
        marks = await fresh_marks(self._engine, {waiting.symbol, *(position.symbol for position in held)}, self._clock.now())
        await self._enter.freshen(user_id)
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
            order = await self._claim(unit, trader, approval_id, marks) if trader else None
            if order is None or isinstance(order, Refusal):
                return order or Refusal(reason=RefusalReason.NOT_FOUND, detail="there is no such user")
            await unit.commit()
        await announce.approval(self._bus, order, f"{order.symbol} is approved and on its way.")
        return await self._enter.carry(order)

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        """Drops what waits; None when it is gone now, also when it was declined before."""
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            order = await _find(unit, user_id, approval_id)
            if isinstance(order, Refusal):
                return None if order.reason is RefusalReason.DECLINED else order
            declined = Refusal(reason=RefusalReason.DECLINED, detail="declined by you")
            await free_entry(unit, order.id, OrderStatus.DECLINED, declined, self._clock.now())
            await unit.commit()
        await self._bus.publish(user_id, "status", {})
        await announce.approval(self._bus, order, f"{order.symbol} was declined.")
        return None

    async def expire(self) -> int:
        """Ends the approvals whose wall time is up; how many there were."""
        async with self._transactions() as unit:
            orders = await unit.orders.expired(self._clock.wall(), AT_MOST)
        await each(orders, self._expire, what="expiring an approval")
        return len(orders)

    async def _expire(self, order: OrderRecord) -> Refusal:
        """Ends it, unless it was decided in another window meanwhile."""
        refusal = Refusal(reason=RefusalReason.APPROVAL_EXPIRED, detail=f"nobody approved {order.symbol} in time")
        async with self._transactions() as unit:
            await unit.traders.lock(order.user_id)
            waiting = await _find(unit, order.user_id, order.id)
            if isinstance(waiting, Refusal):
                return waiting
            await free_entry(unit, order.id, OrderStatus.EXPIRED, refusal, self._clock.now())
            await unit.commit()
        await self._bus.publish(order.user_id, "status", {})
        await announce.approval(self._bus, order, f"{order.symbol} waited too long and expired.")
        return refusal

    async def _claim(self, unit: UnitOfWork, trader: Trader, approval_id: UUID, marks: Marks) -> OrderRecord | Refusal:
        order = await _find(unit, trader.id, approval_id)
        if isinstance(order, Refusal):
            return order
        if order.mode is not trader.mode:
            detail = f"{order.symbol} was proposed in {order.mode}, you are in {trader.mode} now"
            return Refusal(reason=RefusalReason.NOT_OPEN, detail=detail)
        stopped = stopped_for_real(trader, order.mode, dry_run=order.dry_run)
        if stopped is not None:
            return stopped
        signal = await unit.signals.get(order.signal_id) if order.signal_id else None
        price = marks.get(order.symbol)
        if signal is None or price is None:
            return Refusal(reason=RefusalReason.PRICE_UNKNOWN, detail=f"no fresh price of {order.symbol}; try again")
        worn = _worn_out(signal, price)
        if worn is not None:
            return worn
        plan = Plan(symbol=order.symbol, side=order.side, price=price, stop_loss=signal.stop_loss, instrument=signal.instrument)
        as_shown = structs.replace(trader, fixed_order_size=order.margin, leverage=order.leverage)
        intent, standing = await self._enter.judge(unit, as_shown, plan, marks, order.mode, dry=order.dry_run, without=order.id)
        if isinstance(intent, Refusal):
            return intent
        priced = structs.replace(order, signal_price=price)
        claimed = await unit.orders.advance(
            order,
            OrderStatus.CLAIMED,
            signal_price=price,
            request=entry_request(priced, trader, standing),
            carried_until=self._clock.wall() + CARRY,
        )
        return claimed or Refusal(reason=RefusalReason.NOT_OPEN, detail="it was decided in another window")


async def _find(unit: UnitOfWork, user_id: UUID, approval_id: UUID) -> OrderRecord | Refusal:
    order = await unit.orders.get(approval_id)
    if order is None or order.user_id != user_id or order.purpose is not OrderPurpose.ENTRY:
        return Refusal(reason=RefusalReason.NOT_FOUND, detail="there is no such approval")
    if order.status is OrderStatus.AWAITING_APPROVAL:
        return order
    if order.status is OrderStatus.EXPIRED:
        return Refusal(reason=RefusalReason.APPROVAL_EXPIRED, detail=f"the approval of {order.symbol} has expired")
    if order.status is OrderStatus.DECLINED:
        return Refusal(reason=RefusalReason.DECLINED, detail=f"{order.symbol} was declined before")
    return Refusal(reason=RefusalReason.NOT_OPEN, detail=f"{order.symbol} was approved before")


def _worn_out(signal: SignalRecord, price: Decimal) -> Refusal | None:
    """Whether the price has run past what the signal meant."""
    risk, reward = signal.side.sign * (price - signal.stop_loss), signal.side.sign * (signal.take_profit - price)
    if risk <= 0 or reward <= 0:
        return Refusal(reason=RefusalReason.BAD_PRICE, detail=f"at {price:f} {signal.symbol} is beyond its stop or target")
    if reward < MIN_REWARD_RISK * risk:
        return Refusal(
            reason=RefusalReason.BAD_PRICE, detail=f"at {price:f} the target of {signal.symbol} is nearer than its stop"
        )
    return None
