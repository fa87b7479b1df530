"""How far back an account's history is told, and in which pages."""

import pytest

from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.history import forgotten, incomes_shown, orders_shown, trades_shown, week
from deploy.sandbox.core.intervals import DAY_MS
from deploy.sandbox.core.query import Query
from tests.unit.sandbox.trading_board import Floor


def test_an_unfilled_order_is_forgotten_after_three_days_and_a_filled_one_is_not() -> None:
    floor = Floor()
    canceled = floor.limit("BUY", "49000")
    floor.trading.cancel(floor.ada, canceled, floor.now)
    filled, resting = floor.order(), floor.limit("BUY", "48000")
    later = floor.now + 3 * DAY_MS + 1
    assert [forgotten(order, later - 1) for order in (canceled, filled, resting)] == [False, False, False]
    assert [forgotten(order, later) for order in (canceled, filled, resting)] == [True, False, False]
    shown = orders_shown(list(floor.ada.orders.values()), Query({}), later)
    assert [order.id for order in shown] == [filled.id, resting.id]


def test_a_reply_is_of_a_week_at_most() -> None:
    now = 100 * DAY_MS
    assert week(Query({}), now) == (93 * DAY_MS, now)
    assert week(Query({"startTime": str(10 * DAY_MS)}), now) == (10 * DAY_MS, 17 * DAY_MS)
    assert week(Query({"endTime": str(50 * DAY_MS)}), now) == (43 * DAY_MS, 50 * DAY_MS)
    with pytest.raises(Rejected) as refusal:
        week(Query({"startTime": "0", "endTime": str(8 * DAY_MS)}), now)
    assert refusal.value.code == -1127


def test_trades_are_told_by_order_by_id_and_by_time() -> None:
    floor = Floor()
    first = floor.order()
    floor.move("50001")
    second = floor.order()
    trades = floor.ada.trades
    now = floor.now
    assert [t.order_id for t in trades_shown(trades, Query({}), now)] == [first.id, second.id]
    assert [t.order_id for t in trades_shown(trades, Query({"orderId": str(first.id)}), now + 30 * DAY_MS)] == [first.id]
    assert trades_shown(trades, Query({"fromId": str(trades[1].id)}), now) == trades[1:]
    assert trades_shown(trades, Query({"startTime": str(now)}), now) == trades[1:]
    assert trades_shown(trades, Query({"limit": "1"}), now) == trades[1:]
    assert trades_shown(trades, Query({}), now + 8 * DAY_MS) == []
    with pytest.raises(Rejected):
        trades_shown(trades, Query({"fromId": "1", "startTime": "1"}), now)


def test_the_money_history_comes_in_pages() -> None:
    floor = Floor()
    for _ in range(3):
        floor.order()
    incomes = floor.ada.incomes
    assert len(incomes) == 4
    pages = [incomes_shown(incomes, Query({"limit": "3", "page": str(n), "startTime": "0"}), floor.now) for n in (1, 2, 3)]
    assert [len(page) for page in pages] == [3, 1, 0]
    assert [*pages[0], *pages[1]] == incomes
    assert incomes_shown(incomes, Query({"limit": "2"}), floor.now) == incomes[-2:]
