"""What an account truly is, for tests: everything at once, in the project's own words, with the exchange's books beside it."""

from typing import Any

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.account_replies import Standing, money
from deploy.sandbox.core.trading import Trading


def truth(trading: Trading, account: Account, now: int) -> dict[str, Any]:
    """The account and the whole exchange's balance at a moment; imbalance is zero."""
    marks = trading.marks(now)
    standing = Standing(account, marks)
    return {
        "market_ms": now,
        "wallet": money(account.wallet),
        "available": money(standing.available),
        "unrealized": money(standing.unrealized),
        "hedge_mode": account.hedge,
        "positions": [
            {
                "symbol": p.symbol,
                "position_side": p.side,
                "quantity": f"{p.quantity:f}",
                "entry_price": f"{p.entry_price:f}",
                "isolated_wallet": money(p.isolated_wallet),
                "unrealized": money(p.unrealized(marks(p.symbol))),
            }
            for p in account.held()
        ],
        "open_orders": [order.id for order in account.open_orders()],
        "open_algo_orders": [algo.id for algo in account.waiting()],
        "orders": {order.client_id: order.status for order in account.orders.values()},
        "fills": len(account.trades),
        "income": {kind: money(amount) for kind, amount in income_by_kind(account).items()},
        "exchange": {
            "deposits": money(trading.clearing.deposits),
            "fees": money(trading.clearing.fees),
            "insurance": money(trading.clearing.insurance),
            "imbalance": money(trading.imbalance(now)),
        },
    }


def income_by_kind(account: Account) -> dict[str, Any]:
    """The money history summed by kind; its total is the wallet."""
    out: dict[str, Any] = {}
    for item in account.incomes:
        out[item.kind] = out.get(item.kind, 0) + item.amount
    return out
