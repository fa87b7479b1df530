"""Flattens a real account from the exchange's own view: what panic does where rows are not enough, with the store or without it.

The exchange is asked to show zero positions and zero orders; nothing that a row says counts for that. What was closed is booked by
reconciliation, as every exit is.
"""

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Engine, RefusalReason, SymbolResult, Transactions
from orchestrator.trading.accounts import account_of
from orchestrator.trading.bounded import each
from orchestrator.trading.reconcile import Reconcile
from shared.enums import ExecutionStatus, Mode
from shared.execution import ExecutionReport, FlattenRequest, RealAccount, SealedCredentials

WHOLE_ACCOUNT: Final = "*"
"""Stands for the account where no symbol can be named."""


class Flattened(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange said at the end; `flat` only where it showed zero positions and zero orders."""

    flat: bool
    open_positions: int = 0
    open_orders: int = 0
    results: list[SymbolResult] = []


NOTHING_REAL: Final = Flattened(flat=True)
NOT_HEARD: Final = Flattened(flat=False)

BOOK_AGAIN_SECONDS: Final = 1.0
"""Until the books are asked for again, where they were not heard."""


class Flatten:
    """Flattens real accounts.

    Args:
        dry_run: The operator's: nothing is sent for a user who only has dry positions.
    """

    def __init__(self, transactions: Transactions, engine: Engine, reconcile: Reconcile, *, dry_run: bool) -> None:
        self._transactions = transactions
        self._engine = engine
        self._reconcile = reconcile
        self._dry_run = dry_run

    async def account(self, user_id: UUID) -> RealAccount | None:
        """The user's real account where anything of theirs is, or may be, at the exchange; None where nothing is."""
        async with self._transactions() as unit:
            trader = await unit.traders.lock(user_id)
            positions = await unit.positions.live_of_user(user_id, Mode.REAL)
            orders = await unit.orders.live_of_user(user_id)
        if trader is None:
            return None
        held = any(not position.dry_run for position in positions)
        sent = any(order.mode is Mode.REAL and not order.dry_run for order in orders)
        armed = trader.mode is Mode.REAL and not self._dry_run
        if not (armed or held or sent):
            return None
        account = account_of(trader, Mode.REAL, [], None, dry_run=False)
        assert isinstance(account, RealAccount)  # noqa: S101 - the mode says so
        return account

    async def run(self, account: RealAccount, prefix: str) -> Flattened:
        """One attempt; a further one needs another prefix. The books follow by `book`, for which nobody who wants to be flat waits."""
        return await flatten(self._engine, account, prefix)

    async def book(self, account: RealAccount) -> None:
        """What the exchange did goes into the rows once it is heard, which may take until the budget of the next minute."""
        while True:
            done = await each([UUID(account.user_id)], self._reconcile.user, what="booking a panic")
            if any(one.heard for one in done):
                return
            await asyncio.sleep(BOOK_AGAIN_SECONDS)


async def flatten(engine: Engine, account: RealAccount, prefix: str) -> Flattened:
    """One attempt at the exchange alone, without the store."""
    if account.credentials is None:
        return _failed("no_credentials", "the account has no exchange key")
    try:
        reply = await engine.flatten(FlattenRequest(account=account, client_order_prefix=prefix))
    except EngineRefused as refused:
        return _failed(refused.code, refused.detail)
    except EngineUnavailable as unavailable:
        logger().warning("a flatten has no answer yet", user_id=account.user_id, error=str(unavailable))
        return _failed(RefusalReason.ENGINE_UNAVAILABLE.value, "the engine has not answered; what it does goes on")
    return Flattened(
        flat=reply.flat,
        open_positions=reply.open_positions,
        open_orders=reply.open_orders,
        results=_results(reply.reports),
    )


def prefix_of(receipt_id: UUID, begun_at: datetime, attempt: int) -> str:
    """The beginning of the client ids of one attempt's orders; 28 characters at most.

    Whoever takes a panic over begins anew, so that two that work side by side for a moment never share an id.
    """
    return f"nt-f-{receipt_id.hex[:8]}-{int(begun_at.timestamp()) & 0xFFFFFF:06x}-{attempt}"


def account_without_store(user_id: UUID, credentials: SealedCredentials | None) -> RealAccount:
    """The account from what Redis keeps."""
    return RealAccount(user_id=str(user_id), dry_run=False, credentials=credentials)


def _results(reports: list[ExecutionReport]) -> list[SymbolResult]:
    """One a symbol: where hedge mode held both sides of it, what closed one never hides what became of the other."""
    found: dict[str, SymbolResult] = {}
    for result in map(_result, reports):
        if result.symbol not in found or result.result != "closed":
            found[result.symbol] = result
    return list(found.values())


def _result(report: ExecutionReport) -> SymbolResult:
    if report.status is ExecutionStatus.FILLED:
        return SymbolResult(symbol=report.symbol, result="closed")
    refusal = report.refusal
    return SymbolResult(
        symbol=report.symbol, result=refusal.code if refusal else "failed", detail=refusal.detail if refusal else ""
    )


def _failed(code: str, detail: str) -> Flattened:
    return Flattened(flat=False, results=[SymbolResult(symbol=WHOLE_ACCOUNT, result=code, detail=detail)])
