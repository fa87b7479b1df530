"""Events of the user data stream, worded as the exchange words them: what happened to one account, as values that the doors send.

Source: Binance USDⓈ-M "User Data Streams" (read 2026-11): Order Update, Balance and Position Update, Algo Order Update, Margin Call,
Account Configuration Update.
"""

from decimal import Decimal
from typing import Any, NamedTuple

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks, Position
from deploy.sandbox.core.account_replies import break_even, money, plain
from deploy.sandbox.core.algo_request import TRAILING
from deploy.sandbox.core.order_replies import average_text
from deploy.sandbox.core.orders import AlgoOrder, Order, Trade
from deploy.sandbox.core.rules import SymbolRules
from shared.margin import ZERO

Body = dict[str, Any]
FORCED = "autoclose-"
"""What the client order id of a liquidation begins with."""


class Notice(NamedTuple):
    """One event for one account's listeners."""

    account: str
    """Its key."""
    kind: str
    body: Body


def event(kind: str, now: int, **rest: Any) -> Body:
    """The envelope: event time and transaction time are one moment here."""
    return {"e": kind, "E": now, "T": now, **rest}


def order_body(order: Order, rules: SymbolRules, execution: str, trade: Trade | None, resting: tuple[Decimal, Decimal]) -> Body:
    """The `o` of ORDER_TRADE_UPDATE.

    Args:
        order: As it stands after what is told.
        rules: Its symbol's.
        execution: NEW, TRADE, CANCELED, EXPIRED, AMENDMENT or CALCULATED.
        trade: The fill that is told.
        resting: What bids and asks of the account are worth in this symbol.
    """
    prices, quantities = rules.price_decimals, rules.quantity_decimals
    forced = order.client_id.startswith(FORCED)
    out: Body = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": "LIQUIDATION" if forced else order.kind,
        "f": order.time_in_force,
        "q": f"{order.quantity:.{quantities}f}",
        "p": f"{order.price:.{prices}f}" if order.price else "0",
        "ap": average_text(order.average, rules) if order.executed else "0",
        "sp": f"{order.stop_price:.{prices}f}" if order.stop_price else "0",
        "x": execution,
        "X": order.status,
        "i": order.id,
        "l": f"{trade.quantity if trade else ZERO:.{quantities}f}" if trade else "0",
        "z": f"{order.executed:.{quantities}f}",
        "L": f"{trade.price:.{prices}f}" if trade else "0",
        "T": order.updated_ms,
        "t": trade.id if trade else 0,
        "b": money(resting[0]) if resting[0] else "0",
        "a": money(resting[1]) if resting[1] else "0",
        "m": trade.maker if trade else False,
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": "LIQUIDATION" if forced else order.original,
        "ps": order.position_side,
        "cp": order.close_position,
        "rp": money(trade.realized) if trade and trade.realized else "0",
        "pP": order.price_protect,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": order.good_till,
        "er": order.expiry,
    }
    return out | ({"n": money(trade.fee), "N": rules.quote_asset} if trade else {})


def light_body(order: Order, rules: SymbolRules, trade: Trade) -> Body:
    """What TRADE_LITE says of a fill."""
    return {
        "s": order.symbol,
        "q": f"{order.quantity:.{rules.quantity_decimals}f}",
        "p": f"{order.price:.{rules.price_decimals}f}",
        "m": trade.maker,
        "c": order.client_id,
        "S": order.side,
        "L": f"{trade.price:.{rules.price_decimals}f}",
        "l": f"{trade.quantity:.{rules.quantity_decimals}f}",
        "t": trade.id,
        "i": order.id,
    }


def account_body(account: Account, reason: str, positions: list[Position], marks: Marks, paid: Decimal, symbol: str) -> Body:
    """The `a` of ACCOUNT_UPDATE: only what changed.

    Args:
        account: After the change.
        reason: ORDER, FUNDING_FEE, DEPOSIT, INSURANCE_CLEAR, MARGIN_TRANSFER or MARGIN_TYPE_CHANGE.
        positions: Those that changed.
        marks: Mark prices of the moment.
        paid: Balance change that is neither profit nor commission.
        symbol: Of a funding fee.
    """
    balance = {
        "a": "USDT",
        "wb": money(account.wallet),
        "cw": money(margins.cross_wallet(account)),
        "bc": money(paid) if paid else "0",
    }
    out: Body = {"m": reason, "B": [balance], "P": [_position(account, p, marks) for p in positions]}
    if reason == "MARGIN_TYPE_CHANGE":
        out["B"] = []
    return out | ({"S": symbol} if reason == "FUNDING_FEE" else {})


def _position(account: Account, position: Position, marks: Marks) -> Body:
    up = position.unrealized(marks(position.symbol)) if position.quantity else ZERO
    return {
        "s": position.symbol,
        "pa": f"{position.quantity:f}",
        "ep": plain(position.entry_price),
        "bep": plain(break_even(position)) if position.quantity else "0",
        "cr": money(position.realized),
        "up": money(up) if up else "0",
        "mt": "isolated" if account.of(position.symbol).isolated else "cross",
        "iw": money(position.isolated_wallet) if position.isolated_wallet else "0",
        "ps": position.side,
        "ma": "USDT",
    }


def algo_body(algo: AlgoOrder, child: Order | None, rules: SymbolRules, status: str) -> Body:
    """The `o` of ALGO_UPDATE."""
    prices, quantities = rules.price_decimals, rules.quantity_decimals
    out: Body = {
        "caid": algo.client_id,
        "aid": algo.id,
        "at": "CONDITIONAL",
        "o": algo.kind,
        "s": algo.symbol,
        "S": algo.side,
        "ps": algo.position_side,
        "f": algo.time_in_force,
        "q": f"{algo.quantity:.{quantities}f}",
        "X": status,
        "ai": str(child.id) if child else "",
        "tp": f"{algo.trigger:.{prices}f}",
        "p": f"{algo.price:.{prices}f}",
        "V": "EXPIRE_MAKER",
        "wt": "MARK_PRICE" if algo.on_mark else "CONTRACT_PRICE",
        "pm": "NONE",
        "cp": algo.close_position,
        "pP": algo.price_protect,
        "R": algo.reduce_only or algo.close_position,
        "tt": algo.triggered_ms,
        "gtd": algo.good_till,
        "rm": algo.reason,
    }
    if child:
        out |= {"ap": average_text(child.average, rules), "aq": f"{child.executed:.{quantities}f}", "act": child.kind}
    if algo.kind == TRAILING:
        out |= {"ia": algo.extreme is not None, "AP": f"{algo.activate:.{prices}f}", "cr": f"{algo.callback:f}"}
    return out


def margin_call_body(account: Account, positions: list[Position], marks: Marks) -> Body:
    """What MARGIN_CALL says beside its envelope; the cross wallet only where cross positions are called."""
    crossed = any(not account.of(p.symbol).isolated for p in positions)
    rows = [
        {
            "s": p.symbol,
            "ps": p.side,
            "pa": f"{p.quantity:f}",
            "mt": "ISOLATED" if account.of(p.symbol).isolated else "CROSSED",
            "iw": money(p.isolated_wallet) if p.isolated_wallet else "0",
            "mp": money(marks(p.symbol)),
            "up": money(p.unrealized(marks(p.symbol))),
            "mm": money(margins.maintenance(p, marks(p.symbol))),
        }
        for p in positions
    ]
    return ({"cw": money(margins.cross_wallet(account))} if crossed else {}) | {"p": rows}
