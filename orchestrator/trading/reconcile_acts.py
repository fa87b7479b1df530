"""What the truth asks to be done: orphans cancelled, protection put back, a position closed whose stop is missing or does not fill.

Done after the booking was committed, outside any transaction; each act is safe to repeat, and the next truth judges what it did.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.core.order import OrderPurpose, OrderStatus, Refusal, RefusalReason, request_id, resting_order_id
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.core.truth import Resting, Shown, held_of, orphans_of, resting_for, triggered, working
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Bus, Clock, Engine, Ids, OrderRecord, PositionRecord, Transactions
from orchestrator.trading import announce
from orchestrator.trading.booking import change_position
from orchestrator.trading.booking_rows import with_protection
from orchestrator.trading.bounded import each
from orchestrator.trading.claims import first_sent
from orchestrator.trading.close import Close
from orchestrator.trading.lapses import Lapses
from orchestrator.trading.reconcile_booking import Before, Booked
from orchestrator.trading.settle import Settle
from shared.enums import ExecutionStatus, OrderState
from shared.execution import (
    Account,
    CancelRequest,
    Protection,
    ProtectRequest,
    TruthReply,
    VenueOrder,
    VenuePosition,
)

FILLS_WITHIN: Final = timedelta(seconds=1)
"""Wall time in which a stop that was triggered has to fill, which takes milliseconds; after it the position is closed at the market."""

BARE_AFTER: Final = timedelta(seconds=0.7)
"""Wall time between two glances that both show no stop before one is put back: a glance tells of no order that has just filled."""

BARE_FORGOTTEN: Final = timedelta(seconds=10)
"""Wall time after which a glance that showed no stop counts no more: pauses between glances grow up to four seconds."""

SHOWN_COUNTS: Final = timedelta(seconds=5)
"""Wall time for which what a look showed is judged again where the next ones are not heard: the budget for looking may be spent, that for
acting is not. A close is reduce-only and protection is read before it is put back, so that a look of then can do no harm now."""

CARRIED_WITHIN: Final = timedelta(seconds=2)
"""Wall time after the sending of an order in which whoever carries it may still place its stop, or close what has none; after it another
does."""

TARGET_AGAIN: Final = timedelta(seconds=60)
"""Wall time between two tries to put back a target: without one a position is protected all the same."""

NO_POSITION: Final = "no_position"
"""The engine's word for a position that the exchange holds no more."""

FAILURES_TOLD: Final = 3
"""Closes of one position that fail before it is an error in the log, as for any triggered close that the venue refuses."""

TRIES: Final = 2
"""Tries to put back a stop before the position is closed."""


class Protecting(StrEnum):
    """What came of asking for protection."""

    DONE = "DONE"
    GONE = "GONE"
    FAILED = "FAILED"


