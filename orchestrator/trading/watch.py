"""Judges every open paper position on what the mark price did since the last look at it, and closes what a barrier caught.

Runs each wall second, on any number of workers: each change is a compare-and-set under the user's row. A worker that was down asks
from where it stopped, so a wick of an hour ago still counts, at its own time and price. A symbol without a fresh mark decides
nothing, and the others go on. One round's marks are told to the live pages.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from orchestrator.core.barriers import Judgement, judge
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import EngineUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import Bus, Clock, Engine, Ids, OrderRecord, PositionRecord, Transactions, UnitOfWork
from orchestrator.trading import announce
from orchestrator.trading.booking import book_funding, change_position
from orchestrator.trading.bounded import each
from orchestrator.trading.close import Close
from orchestrator.trading.prices import is_fresh, rounds
from shared.analysis import MarksReply, SymbolMarks
from shared.wire import plain


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What one look did."""

    positions: int = 0
    judged: int = 0
    triggered: int = 0


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

    async def run(self) -> Watched:
        """One look at everything that is open."""
        async with self._transactions() as unit:
            positions = await unit.positions.open_everywhere()
        if not positions:
            return Watched()
        looks, triggered = await self._judge(positions)
        return Watched(positions=len(positions), judged=len(looks), triggered=triggered)

    async def catch_up(self, user_id: UUID, position_id: UUID | None = None) -> dict[UUID, datetime]:
        """Judges a user's open positions, or one of them, up to now, before the user changes something about them.

        What the market did while nobody looked counts first: no stop is escaped by a close or an amendment.

        Returns:
            Up to which moment each was judged; those that could not be judged are absent.
        """
        async with self._transactions() as unit:
            live = await unit.positions.live_of_user(user_id)
        mine = [position for position in live if position.status is PositionStatus.OPEN and position_id in (None, position.id)]
        looks, _ = await self._judge([position for position in mine if position.simulated])
        return {look.position.id: look.as_of for look in looks}

    async def _judge(self, positions: list[PositionRecord]) -> tuple[list[Look], int]:
        looks = [look for since, held in self._questions(positions) for look in await self._look(since, held)]
        quiet = [(look.position, look.until) for look in looks if not look.acts and look.until > _asked_from(look.position)]
        if quiet:
            async with self._transactions() as unit:
                await unit.positions.judged(quiet)
                await unit.commit()
        acting = [look for look in looks if look.acts]
        return looks, sum(await each(acting, self._act, what="booking what the market did to a position"))

    def _questions(self, positions: list[PositionRecord]) -> list[tuple[dict[str, datetime], list[PositionRecord]]]:
        asked = rounds([(position.symbol, _asked_from(position), position) for position in positions])
        return [(dict(since), held) for since, held in asked]

    async def _look(self, since: dict[str, datetime], positions: list[PositionRecord]) -> list[Look]:
        try:
            reply = await self._engine.marks(since)
        except EngineUnavailable as unavailable:
            logger().warning("positions cannot be judged", positions=len(positions), error=str(unavailable))
            return []
        await self._publish(reply)
        self._note_missing(reply)
        looks: list[Look] = []
        for position in positions:
            marks = reply.marks.get(position.symbol)
            if marks is not None and is_fresh(marks):
                looks.append(_judged(position, marks))
        return looks

    def _note_missing(self, reply: MarksReply) -> None:
        """Says once, not each second, which symbols cannot be judged."""
        missing = frozenset(reply.missing)
        if missing - self._missing:
            logger().warning("positions without a mark are not judged", symbol=",".join(sorted(missing)), count=len(missing))
        self._missing = missing

    async def _act(self, look: Look) -> bool:
        position, judgement = look.position, look.judgement
        with bound_trace(self._ids.new().hex):
            async with self._transactions() as unit:
                order = await self._book(unit, position, judgement)
                await unit.commit()
            if judgement.payments:
                await self._bus.publish(position.user_id, "balance", {})
            if judgement.position.stop_loss != position.stop_loss:
                await announce.stop_moved(self._bus, judgement.position)
            if order is None:
                return False
            await self._close.carry(order)
            return True

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
            price=str(trigger.price), at_market=trigger.at.isoformat(),
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


def _judged(position: PositionRecord, marks: SymbolMarks) -> Look:
    judgement = judge(position, marks.bars, marks.funding, marks.since)
    return Look(position=position, judgement=judgement, until=marks.since, as_of=marks.as_of)
