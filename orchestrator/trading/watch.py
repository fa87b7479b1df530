"""Judges every open paper position on what the mark price did since the last look at it, and closes what a barrier caught.

Runs each wall second, on any number of workers: each change is a compare-and-set under the user's row. A worker that was down asks
from where it stopped, so a wick of an hour ago still counts, at its own time and price. A symbol without a fresh mark decides
nothing, and the others go on. One round's marks are told to the live pages.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from orchestrator.core.barriers import Judgement, judge
from orchestrator.core.order import Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import EngineUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import Bus, Clock, Closed, Engine, Ids, OrderRecord, PositionRecord, Transactions, UnitOfWork
from orchestrator.trading import announce
from orchestrator.trading.apart import Apart
from orchestrator.trading.booking import book_funding, change_position
from orchestrator.trading.bounded import each
from orchestrator.trading.close import Close
from orchestrator.trading.prices import is_fresh, is_sane, rounds
from orchestrator.trading.refused import RefusedCloses
from shared.analysis import MarksReply, SymbolMarks
from shared.wire import plain

PATIENCE_SECONDS: Final = 2.0
"""Wall time that a round waits for its bookings and closes; a slower one goes on apart, while the others are looked at again."""

AT_ONCE: Final = 32
"""Bookings and closes at a time."""

QUESTIONS_AT_ONCE: Final = 4


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What one look did; `refused` counts closes of triggered positions that the venue refused since the look before."""

    positions: int = 0
    judged: int = 0
    triggered: int = 0
    refused: int = 0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A position, what its bars did to it, where the next look starts, and up to when this one saw."""

    position: PositionRecord
    judgement: Judgement[PositionRecord]
    until: datetime
    as_of: datetime

    @property
    def acts(self) -> bool:
        """Whether more happened than time passing."""
        before, after = self.position, self.judgement.position
        moved = after.stop_loss != before.stop_loss or after.trailing_best != before.trailing_best
        return bool(self.judgement.payments) or self.judgement.trigger is not None or moved


class Watch:
    """Looks after open positions."""

    def __init__(self, transactions: Transactions, engine: Engine, close: Close, bus: Bus, clock: Clock, ids: Ids) -> None:
        self._transactions = transactions
        self._engine = engine
        self._close = close
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._missing: frozenset[str] = frozenset()
        self._broken: set[UUID] = set()
        self._refused = RefusedCloses(clock.wall)
        self._apart = Apart("booking what the market did to a position", PATIENCE_SECONDS, AT_ONCE)

    async def run(self) -> Watched:
        """One look at everything that is open."""
        async with self._transactions() as unit:
            positions = await unit.positions.open_everywhere()
        looks = await self._judge(positions) if positions else []
        triggered = sum(look.judgement.trigger is not None for look in looks)
        return Watched(positions=len(positions), judged=len(looks), triggered=triggered, refused=self._refused.count())

    async def end(self) -> None:
        """Cuts off closes that still wait for the engine; they are settled later."""
        await self._apart.end()

    async def catch_up(self, user_id: UUID, position_id: UUID | None = None) -> dict[UUID, datetime]:
        """Judges a user's open positions, or one of them, up to now, before the user changes something about them.

        What the market did while nobody looked counts first: no stop is escaped by a close or an amendment.

        Returns:
            Up to which moment each was judged; those that could not be judged are absent.
        """
        async with self._transactions() as unit:
            live = await unit.positions.live_of_user(user_id)
        mine = [position for position in live if position.status is PositionStatus.OPEN and position_id in (None, position.id)]
        looks = await self._judge([position for position in mine if position.simulated])
        return {look.position.id: look.as_of for look in looks}

    async def _judge(self, positions: list[PositionRecord]) -> list[Look]:
        free = [position for position in positions if not self._apart.busy(position.id)]
        found = await each(self._questions(free), self._look, what="asking for marks", at_once=QUESTIONS_AT_ONCE)
        looks = [look for some in found for look in some]
        quiet = [(look.position, look.until) for look in looks if not look.acts and look.until > _asked_from(look.position)]
        if quiet:
            async with self._transactions() as unit:
                await unit.positions.judged(quiet)
                await unit.commit()
        await self._apart.each({look.position.id: partial(self._act, look) for look in looks if look.acts and self._due(look)})
        return looks

    def _questions(self, positions: list[PositionRecord]) -> list[tuple[Mapping[str, datetime], list[PositionRecord]]]:
        return rounds([(position.symbol, _asked_from(position), position) for position in positions])

    def _due(self, look: Look) -> bool:
        """A close that the venue keeps refusing is tried again less and less often, but always again."""
        return look.judgement.trigger is None or self._refused.may_try(look.position.id)

    async def _look(self, question: tuple[Mapping[str, datetime], list[PositionRecord]]) -> list[Look]:
        since, positions = question
        try:
            reply = await self._engine.marks(since)
        except EngineUnavailable as unavailable:
            logger().warning("positions cannot be judged", positions=len(positions), error=str(unavailable))
            return []
        await self._publish(reply)
        self._note_missing(reply)
        looks = [self._judged(position, reply.marks.get(position.symbol)) for position in positions]
        return [look for look in looks if look is not None]

    def _judged(self, position: PositionRecord, marks: SymbolMarks | None) -> Look | None:
        """A look, or None without a fresh mark. A row or mark that cannot be reckoned with is said once and holds up no other."""
        if marks is None or not is_fresh(marks):
            return None
        try:
            judgement = judge(position, marks.bars, marks.funding, marks.since) if is_sane(marks) else None
        except ArithmeticError:
            judgement = None
        if judgement is None:
            self._note_broken(position)
            return None
        return Look(position=position, judgement=judgement, until=marks.since, as_of=marks.as_of)

    def _note_broken(self, position: PositionRecord) -> None:
        if position.id not in self._broken:
            self._broken.add(position.id)
            logger().error(
                "a position cannot be judged: its marks or its row give no number",
                position_id=str(position.id), symbol=position.symbol,
            )  # fmt: skip

    def _note_missing(self, reply: MarksReply) -> None:
        """Says once, not each second, which symbols cannot be judged."""
        missing = frozenset(reply.missing)
        if missing - self._missing:
            logger().warning("positions without a mark are not judged", symbol=",".join(sorted(missing)), count=len(missing))
        self._missing = missing

    async def _act(self, look: Look) -> None:
        position, judgement = look.position, look.judgement
        with bound_trace(self._ids.new().hex):
            async with self._transactions() as unit:
                order = await self._book(unit, position, judgement)
                await unit.commit()
            if judgement.payments:
                await self._bus.publish(position.user_id, "balance", {})
            if judgement.position.stop_loss != position.stop_loss:
                await announce.stop_moved(self._bus, judgement.position)
            if order is not None:
                self._note_close(position, await self._close.carry(order))

    def _note_close(self, position: PositionRecord, answer: Closed | Refusal) -> None:
        if not isinstance(answer, Refusal) or answer.reason is not RefusalReason.VENUE_REFUSED:
            self._refused.done(position.id)
        elif self._refused.refused(position.id):
            logger().error(
                "the venue keeps refusing to close a triggered position; it is tried again and again",
                user_id=str(position.user_id), position_id=str(position.id), symbol=position.symbol, detail=answer.detail,
            )  # fmt: skip

    async def _book(self, unit: UnitOfWork, seen: PositionRecord, judgement: Judgement[PositionRecord]) -> OrderRecord | None:
        """Funding, a moved stop and the beginning of a close in one transaction; nothing when the position moved since it was seen."""
        trader = await unit.traders.lock(seen.user_id)
        now = await unit.positions.get(seen.id)
        if trader is None or now is None or now.version != seen.version or now.status is not PositionStatus.OPEN:
            return None
        trader = await book_funding(unit, trader, seen, judgement.payments)
        changed = await change_position(unit, now, msgspec.structs.replace(judgement.position, version=now.version))
        if judgement.trigger is None:
            return None
        trigger = judgement.trigger
        logger().info(
            "a position was triggered",
            user_id=str(seen.user_id), position_id=str(seen.id), symbol=seen.symbol, kind=trigger.kind.value,
            price=plain(trigger.price.normalize()), at_market=trigger.at.isoformat(),
        )  # fmt: skip
        return await self._close.begin(unit, trader, changed, CloseReason(trigger.kind.value), trigger=trigger)

    async def _publish(self, reply: MarksReply) -> None:
        marks: dict[str, Any] = {
            symbol: {"mark_price": plain(marks.mark), "age_ms": marks.age_ms} for symbol, marks in reply.marks.items()
        }
        await self._bus.publish(None, "marks", {"at": reply.as_of.isoformat(), "marks": marks})


def _asked_from(position: PositionRecord) -> datetime:
    """From where bars and settlements are wanted: a settlement that is published late may lie before the last bar judged."""
    return min(position.judged_until, position.funded_until)
