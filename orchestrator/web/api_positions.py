"""REST: positions, approvals, stop and panic. Every act is the desk's; here it is only asked for and told."""

from decimal import Decimal
from uuid import UUID

from litestar import Response, Router, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from orchestrator.ports import Mark, PositionRow, Refusal, SymbolResult
from orchestrator.web.bodies import PRICE_DECIMALS, AmendBody, CloseBody, Numbers, StopBody
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.problems import bad_fields, not_found, refused
from orchestrator.web.replies import (
    AmendedReply,
    ClosedReply,
    PanicReply,
    PositionReply,
    Positions,
    StopReply,
    SymbolOutcome,
    amount,
    maybe,
    position_of,
)
from orchestrator.web.replies_signals import Approvals, Approved, Declined, approval_of
from orchestrator.web.valuation import CLOSED, LIVE, value_all

_STATUSES = {status: (status,) for status in (*LIVE, *CLOSED)} | {"CLOSED": CLOSED, "LIVE": LIVE}
MAX_ROWS = 1000
"""Also what comes unasked: whoever adds positions up should have them all, and `more` says when they do not."""


@get("/positions", summary="List positions")
async def list_positions(
    request: Asked,
    status: FromQuery[str | None] = None,
    mode: FromQuery[str | None] = None,
    limit: FromQuery[int] = MAX_ROWS,
    offset: FromQuery[int] = 0,
) -> Positions:
    """Positions of the user, the newest first; `status` is one or more of the four states, CLOSED or LIVE, comma-separated."""
    doors, length = doors_of(request), page_limit(limit, MAX_ROWS)
    found = await doors.reads.positions(
        request.user.id, statuses=_statuses(status), mode=mode_of(mode), limit=length + 1, offset=page_offset(offset)
    )
    rows = found[:length]
    valued = value_all(rows, await marks_for(doors, rows))
    return Positions(positions=[position_of(each) for each in valued], more=len(found) > length)


@get("/positions/{position_id:uuid}", summary="Read a position")
async def read_position(request: Asked, position_id: FromPath[UUID]) -> PositionReply:
    """One position of the user."""
    doors = doors_of(request)
    row = await doors.reads.position(request.user.id, position_id)
    if row is None:
        raise not_found("This position")
    return position_of(value_all([row], await marks_for(doors, [row]))[0])


@post("/positions/{position_id:uuid}/close", status_code=200, summary="Close a position")
async def close_position(request: Asked, position_id: FromPath[UUID], data: JSONBody[CloseBody | None] = None) -> ClosedReply:
    """Close all of a position, or the quantity given; reduce-only."""
    numbers = await Numbers.of(request, CloseBody)
    quantity = numbers.read("quantity", (data or CloseBody()).quantity, decimals=PRICE_DECIMALS)
    numbers.done()
    closed = await doors_of(request).desk.close(request.user.id, position_id, quantity)
    if isinstance(closed, Refusal):
        raise refused(closed)
    return ClosedReply(
        id=closed.position_id,
        symbol=closed.symbol,
        closed_quantity=amount(closed.closed_quantity),
        left=amount(closed.left),
        status=closed.status,
        pnl=maybe(closed.pnl),
    )


@patch("/positions/{position_id:uuid}", summary="Amend a position")
async def amend_position(request: Asked, position_id: FromPath[UUID], data: JSONBody[AmendBody]) -> AmendedReply:
    """Move stop or target, or arm a trailing stop; absent means unchanged."""
    numbers = await Numbers.of(request, AmendBody)
    stop_loss = numbers.read("stop_loss", data.stop_loss, decimals=PRICE_DECIMALS)
    take_profit = numbers.read("take_profit", data.take_profit, decimals=PRICE_DECIMALS)
    trailing = numbers.read("trailing", data.trailing, least=0, most=Decimal("0.5"))
    numbers.done()
    amended = await doors_of(request).desk.amend(
        request.user.id, position_id, stop_loss=stop_loss, take_profit=take_profit, trailing_ratio=trailing
    )
    if isinstance(amended, Refusal):
        raise refused(amended)
    return AmendedReply(
        id=amended.position_id,
        stop_loss=maybe(amended.stop_loss),
        take_profit=maybe(amended.take_profit),
        trailing=maybe(amended.trailing_ratio),
    )


