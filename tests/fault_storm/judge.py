"""The five invariants, judged at rest on the exchange's own books beside ours: what the exchange did is read from its core, not asked.

No duplicate: each intent became at most one executed order. No orphan: nothing of ours rests at the exchange without its live position.
No naked position: the working stops of each live position cover all of it. The ledger equals the exchange: to the cent, position by position.
No entry after leaving: once its user has left REAL, none that had not been sent before reaches the exchange.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.conditional import state
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.core.vigil import stopped
from orchestrator.core.order import LIVE as LIVE_ORDERS
from orchestrator.core.order import OrderPurpose
from orchestrator.ports import PositionRecord, Trader
from shared.enums import Mode
from shared.margin import ZERO
from tests.fakes import Rows

UNPROTECTED_MOST_MS: Final = 5_000
"""Source: issue 3: of time in which the exchange accepted the account's orders."""


class Leave(msgspec.Struct, kw_only=True):
    """A user left REAL, or real entries were stopped; market time, Unix milliseconds.

    `sent`: entries that were on their way when it was acknowledged. `until` is when the user came back.
    """

    user_id: UUID
    since: int
    sent: frozenset[str]
    until: int | None = None


class Judgement(msgspec.Struct, kw_only=True):
    """What a schedule came to."""

    violations: list[str] = []
    unprotected_ms: list[int] = []
    """Of each entry and each lapse, without what the exchange would not take."""
    longest: str = ""


def judge(
    rows: Rows,
    trading: Trading,
    accounts: dict[str, Account],
    now: int,
    thin: Mapping[str, tuple[int, int]],
    leaves: Sequence[Leave] = (),
) -> Judgement:
    """Everything that is wrong.

    Args:
        rows: What is committed.
        trading: The exchange's floor, brought up to now.
        accounts: The exchange's account of each user id.
        now: Market time, Unix milliseconds.
        thin: Of symbols whose book was thin, from when to when: an exchange that fills a part and refuses the rest takes no order.
        leaves: Who left REAL when.
    """
    found = Judgement()
    if trading.imbalance(now) != 0:
        found.violations.append(f"sandbox: the exchange itself does not balance: {trading.imbalance(now)}")
    for trader in rows.traders.values():
        account = accounts[str(trader.id)]
        live = [row for row in rows.live(trader.id) if not row.simulated]
        found.violations += [f"{trader.id.hex[-2:]} {line}" for line in _violations(rows, trader, account, live)]
        found.violations += [
            f"{trader.id.hex[-2:]} {line}"
            for leave in leaves
            if leave.user_id == trader.id
            for line in _entered_after(account, leave)
        ]
        _spans(found, trading, account, now, thin)
    return found


def _violations(rows: Rows, trader: Trader, account: Account, live: list[PositionRecord]) -> list[str]:
    return [
        *_duplicates(rows, trader, account),
        *_orphans(account, live),
        *_naked(account),
        *_unequal(rows, trader, account, live),
        *_unsettled(rows, trader, live),
    ]


def _duplicates(rows: Rows, trader: Trader, account: Account) -> list[str]:
    executed = Counter(order.client_id for order in account.orders.values() if order.executed > 0)
    known = {row.client_order_id for row in rows.orders.values() if row.user_id == trader.id}
    lines = [
        f"duplicate: {name} was executed {count} times"
        for name, count in executed.items()
        if count > 1 and name.startswith("nt-")
    ]
    lines += [f"duplicate: {name} was never asked for" for name in executed if name.startswith("nt-e-") and name not in known]
    entries = Counter(
        row.signal_id
        for row in rows.orders.values()
        if row.user_id == trader.id and row.purpose is OrderPurpose.ENTRY and row.client_order_id in executed
    )
    return lines + [f"duplicate: signal {signal} was entered {count} times" for signal, count in entries.items() if count > 1]


def _orphans(account: Account, live: list[PositionRecord]) -> list[str]:
    owned = {row.symbol for row in live}
    held = {position.symbol for position in account.held()}
    resting = [(order.symbol, order.client_id, order.kind) for order in account.open_orders()]
    waiting = [(algo.symbol, algo.client_id, f"{algo.kind} {state(account, algo)}") for algo in account.unfinished()]
    return [
        f"orphan: {name} ({kind}) in {symbol}"
        for symbol, name, kind in [*resting, *waiting]
        if name.startswith("nt-") and not (symbol in owned and symbol in held)
    ]


def _naked(account: Account) -> list[str]:
    return [
        f"naked: {position.symbol} {position.quantity}, stopped {covered}"
        for position in account.held()
        if (covered := stopped(account, position.symbol, position.side, position.quantity)) < abs(position.quantity)
    ]


def _unequal(rows: Rows, trader: Trader, account: Account, live: list[PositionRecord]) -> list[str]:
    booked = sum((row.amount for row in rows.ledger if (row.user_id, row.mode) == (trader.id, Mode.REAL)), ZERO)
    lines = [] if booked == account.wallet else [f"unequal: ledger {booked}, wallet {account.wallet}"]
    ours = {row.symbol: row.size * row.side.sign for row in live}
    theirs = {position.symbol: position.quantity for position in account.held()}
    for symbol in sorted(ours.keys() | theirs.keys()):
        mine, there = ours.get(symbol, Decimal(0)), theirs.get(symbol, Decimal(0))
        if mine != there:
            lines.append(f"unequal: {symbol} ours {mine}, at the exchange {there}")
    return lines


def _unsettled(rows: Rows, trader: Trader, live: list[PositionRecord]) -> list[str]:
    orders = [row for row in rows.orders.values() if row.user_id == trader.id and row.status in LIVE_ORDERS]
    lines = [
        f"unsettled: {row.client_order_id} is {row.status.value}" for row in orders if row.status.value != "AWAITING_APPROVAL"
    ]
    owned = {row.symbol for row in live} | {row.symbol for row in orders}
    claims = [claim for claim in rows.claims.values() if (claim.user_id, claim.mode) == (trader.id, Mode.REAL)]
    return lines + [f"unsettled: {claim.symbol} stays claimed" for claim in claims if claim.symbol not in owned]


def _entered_after(account: Account, leave: Leave) -> list[str]:
    """The exchange's own moments: an order that it took while the user was away, and that nobody had sent before."""
    return [
        f"left: {order.client_id} entered {order.symbol} {order.created_ms - leave.since} ms after its user had left"
        for order in account.orders.values()
        if order.client_id.startswith("nt-e-")
        and order.client_id not in leave.sent
        and order.created_ms > leave.since
        and (leave.until is None or order.created_ms < leave.until)
    ]


def _spans(found: Judgement, trading: Trading, account: Account, now: int, thin: Mapping[str, tuple[int, int]]) -> None:
    vigil = trading.herald.vigil
    for span in vigil.told(account.key):
        until = vigil.wall(now) if span.until is None else span.until.wall_ms
        counted = until - span.since.wall_ms - vigil.refused_ms(account.key, span.since.wall_ms, until)
        begun, ended = thin.get(span.symbol, (0, 0))
        counted -= max(0, min(until, ended) - max(span.since.wall_ms, begun))
        if counted > max(found.unprotected_ms, default=0):
            found.longest = f"{span.symbol} {span.quantity} for {counted} ms from {span.since.wall_ms}"
        found.unprotected_ms.append(counted)
