"""What the exchange's account means for our rows: which trades closed a position, what protects it, what is nobody's, what is not ours.

Pure: the truth as the engine told it beside the positions as they are booked. Facts are trades and orders; a quantity alone decides
nothing, since reads may lag behind each other.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from orchestrator.core.position import CloseReason, Position
from shared.enums import OrderKind, OrderState, Side
from shared.execution import Fill, GuardsReply, OrderSide, TruthReply, VenueOrder, VenuePosition, VenueTrade
from shared.margin import ZERO

OURS: Final = "nt-"
"""What every client id of ours begins with."""

POSITION: Final = "position"
"""The name of a foreign position among holdings, where an order has its client id."""

REASONS: Final = {
    "nt-s-": CloseReason.STOP,
    "nt-t-": CloseReason.TARGET,
    "nt-r-": CloseReason.TRAILING,
    "nt-x-": CloseReason.UNPROTECTED,
    "nt-c-": CloseReason.MANUAL,
    "nt-f-": CloseReason.PANIC,
    "autoclose-": CloseReason.LIQUIDATION,
    "adl_autoclose": CloseReason.ADL,
}
"""Why an order closed a position, by what its client id begins with. Source: binance.md section 2.2 for the exchange's own."""

FOREIGN_AFTER: Final = timedelta(seconds=1.5)
"""Wall time between the first and another truth that show something foreign before it counts: positions, orders and trades are read one
after the other and may lag, so that one look may show a holding whose end was on its way."""

_NUMBER: Final = re.compile(r"(?<=^nt-.-.{26})-\d$")

BY_EXCHANGE: Final = ("autoclose-", "adl_autoclose")


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """Trades of one order that reduced a position."""

    client_order_id: str
    reason: CloseReason
    fills: list[Fill]


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """What protects a position at the exchange: the newest order of each kind that covers it whole, and ours that are one too many."""

    stop: VenueOrder | None
    target: VenueOrder | None
    trailing: VenueOrder | None
    superfluous: list[VenueOrder]


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Something at the exchange that is not ours; `name` is an order's client id, or POSITION."""

    symbol: str
    name: str
    side: str
    quantity: Decimal


def is_ours(client_order_id: str) -> bool:
    """Whether an id was made here."""
    return client_order_id.startswith(OURS)


def confirmed(first_seen_at: datetime, heard_at: datetime | None) -> bool:
    """Whether something foreign was seen in two truths far enough apart.

    Args:
        first_seen_at: When the first truth that showed it was asked for.
        heard_at: When the newest one was, which showed it too; None before any.
    """
    return heard_at is not None and heard_at - first_seen_at >= FOREIGN_AFTER


def name_of(trade: VenueTrade) -> str:
    """The client id of a trade's order, or a name for it where the exchange gives none."""
    return trade.client_order_id or f"venue-{trade.venue_order_id}"


def request_of(client_order_id: str) -> str:
    """The id under which an order was asked for: a further try of a close has a number added to it."""
    return _NUMBER.sub("", client_order_id) if is_ours(client_order_id) else client_order_id


def reason_of(client_order_id: str) -> CloseReason:
    """Why an order closed a position; by a hand at the exchange where its id is of no kind we know."""
    return next((reason for start, reason in REASONS.items() if client_order_id.startswith(start)), CloseReason.EXTERNAL)


def fill_of(trade: VenueTrade) -> Fill:
    """The trade as a fill."""
    return Fill(
        trade_id=trade.trade_id,
        price=trade.price,
        quantity=trade.quantity,
        fee=trade.fee,
        maker=trade.maker,
        at=trade.at,
        realized_pnl=trade.realized_pnl,
    )


def closing_side(side: Side) -> OrderSide:
    """The side of the orders that close a position."""
    return OrderSide.SELL if side is Side.LONG else OrderSide.BUY


type Shown = TruthReply | GuardsReply
"""What tells of positions and of orders that work."""


def held_of(truth: Shown, symbol: str, side: Side) -> VenuePosition | None:
    """The exchange's position in a symbol on that side."""
    return next((one for one in truth.positions if (one.symbol, one.side) == (symbol, side) and one.quantity > 0), None)


def working(truth: Shown) -> list[VenueOrder]:
    """What rests or is being matched."""
    return [order for order in truth.orders if order.state is OrderState.WORKING]


