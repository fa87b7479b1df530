"""An order at an exchange happens once: `once` for a venue that keeps what was done with it.

Here the exchange is the memory and Redis only the lock. So work that has begun goes on when its caller leaves, a caller who waited
long enough is told UNKNOWN and never "refused", and a report that could not be kept is told all the same. Without Redis
nothing is opened; what closes goes on, since it looks its own id up first.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from engine.core.order import OrderRefusal, no
from engine.errors import ReportStoreUnavailable
from engine.execution.once import Blank, Work, digest_of
from engine.log import logger
from engine.ports import Claimed, InFlight, Reports
from shared.enums import ExecutionStatus
from shared.execution import CloseRequest, EntryRequest, ExecutionReport

CLAIM_SECONDS = 90.0
"""Longer than every bound of an order together: a claim that is gone belongs to a dead worker."""

RESUME_SECONDS = 20.0
"""Of a resume's claim. Two resumes at once do no harm, since all that they send goes by the same ids; a claim that nobody gives back would
leave an order unknown for as long."""

ANSWER_SECONDS = 18.0
"""Below the 20 s that the caller waits."""

LOCK_POLL_SECONDS = 0.1
RELEASE_AGAIN_SECONDS = 0.5

_GOING: set[asyncio.Task[Any]] = set()
"""The loop holds its tasks weakly only."""


async def kept_going[T](work: Coroutine[Any, Any, T]) -> T:
    """Work that ends though its caller was cancelled."""
    return await asyncio.shield(_begun(work))


def _begun[T](work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.ensure_future(work)
    _GOING.add(task)
    task.add_done_callback(_ended)
    return task


async def all_ended(seconds: float) -> None:
    """Waits for work that is under way, so that a process that is asked to end leaves no entry between its fill and its stop."""
    if _GOING:
        await asyncio.wait(set(_GOING), timeout=seconds)


def _ended(task: asyncio.Task[Any]) -> None:
    """Nobody may be left to hear of a crash but the log."""
    _GOING.discard(task)
    if not task.cancelled() and task.exception() is not None:
        error = task.exception()
        logger().error("work on an order crashed", error=type(error).__name__, exc_info=error)


class LastingOnce(msgspec.Struct, frozen=True, kw_only=True):
    """Runs orders at an exchange once. The bounds are wall seconds."""

    reports: Reports
    answer_seconds: float = ANSWER_SECONDS
    claim_seconds: float = CLAIM_SECONDS

    async def run(
        self, request: EntryRequest | CloseRequest, work: Work, blank: Blank, *, keep_refusals: bool
    ) -> ExecutionReport:
        """The report of a request: the kept one, or the one that `work` makes; UNKNOWN where it takes too long.

        Args:
            request: Its id and digest decide whether it was here before; a resume works on an id whose outcome is unknown.
            work: Makes the report.
            blank: A report without fills, for what never got so far.
            keep_refusals: True for entries, whose refusal is final; a close must be able to try again.

        Raises:
            ClientOrderIdReused: The id stands for another order.
        """
        task = _begun(self._claimed(request, work, blank, keep_refusals=keep_refusals))
        done, _ = await asyncio.wait({task}, timeout=self.answer_seconds)
        if done:
            return task.result()
        return blank(ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, "the order is still under way"))

    async def _claimed(
        self, request: EntryRequest | CloseRequest, work: Work, blank: Blank, *, keep_refusals: bool
    ) -> ExecutionReport:
        order_id, digest = _lock_of(request), digest_of(request)
        try:
            known = await self._known(request)
            lives = min(RESUME_SECONDS, self.claim_seconds) if request.resume else self.claim_seconds
            found = known or await self._claim(order_id, digest, lives)
        except ReportStoreUnavailable as error:
            if keep_refusals and not request.resume:
                return blank(ExecutionStatus.REFUSED, no(OrderRefusal.REPORT_STORE_UNAVAILABLE, f"nothing was done: {error}"))
            return await work()
        if isinstance(found, ExecutionReport):
            return found
        if isinstance(found, InFlight):
            return blank(ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, "the same order is still under way"))
        return await self._worked(request, digest, found, work, keep_refusals=keep_refusals)

    async def _known(self, request: EntryRequest | CloseRequest) -> ExecutionReport | None:
        """What a resume need not do again: a report that is not UNKNOWN."""
        if not request.resume:
            return None
        found = await self.reports.find(request.client_order_id)
        if not isinstance(found, ExecutionReport) or found.status is ExecutionStatus.UNKNOWN:
            return None
        return found

    async def _claim(self, order_id: str, digest: str, lives: float) -> Claimed | InFlight | ExecutionReport:
        deadline = asyncio.get_running_loop().time() + self.answer_seconds
        while True:
            found = await self.reports.claim(order_id, digest, lives)
            if not isinstance(found, InFlight) or asyncio.get_running_loop().time() >= deadline:
                return found
            await asyncio.sleep(LOCK_POLL_SECONDS)

    async def _worked(
        self, request: EntryRequest | CloseRequest, digest: str, claim: Claimed, work: Work, *, keep_refusals: bool
    ) -> ExecutionReport:
        """A crash lets the claim expire by itself: something may have been sent."""
        report = await work()
        if request.resume or (report.status is ExecutionStatus.REFUSED and not keep_refusals):
            if not await self._gave_back(_lock_of(request), digest, claim):
                _begun(self._give_back(_lock_of(request), digest, claim))
            return report
        try:
            await self.reports.keep(request.client_order_id, digest, claim, report)
        except ReportStoreUnavailable as error:
            logger().warning("a report was not kept", client_order_id=request.client_order_id, error=str(error))
        return report

    async def _give_back(self, order_id: str, digest: str, claim: Claimed) -> None:
        """Until Redis has heard it: else whoever asks next would wait for a worker that has ended."""
        ends = asyncio.get_running_loop().time() + self.claim_seconds
        while asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(RELEASE_AGAIN_SECONDS)
            if await self._gave_back(order_id, digest, claim):
                return

    async def _gave_back(self, order_id: str, digest: str, claim: Claimed) -> bool:
        try:
            await self.reports.release(order_id, digest, claim)
        except ReportStoreUnavailable as error:
            logger().warning("a claim was not given back yet", client_order_id=order_id, error=str(error))
            return False
        return True


def _lock_of(request: EntryRequest | CloseRequest) -> str:
    """A resume has a lock of its own beside the report of UNKNOWN that stands under the id.

    One that closes more than was asked for then has another: it must not wait for who still looks for the part.
    """
    if not request.resume:
        return request.client_order_id
    wider = isinstance(request, CloseRequest) and request.widened_to is not None
    return f"{request.client_order_id}~{'w' if wider else ''}"