@get("/approvals", summary="List entries that wait")
async def list_approvals(request: Asked) -> Approvals:
    """Entries that wait because auto-trading is off."""
    doors = doors_of(request)
    rows = await doors.reads.approvals(request.user.id, doors.clock.wall())
    return Approvals(approvals=[approval_of(row) for row in rows])


@post("/approvals/{approval_id:uuid}/approve", status_code=200, summary="Approve an entry")
async def approve(request: Asked, approval_id: FromPath[UUID]) -> Approved:
    """Enter what waits, priced again now."""
    entered = await doors_of(request).desk.approve(request.user.id, approval_id)
    if isinstance(entered, Refusal):
        raise refused(entered)
    return Approved(id=approval_id, position_id=entered.position_id, symbol=entered.symbol)


@post("/approvals/{approval_id:uuid}/decline", status_code=200, summary="Decline an entry")
async def decline(request: Asked, approval_id: FromPath[UUID]) -> Declined:
    """Drop what waits."""
    refusal = await doors_of(request).desk.decline(request.user.id, approval_id)
    if refusal is not None:
        raise refused(refusal)
    return Declined(id=approval_id, status="DECLINED")


@post("/stop", status_code=200, summary="Stop auto-trading")
async def stop(request: Asked, data: JSONBody[StopBody]) -> StopReply:
    """Auto-trading off; positions stay protected, or are closed."""
    stopped = await doors_of(request).desk.stop(request.user.id, close_positions=data.positions == "close")
    return StopReply(auto_trade_enabled=stopped.auto_trade_enabled, positions=_outcomes(stopped.positions))


@post("/panic-button", status_code=200, summary="Panic: everything flat", opt={"without_store": True})
async def panic(request: Asked) -> Response[PanicReply]:
    """Auto-trading off, approvals cancelled, everything closed; 200 only when verified flat, else 207."""
    receipt = await doors_of(request).desk.panic(request.user.id)
    body = PanicReply(
        receipt_id=receipt.receipt_id,
        auto_trade_enabled=receipt.auto_trade_enabled,
        positions=_outcomes(receipt.positions),
        open_positions=receipt.open_positions,
        open_orders=receipt.open_orders,
    )
    return Response(body, status_code=200 if receipt.flat else 207)


async def marks_for(doors: Doors, rows: list[PositionRow]) -> dict[str, Mark]:
    """Marks of the symbols that are still open among these."""
    return await doors.market.marks({row.symbol for row in rows if row.status in LIVE})


def mode_of(given: str | None) -> str | None:
    """A mode from a query.

    Raises:
        ProblemError: 400; it is neither.
    """
    if given is not None and given not in ("PAPER", "REAL"):
        raise bad_fields({"mode": "must be PAPER or REAL"})
    return given


def page_limit(given: int, most: int) -> int:
    """A page's length from a query.

    Raises:
        ProblemError: 400; it is out of bounds.
    """
    if not 1 <= given <= most:
        raise bad_fields({"limit": f"must lie between 1 and {most}"})
    return given


def page_offset(given: int) -> int:
    """A page's start from a query.

    Raises:
        ProblemError: 400; it is out of bounds.
    """
    if not 0 <= given < 2**31:
        raise bad_fields({"offset": "must be 0 or more"})
    return given


def _statuses(given: str | None) -> tuple[str, ...]:
    if given is None:
        return (*LIVE, *CLOSED)
    found = [_STATUSES.get(part.strip()) for part in given.split(",")]
    if None in found:
        raise bad_fields({"status": f"must be one of {', '.join(_STATUSES)}"})
    return tuple(status for statuses in found if statuses for status in statuses)


def _outcomes(results: list[SymbolResult]) -> list[SymbolOutcome]:
    return [SymbolOutcome(symbol=each.symbol, result=each.result, detail=each.detail) for each in results]


positions_router = Router(
    "/api/user",
    route_handlers=[
        list_positions,
        read_position,
        close_position,
        amend_position,
        list_approvals,
        approve,
        decline,
        stop,
        panic,
    ],
    tags=["positions"],
)