def exits_of(
    position: Position, last_entry: tuple[datetime, str], booked: Collection[str], truth: TruthReply, carried: Collection[str]
) -> list[Exit]:
    """The orders that reduced a position and are not booked yet, in the exchange's order; never more than is left of it.

    Args:
        position: As booked.
        last_entry: Moment and trade id of its last opening fill: what came before closed another one.
        booked: Trade ids of all its fills.
        truth: What the exchange says; trades of an order that still works wait until it is final.
        carried: Client ids of our own orders under way, which a further try only adds a number to: whoever carries them books them.
    """
    going = {name for order in working(truth) for name in (order.venue_order_id, order.child_order_id) if name}
    side, after = closing_side(position.side), _moment(*last_entry)
    trades = [
        trade
        for trade in truth.trades
        if (trade.symbol, trade.order_side) == (position.symbol, side)
        and trade.trade_id not in booked
        and trade.venue_order_id not in going
        and not name_of(trade).startswith(tuple(carried))
        and _moment(trade.at, trade.trade_id) > after
    ]
    left, found = position.size, dict[str, list[Fill]]()
    for trade in sorted(
        {trade.trade_id: trade for trade in trades}.values(), key=lambda trade: _moment(trade.at, trade.trade_id)
    ):
        if left <= 0:
            break
        fill = fill_of(trade)
        part = min(left, fill.quantity)
        found.setdefault(name_of(trade), []).append(msgspec.structs.replace(fill, quantity=part))
        left -= part
    return [Exit(client_order_id=name, reason=reason_of(name), fills=fills) for name, fills in found.items()]


def resting_for(position: Position, quantity: Decimal, truth: Shown) -> Resting:
    """What rests for a position of that quantity at the exchange. An order that covers it only in part protects nothing."""
    side = closing_side(position.side)
    mine = [
        order
        for order in working(truth)
        if order.conditional and is_ours(order.client_order_id) and (order.symbol, order.order_side) == (position.symbol, side)
    ]
    chosen = {kind: _newest(mine, kind, quantity) for kind in (OrderKind.STOP, OrderKind.TARGET, OrderKind.TRAILING)}
    superfluous = [order for order in mine if chosen.get(order.kind) is not None and order is not chosen[order.kind]]
    return Resting(
        stop=chosen[OrderKind.STOP],
        target=chosen[OrderKind.TARGET],
        trailing=chosen[OrderKind.TRAILING],
        superfluous=superfluous,
    )


def beyond(side: Side, stop: Decimal | None, target: Decimal | None, mark: Decimal) -> bool:
    """Whether the market has passed a position's stop or target, so that the exchange should be closing it."""
    sign = side.sign
    return (stop is not None and sign * (mark - stop) <= 0) or (target is not None and sign * (mark - target) >= 0)


def triggered(order: VenueOrder, held: VenuePosition) -> bool:
    """Whether a conditional order that still works should have closed the position by now: it was triggered, or the mark is beyond it."""
    if order.triggered or order.child_order_id:
        return True
    if order.trigger_price is None or held.mark_price is None or order.kind not in (OrderKind.STOP, OrderKind.TARGET):
        return False
    falls = (order.order_side is OrderSide.SELL) is (order.kind is OrderKind.STOP)
    return held.mark_price <= order.trigger_price if falls else held.mark_price >= order.trigger_price


def orphans_of(truth: TruthReply, owned: Collection[str], foreign: Collection[str] = ()) -> dict[str, list[str]]:
    """Orders of ours that nothing owns any more, client ids by symbol.

    Args:
        truth: What the exchange says; where it holds a position nothing is taken from it, unless that is known not to be ours.
        owned: Symbols with a live position or an order under way, and those that changed while the exchange was asked.
        foreign: Symbols whose position two truths showed not to be ours: an order of ours would close what is the user's own.
    """
    held = {one.symbol for one in truth.positions if one.quantity > 0}
    kept = {*owned, *(held - set(foreign))}
    found: dict[str, list[str]] = {}
    for order in working(truth):
        if is_ours(order.client_order_id) and order.symbol not in kept:
            found.setdefault(order.symbol, []).append(order.client_order_id)
    return found


def foreign_of(truth: TruthReply, live: Mapping[str, Position], unsettled: Collection[str]) -> list[Holding]:
    """Positions and orders that are not ours, and what the exchange holds beyond ours in a symbol of ours.

    Args:
        truth: What the exchange says.
        live: Our live positions by symbol.
        unsettled: Symbols with an order of ours under way, or that changed while the exchange was asked: nothing is said of them.
    """
    found = []
    for one in truth.positions:
        if one.symbol in unsettled or one.quantity <= 0:
            continue
        mine = live.get(one.symbol)
        extra = one.quantity - (mine.size if mine is not None and mine.side is one.side else ZERO)
        if extra > 0:
            found.append(Holding(symbol=one.symbol, name=POSITION, side=one.side.value, quantity=extra))
    for order in working(truth):
        if not is_ours(order.client_order_id) and not order.client_order_id.startswith(BY_EXCHANGE):
            name = order.client_order_id or f"venue-{order.venue_order_id}"
            found.append(Holding(symbol=order.symbol, name=name, side=order.order_side.value, quantity=order.quantity))
    return list({(one.symbol, one.name): one for one in found}.values())


def _newest(orders: Iterable[VenueOrder], kind: OrderKind, quantity: Decimal) -> VenueOrder | None:
    covering: Sequence[VenueOrder] = [
        order
        for order in orders
        if order.kind is kind and (order.close_position or order.quantity - order.filled_quantity >= quantity)
    ]
    return max(covering, key=lambda order: _moment(order.created_at, order.venue_order_id), default=None)


def _moment(at: datetime, number: str) -> tuple[datetime, int, str]:
    return at, len(number), number
