"""One market order at the exchange: looked up, sent once, followed until it is final, its trades read.

Nothing is sent before its id was looked up, and an order without an answer is looked up, never sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

from engine.core.order import OrderRefusal, no
from engine.errors import VenueAway, VenueError, VenueHalted, VenueUnsure
from engine.execution.asking import Bound, Patience, insisted, refusal_of, until
from engine.execution.ids import MOST_TRIES, numbered
from engine.ports import Clock, Exchange, MarketOrder, Unknown
from shared.enums import OrderState
from shared.execution import Fill, VenueOrder
from shared.problem import Problem

ZERO = Decimal(0)

RARER = 5
"""Past its receive window an order is looked for less often."""

TRADES_BEFORE = timedelta(hours=1)
"""How far the exchange's clock, which stamps trades, may run before or behind the caller's."""


type TooLate = Callable[[], bool]


def in_time() -> bool:
    """For orders that may be sent at any time."""
    return False


class Departure:
    """Judges right before an order leaves whether it is too late for it, which a resume counts on; and remembers when that was."""

    def __init__(self, clock: Clock, latest: datetime) -> None:
        self._clock, self._latest = clock, latest
        self._left_at: float | None = None

    def __call__(self) -> bool:
        """Whether it must not leave any more."""
        self._left_at = asyncio.get_running_loop().time()
        return self._clock.wall() > self._latest

    @property
    def left(self) -> bool:
        """Whether the order was sent here; else it was found, and somebody worked on it before."""
        return self._left_at is not None

    @property
    def waited(self) -> float:
        """Seconds since the order left; 0 where it was found and not sent."""
        return 0.0 if self._left_at is None else asyncio.get_running_loop().time() - self._left_at


async def carry_out(
    exchange: Exchange,
    order: MarketOrder,
    patience: Patience,
    too_late: TooLate = in_time,
    watching: Exchange | None = None,
) -> VenueOrder | Problem | Unknown:
    """A market order in its final state, sent at most once, and not at all where it is too late for it.

    Args:
        exchange: Sends it.
        order: To be sent.
        patience: Bounds.
        too_late: Asked right before it leaves.
        watching: The same account with another urgency, for what is looked up after it left.

    Returns:
        The order, filled or not; a Problem where it certainly was not taken; Unknown where it may have been.
    """
    try:
        found = await insisted(
            lambda: exchange.find(order.symbol, order.client_order_id, conditional=False), Bound(patience.read), patience.poll
        )
    except VenueError as error:
        return refusal_of(error)
    if found is not None:
        return await settled(watching or exchange, found, patience)
    if too_late():
        return no(OrderRefusal.VENUE_AWAY, "it took too long to get so far; nothing was sent")
    return await send_once(exchange, order, patience, watching or exchange)


async def send_once(
    exchange: Exchange, order: MarketOrder, patience: Patience, watching: Exchange
) -> VenueOrder | Problem | Unknown:
    """Sends an order whose id the exchange was seen not to know."""
    sending = asyncio.ensure_future(Bound(patience.outcome).call(exchange.send(order)))
    try:
        answer = await _heard(sending, watching, order, patience)
    except VenueUnsure:
        return await awaited(watching, order.symbol, order.client_order_id, patience)
    except (VenueAway, VenueHalted) as error:
        return refusal_of(error)
    return answer if isinstance(answer, Problem) else await settled(watching, answer, patience)


async def _heard(
    sending: asyncio.Future[VenueOrder | Problem], exchange: Exchange, order: MarketOrder, patience: Patience
) -> VenueOrder | Problem:
    """The answer, or the order itself where the exchange shows it before it answers."""
    while not (await asyncio.wait({sending}, timeout=patience.silence))[0]:
        with suppress(VenueError):
            found = await Bound(patience.read).call(exchange.find(order.symbol, order.client_order_id, conditional=False))
            if found is not None:
                sending.add_done_callback(_let_go)
                return found
    return sending.result()


def _let_go(sending: asyncio.Future[VenueOrder | Problem]) -> None:
    """Whoever has seen the order needs no answer any more."""
    if not sending.cancelled():
        sending.exception()


async def awaited(exchange: Exchange, symbol: str, client_order_id: str, patience: Patience) -> VenueOrder | Unknown:
    """An order without an answer, once the exchange shows it."""

    async def look() -> VenueOrder | None:
        return await exchange.find(symbol, client_order_id, conditional=False)

    found = await until(look, Bound(patience.shown), patience.poll)
    if found is None:
        found = await until(look, Bound(patience.linger), patience.poll * RARER)
    if found is None:
        return Unknown(detail=f"the exchange does not show {client_order_id}, which may still come")
    return await settled(exchange, found, patience)


async def settled(exchange: Exchange, order: VenueOrder, patience: Patience) -> VenueOrder | Unknown:
    """An order in its final state; one that is told as working is asked for again."""
    if order.state is not OrderState.WORKING:
        return order

    async def final() -> VenueOrder | None:
        seen = await exchange.find(order.symbol, order.client_order_id, conditional=order.conditional)
        return None if seen is None or seen.state is OrderState.WORKING else seen

    found = await until(final, Bound(patience.outcome), patience.poll)
    return found or Unknown(detail=f"{order.client_order_id} is still being matched")


async def fills_of(exchange: Exchange, order: VenueOrder, patience: Patience) -> list[Fill] | None:
    """The trades of a final order, all of them; None where the exchange did not show them in time."""
    if order.filled_quantity <= 0:
        return []

    async def all_of_them() -> list[Fill] | None:
        fills = await exchange.trades(order.symbol, order)
        return fills if quantity_of(fills) >= order.filled_quantity else None

    return await until(all_of_them, Bound(patience.fills), patience.poll)


def quantity_of(fills: list[Fill]) -> Decimal:
    """Base asset."""
    return sum((fill.quantity for fill in fills), ZERO)


async def missing(
    exchange: Exchange, symbol: str, client_order_id: str, sent_at: datetime | None, clock: Clock, patience: Patience
) -> VenueOrder | Problem | Unknown:
    """An order of which its sender heard nothing: found, or proven never to have arrived, or unknown.

    Proven means: no signed request can be under way any more, and two readings some seconds apart show it neither under its id nor
    among what works nor in the trades, and no trade of a further number of its id. Before that nothing can be proven, and nothing is waited for.
    """
    if sent_at is None or (clock.wall() - sent_at).total_seconds() < patience.arrives_within:
        found = await at_a_glance(exchange, symbol, client_order_id, patience)
        return found or Unknown(detail=f"the exchange does not show {client_order_id}, which may still come")
    for last in (False, True):
        try:
            found = await _seen(exchange, symbol, client_order_id, sent_at, clock, patience)
        except VenueError as error:
            return Unknown(detail=f"the exchange did not answer: {error}")
        if found is not None:
            return await settled(exchange, found, patience)
        if not last:
            await Bound(patience.apart * 2).pause(patience.apart)
    return no(OrderRefusal.NEVER_ARRIVED, f"the exchange never got {client_order_id}, and it can come no more")


async def at_a_glance(exchange: Exchange, symbol: str, client_order_id: str, patience: Patience) -> VenueOrder | Unknown | None:
    """An order that may still be under way, by one look each under its id and among what works.

    None where the exchange does not show it, which proves nothing; Unknown where it did not say, or still matches it.
    """
    bound = Bound(patience.read)
    try:
        found = await bound.call(exchange.find(symbol, client_order_id, conditional=False))
        found = found or _named(await bound.call(exchange.working(symbol)), client_order_id)
    except VenueError as error:
        return Unknown(detail=f"the exchange did not answer: {error}")
    return None if found is None else await settled(exchange, found, patience)


def _named(orders: list[VenueOrder], client_order_id: str) -> VenueOrder | None:
    return next((order for order in orders if order.client_order_id == client_order_id), None)


async def _seen(
    exchange: Exchange, symbol: str, client_order_id: str, sent_at: datetime, clock: Clock, patience: Patience
) -> VenueOrder | None:
    bound = Bound(patience.read * 2)

    async def read[T](question: Callable[[], Awaitable[T]]) -> T:
        return await insisted(question, bound, patience.poll)

    found = await read(lambda: exchange.find(symbol, client_order_id, conditional=False))
    found = found or _named(await read(lambda: exchange.working(symbol)), client_order_id)
    if found is not None:
        return found
    since = clock.now() - (clock.wall() - sent_at) - TRADES_BEFORE
    trades = await read(lambda: exchange.account_trades(symbol, since))
    if {trade.client_order_id for trade in trades} & {numbered(client_order_id, attempt) for attempt in range(1, MOST_TRIES + 1)}:
        raise VenueUnsure("its trades are there, it is not yet")
    return None
