"""POST /execute/orders/{client_order_id}: what became of an id, for whoever never saw the reply."""

from engine.errors import ReportStoreUnavailable
from engine.execution.desk import Desk
from engine.ports import InFlight
from shared.enums import ExecutionStatus, OrderLookup
from shared.execution import Account, ExecutionReport, OrderReply


async def look_up(desk: Desk, account: Account, client_order_id: str, symbol: str | None = None) -> OrderReply:
    """What the reports say of an id, and where they say nothing for good, what its venue does.

    NOT_FOUND, for PAPER and dry run, proves that nothing happened: no claim lives, no fill was kept, and a claim that expired can no
    longer keep one. It may be sent again; the report of a refusal comes with it. For REAL it proves nothing.
    """
    venue = desk.venues.of(account)
    try:
        found = await desk.once.reports.find(client_order_id)
    except ReportStoreUnavailable:
        found = InFlight()
    if isinstance(found, ExecutionReport) and found.status is not ExecutionStatus.UNKNOWN:
        filled = found.status is ExecutionStatus.FILLED
        return OrderReply(
            client_order_id=client_order_id, state=OrderLookup.FILLED if filled else OrderLookup.NOT_FOUND, report=found
        )
    if isinstance(found, InFlight) and not venue.lasting:
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.UNKNOWN)
    seen = await venue.look_up(client_order_id, symbol)
    if found is not None and seen.state is OrderLookup.NOT_FOUND:
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.UNKNOWN)  # Somebody works on it, or did.
    return seen
