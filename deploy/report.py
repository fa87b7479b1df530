"""What one run of the demo did, read from the rows it left: the report of `--report`, and whether the run was sound.

The ledger is judged by computing every wallet again from fills, funding and deposits, in queries that read no balance column.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString

import msgspec
import psycopg
from msgspec import UNSET, UnsetType
from psycopg.rows import dict_row

OPEN_WITHOUT_STOP: Final[LiteralString] = """
    SELECT count(*) AS n FROM positions WHERE status IN ('OPEN', 'CLOSING') AND stop_loss IS NULL"""

COUNTS: Final[LiteralString] = """
    WITH exchange AS (
      SELECT l.kind, coalesce(sum(l.amount), 0) AS amount FROM ledger_entries l LEFT JOIN positions p ON p.id = l.position_id
      WHERE l.mode = 'REAL' AND NOT coalesce(p.dry_run, false) AND l.at >= %(since)s GROUP BY l.kind)
    SELECT
      (SELECT count(*) FROM scans WHERE as_of >= %(since)s) AS scans,
      (SELECT coalesce(max(universe), 0) FROM scans WHERE as_of >= %(since)s) AS symbols,
      (SELECT coalesce(sum(jsonb_array_length(candidates)), 0) FROM scans WHERE as_of >= %(since)s) AS candidates,
      (SELECT count(*) FROM signals WHERE created_at >= %(since)s AND side = 'LONG') AS long,
      (SELECT count(*) FROM signals WHERE created_at >= %(since)s AND side = 'SHORT') AS short,
      (SELECT count(*) FROM orders WHERE created_at >= %(since)s) AS orders,
      (SELECT count(*) FROM positions WHERE opened_at >= %(since)s) AS opened,
      (SELECT count(*) FROM positions WHERE closed_at >= %(since)s AND status = 'CLOSED_WIN') AS won,
      (SELECT count(*) FROM positions WHERE closed_at >= %(since)s AND status = 'CLOSED_LOSS') AS lost,
      (SELECT coalesce(sum(realized_pnl), 0) FROM fills WHERE at >= %(since)s) AS realized_pnl,
      (SELECT coalesce(sum(fee + liquidation_fee), 0) FROM fills WHERE at >= %(since)s)
        - coalesce((SELECT amount FROM exchange WHERE kind = 'LIQUIDATION_FEE'), 0) AS fees,
      (SELECT coalesce(sum(amount), 0) FROM funding_payments WHERE at >= %(since)s)
        + coalesce((SELECT amount FROM exchange WHERE kind = 'FUNDING'), 0) AS funding"""
"""At an exchange, funding and the liquidator's fee are what it booked: nothing but the ledger holds them."""

REJECTIONS: Final[LiteralString] = """
    SELECT reason, sum(n::int) AS n FROM scans, jsonb_each_text(rejections) AS each(reason, n)
    WHERE as_of >= %(since)s GROUP BY reason ORDER BY n DESC, reason"""

REFUSALS: Final[LiteralString] = """
    SELECT reason, count(*) AS n FROM refusals WHERE at >= %(since)s GROUP BY reason ORDER BY n DESC, reason"""

SCAN_MS: Final[LiteralString] = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY wall_ms) AS p50, percentile_cont(0.99) WITHIN GROUP (ORDER BY wall_ms) AS p99
    FROM scans WHERE as_of >= %(since)s"""

FILL_MS: Final[LiteralString] = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY signal_to_fill_ms) AS p50,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY signal_to_fill_ms) AS p99
    FROM orders WHERE created_at >= %(since)s AND signal_to_fill_ms IS NOT NULL"""

WALLETS: Final[LiteralString] = """
    WITH happened AS (
      SELECT user_id, mode, realized_pnl - fee - liquidation_fee AS amount FROM fills
      UNION ALL SELECT f.user_id, f.mode, f.amount FROM funding_payments f JOIN positions p ON p.id = f.position_id
        WHERE p.mode = 'PAPER' OR p.dry_run
      UNION ALL SELECT user_id, mode, amount FROM ledger_entries WHERE kind IN ('DEPOSIT', 'TRANSFER', 'EXTERNAL')
      UNION ALL SELECT l.user_id, l.mode, l.amount FROM ledger_entries l LEFT JOIN positions p ON p.id = l.position_id
        WHERE l.kind IN ('FUNDING', 'LIQUIDATION_FEE') AND l.mode = 'REAL' AND NOT coalesce(p.dry_run, false))
    SELECT user_id, mode, sum(amount) AS amount FROM happened GROUP BY user_id, mode"""
