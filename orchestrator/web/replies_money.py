"""What the REST API answers of a wallet: totals, the equity curve and the ledger."""

from datetime import datetime
from uuid import UUID

from orchestrator.core.arming import stopped_by
from orchestrator.ports import LedgerRow, RealRow
from orchestrator.web.replies import Reply, amount, maybe


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


class Foreign(Reply, frozen=True, kw_only=True):
    """A position or an order at the exchange that is not ours; `name` is the order's client id, or "position"."""

    symbol: str
    name: str
    side: str
    quantity: str


class ExchangeReply(Reply, frozen=True, kw_only=True):
    """The account at the exchange as it was last read, at `heard_at`; null what is not known.

    `difference` is what the ledger lacks to the wallet, `differs` whether it stood so long that it was told. `stopped` says why no real entry is
    made, `unknown` names symbols with an order that has no answer.
    """

    heard_at: datetime | None
    wallet: str | None
    position_mode: str | None
    difference: str
    differs: bool
    armed_at: datetime | None
    stopped: str | None
    foreign: list[Foreign]
    unknown: list[str]


def exchange_of(row: RealRow, *, dry_run: bool) -> ExchangeReply:
    """What is known of the account."""
    return ExchangeReply(
        heard_at=row.heard_at,
        wallet=maybe(row.wallet),
        position_mode=row.position_mode,
        difference=amount(row.difference),
        differs=row.alarmed_at is not None,
        armed_at=row.armed_at,
        stopped=stopped_by(row, dry_run=dry_run),
        foreign=[Foreign(symbol=one.symbol, name=one.name, side=one.side, quantity=amount(one.quantity)) for one in row.foreign],
        unknown=list(row.unknown),
    )
