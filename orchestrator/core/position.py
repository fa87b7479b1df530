"""What a position is and how bars, funding and fills change it. Money state changes only from a fill.

Stands between order and ledger. Everything is isolated margin, one-way mode, judged on the mark price.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import structs

from shared.enums import Mode, Side
from shared.margin import TAKER_FEE_RATIO, ZERO, Bracket, liquidation_price, price_pnl


class PositionStatus(StrEnum):
    """Where a position stands; CLOSING means that a close order is under way."""

    OPEN = "OPEN"
    CLOSING = "CLOSING"
    CLOSED_WIN = "CLOSED_WIN"
    CLOSED_LOSS = "CLOSED_LOSS"


class CloseReason(StrEnum):
    """Why a position was closed. TARGET, STOP, TRAILING and LIQUIDATION are triggers; MANUAL and PANIC somebody's wish here.

    UNPROTECTED: its stop was not confirmed in time, so it was given up. ADL: the exchange closed it against a bankrupt other side.
    EXTERNAL: by an order that is not ours, at the exchange.
    """

    MANUAL = "MANUAL"
    STOP = "STOP"
    TARGET = "TARGET"
    TRAILING = "TRAILING"
    LIQUIDATION = "LIQUIDATION"
    PANIC = "PANIC"
    UNPROTECTED = "UNPROTECTED"
    ADL = "ADL"
    EXTERNAL = "EXTERNAL"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """One position as the rules see it.

    `size` is what is left in base asset, `opened_size` what the entry filled. `margin` is what the user put up for what is left,
    `isolated_margin` the same with funding settled against it. `fees` (positive when paid, liquidation fee included), `funding`
    (signed) and `realized_pnl` (gross) are running sums in USDT; `pnl` is net and known when nothing is left. Bars are judged from
    `judged_until`, funding is known up to `funded_until`, both market time. The client ids of what rests at the exchange, and when it was
    confirmed, are None where no exchange holds the position.
    """

    symbol: str
    side: Side
    mode: Mode
    dry_run: bool
    status: PositionStatus
    size: Decimal
    opened_size: Decimal
    entry_price: Decimal
    exit_price: Decimal | None = None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    trailing_ratio: Decimal | None = None
    trailing_best: Decimal | None = None
    leverage: Decimal
    margin: Decimal
    isolated_margin: Decimal
    maintenance_ratio: Decimal
    maintenance_amount: Decimal
    liquidation_fee_ratio: Decimal
    liquidation_price: Decimal | None
    tick_size: Decimal
    step_size: Decimal
    realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    pnl: Decimal | None = None
    close_reason: CloseReason | None = None
    judged_until: datetime
    funded_until: datetime
    unprotected_seconds: float | None = None
    stop_order_id: str | None = None
    target_order_id: str | None = None
    trailing_order_id: str | None = None
    protected_at: datetime | None = None
    opened_at: datetime
    closed_at: datetime | None = None

    @property
    def simulated(self) -> bool:
        """Whether no exchange holds it: its barriers are judged by us, on PAPER or in a dry run."""
        return self.mode is Mode.PAPER or self.dry_run


LIVE: Final = frozenset({PositionStatus.OPEN, PositionStatus.CLOSING})
"""Something is held, or may be."""

POSITION_TRANSITIONS: Final[dict[PositionStatus, frozenset[PositionStatus]]] = {
    PositionStatus.OPEN: frozenset({PositionStatus.CLOSING, PositionStatus.CLOSED_WIN, PositionStatus.CLOSED_LOSS}),
    PositionStatus.CLOSING: frozenset({PositionStatus.OPEN, PositionStatus.CLOSED_WIN, PositionStatus.CLOSED_LOSS}),
    PositionStatus.CLOSED_WIN: frozenset({PositionStatus.CLOSED_LOSS}),
    PositionStatus.CLOSED_LOSS: frozenset({PositionStatus.CLOSED_WIN}),
}
"""Every step that a position may take; back to OPEN after a partial close, or a close that the venue refused; from OPEN straight to closed
where the exchange did it.

A closed one only changes its name, where the exchange books funding or an insurance fee after the close.
"""

CENTS: Final = Decimal("0.00000001")
"""USDT amounts are booked to eight decimals, the exchange's own precision for income."""

