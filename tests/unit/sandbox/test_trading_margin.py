"""Margin: what positions and orders tie up, what the exchange refuses, when it closes by force, and what funding does."""

from decimal import Decimal

import pytest

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account_settings import set_hedge, set_leverage, set_margin_type
from deploy.sandbox.core.errors import Rejected
from shared.enums import Side
from shared.margin import ZERO, bracket_for, liquidation_price
from tests.unit.sandbox.trading_board import SYMBOL, Floor


def isolated(wallet: str = "10000", leverage: int = 10) -> Floor:
    floor = Floor(wallet)
    set_margin_type(floor.ada, SYMBOL, isolated=True)
    set_leverage(floor.ada, SYMBOL, leverage, floor.trading.marks(floor.now))
    return floor


def free(floor: Floor) -> Decimal:
    return margins.available(floor.ada, floor.trading.marks(floor.now))


def test_an_isolated_position_sets_its_margin_apart() -> None:
    floor = isolated()
    floor.order(quantity="0.1")
    position = floor.ada.position(SYMBOL, "BOTH")
    assert position.isolated_wallet == Decimal("500.001")
    floor.move("51000")
    assert free(floor) == 10000 - Decimal("500.001") - Decimal("2.500005")
    floor.order(side="SELL", quantity="0.05", reduceOnly="true")
    assert position.isolated_wallet == Decimal("250.0005")


def test_the_liquidation_price_is_the_one_both_services_compute() -> None:
    floor = isolated()
    floor.order(quantity="0.1")
    position = floor.ada.position(SYMBOL, "BOTH")
    bracket = bracket_for([margins.tier(SYMBOL, Decimal(5000))], Decimal(5000))
    ours = margins.liquidation_price(floor.ada, position, floor.trading.marks(floor.now))
    shared = liquidation_price(Side.LONG, Decimal("0.1"), position.entry_price, position.isolated_wallet, bracket)
    assert ours == pytest.approx(shared)


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_an_isolated_liquidation_loses_its_margin_and_never_more(side: str) -> None:
    floor = isolated()
    floor.order(side=side, quantity="0.1")
    resting = floor.limit(side, "49000" if side == "BUY" else "51000", "0.01")
    paid, margin = floor.ada.trades[0].fee, floor.ada.position(SYMBOL, "BOTH").isolated_wallet
    [forced] = floor.move("44000" if side == "BUY" else "56000", quantity="0")
    assert (forced.side, forced.quantity) == ("SELL" if side == "BUY" else "BUY", Decimal("0.1"))
    assert (floor.held(), resting.status) == (ZERO, "EXPIRED")
    assert floor.ada.wallet == 10000 - paid - margin
    assert floor.trading.clearing.insurance < 0
    assert floor.imbalance() == 0


def test_a_liquidation_in_time_pays_its_fee_to_the_fund() -> None:
    floor = isolated()
    floor.order(quantity="0.1")
    price = margins.liquidation_price(floor.ada, floor.ada.position(SYMBOL, "BOTH"), floor.trading.marks(floor.now))
    assert floor.move(str(price.quantize(Decimal("0.1")) + 1)) == []
    [forced] = floor.move(str(price.quantize(Decimal("0.1")) - 1))
    order = next(order for order in floor.ada.orders.values() if order.client_id.startswith("autoclose-"))
    assert (order.status, order.executed) == ("FILLED", forced.quantity)
    assert 0 < floor.trading.clearing.insurance <= order.quote * Decimal("0.0125")
    assert [item.kind for item in floor.ada.incomes][-1] == "INSURANCE_CLEAR"


def test_a_cross_account_is_liquidated_as_a_whole_and_ends_at_nothing_less() -> None:
    floor = Floor("1000")
    floor.order(quantity="0.1")
    floor.order(symbol="ETHUSDT", quantity="1")
    assert floor.move("41500") == []
    assert len(floor.move("38000")) == 2
    assert (floor.ada.held(), floor.ada.wallet) == ([], ZERO)
    assert floor.imbalance() == 0


