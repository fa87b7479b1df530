"""Looks back at signals, traded or not: did the target or the stop come first? What was never traded is learned from as well."""

from datetime import datetime, timedelta
from typing import Final

from orchestrator.core.barriers import Outcome, first_barrier
from orchestrator.errors import EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Clock, Engine, SignalRecord, Transactions
from orchestrator.trading.bounded import each
from orchestrator.trading.prices import rounds
from shared.analysis import SymbolMarks

LOOK_EVERY: Final = timedelta(hours=1)
"""Market time between two looks at one signal."""

GIVE_UP: Final = timedelta(hours=24)
"""Market time after which a signal that met neither barrier is NEITHER: a day trade that went nowhere."""

AT_MOST: Final = 20
"""Signals a run, the longest unseen first: each costs the engine a request for minute bars."""


class Review:
    """Writes outcomes of signals."""

    def __init__(self, transactions: Transactions, engine: Engine, clock: Clock) -> None:
        self._transactions = transactions
        self._engine = engine
        self._clock = clock

    async def run(self) -> int:
        """One look at old signals; how many found their outcome. Safe to run twice and on several workers."""
        async with self._transactions() as unit:
            signals = await unit.signals.unreviewed(self._clock.now() - LOOK_EVERY, AT_MOST)
        found = 0
        for since, asking in rounds([(signal.symbol, _seen_until(signal), signal) for signal in signals]):
            try:
                reply = await self._engine.marks(since)
            except EngineUnavailable as unavailable:
                logger().warning("signals cannot be reviewed", signals=len(signals), error=str(unavailable))
                return found
            answered = [(signal, reply.marks[signal.symbol]) for signal in asking if signal.symbol in reply.marks]
            gone = [signal for signal in asking if signal.symbol not in reply.marks]
            found += sum(await each(answered, self._judge, what="reviewing a signal"))
            found += sum(await each(gone, self._without_marks, what="reviewing a signal"))
        return found

    async def _judge(self, look: tuple[SignalRecord, SymbolMarks]) -> bool:
        signal, marks = look
        first = first_barrier(signal.side, signal.stop_loss, signal.take_profit, marks.bars)
        if first is not None:
            return await self._write(signal, first[0], first[1], marks.since)
        if marks.since - signal.created_at >= GIVE_UP:
            return await self._write(signal, Outcome.NEITHER, signal.created_at + GIVE_UP, marks.since)
        return await self._write(signal, None, None, marks.since)

    async def _without_marks(self, signal: SignalRecord) -> bool:
        """A symbol that has no price any more, delisted perhaps, is not asked for ever."""
        now = self._clock.now()
        over = now - signal.created_at >= GIVE_UP
        return await self._write(signal, Outcome.NEITHER if over else None, now if over else None, _seen_until(signal))

    async def _write(self, signal: SignalRecord, outcome: Outcome | None, at: datetime | None, seen_until: datetime) -> bool:
        async with self._transactions() as unit:
            written = await unit.signals.review(
                signal,
                outcome=outcome.value if outcome else None,
                outcome_at=at,
                reviewed_until=max(seen_until, _seen_until(signal)),
            )
            await unit.commit()
        return written and outcome is not None


def _seen_until(signal: SignalRecord) -> datetime:
    return signal.reviewed_until or signal.created_at
