"""What the REST API answers of a wallet: totals, the equity curve and the ledger."""

from datetime import datetime
from uuid import UUID

from orchestrator.ports import LedgerRow
from orchestrator.web.replies import Reply, amount


class Today(Reply, frozen=True, kw_only=True):
    """Since the UTC market day began; `booked` is every change of the wallet, fees of open positions included."""

    since: datetime
    trades: int
    pnl: str
    booked: str


class StatsReply(Reply, frozen=True, kw_only=True):
    """Totals of a mode; win_rate is 0 to 1, null before the first closed trade."""

    mode: str
    trades: int
    wins: int
    losses: int
    win_rate: float | None
    net_pnl: str
    gross_pnl: str
    fees: str
    funding: str
    best: str | None
    worst: str | None
    open_positions: int
    unrealized_pnl: str | None
    balance: str
    equity: str | None
    today: Today


class Point(Reply, frozen=True, kw_only=True):
    """The booked balance at a moment."""

    at: datetime
    value: str


class Equity(Reply, frozen=True, kw_only=True):
    """The equity curve: booked balances, oldest first, and equity now with what is open."""

    mode: str
    period: str
    points: list[Point]
    balance: str
    unrealized_pnl: str | None
    equity: str | None


class Entry(Reply, frozen=True, kw_only=True):
    """One change of the wallet."""

    id: int
    at: datetime
    kind: str
    amount: str
    position_id: UUID | None
    balance_after: str


class Ledger(Reply, frozen=True, kw_only=True):
    """A page of the ledger, newest first; `balance` is the sum of all `total` amounts."""

    mode: str
    entries: list[Entry]
    total: int
    balance: str


def entry_of(row: LedgerRow) -> Entry:
    """One change of the wallet."""
    return Entry(
        id=row.id,
        at=row.at,
        kind=row.kind,
        amount=amount(row.amount),
        position_id=row.position_id,
        balance_after=amount(row.balance_after),
    )
