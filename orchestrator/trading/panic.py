"""Panic: auto-trading off, approvals cancelled, everything flat, proven by a receipt.

In this order, each committed before the next: off; then, round by round until nothing is left or time is up, entries that have not left
are ended, every order of unknown outcome is settled and every open position is closed in parallel. A real account is flattened from the
exchange's own view meanwhile. Flat means no live position, no claim, no live order, and an exchange that shows none. Pressed again while
it runs, it is the same panic; one whose process died is taken over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from msgspec import structs

from orchestrator.core.order import LIVE, OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import OrchestratorError, StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import (
    Bus,
    Clock,
    Ids,
    OrderRecord,
    PanicReceipt,
    PositionRecord,
    ReceiptRecord,
    SymbolResult,
    Transactions,
)
from orchestrator.trading import announce
from orchestrator.trading.bounded import each
from orchestrator.trading.claims import free_entry, was_approved
from orchestrator.trading.close import Close
from orchestrator.trading.flatten import NOT_HEARD, NOTHING_REAL, WHOLE_ACCOUNT, Flatten, Flattened, prefix_of
from orchestrator.trading.settle import Settle
from orchestrator.trading.stop import close_all
from orchestrator.trading.watch import Watch
from shared.enums import Mode
from shared.execution import RealAccount

LASTS: Final = timedelta(seconds=20)
"""Wall time after which a panic says honestly what is still open."""

REAL_LASTS: Final = timedelta(seconds=45)
"""The same where an exchange must be heard: as long as one attempt of the engine may take, and a little."""

TAKE_OVER: Final = timedelta(seconds=50)
"""Wall time after which an unfinished panic is presumed abandoned by its process: longer than a living one lasts."""

ROWS_FOLLOW: Final = timedelta(seconds=5)
"""How long a panic that the exchange shows flat waits for its rows. What the books lack then they get by reconciliation."""

BETWEEN_ROUNDS: Final = 0.2
"""Seconds between two looks at what is left."""

READINGS_LAG: Final = timedelta(seconds=1.2)
"""How far the exchange's readings may be behind what was done there, and a little: the last reading of an attempt is as old as its end."""

WAITING: Final = "waiting"
"""The result of what a panic without the store could not look at."""

STORE_TRIES: Final = 5
"""How often the store is asked, that long apart, before it counts as away: a connection that broke is no reason to begin without it."""