class Acts(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about one account, and whether somebody must look again within seconds."""

    cancel: dict[str, list[str]]
    naked: list[PositionRecord]
    resize: list[PositionRecord]
    untargeted: list[PositionRecord]
    stuck: list[PositionRecord]
    overdue: list[OrderRecord]
    rests: list[tuple[PositionRecord, Resting]]
    soon: bool
    wrong: bool = False
    """Whether a position is not protected as it should be, and who looks again within a moment is not too early."""
    orphaned: Collection[str] = frozenset()
    """Symbols in which we own nothing and the exchange holds what is not ours."""
    widened: Mapping[UUID, CloseReason] = {}
    """Of the overdue, closes of a part whose guard failed and is not waited for any more: they become closes of all, for that reason."""


class _Stance(msgspec.Struct, frozen=True, kw_only=True):
    """A position that the exchange holds, what rests for it, and for how long something that was triggered has not closed it."""

    position: PositionRecord
    held: VenuePosition
    resting: Resting
    waiting: timedelta | None

    @property
    def is_wrong(self) -> bool:
        return self.waiting is not None or self.resting.stop is None

    @property
    def is_stuck(self) -> bool:
        return self.waiting is not None and self.waiting >= FILLS_WITHIN


class Actor:
    """Decides and does it. What it remembers is only since when something stands: forgetting it costs seconds.

    Args:
        transactions: To note what rests.
        engine: Does it.
        close: Closes what cannot be protected.
        settle: Takes over an entry that stands unprotected, or a close of what does.
        bus: Tells the user.
        clock: Wall time.
        ids: For new requests.
    """

    def __init__(
        self, transactions: Transactions, engine: Engine, close: Close, settle: Settle, bus: Bus, clock: Clock, ids: Ids
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._close = close
        self._settle = settle
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._triggered: dict[tuple[UUID, str], datetime] = {}
        self._untargeted: dict[UUID, datetime] = {}
        self._bare: dict[UUID, tuple[datetime, datetime]] = {}
        self._shown: dict[UUID, tuple[datetime, Shown, dict[UUID, int]]] = {}
        self._dropped: set[UUID] = set()
        self._at_work: set[object] = set()
        self._failed: Counter[UUID] = Counter()
        self.lapses = Lapses(clock)

    def saw(self, user_id: UUID, positions: Iterable[PositionRecord], shown: Shown) -> None:
        """Remembers a look, for when the next ones are not heard; of positions that did not move meanwhile."""
        self._shown[user_id] = self._clock.wall(), shown, {position.id: position.version for position in positions}

    def forget(self, user_id: UUID) -> None:
        """A later look found nothing wrong."""
        self._shown.pop(user_id, None)

    def unheard(self, before: Before) -> Acts | None:
        """What the last look asks for by now, of what has not moved since; None where it is too old."""
        at, shown, versions = self._shown.get(before.trader.id, (None, None, {}))
        if at is None or shown is None or self._clock.wall() - at > SHOWN_COUNTS:
            return None
        still = [position for position in before.positions if versions.get(position.id) == position.version]
        return self.glance(msgspec.structs.replace(before, positions=still), shown)

    def judge(self, booked: Booked, truth: TruthReply) -> Acts:
        """What one truth asks for, of positions that did not move while it was asked."""
        owned = {position.symbol for position in booked.positions} | booked.unsettled
        cancel = orphans_of(truth, owned, booked.foreign_positions)
        orphaned = booked.foreign_positions - owned
        soon = bool(booked.held_back or booked.look_back_to or booked.unsure_foreign or orphans_of(truth, ()))
        naked, resize, untargeted, stuck, rests = [], [], [], [], []
        stances = self._stances(booked.positions, truth)
        wrong = {stance.position.symbol for stance in stances if stance.is_wrong}
        for stance in stances:
            position, held, resting = stance.position, stance.held, stance.resting
            if position.symbol in booked.unsettled or position.status is not PositionStatus.OPEN:
                continue  # whoever carries its order ends first
            if stance.is_stuck:
                stuck.append(position)
            elif resting.stop is None and self._has_just_filled(position, truth):
                soon = True
            elif resting.stop is None:
                naked.append(position)
            elif _oversized(resting, held.quantity):
                resize.append(position)
            elif resting.target is None and position.take_profit is not None and self._may_target(position):
                untargeted.append(position)
            rests.append((position, resting))
            if resting.stop is not None and resting.superfluous:
                cancel.setdefault(position.symbol, []).extend(order.client_order_id for order in resting.superfluous)
        standing = _standing(booked.under_way, truth, wrong)
        overdue = [order for order in standing if self._is_late(order)]
        failed = {stance.position.symbol: CloseReason.STOP for stance in stances if stance.is_stuck}
        return Acts(
            cancel=cancel,
            naked=naked,
            resize=resize,
            untargeted=untargeted,
            stuck=stuck,
            overdue=overdue,
            rests=rests,
            soon=soon or bool(wrong or standing),
            wrong=bool(wrong or standing),
            orphaned=orphaned,
            widened=_widened(overdue, booked.positions, failed),
        )

    def glance(self, before: Before, shown: Shown) -> Acts:
        """What cannot wait for the next truth, of what stands in the rows: a stop that does not fill, and no stop at all."""
        moving = {order.symbol for order in before.orders}
        stances = self._stances(before.positions, shown)
        wrong = {stance.position.symbol for stance in stances if stance.is_wrong}
        free = [one for one in stances if one.position.symbol not in moving and one.position.status is PositionStatus.OPEN]
        bare = {one.position.symbol for one in stances if self._stays_bare(one)}
        unguarded = {one.position.symbol for one in stances if one.position.symbol in bare and _is_unguarded(one, shown)}
        failed = dict.fromkeys(unguarded, CloseReason.UNPROTECTED)
        failed |= {one.position.symbol: CloseReason.STOP for one in stances if one.is_stuck}
        stuck = [one.position for one in free if one.is_stuck]
        naked = [one.position for one in free if not one.is_stuck and one.position.symbol in bare]
        standing = _standing(before.orders, shown, wrong)
        overdue = [order for order in standing if self._is_late(order)]
        amiss = bool(wrong or standing)
        return Acts(
            cancel={},
            naked=naked,
            resize=[],
            untargeted=[],
            stuck=stuck,
            overdue=overdue,
            rests=[],
            soon=amiss,
            wrong=amiss,
            widened=_widened(overdue, before.positions, failed),
        )

    async def act(self, user_id: UUID, account: Account, acts: Acts) -> None:
        """Does it: what leaves a position without a stop first, all at once, since one that takes long must not keep the others bare."""
        why = "its stop was triggered and did not fill"
        urgent: list[Callable[[], Awaitable[None]]] = [
            *(partial(self._alone, one.id, partial(self._give_up, one, CloseReason.STOP, why)) for one in acts.stuck),
            *(partial(self._alone, one.id, partial(self._protect_or_close, account, one)) for one in acts.naked),
            *(partial(self._take_over, one, acts.widened.get(one.id)) for one in acts.overdue),
        ]
        await each(urgent, lambda work: work(), what="protecting a position")
        for position in [*acts.resize, *acts.untargeted]:
            await self._protect(account, position, with_stop=False)
        for symbol, names in acts.cancel.items():
            await self._cancel(user_id, account, symbol, names, orphaned=symbol in acts.orphaned)

    async def _take_over(self, order: OrderRecord, whole: CloseReason | None) -> None:
        """A close of all waits for nobody who still looks for what became of the part, which takes seconds; but nobody else beside it."""
        widening = (order.id, "whole")
        if widening not in self._at_work:
            await self._alone(order.id if whole is None else widening, partial(self._settle.take_over, order, whole=whole))

    async def _alone(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        """Once at a time for a position or an order: looks overlap, and the second one would find it done by half."""
        if what in self._at_work:
            return
        self._at_work.add(what)
        try:
            await work()
        finally:
            self._at_work.discard(what)

    async def note(self, acts: Acts) -> None:
        """Writes down what rests where it is not what the rows say: the exchange is the authority."""
        for position, resting in acts.rests:
            after = _as_it_rests(position, resting, self._clock.now())
            if after is position:
                continue
            async with self._transactions() as unit:
                await unit.traders.lock(position.user_id)
                now = await unit.positions.get(position.id)
                if now is None or now.version != position.version:
                    continue
                changed = await change_position(unit, now, after)
                await unit.commit()
            if changed.stop_loss != position.stop_loss:
                await announce.stop_moved(self._bus, changed)

    def _stances(self, positions: Iterable[PositionRecord], shown: Shown) -> list["_Stance"]:
        """Those that the exchange holds, with what rests for them."""
        stances = []
        for position in positions:
            held = held_of(shown, position.symbol, position.side)
            if held is None:
                self._bare.pop(position.id, None)
                self.lapses.seen(position.id, bare=False)
                continue
            resting = resting_for(position, held.quantity, shown)
            if resting.stop is not None:
                self._bare.pop(position.id, None)
            waiting = self._since_triggered(position, resting, held)
            self.lapses.seen(position.id, bare=resting.stop is None or triggered(resting.stop, held))
            stances.append(_Stance(position=position, held=held, resting=resting, waiting=waiting))
        return stances

    def _since_triggered(self, position: PositionRecord, resting: Resting, held: VenuePosition) -> timedelta | None:
        """For how long an order that should have closed the position has not filled, seen here or told; None where none should."""
        orders = [order for order in (resting.stop, resting.target, resting.trailing) if order is not None]
        due = [order for order in orders if order.state is OrderState.WORKING and triggered(order, held)]
        for order in orders:
            if order not in due:
                self._triggered.pop((position.id, order.client_order_id), None)
        wall = self._clock.wall()
        seen = [wall - self._triggered.setdefault((position.id, order.client_order_id), wall) for order in due]
        told = [timedelta(seconds=order.triggered_seconds) for order in due if order.triggered_seconds is not None]
        return max([*seen, *told], default=None)

    def _has_just_filled(self, position: PositionRecord, truth: TruthReply) -> bool:
        """Whether what protected it filled a moment ago: positions are read before orders, so that it may be gone already."""
        names = {position.stop_order_id, position.target_order_id, position.trailing_order_id} - {None}
        if all(order.client_order_id not in names or order.state is not OrderState.FILLED for order in truth.orders):
            return False
        wall = self._clock.wall()
        return wall - self._triggered.setdefault((position.id, "filled"), wall) < FILLS_WITHIN

    def _stays_bare(self, stance: "_Stance") -> bool:
        """Whether glances that follow each other both showed no stop, or one did of what never had an order that could have filled."""
        if stance.resting.stop is not None:
            return False
        if _never_guarded(stance.position):
            return True
        wall = self._clock.wall()
        first, last = self._bare.get(stance.position.id, (wall, wall))
        first = wall if wall - last > BARE_FORGOTTEN else first
        self._bare[stance.position.id] = first, wall
        return wall - first >= BARE_AFTER

    def _is_late(self, order: OrderRecord) -> bool:
        if order.position_id in self._dropped:
            return True
        sent_at = first_sent(order)
        return sent_at is not None and self._clock.wall() - sent_at >= CARRIED_WITHIN

    def _may_target(self, position: PositionRecord) -> bool:
        tried = self._untargeted.get(position.id)
        return tried is None or self._clock.wall() - tried >= TARGET_AGAIN

    async def _protect_or_close(self, account: Account, position: PositionRecord) -> None:
        logger().warning(
            "a position has no stop at the exchange; it is put back",
            user_id=str(position.user_id), position_id=str(position.id), symbol=position.symbol,
        )  # fmt: skip
        for _ in range(TRIES):
            done = await self._protect(account, position, with_stop=True)
            if done is Protecting.DONE:
                self.lapses.put_right(position.id)
            if done is not Protecting.FAILED:
                return
        await self._give_up(position, CloseReason.UNPROTECTED, "its stop was missing and could not be put back")

    async def _protect(self, account: Account, position: PositionRecord, *, with_stop: bool) -> Protecting:
        """Whether the engine confirmed what rests; GONE where the exchange holds no such position any more: its exit is booked next.

        With the stop, it alone is asked for, so that no target's refusal keeps it away; else the target, and what rests sized anew.
        """
        self._untargeted[position.id] = self._clock.wall()
        request = ProtectRequest(
            account=account,
            client_order_id=request_id("p", self._ids.new().bytes),
            symbol=position.symbol,
            side=position.side,
            stop_loss=position.stop_loss if with_stop else None,
            take_profit=None if with_stop else position.take_profit,
        )
        try:
            report = await self._engine.protect(request)
        except EngineUnavailable as unavailable:
            logger().warning("protection was not confirmed", symbol=position.symbol, error=str(unavailable))
            return Protecting.FAILED
        if report.status is not ExecutionStatus.FILLED or report.protection is None:
            detail = report.refusal.detail if report.refusal else "no answer of the exchange"
            logger().warning("protection was refused", symbol=position.symbol, detail=detail)
            return Protecting.GONE if report.refusal is not None and report.refusal.code == NO_POSITION else Protecting.FAILED
        await self._note_protection(position, report.protection)
        return Protecting.DONE

    async def _note_protection(self, position: PositionRecord, protection: Protection) -> None:
        async with self._transactions() as unit:
            await unit.traders.lock(position.user_id)
            now = await unit.positions.get(position.id)
            if now is None or now.status is not PositionStatus.OPEN:
                return
            await change_position(unit, now, with_protection(now, protection))
            await unit.commit()

    async def _give_up(self, position: PositionRecord, reason: CloseReason, why: str) -> None:
        logger().warning(
            f"a position is closed at the market: {why}",
            user_id=str(position.user_id), position_id=str(position.id), symbol=position.symbol,
        )  # fmt: skip
        await announce.alert(self._bus, position.user_id, f"{position.symbol} is being closed at the market: {why}.")
        self._dropped.add(position.id)  # should this fail on its way, nobody carries what it may have committed
        answer = await self._close.close(position.user_id, position.id, None, reason)
        if not isinstance(answer, Refusal) or answer.reason is not RefusalReason.NOT_OPEN:
            self._dropped.discard(position.id)  # else a close is under way, which an earlier try may have left
        if isinstance(answer, Refusal):
            self._failed[position.id] += 1
            tell = logger().error if self._failed[position.id] >= FAILURES_TOLD else logger().warning
            tell("it could not be closed yet; it is tried again", symbol=position.symbol, detail=answer.detail)
        else:
            self._failed.pop(position.id, None)
            self.lapses.put_right(position.id)

    async def _cancel(self, user_id: UUID, account: Account, symbol: str, names: list[str], *, orphaned: bool) -> None:
        request = CancelRequest(account=account, symbol=symbol, client_order_ids=names, orphaned=orphaned)
        try:
            reply = await self._engine.cancel(request)
        except EngineRefused as refused:
            logger().warning(
                "orders that nobody owns were not cancelled", user_id=str(user_id), symbol=symbol, error=str(refused)
            )
        except EngineUnavailable as unavailable:
            logger().warning(
                "whether orders were cancelled is unknown", user_id=str(user_id), symbol=symbol, error=str(unavailable)
            )
        else:
            logger().info("orders that nobody owns were cancelled", user_id=str(user_id), symbol=symbol, count=len(reply.gone))


def _standing(under_way: Iterable[OrderRecord], truth: Shown, wrong: Collection[str]) -> list[OrderRecord]:
    """Orders under way of which a position stands without protection: an entry's own, or one that a close should have ended."""
    return [
        order
        for order in under_way
        if _stands_naked(order, truth) or (order.purpose is OrderPurpose.CLOSE and order.symbol in wrong)
    ]


def _widened(
    overdue: Iterable[OrderRecord], positions: Iterable[PositionRecord], failed: Mapping[str, CloseReason]
) -> dict[UUID, CloseReason]:
    """Closes of less than their position holds, of a symbol whose guard failed."""
    sizes = {position.id: position.size for position in positions if position.symbol in failed}
    return {
        order.id: failed[order.symbol]
        for order in overdue
        if order.position_id in sizes and order.quantity is not None and order.quantity < sizes[order.position_id]
    }


def _stands_naked(order: OrderRecord, truth: Shown) -> bool:
    """Whether an entry under way stands at the exchange without a stop that waits: whoever carried it may have died."""
    if order.purpose is not OrderPurpose.ENTRY or order.status is OrderStatus.CLAIMED:
        return False
    held = held_of(truth, order.symbol, order.side)
    stop = resting_order_id("s", order.client_order_id)
    return held is not None and all(one.client_order_id != stop or triggered(one, held) for one in working(truth))


def _never_guarded(position: PositionRecord) -> bool:
    """Whether nothing was ever seen to rest for it, as after an entry that was neither protected nor closed."""
    return position.stop_order_id is None and position.target_order_id is None and position.trailing_order_id is None


def _is_unguarded(stance: _Stance, shown: Shown) -> bool:
    """Whether nothing of ours covers even what the row holds: where a hand added to it, what is ours may be guarded as it was."""
    ours = min(stance.position.size, stance.held.quantity)
    return resting_for(stance.position, ours, shown).stop is None


def _oversized(resting: Resting, quantity: Decimal) -> bool:
    """Whether what rests is for more than there is, as after a part was closed at the exchange."""
    return any(
        order is not None and not order.close_position and order.quantity - order.filled_quantity > quantity
        for order in (resting.stop, resting.target)
    )


def _as_it_rests(position: PositionRecord, resting: Resting, now: datetime) -> PositionRecord:
    """The row with what rests; itself where it says so already, or where no stop rests."""
    stop = resting.stop
    if stop is None:
        return position
    after = msgspec.structs.replace(
        position,
        stop_order_id=stop.client_order_id,
        target_order_id=_name(resting.target),
        trailing_order_id=_name(resting.trailing),
        stop_loss=stop.trigger_price or position.stop_loss,
        take_profit=(resting.target.trigger_price if resting.target is not None else None) or position.take_profit,
    )
    if after == position:
        return position
    return msgspec.structs.replace(after, protected_at=now)


def _name(order: VenueOrder | None) -> str | None:
    return order.client_order_id if order is not None else None
