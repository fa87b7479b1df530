"""From a signal to a position for one user: claim first, then the order, a position only from a fill.

Steps, each committed before the next: the order row with its claim (CLAIMED, or AWAITING_APPROVAL), SENT, then the one call to the
engine, then what came of it. Whoever dies between two steps leaves a row from which `settle` goes on; the order's id is looked up,
never guessed.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.core.answer import wrong_with
from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason, client_order_id
from orchestrator.core.position import CloseReason
from orchestrator.core.risk import OrderIntent, Plan, size_entry
from orchestrator.errors import Conflict, EngineRefused, EngineUnavailable, StoreUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import (
    Balances,
    Bus,
    Clock,
    Engine,
    Entered,
    Ids,
    Lifeline,
    OrderRecord,
    PositionRecord,
    SignalRecord,
    Trader,
    Transactions,
    UnitOfWork,
)
from orchestrator.trading import announce
from orchestrator.trading.accounts import Marks, Standing, standing_of, with_keys
from orchestrator.trading.balance_sync import BalanceSync
from orchestrator.trading.booking import book_entry
from orchestrator.trading.claims import (
    CARRY,
    asked_by,
    claim_of,
    entry_request,
    foreign_in,
    free_entry,
    refusal_record,
    stamped,
    stopped_for_real,
    taken,
    was_approved,
)
from shared.enums import ExecutionStatus, Mode
from shared.execution import EntryRequest, ExecutionReport
from shared.wire import plain

SIGNAL_LASTS: Final = timedelta(minutes=60)
"""Market time after its candle's close in which a signal may be entered; the engine bounds the drift of the price besides."""


class EntryRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided: whether real entries are dry runs, and how long an approval waits, wall time."""

    dry_run: bool = True
    approval_lasts: timedelta = timedelta(minutes=10)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that waits for the user's approval."""

    order_id: UUID
    symbol: str


