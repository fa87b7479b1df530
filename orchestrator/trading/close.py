"""Closes a position or a part of it, always reduce-only and at the position's own mode, once.

One transaction takes the position to CLOSING and commits the close order with its deterministic id; then the one call; then the booking.
A crash in between is settled by that id. A refusal puts the position back to OPEN, protected as before.
"""

from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec import structs

from orchestrator.core.answer import wrong_with
from orchestrator.core.order import UNDER_WAY, OrderPurpose, OrderStatus, Refusal, RefusalReason, client_order_id
from orchestrator.core.position import LIVE, CloseReason, PositionStatus
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import TRACE_ID, bound_trace, logger
from orchestrator.ports import (
    Balances,
    Bus,
    Clock,
    Closed,
    Engine,
    Ids,
    OrderRecord,
    PositionRecord,
    Trader,
    Transactions,
    UnitOfWork,
)
from orchestrator.trading import announce
from orchestrator.trading.accounts import account_of, with_keys, without_keys
from orchestrator.trading.booking import book_close, change_position, end_booked
from orchestrator.trading.claims import CARRY, asked_by
from shared.enums import ExecutionStatus
from shared.execution import CloseRequest, ExecutionReport, Trigger
from shared.margin import floor_to_step
from shared.wire import plain


class Close:
    """Begins, carries and books closes."""

    def __init__(self, transactions: Transactions, engine: Engine, balances: Balances, bus: Bus, clock: Clock, ids: Ids) -> None:
        self._transactions = transactions
        self._engine = engine
        self._balances = balances
        self._bus = bus
        self._clock = clock
        self._ids = ids

    async def close(
        self, user_id: UUID, position_id: UUID, quantity: Decimal | None, reason: CloseReason = CloseReason.MANUAL
    ) -> Closed | Refusal:
        """Closes at the market now; no quantity means all, more than there is means all."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
            position = await unit.positions.get(position_id)
            if trader is None or position is None or position.user_id != user_id:
                return Refusal(reason=RefusalReason.NOT_FOUND, detail="there is no such position")
            part = _part(position, quantity)
            if isinstance(part, Refusal):
                return part
            order = await self.begin(unit, trader, position, reason, quantity=part)
            await unit.commit()
        return await self.carry(order)

    async def begin(
        self,
        unit: UnitOfWork,
        trader: Trader,
        position: PositionRecord,
        reason: CloseReason,
        *,
        quantity: Decimal | None = None,
        trigger: Trigger | None = None,
    ) -> OrderRecord:
        """Takes an OPEN position to CLOSING with its close order, in the caller's transaction that holds the user's row.

        Raises:
            Conflict: The position moved since it was read.
        """
        order = await self._order(unit, trader, position, reason, quantity, trigger)
        await unit.orders.add(order)
        await change_position(unit, position, structs.replace(position, status=PositionStatus.CLOSING, close_reason=reason))
        return order

    async def carry(self, order: OrderRecord, *, resume: bool = False) -> Closed | Refusal:
        """The call of a SENT or UNKNOWN close and the booking of its answer.

        With `resume` nothing new is sent: what the venue has of this id is finished. An engine that will not even look proves nothing.
        """
        with bound_trace(order.trace_id):
            request = msgspec.convert(order.request, CloseRequest)
            request = structs.replace(request, resume=resume, widened_to=_widened_to(order, request) if resume else None)
            request = await with_keys(self._transactions, order, request)
            try:
                report = await self._engine.close(request)
            except EngineRefused as refused:
                if resume:
                    return await self._leave_unknown(order, f"{refused.code}: {refused.detail}")
                detail = f"{refused.code}: {refused.detail}"
                return await self.give_up(order, Refusal(reason=RefusalReason.VENUE_REFUSED, detail=detail))
            except EngineUnavailable as unavailable:
                return await self._leave_unknown(order, str(unavailable))
            return await self.book(order, report)

    async def book(self, order: OrderRecord, report: ExecutionReport) -> Closed | Refusal:
        """What a report does to a close: fills, the position as it was, or an open question. Safe to repeat."""
        wrong = wrong_with(asked_by(order), report)
        if wrong is not None:
            return await self._leave_unknown(order, f"the report does not answer the order: {wrong}", alarming=True)
        if report.status is ExecutionStatus.FILLED and report.fills:
            return await self._reduce(order, report)
        if report.status is ExecutionStatus.REFUSED:
            detail = f"{report.refusal.code}: {report.refusal.detail}" if report.refusal else "the venue refused"
            return await self.give_up(order, Refusal(reason=RefusalReason.VENUE_REFUSED, detail=detail))
        return await self._leave_unknown(order, "the venue does not know yet")

    async def give_up(self, order: OrderRecord, refusal: Refusal) -> Refusal:
        """Ends a close that did nothing: the position is OPEN again, protected and judged as before.

        Whoever was overtaken ends nothing: what it was told is no word on what another does by now.
        """
        async with self._transactions() as unit:
            await unit.traders.lock(order.user_id)
            now = await unit.orders.get(order.id)
            if now is None or now.status not in UNDER_WAY or now.position_id is None:
                return refusal
            if now.version != order.version:
                detail = f"the close of {order.symbol} was taken over and is being settled"
                return Refusal(reason=RefusalReason.OUTCOME_UNKNOWN, detail=detail)
            await unit.orders.advance(
                now, OrderStatus.REFUSED, reason=refusal.reason.value, detail=refusal.detail, settled_at=self._clock.now()
            )
            position = await unit.positions.get(now.position_id)
            if position is not None and position.status is PositionStatus.CLOSING:
                await change_position(unit, position, structs.replace(position, status=PositionStatus.OPEN, close_reason=None))
            await unit.commit()
        logger().warning(
            "a close was refused",
            user_id=str(order.user_id), position_id=str(order.position_id), symbol=order.symbol,
            client_order_id=order.client_order_id, detail=refusal.detail,
        )  # fmt: skip
        return refusal

    async def _order(
        self,
        unit: UnitOfWork,
        trader: Trader,
        position: PositionRecord,
        reason: CloseReason,
        quantity: Decimal | None,
        trigger: Trigger | None,
    ) -> OrderRecord:
        order_id, now = self._ids.new(), self._clock.now()
        opened_by = TRACE_ID.get() or order_id.hex
        name = client_order_id(OrderPurpose.CLOSE, order_id.bytes)
        book = await unit.positions.live_of_user(trader.id, position.mode)
        balance = self._balances.of(trader, position.mode).balance
        request = CloseRequest(
            account=account_of(trader, position.mode, book, balance, dry_run=position.dry_run),
            client_order_id=name,
            symbol=position.symbol,
            side=position.side,
            quantity=quantity if quantity is not None else position.size,
            trigger=trigger,
            sent_at=self._clock.wall(),
        )
        return OrderRecord(
            id=order_id,
            client_order_id=name,
            user_id=trader.id,
            signal_id=position.signal_id,
            position_id=position.id,
            purpose=OrderPurpose.CLOSE,
            status=OrderStatus.SENT,
            symbol=position.symbol,
            side=position.side,
            mode=position.mode,
            dry_run=position.dry_run,
            margin=position.margin,
            notional=position.size * position.entry_price,
            leverage=position.leverage,
            quantity=request.quantity,
            close_reason=reason,
            request=without_keys(request),
            trace_id=opened_by,
            created_at=now,
            sent_at=now,
            carried_until=self._clock.wall() + CARRY,
        )

    async def _reduce(self, order: OrderRecord, report: ExecutionReport) -> Closed | Refusal:
        async with self._transactions() as unit:
            trader = await unit.traders.lock(order.user_id)
            booked = await book_close(unit, trader, order.id, report, self._clock.now()) if trader else None
            if booked is None:
                await end_booked(unit, order.id, report, self._clock.now())
                await unit.commit()
                return await self._settled_before(unit, order)
            await unit.commit()
        position, quantity = booked
        await self._tell(order, position, quantity)
        return _closed(position, quantity)

    async def _settled_before(self, unit: UnitOfWork, order: OrderRecord) -> Closed | Refusal:
        """Another carrier was faster: answers what it did."""
        settled = await unit.orders.get(order.id)
        position = await unit.positions.get(order.position_id) if order.position_id else None
        if settled is None or position is None or settled.status is not OrderStatus.FILLED:
            return Refusal(reason=RefusalReason.NOT_OPEN, detail=f"the close of {order.symbol} was ended before")
        return _closed(position, settled.quantity or Decimal(0))

    async def _leave_unknown(self, order: OrderRecord, why: str, *, alarming: bool = False) -> Refusal:
        """Leaves the outcome open for `settle`; the position stays CLOSING, which is not flat."""
        tell = logger().error if alarming and order.detail != why else logger().warning
        tell("the outcome of a close is unknown", client_order_id=order.client_order_id, symbol=order.symbol, detail=why)
        async with self._transactions() as unit:
            await unit.orders.advance(order, OrderStatus.UNKNOWN, detail=why, carried_until=self._clock.wall())
            await unit.commit()
        return Refusal(
            reason=RefusalReason.OUTCOME_UNKNOWN,
            detail=f"the engine has not said what became of {order.symbol}; it is being settled",
        )

    async def _tell(self, order: OrderRecord, position: PositionRecord, quantity: Decimal) -> None:
        done = position.status not in LIVE
        logger().info(
            "position closed" if done else "position reduced",
            user_id=str(position.user_id), position_id=str(position.id), order_id=str(order.id), symbol=position.symbol,
            reason=position.close_reason.value if position.close_reason else "", quantity=plain(quantity.normalize()),
            pnl="" if position.pnl is None else plain(position.pnl.normalize()), status=position.status.value,
            client_order_id=order.client_order_id,
        )  # fmt: skip
        await announce.reduced(self._bus, position, quantity)


def _widened_to(order: OrderRecord, request: CloseRequest) -> Decimal | None:
    """What a close that was begun for a part is for by now, where that is more."""
    if request.quantity is None or order.quantity is None or order.quantity <= request.quantity:
        return None
    return order.quantity


def _part(position: PositionRecord, quantity: Decimal | None) -> Decimal | Refusal | None:
    if position.status is PositionStatus.CLOSING:
        return Refusal(reason=RefusalReason.NOT_OPEN, detail=f"a close of {position.symbol} is under way")
    if position.status is not PositionStatus.OPEN:
        return Refusal(reason=RefusalReason.NOT_OPEN, detail=f"{position.symbol} is closed")
    if quantity is None or quantity >= position.size:
        return None
    part = floor_to_step(quantity, position.step_size)
    if part <= 0:
        detail = f"the smallest part of {position.symbol} is {position.step_size.normalize():f}"
        return Refusal(reason=RefusalReason.BAD_QUANTITY, detail=detail)
    return part


def _closed(position: PositionRecord, quantity: Decimal) -> Closed:
    return Closed(
        position_id=position.id,
        symbol=position.symbol,
        closed_quantity=quantity,
        left=position.size,
        status=position.status.value,
        pnl=position.pnl,
    )