"""Every wallet from what happened alone. At an exchange, funding and the liquidator's fee are what it booked; `exchange_equal` judges them."""

BOOKED: Final[LiteralString] = "SELECT user_id, mode, sum(amount) AS amount FROM ledger_entries GROUP BY user_id, mode"

SHOWN: Final[LiteralString] = "SELECT id AS user_id, 'PAPER' AS mode, paper_balance AS amount FROM users"

PRICED: Final[LiteralString] = """
    WITH legs AS (
      SELECT f.position_id, p.side, p.liquidation_price, bool_or(f.liquidation_fee > 0) AS liquidated,
        sum(f.price * f.quantity) FILTER (WHERE f.opens) / nullif(sum(f.quantity) FILTER (WHERE f.opens), 0) AS entry,
        coalesce(sum(f.price * f.quantity) FILTER (WHERE NOT f.opens), 0) AS sold,
        coalesce(sum(f.quantity) FILTER (WHERE NOT f.opens), 0) AS left_by,
        sum(f.realized_pnl) AS booked, count(*) AS n
      FROM fills f JOIN positions p ON p.id = f.position_id GROUP BY f.position_id, p.side, p.liquidation_price)
    SELECT count(*) AS n FROM legs
    WHERE NOT liquidated
      AND (entry IS NULL OR abs((CASE side WHEN 'LONG' THEN 1 ELSE -1 END) * (sold - entry * left_by) - booked)
             > 0.00000001 * (n + 1) + 0.000000000001 * n * left_by)"""
"""Positions whose booked profit is not what the prices and quantities of their fills give, but for rounding: eight decimals a fill, twelve of
an average price. A liquidation is capped by its margin and judged by its wallet alone."""

SIZES: Final[LiteralString] = """
    SELECT count(*) AS n FROM positions p
    WHERE p.size <> (SELECT coalesce(sum(CASE WHEN opens THEN quantity ELSE -quantity END), 0) FROM fills f WHERE f.position_id = p.id)
       OR (p.status IN ('CLOSED_WIN', 'CLOSED_LOSS')) <> (p.size = 0)"""
"""Positions whose size is not what their fills leave."""


