"""How an order would fill: at the levels of a live book, or at the trigger of a resting condition.

Stands left of `order`: it knows books, ticks and fees, nothing of accounts. Paper and dry run book what it says; REAL uses it to
estimate before it sends. Every rounding goes against the user, so that paper never looks better than the exchange would.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

import msgspec

from engine.core.market import Book, Level
from shared.enums import Side, TriggerKind
from shared.execution import Fill, OrderSide, Trigger
from shared.margin import TAKER_FEE_RATIO, fee_of, price_pnl

ZERO = Decimal(0)

MONEY = Decimal("0.00000001")
"""USDT is kept to eight decimals. Source: Binance USDⓈ-M "Account Information": eight decimals in every USDT amount."""

MAX_FILLS = 4
"""An order that takes more levels is told as so many trades; the last one is the average of the rest."""

TRIGGER_SLIPPAGE_RATIO = Decimal("0.0005")
"""A resting stop or target becomes a market order: five basis points stand for half the spread and the first levels of a mid-rank
coin, since nobody recorded the book at the moment of the trigger."""

BEYOND_BOOK_RATIO = Decimal("0.005")
"""A close must end: what the visible levels do not hold is booked so much worse than the last of them."""


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What a book gives for a quantity: the levels taken, best first, and what they did not hold."""

    levels: tuple[Level, ...]
    left: Decimal

    @property
    def quantity(self) -> Decimal:
        """Base asset taken."""
        return sum((quantity for _, quantity in self.levels), ZERO)

    @property
    def notional(self) -> Decimal:
        """USDT exchanged."""
        return sum((price * quantity for price, quantity in self.levels), ZERO)

    @property
    def average_price(self) -> Decimal:
        """Volume-weighted, unrounded; 0 where nothing was taken."""
        return self.notional / self.quantity if self.levels else ZERO


def order_side_of(side: Side, *, reduce_only: bool) -> OrderSide:
    """The order side that opens, or with `reduce_only` closes, a position of a side."""
    return OrderSide.BUY if (side is Side.LONG) is not reduce_only else OrderSide.SELL


def levels_for(book: Book, order_side: OrderSide) -> tuple[Level, ...]:
    """The levels that a market order of a side takes, best first."""
    return book.asks if order_side is OrderSide.BUY else book.bids


def walk(levels: Sequence[Level], quantity: Decimal) -> Walk:
    """Takes a quantity from the levels, best first; never more than they hold."""
    taken: list[Level] = []
    left = quantity
    for price, held in levels:
        if left <= 0:
            break
        part = min(held, left)
        if part > 0:
            taken.append((price, part))
            left -= part
    return Walk(levels=tuple(taken), left=left)


def walk_to_the_end(levels: Sequence[Level], quantity: Decimal, order_side: OrderSide, tick: Decimal) -> Walk:
    """As `walk`, and the rest beyond the visible book at a price worse by BEYOND_BOOK_RATIO; needs one level at least."""
    seen = walk(levels, quantity)
    if seen.left <= 0:
        return seen
    price = worsen(levels[-1][0], order_side, BEYOND_BOOK_RATIO, tick)
    return Walk(levels=(*seen.levels, (price, seen.left)), left=ZERO)


def worsen(price: Decimal, order_side: OrderSide, ratio: Decimal, tick: Decimal) -> Decimal:
    """A price made worse for the order by a ratio, rounded to the tick against it, one tick at least above zero."""
    direction = 1 if order_side is OrderSide.BUY else -1
    return max(against(price * (1 + direction * ratio), order_side, tick), tick)


def against(price: Decimal, order_side: OrderSide, unit: Decimal) -> Decimal:
    """A price rounded to a unit so that the order never gains: up for BUY, down for SELL."""
    rounding = ROUND_CEILING if order_side is OrderSide.BUY else ROUND_FLOOR
    return ((price / unit).to_integral_value(rounding=rounding) * unit).quantize(unit)


