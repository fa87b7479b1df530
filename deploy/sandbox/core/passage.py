"""Time passes over the floor: each tick of the tape triggers, fills what rests and liquidates, each funding time pays. In order, once.

However late one looks, everything happens at its own market time, so the same orders meet the same fate at any speed.
"""

from decimal import Decimal
from typing import NamedTuple

from deploy.sandbox.core.account import Account, Marks, Position
from deploy.sandbox.core.board import Funding, Tick
from deploy.sandbox.core.calm import interest, loud_symbols
from deploy.sandbox.core.conditional import Conditional
from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.liquidation import Forced, call_margin, liquidate_where_due
from deploy.sandbox.core.orders import AlgoOrder, Order
from deploy.sandbox.core.trading import Trading


class Ending(NamedTuple):
    """A GTD order's end."""

    time_ms: int
    account: Account
    item: Order | AlgoOrder


class Passage:
    """Brings a floor up to a moment.

    Args:
        trading: The floor.
        conditional: Its conditional orders.
    """

    def __init__(self, trading: Trading, conditional: Conditional) -> None:
        self._trading, self._conditional = trading, conditional
        self._reached: int | None = None
        self._marks: dict[str, Decimal] = {}
        """Of watched symbols, as of their last tick."""

    def advance(self, now: int) -> list[Forced]:
        """Let everything up to a moment happen; a moment that was reached before changes nothing.

        Returns:
            Liquidations on the way, oldest first.
        """
        since = now if self._reached is None else self._reached
        out: list[Forced] = []
        while since < now:
            until = min(now, since + QUARTER_MS)
            out += self._pass(since, until)
            since = until
        self._reached = since
        return out

    def _pass(self, since: int, until: int) -> list[Forced]:
        board = self._trading.board
        accounts = list(self._trading.accounts.values())
        watched = sorted(set().union(*(interest(account) for account in accounts)))
        self._marks = {symbol: self._marks[symbol] for symbol in watched if symbol in self._marks}
        events: list[tuple[int, str, Tick | Funding | Ending]] = []
        for symbol in watched:
            events += [(event.time_ms, symbol, event) for event in board.fundings(symbol, since, until)]
            events += [(ending.time_ms, symbol, ending) for ending in self._endings(symbol, until)]
        spans = {symbol: board.span(symbol, since, until) for symbol in watched}
        loud = loud_symbols(accounts, spans, {symbol for _, symbol, _ in events}, self._known(since))
        for symbol in sorted(loud):
            events += [(event.time_ms, symbol, event) for event in board.ticks(symbol, since, until)]
        out = self._happen(events)
        self._marks |= {symbol: span.mark for symbol, span in spans.items() if span and symbol not in loud}
        return out

    def _known(self, now: int) -> Marks:
        """Mark prices as of each symbol's last tick, or of a moment where none was seen."""
        return lambda symbol: self._marks[symbol] if symbol in self._marks else self._trading.board.mark(symbol, now)

    def _happen(self, events: list[tuple[int, str, Tick | Funding | Ending]]) -> list[Forced]:
        out: list[Forced] = []
        for time_ms, symbol, event in sorted(events, key=lambda item: item[0]):
            if isinstance(event, Ending):
                self._end(event)
            elif isinstance(event, Funding):
                self._fund(symbol, event)
            else:
                self._tick(symbol, event)
            out += self._liquidate(symbol, time_ms)
        return out

    def _endings(self, symbol: str, until: int) -> list[Ending]:
        """GTD orders that end by a moment."""
        out: list[Ending] = []
        for account in self._trading.accounts.values():
            items: list[Order | AlgoOrder] = [*account.open_orders(symbol), *account.waiting(symbol)]
            out += [Ending(item.good_till, account, item) for item in items if 0 < item.good_till <= until]
        return out

    def _end(self, ending: Ending) -> None:
        item, account = ending.item, ending.account
        if isinstance(item, AlgoOrder):
            if item.status == "NEW":
                self._conditional.expire(account, item, ending.time_ms)
        elif item.open:
            self._trading.expire(account, item, ending.time_ms)

    def _fund(self, symbol: str, event: Funding) -> None:
        for account in self._trading.accounts.values():
            for position in account.held():
                if position.symbol == symbol:
                    self._pay(account, position, event)

    def _pay(self, account: Account, position: Position, event: Funding) -> None:
        paid = self._trading.clearing.fund(account, position, event.rate, event.mark, event.time_ms)
        shown = [position] if account.of(position.symbol).isolated else []
        self._trading.herald.changed(account, "FUNDING_FEE", event.time_ms, shown, paid, position.symbol)

    def _tick(self, symbol: str, tick: Tick) -> None:
        self._marks[symbol] = tick.mark
        for account in self._trading.accounts.values():
            self._conditional.look(account, symbol, tick)
        left = tick.quantity
        for account, order in self._reached_by(symbol, tick):
            left -= self._fill(account, order, left, tick.time_ms)

    def _reached_by(self, symbol: str, tick: Tick) -> list[tuple[Account, Order]]:
        """Resting orders that the tape traded through, best price first, then the oldest."""
        found = [
            (account, order)
            for account in self._trading.accounts.values()
            for order in account.open_orders(symbol)
            if (order.price - tick.price) * order.sign > 0 and order.created_ms < tick.time_ms
        ]
        return sorted(found, key=lambda item: (-item[1].price * item[1].sign, item[1].id))

    def _fill(self, account: Account, order: Order, most: Decimal, now: int) -> Decimal:
        """Fill a resting order with at most what traded; a reduce-only one never beyond its position."""
        if order.reduce_only:
            held = account.position(order.symbol, order.position_side).quantity
            if held * order.sign >= 0:
                self._trading.expire(account, order, now)
                return Decimal(0)
            order.quantity = order.executed + min(order.remaining, abs(held))
        quantity = min(order.remaining, most)
        if quantity > 0:
            trade = self._trading.clearing.fill(account, order, order.price, quantity, now, maker=True)
            self._trading.herald.ordered(account, order, "TRADE", now, trade)
            self._trading.filled(account, order.symbol, order.position_side, now)
        return quantity

    def _liquidate(self, symbol: str, now: int) -> list[Forced]:
        def mark(wanted: str) -> Decimal:
            if wanted not in self._marks:
                self._marks[wanted] = self._trading.board.mark(wanted, now)
            return self._marks[wanted]

        out: list[Forced] = []
        for account in self._trading.accounts.values():
            out += liquidate_where_due(self._trading, account, symbol, mark, now)
            call_margin(self._trading, account, symbol, mark, now)
        return out