PRICE_STEP: Final = Decimal("0.000000000001")
"""Computed prices (averages, liquidation) are kept to twelve decimals, finer than any tick."""


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One fill as the rules see it; `opens` tells whether it adds to the position. Fee in USDT, positive when paid.

    `realized_pnl` is gross, as the exchange booked it; None where it has to be reckoned.
    """

    trade_id: str
    opens: bool
    price: Decimal
    quantity: Decimal
    fee: Decimal
    at: datetime
    realized_pnl: Decimal | None = None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of fills amounts to.

    `opened_notional` is quantity x price of all opening fills, USDT; `realized` is gross, by trade id of the closing fills.
    """

    size: Decimal
    opened_size: Decimal
    opened_notional: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    realized: dict[str, Decimal]
    fees: Decimal


def booked(amount: Decimal) -> Decimal:
    """An amount as the ledger keeps it: eight decimals, ties to even."""
    return amount.quantize(CENTS, rounding=ROUND_HALF_EVEN)


def replay(side: Side, trades: Iterable[Trade]) -> Holding:
    """The holding that the exchange would show after these fills, whatever order they came in and however often.

    A fill counts once, by its trade id; fills are taken in the exchange's order: by time, openings first, then by trade id.

    Args:
        side: Of the position.
        trades: All fills of one position, at least one that opens.
    """
    once = {trade.trade_id: trade for trade in trades}
    size = opened = paid = entry = closed = exit_cost = fees = ZERO
    realized: dict[str, Decimal] = {}
    for trade in sorted(once.values(), key=_exchange_order):
        fees += booked(trade.fee)
        if trade.opens:
            entry = ((entry * size + trade.price * trade.quantity) / (size + trade.quantity)).quantize(PRICE_STEP)
            size, opened = size + trade.quantity, opened + trade.quantity
            paid += trade.price * trade.quantity
        else:
            told = trade.realized_pnl
            realized[trade.trade_id] = booked(price_pnl(side, trade.quantity, entry, trade.price) if told is None else told)
            size, closed = size - trade.quantity, closed + trade.quantity
            exit_cost += trade.price * trade.quantity
    exit_price = (exit_cost / closed).quantize(PRICE_STEP) if closed else None
    return Holding(
        size=size,
        opened_size=opened,
        opened_notional=paid,
        entry_price=entry,
        exit_price=exit_price,
        realized=realized,
        fees=fees,
    )


def after_more[P: Position](position: P, holding: Holding) -> P:
    """The position after opening fills that were shown after it was booked: larger, at the average price, with the margin they took.

    Args:
        position: Live, as it stood before.
        holding: Of all fills of the position, the new ones included.
    """
    whole = booked(holding.opened_notional / position.leverage)
    margin = booked(whole * holding.size / holding.opened_size)
    isolated = position.isolated_margin + margin - position.margin
    larger = structs.replace(
        position,
        size=holding.size,
        opened_size=holding.opened_size,
        entry_price=holding.entry_price,
        margin=margin,
        isolated_margin=isolated,
    )
    return structs.replace(larger, liquidation_price=liquidation_of(larger, isolated))


def after_close[P: Position](position: P, holding: Holding, *, liquidation_fees: Decimal, reason: CloseReason, at: datetime) -> P:
    """The position after closing fills: smaller and OPEN again, or closed with its net PnL.

    What is left keeps its share of margin, funding and maintenance amount, so that its liquidation price stands; margins are reckoned
    from the opening fills each time, so that parts never add up to another whole. A position that is closed shows the margin of all
    that was opened, and is CLOSED_WIN if and only if its net PnL is above zero.

    Args:
        position: As it stood before, CLOSING.
        holding: Of all fills of the position, the new ones included.
        liquidation_fees: All that the position paid, USDT.
        reason: Why it was closed.
        at: Market time of the last fill.
    """
    whole = booked(holding.opened_notional / position.leverage)
    realized, fees = sum(holding.realized.values(), ZERO), holding.fees + booked(liquidation_fees)
    changed = structs.replace(
        position, size=holding.size, exit_price=holding.exit_price, realized_pnl=realized, fees=fees, close_reason=reason
    )
    if holding.size > 0:
        share = holding.size / position.size
        return structs.replace(
            changed,
            status=PositionStatus.OPEN,
            close_reason=None,
            margin=booked(whole * holding.size / holding.opened_size),
            isolated_margin=booked(position.isolated_margin * share),
            maintenance_amount=booked(position.maintenance_amount * share),
        )
    pnl = realized - fees + position.funding
    return structs.replace(
        changed,
        status=PositionStatus.CLOSED_WIN if pnl > 0 else PositionStatus.CLOSED_LOSS,
        pnl=pnl,
        closed_at=at,
        margin=whole,
        isolated_margin=ZERO,
    )


