"""POST /execute/protect: amends stop, target and trailing stop of an open position, judged against the live mark price."""

from decimal import Decimal

from engine.core.order import OrderRefusal, Quote, no, sides_fit, stop_acts, trailing_fits
from engine.execution.desk import Desk, fresh_quote
from engine.execution.lasting_once import kept_going
from engine.ports import Guard, Unknown, Venue
from shared.brackets import brackets_of
from shared.enums import ExecutionStatus, Side
from shared.execution import PaperPosition, Protection, ProtectReport, ProtectRequest, Trailing
from shared.margin import bracket_for, liquidation_price, round_to_tick
from shared.problem import Problem


async def protect(desk: Desk, request: ProtectRequest) -> ProtectReport:
    """Lets a new stop, target or trailing stop rest; asking twice for the same gives the same.

    Returns:
        FILLED with what rests now, REFUSED with the reason and everything as it was, or UNKNOWN: what rested before still does.
    """
    venue = desk.venues.of(request.account)
    done = await kept_going(_protect(desk, venue, request))
    if isinstance(done, Unknown):
        refusal = no(OrderRefusal.OUTCOME_UNKNOWN, done.detail)
        return ProtectReport(status=ExecutionStatus.UNKNOWN, refusal=refusal, as_of=desk.clock.now())
    if isinstance(done, Problem):
        return ProtectReport(status=ExecutionStatus.REFUSED, refusal=done, as_of=desk.clock.now())
    return ProtectReport(status=ExecutionStatus.FILLED, protection=done, as_of=done.confirmed_at)


async def _protect(desk: Desk, venue: Venue, request: ProtectRequest) -> Protection | Problem | Unknown:
    position = await venue.held(request.symbol, request.side)
    if isinstance(position, Problem) and position.code != OrderRefusal.NO_POSITION:
        return position
    if not venue.lasting and _asks_for_nothing(request):
        return no(OrderRefusal.NOTHING_TO_AMEND, "neither a stop nor a target was given")
    if isinstance(position, Problem):
        return position
    seen = await fresh_quote(desk, request.symbol)
    if isinstance(seen, Problem):
        return seen
    guard = _guard(request, position, seen)
    return guard if isinstance(guard, Problem) else await venue.protect(guard)


def _asks_for_nothing(request: ProtectRequest) -> bool:
    given = request.stop_loss, request.take_profit, request.trailing
    return all(one is None for one in given) and not request.end_trailing


def _guard(request: ProtectRequest, position: PaperPosition | None, seen: Quote) -> Guard | Problem:
    """Only what changes is judged against the price: an old stop that the market just reached is the watcher's to book."""
    tick = seen.rules.tick_size
    new_stop = None if request.stop_loss is None else round_to_tick(request.stop_loss, tick)
    new_target = None if request.take_profit is None else round_to_tick(request.take_profit, tick)
    stop = new_stop or (position.stop_loss if position else None)
    if stop is None:
        return no(OrderRefusal.STOP_MISSING, "a position is never left without a stop")
    refusal = sides_fit(request.side, seen.mark.price, new_stop, new_target) or _acts(request.side, new_stop, position)
    if refusal is not None:
        return refusal
    trailing = _trailing(request, position, seen)
    if isinstance(trailing, Problem):
        return trailing
    return Guard(
        client_order_id=request.client_order_id,
        symbol=request.symbol,
        side=request.side,
        stop_loss=stop,
        take_profit=new_target or (position.take_profit if position else None),
        trailing=trailing,
        end_trailing=request.end_trailing,
    )


def _trailing(request: ProtectRequest, position: PaperPosition | None, seen: Quote) -> Trailing | Problem | None:
    if request.trailing is None or position is None:
        return request.trailing
    return trailing_fits(request.side, position.entry_price, seen.mark.price, request.trailing, seen.rules.tick_size)


def _acts(side: Side, new_stop: Decimal | None, position: PaperPosition | None) -> Problem | None:
    if new_stop is None or position is None:
        return None
    return stop_acts(side, new_stop, liquidation_of(position))


def liquidation_of(position: PaperPosition) -> Decimal:
    """The liquidation price of a held position, from the bracket of its entry notional."""
    brackets, _ = brackets_of(position.symbol)
    bracket = bracket_for(brackets, position.quantity * position.entry_price)
    return liquidation_price(position.side, position.quantity, position.entry_price, position.margin, bracket)
