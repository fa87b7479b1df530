"""An exchange account in memory, one-way and isolated, with everything that goes wrong at a real one.

Faults are scripted by method, one a call: a word of `Fault`, or a Problem that the call answers. Readings may be behind: the next
`stale` readings after a change are answered from before it.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from engine.core.order import OrderRefusal, Wallet, no
from engine.errors import VenueAway, VenueHalted, VenueUnsure
from engine.ports import AccountModes, Condition, MarketOrder, Permissions, Urgency
from shared.brackets import brackets_of
from shared.enums import OrderKind, OrderState, PositionMode, Side
from shared.execution import AccountEvent, Fill, Income, OrderSide, RealAccount, VenueOrder, VenuePosition, VenueTrade
from shared.margin import Bracket
from shared.problem import Problem
from tests.unit.engine.execution_desk import NOW

ZERO = Decimal(0)
FEE = Decimal("0.0005")


class Fault(StrEnum):
    """What may become of a call."""

    OK = "ok"
    LOST = "lost"  # no answer, not carried out
    SILENT = "silent"  # no answer, carried out
    HANGS = "hangs"  # of a conditional order: neither an answer nor an error, not carried out
    AWAY = "away"
    HALTED = "halted"


class State(msgspec.Struct):
    """What readings show."""

    positions: dict[str, Decimal] = {}
    entries: dict[str, Decimal] = {}
    orders: list[VenueOrder] = []
    fills: dict[str, list[Fill]] = {}


class FakeExchange:
    """Implements Exchange, and Exchanges of the one account."""

    def __init__(self) -> None:
        self.now = State()
        self._before = State()
        self.stale = 0
        self.stale_left = 0
        self.price = Decimal(60_000)
        self.at = NOW
        """What its clock says, in which it stamps trades and orders."""
        self.mode = PositionMode.ONE_WAY
        self.multi_assets = False
        self.usdt = Wallet(total=Decimal(1000), free=Decimal(1000))
        self.faults: dict[str, list[Fault | Problem]] = {}
        self.always: dict[str, Fault | Problem] = {}
        self.calls: list[str] = []
        self.fill_ratio = Decimal(1)
        self.settings: list[tuple[str, object]] = []
        self.told: list[AccountEvent] = []
        self.bare = 0
        """Cancellations that left an open position without a stop."""
        self._ids = 1000

    # --- Exchanges ---------------------------------------------------------------------------------------------------------

    def of(self, account: RealAccount, urgency: Urgency) -> "FakeExchange":
        del account, urgency
        return self

    # --- what a test turns and looks at ------------------------------------------------------------------------------------

    def fail(self, method: str, *faults: Fault | Problem) -> None:
        """The next calls of a method."""
        self.faults.setdefault(method, []).extend(faults)

    def sent(self) -> list[VenueOrder]:
        """All regular orders that ever arrived."""
        return [order for order in self.now.orders if not order.conditional]

    def guards(self, kind: OrderKind | None = None) -> list[VenueOrder]:
        """The conditional orders that rest."""
        resting = [order for order in self.now.orders if order.conditional and order.state is OrderState.WORKING]
        return [order for order in resting if kind in (None, order.kind)]

    def held(self, symbol: str = "BTCUSDT") -> Decimal:
        """Signed base asset."""
        return self.now.positions.get(symbol, ZERO)

    def open(self, side: Side = Side.LONG, quantity: str = "0.01", symbol: str = "BTCUSDT") -> None:
        """A position that is there already."""
        self.now.positions[symbol] = Decimal(quantity) * side.sign
        self.now.entries[symbol] = self.price

    def lay(self, condition: Condition) -> VenueOrder:
        """A conditional order that rests already."""
        order = self._condition(condition)
        self.now.orders.append(order)
        return order

    def end(self, client_order_id: str) -> None:
        """An order is taken by a hand at the exchange."""
        self._end(lambda one: one.client_order_id == client_order_id)

    def trigger(self, client_order_id: str, *, stuck: bool = False) -> None:
        """The market reaches a condition: its child fills, or works on without filling."""
        index = self._index(client_order_id, conditional=True)
        order = self.now.orders[index]
        child = MarketOrder(
            client_order_id=client_order_id,
            symbol=order.symbol,
            order_side=order.order_side,
            quantity=order.quantity,
            reduce_only=True,
        )
        if stuck:
            self.now.orders.append(self._order(child, ZERO, OrderState.WORKING))
            return
        done = self._match(child)
        assert isinstance(done, VenueOrder)
        self.now.orders[index] = msgspec.structs.replace(
            order, state=OrderState.FILLED, filled_quantity=done.filled_quantity, child_order_id=done.venue_order_id
        )

    # --- Exchange ----------------------------------------------------------------------------------------------------------

    async def wallet(self) -> Wallet:
        self._meet("wallet")
        return self.usdt

    async def modes(self) -> AccountModes:
        self._meet("modes")
        return AccountModes(position=self.mode, multi_assets=self.multi_assets)

    async def positions(self) -> list[VenuePosition]:
        self._meet("positions")
        seen = self._seen()
        return [self._position(symbol, held, seen.entries[symbol]) for symbol, held in seen.positions.items() if held]

    async def brackets(self, symbol: str) -> Sequence[Bracket]:
        self._meet("brackets")
        return brackets_of(symbol)[0]

    async def set_isolated(self, symbol: str) -> Problem | None:
        refused = self._meet("set_isolated")
        self.settings.append((symbol, "ISOLATED"))
        return refused

    async def set_leverage(self, symbol: str, leverage: int) -> Problem | None:
        refused = self._meet("set_leverage")
        self.settings.append((symbol, leverage))
        return refused

    async def send(self, order: MarketOrder) -> VenueOrder | Problem:
        fault = self._fault("send")
        if isinstance(fault, Problem):
            return fault
        self._raise(fault)
        done = self._match(order)
        if fault is Fault.SILENT:
            raise VenueUnsure("-1007")
        return done

    async def rest(self, condition: Condition) -> VenueOrder | Problem:
        fault = self._fault("rest", condition.kind.value)
        if isinstance(fault, Problem):
            return fault
        if fault is Fault.HANGS:
            await asyncio.Event().wait()
        self._raise(fault)
        falls = (condition.kind is OrderKind.STOP) is (condition.order_side is OrderSide.SELL)
        price = condition.trigger_price
        if price is not None and (self.price - price) * (1 if falls else -1) <= 0:
            return no(OrderRefusal.WOULD_TRIGGER, "-2021: Order would immediately trigger.")
        self._change()
        order = self._condition(condition)
        self.now.orders.append(order)
        if fault is Fault.SILENT:
            raise VenueUnsure("-1007")
        return order

    async def find(self, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | None:
        self._meet("find")
        found = [
            order
            for order in self._seen().orders
            if (order.symbol, order.client_order_id, order.conditional) == (symbol, client_order_id, conditional)
        ]
        return found[-1] if found else None

    async def trades(self, symbol: str, order: VenueOrder) -> list[Fill]:
        self._meet("trades")
        number = order.child_order_id if order.conditional else order.venue_order_id
        return list(self._seen().fills.get(number, []))

    async def working(self, symbol: str | None = None) -> list[VenueOrder]:
        self._meet("working")
        orders = [order for order in self._seen().orders if order.state is OrderState.WORKING]
        return [order for order in orders if symbol in (None, order.symbol)]

    async def ended(self, symbol: str, since: datetime) -> list[VenueOrder]:
        self._meet("ended")
        return [order for order in self._seen().orders if order.symbol == symbol and order.state is not OrderState.WORKING]

    async def account_trades(self, symbol: str, since: datetime) -> list[VenueTrade]:
        self._meet("account_trades")
        seen = self._seen()
        return [
            VenueTrade(
                symbol=symbol,
                trade_id=fill.trade_id,
                venue_order_id=order.venue_order_id,
                client_order_id=order.client_order_id,
                order_side=order.order_side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                realized_pnl=fill.realized_pnl or ZERO,
                maker=False,
                at=fill.at,
            )
            for order in seen.orders
            if order.symbol == symbol and not order.conditional
            for fill in seen.fills.get(order.venue_order_id, [])
        ]

    async def income(self, since: datetime) -> list[Income]:
        self._meet("income")
        return []

    async def cancel(self, order: VenueOrder) -> None:
        self._meet("cancel")
        self._end(lambda one: one.venue_order_id == order.venue_order_id)
        self.bare += self.held(order.symbol) != 0 and not self.guards(OrderKind.STOP)

    async def cancel_all(self, symbol: str) -> None:
        self._meet("cancel_all")
        self._end(lambda one: one.symbol == symbol)

    async def permissions(self) -> Permissions:
        return Permissions(can_trade=True, can_withdraw=False, ip_restricted=True)

    async def events(self) -> AsyncIterator[AccountEvent]:
        self._meet("events")
        for event in self.told:
            yield event

    # --- inside ------------------------------------------------------------------------------------------------------------

    def _fault(self, method: str, kind: str = "") -> Fault | Problem:
        self.calls.append(f"{method} {kind}".strip())
        for name in (f"{method} {kind}", method):
            if self.faults.get(name):
                return self.faults[name].pop(0)
            if name in self.always:
                return self.always[name]
        return Fault.OK

    def _raise(self, fault: Fault) -> None:
        if fault is Fault.LOST:
            raise VenueUnsure("-1007")
        if fault is Fault.AWAY:
            raise VenueAway("-1008")
        if fault is Fault.HALTED:
            raise VenueHalted("-2015")

    def _meet(self, method: str) -> Problem | None:
        fault = self._fault(method)
        if isinstance(fault, Problem):
            return fault
        self._raise(Fault.LOST if fault is Fault.SILENT else fault)
        return None

    def _change(self) -> None:
        self._before = copy.deepcopy(self.now)
        self.stale_left = self.stale

    def _seen(self) -> State:
        if self.stale_left:
            self.stale_left -= 1
            return self._before
        return self.now

    def _match(self, order: MarketOrder) -> VenueOrder | Problem:
        held = self.held(order.symbol)
        sign = 1 if order.order_side is OrderSide.BUY else -1
        bound = any(
            one.reduce_only and not one.conditional and one.state is OrderState.WORKING
            for one in self.now.orders
            if (one.symbol, one.order_side) == (order.symbol, order.order_side)
        )
        if order.reduce_only and (held * sign >= 0 or bound):
            return no(OrderRefusal.REDUCE_ONLY, "-2022: ReduceOnly Order is rejected.")
        self._change()
        takes = min(order.quantity, abs(held)) if order.reduce_only else order.quantity
        takes = (takes * self.fill_ratio).quantize(Decimal("0.001"))
        made = self._order(order, takes, OrderState.FILLED if takes == order.quantity else OrderState.ENDED)
        self.now.orders.append(made)
        self.now.fills[made.venue_order_id] = [self._fill(takes / 2), self._fill(takes / 2)] if takes else []
        self.now.positions[order.symbol] = held + takes * sign
        self.now.entries.setdefault(order.symbol, self.price)
        return made

    def _next(self) -> str:
        self._ids += 1
        return str(self._ids)

    def _fill(self, quantity: Decimal) -> Fill:
        return Fill(
            trade_id=self._next(),
            price=self.price,
            quantity=quantity,
            fee=self.price * quantity * FEE,
            maker=False,
            at=self.at,
            realized_pnl=ZERO,
        )

    def _order(self, order: MarketOrder, filled: Decimal, state: OrderState) -> VenueOrder:
        return VenueOrder(
            symbol=order.symbol,
            client_order_id=order.client_order_id,
            venue_order_id=self._next(),
            kind=OrderKind.MARKET,
            conditional=False,
            state=state,
            order_side=order.order_side,
            reduce_only=order.reduce_only,
            quantity=order.quantity,
            filled_quantity=filled,
            created_at=self.at,
        )

    def _condition(self, condition: Condition) -> VenueOrder:
        number = self._next()
        return VenueOrder(
            symbol=condition.symbol,
            client_order_id=condition.client_order_id,
            venue_order_id=number,
            kind=condition.kind,
            conditional=True,
            state=OrderState.WORKING,
            order_side=condition.order_side,
            reduce_only=True,
            quantity=condition.quantity,
            filled_quantity=ZERO,
            trigger_price=condition.trigger_price,
            created_at=self.at + timedelta(milliseconds=int(number)),
        )

    def _position(self, symbol: str, held: Decimal, entry: Decimal) -> VenuePosition:
        return VenuePosition(
            symbol=symbol,
            side=Side.LONG if held > 0 else Side.SHORT,
            quantity=abs(held),
            entry_price=entry,
            mark_price=self.price,
            leverage=Decimal(20),
            margin=abs(held) * entry / 20,
            unrealized_pnl=ZERO,
            liquidation_price=None,
        )

    def _index(self, client_order_id: str, *, conditional: bool) -> int:
        return next(
            index
            for index, order in enumerate(self.now.orders)
            if order.client_order_id == client_order_id and order.conditional is conditional
        )

    def _end(self, wanted: Callable[[VenueOrder], bool]) -> None:
        self._change()
        for index, order in enumerate(self.now.orders):
            if order.state is OrderState.WORKING and wanted(order):
                self.now.orders[index] = msgspec.structs.replace(order, state=OrderState.ENDED)