class Panic:
    """Runs a user's panic and finishes those that a crash interrupted."""

    def __init__(
        self,
        transactions: Transactions,
        watch: Watch,
        close: Close,
        settle: Settle,
        flatten: Flatten,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transactions = transactions
        self._watch = watch
        self._close = close
        self._settle = settle
        self._flatten_real = flatten
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._pause = pause

    async def run(self, user_id: UUID, told: PanicReceipt | None = None) -> PanicReceipt:
        """Flattens a user; pressed while a panic runs, it waits for that one's receipt, and takes it over where it was abandoned.

        Where auto-trading was switched on again meanwhile, it is switched off, and another panic follows the one that runs.

        Args:
            user_id: Whose.
            told: The receipt of a panic that ran without the store: this one goes on under its id, with what it came to.
        """
        receipt, begun, anew = await self._begin(user_id, told)
        if not begun:
            receipt = await self._finished(receipt)
            if receipt.finished_at is not None and not anew:
                return _answer(receipt)
            receipt, begun, _ = await self._begin(user_id)
        return await self._flatten(receipt) if begun else _answer(receipt)

    async def resume(self) -> int:
        """Takes over panics whose process died; how many there were. Safe on several workers."""
        async with self._transactions() as unit:
            abandoned = await unit.receipts.unfinished(self._clock.wall() - TAKE_OVER)
        await each(abandoned, lambda receipt: self.run(receipt.user_id), what="resuming a panic")
        return len(abandoned)

    async def stands(self, user_id: UUID) -> bool:
        """Whether a panic of the user is under way; the shortest question there is."""
        async with self._transactions() as unit:
            return await unit.receipts.running(user_id) is not None

    async def _finished(self, receipt: ReceiptRecord) -> ReceiptRecord:
        """The receipt when its panic is done, or as it stands when that panic must be presumed abandoned."""
        until = receipt.started_at + TAKE_OVER
        while receipt.finished_at is None and self._clock.wall() < until:
            await self._pause(BETWEEN_ROUNDS)
            async with self._transactions() as unit:
                receipt = await unit.receipts.get(receipt.id) or receipt
        return receipt

    async def _begin(self, user_id: UUID, told: PanicReceipt | None = None) -> tuple[ReceiptRecord, bool, bool]:
        """The receipt of the panic that runs now, whether it is ours to carry, and whether somebody switched auto-trading on since."""
        wall, fresh = self._clock.wall(), self._ids.new()
        receipt, begun, anew = await self._asked(lambda: self._begun(user_id, wall, fresh, told))
        if begun:
            logger().warning("panic", user_id=str(user_id), receipt_id=str(receipt.id))
            await self._bus.publish(user_id, "settings", {})
            await announce.panic(self._bus, receipt)
        return receipt, begun, anew

    async def _begun(
        self, user_id: UUID, wall: datetime, fresh: UUID, told: PanicReceipt | None
    ) -> tuple[ReceiptRecord, bool, bool]:
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            running = await unit.receipts.running(user_id)
            if running is not None and (running.id == fresh or running.started_at == wall):
                return running, True, False  # Committed before, though nobody heard of it.
            was_on = await unit.traders.switch_auto_trade_off(user_id, wall)
            if running is not None and running.started_at > wall - TAKE_OVER:
                await unit.commit()
                return running, False, was_on
            if running is not None:
                receipt = structs.replace(running, started_at=wall)
                await unit.receipts.save(receipt)
            else:
                receipt = ReceiptRecord(id=fresh, user_id=user_id, started_at=wall, phase="stopping", results=[])
                if told is not None and await unit.receipts.get(told.receipt_id) is None:
                    known = [result for result in told.positions if result.result != WAITING]
                    receipt = structs.replace(receipt, id=told.receipt_id, results=known)
                await unit.receipts.add(receipt)
            await unit.commit()
        return receipt, True, False

    async def _asked[T](self, question: Callable[[], Awaitable[T]]) -> T:
        """What the store says, asked again where it failed: each question may be asked twice.

        Raises:
            StoreUnavailable: It is away.
        """
        for _ in range(STORE_TRIES - 1):
            try:
                return await question()
            except StoreUnavailable:
                await self._pause(BETWEEN_ROUNDS)
        return await question()

    async def _flatten(self, receipt: ReceiptRecord) -> PanicReceipt:
        receipt = await self._note(receipt, phase="closing")
        account = await self._asked(lambda: self._flatten_real.account(receipt.user_id))
        at_exchange = _AtExchange(self._flatten_real, receipt, account, self._clock)
        try:
            return await self._until_flat(receipt, at_exchange)
        finally:
            await at_exchange.end()

    async def _until_flat(self, receipt: ReceiptRecord, at_exchange: "_AtExchange") -> PanicReceipt:
        user_id = receipt.user_id
        lasts = LASTS if at_exchange.account is None else REAL_LASTS
        until, found = self._clock.wall() + lasts, {result.symbol: result for result in receipt.results}
        rows_until: datetime | None = None
        await self._asked(lambda: self._end_what_has_not_left(user_id))
        left = await self._asked(lambda: self._left(user_id))
        at_exchange.go_on(settled=not left.orders)
        await self._watch.catch_up(user_id)
        while True:
            await self._asked(lambda: self._end_what_has_not_left(user_id))
            left = await self._asked(lambda: self._left(user_id))
            at_exchange.go_on(settled=not left.orders)
            now = self._clock.wall()
            if at_exchange.flat and not left.matters:
                rows_until = rows_until or now + ROWS_FOLLOW
            if now >= until or (at_exchange.flat and not left.anything) or (rows_until is not None and now >= rows_until):
                break
            for result in [*await self._round(left.positions, left.orders), *at_exchange.said.results]:
                found[result.symbol] = result
            shown = max(len(left.positions), at_exchange.said.open_positions)
            receipt = await self._note(receipt, results=list(found.values()), open_positions=shown)
            await self._pause(BETWEEN_ROUNDS)
        flat = at_exchange.flat and not left.matters
        said = at_exchange.said
        found |= {result.symbol: result for result in said.results}
        receipt = await self._note(
            receipt,
            phase="flat" if flat else "not_flat",
            results=_final(found, [] if flat else left.positions, everything_closed=flat or said.flat),
            open_positions=0 if flat else max(len(left.positions), said.open_positions),
            open_orders=0 if flat else (len(left.orders) or left.claims) + said.open_orders,
            finished_at=self._clock.wall(),
        )
        return _answer(receipt)

    async def _round(self, positions: list[PositionRecord], orders: list[OrderRecord]) -> list[SymbolResult]:
        await each([order for order in orders if order.status in _UNSETTLED], self._settle.settle, what="settling in a panic")
        still_open = [position for position in positions if position.status is PositionStatus.OPEN and position.simulated]
        return await close_all(self._close, still_open, CloseReason.PANIC)

    async def _end_what_has_not_left(self, user_id: UUID) -> None:
        """Approvals are declined, and entries whose call has not been made are ended; those that were sent are settled later.

        An approval given before is taken back from what was sent, so that it is never sent again, not even after the panic.
        """
        stopped = Refusal(reason=RefusalReason.STOPPED, detail="stopped by panic")
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            ended = 0
            for order in await unit.orders.live_of_user(user_id):
                if order.purpose is not OrderPurpose.ENTRY:
                    continue
                if order.status in _NOT_LEFT:
                    ended += await free_entry(unit, order.id, _NOT_LEFT[order.status], stopped, self._clock.now())
                elif was_approved(order):
                    await unit.orders.advance(order, order.status, expires_at=None)
            await unit.commit()
        if ended:
            await self._bus.publish(user_id, "approvals", {"say": "What waited for approval was cancelled."})

    async def _left(self, user_id: UUID) -> "_Left":
        async with self._transactions() as unit:
            return _Left(
                positions=await unit.positions.live_of_user(user_id),
                orders=[order for order in await unit.orders.live_of_user(user_id) if order.status in LIVE],
                paper_claims=len(await unit.claims.of_user(user_id, Mode.PAPER)),
                real_claims=len(await unit.claims.of_user(user_id, Mode.REAL)),
            )

    async def _note(self, receipt: ReceiptRecord, **changes: object) -> ReceiptRecord:
        receipt = structs.replace(receipt, **changes)
        await self._asked(lambda: self._save(receipt))
        await announce.panic(self._bus, receipt)
        return receipt

    async def _save(self, receipt: ReceiptRecord) -> None:
        async with self._transactions() as unit:
            await unit.receipts.save(receipt)
            await unit.commit()


class _Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows still show of a user."""

    positions: list[PositionRecord]
    orders: list[OrderRecord]
    paper_claims: int
    real_claims: int

    @property
    def claims(self) -> int:
        return self.paper_claims + self.real_claims

    @property
    def anything(self) -> bool:
        return bool(self.positions or self.orders or self.claims)

    @property
    def matters(self) -> bool:
        """Whether it can still hold or bring anything, given that the exchange shows an account flat: its real positions are books alone."""
        return bool(self.orders or any(position.simulated for position in self.positions))


class _AtExchange:
    """The attempts to flatten one real account, beside the rounds of the rows; `said` is the exchange's last word.

    `flat` only by an attempt that saw it when no order was under way any more: another one's entry may be filled right behind it.
    """

    def __init__(self, flatten: Flatten, receipt: ReceiptRecord, account: RealAccount | None, clock: Clock) -> None:
        self.account = account
        self.said = NOTHING_REAL if account is None else NOT_HEARD
        self.flat = account is None
        self._flatten = flatten
        self._receipt = receipt
        self._attempt = 0
        self._under_way: asyncio.Task[Flattened] | None = None
        self._clock = clock
        self._settled_at: datetime | None = None
        self._begun_at = self._ended_at = clock.wall()
        self._booking: asyncio.Task[None] | None = None

    def go_on(self, *, settled: bool) -> None:
        """Takes what an attempt ended with, and begins the next one unless the account is flat; the books follow each attempt.

        Args:
            settled: No order of the user is under way now.
        """
        if self.account is None:
            return
        self._settled_at = (self._settled_at or self._clock.wall()) if settled else None
        if self._under_way is not None and self._under_way.done():
            self.said, self._under_way = self._outcome(self._under_way), None
            self.flat = self.said.flat and self._saw_all()
            self._book(self.account)
        if self._under_way is None and not self.flat and (settled or not self.said.flat):
            self._attempt += 1
            self._begun_at = self._clock.wall()
            prefix = prefix_of(self._receipt.id, self._receipt.started_at, self._attempt)
            self._under_way = asyncio.create_task(self._run(self.account, prefix))

    async def _run(self, account: RealAccount, prefix: str) -> Flattened:
        try:
            return await self._flatten.run(account, prefix)
        finally:
            self._ended_at = self._clock.wall()

    def _book(self, account: RealAccount) -> None:
        """Once an attempt, since the worker follows the account too: two truths of many symbols at once leave weight for neither."""
        if self._booking is None or self._booking.done():
            self._booking = asyncio.create_task(self._flatten.book(account))

    def _saw_all(self) -> bool:
        if self._settled_at is None:
            return False
        return self._begun_at >= self._settled_at or self._ended_at >= self._settled_at + READINGS_LAG

    async def end(self) -> None:
        """Waits for nothing any more; what the engine has begun it ends by itself."""
        tasks = [task for task in (self._under_way, self._booking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _outcome(self, attempt: asyncio.Task[Flattened]) -> Flattened:
        error = attempt.exception()
        if error is None:
            return attempt.result()
        if not isinstance(error, OrchestratorError):
            raise error
        logger().warning("an attempt to flatten ended early", error=f"{type(error).__name__}: {error}")
        return self.said


_NOT_LEFT: Final = {
    OrderStatus.AWAITING_APPROVAL: OrderStatus.DECLINED,
    OrderStatus.CLAIMED: OrderStatus.REFUSED,
}
_UNSETTLED: Final = frozenset({OrderStatus.SENT, OrderStatus.UNKNOWN})


def _final(found: dict[str, SymbolResult], left: list[PositionRecord], *, everything_closed: bool) -> list[SymbolResult]:
    """Each symbol's last word: what is not left was closed, by this panic or by the close that was under way.

    Of a real account only the exchange's word counts: unless it is flat, what it refused stays refused.
    """
    open_now = {position.symbol for position in left}
    seen = [
        result
        if result.symbol in open_now or result.result == "closed" or not everything_closed
        else SymbolResult(symbol=result.symbol, result="closed")
        for result in found.values()
        if result.symbol != WHOLE_ACCOUNT or not everything_closed
    ]
    waiting = [
        SymbolResult(symbol=symbol, result="closing", detail="its close has no answer yet")
        for symbol in sorted(open_now - set(found))
    ]
    return seen + waiting


def _answer(receipt: ReceiptRecord) -> PanicReceipt:
    return PanicReceipt(
        receipt_id=receipt.id,
        auto_trade_enabled=False,
        positions=receipt.results,
        open_positions=receipt.open_positions or 0,
        open_orders=receipt.open_orders or 0,
        flat=receipt.phase == "flat",
    )
