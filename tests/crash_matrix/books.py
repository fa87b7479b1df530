"""Builds the books again from the fills alone and compares them with the rows, one by one.

What it finds is a sentence for each row that is not as it must be; nothing found means that no crash cost or doubled anything.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from deploy.report import out_of_balance
from shared.execution import ExecutionReport

Row = dict[str, Any]

LIVE_POSITION = {"OPEN", "CLOSING"}
LIVE_ORDER = {"AWAITING_APPROVAL", "CLAIMED", "SENT", "UNKNOWN"}


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Every row of money, read at one moment."""

    orders: dict[Any, Row]
    fills: list[Row]
    positions: dict[Any, Row]
    claims: list[Row]
    ledger: list[Row]
    fundings: list[Row]
    balance_faults: list[str]

    @property
    def unsettled(self) -> list[Row]:
        """Orders whose outcome is still open, approvals aside."""
        return [order for order in self.orders.values() if order["status"] in LIVE_ORDER - {"AWAITING_APPROVAL"}]


def read_books(connection: psycopg.Connection[Any]) -> Books:
    """All rows of money in one snapshot."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        return Books(
            orders={row["id"]: row for row in cursor.execute("SELECT * FROM orders").fetchall()},
            fills=cursor.execute("SELECT * FROM fills ORDER BY at, id").fetchall(),
            positions={row["id"]: row for row in cursor.execute("SELECT * FROM positions").fetchall()},
            claims=cursor.execute("SELECT * FROM claims").fetchall(),
            ledger=cursor.execute("SELECT * FROM ledger_entries ORDER BY id").fetchall(),
            fundings=cursor.execute("SELECT * FROM funding_payments").fetchall(),
            balance_faults=out_of_balance(cursor),
        )


def violations(books: Books, reports: dict[str, ExecutionReport]) -> list[str]:
    """Every row that is not as the fills, and what the venue told, say it must be. Orders that are under way are let be.

    Args:
        books: All rows at one moment.
        reports: The engine's own, by client order id: what the venue did; read before the books.
    """
    return [
        *books.balance_faults,
        *_orders(books),
        *_positions(books),
        *claims_amiss(books),
        *_ledger(books),
        *_venue(books, reports),
    ]


def _orders(books: Books) -> Iterator[str]:
    filled = {fill["order_id"] for fill in books.fills}
    for order in books.orders.values():
        name = f"order {order['client_order_id']}"
        if (order["status"] == "FILLED") != (order["id"] in filled):
            yield f"{name} is {order['status']} {'with' if order['id'] in filled else 'without'} fills"
    for order_id, quantity in _sums((fill["order_id"], fill["quantity"]) for fill in books.fills).items():
        order = books.orders[order_id]
        if order["quantity"] != quantity:
            yield f"order {order['client_order_id']} has {order['quantity']}, its fills {quantity}"
    for trade, count in Counter((fill["order_id"], fill["trade_id"]) for fill in books.fills).items():
        if count > 1:
            yield f"trade {trade} is booked {count} times"


def _positions(books: Books) -> Iterator[str]:
    entries = Counter(
        order["position_id"] for order in books.orders.values() if order["purpose"] == "ENTRY" and order["status"] == "FILLED"
    )
    live = Counter(
        (row["user_id"], row["symbol"], row["mode"]) for row in books.positions.values() if row["status"] in LIVE_POSITION
    )
    yield from (f"{count} live positions of {key}" for key, count in live.items() if count > 1)
    for position in books.positions.values():
        yield from _position(books, position, entries[position["id"]])


def _position(books: Books, position: Row, entries: int) -> Iterator[str]:
    name = f"position {position['symbol']} {position['id']}"
    fills = [fill for fill in books.fills if fill["position_id"] == position["id"]]
    opened = sum((fill["quantity"] for fill in fills if fill["opens"]), Decimal(0))
    closed = sum((fill["quantity"] for fill in fills if not fill["opens"]), Decimal(0))
    fees = sum((fill["fee"] + fill["liquidation_fee"] for fill in fills), Decimal(0))
    realized = sum((fill["realized_pnl"] for fill in fills), Decimal(0))
    funding = sum((row["amount"] for row in books.fundings if row["position_id"] == position["id"]), Decimal(0))
    expected = {"size": opened - closed, "opened_size": opened, "fees": fees, "realized_pnl": realized, "funding": funding}
    if entries != 1:
        yield f"{name} was opened by {entries} entries"
    for column, value in expected.items():
        if position[column] != value:
            yield f"{name} has {column} {position[column]}, its fills give {value}"
    if position["status"] in LIVE_POSITION:
        if position["stop_loss"] is None:
            yield f"{name} is open without a stop"
        if opened == closed:
            yield f"{name} is {position['status']} with nothing left"
    elif opened != closed or position["pnl"] != realized - fees + funding:
        yield f"{name} is closed with {opened - closed} left and pnl {position['pnl']}, not {realized - fees + funding}"


def claims_amiss(books: Books) -> Iterator[str]:
    """Claims that stand for nothing, and what is held without one."""
    held = {
        (row["user_id"], row["symbol"], row["mode"]) for row in books.positions.values() if row["status"] in LIVE_POSITION
    } | {
        (row["user_id"], row["symbol"], row["mode"])
        for row in books.orders.values()
        if row["purpose"] == "ENTRY" and row["status"] in LIVE_ORDER
    }
    claimed = {(row["user_id"], row["symbol"], row["mode"]) for row in books.claims}
    yield from (f"claim {key} stands for nothing" for key in claimed - held)
    yield from (f"{key} is held without a claim" for key in held - claimed)


def _ledger(books: Books) -> Iterator[str]:
    booked = Counter((row["position_id"], row["kind"], row["amount"]) for row in books.ledger if row["kind"] != "DEPOSIT")
    expected: Counter[tuple[Any, str, Decimal]] = Counter()
    for fill in books.fills:
        amounts = {"REALIZED_PNL": fill["realized_pnl"], "FEE": -fill["fee"], "LIQUIDATION_FEE": -fill["liquidation_fee"]}
        expected.update((fill["position_id"], kind, amount) for kind, amount in amounts.items() if amount)
    expected.update((row["position_id"], "FUNDING", row["amount"]) for row in books.fundings if row["amount"])
    yield from (f"ledger lacks {key}" for key in (expected - booked))
    yield from (f"ledger has {key} that nothing explains" for key in (booked - expected) if key[2])
    balances: dict[tuple[Any, str], Decimal] = {}
    for row in books.ledger:
        wallet = (row["user_id"], row["mode"])
        balances[wallet] = balances.get(wallet, Decimal(0)) + row["amount"]
        if balances[wallet] != row["balance_after"]:
            yield f"ledger entry {row['id']} says {row['balance_after']} after it, the sum is {balances[wallet]}"
            return


def _venue(books: Books, reports: dict[str, ExecutionReport]) -> Iterator[str]:
    by_order: dict[str, set[tuple[str, Decimal, Decimal]]] = {}
    for fill in books.fills:
        key = books.orders[fill["order_id"]]["client_order_id"]
        by_order.setdefault(key, set()).add((fill["trade_id"], fill["price"], fill["quantity"]))
    under_way = {order["client_order_id"] for order in books.unsettled}
    for client_order_id, report in reports.items():
        if client_order_id in under_way:
            continue
        told = {(fill.trade_id, fill.price, fill.quantity) for fill in report.fills}
        if told != by_order.get(client_order_id, set()):
            yield f"the venue told {told} of {client_order_id}, booked is {by_order.get(client_order_id)}"


def _sums(pairs: Iterable[tuple[Any, Decimal]]) -> dict[Any, Decimal]:
    sums: dict[Any, Decimal] = {}
    for key, amount in pairs:
        sums[key] = sums.get(key, Decimal(0)) + amount
    return sums