class Enter:
    """Decides and carries entries."""

    def __init__(
        self,
        transactions: Transactions,
        engine: Engine,
        balances: Balances,
        sync: BalanceSync,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        lifeline: Lifeline,
        rules: EntryRules,
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._balances = balances
        self._sync = sync
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._lifeline = lifeline
        self._rules = rules

    async def decide(
        self, user_id: UUID, signal: SignalRecord, marks: Marks, received_at: datetime | None = None
    ) -> Entered | Waiting | Refusal:
        """Enters a signal for one user, leaves it for approval, or says why not; the "no" is kept.

        Args:
            user_id: Whose money.
            signal: Kept by the defence, stored.
            marks: Fresh mark prices of what users hold.
            received_at: Wall time at which the signal came from the engine, for `signal_to_fill_ms`.
        """
        await self.freshen(user_id)
        order = await self._claim(user_id, signal, marks)
        if isinstance(order, Refusal):
            if order.reason is RefusalReason.DUPLICATE_SIGNAL:
                return order
            await announce.signalled(self._bus, signal, user_id, "refused", order)
            return order
        if order.status is OrderStatus.AWAITING_APPROVAL:
            await announce.approval(self._bus, order, f"{order.symbol} {order.side} waits for your approval.")
            return Waiting(order_id=order.id, symbol=order.symbol)
        done = await self.carry(order, received_at)
        refusal = done if isinstance(done, Refusal) else None
        await announce.signalled(self._bus, signal, user_id, "refused" if refusal else "traded", refusal)
        return done

    async def freshen(self, user_id: UUID) -> None:
        """Has the real balance heard where a decision would find it too old."""
        await self._sync.freshen(user_id)

    async def carry(self, order: OrderRecord, received_at: datetime | None = None) -> Entered | Refusal:
        """Sends a CLAIMED entry: SENT is committed, then the one call. Somebody else's order is left alone.

        Auto-trading is asked for once more under the user's row: once "off" is committed, nothing leaves that nobody approved. The flag of a
        panic without the store counts as much, and so does all that an account makes no real entry for: a claim may wait for a dead process.
        """
        with bound_trace(order.trace_id):
            stopped, sent = await self._flag_is_up(order), None
            async with self._transactions() as unit:
                trader = await unit.traders.lock(order.user_id)
                refusal = _stopped(order) if trader is None or stopped else _held_back(trader, order)
                if refusal is not None:
                    await self._end_unsent(unit, order, refusal)
                else:
                    wall = self._clock.wall()
                    sent = await unit.orders.advance(
                        order,
                        OrderStatus.SENT,
                        sent_at=self._clock.now(),
                        carried_until=wall + CARRY,
                        request=stamped(order.request, wall),
                    )
                await unit.commit()
            return refusal or (_stopped(order) if sent is None else await self.send(sent, received_at))

    async def _flag_is_up(self, order: OrderRecord) -> bool:
        """Whether the user said stop while the store was away; with real money, silence counts as a yes."""
        try:
            return await self._lifeline.stopped(order.user_id)
        except StoreUnavailable:
            return order.mode is Mode.REAL and not order.dry_run

    async def _end_unsent(self, unit: UnitOfWork, order: OrderRecord, refusal: Refusal) -> None:
        now = await unit.orders.get(order.id)
        if now is not None and now.version == order.version:
            await free_entry(unit, order.id, OrderStatus.REFUSED, refusal, self._clock.now())

    async def send(self, order: OrderRecord, received_at: datetime | None = None, *, resume: bool = False) -> Entered | Refusal:
        """The call of a SENT or UNKNOWN entry and the booking of its answer. The engine answers the same id with the same report.

        With `resume` nothing new is opened: what the venue has of this id is finished. An engine that will not even look proves nothing.
        """
        request = msgspec.structs.replace(msgspec.convert(order.request, EntryRequest), resume=resume)
        request = await with_keys(self._transactions, order, request)
        try:
            report = await self._engine.enter(request)
        except EngineRefused as refused:
            if resume:
                return await self._leave_unknown(order, f"{refused.code}: {refused.detail}")
            return await self.free(
                order.id,
                OrderStatus.REFUSED,
                Refusal(reason=RefusalReason.VENUE_REFUSED, detail=f"{refused.code}: {refused.detail}"),
            )
        except EngineUnavailable as unavailable:
            return await self._leave_unknown(order, str(unavailable))
        return await self.book(order, report, received_at)

    async def book(self, order: OrderRecord, report: ExecutionReport, received_at: datetime | None = None) -> Entered | Refusal:
        """What a report does to an entry: a position, a freed claim, or an open question. Safe to repeat."""
        wrong = wrong_with(asked_by(order), report)
        if wrong is not None:
            return await self._leave_unknown(order, f"the report does not answer the order: {wrong}", alarming=True)
        if report.status is ExecutionStatus.FILLED and report.fills:
            return await self._open(order, report, received_at)
        if report.status is ExecutionStatus.REFUSED:
            detail = f"{report.refusal.code}: {report.refusal.detail}" if report.refusal else "the venue refused"
            return await self.free(order.id, OrderStatus.REFUSED, Refusal(reason=RefusalReason.VENUE_REFUSED, detail=detail))
        return await self._leave_unknown(order, "the venue does not know yet")

    async def free(self, order_id: UUID, status: OrderStatus, refusal: Refusal) -> Refusal:
        """Ends an entry without a position: the claim is freed, the order row stays with its reason, the "no" is kept."""
        async with self._transactions() as unit:
            order = await unit.orders.get(order_id)
            trader = await unit.traders.lock(order.user_id) if order else None
            if trader is None or not await free_entry(unit, order_id, status, refusal, self._clock.now()):
                return refusal
            await unit.commit()
        logger().info(
            "entry ended without a position",
            user_id=str(trader.id), order_id=str(order_id), symbol=order.symbol if order else "", reason=refusal.reason.value,
            detail=refusal.detail,
        )  # fmt: skip
        await self._bus.publish(trader.id, "status", {})
        return refusal

    async def judge(
        self, unit: UnitOfWork, trader: Trader, plan: Plan, marks: Marks, mode: Mode, *, dry: bool, without: UUID | None = None
    ) -> tuple[OrderIntent | Refusal, Standing]:
        """Risk on the account as it stands under the row's lock."""
        standing = await standing_of(unit, self._balances, trader, mode, marks, self._clock.now(), dry=dry, without=without)
        return size_entry(plan, trader, standing.state), standing

    async def _claim(self, user_id: UUID, signal: SignalRecord, marks: Marks) -> OrderRecord | Refusal:
        """The claim's own key has the last word, whatever the checks before it saw."""
        try:
            return await self._try_to_claim(user_id, signal, marks)
        except Conflict:
            refusal = Refusal(reason=RefusalReason.ENTRY_UNDER_WAY, detail=f"{signal.symbol} was claimed a moment before")
        async with self._transactions() as unit:
            await unit.refusals.add(refusal_record(refusal, signal, user_id, self._clock.now()))
            await unit.commit()
        return refusal

    async def _try_to_claim(self, user_id: UUID, signal: SignalRecord, marks: Marks) -> OrderRecord | Refusal:
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
            if trader is None:
                return Refusal(reason=RefusalReason.NOT_FOUND, detail="there is no such user")
            if await unit.signals.decided(user_id, signal.id):
                return Refusal(
                    reason=RefusalReason.DUPLICATE_SIGNAL, detail=f"this signal for {signal.symbol} was decided before"
                )
            order = await self._decide(unit, trader, signal, marks)
            if isinstance(order, Refusal):
                await unit.refusals.add(refusal_record(order, signal, user_id, self._clock.now()))
            await unit.commit()
        return order

    async def _decide(self, unit: UnitOfWork, trader: Trader, signal: SignalRecord, marks: Marks) -> OrderRecord | Refusal:
        now, mode = self._clock.now(), trader.mode
        if now - signal.candle_close > SIGNAL_LASTS:
            return Refusal(reason=RefusalReason.SIGNAL_STALE, detail=f"its candle closed at {signal.candle_close:%H:%M} UTC")
        plan = Plan(
            symbol=signal.symbol,
            side=signal.side,
            price=signal.signal_price,
            stop_loss=signal.stop_loss,
            instrument=signal.instrument,
        )
        intent, standing = await self.judge(unit, trader, plan, marks, mode, dry=self._dry(mode))
        held = stopped_for_real(trader, mode, dry_run=self._rules.dry_run) or taken(standing, signal.symbol)
        if held is None and mode is Mode.REAL:
            held = await foreign_in(unit, trader, signal.symbol)
        if held is not None:
            return held
        if isinstance(intent, Refusal):
            return intent
        order = self._order(trader, signal, intent, standing)
        await unit.orders.add(order)
        if not await unit.claims.add(claim_of(order, now)):
            raise Conflict(f"{signal.symbol} is claimed already")
        return order

    def _dry(self, mode: Mode) -> bool:
        return mode is Mode.REAL and self._rules.dry_run

    def _order(self, trader: Trader, signal: SignalRecord, intent: OrderIntent, standing: Standing) -> OrderRecord:
        order_id, wall = self._ids.new(), self._clock.wall()
        waits = not trader.auto_trade_enabled
        order = OrderRecord(
            id=order_id,
            client_order_id=client_order_id(OrderPurpose.ENTRY, order_id.bytes),
            user_id=trader.id,
            signal_id=signal.id,
            purpose=OrderPurpose.ENTRY,
            status=OrderStatus.AWAITING_APPROVAL if waits else OrderStatus.CLAIMED,
            symbol=signal.symbol,
            side=signal.side,
            mode=trader.mode,
            dry_run=self._dry(trader.mode),
            margin=intent.margin,
            notional=intent.notional,
            leverage=intent.leverage,
            signal_price=signal.signal_price,
            stop_loss=signal.stop_loss,
            take_profit=signal.take_profit,
            trace_id=signal.trace_id,
            created_at=self._clock.now(),
            expires_at=wall + self._rules.approval_lasts if waits else None,
            carried_until=None if waits else wall + CARRY,
        )
        return order if waits else msgspec.structs.replace(order, request=entry_request(order, trader, standing))

    async def _open(self, order: OrderRecord, report: ExecutionReport, received_at: datetime | None) -> Entered | Refusal:
        async with self._transactions() as unit:
            trader = await unit.traders.lock(order.user_id)
            took = None if received_at is None else (self._clock.wall() - received_at).total_seconds() * 1000
            position = None
            if trader is not None:
                position = await book_entry(
                    unit, trader, order.id, report, self._ids.new(), self._clock.now(), signal_to_fill_ms=took
                )
            if position is None:
                return await self._settled_before(unit, order)
            await unit.commit()
        await self._tell(order, position)
        return Entered(position_id=position.id, symbol=position.symbol)

    async def _settled_before(self, unit: UnitOfWork, order: OrderRecord) -> Entered | Refusal:
        """Another carrier was faster: answers what it did."""
        settled = await unit.orders.get(order.id)
        if settled is not None and settled.position_id is not None:
            return Entered(position_id=settled.position_id, symbol=settled.symbol)
        return Refusal(
            reason=RefusalReason.OUTCOME_UNKNOWN, detail=f"the entry in {order.symbol} was ended before its fill was booked"
        )

    async def _leave_unknown(self, order: OrderRecord, why: str, *, alarming: bool = False) -> Refusal:
        """Leaves the outcome open for `settle`; the claim stays, so that nothing else enters this symbol."""
        tell = logger().error if alarming and order.detail != why else logger().warning
        tell("the outcome of an entry is unknown", client_order_id=order.client_order_id, symbol=order.symbol, detail=why)
        async with self._transactions() as unit:
            await unit.orders.advance(order, OrderStatus.UNKNOWN, detail=why, carried_until=self._clock.wall())
            await unit.commit()
        return Refusal(
            reason=RefusalReason.OUTCOME_UNKNOWN,
            detail=f"the engine has not said what became of {order.symbol}; it is being settled",
        )

    async def _tell(self, order: OrderRecord, position: PositionRecord) -> None:
        logger().info(
            "position opened",
            user_id=str(position.user_id), position_id=str(position.id), order_id=str(order.id), symbol=position.symbol,
            side=position.side.value, mode=position.mode.value, client_order_id=order.client_order_id,
            quantity=plain(position.size.normalize()), price=plain(position.entry_price.normalize()),
        )  # fmt: skip
        await announce.opened(self._bus, position)
        if position.close_reason is CloseReason.UNPROTECTED:
            await self._tell_abandoned(position)

    async def _tell_abandoned(self, position: PositionRecord) -> None:
        logger().warning(
            "an entry was closed at once: its stop was not confirmed in time",
            user_id=str(position.user_id), position_id=str(position.id), symbol=position.symbol,
        )  # fmt: skip
        await announce.reduced(self._bus, position, position.opened_size)
        say = f"{position.symbol} was closed at once, because its stop was not confirmed in time."
        await announce.alert(self._bus, position.user_id, say)


def _held_back(trader: Trader, order: OrderRecord) -> Refusal | None:
    """Why a claimed entry may not leave any more, by what its user wants and may by now."""
    if order.mode is not trader.mode or not (trader.auto_trade_enabled or was_approved(order)):
        return _stopped(order)
    return stopped_for_real(trader, order.mode, dry_run=order.dry_run)


def _stopped(order: OrderRecord) -> Refusal:
    return Refusal(reason=RefusalReason.STOPPED, detail=f"the entry in {order.symbol} was stopped before it was sent")
