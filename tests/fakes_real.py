"""An engine with a small exchange behind it: positions, orders, conditional orders, trades and income of each account, by hand.

It keeps the engine's promises for real accounts (protection belongs to the entry, an id is looked up before it is sent, resume sends
nothing) and breaks on demand: replies lost before or after, protection that fails, a death between fill and stop, reads that lag.
"""

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import structs

from orchestrator.core.order import resting_order_id
from orchestrator.core.position import booked
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.ports import Trader
from orchestrator.trading.reconcile import Reconciled
from shared.enums import ExecutionStatus, Mode, OrderKind, OrderState, PositionMode, Side
from shared.execution import (
    Account,
    AccountEvent,
    BalanceReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    Fill,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    Income,
    OrderSide,
    Protection,
    ProtectReport,
    ProtectRequest,
    RealAccount,
    Trailing,
    TruthReply,
    TruthRequest,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from shared.margin import TAKER_FEE_RATIO, ZERO, floor_to_step
from shared.problem import Problem
from tests.builders import USER, d, trader
from tests.fakes import FakeClock, FakeEngine, FakeStore, World

NEVER_ARRIVED_AFTER = 20.0
STEP = Decimal("0.1")


@dataclass
class Holding:
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO


@dataclass
class RealBook:
    """One account at the exchange."""

    wallet: Decimal
    held: dict[str, Holding] = field(default_factory=dict)
    orders: list[VenueOrder] = field(default_factory=list)
    trades: list[VenueTrade] = field(default_factory=list)
    income: list[Income] = field(default_factory=list)

    def working(self, symbol: str | None = None) -> list[VenueOrder]:
        rows = [order for order in self.orders if order.state is OrderState.WORKING]
        return [order for order in rows if symbol in (None, order.symbol)]

    def stops(self, symbol: str) -> list[VenueOrder]:
        return [order for order in self.working(symbol) if order.kind is OrderKind.STOP]

    def quantity(self, symbol: str) -> Decimal:
        return self.held.get(symbol, Holding()).quantity


class FakeExchangeEngine(FakeEngine):
    """See the module. `trouble` as in FakeEngine, and "unprotected": the engine dies between the fill and the stop."""

    def __init__(self, store: FakeStore, clock: FakeClock) -> None:
        super().__init__(store, clock)
        self.books: dict[str, RealBook] = {}
        self.me = str(USER)
        self.no_stops = False
        self.bnb_price: Decimal | None = None
        self.refusing: set[str] = set()
        self.stuck: set[str] = set()
        self.waits: float | None = None
        """What a stuck order is told to have waited."""
        self.everywhere = True
        """Of the last truth that was asked for."""
        self.lagging: set[str] = set()
        self.nudges: dict[str, asyncio.Queue[AccountEvent | None]] = {}
        self._old: dict[str, RealBook] = {}
        self._last = 100

    # --- what tests do at the exchange -------------------------------------------------------------------------------------

    def book(self, user_id: object = None) -> RealBook:
        """A user's account; without an id, that of `me`, who does by hand what tests do at the exchange."""
        return self.books.setdefault(str(user_id or self.me), RealBook(wallet=d(1000)))

    def tick(self, symbol: str, price: Decimal | str | int) -> None:
        """The market moves: conditional orders that it meets fill, unless they are stuck."""
        self.prices[symbol] = Decimal(price)
        for book in self.books.values():
            for order in book.working(symbol):
                if _met(order, self.prices[symbol]):
                    self._trigger(book, order)

    def hand(self, symbol: str, side: OrderSide, quantity: Decimal | str | int, name: str = "web_1") -> None:
        """The user trades at the exchange's own page."""
        book = self.book()
        order = self._order(symbol, name, OrderKind.MARKET, side, Decimal(quantity), OrderState.FILLED)
        book.orders.append(order)
        self._execute(book, order, Decimal(quantity))

    def rest(self, symbol: str, side: OrderSide, quantity: Decimal | str | int, name: str = "web_2") -> None:
        """The user leaves a limit order at the exchange."""
        self.book().orders.append(self._order(symbol, name, OrderKind.LIMIT, side, Decimal(quantity), OrderState.WORKING))

    def liquidate(self, symbol: str, fee: Decimal | str | int = 5, name: str = "autoclose-1700000000") -> None:
        """The exchange closes a position and takes its insurance fee."""
        book = self.book()
        quantity = book.quantity(symbol)
        order = self._order(symbol, name, OrderKind.LIMIT, _against(quantity), abs(quantity), OrderState.FILLED)
        book.orders.append(order)
        self._execute(book, order, abs(quantity))
        self.pay("INSURANCE_CLEAR", -Decimal(fee), symbol)

    def _charge(self, fee: Decimal, symbol: str, trade_id: str, book: RealBook) -> None:
        """A trade's fee, out of the wallet or in another coin."""
        if self.bnb_price is None:
            self.pay("COMMISSION", -fee, symbol, trade_id, book)
            return
        row = Income(
            income_id=self._next(),
            kind="COMMISSION",
            symbol=symbol,
            amount=booked(-fee / self.bnb_price),
            asset="BNB",
            trade_id=trade_id,
            at=self._clock.now(),
        )
        book.income.append(row)

    def pay(
        self, kind: str, amount: Decimal | str | int, symbol: str = "", trade_id: str = "", book: RealBook | None = None
    ) -> None:
        """A change of the wallet."""
        book = book or self.book()
        change = booked(Decimal(amount))
        if change != 0:
            book.wallet += change
            row = Income(
                income_id=self._next(),
                kind=kind,
                symbol=symbol,
                amount=change,
                asset="USDT",
                trade_id=trade_id,
                at=self._clock.now(),
            )
            book.income.append(row)

    def take(self, client_order_id: str) -> None:
        """The user cancels an order of ours at the exchange's own page."""
        book = self.book()
        self._end(book, next(order for order in book.working() if order.client_order_id == client_order_id))

    def lag(self, *parts: str) -> None:
        """From now on these parts of a truth are told as they stand at this moment."""
        self.lagging = set(parts)
        self._old = deepcopy(self.books)

    def nudge(self, user_id: object, kind: str = "ORDER_TRADE_UPDATE") -> None:
        self.nudges.setdefault(str(user_id), asyncio.Queue()).put_nowait(AccountEvent(kind=kind, at=self._clock.now()))

    # --- what the engine does ----------------------------------------------------------------------------------------------

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        if not _real(request.account):
            return await super().enter(request)
        trouble = await self._asked("enter", request)
        report = self._enter_real(request, trouble)
        self._store.cuts.step("after enter")
        if trouble in ("lost after", "unprotected"):
            raise EngineUnavailable("the reply was lost")
        return report

    async def close(self, request: CloseRequest) -> ExecutionReport:
        if not _real(request.account):
            return await super().close(request)
        trouble = await self._asked("close", request)
        report = self._close_real(request)
        self._store.cuts.step("after close")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        return report

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        if not _real(request.account):
            return await super().protect(request)
        trouble = await self._asked("protect", request)
        report = self._protect_real(request)
        self._store.cuts.step("after protect")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        return report

    async def truth(self, request: TruthRequest) -> TruthReply:
        as_of = self._clock.now()
        trouble = await self._asked("truth", request)
        self.everywhere = request.everywhere
        reply = self._truth_of(request, as_of)
        self._store.cuts.step("after truth")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        return reply

    async def guards(self, request: GuardsRequest) -> GuardsReply:
        trouble = await self._asked("guards", request)
        wanted = TruthRequest(account=request.account, symbols=request.symbols, since=self._clock.now())
        seen = self._truth_of(wanted, self._clock.now())
        self._store.cuts.step("after guards")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        orders = [one for one in seen.orders if one.state is OrderState.WORKING and one.symbol in request.symbols]
        return GuardsReply(as_of=seen.as_of, positions=seen.positions, orders=orders)

    async def cancel(self, request: CancelRequest) -> CancelReply:
        trouble = await self._asked("cancel", request)
        book = self._book_of(request.account)
        for order in book.working(request.symbol):
            if order.client_order_id in request.client_order_ids:
                self._end(book, order)
        self._store.cuts.step("after cancel")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        return CancelReply(gone=list(request.client_order_ids), unknown=[], as_of=self._clock.now())

    async def flatten(self, request: FlattenRequest) -> FlattenReply:
        """Closes what it can and cancels everything; symbols of `refusing` stay."""
        trouble = await self._asked("flatten", request)
        book, reports = self._book_of(request.account), []
        for number, symbol in enumerate([symbol for symbol, one in book.held.items() if one.quantity != 0], start=1):
            held = book.quantity(symbol)
            side = Side.LONG if held > 0 else Side.SHORT
            name = f"{request.client_order_prefix}-{number}"
            asked = CloseRequest(account=request.account, client_order_id=name, symbol=symbol, side=side)
            if symbol in self.refusing:
                reports.append(self._refused(asked, "venue_rule"))
                continue
            order = self._order(symbol, name, OrderKind.MARKET, _against(held), abs(held), OrderState.FILLED)
            book.orders.append(order)
            self._execute(book, order, abs(held))
            done = self._refused(asked, "-")
            reports.append(structs.replace(done, status=ExecutionStatus.FILLED, refusal=None, fills=self._fills_of(book, name)))
        for order in book.working():
            if order.symbol not in self.refusing:
                self._end(book, order)
        self._store.cuts.step("after flatten")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        left, resting = [one for one in book.held.values() if one.quantity != 0], book.working()
        return FlattenReply(
            reports=reports,
            open_positions=len(left),
            open_orders=len(resting),
            flat=not left and not resting,
            as_of=self._clock.now(),
        )

    async def balance(self, account: Account) -> BalanceReply:
        await self._asked("balance", account)
        return self._balance(self._book_of(account))

    async def events(self, account: Account) -> AsyncIterator[AccountEvent]:
        await self._asked("events", account)
        assert isinstance(account, RealAccount)
        queue = self.nudges.setdefault(account.user_id, asyncio.Queue())
        while (event := await queue.get()) is not None:
            yield event
        raise EngineUnavailable("the stream ended")

    async def _asked(self, method: str, request: Any) -> str | None:
        await self._called(method, request)
        waiting = self.trouble.get(method, [])
        trouble = waiting.pop(0) if waiting else None
        if trouble == "lost before":
            raise EngineUnavailable("the request never arrived")
        if trouble == "refused":
            raise EngineRefused("report_store_unavailable", "nothing was done", 503)
        return trouble

    def _enter_real(self, request: EntryRequest, trouble: str | None) -> ExecutionReport:
        book = self._book_of(request.account)
        order = next((one for one in book.orders if one.client_order_id == request.client_order_id), None)
        if order is None and request.resume:
            return self._unknown(request)
        if order is None:
            price = self.prices[request.symbol]
            quantity = floor_to_step(request.amount_usdt / price, STEP)
            side = OrderSide.BUY if request.side is Side.LONG else OrderSide.SELL
            order = self._order(request.symbol, request.client_order_id, OrderKind.MARKET, side, quantity, OrderState.FILLED)
            book.orders.append(order)
            self._execute(book, order, quantity)
            self._store.cuts.step("between fill and stop")
        if trouble == "unprotected":
            return self._unknown(request)
        return self._finish_entry(book, request, order)

    def _finish_entry(self, book: RealBook, request: EntryRequest, order: VenueOrder) -> ExecutionReport:
        fills = self._fills_of(book, order.client_order_id)
        report = structs.replace(
            self._report(request, ExecutionStatus.FILLED, fills),
            dry_run=False,
            leverage=request.leverage,
            margin=sum((fill.price * fill.quantity for fill in fills), ZERO) / request.leverage,
            maintenance_ratio=Decimal("0.01"),
            maintenance_amount=ZERO,
        )
        way_out = resting_order_id("x", request.client_order_id)
        if book.quantity(request.symbol) != 0 and not book.stops(request.symbol):
            if self.no_stops:
                quantity = abs(book.quantity(request.symbol))
                side = _against(book.quantity(request.symbol))
                book.orders.append(self._order(request.symbol, way_out, OrderKind.MARKET, side, quantity, OrderState.FILLED))
                self._execute(book, book.orders[-1], quantity)
            else:
                self._place(book, request.client_order_id, request.symbol, request.stop_loss, request.take_profit)
        closing = self._fills_of(book, way_out)
        protection = self._resting(book, request.symbol)
        return structs.replace(
            report,
            protection=protection or Protection(stop_loss=request.stop_loss, take_profit=None, confirmed_at=self._clock.now()),
            closing_fills=closing,
            closing_order_id=way_out if closing else "",
            unprotected_seconds=0.2,
        )

    def _close_real(self, request: CloseRequest) -> ExecutionReport:
        book = self._book_of(request.account)
        order = next((one for one in book.orders if one.client_order_id == request.client_order_id), None)
        if order is None:
            if request.resume and request.widened_to is None:
                return self._unknown(request)
            held = book.quantity(request.symbol)
            if held * request.side.sign <= 0:
                return self._refused(request, "no_position")
            quantity = min(abs(held), request.widened_to or request.quantity or abs(held))
            side = _against(held)
            order = self._order(request.symbol, request.client_order_id, OrderKind.MARKET, side, quantity, OrderState.FILLED)
            book.orders.append(order)
            self._execute(book, order, quantity)
            self._store.cuts.step("between close and cancel")
        self._tidy(book, request)
        report = structs.replace(
            self._report(request, ExecutionStatus.FILLED, self._fills_of(book, request.client_order_id)), dry_run=False
        )
        return structs.replace(report, protection=self._resting(book, request.symbol))

    def _tidy(self, book: RealBook, request: CloseRequest) -> None:
        """After a close: nothing rests for nothing, and what rests fits what is left."""
        stops, targets = book.stops(request.symbol), [one for one in book.working(request.symbol) if one.kind is OrderKind.TARGET]
        ours = [one for one in book.working(request.symbol) if one.conditional and one.client_order_id.startswith("nt-")]
        if book.quantity(request.symbol) != 0 and stops:
            target = targets[0].trigger_price if targets else None
            assert stops[0].trigger_price is not None
            self._place(book, request.client_order_id, request.symbol, stops[0].trigger_price, target)
        for one in ours:
            self._end(book, one)

    def _protect_real(self, request: ProtectRequest) -> ProtectReport:
        book, now = self._book_of(request.account), self._clock.now()
        old = [one for one in book.working(request.symbol) if one.conditional and one.client_order_id.startswith("nt-")]
        was = self._resting(book, request.symbol)
        stop = request.stop_loss or (was.stop_loss if was else None)
        held = book.quantity(request.symbol)
        if held == 0 or stop is None or self.no_stops:
            refusal = Problem(code="no_position" if held == 0 else "stop_refused", detail="the exchange took no stop")
            return ProtectReport(status=ExecutionStatus.REFUSED, refusal=refusal, as_of=now)
        if (self.prices[request.symbol] - stop) * held <= 0:
            refusal = Problem(code="would_trigger", detail="the stop would trigger at once")
            return ProtectReport(status=ExecutionStatus.REFUSED, refusal=refusal, as_of=now)
        target = request.take_profit or (was.take_profit if was else None)
        self._place(book, request.client_order_id, request.symbol, stop, target, request.trailing)
        self._store.cuts.step("between new stop and old")
        for one in old:
            if not (one.kind is OrderKind.TRAILING and request.trailing is None and not request.end_trailing):
                self._end(book, one)
        return ProtectReport(status=ExecutionStatus.FILLED, protection=self._resting(book, request.symbol), as_of=now)

    def _unknown(self, request: EntryRequest | CloseRequest) -> ExecutionReport:
        """Long after its sending an id that the exchange does not know never arrives any more."""
        if request.sent_at is not None and (self._clock.wall() - request.sent_at).total_seconds() >= NEVER_ARRIVED_AFTER:
            return self._refused(request, "never_arrived")
        return structs.replace(self._report(request, ExecutionStatus.UNKNOWN, []), dry_run=False)

    def _refused(self, request: EntryRequest | CloseRequest, code: str) -> ExecutionReport:
        refusal = Problem(code=code, detail="nothing was done")
        return structs.replace(self._report(request, ExecutionStatus.REFUSED, [], refusal=refusal), dry_run=False)

    # --- the exchange ------------------------------------------------------------------------------------------------------

    def _place(
        self, book: RealBook, of: str, symbol: str, stop: Decimal, target: Decimal | None, trailing: Trailing | None = None
    ) -> None:
        held = book.quantity(symbol)
        kinds = [("s", OrderKind.STOP, stop), ("t", OrderKind.TARGET, target)]
        kinds.append(("r", OrderKind.TRAILING, trailing.activation_price if trailing else None))
        for letter, kind, price in kinds:
            if price is not None:
                row = self._order(symbol, resting_order_id(letter, of), kind, _against(held), abs(held), OrderState.WORKING)
                book.orders.append(structs.replace(row, conditional=True, reduce_only=True, trigger_price=price))

    def _trigger(self, book: RealBook, order: VenueOrder) -> None:
        held = book.quantity(order.symbol)
        if order.symbol in self.stuck:
            self._change(book, order, child_order_id=order.child_order_id or self._next(), triggered_seconds=self.waits)
        elif held == 0 or _against(held) is not order.order_side:
            self._end(book, order)
        else:
            child = self._next()
            quantity = min(abs(held), order.quantity)
            done = self._change(book, order, state=OrderState.FILLED, child_order_id=child, filled_quantity=quantity)
            book.orders.append(
                structs.replace(done, venue_order_id=child, kind=OrderKind.MARKET, conditional=False, child_order_id="")
            )
            self._execute(book, book.orders[-1], quantity)

    def _execute(self, book: RealBook, order: VenueOrder, quantity: Decimal) -> None:
        price, held = self.prices[order.symbol], book.held.setdefault(order.symbol, Holding())
        signed = quantity if order.order_side is OrderSide.BUY else -quantity
        closing = min(abs(held.quantity), quantity) if held.quantity * signed < 0 else ZERO
        realized = booked(closing * (price - held.entry_price) * (1 if held.quantity > 0 else -1))
        opening = quantity - closing
        if opening:
            before = abs(held.quantity) - closing
            held.entry_price = (held.entry_price * before + price * opening) / (before + opening)
        held.quantity += signed
        trade_id = self._next()
        trade = VenueTrade(
            symbol=order.symbol,
            trade_id=trade_id,
            venue_order_id=order.venue_order_id,
            client_order_id=order.client_order_id,
            order_side=order.order_side,
            price=price,
            quantity=quantity,
            fee=booked(price * quantity * TAKER_FEE_RATIO),
            realized_pnl=realized,
            maker=False,
            at=self._clock.now(),
        )
        book.trades.append(trade)
        self.pay("REALIZED_PNL", realized, order.symbol, trade_id, book)
        self._charge(trade.fee, order.symbol, trade_id, book)

    def _order(
        self, symbol: str, name: str, kind: OrderKind, side: OrderSide, quantity: Decimal, state: OrderState
    ) -> VenueOrder:
        return VenueOrder(
            symbol=symbol,
            client_order_id=name,
            venue_order_id=self._next(),
            kind=kind,
            conditional=False,
            state=state,
            order_side=side,
            reduce_only=False,
            quantity=quantity,
            filled_quantity=quantity if state is OrderState.FILLED else ZERO,
            created_at=self._clock.now(),
        )

    def _end(self, book: RealBook, order: VenueOrder) -> None:
        self._change(book, order, state=OrderState.ENDED)

    def _change(self, book: RealBook, order: VenueOrder, **changes: Any) -> VenueOrder:
        place = next(number for number, one in enumerate(book.orders) if one.venue_order_id == order.venue_order_id)
        book.orders[place] = structs.replace(book.orders[place], **changes)
        return book.orders[place]

    def _resting(self, book: RealBook, symbol: str) -> Protection | None:
        newest = {order.kind: order for order in book.working(symbol) if order.client_order_id.startswith("nt-")}
        stop, target, trailing = (newest.get(kind) for kind in (OrderKind.STOP, OrderKind.TARGET, OrderKind.TRAILING))
        if stop is None or stop.trigger_price is None:
            return None
        return Protection(
            stop_loss=stop.trigger_price,
            take_profit=target.trigger_price if target else None,
            stop_order_id=stop.client_order_id,
            target_order_id=target.client_order_id if target else "",
            trailing_order_id=trailing.client_order_id if trailing else "",
            confirmed_at=self._clock.now(),
        )

    def _fills_of(self, book: RealBook, name: str) -> list[Fill]:
        return [
            Fill(
                trade_id=trade.trade_id,
                price=trade.price,
                quantity=trade.quantity,
                fee=trade.fee,
                maker=trade.maker,
                at=trade.at,
                realized_pnl=trade.realized_pnl,
            )
            for trade in book.trades
            if trade.client_order_id == name
        ]

    def _truth_of(self, request: TruthRequest, as_of: datetime) -> TruthReply:
        assert isinstance(request.account, RealAccount)
        now = self.book(request.account.user_id)
        old = self._old.get(request.account.user_id, now)
        seen = {part: old if part in self.lagging else now for part in ("balance", "positions", "orders", "trades", "income")}
        orders = seen["orders"].orders
        return TruthReply(
            as_of=as_of,
            balance=self._balance(seen["balance"]),
            position_mode=PositionMode.ONE_WAY,
            positions=[self._venue_position(symbol, one) for symbol, one in seen["positions"].held.items() if one.quantity != 0],
            orders=[
                one for one in orders if one.symbol in request.symbols or (request.everywhere and one.state is OrderState.WORKING)
            ],
            trades=[one for one in seen["trades"].trades if one.symbol in request.symbols and one.at >= request.since],
            income=[one for one in seen["income"].income if one.at >= request.since],
        )

    def _venue_position(self, symbol: str, one: Holding) -> VenuePosition:
        return VenuePosition(
            symbol=symbol,
            side=Side.LONG if one.quantity > 0 else Side.SHORT,
            quantity=abs(one.quantity),
            entry_price=one.entry_price,
            mark_price=self.prices[symbol],
            leverage=d(10),
            margin=abs(one.quantity) * one.entry_price / 10,
            unrealized_pnl=None,
            liquidation_price=None,
        )

    def _balance(self, book: RealBook) -> BalanceReply:
        return BalanceReply(asset="USDT", total=book.wallet, free=book.wallet, as_of=self._clock.now())

    def _book_of(self, account: Account) -> RealBook:
        assert isinstance(account, RealAccount)
        return self.book(account.user_id)

    def _next(self) -> str:
        self._last += 1
        return str(self._last)


class RealWorld(World):
    """A world whose traders trade real money at an exchange in memory; `engine` is a FakeExchangeEngine."""

    engine: FakeExchangeEngine

    def __init__(self, *traders: Trader) -> None:
        super().__init__(*(traders or (real_trader(),)), dry_run=False)
        self.engine = FakeExchangeEngine(self.store, self.clock)
        self.start()

    async def reconcile(self) -> None:
        await self.trading.reconcile.run()

    async def glance(self, *, light: bool = False) -> Reconciled:
        """Looks at the user's account and acts on it."""
        glanced = await self.trading.reconcile.glance(USER, light=light)
        await self.trading.reconcile.act(USER, glanced)
        return glanced.said


def real_trader(number: int = 1, **changes: Any) -> Trader:
    values: dict[str, Any] = {"mode": Mode.REAL, "real_balance_cache": d(1000), "real_balance_at": FakeClock().wall()}
    return trader(number, **(values | changes))


def _real(account: Account) -> bool:
    return isinstance(account, RealAccount) and not account.dry_run


def _against(held: Decimal) -> OrderSide:
    return OrderSide.SELL if held > 0 else OrderSide.BUY


def _met(order: VenueOrder, price: Decimal) -> bool:
    if order.trigger_price is None or order.kind not in (OrderKind.STOP, OrderKind.TARGET):
        return False
    falls = (order.order_side is OrderSide.SELL) is (order.kind is OrderKind.STOP)
    return price <= order.trigger_price if falls else price >= order.trigger_price
