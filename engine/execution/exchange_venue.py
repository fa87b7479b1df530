"""The venue of a REAL account that is not dry: orders at the exchange, written against the Exchange port alone.

Reads before an entry may be refused their budget; whatever protects or closes uses its reserve. Nothing here raises a VenueError:
what an order came to is Executed, Entered, a Problem (certainly nothing happened) or Unknown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from engine.core.instrument import InstrumentRules
from engine.core.order import EntryPlan, OrderRefusal, Wallet, no
from engine.errors import ExchangeError
from engine.execution.amend import Amendment, resting
from engine.execution.asking import Bound, Patience, answered, insisted
from engine.execution.close_unit import CloseUnit
from engine.execution.entry_unit import EntryUnit, Opened, is_filled
from engine.execution.exchange_flatten import Flattening
from engine.execution.exchange_lookup import look_up
from engine.execution.market_orders import ZERO, Departure, at_a_glance, carry_out, missing
from engine.execution.modes import unfit
from engine.execution.opening import opened
from engine.execution.turns import Turns
from engine.ports import (
    AccountModes,
    Clock,
    Closing,
    Entered,
    Exchange,
    Exchanges,
    Executed,
    Guard,
    Holdings,
    MarketData,
    MarketOrder,
    Terms,
    Unknown,
    Urgency,
)
from shared.enums import BracketsSource, Side
from shared.execution import (
    CloseRequest,
    EntryRequest,
    FlattenReply,
    OrderReply,
    PaperPosition,
    Protection,
    RealAccount,
    VenueOrder,
    VenuePosition,
    VenueState,
)
from shared.margin import Bracket, round_to_tick
from shared.problem import Problem

SETTING_TRIES = 3
"""Margin type and leverage may be set again: the second time changes nothing."""


class ExchangeVenue:
    """See `engine.ports.Venue`.

    Args:
        account: Whose; its credentials are opened by `exchanges`.
        exchanges: Opens it.
        market: Rules of the symbols.
        clock: Both times.
        patience: Bounds.
        turns: Keeps changes of one position's protection apart.
    """

    name = "binance"
    executor = "BinanceExecutor LIVE"
    dry_run = False
    lasting = True
    unchecked: tuple[str, ...] = ()

    def __init__(
        self,
        account: RealAccount,
        exchanges: Exchanges,
        market: MarketData,
        clock: Clock,
        patience: Patience,
        turns: Turns,
    ) -> None:
        self._account, self._exchanges, self._market = account, exchanges, market
        self._clock, self._patience = clock, patience
        self._turn = turns.of(account.user_id)

    async def wallet(self) -> Wallet | Problem | None:
        """As the exchange tells it."""
        return await self._read(Urgency.ENTER, lambda exchange: exchange.wallet())

    async def holdings(self) -> Holdings | Problem:
        """As the exchange tells it; what did not come is a Problem, never flat."""
        told = await self._read(Urgency.ENTER, lambda exchange: exchange.positions())
        if isinstance(told, Problem):
            return told
        open_now = [position for position in told if position.quantity > 0]
        return Holdings(
            state=VenueState.OPEN if open_now else VenueState.FLAT,
            positions=tuple(_position(position) for position in open_now),
            told=tuple(open_now),
        )

    async def terms(self, symbol: str) -> Terms | Problem:
        """The account's own brackets; refused in hedge mode and in multi-assets mode."""

        async def both(exchange: Exchange) -> tuple[AccountModes, Sequence[Bracket]]:
            return await asyncio.gather(exchange.modes(), exchange.brackets(symbol))

        told = await self._read(Urgency.ENTER, both)
        if isinstance(told, Problem):
            return told
        modes, brackets = told
        if lacks := unfit(modes):
            return lacks[0]
        return Terms(brackets=brackets, source=BracketsSource.EXCHANGE)

    async def held(self, symbol: str, side: Side) -> PaperPosition | Problem | None:
        """A position, with the nearest stop and target of those that rest."""

        async def both(exchange: Exchange) -> tuple[list[VenuePosition], list[VenueOrder]]:
            return await asyncio.gather(exchange.positions(), exchange.working(symbol))

        told = await self._insisted(both)
        if isinstance(told, Problem):
            return told
        positions, orders = told
        found = next((one for one in positions if one.symbol == symbol and one.side is side and one.quantity > 0), None)
        if found is None:
            return no(OrderRefusal.NO_POSITION, f"the exchange shows no {side} position in {symbol}")
        now = resting(orders, side)
        return msgspec.structs.replace(
            _position(found),
            stop_loss=now.stops[0].trigger_price if now.stops else None,
            take_profit=now.targets[0].trigger_price if now.targets else None,
        )

    async def enter(self, plan: EntryPlan) -> Entered | Problem | Unknown:
        """Isolated margin and leverage first: where they cannot be set nothing is sent."""
        entering, protecting = self._open(Urgency.ENTER), self._open(Urgency.PROTECT)
        if isinstance(entering, Problem):
            return entering
        if isinstance(protecting, Problem):
            return protecting
        refusal = await self._prepared(entering, plan)
        if refusal is not None:
            return refusal
        order = MarketOrder(
            client_order_id=plan.client_order_id,
            symbol=plan.symbol,
            order_side=plan.order_side,
            quantity=plan.quantity,
            reduce_only=False,
        )
        most = await self._most(plan.symbol)
        departure = self._too_late(plan.sent_at)
        done = await carry_out(entering, order, self._patience, departure, protecting)
        if not isinstance(done, VenueOrder):
            return done
        if not is_filled(done):
            return no(OrderRefusal.THIN_BOOK, "the exchange ended the order without a fill")
        unit = EntryUnit(protecting, self._clock, self._patience)
        work = Opened(
            order=done,
            client_order_id=plan.client_order_id,
            side=plan.side,
            stop_loss=plan.stop_loss,
            take_profit=plan.take_profit,
            fresh=departure.left,
            waited=departure.waited,
            most=most,
        )
        return await (unit.finish(work) if departure.left else unit.resume(work))

    async def resume_entry(self, request: EntryRequest) -> Entered | Problem | Unknown:
        """Finishes what the exchange shows of it."""
        exchange = self._open(Urgency.PROTECT)
        if isinstance(exchange, Problem):
            return Unknown(detail=exchange.detail)
        found = await self._missing(exchange, request)
        if not isinstance(found, VenueOrder):
            return found
        if not is_filled(found):
            return no(OrderRefusal.THIN_BOOK, "the exchange ended the order without a fill")
        return await EntryUnit(exchange, self._clock, self._patience).resume(
            Opened(
                order=found,
                client_order_id=request.client_order_id,
                side=request.side,
                stop_loss=await self._ticked(request.symbol, request.stop_loss),
                take_profit=await self._ticked(request.symbol, request.take_profit),
                fresh=False,
                most=await self._most(request.symbol),
            )
        )

    async def close(self, closing: Closing) -> Executed | Problem | Unknown:
        """Reduce-only, and then what guarded the position goes, or is made to fit what is left."""
        exchange = self._open(Urgency.PROTECT)
        if isinstance(exchange, Problem):
            return exchange
        done = await self._closing(exchange, closing.sent_at).run(closing)
        if not isinstance(done, Problem) or done.code != OrderRefusal.ABOVE_MAX_QUANTITY:
            return done
        most = await self._most(
            closing.symbol
        )  # a position may be larger than any order, where rules changed or a hand added to it
        if most is None or most >= closing.quantity:
            return done
        return await self._closing(exchange, closing.sent_at).run(msgspec.structs.replace(closing, quantity=most))

    async def resume_close(self, request: CloseRequest) -> Executed | Problem | Unknown:
        """Finishes what the exchange shows of it."""
        exchange = self._open(Urgency.PROTECT)
        if isinstance(exchange, Problem):
            return Unknown(detail=exchange.detail)
        closing = self._closing(exchange, resumed=True)
        if request.widened_to is not None:
            done = await self._close_whole(exchange, closing, request, request.widened_to)
            if done is not None:
                return done
        name, symbol, side = request.client_order_id, request.symbol, request.side
        found, held, most = await asyncio.gather(self._missing(exchange, request), closing.held(symbol, side), self._most(symbol))
        if isinstance(found, VenueOrder):
            return await closing.finish(found, name, side)
        if isinstance(found, Problem) or held is None:
            return found
        if held == 0:
            return await closing.recalled(name, symbol, side) or found
        if request.quantity is None or request.quantity >= held:
            return await closing.drain(name, symbol, side, request.quantity, known=held, most=most) or found
        return found

    async def _close_whole(
        self, exchange: Exchange, closing: CloseUnit, request: CloseRequest, total: Decimal
    ) -> Executed | Problem | Unknown | None:
        """All that a row holds, where no proof of what became of a part can be waited for; None where nothing is held any more.

        A part that is seen was closed already, and what it left has no guard.
        """
        name, symbol, side = request.client_order_id, request.symbol, request.side
        found, held, most = await asyncio.gather(
            at_a_glance(exchange, symbol, name, self._patience), closing.held(symbol, side), self._most(symbol)
        )
        first = found if isinstance(found, VenueOrder) else None
        left = total - (first.filled_quantity if first else ZERO)
        if first is not None and left <= 0:
            return await closing.finish(first, name, side)
        certain = held is not None and held <= left and not isinstance(found, Unknown)
        ours = held if held is not None and certain else ZERO
        return await closing.drain(name, symbol, side, total, known=ours, most=most, first=first)

    async def protect(self, guard: Guard) -> Protection | Problem | Unknown:
        """New ones first, confirmed; then the old ones go."""
        exchange = self._open(Urgency.PROTECT)
        return exchange if isinstance(exchange, Problem) else await self._amendment(exchange).run(guard)

    async def flatten(self, prefix: str) -> FlattenReply | Problem | None:
        """By the exchange's own view, until it shows nothing."""
        exchange = self._open(Urgency.PROTECT)
        if isinstance(exchange, Problem):
            return exchange
        return await Flattening(exchange, self._market, self._clock, self._patience, self.name).run(prefix)

    async def look_up(self, client_order_id: str, symbol: str | None) -> OrderReply:
        """As the exchange shows it now."""
        exchange = self._open(Urgency.PROTECT)
        return await look_up(exchange, client_order_id, symbol, self._patience)

    def _closing(self, exchange: Exchange, sent_at: datetime | None = None, *, resumed: bool = False) -> CloseUnit:
        too_late = self._too_late(sent_at)
        return CloseUnit(exchange, self._amendment(exchange), self._clock, self._patience, too_late, resumed=resumed)

    def _too_late(self, sent_at: datetime | None) -> Departure:
        return Departure(self._clock, (sent_at or self._clock.wall()) + timedelta(seconds=self._patience.send_within))

    def _amendment(self, exchange: Exchange) -> Amendment:
        return Amendment(exchange, self._clock, self._patience, self._turn)

    def _open(self, urgency: Urgency) -> Exchange | Problem:
        return opened(self._exchanges, self._account, urgency)

    async def _read[T](self, urgency: Urgency, question: Callable[[Exchange], Awaitable[T]]) -> T | Problem:
        exchange = self._open(urgency)
        return exchange if isinstance(exchange, Problem) else await answered(question(exchange), self._patience.read)

    async def _insisted[T](self, question: Callable[[Exchange], Awaitable[T]]) -> T | Problem:
        """What protects or closes is not put off by one read that the exchange turned away."""
        exchange = self._open(Urgency.PROTECT)
        if isinstance(exchange, Problem):
            return exchange
        bound = Bound(self._patience.read)
        return await answered(insisted(lambda: question(exchange), bound, self._patience.poll), self._patience.read)

    async def _missing(self, exchange: Exchange, request: EntryRequest | CloseRequest) -> VenueOrder | Problem | Unknown:
        return await missing(exchange, request.symbol, request.client_order_id, request.sent_at, self._clock, self._patience)

    async def _prepared(self, exchange: Exchange, plan: EntryPlan) -> Problem | None:
        refusals = await asyncio.gather(
            self._set(lambda: exchange.set_isolated(plan.symbol)),
            self._set(lambda: exchange.set_leverage(plan.symbol, int(plan.leverage))),
        )
        return next((refusal for refusal in refusals if refusal is not None), None)

    async def _set(self, setting: Callable[[], Awaitable[Problem | None]]) -> Problem | None:
        refusal: Problem | None = None
        for _ in range(SETTING_TRIES):
            refusal = await answered(setting(), self._patience.read)
            if refusal is None or refusal.code != OrderRefusal.VENUE_AWAY:
                return refusal
        return refusal

    async def _ticked(self, symbol: str, price: Decimal) -> Decimal:
        """A price in the symbol's ticks; as it came where the rules do not, which the exchange then judges."""
        rules = await self._rules(symbol)
        return price if rules is None else round_to_tick(price, rules.tick_size)

    async def _most(self, symbol: str) -> Decimal | None:
        rules = await self._rules(symbol)
        return None if rules is None else rules.market_max_quantity

    async def _rules(self, symbol: str) -> InstrumentRules | None:
        """They are kept for an hour; a position waits no longer for them than for any other answer."""
        try:
            async with asyncio.timeout(self._patience.read):
                return await self._market.instrument(symbol)
        except (ExchangeError, TimeoutError):
            return None


def _position(told: VenuePosition) -> PaperPosition:
    return PaperPosition(
        symbol=told.symbol,
        side=told.side,
        quantity=told.quantity,
        entry_price=told.entry_price,
        leverage=told.leverage,
        margin=told.margin,
    )
