"""Each limit of risk refuses with its own reason; what passes never exceeds what the user allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.order import Refusal, RefusalReason
from orchestrator.core.risk import AccountState, OrderIntent, Plan, size_entry
from shared.enums import Side
from shared.margin import floor_to_step
from tests.builders import d, instrument, trader

PLAN: dict[str, Any] = {
    "symbol": "SOLUSDT",
    "side": Side.LONG,
    "price": d(100),
    "stop_loss": d(98),
    "instrument": instrument(),
}
ACCOUNT: dict[str, Any] = {
    "balance": d(10_000),
    "fresh": True,
    "margin_in_use": d(0),
    "margin_claimed": d(0),
    "exposure": d(0),
    "positions": 0,
    "today": d(0),
}


def answer(plan: dict[str, Any] | None = None, account: dict[str, Any] | None = None, **settings: Any) -> OrderIntent | Refusal:
    return size_entry(Plan(**(PLAN | (plan or {}))), trader(**settings), AccountState(**(ACCOUNT | (account or {}))))


def test_notional_is_margin_times_leverage() -> None:
    intent = answer()
    assert isinstance(intent, OrderIntent)
    assert (intent.margin, intent.notional, intent.leverage) == (d(100), d(1000), d(10))


@pytest.mark.parametrize(
    ("reason", "plan", "account", "settings"),
    [
        (RefusalReason.BALANCE_UNKNOWN, {}, {"balance": None, "fresh": False}, {}),
        (RefusalReason.BALANCE_STALE, {}, {"fresh": False}, {}),
        (RefusalReason.DAILY_LOSS_REACHED, {}, {"today": d(-500)}, {}),
        (RefusalReason.TOO_MANY_POSITIONS, {}, {"positions": 10}, {}),
        (RefusalReason.LEVERAGE_ABOVE_BRACKET, {}, {}, {"leverage": d(51)}),
        (RefusalReason.LEVERAGE_ABOVE_BRACKET, {}, {}, {"leverage": d(21), "fixed_order_size": d(3000)}),
        (RefusalReason.LEVERAGE_ABOVE_BRACKET, {}, {}, {"leverage": d(1), "fixed_order_size": d(250_001)}),
        (RefusalReason.BELOW_MIN_NOTIONAL, {}, {}, {"fixed_order_size": d(1), "leverage": d(4)}),
        (RefusalReason.BELOW_MIN_NOTIONAL, {"instrument": instrument(min_notional=d(1001))}, {}, {}),
        (RefusalReason.BELOW_MIN_NOTIONAL, {"instrument": instrument(min_quantity=d(11))}, {}, {}),
        (RefusalReason.NOT_ENOUGH_MARGIN, {}, {"balance": d("100.49")}, {}),
        (RefusalReason.NOT_ENOUGH_MARGIN, {}, {"margin_in_use": d(9900)}, {}),
        (RefusalReason.NOT_ENOUGH_MARGIN, {}, {"margin_claimed": d(9900)}, {}),
        (RefusalReason.TOO_MUCH_EXPOSURE, {}, {"exposure": d("19000.01")}, {}),
        (RefusalReason.STOP_BEYOND_LIQUIDATION, {"stop_loss": d("93.6")}, {}, {}),
        (RefusalReason.STOP_BEYOND_LIQUIDATION, {"stop_loss": d(101)}, {}, {}),
        (RefusalReason.STOP_BEYOND_LIQUIDATION, {"side": Side.SHORT, "stop_loss": d("106.3")}, {}, {}),
    ],
)
def test_each_limit_refuses_with_its_reason(
    reason: RefusalReason, plan: dict[str, Any], account: dict[str, Any], settings: dict[str, Any]
) -> None:
    refusal = answer(plan, account, **settings)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason
    assert refusal.detail


@pytest.mark.parametrize(
    ("plan", "account"),
    [
        ({}, {"balance": d("100.5")}),
        ({}, {"margin_in_use": d("9899.5")}),
        ({}, {"exposure": d(19_000)}),
        ({}, {"today": d("-499.99")}),
        ({}, {"positions": 9}),
        ({"stop_loss": d("93.64")}, {}),
    ],
)
def test_at_the_limit_itself_an_entry_is_allowed(plan: dict[str, Any], account: dict[str, Any]) -> None:
    """The stop of the last case is 6.36 away, 0.7 of the 9.09 to the liquidation price at 90.91."""
    assert isinstance(answer(plan, account), OrderIntent)


@given(
    margin=st.decimals("1", "1000", places=2),
    leverage=st.integers(1, 50),
    price=st.decimals("0.0001", "50000", places=4),
    step=st.sampled_from(["0.001", "0.1", "1", "10"]),
)
def test_rounding_never_exceeds_the_notional(margin: Any, leverage: int, price: Any, step: str) -> None:
    notional = margin * leverage
    assert floor_to_step(notional / price, d(step)) * price <= notional
