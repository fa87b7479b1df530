"""One scan for everyone: the engine analyses under a lease, the defence keeps what is new, and each user's own decision follows.

Reads like the arrow: lease → signals → defence (batch, recent) → stored → for each user risk, claim, entry. A lease that was lost while
the engine worked is said and its results are not traded. One user's failure never touches another.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.core.defence import RECENT, distinct, not_recent
from orchestrator.core.order import Refusal, RefusalReason
from orchestrator.errors import EngineUnavailable, LeaseLost
from orchestrator.log import bound_trace, logger
from orchestrator.ports import (
    Bus,
    Clock,
    Engine,
    Entered,
    Ids,
    Lease,
    Mutex,
    RefusalRecord,
    ScannedCloses,
    ScanRecord,
    SignalRecord,
    Transactions,
    UnitOfWork,
)
from orchestrator.trading import announce
from orchestrator.trading.bounded import each
from orchestrator.trading.claims import refusal_record
from orchestrator.trading.enter import Enter, Waiting
from orchestrator.trading.prices import fresh_marks
from shared.analysis import AnalyzeReply, AnalyzeRequest, Signal
from shared.wire import to_builtins

LEASE_SECONDS: Final = 15.0
"""Wall time of the scan's lease; it is extended each third of it while the engine works. A killed worker's lease delays the next scan by
as much."""

CANDLE: Final = timedelta(minutes=15)
"""The timeframe whose closes are scanned."""


class ScanOutcome(StrEnum):
    """How a scan ended."""

    DONE = "done"
    DONE_BEFORE = "done_before"
    ANOTHER_RUNS = "scan_running"
    LEASE_LOST = "lease_lost"
    ENGINE_UNAVAILABLE = "engine_unavailable"


class ScanResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan did: signals kept by the defence, and entries, approvals and refusals over all users."""

    outcome: ScanOutcome
    candidates: int = 0
    signals: int = 0
    entered: int = 0
    waiting: int = 0
    refused: int = 0
    wall_ms: float = 0.0


class ScanRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided: passed on to the engine where given, and how long a symbol and side is not repeated."""

    min_confidence: int | None = None
    top_n: int | None = None
    recent: timedelta = RECENT
    users_at_once: int = 8


class Scan:
    """Scans the market once for everyone."""

    def __init__(
        self,
        transactions: Transactions,
        engine: Engine,
        enter: Enter,
        mutex: Mutex,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        rules: ScanRules,
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._enter = enter
        self._mutex = mutex
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._rules = rules

    async def run(self, candle_close: datetime | None = None, scanned: ScannedCloses | None = None) -> ScanResult:
        """One scan, under its own trace id.

        Args:
            candle_close: The close that called for it; without one, the last close of market time.
            scanned: Given for a close that shall be scanned once: it is read and written under the lease, so that of two that ask at once
                one scans.

        Raises:
            StoreUnavailable: A store did not answer.
        """
        with bound_trace(self._ids.new().hex) as trace_id:
            async with self._mutex.hold("scan", LEASE_SECONDS) as lease:
                if lease is None:
                    logger().info("a scan runs already")
                    return ScanResult(outcome=ScanOutcome.ANOTHER_RUNS)
                close = candle_close or last_close(self._clock.now())
                if scanned is not None and await scanned.done(close):
                    return ScanResult(outcome=ScanOutcome.DONE_BEFORE)
                result = await self._scan(lease, close, trace_id)
                if scanned is not None and result.outcome is ScanOutcome.DONE:
                    await scanned.mark_done(close)
                return result

    async def _scan(self, lease: Lease, candle_close: datetime, trace_id: str) -> ScanResult:
        began = self._clock.wall()
        request = AnalyzeRequest(top_n=self._rules.top_n, min_confidence=self._rules.min_confidence)
        try:
            reply = await _while_held(lease, self._engine.analyze(request))
        except LeaseLost:
            logger().warning("the scan's lease was lost; its results are not traded", candle_close=candle_close.isoformat())
            return ScanResult(outcome=ScanOutcome.LEASE_LOST)
        except EngineUnavailable as unavailable:
            logger().warning("no scan: the engine did not answer", error=str(unavailable))
            return ScanResult(outcome=ScanOutcome.ENGINE_UNAVAILABLE)
        received = self._clock.wall()
        scan_id = self._ids.new()
        kept = await self._keep(reply, scan_id, candle_close, (received - began).total_seconds() * 1000, trace_id)
        counts, whole = await self._trade(kept, received)
        if whole:
            await self._decided({scan_id})
        result = ScanResult(
            outcome=ScanOutcome.DONE,
            candidates=len(reply.candidates),
            signals=len(kept),
            entered=counts["entered"],
            waiting=counts["waiting"],
            refused=counts["refused"],
            wall_ms=(self._clock.wall() - began).total_seconds() * 1000,
        )
        await self._tell(reply, candle_close, result)
        return result

    async def finish(self) -> int:
        """Decides what an interrupted scan of the newest candle left undecided, once; how many signals there were.

        Safe beside a scan and on several workers: the scan's own lease keeps them apart, and each decision is made once for each user.
        """
        newest = last_close(self._clock.now())
        if not await self._left(newest):
            return 0
        async with self._mutex.hold("scan", LEASE_SECONDS) as lease:
            left = await self._left(newest) if lease is not None else []
            if left:
                logger().warning("a scan was interrupted; its signals are decided now", signals=len(left))
                await self._trade(left, None)
                await self._decided({signal.scan_id for signal in left})
        return len(left)

    async def _left(self, newest: datetime) -> list[SignalRecord]:
        async with self._transactions() as unit:
            return await unit.signals.left(newest)

    async def _decided(self, scan_ids: set[UUID]) -> None:
        async with self._transactions() as unit:
            await unit.scans.decided(scan_ids, self._clock.now())
            await unit.commit()

    async def _keep(
        self, reply: AnalyzeReply, scan_id: UUID, candle_close: datetime, wall_ms: float, trace_id: str
    ) -> list[SignalRecord]:
        """Stores the scan and its signals, and answers those that the first two layers let through."""
        now = self._clock.now()
        batch, repeated = distinct(reply.signals)
        scan = _scan_record(scan_id, reply, candle_close, wall_ms, trace_id)
        async with self._transactions() as unit:
            recent = await unit.signals.recent(now - self._rules.recent)
            await unit.scans.add(scan)
            for signal, refusal in repeated:
                await unit.refusals.add(_unkept(signal, refusal, now, trace_id))
            stored = await self._store(unit, batch, scan.id, now, trace_id)
            kept, refused = not_recent(stored, recent)
            for record, refusal in refused:
                await unit.refusals.add(refusal_record(refusal, record, None, now))
            await unit.commit()
        for record, refusal in refused:
            await announce.signalled(self._bus, record, None, "refused", refusal)
        for record in kept:
            await announce.signalled(self._bus, record, None, "new")
        return kept

    async def _store(
        self, unit: UnitOfWork, batch: Sequence[Signal], scan_id: UUID, now: datetime, trace_id: str
    ) -> list[SignalRecord]:
        stored: list[SignalRecord] = []
        for signal in batch:
            record = _signal_record(self._ids.new(), scan_id, signal, now, trace_id)
            if await unit.signals.add(record):
                stored.append(record)
                continue
            detail = f"another scan signalled {signal.symbol} on the candle of {signal.candle_close:%H:%M}"
            duplicate = Refusal(reason=RefusalReason.DUPLICATE_SIGNAL, detail=detail)
            await unit.refusals.add(_unkept(signal, duplicate, now, trace_id))
        return stored

    async def _trade(self, signals: list[SignalRecord], received_at: datetime | None) -> tuple[Counter[str], bool]:
        """Each user's own decision on each signal, the most confident first; users at once, a user's signals one after another.

        Returns:
            How many ended how, and whether every decision was made.
        """
        if not signals:
            return Counter(), True
        async with self._transactions() as unit:
            users = [trader.id for trader in await unit.traders.all()]
            held = {position.symbol for position in await unit.positions.open_everywhere()}
        marks = await fresh_marks(self._engine, held, self._clock.now())
        ranked = sorted(signals, key=lambda signal: signal.confidence, reverse=True)

        async def decide(user_id: UUID) -> Counter[str]:
            async def one(signal: SignalRecord) -> str:
                return _word(await self._enter.decide(user_id, signal, marks, received_at))

            return Counter(await each(ranked, one, what="a user's decision", at_once=1))

        counted = await each(users, decide, what="a user's decisions", at_once=self._rules.users_at_once)
        counts = sum(counted, Counter())
        return counts, counts.total() == len(users) * len(ranked)

    async def _tell(self, reply: AnalyzeReply, candle_close: datetime, result: ScanResult) -> None:
        logger().info(
            "scan done",
            candle_close=candle_close.isoformat(), universe=reply.universe, screened=reply.screened, candidates=result.candidates,
            signals=result.signals, entries=result.entered, approvals=result.waiting, refusals=result.refused, ms=result.wall_ms,
            fallbacks="; ".join(reply.fallbacks),
        )  # fmt: skip
        next_scan_at = last_close(self._clock.now()) + CANDLE
        data = {
            "as_of": reply.as_of.isoformat(),
            "next_scan_at": next_scan_at.isoformat(),
            "candidates": result.candidates,
            "signals": result.signals,
        }
        await self._bus.publish(None, "scan", data)


def last_close(now: datetime) -> datetime:
    """The newest 15m close at or before a moment of market time."""
    return now - (now - datetime(1970, 1, 1, tzinfo=UTC)) % CANDLE


async def _while_held[T](lease: Lease, work: Awaitable[T]) -> T:
    """Runs the work while the lease is extended, and proves at the end that it was held throughout.

    Raises:
        LeaseLost: It was lost; the work is abandoned.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LEASE_SECONDS / 3)
            await lease.extend()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return task.result()


