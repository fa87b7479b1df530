"""The report's judgement of the ledger: sound books pass, and every way of being wrong by the last digit is found."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy.report import Run, out_of_balance, read_report
from tests.crash_matrix.books import read_books, violations

pytestmark = pytest.mark.servers

AT = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
USER, SIGNAL, SCAN = (UUID(int=number) for number in (1, 2, 3))
LONG, SHORT = UUID(int=10), UUID(int=11)

PEOPLE: LiteralString = """
INSERT INTO users (id, username, password_hash, paper_balance, fixed_order_size, leverage, max_daily_loss, max_positions, max_exposure,
                   created_at)
VALUES (%(user)s, 'ann', '-', 10000, 100, 10, 500, 10, 20000, %(at)s)"""

SCANS: LiteralString = """
INSERT INTO scans (id, candle_close, as_of, universe, screened, candidates, signals, rejections, timings_ms, wall_ms, analyst, trace_id)
VALUES (%(scan)s, %(at)s, %(at)s, 120, 60, '["A", "B"]', 1, '{"no_score": 3}', '{}', 42, 'rules', 't')"""


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A wallet with a closed win (100 bought at 10, sold at 11) and an open short, booked by hand."""
    with psycopg.connect(database_url, autocommit=True) as found:
        names = {"user": USER, "scan": SCAN, "signal": SIGNAL, "at": AT}
        found.execute(PEOPLE, names)
        found.execute(SCANS, names)
        _book(found, "DEPOSIT", "10000", "opening", None)
        _position(
            found,
            LONG,
            "AUSDT",
            "LONG",
            "CLOSED_WIN",
            size=0,
            opened=100,
            entry=10,
            pnl="97.40",
            realized="100",
            fees="1.05",
            funding="-1.55",
        )
        _position(
            found, SHORT, "BUSDT", "SHORT", "OPEN", size=2, opened=2, entry=50, pnl=None, realized="0", fees="0.05", funding="0"
        )
        _fill(found, 20, LONG, opens=True, price=10, quantity=100, fee="0.50", realized="0")
        _fill(found, 21, LONG, opens=False, price=11, quantity=100, fee="0.55", realized="100")
        _fill(found, 22, SHORT, opens=True, price=50, quantity=2, fee="0.05", realized="0")
        found.execute(
            "INSERT INTO funding_payments (position_id, at, user_id, mode, rate, mark_price, quantity, amount) "
            "VALUES (%s, %s, %s, 'PAPER', 0.0001, 10, 100, -1.55)",
            [LONG, AT, USER],
        )
        for number, (kind, amount, position) in enumerate(
            [
                ("FEE", "-0.50", LONG),
                ("REALIZED_PNL", "100", LONG),
                ("FEE", "-0.55", LONG),
                ("FUNDING", "-1.55", LONG),
                ("FEE", "-0.05", SHORT),
            ]
        ):
            _book(found, kind, amount, f"source {number}", position)
        found.execute("UPDATE users SET paper_balance = (SELECT sum(amount) FROM ledger_entries)")
        found.execute(
            "INSERT INTO claims (user_id, symbol, mode, order_id, margin, notional, created_at) "
            "VALUES (%s, 'BUSDT', 'PAPER', %s, 10, 100, %s)",
            [USER, UUID(int=122), AT],
        )
        yield found


def faults(connection: psycopg.Connection[Any]) -> list[str]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return out_of_balance(cursor)


def test_books_that_agree_with_what_happened_balance(connection: psycopg.Connection[Any]) -> None:
    assert faults(connection) == []
    assert violations(read_books(connection), {}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE users SET paper_balance = paper_balance + 0.00000001",
        "UPDATE ledger_entries SET amount = amount - 0.00000001 WHERE kind = 'FUNDING'",
        "DELETE FROM ledger_entries WHERE kind = 'FEE' AND amount = -0.05",
        "UPDATE fills SET realized_pnl = 100.01 WHERE NOT opens",
        "UPDATE fills SET price = 12 WHERE NOT opens",
        "UPDATE positions SET size = 1 WHERE status = 'OPEN'",
        "INSERT INTO funding_payments SELECT position_id, at + interval '8 hours', user_id, mode, rate, mark_price, quantity, amount "
        "FROM funding_payments",
    ],
)
def test_any_row_that_is_wrong_unbalances_the_report(connection: psycopg.Connection[Any], wrong: LiteralString) -> None:
    connection.execute(wrong)
    assert faults(connection)
    assert read_report(connection, run()).ledger_balanced is False


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("DELETE FROM claims", "held without a claim"),
        ("UPDATE claims SET symbol = 'CUSDT'", "stands for nothing"),
        ("UPDATE positions SET stop_loss = NULL WHERE status = 'OPEN'", "open without a stop"),
        ("UPDATE orders SET status = 'REFUSED' WHERE client_order_id = 'o122'", "REFUSED with fills"),
        ("UPDATE orders SET quantity = 3 WHERE client_order_id = 'o122'", "its fills 2"),
        ("UPDATE positions SET fees = fees + 1 WHERE status = 'OPEN'", "has fees"),
        ("UPDATE positions SET pnl = 97.41 WHERE pnl IS NOT NULL", "not 97.40"),
        ("UPDATE ledger_entries SET balance_after = 0 WHERE kind = 'FUNDING'", "the sum is"),
    ],
)
def test_the_crash_tests_would_see_it(connection: psycopg.Connection[Any], wrong: LiteralString, word: str) -> None:
    connection.execute(wrong)
    assert any(word in fault for fault in violations(read_books(connection), {}))