UNPROTECTED_AT_MOST: Final = 5.0
"""Wall seconds: three until an entry without a confirmed stop is closed, and what that close may take under faults."""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Median and 99th percentile in wall milliseconds; null when nothing was measured."""

    p50: float | None
    p99: float | None


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """Signals by side, and candidates that became none, by reason."""

    long: int
    short: int
    rejected: dict[str, int]


class PositionsClosed(msgspec.Struct, frozen=True):
    """Closed positions by result."""

    CLOSED_WIN: int
    CLOSED_LOSS: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as `wire.md` names it. Money is USDT as decimal strings, fees as a cost, funding as received."""

    market_seconds: int
    scans: int
    symbols: int
    candidates: int
    signals: Signals
    refusals: dict[str, int]
    orders: int
    positions_opened: int
    positions_closed: PositionsClosed
    realized_pnl: str
    fees: str
    funding: str
    ledger_balanced: bool
    open_without_stop: int
    errors: int
    scan_ms: Percentiles
    signal_to_fill_ms: Percentiles
    speed: float
    seed: int | None
    thresholds: dict[str, float]
    unprotected_seconds: float | UnsetType = UNSET
    unknown_orders: int | UnsetType = UNSET
    exchange_equal: bool | UnsetType = UNSET

    def unsound(self) -> list[str]:
        """What is wrong with the run; empty when it was sound."""
        found = [] if self.scans else ["no scan was made"]
        found += [] if self.ledger_balanced else ["the ledger does not balance"]
        found += [f"{self.open_without_stop} positions were without a stop"] if self.open_without_stop else []
        found += ["the books do not equal the exchange"] if self.exchange_equal is False else []
        found += [f"{self.unknown_orders} orders are of unknown outcome"] if self.unknown_orders else []
        if self.unprotected_seconds is not UNSET and self.unprotected_seconds > UNPROTECTED_AT_MOST:
            found.append(f"a position was {self.unprotected_seconds:.1f} s without a stop")
        return found + ([f"{self.errors} errors were logged, unexpected restarts included"] if self.errors else [])


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What only the supervisor knows of a run: where it stood in market time, what was counted while it ran."""

    since: datetime
    until: datetime
    open_without_stop: int
    errors: int
    speed: float
    seed: int | None
    thresholds: dict[str, float]


def read_report(connection: psycopg.Connection[Any], run: Run) -> Report:
    """The report of one run, all its numbers from one moment.

    Raises:
        psycopg.Error: The database does not answer.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        since = {"since": run.since}
        counts = _one(cursor, COUNTS, since)
        return Report(
            market_seconds=max(0, round((run.until - run.since).total_seconds())),
            scans=counts["scans"],
            symbols=counts["symbols"],
            candidates=int(counts["candidates"]),
            signals=Signals(long=counts["long"], short=counts["short"], rejected=_by_reason(cursor, REJECTIONS, since)),
            refusals=_by_reason(cursor, REFUSALS, since),
            orders=counts["orders"],
            positions_opened=counts["opened"],
            positions_closed=PositionsClosed(counts["won"], counts["lost"]),
            realized_pnl=_plain(counts["realized_pnl"]),
            fees=_plain(counts["fees"]),
            funding=_plain(counts["funding"]),
            ledger_balanced=not out_of_balance(cursor),
            open_without_stop=max(run.open_without_stop, _one(cursor, OPEN_WITHOUT_STOP, {})["n"]),
            errors=run.errors,
            scan_ms=_percentiles(_one(cursor, SCAN_MS, since)),
            signal_to_fill_ms=_percentiles(_one(cursor, FILL_MS, since)),
            speed=run.speed,
            seed=run.seed,
            thresholds=run.thresholds,
        )


def out_of_balance(cursor: psycopg.Cursor[dict[str, Any]]) -> list[str]:
    """Every way in which the books disagree with what happened; empty when they agree to the last digit."""
    happened, booked, shown = (_wallets(cursor, query) for query in (WALLETS, BOOKED, SHOWN))
    found = [
        f"wallet {user} {mode}: happened {happened.get((user, mode))}, booked {booked.get((user, mode))}"
        for user, mode in happened.keys() | booked.keys()
        if happened.get((user, mode)) != booked.get((user, mode))
    ]
    found += [
        f"wallet {user}: booked {booked.get((user, mode))}, shown {amount}"
        for (user, mode), amount in shown.items()
        if booked.get((user, mode), Decimal(0)) != amount
    ]
    for query, what in (
        (PRICED, "positions with a profit other than their fills give"),
        (SIZES, "positions of a size their fills do not leave"),
    ):
        count = _one(cursor, query, {})["n"]
        found += [f"{count} {what}"] if count else []
    return found


def _wallets(cursor: psycopg.Cursor[dict[str, Any]], query: LiteralString) -> dict[tuple[str, str], Decimal]:
    return {(str(row["user_id"]), row["mode"]): row["amount"] for row in cursor.execute(query)}


def _one(cursor: psycopg.Cursor[dict[str, Any]], query: LiteralString, values: dict[str, Any]) -> dict[str, Any]:
    row = cursor.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - every query here is an aggregate
    return row


def _by_reason(cursor: psycopg.Cursor[dict[str, Any]], query: LiteralString, values: dict[str, Any]) -> dict[str, int]:
    return {row["reason"]: int(row["n"]) for row in cursor.execute(query, values)}


def _percentiles(row: dict[str, Any]) -> Percentiles:
    return Percentiles(**{name: None if row[name] is None else round(row[name], 1) for name in ("p50", "p99")})


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"
