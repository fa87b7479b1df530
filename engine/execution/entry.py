"""POST /execute/entry: check, send, protect. One path for PAPER, dry run and REAL; the venue is the only difference."""

import asyncio
from decimal import Decimal

import msgspec

from engine.core.fills import MONEY, average_price, order_side_of
from engine.core.order import EntryPlan, OrderRefusal, margin_of, no, plan_entry
from engine.execution.desk import Desk, quote, tell
from engine.execution.unprotected import note_unprotected
from engine.ports import Entered, Holdings, Terms, Unknown, Venue
from shared.brackets import brackets_of
from shared.enums import ExecutionStatus
from shared.execution import EntryRequest, ExecutionReport, VenueState
from shared.margin import bracket_for, liquidation_price
from shared.problem import Problem


async def enter(desk: Desk, request: EntryRequest) -> ExecutionReport:
    """Opens the position that a request asks for, once; with `resume`, finishes what was begun.

    Returns:
        FILLED with fills and protection (or with the fills that closed it at once), REFUSED with the reason and nothing done, or
        UNKNOWN: to be resumed.

    Raises:
        ClientOrderIdReused: The id stands for another order.
    """
    venue = desk.venues.for_resumed_entry(request.account) if request.resume else desk.venues.for_entry(request.account)

    def blank(status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
        return _without_fills(desk, venue, request, status, refusal)

    async def work() -> ExecutionReport:
        return note_unprotected(tell(venue, await _enter(desk, venue, request)))

    return await desk.keeper(venue).run(request, work, blank, keep_refusals=True)


async def _enter(desk: Desk, venue: Venue, request: EntryRequest) -> ExecutionReport:
    terms = _recorded(request.symbol) if request.resume else await venue.terms(request.symbol)
    if isinstance(terms, Problem):
        return _without_fills(desk, venue, request, ExecutionStatus.REFUSED, terms)
    done = await (venue.resume_entry(request) if request.resume else _opened(desk, venue, request, terms))
    if isinstance(done, Unknown):
        return _without_fills(desk, venue, request, ExecutionStatus.UNKNOWN, no(OrderRefusal.OUTCOME_UNKNOWN, done.detail))
    if isinstance(done, Problem):
        return _without_fills(desk, venue, request, ExecutionStatus.REFUSED, done)
    return _filled(desk, venue, request, terms, done)


def _recorded(symbol: str) -> Terms:
    brackets, source = brackets_of(symbol)
    return Terms(brackets=brackets, source=source)


async def _opened(desk: Desk, venue: Venue, request: EntryRequest, terms: Terms) -> Entered | Problem | Unknown:
    started = desk.clock.wall()
    plan = await _plan(desk, venue, request, terms)
    if isinstance(plan, Problem):
        return plan
    return await venue.enter(msgspec.structs.replace(plan, sent_at=request.sent_at or started))


async def _plan(desk: Desk, venue: Venue, request: EntryRequest, terms: Terms) -> EntryPlan | Problem:
    wallet, held, seen = await asyncio.gather(venue.wallet(), _held(venue, request.symbol), quote(desk, request.symbol, terms))
    if isinstance(wallet, Problem):
        return wallet
    if held is not None:
        return held
    return seen if isinstance(seen, Problem) else plan_entry(request, seen, wallet)


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


def _filled(desk: Desk, venue: Venue, request: EntryRequest, terms: Terms, done: Entered) -> ExecutionReport:
    quantity = sum((fill.quantity for fill in done.fills), Decimal(0))
    notional = sum((fill.quantity * fill.price for fill in done.fills), Decimal(0))
    margin = margin_of(notional, request.leverage)
    bracket = bracket_for(terms.brackets, notional)
    liquidation = liquidation_price(request.side, quantity, notional / quantity, margin, bracket)
    return msgspec.structs.replace(
        _report(desk, venue, request, ExecutionStatus.FILLED),
        requested_quantity=done.requested,
        filled_quantity=quantity,
        average_price=average_price(done.fills),
        fills=done.fills,
        protection=done.protection,
        margin=margin,
        liquidation_price=liquidation.quantize(MONEY),
        maintenance_ratio=bracket.maintenance_ratio,
        maintenance_amount=bracket.cum,
        brackets_source=terms.source,
        unprotected_seconds=done.unprotected_seconds,
        closing_order_id=done.closing_order_id,
        closing_fills=done.closing_fills,
        refusal=done.refusal,
    )


def _without_fills(desk: Desk, venue: Venue, request: EntryRequest, status: ExecutionStatus, refusal: Problem) -> ExecutionReport:
    return msgspec.structs.replace(_report(desk, venue, request, status), refusal=refusal)


def _report(desk: Desk, venue: Venue, request: EntryRequest, status: ExecutionStatus) -> ExecutionReport:
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
        unchecked=list(venue.unchecked),
        as_of=desk.clock.now(),
    )