def test_a_report_counts_this_run_only(connection: psycopg.Connection[Any]) -> None:
    report = read_report(connection, run())
    assert (report.scans, report.symbols, report.candidates, report.orders) == (1, 120, 2, 3)
    assert report.signals.rejected == {"no_score": 3}
    assert (report.positions_opened, report.positions_closed.CLOSED_WIN, report.positions_closed.CLOSED_LOSS) == (2, 1, 0)
    assert tuple(Decimal(amount) for amount in (report.realized_pnl, report.fees, report.funding)) == (
        Decimal(100),
        Decimal("1.10"),
        Decimal("-1.55"),
    )
    assert report.scan_ms.p50 == 42
    assert report.unsound() == []
    later = read_report(connection, run(since=AT + timedelta(hours=1)))
    assert (later.scans, later.orders, later.positions_opened, later.realized_pnl) == (0, 0, 0, "0")
    assert later.ledger_balanced is True
    assert later.unsound() == ["no scan was made"]


def test_a_report_counts_funding_and_liquidation_fees_that_an_exchange_booked(connection: psycopg.Connection[Any]) -> None:
    for source, (kind, amount) in enumerate(
        [("FUNDING", "-0.25"), ("FUNDING", "0.10"), ("LIQUIDATION_FEE", "-2"), ("FEE", "-9")]
    ):
        _book(connection, kind, amount, f"income {source}", None, mode="REAL")
    report = read_report(connection, run())
    assert (Decimal(report.funding), Decimal(report.fees)) == (Decimal("-1.70"), Decimal("3.10"))
    assert Decimal(read_report(connection, run(since=AT + timedelta(hours=1))).funding) == 0


def test_a_position_without_a_stop_or_an_error_makes_the_run_unsound(connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE positions SET stop_loss = NULL WHERE status = 'OPEN'")
    report = read_report(connection, run(errors=2))
    assert report.open_without_stop == 1
    assert len(report.unsound()) == 2


def run(*, since: datetime = AT - timedelta(minutes=1), errors: int = 0) -> Run:
    return Run(
        since=since,
        until=since + timedelta(hours=1),
        open_without_stop=0,
        errors=errors,
        speed=450,
        seed=7,
        thresholds={"min_confidence": 75},
    )


def _book(
    connection: psycopg.Connection[Any], kind: str, amount: str, source: str, position: UUID | None, mode: str = "PAPER"
) -> None:
    connection.execute(
        "INSERT INTO ledger_entries (user_id, mode, at, kind, amount, balance_after, source, position_id) VALUES (%s, %s, %s, %s, %s, "
        "%s + (SELECT coalesce(sum(amount), 0) FROM ledger_entries WHERE mode = %s), %s, %s)",
        [USER, mode, AT, kind, Decimal(amount), Decimal(amount), mode, source, position],
    )


def _position(
    connection: psycopg.Connection[Any],
    key: UUID,
    symbol: str,
    side: str,
    status: str,
    *,
    size: int,
    opened: int,
    entry: int,
    pnl: str | None,
    realized: str,
    fees: str,
    funding: str,
) -> None:
    closed = AT if pnl is not None else None
    columns = {
        "id": key, "user_id": USER, "symbol": symbol, "side": side, "mode": "PAPER", "dry_run": False, "status": status, "size": size,
        "opened_size": opened, "entry_price": entry, "stop_loss": 9, "leverage": 10, "margin": 100, "isolated_margin": 100,
        "maintenance_ratio": 0, "maintenance_amount": 0, "liquidation_fee_ratio": 0, "tick_size": 1, "step_size": 1,
        "realized_pnl": Decimal(realized), "fees": Decimal(fees), "funding": Decimal(funding), "pnl": None if pnl is None else Decimal(pnl),
        "judged_until": AT, "funded_until": AT, "opened_at": AT, "closed_at": closed,
    }  # fmt: skip
    _insert(connection, "positions", columns)


def _fill(
    connection: psycopg.Connection[Any],
    number: int,
    position: UUID,
    *,
    opens: bool,
    price: int,
    quantity: int,
    fee: str,
    realized: str,
) -> None:
    order = UUID(int=100 + number)
    _insert(
        connection,
        "orders",
        {
            "id": order, "client_order_id": f"o{100 + number}", "user_id": USER, "position_id": position, "status": "FILLED",
            "purpose": "ENTRY" if opens else "CLOSE", "symbol": "X", "side": "LONG", "mode": "PAPER", "dry_run": False, "margin": 100,
            "notional": 1000, "leverage": 10, "quantity": quantity, "trace_id": "t", "created_at": AT,
        },
    )  # fmt: skip
    _insert(
        connection,
        "fills",
        {
            "order_id": order, "position_id": position, "user_id": USER, "trade_id": f"t{number}", "mode": "PAPER", "opens": opens,
            "price": price, "quantity": quantity, "fee": Decimal(fee), "realized_pnl": Decimal(realized), "liquidation_fee": 0, "at": AT,
            "trace_id": "t",
        },
    )  # fmt: skip


def _insert(connection: psycopg.Connection[Any], table: str, columns: dict[str, Any]) -> None:
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})".encode(), list(columns.values()))  # noqa: S608 - our own names
