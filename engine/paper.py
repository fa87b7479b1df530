"""The venues that fill at the real market without touching it: paper accounts, and the dry run of a REAL one.

Adapters of the Venue port. Both book what `core.fills` reads from a live book or a trigger; neither holds, or could make, a client
that signs. They keep nothing: a paper book comes with each request.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from engine.core import fills
from engine.core.market import MINUTE_MS, ms_of
from engine.core.order import MAX_PRICE_AGE_MS, EntryPlan, OrderRefusal, Wallet, no
from engine.errors import ExchangeError, UnknownSymbol
from engine.execution.protect import liquidation_of
from engine.execution.signed_reads import BRACKETS, FREE_MARGIN, MODE, OPEN_POSITION, SignedReads
from engine.ports import Clock, Closing, Entered, Executed, Guard, Holdings, MarketData, Terms, Unknown
from shared.brackets import brackets_of
from shared.enums import OrderLookup, Side, TriggerKind
from shared.execution import (
    CloseRequest,
    EntryRequest,
    FlattenReply,
    OrderReply,
    PaperBook,
    PaperPosition,
    Protection,
    Trigger,
    VenueState,
)
from shared.problem import Problem

ZERO = Decimal(0)

DEFAULT_LIQUIDATION_FEE_RATIO = Decimal("0.015")
"""Where a delisted symbol has no rules any more. Source: exchangeInfo `liquidationFee`, the value of most symbols (2026-09)."""

UNLISTED_TICK = Decimal("0.00000001")


class MarketFills:
    """Fills orders at the live book, or at a trigger."""

    def __init__(self, market: MarketData, clock: Clock) -> None:
        self._market = market
        self._clock = clock

    async def terms(self, symbol: str) -> Terms | Problem:
        """The brackets that were recorded."""
        brackets, source = brackets_of(symbol)
        return Terms(brackets=brackets, source=source)

    async def enter(self, plan: EntryPlan) -> Entered | Problem | Unknown:
        """At the levels that the checks saw: what was judged is what is booked, sides included."""
        now = self._clock.now()
        return Entered(
            requested=plan.quantity,
            fills=fills.fills_of(plan.client_order_id, plan.expected.levels, plan.order_side, now),
            protection=Protection(stop_loss=plan.stop_loss, take_profit=plan.take_profit, confirmed_at=now),
            unprotected_seconds=0.0,
        )

    async def resume_entry(self, request: EntryRequest) -> Entered | Problem | Unknown:
        """No report was kept and no claim lives: nothing happened."""
        return _never(request.client_order_id)

    async def resume_close(self, request: CloseRequest) -> Executed | Problem | Unknown:
        """No report was kept and no claim lives: nothing happened."""
        return _never(request.client_order_id)

    async def flatten(self, prefix: str) -> FlattenReply | Problem | None:
        """What is open came with the request."""
        del prefix
        return None

    async def look_up(self, client_order_id: str, symbol: str | None) -> OrderReply:
        """No report was kept and no claim lives: nothing happened."""
        del symbol
        return OrderReply(client_order_id=client_order_id, state=OrderLookup.NOT_FOUND)

    async def close(self, closing: Closing) -> Executed | Problem | Unknown:
        """At the book as it is now, whole; with a trigger, at its moment."""
        if closing.trigger is None:
            return await self._at_market(closing)
        try:
            rules = await self._market.instrument(closing.symbol)
            trigger = await self._with_its_bar(closing.symbol, closing.trigger)
        except UnknownSymbol:
            return _at_trigger(closing, closing.trigger, UNLISTED_TICK, DEFAULT_LIQUIDATION_FEE_RATIO)
        except ExchangeError as error:
            return _unavailable(closing.symbol, error)
        if isinstance(trigger, Problem):
            return trigger
        return _at_trigger(closing, trigger, rules.tick_size, rules.liquidation_fee_ratio)

    async def protect(self, guard: Guard) -> Protection | Problem | Unknown:
        """Nothing rests anywhere: the orchestrator keeps stop and target and judges them on the marks."""
        return Protection(stop_loss=guard.stop_loss, take_profit=guard.take_profit, confirmed_at=self._clock.now())

    async def _with_its_bar(self, symbol: str, trigger: Trigger) -> Trigger | Problem:
        """A caller who does not say where the trigger's bar opened gets that minute of the mark price; a target needs none."""
        if trigger.bar_open is not None or trigger.kind is TriggerKind.TARGET:
            return trigger
        minute = ms_of(trigger.at) // MINUTE_MS * MINUTE_MS
        bars = await self._market.mark_bars(symbol, minute, minute)
        if not bars:
            return no(OrderRefusal.MARKET_DATA_UNAVAILABLE, f"no mark price of {symbol} is known for {trigger.at.isoformat()}")
        return msgspec.structs.replace(trigger, bar_open=bars[0].open)

    async def _at_market(self, closing: Closing) -> Executed | Problem:
        try:
            rules, book = await asyncio.gather(self._market.instrument(closing.symbol), self._market.book(closing.symbol))
        except ExchangeError as error:
            return _unavailable(closing.symbol, error)
        age_ms = self._clock.wall_ms() - book.received_ms
        if age_ms > MAX_PRICE_AGE_MS:
            return no(OrderRefusal.STALE_PRICE, f"the book of {closing.symbol} is {age_ms} ms old")
        order_side = fills.order_side_of(closing.side, reduce_only=True)
        levels = fills.levels_for(book, order_side)
        if not levels:
            return no(OrderRefusal.THIN_BOOK, f"nobody takes {closing.symbol} now")
        taken = fills.walk_to_the_end(levels, closing.quantity, order_side, rules.tick_size)
        if closing.position is not None and _beyond_liquidation(closing.position, taken.average_price):
            fee_ratio = rules.liquidation_fee_ratio
            return _liquidation(closing, closing.position, taken.average_price, fee_ratio, self._clock.now())
        return Executed(fills=fills.fills_of(closing.client_order_id, taken.levels, order_side, self._clock.now()))


