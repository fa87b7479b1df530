"""Ids follow from the request's, fit the exchange, and never meet those of another request."""

import re

from hypothesis import given
from hypothesis import strategies as st

from engine.execution.ids import OURS, emergency_id, numbered, stop_id, target_id, trailing_id
from shared.execution import CLIENT_ORDER_ID

ORDERS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=26, max_size=26)


def test_the_family_of_a_request() -> None:
    assert [of("nt-e-X") for of in (stop_id, target_id, trailing_id, emergency_id)] == ["nt-s-X", "nt-t-X", "nt-r-X", "nt-x-X"]
    assert stop_id("nt-p-Y") == "nt-s-Y"


@given(one=ORDERS, other=ORDERS)
def test_every_id_is_ours_fits_the_exchange_and_belongs_to_one_request(one: str, other: str) -> None:
    def family(order: str) -> set[str]:
        request = f"nt-e-{order}"
        tries = {numbered(emergency_id(request), attempt) for attempt in range(1, 10)}
        return {stop_id(request), target_id(request), trailing_id(request)} | tries

    assert len(family(one)) == 12
    assert all(re.match(CLIENT_ORDER_ID, order_id) and order_id.startswith(OURS) for order_id in family(one))
    assert one == other or not family(one) & family(other)


@given(prefix=st.text(alphabet="ABC-nt", min_size=30, max_size=30), number=st.integers(min_value=1, max_value=60))
def test_a_panics_longest_prefix_leaves_room_for_every_position_and_try(prefix: str, number: int) -> None:
    ids = {numbered(f"{prefix}-{number}", attempt) for attempt in range(1, 10)}

    assert len(ids) == 9
    assert all(len(order_id) <= 36 for order_id in ids)
    assert all(order_id.startswith(f"{prefix}-{number}") for order_id in ids)
