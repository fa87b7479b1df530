"""The trading floor: accounts place and cancel orders, and time fills what rests. Stands between the signed doors and `clearing`.

Everyone trades with the book, never with each other. A moment is reached once and in order: `advance` walks the tape's ticks of every symbol
in which somebody has an interest, so that fills, triggers, funding and liquidations happen at their own market time however late one asks.
"""

from decimal import Decimal

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks
from deploy.sandbox.core.board import Board, Level
from deploy.sandbox.core.clearing import Clearing
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.herald import Herald
from deploy.sandbox.core.matching import Takings, total, walk, worth
from deploy.sandbox.core.order_request import (
    OrderRequest,
    check_good_till,
    check_limit,
    check_notional,
    check_price,
    check_quantity,
)
from deploy.sandbox.core.orders import AlgoOrder, Order
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import TAKER_FEE_RATIO, ZERO, fee_of

MOST_ORDERS = 200
"""Open orders a symbol. Source: MAX_NUM_ORDERS."""


class Trading:
    """The floor.

    Args:
        board: The market that everyone trades against.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.clearing = Clearing()
        self.takings = Takings(board)
        self.herald = Herald(board)
        self.accounts: dict[str, Account] = {}

    def open_account(self, key: str, secret: str, wallet: Decimal, now: int) -> Account:
        """A new account with a wallet in USDT."""
        account = self.accounts[key] = Account(key=key, secret=secret, opened_ms=now)
        self.deposit(account, wallet, now)
        return account

    def deposit(self, account: Account, amount: Decimal, now: int) -> None:
        """Put money into a wallet."""
        self.clearing.deposit(account, amount, now)
        self.herald.changed(account, "DEPOSIT", now, [], amount)

    def marks(self, now: int) -> Marks:
        """Mark prices of a moment, each read once."""
        known: dict[str, Decimal] = {}

        def mark(symbol: str) -> Decimal:
            if symbol not in known:
                known[symbol] = self.board.mark(symbol, now)
            return known[symbol]

        return mark

    def place(self, account: Account, request: OrderRequest, now: int, parent: AlgoOrder | None = None) -> Order:
        """Check an order, execute what takes, let the rest stay.

        Args:
            account: Whose.
            request: What is asked for.
            now: Market time.
            parent: The conditional order that it comes from; it is triggered once the order is accepted.

        Raises:
            Rejected: It is not accepted, and nothing has happened.
        """
        rules, mark = self.check(request, now)
        if parent is None:
            check_good_till(request.good_till, now)
        check_side(account, request.position_side, reduce_only=request.reduce_only)
        _check_open(account, request)
        order = self._ordered(account, request, now)
        fills = self._takes(rules, order, mark, now)
        if not order.reduce_only and not _closes(order):
            self._check_margin(account, order, fills, now)
        account.enter(order)
        if parent is not None:
            _descend(order, parent)
            self.herald.algo_changed(account, parent, now)
        self.herald.ordered(account, order, "NEW", now)
        self._execute(account, order, fills, now)
        return order

    def check(self, request: OrderRequest, now: int) -> tuple[SymbolRules, Decimal]:
        """Hold an order against its symbol alone; returns the rules and the mark price.

        Raises:
            Rejected: The symbol does not trade, or a filter does not fit.
        """
        rules, mark = self.board.rules(request.symbol, now), self.board.mark(request.symbol, now)
        _check_filters(rules, request, mark)
        return rules, mark

    def cancel(self, account: Account, order: Order, now: int) -> Order:
        """Take an order out of the book.

        Raises:
            Rejected: It does not rest.
        """
        if not order.open:
            raise unknown_order()
        order.status, order.updated_ms = "CANCELED", now
        self.herald.ordered(account, order, "CANCELED", now)
        return order

    def expire(self, account: Account, order: Order, now: int, reason: str = "0") -> None:
        """Let an order end by itself.

        Args:
            account: Whose.
            order: Open.
            now: Market time.
            reason: 5 by a liquidation, 9 for want of a book.
        """
        order.status, order.updated_ms, order.expiry = "EXPIRED", now, reason
        self.herald.ordered(account, order, "EXPIRED", now)

    def filled(self, account: Account, symbol: str, side: str, now: int) -> None:
        """After the fills of one order: the account is told, and stops that would close a position that is gone expire.

        A loss beyond the cross wallet, which only a gap can bring, is the insurance fund's.
        """
        position = account.position(symbol, side)
        self.herald.changed(account, "ORDER", now, [position])
        short = margins.cross_wallet(account)
        if short < 0 and not margins.cross_positions(account):
            self.clearing.charge(account, symbol, short, now)
            self.herald.changed(account, "INSURANCE_CLEAR", now, [], -short)
        if not position.quantity:
            for algo in account.waiting(symbol):
                if algo.close_position and algo.position_side == side:
                    algo.status, algo.updated_ms = "EXPIRED", now
                    self.herald.algo_changed(account, algo, now)

    def replace(self, account: Account, order: Order, price: Decimal, quantity: Decimal, now: int) -> Order:
        """Let a resting order go on at another price and size; what takes at once is executed.

        Raises:
            Rejected: Margin, brackets or its time in force forbid it; it then stays as it was.
        """
        before = (order.price, order.quantity, order.status)
        order.price, order.quantity, order.status = price, quantity, "CANCELED"
        try:
            # It stands aside while it is checked, so that its own margin does not count twice.
            fills = self._takes(self.board.rules(order.symbol, now), order, self.board.mark(order.symbol, now), now)
            if not order.reduce_only and not _closes(order):
                self._check_margin(account, order, fills, now)
        except Rejected:
            order.price, order.quantity, order.status = before
            account.enter(order)
            raise
        order.status, order.updated_ms = before[2], now
        account.enter(order)
        self.herald.ordered(account, order, "AMENDMENT", now)
        self._execute(account, order, fills, now)
        return order

    def imbalance(self, now: int) -> Decimal:
        """What has appeared or vanished: zero."""
        return self.clearing.imbalance(list(self.accounts.values()), self.marks(now))

    def _ordered(self, account: Account, request: OrderRequest, now: int) -> Order:
        quantity = request.quantity
        if request.reduce_only or request.position_side != "BOTH":
            quantity = clipped(account, request)
        number = self.clearing.next_id()
        return Order(
            id=number,
            client_id=request.client_id or f"sandbox_{number}",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            kind=request.kind,
            quantity=quantity,
            price=request.price,
            time_in_force=request.time_in_force,
            reduce_only=request.reduce_only,
            original=request.kind,
            good_till=request.good_till,
            created_ms=now,
            updated_ms=now,
        )

    def _takes(self, rules: SymbolRules, order: Order, mark: Decimal, now: int) -> list[Level]:
        """The levels that an order takes at once."""
        levels = self.takings.levels(order.symbol, order.side, now, order.remaining)
        if order.kind == "MARKET":
            _check_market(rules, order, levels, mark)
            bound = Decimal(rules.market_take_bound) * order.sign + 1
            return walk(levels, order.side, order.remaining, mark * bound)
        fills = walk(levels, order.side, order.remaining, order.price)
        if order.time_in_force == "FOK" and total(fills) < order.remaining:
            raise Rejected(-5021, "Due to the order could not be filled immediately, the FOK order has been rejected.")
        if order.time_in_force == "GTX" and fills:
            raise Rejected(-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected.")
        return fills

    def _check_margin(self, account: Account, order: Order, fills: list[Level], now: int) -> None:
        marks = self.marks(now)
        mark = marks(order.symbol)
        got = total(fills)
        price = order.price or (worth(fills) / got if got else mark)
        probe = Order(
            id=0,
            client_id="",
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
            kind=order.kind,
            quantity=order.remaining,
            price=price,
        )
        _check_bracket(account, probe, mark)
        extra = margins.order_margin(account, order.symbol, mark, probe) - margins.order_margin(account, order.symbol, mark)
        fee = fee_of(worth(fills), TAKER_FEE_RATIO)
        if extra <= 0:
            return
        if extra + fee > margins.available(account, marks) or self.board.listed(order.symbol, now).quote_asset != "USDT":
            raise Rejected(-2019, "Margin is insufficient.")

    def _execute(self, account: Account, order: Order, fills: list[Level], now: int) -> None:
        for price, quantity in fills:
            trade = self.clearing.fill(account, order, price, quantity, now)
            self.herald.ordered(account, order, "TRADE", now, trade)
        self.takings.take(order.symbol, fills, now)
        if order.open and (order.kind == "MARKET" or order.time_in_force == "IOC"):
            self.expire(account, order, now, "9" if order.kind == "MARKET" else "0")
        if fills:
            self.filled(account, order.symbol, order.position_side, now)


def _descend(order: Order, parent: AlgoOrder) -> None:
    order.original, order.stop_price, order.close_position = parent.kind, parent.trigger, parent.close_position
    order.working_type, order.price_protect = "MARK_PRICE" if parent.on_mark else "CONTRACT_PRICE", parent.price_protect
    order.parent = parent.id
    parent.status, parent.child = "TRIGGERED", order.id


def clipped(account: Account, request: OrderRequest) -> Decimal:
    """How much of a closing order the position allows.

    Raises:
        Rejected: There is nothing to reduce.
    """
    held = account.position(request.symbol, request.position_side).quantity
    closing = "SELL" if request.position_side == "LONG" else "BUY"
    if request.position_side == "BOTH":
        closing = "SELL" if held > 0 else "BUY"
    elif request.side != closing:
        return request.quantity
    if not held or request.side != closing or (request.position_side != "BOTH" and request.quantity > abs(held)):
        raise Rejected(-2022, "ReduceOnly Order is rejected.")
    if request.reduce_only and request.kind == "LIMIT" and _reducing(account, request) >= abs(held):
        raise Rejected(-4118, "ReduceOnly Order Failed. Please check your existing position and open orders.")
    return min(request.quantity, abs(held))


def _reducing(account: Account, request: OrderRequest) -> Decimal:
    """What resting reduce-only orders of the same way would already close."""
    resting = (order for order in account.open_orders(request.symbol) if order.reduce_only and order.side == request.side)
    return sum((order.remaining for order in resting if order.position_side == request.position_side), ZERO)


def check_side(account: Account, position_side: str, *, reduce_only: bool) -> None:
    """The position side must fit the account's mode."""
    if account.hedge == (position_side == "BOTH"):
        raise Rejected(-4061, "Order's position side does not match user's setting.")
    if account.hedge and reduce_only:
        raise Rejected(-1106, "Parameter 'reduceonly' sent when not required.")