def _word(decision: Entered | Waiting | Refusal) -> str:
    if isinstance(decision, Entered):
        return "entered"
    return "waiting" if isinstance(decision, Waiting) else "refused"


def _scan_record(scan_id: UUID, reply: AnalyzeReply, candle_close: datetime, wall_ms: float, trace_id: str) -> ScanRecord:
    return ScanRecord(
        id=scan_id,
        candle_close=candle_close,
        as_of=reply.as_of,
        universe=reply.universe,
        screened=reply.screened,
        candidates=to_builtins(reply.candidates),
        signals=len(reply.signals),
        rejections=dict(Counter(rejection.reason.value for rejection in reply.rejections)),
        timings_ms=reply.timings_ms,
        wall_ms=wall_ms,
        analyst=reply.analyst.value,
        trace_id=trace_id,
        fallbacks=reply.fallbacks,
    )


def _signal_record(signal_id: UUID, scan_id: UUID, signal: Signal, now: datetime, trace_id: str) -> SignalRecord:
    return SignalRecord(
        id=signal_id,
        scan_id=scan_id,
        symbol=signal.symbol,
        side=signal.side,
        confidence=signal.confidence,
        signal_price=signal.signal_price,
        stop_loss=signal.stop_loss,
        take_profit=signal.take_profit,
        reward_risk=signal.reward_risk,
        reasoning=signal.reasoning,
        analyst=signal.analyst.value,
        model=signal.model,
        features=signal.features,
        whale=to_builtins(signal.whale) if signal.whale else None,
        instrument=signal.instrument,
        candle_close=signal.candle_close,
        created_at=now,
        trace_id=trace_id,
    )


def _unkept(signal: Signal, refusal: Refusal, now: datetime, trace_id: str) -> RefusalRecord:
    return RefusalRecord(
        user_id=None,
        signal_id=None,
        symbol=signal.symbol,
        reason=refusal.reason,
        detail=refusal.detail,
        at=now,
        trace_id=trace_id,
    )
