"""Signed replies about conditional orders, spelt as the exchange spells them.

Source: Binance USDⓈ-M "Algo Order" endpoints (read 2026-11); shapes as in the official SDK's models.
"""

from typing import Any

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.algo_request import TRAILING
from deploy.sandbox.core.conditional import state
from deploy.sandbox.core.order_replies import average_text
from deploy.sandbox.core.orders import AlgoOrder
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import ZERO

Row = dict[str, Any]


def placed(account: Account, algo: AlgoOrder, rules: SymbolRules) -> Row:
    """The reply to POST /fapi/v1/algoOrder."""
    prices, trailing = rules.price_decimals, algo.kind == TRAILING
    return {
        "algoId": algo.id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.kind,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": algo.position_side,
        "timeInForce": algo.time_in_force,
        "quantity": f"{algo.quantity:.{rules.quantity_decimals}f}",
        "algoStatus": state(account, algo),
        "triggerPrice": f"{algo.trigger:.{prices}f}",
        "price": f"{algo.price:.{prices}f}",
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": "MARK_PRICE" if algo.on_mark else "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only or algo.close_position,
        "activatePrice": f"{algo.activate:.{prices}f}" if trailing else "",
        "callbackRate": f"{algo.callback:f}" if trailing else "",
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": algo.good_till,
    }


def told(account: Account, algo: AlgoOrder, rules: SymbolRules) -> Row:
    """The reply to GET: with what became of it."""
    prices = rules.price_decimals
    child = account.orders.get(algo.child or 0)
    actual = {
        "actualOrderId": str(child.id) if child else "",
        "actualPrice": average_text(child.average if child else ZERO, rules),
        "actualType": child.kind if child else "",
        "actualQty": f"{child.executed if child else ZERO:.{rules.quantity_decimals}f}",
        "rejectReason": algo.reason,
    }
    none = f"{ZERO:.{prices}f}"
    targets = {"tpTriggerPrice": none, "tpPrice": none, "slTriggerPrice": none, "slPrice": none, "tpOrderType": ""}
    return placed(account, algo, rules) | actual | targets


def canceled(algo: AlgoOrder) -> Row:
    """The reply to DELETE; its code is a string."""
    return {"algoId": algo.id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}
