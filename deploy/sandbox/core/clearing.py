"""Where money moves: fills, fees, funding and liquidations, each with its other side.

Nothing appears or vanishes: wallets + unrealized + fees + insurance + the book's own stake = deposits, to the last decimal.
"""

from decimal import Decimal

import msgspec

from deploy.sandbox.core.account import Account, Income, Marks, Position, rounded
from deploy.sandbox.core.orders import Order, Trade
from shared.margin import MAKER_FEE_RATIO, TAKER_FEE_RATIO, ZERO, fee_of

FIRST_ID = 8_389_765_000_000_000
"""Ids are larger than 32 bits, as on the exchange."""


class Stake(msgspec.Struct, kw_only=True):
    """What the book holds of a symbol: the other side of everyone's positions."""

    quantity: Decimal = ZERO
    cash: Decimal = ZERO


class Clearing:
    """Books of the whole exchange."""

    def __init__(self) -> None:
        self.stakes: dict[str, Stake] = {}
        self.fees = ZERO
        self.insurance = ZERO
        self.deposits = ZERO
        self._last_id = FIRST_ID

    def next_id(self) -> int:
        """An id larger than every one before."""
        self._last_id += 1
        return self._last_id

    def deposit(self, account: Account, amount: Decimal, now: int) -> None:
        """Put money into a wallet."""
        self.deposits += amount
        self._pay(account, "TRANSFER", "", amount, now)

    def fill(self, account: Account, order: Order, price: Decimal, quantity: Decimal, now: int, *, maker: bool = False) -> Trade:
        """Execute a part of an order against the book.

        Args:
            account: Whose order.
            order: Still open.
            price: Of the level.
            quantity: Base asset, at most what remains.
            now: Market time.
            maker: Whether the order rested.
        """
        fee = rounded(fee_of(quantity * price, MAKER_FEE_RATIO if maker else TAKER_FEE_RATIO))
        return self.execute(account, order, price, quantity, fee, now, maker=maker)

    def execute(
        self, account: Account, order: Order, price: Decimal, quantity: Decimal, fee: Decimal, now: int, *, maker: bool
    ) -> Trade:
        """As `fill`, with a fee of one's own."""
        position = account.position(order.symbol, order.position_side)
        realized = self._change(account, position, order.sign * quantity, price)
        position.realized += realized
        position.updated_ms = now
        trade = Trade(
            id=self.next_id(),
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
            price=price,
            quantity=quantity,
            fee=fee,
            realized=realized,
            maker=maker,
            time_ms=now,
        )
        if realized:
            self._pay(account, "REALIZED_PNL", order.symbol, realized, now, trade.id)
        if fee:
            self.fees += fee
            self._pay(account, "COMMISSION", order.symbol, -fee, now, trade.id)
        account.trades.append(trade)
        order.executed += quantity
        order.quote += quantity * price
        order.updated_ms = now
        order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
        return trade

    def fund(self, account: Account, position: Position, rate: Decimal, mark: Decimal, now: int) -> Decimal:
        """Pay funding: a long pays the book when the rate is positive; returns what the account got."""
        amount = rounded(-position.quantity * mark * rate)
        if account.of(position.symbol).isolated:
            position.isolated_wallet += amount
        self._stake(position.symbol).cash -= amount
        self._pay(account, "FUNDING_FEE", position.symbol, amount, now)
        return amount

    def charge(self, account: Account, symbol: str, amount: Decimal, now: int) -> None:
        """Move a liquidation's fee to the insurance fund, or with a negative amount the fund's help to the account."""
        self.insurance += amount
        self._pay(account, "INSURANCE_CLEAR", symbol, -amount, now)

    def imbalance(self, accounts: list[Account], marks: Marks) -> Decimal:
        """What has appeared or vanished: zero."""
        equity = sum((account.wallet for account in accounts), ZERO)
        equity += sum((p.unrealized(marks(p.symbol)) for account in accounts for p in account.held()), ZERO)
        stakes = sum((stake.cash + stake.quantity * marks(symbol) for symbol, stake in self.stakes.items()), ZERO)
        return equity + stakes + self.fees + self.insurance - self.deposits

    def _change(self, account: Account, position: Position, delta: Decimal, price: Decimal) -> Decimal:
        """Move a position; the closing part comes first, and what remains opens the other way."""
        stake = self._stake(position.symbol)
        stake.quantity -= delta
        stake.cash += delta * price
        closing = ZERO if position.quantity * delta >= 0 else min(abs(position.quantity), abs(delta)).copy_sign(delta)
        realized = _reduce(position, closing, price) if closing else ZERO
        opening = delta - closing
        position.quantity += opening
        position.cost += opening * price
        settings = account.of(position.symbol)
        if settings.isolated and opening:
            position.isolated_wallet += rounded(abs(opening) * price / settings.leverage)
        return realized

    def _stake(self, symbol: str) -> Stake:
        return self.stakes.setdefault(symbol, Stake())

    def _pay(self, account: Account, kind: str, symbol: str, amount: Decimal, now: int, trade: int | None = None) -> None:
        account.wallet += amount
        account.updated_ms = now
        note = "" if trade is None else str(trade)
        account.incomes.append(Income(id=self.next_id(), kind=kind, symbol=symbol, amount=amount, time_ms=now, trade_id=note))


def _reduce(position: Position, closing: Decimal, price: Decimal) -> Decimal:
    """Take a part off a position, its share of cost and set-apart margin with it; returns the profit."""
    whole = abs(closing) == abs(position.quantity)
    share = abs(closing) / abs(position.quantity)
    cost = position.cost if whole else rounded(position.cost * share)
    position.isolated_wallet -= position.isolated_wallet if whole else rounded(position.isolated_wallet * share)
    position.quantity += closing
    position.cost -= cost
    return -closing * price - cost
