"""POST /execute/entry: check, send, protect. One path for PAPER, dry run and REAL; the venue is the only difference."""

from decimal import Decimal

from engine.core.fills import MONEY, average_price, order_side_of
from engine.core.order import EntryPlan, OrderRefusal, Quote, margin_of, no, plan_entry, sides_fit
from engine.execution.desk import Desk, quote, tell
from engine.ports import Executed, Holdings, Venue
from shared.enums import ExecutionStatus
from shared.execution import EntryRequest, ExecutionReport, Protection, VenueState
from shared.margin import bracket_for, liquidation_price
from shared.problem import Problem


async def enter(desk: Desk, request: EntryRequest) -> ExecutionReport:
    """Opens the position that a request asks for, once.

    Returns:
        FILLED with fills and protection, REFUSED with the reason and nothing done, or UNKNOWN: look the id up.

    Raises:
        ClientOrderIdReused: The id stands for another order.
    """
    venue = desk.venues.for_entry(request.account)

    def blank(status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
        return _without_fills(desk, venue, request, status, refusal)

    async def work() -> ExecutionReport:
        return tell(venue, await _enter(desk, venue, request))

    return await desk.once.run(request, work, blank, keep_refusals=True)


async def _enter(desk: Desk, venue: Venue, request: EntryRequest) -> ExecutionReport:
    def refuse(refusal: Problem) -> ExecutionReport:
        return _without_fills(desk, venue, request, ExecutionStatus.REFUSED, refusal)

    wallet = await venue.wallet()
    if isinstance(wallet, Problem):
        return refuse(wallet)
    held = await _held(venue, request.symbol)
    if held is not None:
        return refuse(held)
    seen = await quote(desk, request.symbol)
    if isinstance(seen, Problem):
        return refuse(seen)
    plan = plan_entry(request, seen, wallet)
    if isinstance(plan, Problem):
        return refuse(plan)
    done = await venue.enter(plan)
    if isinstance(done, Problem):
        return refuse(done)
    return await _protected(desk, venue, plan, seen, done)


async def _held(venue: Venue, symbol: str) -> Problem | None:
    """One-way mode: an entry never touches a position that is open already."""
    holdings = await venue.holdings()
    if isinstance(holdings, Problem):
        return holdings
    return _position_open(holdings, symbol)


def _position_open(holdings: Holdings, symbol: str) -> Problem | None:
    if holdings.state is VenueState.OPEN and any(position.symbol == symbol for position in holdings.positions):
        return no(OrderRefusal.POSITION_OPEN, f"a position in {symbol} is open already")
    return None


async def _protected(desk: Desk, venue: Venue, plan: EntryPlan, seen: Quote, done: Executed) -> ExecutionReport:
    """The sides are judged again against the fill itself (invariant 7), then stop and target rest."""
    price = average_price(done.fills) or Decimal(0)
    refusal = sides_fit(plan.side, price, plan.stop_loss, plan.take_profit)
    protection = refusal or await venue.protect(plan.symbol, plan.side, plan.stop_loss, plan.take_profit)
    if isinstance(protection, Problem):
        return _filled(desk, venue, plan, seen, done, None, protection)
    return _filled(desk, venue, plan, seen, done, protection, None)


def _filled(
    desk: Desk,
    venue: Venue,
    plan: EntryPlan,
    seen: Quote,
    done: Executed,
    protection: Protection | None,
    refusal: Problem | None,
) -> ExecutionReport:
    quantity = sum((fill.quantity for fill in done.fills), Decimal(0))
    notional = sum((fill.quantity * fill.price for fill in done.fills), Decimal(0))
    margin = margin_of(notional, plan.leverage)
    bracket = bracket_for(seen.brackets, notional)
    liquidation = liquidation_price(plan.side, quantity, notional / quantity, margin, bracket)
    return ExecutionReport(
        client_order_id=plan.client_order_id,
        venue=venue.name,
        dry_run=venue.dry_run,
        status=ExecutionStatus.FILLED,
        symbol=plan.symbol,
        side=plan.side,
        order_side=plan.order_side,
        reduce_only=False,
        leverage=plan.leverage,
        requested_quantity=plan.quantity,
        filled_quantity=quantity,
        average_price=average_price(done.fills),
        fills=done.fills,
        protection=protection,
        margin=margin,
        liquidation_price=liquidation.quantize(MONEY),
        maintenance_ratio=bracket.maintenance_ratio,
        maintenance_amount=bracket.cum,
        brackets_source=seen.brackets_source,
        unprotected_seconds=0.0 if protection else None,
        refusal=refusal,
        unchecked=list(venue.unchecked),
        as_of=desk.clock.now(),
    )


def _without_fills(desk: Desk, venue: Venue, request: EntryRequest, status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
    return ExecutionReport(
        client_order_id=request.client_order_id,
        venue=venue.name,
        dry_run=venue.dry_run,
        status=status,
        symbol=request.symbol,
        side=request.side,
        order_side=order_side_of(request.side, reduce_only=False),
        reduce_only=False,
        leverage=request.leverage,
        requested_quantity=Decimal(0),
        filled_quantity=Decimal(0),
        refusal=refusal,
        unchecked=list(venue.unchecked),
        as_of=desk.clock.now(),
    )
