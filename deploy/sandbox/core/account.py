"""One trader's account: wallet, positions, settings and orders, and the margin they tie up.

State moves only through `clearing`; everything here is arithmetic on it. In an isolated position a part of the wallet is set apart.

Source: Binance FAQ "Leverage and Margin of USDⓈ-M Futures" and "How to Calculate Liquidation Price" (read 2026-11).
"""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from deploy.sandbox.core.orders import AlgoOrder, Order, Trade
from shared.brackets import brackets_of
from shared.margin import ZERO, Bracket, bracket_for, maintenance_margin

CENT_OF_CENT = Decimal("0.00000001")
"""Money has eight decimals."""
DEFAULT_LEVERAGE = 20

UNFINISHED = frozenset({"NEW", "TRIGGERING"})
"""States of a conditional order that has no order in the book yet and may get one."""

type Marks = Callable[[str], Decimal]


def rounded(amount: Decimal) -> Decimal:
    """Money as the exchange books it."""
    return amount.quantize(CENT_OF_CENT)


class Position(msgspec.Struct, kw_only=True):
    """Quantity and cost are signed, negative for a short; cost / quantity is the entry price."""

    symbol: str
    side: str
    """BOTH in one-way mode, LONG or SHORT in hedge mode."""
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    realized: Decimal = ZERO
    """Profit of all that was ever closed, before fees."""
    updated_ms: int = 0

    @property
    def entry_price(self) -> Decimal:
        """Volume-weighted; 0 when flat."""
        return self.cost / self.quantity if self.quantity else ZERO

    def unrealized(self, mark: Decimal) -> Decimal:
        """Profit at a mark price, before fees."""
        return self.quantity * mark - self.cost


class SymbolSettings(msgspec.Struct, kw_only=True):
    """What an account chose for a symbol."""

    leverage: int
    isolated: bool = False


