"""Signed replies about orders, trades and money history, spelt as the exchange spells them.

Source: Binance USDⓈ-M "Trade Endpoints" (read 2026-11); avgPrice and cumQuote left the replies of POST, PUT and DELETE with the official
SDK 14.0.0 (2026-07-15).
"""

from decimal import Decimal
from typing import Any

from deploy.sandbox.core.account import Income
from deploy.sandbox.core.account_replies import money
from deploy.sandbox.core.orders import Order, Trade
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import ZERO

Row = dict[str, Any]


def acted(order: Order, rules: SymbolRules, *, average: bool) -> Row:
    """The reply to POST, PUT and DELETE.

    Args:
        order: As it stands.
        rules: Its symbol's.
        average: Whether avgPrice and cumQuote are in it, as before July 2026.
    """
    row = _row(order, rules)
    del row["pair"]
    row["cumQty"] = row["executedQty"]
    return row | _average(order, rules) if average else row


def acknowledged(order: Order, rules: SymbolRules, *, average: bool) -> Row:
    """The reply to POST with newOrderRespType=ACK: nothing has been filled yet as far as it says."""
    fresh = Order(
        id=order.id,
        client_id=order.client_id,
        symbol=order.symbol,
        side=order.side,
        position_side=order.position_side,
        kind=order.kind,
        quantity=order.quantity,
        price=order.price,
        time_in_force=order.time_in_force,
        reduce_only=order.reduce_only,
        original=order.original,
        good_till=order.good_till,
        created_ms=order.created_ms,
        updated_ms=order.created_ms,
    )
    return acted(fresh, rules, average=average)


def told(order: Order, rules: SymbolRules) -> Row:
    """The reply to GET order, openOrders and allOrders."""
    return _row(order, rules) | _average(order, rules) | {"time": order.created_ms}


def _row(order: Order, rules: SymbolRules) -> Row:
    quantities, prices = rules.quantity_decimals, rules.price_decimals
    return {
        "orderId": order.id,
        "symbol": order.symbol,
        "pair": rules.pair,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": f"{order.price:.{prices}f}",
        "origQty": f"{order.quantity:.{quantities}f}",
        "executedQty": f"{order.executed:.{quantities}f}",
        "timeInForce": order.time_in_force,
        "type": order.kind,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": f"{order.stop_price:.{prices}f}" if order.stop_price else "0",
        "workingType": order.working_type,
        "priceProtect": order.price_protect,
        "origType": order.original,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": order.good_till,
        "updateTime": order.updated_ms,
    }


def _average(order: Order, rules: SymbolRules) -> Row:
    return {"avgPrice": average_text(order.average, rules), "cumQuote": _trimmed(order.quote)}


def average_text(price: Decimal, rules: SymbolRules) -> str:
    """A volume-weighted price: finer than the tick by three decimals."""
    return f"{price:.{rules.price_decimals + 3}f}"


def trade(item: Trade, rules: SymbolRules) -> Row:
    """One row of GET /fapi/v1/userTrades."""
    return {
        "symbol": item.symbol,
        "id": item.id,
        "orderId": item.order_id,
        "side": item.side,
        "price": f"{item.price:.{rules.price_decimals}f}",
        "qty": f"{item.quantity:.{rules.quantity_decimals}f}",
        "realizedPnl": money(item.realized),
        "marginAsset": rules.quote_asset,
        "quoteQty": _trimmed(item.price * item.quantity),
        "baseQty": f"{item.quantity:.{rules.quantity_decimals}f}",
        "commission": money(item.fee),
        "commissionAsset": rules.quote_asset,
        "time": item.time_ms,
        "positionSide": item.position_side,
        "buyer": item.side == "BUY",
        "maker": item.maker,
        "pair": rules.pair,
    }


def income(item: Income) -> Row:
    """One row of GET /fapi/v1/income."""
    return {
        "symbol": item.symbol,
        "incomeType": item.kind,
        "income": money(item.amount),
        "asset": "USDT",
        "time": item.time_ms,
        "info": item.trade_id or item.kind,
        "tranId": item.id,
        "tradeId": item.trade_id,
    }


def _trimmed(amount: Decimal) -> str:
    return f"{amount.normalize():f}" if amount else f"{ZERO}"
