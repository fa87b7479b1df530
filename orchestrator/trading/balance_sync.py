"""Hears what a real wallet holds: on request, in the background, and before a decision that needs it fresh.

The cache in the user's row is all that anybody decides on; its age says whether it may be.
"""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from orchestrator.errors import EngineUnavailable, OrchestratorError
from orchestrator.log import logger
from orchestrator.ports import Balances, Clock, Engine, Transactions
from orchestrator.trading.accounts import account_of
from shared.enums import Mode

APART: Final = timedelta(seconds=5)
"""Wall time between two beginnings of a sync that somebody who looks asks for: each costs weight that all accounts of an address share."""


class BalanceSync:
    """Asks the engine for balances and keeps them, one question at a time for each user."""

    def __init__(self, transactions: Transactions, engine: Engine, balances: Balances, clock: Clock) -> None:
        self._transactions = transactions
        self._engine = engine
        self._balances = balances
        self._clock = clock
        self._asking: dict[UUID, asyncio.Task[bool]] = {}
        self._asked_at: dict[UUID, datetime] = {}

    def begin(self, user_id: UUID) -> None:
        """Begins to ask, unless it is under way or was asked a moment ago; nobody waits."""
        asked_at = self._asked_at.get(user_id)
        if asked_at is None or self._clock.wall() - asked_at >= APART:
            self._task(user_id)

    def under_way(self, user_id: UUID) -> bool:
        """Whether the wallet is being asked for in this process."""
        task = self._asking.get(user_id)
        return task is not None and not task.done()

    async def freshen(self, user_id: UUID) -> None:
        """Waits until the real wallet of a user in mode REAL is fresh, or could not be heard; nothing for others."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
        if trader is not None and trader.mode is Mode.REAL and not self._balances.of(trader, Mode.REAL).fresh:
            await asyncio.shield(self._task(user_id))

    async def hear(self, user_id: UUID) -> bool:
        """Asks once and keeps the answer; whether there was one."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
        if trader is None:
            return False
        asked_at = self._clock.wall()
        try:
            reply = await self._engine.balance(account_of(trader, Mode.REAL, [], None, dry_run=False))
        except EngineUnavailable as unavailable:
            logger().warning("a real balance was not heard", user_id=str(user_id), error=str(unavailable))
            return False
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            await unit.traders.set_real_balance(user_id, reply.total, asked_at)
            await unit.commit()
        return True

    async def end(self) -> None:
        """Cuts off what is under way."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _task(self, user_id: UUID) -> asyncio.Task[bool]:
        task = self._asking.get(user_id)
        if task is None or task.done():
            wall = self._clock.wall()
            self._asked_at = {known: at for known, at in self._asked_at.items() if wall - at < APART} | {user_id: wall}
            task = self._asking[user_id] = asyncio.create_task(self._guarded(user_id))
            task.add_done_callback(partial(self._ended, user_id))
        return task

    async def _guarded(self, user_id: UUID) -> bool:
        try:
            return await self.hear(user_id)
        except OrchestratorError as error:
            logger().warning("a real balance was not kept", user_id=str(user_id), error=f"{type(error).__name__}: {error}")
            return False

    def _ended(self, user_id: UUID, task: asyncio.Task[bool]) -> None:
        if self._asking.get(user_id) is task:
            del self._asking[user_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger().error("hearing a real balance failed", error=type(error).__name__, exc_info=error)
