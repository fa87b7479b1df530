"""POST /execute/flatten: closes everything at once and says honestly whether it is flat. The panic button stands on it."""

import asyncio

from engine.core.order import OrderRefusal, no
from engine.errors import ClientOrderIdReused
from engine.execution.close import close, refused
from engine.execution.desk import Desk
from engine.execution.lasting_once import kept_going
from shared.enums import ExecutionStatus
from shared.execution import CloseRequest, ExecutionReport, FlattenReply, FlattenRequest, PaperPosition, VenueState
from shared.problem import Problem


async def flatten(desk: Desk, request: FlattenRequest) -> FlattenReply | Problem:
    """A report per position, in the venue's order; flat only where each of them was filled whole.

    One position's refusal never stops another's close. A new attempt over a changed paper book needs a new prefix; an exchange, which
    is asked what is open, may be asked again under the same one.
    """
    venue = desk.venues.of(request.account)
    own = await kept_going(venue.flatten(request.client_order_prefix))
    if own is not None:
        return own
    holdings = await venue.holdings()
    if isinstance(holdings, Problem):
        return holdings
    if holdings.state is VenueState.UNKNOWN:
        return no(OrderRefusal.REAL_NOT_AVAILABLE, "a dry run cannot see what is open: close each position by itself")
    closes = (_close(desk, _close_of(request, number, held)) for number, held in enumerate(holdings.positions, start=1))
    reports = await asyncio.gather(*closes)
    left = sum(not _closed(report, held) for report, held in zip(reports, holdings.positions, strict=True))
    return FlattenReply(reports=list(reports), open_positions=left, open_orders=0, flat=left == 0, as_of=desk.clock.now())


async def _close(desk: Desk, request: CloseRequest) -> ExecutionReport:
    try:
        return await close(desk, request)
    except ClientOrderIdReused as error:
        return refused(desk, request, no(OrderRefusal.CLIENT_ORDER_ID_REUSED, str(error)))


def _close_of(request: FlattenRequest, number: int, held: PaperPosition) -> CloseRequest:
    return CloseRequest(
        account=request.account,
        client_order_id=f"{request.client_order_prefix}-{number}",
        symbol=held.symbol,
        side=held.side,
    )


def _closed(report: ExecutionReport, held: PaperPosition) -> bool:
    return report.status is ExecutionStatus.FILLED and report.filled_quantity == held.quantity
