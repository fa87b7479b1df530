"""The life of an order is a table, and its id at the venue follows from its row."""

import re
from uuid import uuid4

import pytest

from orchestrator.core.order import LIVE, ORDER_TRANSITIONS, OrderPurpose, OrderStatus, client_order_id, may_become
from shared.execution import CLIENT_ORDER_ID


def test_every_status_has_its_row_in_the_table() -> None:
    assert set(ORDER_TRANSITIONS) == set(OrderStatus)


def test_what_is_not_live_never_changes_again() -> None:
    final = set(OrderStatus) - LIVE - {OrderStatus.REFUSED}
    assert all(not ORDER_TRANSITIONS[status] for status in final)
    assert not any(may_become(status, other) for status in final for other in OrderStatus)


def test_a_refused_order_is_final_unless_the_exchange_shows_a_trade_of_it() -> None:
    assert ORDER_TRANSITIONS[OrderStatus.REFUSED] == {OrderStatus.FILLED}


@pytest.mark.parametrize(
    ("status", "to"),
    [
        (OrderStatus.AWAITING_APPROVAL, OrderStatus.SENT),
        (OrderStatus.AWAITING_APPROVAL, OrderStatus.FILLED),
        (OrderStatus.CLAIMED, OrderStatus.FILLED),
        (OrderStatus.SENT, OrderStatus.CLAIMED),
        (OrderStatus.UNKNOWN, OrderStatus.SENT),
        (OrderStatus.SENT, OrderStatus.EXPIRED),
    ],
)
def test_no_step_is_skipped_or_taken_back(status: OrderStatus, to: OrderStatus) -> None:
    assert not may_become(status, to)


def test_a_live_order_may_change_its_carrier() -> None:
    assert all(may_become(status, status) for status in LIVE)


def test_the_id_at_the_venue_is_deterministic_and_fits_its_pattern() -> None:
    order_id = uuid4()
    entry, close = (client_order_id(purpose, order_id.bytes) for purpose in OrderPurpose)
    assert entry == client_order_id(OrderPurpose.ENTRY, order_id.bytes)
    assert entry.startswith("nt-e-")
    assert close.startswith("nt-c-")
    assert len(entry) == len("nt-e-") + 26
    assert re.match(CLIENT_ORDER_ID, entry)
    assert re.match(CLIENT_ORDER_ID, close)
