"""What an open position is worth now: pure arithmetic over a row and a mark, the same for pages, REST and the live stream."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from orchestrator.ports import Account, Mark, PositionRow, RealRow, Stats
from shared.enums import Mode, Side
from shared.margin import pnl_percent, price_pnl

LIVE = ("OPEN", "CLOSING")
CLOSED = ("CLOSED_WIN", "CLOSED_LOSS")
ZERO = Decimal(0)
_CENT_OF_CENT = Decimal("0.00000001")


class Valued(msgspec.Struct, frozen=True, kw_only=True):
    """A position at a mark. `unrealized` is the price change of what is left; `pnl` is net of fees and funding, parts closed included.

    All three are None while no mark is known; a closed position keeps the PnL it closed with.
    """

    row: PositionRow
    mark: Mark | None
    unrealized: Decimal | None
    pnl: Decimal | None
    pnl_percent: Decimal | None


def value(row: PositionRow, mark: Mark | None) -> Valued:
    """A position at a mark; a closed one needs none."""
    if row.status in CLOSED:
        return Valued(row=row, mark=None, unrealized=None, pnl=row.pnl, pnl_percent=_percent(row, row.pnl))
    if mark is None:
        return Valued(row=row, mark=None, unrealized=None, pnl=None, pnl_percent=None)
    unrealized = price_pnl(Side(row.side), row.size, row.entry_price, mark.price).quantize(_CENT_OF_CENT)
    pnl = row.realized_pnl + unrealized - row.fees + row.funding
    return Valued(row=row, mark=mark, unrealized=unrealized, pnl=pnl, pnl_percent=_percent(row, pnl))


def value_all(rows: Iterable[PositionRow], marks: Mapping[str, Mark]) -> list[Valued]:
    """Each position at its symbol's mark."""
    return [value(row, marks.get(row.symbol)) for row in rows]


class Wealth(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet with what is open in it. `unrealized` and `equity` are None while a held symbol has no mark.

    Not `known` is a real wallet whose books have not been opened: the ledger is empty, and nothing follows from that.
    """

    known: bool = True

    balance: Decimal
    margin_used: Decimal
    free: Decimal
    unrealized: Decimal | None
    equity: Decimal | None


def in_wallet(row: PositionRow, mode: str) -> bool:
    """Whether a position is part of a mode's wallet: what a dry run did is of none."""
    return row.mode == mode and not row.dry_run


def books_known(mode: str, real: RealRow | None) -> bool:
    """Whether a mode's ledger is its wallet: on paper always, in REAL from the first truth on."""
    return mode == Mode.PAPER or (real is not None and real.opened)


def wealth(account: Account, valued: Iterable[Valued], *, known: bool = True) -> Wealth:
    """The wallet of a mode with the open positions of that mode. Equity = balance + unrealised; free never counts a profit not booked."""
    parts = [each.unrealized for each in valued if each.row.status in LIVE]
    priced = [part for part in parts if part is not None]
    unrealized = sum(priced, ZERO) if len(priced) == len(parts) else None
    return Wealth(
        known=known,
        balance=account.balance,
        margin_used=account.margin_used + account.margin_claimed,
        free=account.free,
        unrealized=unrealized,
        equity=None if unrealized is None or not known else account.balance + unrealized,
    )


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet has gained since it was filled and since the UTC market day began; None while a held symbol has no mark.

    `against_limit` is the day as the daily-loss stop counts it: booked results with what is open where that is a loss, or the
    lowest that booked results were today, whichever is worse.
    """

    deposited: Decimal
    today: Decimal | None
    against_limit: Decimal | None
    all_time: Decimal | None
    all_percent: Decimal | None


def gain(worth: Wealth, stats: Stats, valued: Iterable[Valued]) -> Gain:
    """Equity less what was paid in, which is what the ledger holds beyond every result; today is what was booked and what is open."""
    open_booked = sum(
        (each.row.realized_pnl - each.row.fees + each.row.funding for each in valued if each.row.status in LIVE), ZERO
    )
    deposited = worth.balance - stats.net_pnl - open_booked
    all_time = None if worth.equity is None else worth.equity - deposited
    return Gain(
        deposited=deposited,
        today=None if worth.equity is None or worth.unrealized is None else stats.today_booked + worth.unrealized,
        against_limit=None
        if worth.unrealized is None
        else min(stats.today_booked + min(worth.unrealized, ZERO), stats.today_lowest),
        all_time=all_time,
        all_percent=None if all_time is None or deposited <= 0 else all_time / deposited * 100,
    )


def loss_left(gained: Gain | None, max_daily_loss: Decimal | None) -> Decimal | None:
    """What the day may still lose before the daily-loss stop; None while either is unknown."""
    if gained is None or gained.against_limit is None or max_daily_loss is None:
        return None
    return max(ZERO, max_daily_loss + min(gained.against_limit, ZERO))


def day_start(now: datetime) -> datetime:
    """When the UTC market day of a moment began: the day that the daily-loss stop counts."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _percent(row: PositionRow, pnl: Decimal | None) -> Decimal | None:
    if pnl is None:
        return None
    margin = row.margin if row.margin > 0 else row.opened_size * row.entry_price / row.leverage
    return pnl_percent(pnl, margin)
