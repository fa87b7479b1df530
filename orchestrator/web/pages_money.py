"""What the pages show of positions and money: rows joined with the newest marks. Pure; an unknown price stays unknown.

What a position is worth is the valuation's word, which the live stream and the REST API share.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from orchestrator.ports import Account, EquityPoint, Mark, PositionRow, Stats
from orchestrator.web import format as fmt
from orchestrator.web.pages_alarms import is_naked
from orchestrator.web.pages_curve import Curve, draw
from orchestrator.web.valuation import CLOSED, Valued, gain, loss_left, value, wealth
from shared.enums import Side
from shared.margin import price_pnl

ZERO = Decimal(0)
PERIODS = {"24h": ("24h", 24), "7d": ("7d", 24 * 7), "30d": ("30d", 24 * 30), "all": ("All", None)}


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """Places on the line from stop (0) to target (1000)."""

    entry: int
    now: int | None


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """A position as a person sees it: `pnl` net, `percent` of its margin, `held` in seconds of market time."""

    row: PositionRow
    valued: Valued
    live: bool
    naked: bool
    mark: Decimal | None
    pnl: Decimal | None
    percent: Decimal | None
    margin: Decimal
    at_stop: Decimal | None
    at_target: Decimal | None
    track: Track | None
    held: float


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """The wallet with what is open in it; None where a price is missing."""

    equity: Decimal | None
    open_pnl: Decimal | None
    today: Decimal | None
    all_time: Decimal | None
    all_percent: Decimal | None
    deposited: Decimal
    margin_used: Decimal
    free: Decimal | None
    loss_left: Decimal | None
    curve: Curve | None
    period: str
    periods: list[tuple[str, str]]


def view_of(row: PositionRow, mark: Mark | None, now: datetime) -> PositionView:
    """A position with the newest mark of its symbol."""
    valued = value(row, mark)
    price = None if valued.mark is None else valued.mark.price
    return PositionView(
        row=row,
        valued=valued,
        live=row.status not in CLOSED,
        naked=is_naked(row),
        mark=price,
        pnl=valued.pnl,
        percent=valued.pnl_percent,
        margin=row.margin if row.margin > 0 else row.opened_size * row.entry_price / row.leverage,
        at_stop=_net_at(row, row.stop_loss),
        at_target=_net_at(row, row.take_profit),
        track=_track(row, price),
        held=((row.closed_at or now) - row.opened_at).total_seconds(),
    )


def worst_case(views: Sequence[PositionView]) -> Decimal | None:
    """The sum if every stop is hit at its price; None when nothing is open or a position has no stop."""
    known = [view.at_stop for view in views if view.at_stop is not None]
    return sum(known, ZERO) if known and len(known) == len(views) else None


def money_of(
    account: Account,
    stats: Stats,
    views: Sequence[PositionView],
    *,
    known: bool = True,
    max_daily_loss: Decimal,
    points: Sequence[EquityPoint],
    period: str,
    now: datetime,
) -> Money:
    """Everything the equity card and the limits say."""
    valued = [view.valued for view in views]
    rich = wealth(account, valued, known=known)
    gained = gain(rich, stats, valued)
    return Money(
        equity=rich.equity,
        open_pnl=_sum([view.pnl for view in views]),
        today=gained.today,
        all_time=gained.all_time,
        all_percent=gained.all_percent,
        deposited=gained.deposited,
        margin_used=rich.margin_used,
        free=rich.free if rich.known else None,
        loss_left=loss_left(gained, max_daily_loss),
        curve=draw(from_first_money(points) + ([] if rich.equity is None else [(now, rich.equity)])),
        period=period,
        periods=[(name, text) for name, (text, _) in PERIODS.items()],
    )


def from_first_money(points: Sequence[EquityPoint]) -> list[tuple[datetime, Decimal]]:
    """The curve from where the wallet first held something: an empty one before is no low."""
    first = next((place for place, point in enumerate(points) if point.value), len(points))
    return [(point.at, point.value) for point in points[first:]]


def _net_at(row: PositionRow, price: Decimal | None) -> Decimal | None:
    return None if price is None else _booked(row) + price_pnl(Side(row.side), row.size, row.entry_price, price)


def _booked(row: PositionRow) -> Decimal:
    return row.realized_pnl - row.fees + row.funding


def _track(row: PositionRow, price: Decimal | None) -> Track | None:
    entry = fmt.track(row.entry_price, row.stop_loss, row.take_profit)
    return None if entry is None else Track(entry=entry, now=fmt.track(price, row.stop_loss, row.take_profit))


def _sum(values: Sequence[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, ZERO) if len(known) == len(values) else None
