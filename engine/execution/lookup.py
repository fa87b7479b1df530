"""POST /execute/orders/{client_order_id}: what became of an id, for whoever never saw the reply."""

from engine.errors import ReportStoreUnavailable
from engine.execution.desk import Desk
from engine.ports import InFlight
from shared.enums import ExecutionStatus, OrderLookup
from shared.execution import Account, ExecutionReport, OrderReply, RealAccount


async def look_up(desk: Desk, account: Account, client_order_id: str) -> OrderReply:
    """What the reports say of an id.

    NOT_FOUND, for PAPER and dry run, proves that nothing happened: no claim lives, no fill was kept, and a claim that expired can no
    longer keep one. It may be sent again; the report of a refusal comes with it. For REAL a missing report proves nothing.
    """
    try:
        found = await desk.once.reports.find(client_order_id)
    except ReportStoreUnavailable:
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.UNKNOWN)
    report = found if isinstance(found, ExecutionReport) else None
    return OrderReply(client_order_id=client_order_id, state=_state(account, found), report=report)


def _state(account: Account, found: ExecutionReport | InFlight | None) -> OrderLookup:
    if isinstance(found, InFlight):
        return OrderLookup.UNKNOWN
    if isinstance(found, ExecutionReport):
        return OrderLookup.FILLED if found.status is ExecutionStatus.FILLED else OrderLookup.NOT_FOUND
    live = isinstance(account, RealAccount) and not account.dry_run
    return OrderLookup.UNKNOWN if live else OrderLookup.NOT_FOUND