def trigger_price(side: Side, trigger: Trigger, tick: Decimal) -> Decimal:
    """Where a stop, target or trailing stop of a position is booked, slippage included.

    A stop whose bar opened beyond it is booked at that open: the market jumped over it. A target is booked at its own price, never
    at the better open of a bar that jumped beyond it, and never at an open that had not reached it yet.

    Args:
        side: Of the position.
        trigger: Price, and the open of the bar that touched it.
        tick: The symbol's price step.

    Source: wire contract, POST /execute/close: "at the worse of trigger price and that bar's open, plus slippage".
    """
    order_side = order_side_of(side, reduce_only=True)
    return worsen(touched_at(side, trigger), order_side, TRIGGER_SLIPPAGE_RATIO, tick)


def touched_at(side: Side, trigger: Trigger) -> Decimal:
    """Where the market was when the condition was met: its price, or the open of a bar that jumped over it; a target gains nothing by it."""
    if trigger.kind is TriggerKind.TARGET or trigger.bar_open is None:
        return trigger.price
    return min(trigger.price, trigger.bar_open) if side is Side.LONG else max(trigger.price, trigger.bar_open)


def liquidated(
    side: Side, quantity: Decimal, entry_price: Decimal, margin: Decimal, touched: Decimal, fee_ratio: Decimal
) -> tuple[Decimal, Decimal]:
    """Price and liquidation fee (USDT) at which a liquidation is booked: together they cost the isolated margin at most.

    A market that jumped beyond the bankruptcy price costs the insurance fund, not the user; the fee takes what is left, no more.

    Args:
        side: Of the position.
        quantity: Base asset liquidated.
        entry_price: Volume-weighted.
        margin: The isolated margin of that quantity, USDT.
        touched: Where the market was.
        fee_ratio: The symbol's `liquidationFee`.

    Source: Binance FAQ, "Liquidation Protocols" (read 2026-11): bankruptcy price, liquidation clearance fee.
    """
    bankruptcy = entry_price - side.sign * margin / quantity
    raw = max(touched, bankruptcy) if side is Side.LONG else min(touched, bankruptcy)
    rounding = ROUND_CEILING if side is Side.LONG else ROUND_FLOOR
    price = max(raw, ZERO).quantize(MONEY, rounding=rounding)
    left = margin + price_pnl(side, quantity, entry_price, price)
    fee = min(quantity * price * fee_ratio, left)
    return price, max(fee, ZERO).quantize(MONEY, rounding=ROUND_FLOOR)


def fills_of(
    client_order_id: str, levels: Sequence[Level], order_side: OrderSide, at: datetime, fee_ratio: Decimal = TAKER_FEE_RATIO
) -> list[Fill]:
    """The trades of an order, at most MAX_FILLS of them; the same order always has the same trade ids.

    Args:
        client_order_id: Ours; "<id>-1" is its first trade.
        levels: What was taken, best first.
        order_side: Decides which way a merged price is rounded.
        at: Market time of the fill.
        fee_ratio: The taker's; 0 for a liquidation, which pays its own fee.
    """
    return [
        Fill(
            trade_id=f"{client_order_id}-{number}",
            price=price,
            quantity=quantity,
            fee=fee_of(price * quantity, fee_ratio).quantize(MONEY, rounding=ROUND_HALF_EVEN),
            maker=False,
            at=at,
        )
        for number, (price, quantity) in enumerate(_merged(levels, order_side), start=1)
    ]


def _merged(levels: Sequence[Level], order_side: OrderSide) -> Sequence[Level]:
    if len(levels) <= MAX_FILLS:
        return levels
    head, tail = levels[: MAX_FILLS - 1], levels[MAX_FILLS - 1 :]
    rest = Walk(levels=tuple(tail), left=ZERO)
    return [*head, (against(rest.average_price, order_side, MONEY), rest.quantity)]


def average_price(fills: Sequence[Fill]) -> Decimal | None:
    """Volume-weighted over trades, twelve decimals; None where there is none."""
    quantity = sum((fill.quantity for fill in fills), ZERO)
    if not quantity:
        return None
    return (sum((fill.price * fill.quantity for fill in fills), ZERO) / quantity).quantize(Decimal("1e-12"))
