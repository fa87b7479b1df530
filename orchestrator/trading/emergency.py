"""Panic without the store: the stop flag and the exchange's own view are enough to be flat; the rows follow when PostgreSQL is back.

Stands beside `panic`: the desk turns here only where the store does not answer. Paper positions live in the store alone and wait for it.
Nothing is sent in a dry run, nor for a user who is not known to be in REAL: the lifeline holds keys of nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import Clock, Engine, Ids, Lifeline, PanicReceipt, SymbolResult
from orchestrator.trading.bounded import each
from orchestrator.trading.flatten import Flattened, account_without_store, flatten, prefix_of
from orchestrator.trading.panic import WAITING, Panic

LASTS: Final = timedelta(seconds=45)
"""Wall time after which it says honestly what is still open."""

BETWEEN: Final = 0.5
"""Seconds between two attempts."""

WAITS_FOR_THE_STORE: Final = SymbolResult(
    symbol="PAPER",
    result=WAITING,
    detail="the database is away: paper positions close and the receipt is written when it is back",
)

DRY_RUN: Final = SymbolResult(symbol="REAL", result="not_sent", detail="this is a dry run: nothing is sent to the exchange")

NOT_IN_REAL: Final = SymbolResult(
    symbol="REAL",
    result="not_sent",
    detail="no account in REAL is known while the database is away: nothing is sent to the exchange, and what rests there goes on resting",
)


class Emergency:
    """Flattens without the store, and writes the flag back when the store returns.

    Args:
        dry_run: The operator's: nothing is sent for anybody.
    """

    def __init__(
        self,
        engine: Engine,
        lifeline: Lifeline,
        panic: Panic,
        clock: Clock,
        ids: Ids,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        dry_run: bool,
    ) -> None:
        self._engine = engine
        self._lifeline = lifeline
        self._panic = panic
        self._clock = clock
        self._ids = ids
        self._pause = pause
        self._dry_run = dry_run
        self._running: dict[UUID, asyncio.Future[PanicReceipt | None]] = {}

    async def run(self, user_id: UUID) -> PanicReceipt:
        """Stop first, then flat at the exchange. Never says flat: what the store holds cannot be seen.

        Pressed again while it runs in this process, it is the same one, so that pressing often spends no more of the exchange's budget.

        Raises:
            StoreUnavailable: Redis does not answer either.
        """
        while (running := self._running.get(user_id)) is not None:
            if (receipt := await asyncio.shield(running)) is not None:
                return receipt
        mine = self._running[user_id] = asyncio.get_running_loop().create_future()
        receipt = None
        try:
            receipt = await self._flattened(user_id)
            return receipt
        finally:
            del self._running[user_id]
            mine.set_result(receipt)

    async def _flattened(self, user_id: UUID) -> PanicReceipt:
        receipt_id = self._ids.new()
        logger().error("panic while the store is away", user_id=str(user_id), receipt_id=str(receipt_id))
        await self._lifeline.stop(user_id, self._clock.wall())
        credentials = None if self._dry_run else await self._lifeline.credentials(user_id)
        results = [DRY_RUN if self._dry_run else NOT_IN_REAL, WAITS_FOR_THE_STORE]
        done = Flattened(flat=True)
        if credentials is not None:
            account = account_without_store(user_id, credentials)
            begun_at, attempt = self._clock.wall(), 1
            until = begun_at + LASTS
            done = await flatten(self._engine, account, prefix_of(receipt_id, begun_at, attempt))
            while not done.flat and self._clock.wall() < until:
                await self._pause(BETWEEN)
                attempt += 1
                done = await flatten(self._engine, account, prefix_of(receipt_id, begun_at, attempt))
            said = SymbolResult(symbol="REAL", result="flat" if done.flat else "not_flat", detail="by the exchange's own word")
            results = [*done.results, said, WAITS_FOR_THE_STORE]
        receipt = PanicReceipt(
            receipt_id=receipt_id,
            auto_trade_enabled=False,
            positions=results,
            open_positions=done.open_positions,
            open_orders=done.open_orders,
            flat=False,
            stored=False,
        )
        await self._keep(user_id, receipt)
        return receipt

    async def _keep(self, user_id: UUID, receipt: PanicReceipt) -> None:
        """For the store, when it is back; whoever pressed is told all the same."""
        try:
            await self._lifeline.keep_receipt(user_id, receipt)
        except StoreUnavailable as error:
            logger().warning("a receipt could not be kept", receipt_id=str(receipt.receipt_id), error=str(error))

    async def write_back(self) -> int:
        """Turns each flag that is up into a panic of the store's own, which goes on under the receipt that was told; how many there were.

        The flag goes when the store has that receipt.
        """
        stopped = await self._lifeline.all_stopped()
        await each(stopped, self._write_back, what="writing a stop back")
        return len(stopped)

    async def _write_back(self, user_id: UUID) -> None:
        receipt = await self._panic.run(user_id, await self._lifeline.receipt(user_id))
        try:
            await self._lifeline.take_down(user_id)
        except StoreUnavailable:
            return  # It is up still, and the next round finds nothing left to close.
        logger().warning("a stop was written back", user_id=str(user_id), receipt_id=str(receipt.receipt_id), flat=receipt.flat)
