"""The desk: everything a user can have done to their money, one use case each."""

import asyncio
from decimal import Decimal
from typing import Final
from uuid import UUID

from orchestrator.core.order import Refusal
from orchestrator.errors import StoreSilent, StoreUnavailable
from orchestrator.ports import Amended, Closed, Entered, Jobs, PanicReceipt, Stopped
from orchestrator.trading.approve import Approve
from orchestrator.trading.balance_sync import BalanceSync
from orchestrator.trading.close import Close
from orchestrator.trading.emergency import Emergency
from orchestrator.trading.panic import Panic
from orchestrator.trading.protect import Protect
from orchestrator.trading.silence import heard, let_go
from orchestrator.trading.stop import Stop
from orchestrator.trading.watch import Watch

LOOKS_EACH_SECONDS: Final = 1.0
"""While a panic runs, the store is asked so often whether it still answers."""

STORE_SILENT_SECONDS: Final = 1.0
"""After that the account is flattened without it."""


class TradingDesk:
    """Implements the port Desk."""

    def __init__(
        self,
        watch: Watch,
        close: Close,
        protect: Protect,
        approve: Approve,
        stop: Stop,
        panic: Panic,
        emergency: Emergency,
        balances: BalanceSync,
        jobs: Jobs,
    ) -> None:
        self._watch = watch
        self._close = close
        self._protect = protect
        self._approve = approve
        self._stop = stop
        self._panic = panic
        self._emergency = emergency
        self._balances = balances
        self._jobs = jobs

    async def close(self, user_id: UUID, position_id: UUID, quantity: Decimal | None) -> Closed | Refusal:
        """Close a position or a part of it; reduce-only, at the position's own mode. What its stop met before counts first."""
        await self._watch.catch_up(user_id, position_id)
        return await self._close.close(user_id, position_id, quantity)

    async def amend(
        self,
        user_id: UUID,
        position_id: UUID,
        *,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing_ratio: Decimal | None,
    ) -> Amended | Refusal:
        """Move stop or target, or arm a trailing stop; absent means unchanged, a trailing ratio of 0 disarms."""
        return await self._protect.run(
            user_id, position_id, stop_loss=stop_loss, take_profit=take_profit, trailing_ratio=trailing_ratio
        )

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        """Enter what waits, priced again now."""
        return await self._approve.approve(user_id, approval_id)

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        """Drop what waits; None when it is gone now."""
        return await self._approve.decline(user_id, approval_id)

    async def stop(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        """Switch auto-trading off; leave positions protected or close them."""
        return await self._stop.run(user_id, close_positions=close_positions)

    async def panic(self, user_id: UUID) -> PanicReceipt:
        """Auto-trading off, approvals cancelled, everything flat, proven; where the store does not answer, without it.

        A panic that has begun goes on though its caller leaves, and beside the one without the store if that hangs: both only reduce.
        """
        panic = asyncio.ensure_future(self._panic.run(user_id))
        let_go(panic)
        try:
            while not (await asyncio.wait({panic}, timeout=LOOKS_EACH_SECONDS))[0]:
                await self._store_answers(user_id)
            return panic.result()
        except StoreUnavailable:
            return await self._emergency.run(user_id)

    async def _store_answers(self, user_id: UUID) -> None:
        """A store that fails is the panic's own affair, and it tries again; one that hangs would hold it for ever."""
        try:
            await heard(self._panic.stands(user_id), STORE_SILENT_SECONDS)
        except StoreSilent:
            raise
        except StoreUnavailable:
            return

    def sync_balance(self, user_id: UUID) -> None:
        """Begin to hear what the real wallet holds, unless that is under way or was tried a moment ago."""
        self._balances.begin(user_id)

    def balance_syncing(self, user_id: UUID) -> bool:
        """Whether the real wallet is being asked for now."""
        return self._balances.under_way(user_id)

    async def request_scan(self) -> str:
        """Queue a scan now; the job's id."""
        return await self._jobs.enqueue_scan()