def _never(client_order_id: str) -> Problem:
    return no(OrderRefusal.NEVER_ARRIVED, f"{client_order_id} was never carried out")


def _unavailable(symbol: str, error: ExchangeError) -> Problem:
    return no(OrderRefusal.MARKET_DATA_UNAVAILABLE, f"the exchange did not answer for {symbol}: {error}")


def _at_trigger(closing: Closing, trigger: Trigger, tick: Decimal, fee_ratio: Decimal) -> Executed:
    touched = fills.touched_at(closing.side, trigger)
    position = closing.position
    if position is not None and (trigger.kind is TriggerKind.LIQUIDATION or _beyond_liquidation(position, touched)):
        return _liquidation(closing, position, touched, fee_ratio, trigger.at)
    price = fills.trigger_price(closing.side, trigger, tick)
    order_side = fills.order_side_of(closing.side, reduce_only=True)
    return Executed(fills=fills.fills_of(closing.client_order_id, [(price, closing.quantity)], order_side, trigger.at))


def _beyond_liquidation(position: PaperPosition, price: Decimal) -> bool:
    """A market that jumped over stop and liquidation price liquidated first: isolated margin never costs more than itself."""
    liquidation = liquidation_of(position)
    return liquidation > 0 and (price - liquidation) * position.side.sign <= 0


def _liquidation(closing: Closing, position: PaperPosition, touched: Decimal, fee_ratio: Decimal, at: datetime) -> Executed:
    margin = position.margin * closing.quantity / position.quantity
    price, fee = fills.liquidated(closing.side, closing.quantity, position.entry_price, margin, touched, fee_ratio)
    order_side = fills.order_side_of(closing.side, reduce_only=True)
    booked = fills.fills_of(closing.client_order_id, [(price, closing.quantity)], order_side, at, fee_ratio=ZERO)
    return Executed(fills=booked, liquidation_fee=fee)


class PaperVenue(MarketFills):
    """A paper account, whole, as it came with the request."""

    name = "paper"
    executor = "PaperExecutor"
    dry_run = False
    lasting = False
    unchecked: tuple[str, ...] = ()

    def __init__(self, market: MarketData, clock: Clock, book: PaperBook) -> None:
        super().__init__(market, clock)
        self._book = book

    async def wallet(self) -> Wallet | Problem | None:
        """Balance, and what the isolated margins in use leave of it."""
        used = sum((position.margin for position in self._book.positions), ZERO)
        return Wallet(total=self._book.balance, free=max(self._book.balance - used, ZERO))

    async def holdings(self) -> Holdings | Problem:
        """The book's positions; a position of no quantity is none."""
        return _holding(self._book.positions)

    async def held(self, symbol: str, side: Side) -> PaperPosition | Problem | None:
        """From the book."""
        return _held(_holding(self._book.positions), symbol, side)


UNCHECKED = (FREE_MARGIN, OPEN_POSITION, BRACKETS, "margin_type", MODE)
"""A margin type is known only by setting it, which a dry run does not."""


class DryRunVenue(MarketFills):
    """A REAL account whose orders are not sent: checks what can be read and names what it could not."""

    name = "binance"
    executor = "BinanceExecutor DRY_RUN"
    dry_run = True
    lasting = False

    def __init__(
        self,
        market: MarketData,
        clock: Clock,
        positions: Sequence[PaperPosition] | None = None,
        reads: SignedReads | None = None,
    ) -> None:
        super().__init__(market, clock)
        self._positions, self._reads = positions, reads

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What a live order would have met and nobody looked at."""
        return tuple(name for name in UNCHECKED if self._reads is None or name not in self._reads.checked)

    async def wallet(self) -> Wallet | Problem | None:
        """Only a signed call could say."""
        if self._reads is None:
            return None
        return await self._reads.wallet(sum((position.margin for position in self._positions or ()), ZERO))

    async def terms(self, symbol: str) -> Terms | Problem:
        """The account's own, where it has a key that answers; else the brackets that were recorded."""
        told = None if self._reads is None else await self._reads.terms(symbol)
        return await super().terms(symbol) if told is None else told

    async def holdings(self) -> Holdings | Problem:
        """The dry-run positions that came with the request; where none were told, nothing is known."""
        return Holdings(state=VenueState.UNKNOWN) if self._positions is None else _holding(self._positions)

    async def held(self, symbol: str, side: Side) -> PaperPosition | Problem | None:
        """From the positions that were told; None where none were."""
        return None if self._positions is None else _held(_holding(self._positions), symbol, side)


def _held(holdings: Holdings, symbol: str, side: Side) -> PaperPosition | Problem:
    found = next((held for held in holdings.positions if held.symbol == symbol and held.side is side), None)
    return found or no(OrderRefusal.NO_POSITION, f"there is no {side} position in {symbol} to reduce")


def _holding(positions: Sequence[PaperPosition]) -> Holdings:
    held = tuple(position for position in positions if position.quantity > 0)
    return Holdings(state=VenueState.OPEN if held else VenueState.FLAT, positions=held)
