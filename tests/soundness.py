"""What must hold of the rows at any moment at rest, whatever happened before: used after every crash and every random walk."""

from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import LIVE as LIVE_ORDERS
from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.position import LIVE, PositionStatus, Trade, replay
from orchestrator.ports import PositionRecord
from shared.enums import Mode
from shared.margin import ZERO
from tests.fakes import Rows


def assert_sound(rows: Rows) -> None:
    """Ledger, claims, orders, fills and positions agree with each other, row by row."""
    for trader in rows.traders.values():
        assert_ledger_balances(rows, trader.id)
    assert_claims_are_held(rows)
    assert_fills_make_positions(rows)


def assert_ledger_balances(rows: Rows, user_id: UUID) -> None:
    entries = [row for row in rows.ledger if (row.user_id, row.mode) == (user_id, Mode.PAPER)]
    balance = sum((entry.amount for entry in entries), ZERO)
    assert balance == rows.traders[user_id].paper_balance
    running = ZERO
    for entry in entries:
        running += entry.amount
        assert entry.balance_after == running
    assert balance == _from_fills(rows, user_id)


def assert_claims_are_held(rows: Rows) -> None:
    """A claim for each live entry and each live position, and no other."""
    live = Counter((row.user_id, row.symbol, row.mode) for row in rows.live())
    assert all(count == 1 for count in live.values()), "a position is doubled"
    entries = {
        (row.user_id, row.symbol, row.mode)
        for row in rows.orders.values()
        if row.purpose is OrderPurpose.ENTRY and row.status in LIVE_ORDERS
    }
    assert set(rows.claims) == set(live) | entries
    assert all(claim.order_id in rows.orders for claim in rows.claims.values())


def assert_fills_make_positions(rows: Rows) -> None:
    for order in rows.orders.values():
        fills = [row for row in rows.fills.values() if row.order_id == order.id]
        assert bool(fills) == (order.status is OrderStatus.FILLED), order
    for position in rows.positions.values():
        fills = [row for row in rows.fills.values() if row.position_id == position.id]
        holding = replay(position.side, [_trade(fill) for fill in fills])
        assert (position.size, position.opened_size) == (holding.size, holding.opened_size)
        assert position.entry_price == holding.entry_price
        assert position.status in LIVE or position.size == 0
        assert position.stop_loss is not None
        _assert_pnl(rows, position)


def assert_at_rest(rows: Rows) -> None:
    """Sound, and nothing is left for settling."""
    assert_sound(rows)
    final = (OrderStatus.FILLED, OrderStatus.REFUSED, OrderStatus.DECLINED, OrderStatus.EXPIRED, OrderStatus.AWAITING_APPROVAL)
    assert all(order.status in final for order in rows.orders.values())
    assert all(position.status is not PositionStatus.CLOSING for position in rows.positions.values())


def _assert_pnl(rows: Rows, position: PositionRecord) -> None:
    booked = sum((row.amount for row in rows.ledger if row.position_id == position.id), ZERO)
    assert booked == position.realized_pnl - position.fees + position.funding
    if position.status not in LIVE:
        assert position.pnl == booked
        assert (position.status is PositionStatus.CLOSED_WIN) == (booked > 0)


def _from_fills(rows: Rows, user_id: UUID) -> Decimal:
    """The balance recomputed from deposits, fills and funding, without reading any balance."""
    deposits = sum((row.amount for row in rows.ledger if row.user_id == user_id and row.kind is EntryKind.DEPOSIT), ZERO)
    fills = [row for row in rows.fills.values() if row.user_id == user_id]
    traded = sum((fill.realized_pnl - fill.fee - fill.liquidation_fee for fill in fills), ZERO)
    funded = sum((row.amount for row in rows.fundings.values() if row.user_id == user_id), ZERO)
    return deposits + traded + funded


def _trade(fill: Any) -> Trade:
    return Trade(trade_id=fill.trade_id, opens=fill.opens, price=fill.price, quantity=fill.quantity, fee=fill.fee, at=fill.at)
