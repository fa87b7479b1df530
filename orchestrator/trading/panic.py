"""Panic: auto-trading off, approvals cancelled, everything flat, proven by a receipt.

In this order, each committed before the next: off; then, round by round until nothing is left or time is up, entries that have not left
are ended, every order of unknown outcome is settled and every open position is closed in parallel. A real account is flattened from the
exchange's own view meanwhile. Flat means no live position, no claim, no live order, and an exchange that shows none. Pressed again while
it runs, it is the same panic; one whose process died is taken over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from msgspec import structs

from orchestrator.core.order import LIVE, OrderPurpose, OrderStatus, Refusal, RefusalReason
from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.errors import OrchestratorError
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

TAKE_OVER: Final = timedelta(seconds=30)
"""Wall time after which an unfinished panic is presumed abandoned by its process."""

REAL_LASTS: Final = timedelta(seconds=45)
"""The same where an exchange must be heard: as long as one attempt of the engine may take, and a little."""

BETWEEN_ROUNDS: Final = 0.2
"""Seconds between two looks at what is left."""


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

    async def run(self, user_id: UUID) -> PanicReceipt:
        """Flattens a user; pressed while a panic runs, it waits for that one's receipt, and takes it over where it was abandoned."""
        receipt, begun = await self._begin(user_id)
        if not begun:
            receipt = await self._finished(receipt)
            if receipt.finished_at is not None:
                return _answer(receipt)
            receipt, begun = await self._begin(user_id)
        return await self._flatten(receipt) if begun else _answer(receipt)

    async def resume(self) -> int:
        """Takes over panics whose process died; how many there were. Safe on several workers."""
        async with self._transactions() as unit:
            abandoned = await unit.receipts.unfinished(self._clock.wall() - TAKE_OVER)
        await each(abandoned, lambda receipt: self.run(receipt.user_id), what="resuming a panic")
        return len(abandoned)

    async def _finished(self, receipt: ReceiptRecord) -> ReceiptRecord:
        """The receipt when its panic is done, or as it stands when that panic must be presumed abandoned."""
        until = receipt.started_at + TAKE_OVER
        while receipt.finished_at is None and self._clock.wall() < until:
            await self._pause(BETWEEN_ROUNDS)
            async with self._transactions() as unit:
                receipt = await unit.receipts.get(receipt.id) or receipt
        return receipt

    async def _begin(self, user_id: UUID) -> tuple[ReceiptRecord, bool]:
        wall = self._clock.wall()
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            running = await unit.receipts.running(user_id)
            if running is not None and running.started_at > wall - TAKE_OVER:
                return running, False
            await unit.traders.switch_auto_trade_off(user_id, wall)
            if running is not None:
                receipt = structs.replace(running, started_at=wall)
                await unit.receipts.save(receipt)
            else:
                receipt = ReceiptRecord(id=self._ids.new(), user_id=user_id, started_at=wall, phase="stopping", results=[])
                await unit.receipts.add(receipt)
            await unit.commit()
        logger().warning("panic", user_id=str(user_id), receipt_id=str(receipt.id))
        await self._bus.publish(user_id, "settings", {})
        await announce.panic(self._bus, receipt)
        return receipt, True

    async def _flatten(self, receipt: ReceiptRecord) -> PanicReceipt:
        receipt = await self._note(receipt, phase="closing")
        at_exchange = _AtExchange(self._flatten_real, receipt.id, await self._flatten_real.account(receipt.user_id))
        try:
            return await self._until_flat(receipt, at_exchange)
        finally:
            await at_exchange.end()

    async def _until_flat(self, receipt: ReceiptRecord, at_exchange: "_AtExchange") -> PanicReceipt:
        lasts = LASTS if at_exchange.account is None else REAL_LASTS
        until, found = self._clock.wall() + lasts, {result.symbol: result for result in receipt.results}
        at_exchange.go_on()
        await self._watch.catch_up(receipt.user_id)
        while True:
            await self._end_what_has_not_left(receipt.user_id)
            positions, orders, claims = await self._left(receipt.user_id)
            at_exchange.go_on()
            if self._clock.wall() >= until or (at_exchange.said.flat and not (positions or orders or claims)):
                break
            for result in [*await self._round(positions, orders), *at_exchange.said.results]:
                found[result.symbol] = result
            shown = max(len(positions), at_exchange.said.open_positions)
            receipt = await self._note(receipt, results=list(found.values()), open_positions=shown)
            await self._pause(BETWEEN_ROUNDS)
        said = at_exchange.said
        found |= {result.symbol: result for result in said.results}
        left = (len(orders) or claims) + said.open_orders
        receipt = await self._note(
            receipt,
            phase="not_flat" if positions or left or not said.flat else "flat",
            results=_final(found, positions, everything_closed=said.flat),
            open_positions=max(len(positions), said.open_positions),
            open_orders=left,
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

    async def _left(self, user_id: UUID) -> tuple[list[PositionRecord], list[OrderRecord], int]:
        async with self._transactions() as unit:
            positions = await unit.positions.live_of_user(user_id)
            orders = [order for order in await unit.orders.live_of_user(user_id) if order.status in LIVE]
            claims = len(await unit.claims.of_user(user_id, Mode.PAPER)) + len(await unit.claims.of_user(user_id, Mode.REAL))
        return positions, orders, claims

    async def _note(self, receipt: ReceiptRecord, **changes: object) -> ReceiptRecord:
        receipt = structs.replace(receipt, **changes)
        async with self._transactions() as unit:
            await unit.receipts.save(receipt)
            await unit.commit()
        await announce.panic(self._bus, receipt)
        return receipt


class _AtExchange:
    """The attempts to flatten one real account, beside the rounds of the rows; `said` is the exchange's last word."""

    def __init__(self, flatten: Flatten, receipt_id: UUID, account: RealAccount | None) -> None:
        self.account = account
        self.said = NOTHING_REAL if account is None else NOT_HEARD
        self._flatten = flatten
        self._receipt_id = receipt_id
        self._attempt = 0
        self._under_way: asyncio.Task[Flattened] | None = None

    def go_on(self) -> None:
        """Takes what an attempt ended with, and begins the next one unless the account is flat."""
        if self._under_way is not None and self._under_way.done():
            self.said, self._under_way = self._outcome(self._under_way), None
        if self.account is not None and not self.said.flat and self._under_way is None:
            self._attempt += 1
            prefix = prefix_of(self._receipt_id, self._attempt)
            self._under_way = asyncio.create_task(self._flatten.run(self.account, prefix))

    async def end(self) -> None:
        """Waits for nothing any more; what the engine has begun it ends by itself."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

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
