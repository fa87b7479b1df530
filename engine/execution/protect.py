"""POST /execute/protect: amends stop and target of an open position, judged against the live mark price."""

from decimal import Decimal

from engine.core.order import OrderRefusal, Quote, no, sides_fit, stop_acts
from engine.execution.close import position_in
from engine.execution.desk import Desk, fresh_quote
from engine.ports import Venue
from shared.brackets import brackets_of
from shared.enums import ExecutionStatus, Side
from shared.execution import PaperPosition, Protection, ProtectReport, ProtectRequest
from shared.margin import bracket_for, liquidation_price, round_to_tick
from shared.problem import Problem


async def protect(desk: Desk, request: ProtectRequest) -> ProtectReport:
    """Lets a new stop or target rest; asking twice for the same gives the same.

    Returns:
        FILLED with what rests now, or REFUSED with the reason and everything as it was.
    """
    venue = desk.venues.of(request.account)
    done = await _protect(desk, venue, request)
    if isinstance(done, Problem):
        return ProtectReport(status=ExecutionStatus.REFUSED, refusal=done, as_of=desk.clock.now())
    return ProtectReport(status=ExecutionStatus.FILLED, protection=done, as_of=done.confirmed_at)


async def _protect(desk: Desk, venue: Venue, request: ProtectRequest) -> Protection | Problem:
    holdings = await venue.holdings()
    if isinstance(holdings, Problem):
        return holdings
    if request.stop_loss is None and request.take_profit is None:
        return no(OrderRefusal.NOTHING_TO_AMEND, "neither a stop nor a target was given")
    position = position_in(holdings, request.symbol, request.side)
    if isinstance(position, Problem):
        return position
    seen = await fresh_quote(desk, request.symbol)
    if isinstance(seen, Problem):
        return seen
    amended = _amended(request, position, seen)
    if isinstance(amended, Problem):
        return amended
    return await venue.protect(request.symbol, request.side, *amended)


def _amended(request: ProtectRequest, position: PaperPosition | None, seen: Quote) -> tuple[Decimal, Decimal | None] | Problem:
    """Only what changes is judged against the price: an old stop that the market just reached is the watcher's to book."""
    tick = seen.rules.tick_size
    new_stop = None if request.stop_loss is None else round_to_tick(request.stop_loss, tick)
    new_target = None if request.take_profit is None else round_to_tick(request.take_profit, tick)
    stop = new_stop or (position.stop_loss if position else None)
    if stop is None:
        return no(OrderRefusal.STOP_MISSING, "a position is never left without a stop")
    refusal = sides_fit(request.side, seen.mark.price, new_stop, new_target) or _acts(request.side, new_stop, position)
    return refusal or (stop, new_target or (position.take_profit if position else None))


def _acts(side: Side, new_stop: Decimal | None, position: PaperPosition | None) -> Problem | None:
    if new_stop is None or position is None:
        return None
    return stop_acts(side, new_stop, liquidation_of(position))


def liquidation_of(position: PaperPosition) -> Decimal:
    """The liquidation price of a held position, from the bracket of its entry notional."""
    brackets, _ = brackets_of(position.symbol)
    bracket = bracket_for(brackets, position.quantity * position.entry_price)
    return liquidation_price(position.side, position.quantity, position.entry_price, position.margin, bracket)
