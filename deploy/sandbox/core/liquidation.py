"""Who can no longer hold is closed by force: orders out, positions to the book, the fee to the insurance fund, the fund pays what is missing.

An isolated position loses its own margin at most, a cross account its wallet at most.

Source: Binance Futures FAQ "Liquidation Protocols": when margin balance <= maintenance margin; fee by the symbol's liquidationFee.
"""

from decimal import Decimal

import msgspec

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks, Position, rounded
from deploy.sandbox.core.board import Level
from deploy.sandbox.core.matching import total, walk
from deploy.sandbox.core.notices import FORCED
from deploy.sandbox.core.orders import Order
from deploy.sandbox.core.trading import Trading
from shared.margin import ZERO

WHOLE = Decimal(1)
CALL_SHARE = Decimal("0.8")
"""A margin is called when maintenance takes so much of it."""


class Forced(msgspec.Struct, frozen=True, kw_only=True):
    """A liquidation to tell the market about."""

    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    average: Decimal


def liquidate_where_due(trading: Trading, account: Account, symbol: str, marks: Marks, now: int) -> list[Forced]:
    """Close what an account can no longer hold, now that one symbol's price has moved.

    Args:
        trading: The floor.
        account: Whose positions are looked at.
        symbol: An isolated position of another symbol cannot have become due.
        marks: Mark prices of the moment.
        now: Market time.

    Returns:
        The forced orders, in the order of their execution.
    """
    held = [position for position in account.held() if position.symbol == symbol]
    if held and not account.of(symbol).isolated:
        if not cross_due(account, marks):
            return []
        return _liquidate(trading, account, margins.cross_positions(account), margins.cross_wallet(account), now)
    out: list[Forced] = []
    for position in held:
        if _isolated_due(position, marks(symbol)):
            out += _liquidate(trading, account, [position], position.isolated_wallet, now)
    return out


def call_margin(trading: Trading, account: Account, symbol: str, marks: Marks, now: int) -> None:
    """Warn an account whose margin is nearly used up, once until it has recovered.

    Args:
        trading: The floor.
        account: Whose positions are looked at.
        symbol: Whose price has moved.
        marks: Mark prices of the moment.
        now: Market time.
    """
    if not account.listening:
        return
    held = [position for position in account.held() if position.symbol == symbol]
    if held and not account.of(symbol).isolated:
        held = margins.cross_positions(account) if cross_due(account, marks, CALL_SHARE) else []
        fine = [] if held else margins.cross_positions(account)
    else:
        fine = [position for position in held if not _isolated_due(position, marks(symbol), CALL_SHARE)]
        held = [position for position in held if position not in fine]
    account.called -= {(position.symbol, position.side) for position in fine}
    fresh = [position for position in held if (position.symbol, position.side) not in account.called]
    if fresh:
        account.called |= {(position.symbol, position.side) for position in fresh}
        trading.herald.margin_called(account, fresh, marks, now)


def cross_due(account: Account, marks: Marks, share: Decimal = WHOLE) -> bool:
    """Whether a share of the cross wallet no longer carries its positions."""
    held = margins.cross_positions(account)
    needed = sum((margins.maintenance(p, marks(p.symbol)) for p in held), ZERO)
    return bool(held) and (margins.cross_wallet(account) + margins.cross_unrealized(account, marks)) * share <= needed


def _isolated_due(position: Position, mark: Decimal, share: Decimal = WHOLE) -> bool:
    return (position.isolated_wallet + position.unrealized(mark)) * share <= margins.maintenance(position, mark)


def _liquidate(trading: Trading, account: Account, positions: list[Position], margin: Decimal, now: int) -> list[Forced]:
    """Close positions that share a margin; what is left of it pays the fee, what is missing comes from the fund."""
    before, owed = account.wallet, ZERO
    out: list[Forced] = []
    for position in positions:
        for order in account.open_orders(position.symbol):
            trading.expire(account, order, now, "5")
        order = _close(trading, account, position, now)
        owed += rounded(order.quote * Decimal(trading.board.listed(position.symbol, now).liquidation_fee))
        out.append(
            Forced(symbol=order.symbol, side=order.side, quantity=order.executed, price=order.price, average=order.average)
        )
    left = margin + account.wallet - before
    charge = min(owed, left)
    if charge:
        trading.clearing.charge(account, positions[0].symbol, charge, now)
        trading.herald.changed(account, "INSURANCE_CLEAR", now, [], -charge)
    return out


def _close(trading: Trading, account: Account, position: Position, now: int) -> Order:
    size, side = abs(position.quantity), "SELL" if position.quantity > 0 else "BUY"
    rules = trading.board.listed(position.symbol, now)
    levels = walk(trading.takings.levels(position.symbol, side, now, size), side, size, None)
    missing = size - total(levels)
    if missing:
        worst = levels[-1].price if levels else trading.board.last(position.symbol, now)
        levels.append(Level(worst, missing))
    number = trading.clearing.next_id()
    order = Order(
        id=number,
        client_id=f"{FORCED}{now}{number % 1_000_000:06d}",
        symbol=position.symbol,
        side=side,
        position_side=position.side,
        kind="LIMIT",
        quantity=size,
        price=levels[-1].price.quantize(Decimal(rules.tick)),
        time_in_force="IOC",
        original="LIMIT",
        created_ms=now,
        updated_ms=now,
    )
    account.enter(order)
    trading.herald.ordered(account, order, "NEW", now)
    for price, quantity in levels:
        trade = trading.clearing.execute(account, order, price, quantity, ZERO, now, maker=False)
        trading.herald.ordered(account, order, "CALCULATED", now, trade)
    trading.takings.take(position.symbol, levels, now)
    trading.filled(account, position.symbol, position.side, now)
    return order
