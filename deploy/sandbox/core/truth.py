"""What an account truly is, for tests: everything at once, in the project's own words, with the exchange's books beside it."""

from decimal import Decimal
from typing import Any

from deploy.sandbox.core.account import Account, Income, Position
from deploy.sandbox.core.account_replies import Standing, money
from deploy.sandbox.core.conditional import state
from deploy.sandbox.core.orders import AlgoOrder, Order, Trade
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.core.vigil import Unprotected, Vigil, stopped

Row = dict[str, Any]


def truth(trading: Trading, account: Account, now: int) -> Row:
    """The account and the whole exchange's balance at a moment; imbalance is zero."""
    marks = trading.marks(now)
    standing = Standing(account, marks)
    return {
        "market_ms": now,
        "wall_ms": trading.herald.vigil.wall(now),
        "revoked": account.revoked,
        "wallet": money(account.wallet),
        "available": money(standing.available),
        "unrealized": money(standing.unrealized),
        "hedge_mode": account.hedge,
        "positions": [_position(account, p, marks(p.symbol)) for p in account.held()],
        "open_orders": [order.id for order in account.open_orders()],
        "open_algo_orders": [algo.id for algo in account.unfinished()],
        "resting": [_order(order) for order in account.open_orders()],
        "waiting": [_algo(account, algo) for algo in account.unfinished()],
        "orders": {order.client_id: order.status for order in account.orders.values()},
        "algo_orders": {algo.client_id: state(account, algo) for algo in account.algos.values()},
        "fills": len(account.trades),
        "trades": [_trade(account, trade) for trade in account.trades],
        "income": {kind: money(amount) for kind, amount in income_by_kind(account).items()},
        "incomes": [_income(item) for item in account.incomes],
        "unprotected": [_span(trading.herald.vigil, account, span, now) for span in trading.herald.vigil.told(account.key)],
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


def _position(account: Account, p: Position, mark: Decimal) -> Row:
    settings = account.of(p.symbol)
    return {
        "symbol": p.symbol,
        "position_side": p.side,
        "quantity": f"{p.quantity:f}",
        "entry_price": f"{p.entry_price:f}",
        "isolated_wallet": money(p.isolated_wallet),
        "unrealized": money(p.unrealized(mark)),
        "margin_type": "isolated" if settings.isolated else "cross",
        "leverage": settings.leverage,
        "stopped": f"{stopped(account, p.symbol, p.side, p.quantity):f}",
    }


def _order(order: Order) -> Row:
    return {
        "id": order.id,
        "client_id": order.client_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.kind,
        "quantity": f"{order.quantity:f}",
        "executed": f"{order.executed:f}",
        "price": f"{order.price:f}",
        "reduce_only": order.reduce_only,
        "status": order.status,
    }


def _algo(account: Account, algo: AlgoOrder) -> Row:
    return {
        "id": algo.id,
        "client_id": algo.client_id,
        "symbol": algo.symbol,
        "side": algo.side,
        "type": algo.kind,
        "quantity": f"{algo.quantity:f}",
        "trigger": f"{algo.trigger:f}",
        "on_mark": algo.on_mark,
        "reduce_only": algo.reduce_only,
        "close_position": algo.close_position,
        "status": state(account, algo),
    }


def _trade(account: Account, trade: Trade) -> Row:
    return {
        "id": trade.id,
        "order_id": trade.order_id,
        "client_id": account.orders[trade.order_id].client_id,
        "symbol": trade.symbol,
        "side": trade.side,
        "price": f"{trade.price:f}",
        "quantity": f"{trade.quantity:f}",
        "fee": money(trade.fee),
        "realized": money(trade.realized),
        "maker": trade.maker,
        "time_ms": trade.time_ms,
    }


def _income(item: Income) -> Row:
    return {
        "id": item.id,
        "kind": item.kind,
        "symbol": item.symbol,
        "amount": money(item.amount),
        "time_ms": item.time_ms,
        "trade_id": item.trade_id,
    }


def _span(vigil: Vigil, account: Account, span: Unprotected, now: int) -> Row:
    """A span without a stop; what counts of it is the wall time in which the exchange took the account's orders."""
    until_market, until_wall = (now, vigil.wall(now)) if span.until is None else (span.until.market_ms, span.until.wall_ms)
    lasted = max(0, until_wall - span.since.wall_ms)
    return {
        "symbol": span.symbol,
        "position_side": span.side,
        "quantity": f"{span.quantity:f}",
        "since_market_ms": span.since.market_ms,
        "since_wall_ms": span.since.wall_ms,
        "lasting": span.until is None,
        "market_ms": until_market - span.since.market_ms,
        "wall_ms": lasted,
        "refused_wall_ms": vigil.refused_ms(account.key, span.since.wall_ms, until_wall),
        "counted_wall_ms": lasted - vigil.refused_ms(account.key, span.since.wall_ms, until_wall),
    }
