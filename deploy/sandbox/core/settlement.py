"""Positions that the exchange itself closes at the mark price, for nothing: a symbol that stops trading, and auto-deleveraging.

Source: Binance FAQ "Delisting of USDⓈ-M contracts" (read 2026-11): open orders are canceled and positions settled automatically; the
settlement's client order id begins with settlement_autoclose-.
"""

from deploy.sandbox.core.account import Account, Position, rounded
from deploy.sandbox.core.conditional import Conditional
from deploy.sandbox.core.orders import Order
from deploy.sandbox.core.trading import Trading
from shared.margin import ZERO

SETTLED, DELEVERAGED = "settlement_autoclose-", "adl_autoclose"
"""What client order ids of such closes begin with, or are."""


def settle(trading: Trading, conditional: Conditional, symbol: str, now: int) -> int:
    """End everything of a symbol that still trades; returns how many positions were settled."""
    settled = 0
    for account in trading.accounts.values():
        for order in account.open_orders(symbol):
            trading.expire(account, order, now)
        for algo in account.unfinished(symbol):
            conditional.expire(account, algo, now)
        for position in [position for position in account.held() if position.symbol == symbol]:
            _close(trading, account, position, now, f"{SETTLED}{trading.clearing.next_id()}", "TRADE")
            settled += 1
    return settled


def deleverage(trading: Trading, account: Account, position: Position, now: int) -> Order:
    """Close a position for a liquidated counterparty's sake: at the mark price, without a fee, and nobody asks its owner."""
    return _close(trading, account, position, now, DELEVERAGED, "CALCULATED")


def _close(trading: Trading, account: Account, position: Position, now: int, client_id: str, execution: str) -> Order:
    number, mark = trading.clearing.next_id(), rounded(trading.board.mark(position.symbol, now))
    order = Order(
        id=number,
        client_id=client_id,
        symbol=position.symbol,
        side="SELL" if position.quantity > 0 else "BUY",
        position_side=position.side,
        kind="MARKET",
        quantity=abs(position.quantity),
        reduce_only=True,
        original="MARKET",
        created_ms=now,
        updated_ms=now,
    )
    account.enter(order)
    trading.herald.ordered(account, order, "NEW", now)
    trade = trading.clearing.execute(account, order, mark, order.quantity, ZERO, now, maker=False)
    trading.herald.ordered(account, order, execution, now, trade)
    trading.filled(account, position.symbol, position.side, now)
    return order
