"""Whether a report of the engine answers the order that was sent: the last gate before a fill changes money.

Stands between execution and fill. A report for another order, symbol, side or size, or with numbers that no exchange gives, proves
nothing of what happened: the order stays UNKNOWN and somebody is told.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from shared.enums import ExecutionStatus, Mode, Side
from shared.execution import ExecutionReport, Fill, OrderSide

NOTIONAL_TOLERANCE: Final = Decimal("1.01")
"""Of the notional asked for: the engine rounds down and lets the market drift by half a percent at most.

At the exchange it bounds the quantity at the signal's price alone: an order that arrives late meets a market that has jumped, and what was paid
then must be booked.
"""

HIGHEST_FEE_RATIO: Final = Decimal("0.01")
"""Of a fill's notional: twenty times the taker fee, so whatever is above is no fee."""

PAPER_VENUE: Final = "paper"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an order asked for: an entry by its notional in USDT, a close by the quantity that it may at most reduce."""

    client_order_id: str
    symbol: str
    side: Side
    mode: Mode
    dry_run: bool
    opens: bool
    leverage: Decimal
    notional: Decimal
    quantity: Decimal | None
    signal_price: Decimal | None = None


def trades_of(report: ExecutionReport) -> list[Fill]:
    """The report's fills, each trade once, however often it was told."""
    return list({fill.trade_id: fill for fill in report.fills}.values())


def wrong_with(asked: Asked, report: ExecutionReport) -> str | None:
    """Why the report does not answer the order, or None where it does.

    Args:
        asked: The order as it was committed before the call.
        report: What the engine answered, by the call or by looking the id up.
    """
    return (
        _another_order(asked, report)
        or _absurd_numbers(report)
        or _absurd_way_out(asked, report)
        or _too_much(asked, report)
        or _absurd_terms(asked, report)
    )


def _another_order(asked: Asked, report: ExecutionReport) -> str | None:
    order_side = OrderSide.BUY if (asked.side is Side.LONG) is asked.opens else OrderSide.SELL
    pairs = (
        ("client order id", asked.client_order_id, report.client_order_id),
        ("symbol", asked.symbol, report.symbol),
        ("side", asked.side, report.side),
        ("order side", order_side, report.order_side),
        ("reduce-only", not asked.opens, report.reduce_only),
        ("paper", asked.mode is Mode.PAPER, report.venue == PAPER_VENUE),
    )
    for what, ours, theirs in pairs:
        if ours != theirs:
            return f"the {what} is {theirs}, not {ours}"
    return "a dry run was sent to the exchange" if asked.dry_run and not report.dry_run else None


def _absurd_numbers(report: ExecutionReport) -> str | None:
    trades = trades_of(report)
    if any(trade not in trades for trade in report.fills):
        return "one trade is told in two ways"
    if not _finite([report.requested_quantity, report.filled_quantity, report.liquidation_fee]):
        return "a quantity or fee is no number"
    wrong = _absurd_trade(trades)
    if wrong is not None:
        return wrong
    if report.status is not ExecutionStatus.FILLED and trades:
        return f"it is {report.status} with fills"
    total = sum((trade.quantity for trade in trades), Decimal(0))
    return None if total == report.filled_quantity else f"its fills sum up to {total}, not {report.filled_quantity}"


def _absurd_trade(trades: Iterable[Fill]) -> str | None:
    for trade in trades:
        if not _finite([trade.price, trade.quantity, trade.fee, trade.realized_pnl or Decimal(0)]):
            return f"trade {trade.trade_id} has a number that is none"
        if trade.price <= 0 or trade.quantity <= 0:
            return f"trade {trade.trade_id} has no price or no quantity"
        if abs(trade.fee) > HIGHEST_FEE_RATIO * trade.price * trade.quantity or (trade.fee < 0 and not trade.maker):
            return f"trade {trade.trade_id} has a fee of {trade.fee}"
    return None


def _absurd_way_out(asked: Asked, report: ExecutionReport) -> str | None:
    """The trades that closed an entry at once: of an order of their own, and no more than was opened."""
    if not report.closing_fills:
        return None
    if not asked.opens or not report.closing_order_id:
        return "closing trades of nothing"
    names = {trade.trade_id for trade in report.fills} | {trade.trade_id for trade in report.closing_fills}
    if len(names) != len(report.fills) + len(report.closing_fills):
        return "one trade is told twice"
    closed = sum((trade.quantity for trade in report.closing_fills), Decimal(0))
    if closed > report.filled_quantity:
        return f"{closed} of {report.filled_quantity} were closed"
    return _absurd_trade(report.closing_fills)


def _too_much(asked: Asked, report: ExecutionReport) -> str | None:
    if report.filled_quantity > report.requested_quantity:
        return f"{report.filled_quantity} of {report.requested_quantity} were filled"
    if not asked.opens:
        most = asked.quantity
        return None if most is None or report.filled_quantity <= most else f"{report.filled_quantity} of {most} were closed"
    return _bought_too_much(asked, report)


def _bought_too_much(asked: Asked, report: ExecutionReport) -> str | None:
    most, price = asked.notional * NOTIONAL_TOLERANCE, asked.signal_price
    if price is not None and report.filled_quantity * price > most:
        return f"{report.filled_quantity} at {price} are more than {asked.notional:.2f} USDT"
    if asked.mode is Mode.REAL and not report.dry_run and price is not None:
        return None
    paid = sum((trade.price * trade.quantity for trade in trades_of(report)), Decimal(0))
    return None if paid <= most else f"{paid:.2f} of {asked.notional:.2f} USDT were bought"


def _absurd_terms(asked: Asked, report: ExecutionReport) -> str | None:
    if report.liquidation_fee < 0 or (asked.opens and report.liquidation_fee != 0):
        return f"a liquidation fee of {report.liquidation_fee}"
    if not asked.opens or report.status is not ExecutionStatus.FILLED:
        return None
    if report.leverage is not None and report.leverage != asked.leverage:
        return f"the leverage is {report.leverage}, not {asked.leverage}"
    terms = [term for term in (report.margin, report.maintenance_ratio, report.maintenance_amount) if term is not None]
    if not _finite(terms) or any(term < 0 for term in terms) or report.margin == 0:
        return "its margin is no margin"
    stop = report.protection.stop_loss if report.protection else None
    return "its stop is no price" if stop is not None and (not stop.is_finite() or stop <= 0) else None


def _finite(numbers: Iterable[Decimal]) -> bool:
    return all(number.is_finite() for number in numbers)