class Income(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the account's money history."""

    id: int
    kind: str
    symbol: str
    amount: Decimal
    time_ms: int
    trade_id: str = ""


class Account(msgspec.Struct, kw_only=True):
    """Everything of one key."""

    key: str
    secret: str
    opened_ms: int
    wallet: Decimal = ZERO
    """Isolated wallets included."""
    updated_ms: int = 0
    revoked: bool = False
    """Whether its key is refused."""
    may_trade: bool = True
    may_withdraw: bool = False
    ip_restricted: bool = True
    """What its key is allowed, as apiRestrictions tells it."""
    hedge: bool = False
    multi_assets: bool = False
    listening: bool = False
    """Whether its user data stream is open; only then are its notices made."""
    called: set[tuple[str, str]] = set()
    """Positions whose margin was called and has not recovered since."""
    positions: dict[tuple[str, str], Position] = {}
    settings: dict[str, SymbolSettings] = {}
    orders: dict[int, Order] = {}
    algos: dict[int, AlgoOrder] = {}
    resting: dict[str, list[Order]] = {}
    """Of the orders, those that may still be open, by symbol: history grows, this does not."""
    armed: dict[str, list[AlgoOrder]] = {}
    """Of the conditional orders, those that may still wait, by symbol."""
    trades: list[Trade] = []
    incomes: list[Income] = []

    def position(self, symbol: str, side: str) -> Position:
        """The position of a symbol and side, flat where there was none."""
        return self.positions.setdefault((symbol, side), Position(symbol=symbol, side=side))

    def held(self) -> list[Position]:
        """Positions that are not flat."""
        return [position for position in self.positions.values() if position.quantity]

    def of(self, symbol: str) -> SymbolSettings:
        """The settings of a symbol: cross, and twenty times or what the symbol allows, until they are changed."""
        most = brackets_of(symbol)[0][0].max_leverage
        return self.settings.setdefault(symbol, SymbolSettings(leverage=min(DEFAULT_LEVERAGE, most)))

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Orders that rest, oldest first."""
        if symbol is None:
            return sorted((order for name in list(self.resting) for order in self.open_orders(name)), key=_id)
        kept = [order for order in self.resting.get(symbol, []) if order.open]
        _keep(self.resting, symbol, kept)
        return kept

    def enter(self, order: Order) -> None:
        """Keep an order; one that had stood aside takes its place again."""
        self.orders[order.id] = order
        there = self.resting.get(order.symbol, [])
        if not any(kept is order for kept in there):
            self.resting[order.symbol] = sorted([*there, order], key=_id)

    def arm(self, algo: AlgoOrder) -> None:
        """Keep a conditional order."""
        self.algos[algo.id] = algo
        self.armed.setdefault(algo.symbol, []).append(algo)

    def waiting(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Conditional orders that wait for their price, oldest first."""
        return [algo for algo in self.unfinished(symbol) if algo.status == "NEW"]

    def unfinished(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Conditional orders that wait, or whose price has come and whose order is not in the book yet; oldest first."""
        if symbol is None:
            return sorted((algo for name in list(self.armed) for algo in self.unfinished(name)), key=_id)
        kept = [algo for algo in self.armed.get(symbol, []) if algo.status in UNFINISHED]
        _keep(self.armed, symbol, kept)
        return kept


def _id(item: Order | AlgoOrder) -> int:
    return item.id


def _keep[T](index: dict[str, list[T]], symbol: str, kept: list[T]) -> None:
    if kept:
        index[symbol] = kept
    else:
        index.pop(symbol, None)


def cross_wallet(account: Account) -> Decimal:
    """The wallet without what is set apart for isolated positions."""
    return account.wallet - sum((position.isolated_wallet for position in account.positions.values()), ZERO)


def cross_positions(account: Account) -> list[Position]:
    """Held positions that share the cross wallet."""
    return [position for position in account.held() if not account.of(position.symbol).isolated]


def cross_unrealized(account: Account, marks: Marks) -> Decimal:
    """Unrealized profit that counts for the cross wallet."""
    return sum((position.unrealized(marks(position.symbol)) for position in cross_positions(account)), ZERO)


def maintenance(position: Position, mark: Decimal) -> Decimal:
    """Margin below which a position is liquidated."""
    notional = abs(position.quantity) * mark
    return maintenance_margin(notional, tier(position.symbol, notional)) if notional else ZERO


def tier(symbol: str, notional: Decimal) -> Bracket:
    """The bracket of a notional."""
    return bracket_for(brackets_of(symbol)[0], notional)


def most_notional(symbol: str, leverage: int) -> Decimal:
    """The largest position that a leverage allows."""
    return max(bracket.cap for bracket in brackets_of(symbol)[0] if bracket.max_leverage >= leverage)


def position_margin(account: Account, position: Position, mark: Decimal) -> Decimal:
    """Initial margin of a position at its mark price."""
    return abs(position.quantity) * mark / account.of(position.symbol).leverage


def order_margin(account: Account, symbol: str, mark: Decimal, extra: Order | None = None) -> Decimal:
    """Initial margin that resting orders of a symbol tie up: the larger way the position could go, less what it has.

    Args:
        account: Whose.
        symbol: Of the orders.
        mark: Its mark price.
        extra: An order that is about to come, priced at what it would pay.
    """
    orders = [order for order in account.open_orders(symbol) if not order.reduce_only]
    orders += [extra] if extra and not extra.reduce_only else []
    total = ZERO
    for side in ("BOTH", "LONG", "SHORT"):
        own = [order for order in orders if order.position_side == side]
        if own:
            total += _further(own, account.position(symbol, side).quantity * mark)
    return total / account.of(symbol).leverage


def _further(orders: list[Order], held: Decimal) -> Decimal:
    bought, sold = (
        sum((order.remaining * order.price for order in orders if order.side == side), ZERO) for side in ("BUY", "SELL")
    )
    if orders[0].position_side == "LONG":
        return bought
    if orders[0].position_side == "SHORT":
        return sold
    return max(abs(held + bought), abs(held - sold)) - abs(held)


def ordered_symbols(account: Account) -> set[str]:
    """Symbols with a resting order."""
    return {order.symbol for order in account.open_orders()}


def available(account: Account, marks: Marks) -> Decimal:
    """What new orders may tie up; never negative."""
    tied = sum((position_margin(account, p, marks(p.symbol)) for p in cross_positions(account)), ZERO)
    tied += sum((order_margin(account, symbol, marks(symbol)) for symbol in ordered_symbols(account)), ZERO)
    return max(ZERO, cross_wallet(account) + cross_unrealized(account, marks) - tied)


def liquidation_price(account: Account, position: Position, marks: Marks) -> Decimal:
    """The mark price at which margin balance equals maintenance margin; 0 where there is none.

    Source: Binance FAQ "How to Calculate Liquidation Price of USDⓈ-M Futures Contracts", one-way, cross and isolated.
    """
    if not position.quantity:
        return ZERO
    mark = marks(position.symbol)
    bracket = tier(position.symbol, abs(position.quantity) * mark)
    if account.of(position.symbol).isolated:
        balance = position.isolated_wallet
    else:
        others = [p for p in cross_positions(account) if p is not position]
        balance = cross_wallet(account) + sum(
            (p.unrealized(marks(p.symbol)) - maintenance(p, marks(p.symbol)) for p in others), ZERO
        )
    size = abs(position.quantity)
    price = (balance + bracket.cum - position.cost) / (size * bracket.maintenance_ratio - position.quantity)
    return max(ZERO, price)