def unknown_order() -> Rejected:
    """Nothing of that id rests."""
    return Rejected(-2011, "Unknown order sent.")


def _check_filters(rules: SymbolRules, request: OrderRequest, mark: Decimal) -> None:
    check_quantity(rules, request.quantity, market=request.kind == "MARKET")
    if request.kind == "LIMIT":
        check_price(rules, request.price)
        check_limit(rules, request.side, request.price, mark)
    if not request.reduce_only:
        check_notional(rules, request.quantity * (request.price or mark))


def _check_open(account: Account, request: OrderRequest) -> None:
    resting = account.open_orders()
    if request.client_id and any(order.client_id == request.client_id for order in resting):
        raise Rejected(-4116, "ClientOrderId is duplicated.")
    if sum(order.symbol == request.symbol for order in resting) >= MOST_ORDERS:
        raise Rejected(-2025, "Reach max open order limit.")


def _check_market(rules: SymbolRules, order: Order, levels: list[Level], mark: Decimal) -> None:
    edge = mark * Decimal(rules.percent_up if order.side == "BUY" else rules.percent_down)
    if not levels or (levels[0].price - edge) * order.sign > 0:
        raise Rejected(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.")


def _check_bracket(account: Account, probe: Order, mark: Decimal) -> None:
    """What a position could become must be within what the leverage allows."""
    held = account.position(probe.symbol, probe.position_side).quantity * mark
    waiting = sum(
        (o.remaining * o.price for o in account.open_orders(probe.symbol) if o.side == probe.side and not o.reduce_only), ZERO
    )
    notional = abs(held + probe.sign * (waiting + probe.quantity * probe.price))
    if notional > margins.most_notional(probe.symbol, account.of(probe.symbol).leverage):
        raise Rejected(-2027, "Exceeded the maximum allowable position at current leverage.")


def _closes(order: Order) -> bool:
    """Whether an order in hedge mode closes."""
    return (order.position_side, order.side) in (("LONG", "SELL"), ("SHORT", "BUY"))