def test_resting_orders_tie_up_only_the_larger_way() -> None:
    floor = Floor()
    floor.limit("BUY", "49000", "0.1")
    tied = Decimal("4900") / 20
    assert free(floor) == 10000 - tied
    floor.limit("SELL", "51000", "0.05")
    assert free(floor) == 10000 - tied
    floor.limit("SELL", "51000", "0.05")
    assert free(floor) == 10000 - Decimal("5100") / 20


def test_a_larger_position_than_the_leverage_allows_is_refused() -> None:
    floor = Floor("1000000", "50000")
    set_leverage(floor.ada, SYMBOL, 150, floor.trading.marks(floor.now))
    floor.limit("BUY", "49900", "5")
    with pytest.raises(Rejected) as refusal:
        floor.limit("BUY", "49900", "1.1")
    assert refusal.value.code == -2027


def test_settings_change_only_where_nothing_stands_in_the_way() -> None:
    floor = isolated()
    marks = floor.trading.marks(floor.now)

    def refused(change: object) -> int:
        with pytest.raises(Rejected) as refusal:
            change()  # type: ignore[operator]
        return refusal.value.code

    assert refused(lambda: set_margin_type(floor.ada, SYMBOL, isolated=True)) == -4046
    assert refused(lambda: set_hedge(floor.ada, hedge=False)) == -4059
    assert refused(lambda: set_leverage(floor.ada, SYMBOL, 151, marks)) == -4028
    assert refused(lambda: set_leverage(floor.ada, SYMBOL, 0, marks)) == -4028
    order = floor.limit("BUY", "49000")
    assert refused(lambda: set_margin_type(floor.ada, SYMBOL, isolated=False)) == -4047
    assert refused(lambda: set_hedge(floor.ada, hedge=True)) == -4067
    floor.trading.cancel(floor.ada, order, floor.now)
    floor.order()
    assert refused(lambda: set_margin_type(floor.ada, SYMBOL, isolated=False)) == -4048
    assert refused(lambda: set_hedge(floor.ada, hedge=True)) == -4068
    assert refused(lambda: set_leverage(floor.ada, SYMBOL, 5, marks)) == -4161


def test_lower_leverage_needs_the_margin() -> None:
    floor = Floor("1000")
    floor.order(quantity="0.3")
    with pytest.raises(Rejected) as refusal:
        set_leverage(floor.ada, SYMBOL, 10, floor.trading.marks(floor.now))
    assert (refusal.value.code, floor.ada.of(SYMBOL).leverage) == (-2028, 20)


def test_hedge_mode_keeps_both_sides_apart() -> None:
    floor = Floor()
    set_hedge(floor.ada, hedge=True)
    floor.order(positionSide="LONG")
    floor.order(side="SELL", positionSide="SHORT", quantity="0.05")
    assert (floor.held(side="LONG"), floor.held(side="SHORT")) == (Decimal("0.1"), Decimal("-0.05"))
    for given, refused in (
        ({"positionSide": "BOTH"}, -4061),
        ({"positionSide": "SHORT", "quantity": "0.06"}, -2022),
        ({"positionSide": "SHORT", "reduceOnly": "true"}, -1106),
    ):
        with pytest.raises(Rejected) as refusal:
            floor.order(**given)
        assert refusal.value.code == refused
    floor.order(positionSide="SHORT", quantity="0.05")
    assert (floor.held(side="SHORT"), floor.imbalance()) == (ZERO, ZERO)


def test_funding_is_paid_by_the_long_out_of_the_position_that_owes_it() -> None:
    floor = isolated()
    floor.order(quantity="0.1")
    before, margin = floor.ada.wallet, floor.ada.position(SYMBOL, "BOTH").isolated_wallet
    floor.board.pay_funding(SYMBOL, Decimal("0.0001"), floor.now + 1)
    floor.move("50000")
    assert floor.ada.wallet - before == floor.ada.position(SYMBOL, "BOTH").isolated_wallet - margin == Decimal("-0.5")
    assert floor.ada.incomes[-1].kind == "FUNDING_FEE"
    assert floor.imbalance() == 0


def test_a_position_is_closed_even_where_nothing_is_free() -> None:
    floor = Floor("1000")
    floor.order(quantity="0.3")
    floor.move("49100")
    assert free(floor) == ZERO
    floor.order(side="SELL", quantity="0.3")
    assert (floor.held(), floor.imbalance()) == (ZERO, ZERO)
