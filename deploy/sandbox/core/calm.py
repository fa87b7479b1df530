"""Where nothing can happen: symbols whose prices over a span reach no order, no trigger and no liquidation need not be walked tick by tick.

The answer is on the safe side: bounds are of the whole span, and an account with cross margin is calm in all of its symbols or in none.
"""

from collections.abc import Mapping

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks, Position
from deploy.sandbox.core.algo_request import TRAILING
from deploy.sandbox.core.board import Span
from deploy.sandbox.core.conditional import crossed
from deploy.sandbox.core.liquidation import CALL_SHARE
from deploy.sandbox.core.orders import AlgoOrder, Order
from shared.margin import ZERO


def loud_symbols(accounts: list[Account], spans: Mapping[str, Span | None], eventful: set[str], marks: Marks) -> set[str]:
    """Symbols that must be walked tick by tick.

    Args:
        accounts: Everyone.
        spans: Of every watched symbol; None where nothing traded.
        eventful: Symbols with a funding or an end of an order in the span.
        marks: Mark prices from before the span.
    """
    loud = set(eventful)
    interests = {account.key: interest(account) for account in accounts}
    for account in accounts:
        loud |= {symbol for symbol in interests[account.key] - loud if _reached(account, symbol, spans.get(symbol))}
    crossing = [account for account in accounts if margins.cross_positions(account)]
    restless = [account for account in crossing if not _carried(account, spans, marks)]
    for account in restless:
        loud |= interests[account.key]
    before = -1
    while before != len(loud):
        before = len(loud)
        for account in crossing:
            if interests[account.key] & loud:
                loud |= interests[account.key]
    return loud


def interest(account: Account) -> set[str]:
    """Symbols in which an account has something at stake."""
    found = {symbol for symbol in list(account.resting) if account.open_orders(symbol)}
    found |= {symbol for symbol in list(account.armed) if account.unfinished(symbol)}
    return found | {position.symbol for position in account.held()}


def _reached(account: Account, symbol: str, span: Span | None) -> bool:
    """Whether the span may do something to an account in one symbol, its cross wallet aside."""
    if span is None:
        return False
    if any(_filled(order, span) for order in account.open_orders(symbol)):
        return True
    if any(_triggered(algo, span) for algo in account.unfinished(symbol)):
        return True
    if not account.of(symbol).isolated:
        return False
    held = [position for position in account.held() if position.symbol == symbol]
    return any((position.symbol, position.side) in account.called or not _holds(position, span) for position in held)


def _filled(order: Order, span: Span) -> bool:
    return span.low < order.price if order.side == "BUY" else span.high > order.price


def _triggered(algo: AlgoOrder, span: Span) -> bool:
    if algo.status != "NEW":
        return True
    low, high = (span.mark_low, span.mark_high) if algo.on_mark else (span.low, span.high)
    if algo.kind != TRAILING:
        return crossed(algo.kind, algo.side, algo.trigger, low) or crossed(algo.kind, algo.side, algo.trigger, high)
    if algo.extreme is None:
        return high >= algo.activate if algo.side == "SELL" else low <= algo.activate
    if algo.side == "SELL":
        return high > algo.extreme or low <= algo.extreme * (1 - algo.callback / 100)
    return low < algo.extreme or high >= algo.extreme * (1 + algo.callback / 100)


def _holds(position: Position, span: Span) -> bool:
    worst = span.mark_low if position.quantity > 0 else span.mark_high
    return (position.isolated_wallet + position.unrealized(worst)) * CALL_SHARE > margins.maintenance(position, span.mark_high)


def _carried(account: Account, spans: Mapping[str, Span | None], marks: Marks) -> bool:
    """Whether the cross wallet carries its positions even if each met the worst of the span at once."""
    if account.called:
        return False
    equity, needed = margins.cross_wallet(account), ZERO
    for position in margins.cross_positions(account):
        span = spans.get(position.symbol)
        known = marks(position.symbol)
        low, high = (min(known, span.mark_low), max(known, span.mark_high)) if span else (known, known)
        equity += position.unrealized(low if position.quantity > 0 else high)
        needed += margins.maintenance(position, high)
    return equity * CALL_SHARE > needed
