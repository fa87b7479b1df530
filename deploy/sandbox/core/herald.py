"""Whom to tell what: every change of an order, a position or a conditional order passes here, in the exchange's order of events.

Nothing is decided here. Notices are made only for accounts whose user data stream somebody has opened; the vigil sees all.
"""

from decimal import Decimal

from deploy.sandbox.core import notices
from deploy.sandbox.core.account import Account, Marks, Position
from deploy.sandbox.core.board import Board
from deploy.sandbox.core.notices import Body, Notice
from deploy.sandbox.core.orders import AlgoOrder, Order, Trade
from deploy.sandbox.core.vigil import Vigil
from shared.margin import ZERO


class Herald:
    """Tells what happens on a floor.

    Args:
        board: For rules and marks.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.vigil = Vigil()
        self._told: list[Notice] = []

    def drained(self) -> list[Notice]:
        """What has happened since the last time, oldest first."""
        out, self._told = self._told, []
        return out

    def ordered(self, account: Account, order: Order, execution: str, now: int, trade: Trade | None = None) -> None:
        """An order was accepted, filled, changed or ended."""
        if account.listening:
            rules = self._board.listed(order.symbol, now)
            if trade and execution == "TRADE":
                self._tell(account, "TRADE_LITE", now, notices.light_body(order, rules, trade))
            body = notices.order_body(order, rules, execution, trade, _resting(account, order.symbol))
            self._tell(account, "ORDER_TRADE_UPDATE", now, {"o": body})
        if order.parent and not order.open:
            self.algo_changed(account, account.algos[order.parent], now, "FINISHED")

    def changed(
        self, account: Account, reason: str, now: int, positions: list[Position], paid: Decimal = ZERO, symbol: str = ""
    ) -> None:
        """Wallet or positions changed, after the orders that changed them were told."""
        for position in positions:
            self.vigil.look(account, position.symbol, position.side, now)
        if account.listening:
            body = notices.account_body(account, reason, positions, self._marks(now), paid, symbol)
            self._tell(account, "ACCOUNT_UPDATE", now, {"a": body})

    def algo_changed(
        self, account: Account, algo: AlgoOrder, now: int, status: str | None = None, *, active: bool = True
    ) -> None:
        """A conditional order waits, moves on or has ended; a trailing stop that is not active is told as such."""
        self.vigil.look(account, algo.symbol, algo.position_side, now)
        if account.listening:
            child = account.orders.get(algo.child or 0)
            body = notices.algo_body(algo, child, self._board.listed(algo.symbol, now), status or algo.status)
            if not active and "ia" in body:
                body["ia"] = False
            self._tell(account, "ALGO_UPDATE", now, {"o": body})

    def leverage_changed(self, account: Account, symbol: str, now: int) -> None:
        """Another leverage was set."""
        if account.listening:
            self._tell(account, "ACCOUNT_CONFIG_UPDATE", now, {"ac": {"s": symbol, "l": account.of(symbol).leverage}})

    def assets_mode_changed(self, account: Account, now: int) -> None:
        """Multi-assets mode was set."""
        if account.listening:
            self._tell(account, "ACCOUNT_CONFIG_UPDATE", now, {"ai": {"j": account.multi_assets}})

    def margin_called(self, account: Account, positions: list[Position], marks: Marks, now: int) -> None:
        """Positions are near their liquidation."""
        body = {"e": "MARGIN_CALL", "E": now} | notices.margin_call_body(account, positions, marks)
        self._told.append(Notice(account.key, "MARGIN_CALL", body))

    def _tell(self, account: Account, kind: str, now: int, rest: Body) -> None:
        self._told.append(Notice(account.key, kind, notices.event(kind, now, **rest)))

    def _marks(self, now: int) -> Marks:
        return lambda symbol: self._board.mark(symbol, now)


def _resting(account: Account, symbol: str) -> tuple[Decimal, Decimal]:
    orders = account.open_orders(symbol)
    bought, sold = (sum((o.remaining * o.price for o in orders if o.side == side), ZERO) for side in ("BUY", "SELL"))
    return bought, sold