def after_late_booking[P: Position](position: P, *, funding: Decimal = ZERO, liquidation_fee: Decimal = ZERO) -> P:
    """The position after the exchange booked funding or an insurance fee of it, live or closed since.

    Args:
        position: As it stood before.
        funding: What the wallet got, USDT, negative when paid.
        liquidation_fee: Positive when paid.
    """
    changed = structs.replace(position, funding=position.funding + funding, fees=position.fees + liquidation_fee)
    if position.status in LIVE:
        isolated = position.isolated_margin + funding - liquidation_fee
        return structs.replace(changed, isolated_margin=isolated, liquidation_price=liquidation_of(position, isolated))
    pnl = changed.realized_pnl - changed.fees + changed.funding
    return structs.replace(changed, pnl=pnl, status=PositionStatus.CLOSED_WIN if pnl > 0 else PositionStatus.CLOSED_LOSS)


def after_funding[P: Position](position: P, at: datetime, amount: Decimal) -> P:
    """The position after a funding settlement, which moves its isolated margin and with it its liquidation price.

    Args:
        position: As it stood before.
        at: Market time of the settlement.
        amount: What the wallet got, USDT, negative when paid.
    """
    isolated = position.isolated_margin + amount
    return structs.replace(
        position,
        funding=position.funding + amount,
        funded_until=at,
        isolated_margin=isolated,
        liquidation_price=liquidation_of(position, isolated),
    )


def liquidation_of(position: Position, isolated_margin: Decimal) -> Decimal | None:
    """The liquidation price with that isolated margin, to twelve decimals; None where the position has none."""
    tier = Bracket(
        floor=ZERO, cap=ZERO, max_leverage=0, maintenance_ratio=position.maintenance_ratio, cum=position.maintenance_amount
    )
    price = liquidation_price(position.side, position.size, position.entry_price, isolated_margin, tier)
    return price.quantize(PRICE_STEP) if price > 0 else None


def break_even(position: Position) -> Decimal:
    """The price at which closing pays back both taker fees, USDT per unit, not rounded to the tick."""
    sign = position.side.sign
    return position.entry_price * (1 + sign * TAKER_FEE_RATIO) / (1 - sign * TAKER_FEE_RATIO)


def activation_price(position: Position, ratio: Decimal) -> Decimal:
    """The best price from which on a stop that trails by this ratio locks at least break-even, on the tick beyond it."""
    sign = position.side.sign
    return _away_from_loss(break_even(position) / (1 - sign * ratio), position)


def trailed_stop(position: Position) -> Decimal | None:
    """The stop that trailing asks for: `trailing_ratio` behind the best price seen, or None before it would lock a gain.

    Armed and trailed in the same unit, the ratio of price, and never worse than break-even.
    """
    if position.trailing_ratio is None or position.trailing_best is None:
        return None
    sign = position.side.sign
    stop = _away_from_loss(position.trailing_best * (1 - sign * position.trailing_ratio), position)
    return stop if sign * (stop - break_even(position)) >= 0 else None


def trailing_armed(position: Position) -> bool:
    """Whether the stop in force is one that trailing put there, or a better one."""
    stop = trailed_stop(position)
    return stop is not None and position.stop_loss is not None and position.side.sign * (position.stop_loss - stop) >= 0


def _away_from_loss(price: Decimal, position: Position) -> Decimal:
    """Rounds to the tick on the side of gain, so that rounding never gives back what was locked."""
    rounding = ROUND_CEILING if position.side is Side.LONG else ROUND_FLOOR
    tick = position.tick_size
    return ((price / tick).to_integral_value(rounding=rounding) * tick).quantize(tick)


def _exchange_order(trade: Trade) -> tuple[datetime, bool, int, str]:
    return trade.at, not trade.opens, len(trade.trade_id), trade.trade_id
