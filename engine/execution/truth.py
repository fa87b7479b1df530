"""POST /execute/truth: an account as the exchange tells it, for whoever keeps the books; POST /execute/guards: what protects it now."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from engine.core.fills import order_side_of
from engine.errors import VenueAway
from engine.execution.asking import Bound, answered, wait_of
from engine.execution.desk import Desk
from engine.execution.ids import OURS
from engine.ports import Exchange, Urgency
from shared.enums import OrderKind
from shared.execution import BalanceReply, Guarded, GuardsReply, GuardsRequest, TruthReply, TruthRequest, VenueOrder
from shared.problem import Problem

TRUTH_SECONDS = 13.0
"""Below the 15 s that the caller waits; some of it is paged."""

GUARDS_SECONDS = 3.0
"""Below the 5 s that the caller waits."""

AGAIN_SECONDS = 0.3

ALL_AT_ONCE = 40
"""Symbols from which on the working orders of all cost no more than theirs: 80 against 2 a symbol."""

HELD_FIRST = 10
"""Symbols from which on a glance reads positions before orders. Else a minute of glances at what a panic has closed already spends what the
books need to hear of it."""


async def truth(desk: Desk, request: TruthRequest) -> TruthReply | Problem:
    """All parts asked at once, or a Problem where one of them did not come: half a truth is none.

    It is asked often and costs much weight, so it leaves the budget's reserve to what acts.
    """
    exchange = desk.venues.exchange(request.account, Urgency.ENTER)
    if isinstance(exchange, Problem):
        return exchange
    return await answered(_read(exchange, request, desk.clock.now()), TRUTH_SECONDS)


async def guards(desk: Desk, request: GuardsRequest) -> GuardsReply | Problem:
    """Positions and working orders of some symbols, or a Problem where a part did not come.

    Weight 5 and 2 for each symbol, 85 at most, and the 5 only where a stop is missing or triggered; a truth costs several times that. Of ten
    symbols and more positions are read first, and orders only of those that are held: after a panic over sixty that is 5 instead of 85. It has a
    share of the budget that the books cannot spend, and leaves the reserve to what acts: glances at sixty symbols would leave a panic nothing.
    """
    exchange = desk.venues.exchange(request.account, Urgency.WATCH)
    if isinstance(exchange, Problem):
        return exchange
    return await answered(_guards(exchange, request, desk.clock.now()), GUARDS_SECONDS)


async def _guards(exchange: Exchange, request: GuardsRequest, as_of: datetime) -> GuardsReply:
    bound, symbols = Bound(GUARDS_SECONDS), sorted(set(request.symbols))
    if len(symbols) >= HELD_FIRST:
        return await _guards_of_many(exchange, request, as_of, bound)
    if request.guarded:
        orders = await _working(exchange, symbols, bound)
        if all(_stands(orders, one) for one in request.guarded):
            return GuardsReply(as_of=as_of, positions=[], orders=orders, sound=True)
    positions, orders = await asyncio.gather(_again(exchange.positions, bound), _working(exchange, symbols, bound))
    held = [position for position in positions if position.quantity > 0]
    return GuardsReply(as_of=as_of, positions=held, orders=orders)


async def _guards_of_many(exchange: Exchange, request: GuardsRequest, as_of: datetime, bound: Bound) -> GuardsReply:
    held = [position for position in await _again(exchange.positions, bound) if position.quantity > 0]
    theirs = sorted({position.symbol for position in held} & set(request.symbols))
    orders = await _working(exchange, theirs, bound)
    sound = bool(request.guarded) and all(_stands(orders, one) for one in request.guarded)
    return GuardsReply(as_of=as_of, positions=held, orders=orders, sound=sound)


def _stands(orders: list[VenueOrder], one: Guarded) -> bool:
    """Whether a stop of ours covers a position, and nothing that guards it was triggered; somebody else's stop covers nothing."""
    closing = order_side_of(one.side, reduce_only=True)
    guards = [order for order in orders if (order.symbol, order.order_side) == (one.symbol, closing) and order.conditional]
    return not any(order.triggered or order.child_order_id for order in guards) and any(
        order.kind is OrderKind.STOP
        and order.client_order_id.startswith(OURS)
        and order.quantity - order.filled_quantity >= one.quantity
        for order in guards
    )


async def _working(exchange: Exchange, symbols: list[str], bound: Bound) -> list[VenueOrder]:
    if len(symbols) < ALL_AT_ONCE:
        return await _of_each(symbols, exchange.working, bound)
    return [order for order in await _again(exchange.working, bound) if order.symbol in set(symbols)]


async def _read(exchange: Exchange, request: TruthRequest, as_of: datetime) -> TruthReply:
    """What is now first, then what happened: so the history holds whatever the state shows, and an order that ends meanwhile is in it.

    A part that did not come is asked for once more: over many symbols one read of hundreds always fails on a bad day, and with it went the
    weight of all the others.
    """
    symbols, since = sorted(set(request.symbols)), request.since
    bound = Bound(TRUTH_SECONDS)
    wallet, modes, positions, working = await asyncio.gather(
        _again(exchange.wallet, bound),
        _again(exchange.modes, bound),
        _again(exchange.positions, bound),
        _again(exchange.working, bound) if request.everywhere else _working(exchange, symbols, bound),
    )
    ended, trades, income = await asyncio.gather(
        _of_each(symbols, lambda symbol: exchange.ended(symbol, since), bound),
        _of_each(symbols, lambda symbol: exchange.account_trades(symbol, since), bound),
        _again(lambda: exchange.income(since), bound),
    )
    return TruthReply(
        as_of=as_of,
        balance=BalanceReply(asset="USDT", total=wallet.total, free=wallet.free, as_of=as_of),
        position_mode=modes.position,
        positions=[position for position in positions if position.quantity > 0],
        orders=_once([*working, *ended]),
        trades=sorted(trades, key=lambda trade: trade.at),
        income=income,
    )


async def _of_each[T](symbols: list[str], question: Callable[[str], Awaitable[list[T]]], bound: Bound) -> list[T]:
    found = await asyncio.gather(*(_again(partial(question, symbol), bound) for symbol in symbols))
    return [one for of_symbol in found for one in of_symbol]


async def _again[T](question: Callable[[], Awaitable[T]], bound: Bound) -> T:
    """Asked once more after a failure, and after that its failure is the truth's."""
    try:
        return await question()
    except VenueAway as error:
        if not await bound.pause(max(wait_of(error), AGAIN_SECONDS)):
            raise
    return await question()


def _once(orders: list[VenueOrder]) -> list[VenueOrder]:
    """An order that ended between two questions is told by the later one."""
    known = {(order.symbol, order.conditional, order.venue_order_id): order for order in orders}
    return list(known.values())
