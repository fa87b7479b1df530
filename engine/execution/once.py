"""An order happens once, however often and wherever its id comes in: claim the id, work, keep the report.

The order of steps is the promise. Nothing is done before the claim; a report counts only once it is kept, and it is kept only while
the claim lives. So when an engine dies between the two, the claim expires and the id is NOT_FOUND: for PAPER, whose money lives
in the reply alone, that proves that nothing happened.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from engine.core.order import OrderRefusal, no
from engine.errors import ReportStoreUnavailable
from engine.ports import Claimed, InFlight, Reports
from shared.enums import ExecutionStatus
from shared.execution import CloseRequest, EntryRequest, ExecutionReport, RealAccount
from shared.problem import Problem
from shared.wire import encode

type Work = Callable[[], Awaitable[ExecutionReport]]
type Blank = Callable[[ExecutionStatus, Problem], ExecutionReport]

WORK_SECONDS = 3.0
"""An order that took longer is given up as refused: well before its claim expires, so that nobody else has begun."""

WAIT_SECONDS = 4.0
"""How long a second caller waits for the first one's report: longer than the work may take."""

POLL_SECONDS = 0.02


_OF_THE_TRY = frozenset({"account", "resume", "widened_to", "sent_at"})


def digest_of(request: EntryRequest | CloseRequest) -> str:
    """What an id stands for: the order, and whose it is; not the positions told nor the way it is asked for, which change between tries."""
    account = request.account
    owner = f"{account.user_id} {account.dry_run}" if isinstance(account, RealAccount) else "PAPER"
    fields = {name: getattr(request, name) for name in request.__struct_fields__ if name not in _OF_THE_TRY}
    return hashlib.sha256(type(request).__name__.encode() + owner.encode() + encode(fields)).hexdigest()


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """Runs orders once. The bounds are wall seconds."""

    reports: Reports
    work_seconds: float = WORK_SECONDS
    wait_seconds: float = WAIT_SECONDS

    async def run(
        self, request: EntryRequest | CloseRequest, work: Work, blank: Blank, *, keep_refusals: bool
    ) -> ExecutionReport:
        """The report of a request: the kept one, or the one that `work` makes.

        Args:
            request: Its id and digest decide whether it was here before.
            work: Makes the report; called at most once per claim.
            blank: A report without fills, for what never got so far.
            keep_refusals: True for entries, whose refusal is final; a close must be able to try again.

        Raises:
            ClientOrderIdReused: The id stands for another order.
        """
        digest = digest_of(request)
        try:
            found = await self._claim(request.client_order_id, digest)
        except ReportStoreUnavailable as error:
            return blank(ExecutionStatus.REFUSED, no(OrderRefusal.REPORT_STORE_UNAVAILABLE, f"nothing was done: {error}"))
        if isinstance(found, ExecutionReport):
            return found
        if isinstance(found, InFlight):
            return blank(ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, "the same order is still under way"))
        return await self._work(request.client_order_id, digest, found, work, blank, keep_refusals=keep_refusals)

    async def _claim(self, client_order_id: str, digest: str) -> Claimed | InFlight | ExecutionReport:
        deadline = asyncio.get_running_loop().time() + self.wait_seconds
        while True:
            found = await self.reports.claim(client_order_id, digest)
            if not isinstance(found, InFlight) or asyncio.get_running_loop().time() >= deadline:
                return found
            await asyncio.sleep(POLL_SECONDS)

    async def _work(
        self, client_order_id: str, digest: str, claim: Claimed, work: Work, blank: Blank, *, keep_refusals: bool
    ) -> ExecutionReport:
        try:
            async with asyncio.timeout(self.work_seconds):
                report = await work()
        except TimeoutError:
            detail = "the market did not answer in time; nothing was done"
            report = blank(ExecutionStatus.REFUSED, no(OrderRefusal.MARKET_DATA_UNAVAILABLE, detail))
        except BaseException:
            await self._release(client_order_id, digest, claim)
            raise
        if report.status is ExecutionStatus.REFUSED and not keep_refusals:
            await self._release(client_order_id, digest, claim)
            return report
        return await self._keep(client_order_id, digest, claim, report, blank)

    async def _keep(
        self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport, blank: Blank
    ) -> ExecutionReport:
        try:
            kept = await self.reports.keep(client_order_id, digest, claim, report)
        except ReportStoreUnavailable as error:
            return blank(ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, f"the report may not have been kept: {error}"))
        if not kept:
            return blank(ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, "the order took longer than its claim lived"))
        return report

    async def _release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        try:
            await self.reports.release(client_order_id, digest, claim)
        except ReportStoreUnavailable:
            return  # The claim expires by itself.
