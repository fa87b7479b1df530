"""Margin moved by hand between the cross wallet and an isolated position.

Source: Binance USDⓈ-M "Modify Isolated Position Margin" and "Error Codes" (read 2026-11).
"""

from decimal import Decimal

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Position
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.trading import Trading
from shared.margin import ZERO


def move_margin(trading: Trading, account: Account, position: Position, amount: Decimal, now: int) -> None:
    """Add margin to a position, or with a negative amount take some off.

    Raises:
        Rejected: It is not isolated or flat, or too little would be left on either side.
    """
    if not account.of(position.symbol).isolated:
        raise Rejected(-4049, "Add margin only support for isolated position.")
    if not position.quantity:
        raise Rejected(-4054, "Cannot add position margin: position is 0.")
    if not amount:
        raise Rejected(-4055, "Amount must be positive.")
    if amount > margins.available(account, trading.marks(now)):
        raise Rejected(-4050, "Cross balance insufficient.")
    if amount < 0:
        _check_left(trading, account, position, amount, now)
    position.isolated_wallet += amount
    position.updated_ms = account.updated_ms = now
    trading.herald.changed(account, "MARGIN_TRANSFER", now, [position], amount)


def _check_left(trading: Trading, account: Account, position: Position, amount: Decimal, now: int) -> None:
    mark = trading.board.mark(position.symbol, now)
    left = position.isolated_wallet + amount
    if left + min(ZERO, position.unrealized(mark)) < margins.position_margin(account, position, mark):
        raise Rejected(-4051, "Isolated balance insufficient.")
