"""POST /execute/close: reduces a position, always reduce-only, at the live market or at the trigger of a resting condition."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from engine.core.fills import average_price, order_side_of
from engine.core.order import OrderRefusal, no
from engine.errors import ExchangeError
from engine.execution.desk import Desk, tell
from engine.ports import Closing, Executed, Unknown, Venue
from shared.enums import ExecutionStatus
from shared.execution import CloseRequest, ExecutionReport, PaperPosition
from shared.margin import floor_to_step
from shared.problem import Problem

CLOCKS_APART = timedelta(minutes=1)
"""Market time by which the exchange's clock, which stamps the marks, may run before ours."""


async def close(desk: Desk, request: CloseRequest) -> ExecutionReport:
    """Closes all of a position, or a part, once; with `resume`, finishes what was begun. A refused close may come again under its id.

    Returns:
        FILLED with fills, REFUSED with the reason and nothing done, or UNKNOWN: look the id up.

    Raises:
        ClientOrderIdReused: The id stands for another order.
    """
    venue = desk.venues.of(request.account)

    def blank(status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
        return _without_fills(desk, venue, request, status, refusal)

    async def work() -> ExecutionReport:
        return tell(venue, await _close(desk, venue, request))

    return await desk.keeper(venue).run(request, work, blank, keep_refusals=False)


async def _close(desk: Desk, venue: Venue, request: CloseRequest) -> ExecutionReport:
    closing = None if request.resume else await _plan(desk, venue, request)
    if isinstance(closing, Problem):
        return _without_fills(desk, venue, request, ExecutionStatus.REFUSED, closing)
    done = await (venue.resume_close(request) if closing is None else venue.close(closing))
    if isinstance(done, Unknown):
        return _without_fills(desk, venue, request, ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, done.detail))
    if isinstance(done, Problem):
        return _without_fills(desk, venue, request, ExecutionStatus.REFUSED, done)
    return _filled(venue, request, closing, done)


async def _plan(desk: Desk, venue: Venue, request: CloseRequest) -> Closing | Problem:
    started = desk.clock.wall()
    position = await venue.held(request.symbol, request.side)
    if isinstance(position, Problem) and position.code != OrderRefusal.NO_POSITION:
        return position
    if request.trigger is not None and request.trigger.at > desk.clock.now() + CLOCKS_APART:
        return no(OrderRefusal.TRIGGER_IN_FUTURE, f"nothing was triggered at {request.trigger.at.isoformat()} yet")
    if isinstance(position, Problem):
        return position
    quantity = await _quantity(desk, request, position)
    if isinstance(quantity, Problem):
        return quantity
    return Closing(
        client_order_id=request.client_order_id,
        symbol=request.symbol,
        side=request.side,
        quantity=quantity,
        position=position,
        trigger=request.trigger,
        sent_at=request.sent_at or started,
    )


async def _quantity(desk: Desk, request: CloseRequest, position: PaperPosition | None) -> Decimal | Problem:
    """All of the position, or the part asked for: rounded down to the step and never more than it holds."""
    held = position.quantity if position else None
    asked = request.quantity
    if asked is None or (held is not None and asked >= held):
        return held or no(OrderRefusal.QUANTITY_REQUIRED, "a dry run cannot see the position: say how much to close")
    try:
        rules = await desk.market.instrument(request.symbol)
    except ExchangeError as error:
        return no(OrderRefusal.MARKET_DATA_UNAVAILABLE, f"the rules of {request.symbol} did not come: {error}")
    quantity = floor_to_step(asked, rules.step_size)
    if quantity <= 0:
        return no(OrderRefusal.BELOW_MIN_QUANTITY, f"{asked} is less than one step of {rules.step_size}")
    return quantity


def _filled(venue: Venue, request: CloseRequest, closing: Closing | None, done: Executed) -> ExecutionReport:
    filled = sum((fill.quantity for fill in done.fills), Decimal(0))
    asked = request.widened_to or request.quantity or filled
    return msgspec.structs.replace(
        _report(venue, request, ExecutionStatus.FILLED, as_of=done.fills[-1].at),
        leverage=closing.position.leverage if closing and closing.position else None,
        requested_quantity=closing.quantity if closing else asked,
        filled_quantity=filled,
        average_price=average_price(done.fills),
        fills=done.fills,
        liquidation_fee=done.liquidation_fee,
        protection=done.protection,
    )


def refused(desk: Desk, request: CloseRequest, refusal: Problem) -> ExecutionReport:
    """The report of a close that was never begun."""
    return _without_fills(desk, desk.venues.of(request.account), request, ExecutionStatus.REFUSED, refusal)


def _without_fills(desk: Desk, venue: Venue, request: CloseRequest, status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
    return msgspec.structs.replace(_report(venue, request, status, as_of=desk.clock.now()), refusal=refusal)


def _report(venue: Venue, request: CloseRequest, status: ExecutionStatus, *, as_of: datetime) -> ExecutionReport:
    return ExecutionReport(
        client_order_id=request.client_order_id,
        venue=venue.name,
        dry_run=venue.dry_run,
        status=status,
        symbol=request.symbol,
        side=request.side,
        order_side=order_side_of(request.side, reduce_only=True),
        reduce_only=True,
        requested_quantity=request.quantity or Decimal(0),
        filled_quantity=Decimal(0),
        unchecked=list(venue.unchecked),
        as_of=as_of,
    )
