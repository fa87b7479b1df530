"""What a caller of POST /execute/entry sees: a fill to the cent, or one reason."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.execution.entry import enter
from shared.enums import BracketsSource, ExecutionStatus, Side
from shared.execution import EntryRequest, ExecutionReport, OrderSide
from shared.margin import Bracket, bracket_for, maintenance_margin, price_pnl
from tests.unit.engine.execution_desk import BTC_MARK, NOW, World, entry, held, paper, real, refusal_of


async def refused(request: EntryRequest, world: World | None = None) -> str:
    report = await enter((world or World()).desk, request)
    assert report.status is ExecutionStatus.REFUSED
    return refusal_of(report)


async def filled(request: EntryRequest, world: World | None = None) -> ExecutionReport:
    report = await enter((world or World()).desk, request)
    assert report.status is ExecutionStatus.FILLED, report.refusal
    return report


async def test_a_paper_long_fills_at_the_best_ask_to_the_cent() -> None:
    report = await filled(entry())

    # 600 / 60,000.1 = 0.009999..., down to 0.009: 540.0009 USDT, a twentieth of it as margin, five basis points as fee.
    (fill,) = report.fills
    assert (fill.price, fill.quantity) == (Decimal("60000.1"), Decimal("0.009"))
    assert fill.fee == Decimal("0.27000045")
    assert fill.at == NOW
    assert fill.trade_id == "e-1-1"
    assert report.margin == Decimal("27.00004500")
    assert report.venue == "paper"
    assert report.dry_run is False
    assert report.order_side is OrderSide.BUY
    assert report.unchecked == []


async def test_a_paper_short_sells_at_the_best_bid() -> None:
    report = await filled(entry(side=Side.SHORT))

    assert report.order_side is OrderSide.SELL
    assert report.average_price == Decimal("60000.0")
    assert report.filled_quantity == Decimal("0.010")


async def test_a_fill_brings_its_protection_with_it() -> None:
    report = await filled(entry(stop_loss=Decimal("59400.04")))

    assert report.protection is not None
    assert report.protection.stop_loss == Decimal("59400.0")
    assert report.protection.take_profit == Decimal("61200.0")
    assert report.protection.confirmed_at == NOW
    assert report.unprotected_seconds == 0


async def test_an_order_beyond_the_first_level_pays_the_next_ones() -> None:
    report = await filled(entry(amount_usdt=Decimal(60_000), account=paper(balance="100000")))

    assert [(fill.price, fill.quantity) for fill in report.fills] == [
        (Decimal("60000.1"), Decimal("0.5")),
        (Decimal("60000.5"), Decimal("0.499")),
    ]
    assert [fill.trade_id for fill in report.fills] == ["e-1-1", "e-1-2"]


async def test_the_reported_liquidation_price_is_where_margin_balance_meets_maintenance() -> None:
    report = await filled(entry())

    assert report.liquidation_price is not None
    assert report.average_price is not None
    assert report.margin is not None
    assert report.maintenance_ratio == Decimal("0.004")
    assert report.maintenance_amount == 0
    assert report.brackets_source is BracketsSource.RECORDED
    balance = report.margin + price_pnl(Side.LONG, report.filled_quantity, report.average_price, report.liquidation_price)
    tier = Bracket(
        floor=Decimal(0),
        cap=Decimal(300_000),
        max_leverage=150,
        maintenance_ratio=report.maintenance_ratio,
        cum=report.maintenance_amount,
    )
    maintenance = maintenance_margin(report.filled_quantity * report.liquidation_price, bracket_for([tier], Decimal(540)))
    assert abs(balance - maintenance) < Decimal("0.000001")


async def test_many_levels_are_told_as_a_few_trades_that_add_up() -> None:
    world = World()
    world.set_book(asks=tuple((Decimal(60000) + Decimal(n) / 10, Decimal("0.1")) for n in range(1, 15)))

    report = await filled(entry(amount_usdt=Decimal(60_000), account=paper(balance="100000")), world)

    assert len(report.fills) == 4
    assert sum(fill.quantity for fill in report.fills) == report.filled_quantity == Decimal("0.999")


@given(st.decimals(min_value=100, max_value=300_000, places=2), st.sampled_from(Side))
async def test_the_notional_filled_never_exceeds_the_notional_asked_for(amount: Decimal, side: Side) -> None:
    report = await filled(entry(amount_usdt=amount, side=side, account=paper(balance="1000000")))

    assert sum(fill.price * fill.quantity for fill in report.fills) <= amount


async def test_an_unknown_symbol_is_refused() -> None:
    assert await refused(entry(symbol="NOSUCHUSDT")) == "unknown_symbol"


@pytest.mark.parametrize(
    "rules", [{"status": "SETTLING"}, {"contract_type": "CURRENT_QUARTER"}, {"quote_asset": "USDC"}], ids=str
)
async def test_a_symbol_that_does_not_trade_is_refused(rules: dict[str, str]) -> None:
    world = World()
    world.set_rules(**rules)

    assert await refused(entry(), world) == "symbol_not_trading"


async def test_nothing_is_bought_while_the_exchange_does_not_answer() -> None:
    world = World()
    world.market.down = True

    assert await refused(entry(), world) == "market_data_unavailable"


async def test_nothing_is_bought_at_a_price_older_than_five_seconds() -> None:
    world = World()
    world.clock.pass_wall(timedelta(milliseconds=5001))

    assert await refused(entry(), world) == "stale_price"


async def test_a_notional_below_the_symbols_least_is_refused() -> None:
    # 100 USDT would round down to 60: above 50. 61 USDT buys 0.001 = 60.0001. The mark decides too.
    world = World()
    world.market.mark_now = msgspec.structs.replace(BTC_MARK, price=Decimal(59_990))
    world.set_rules(min_notional=Decimal("59.995"))

    assert await refused(entry(amount_usdt=Decimal(61)), world) == "below_min_notional"


async def test_five_usdt_is_the_least_even_where_the_symbol_would_allow_less() -> None:
    world = World()
    world.set_rules(min_notional=Decimal(1), step_size=Decimal("0.00001"), min_quantity=Decimal("0.00001"))
    world.set_rules(market_min_quantity=Decimal("0.00001"))

    assert await refused(entry(amount_usdt=Decimal("4.99")), world) == "below_min_notional"


async def test_an_amount_that_rounds_down_to_nothing_is_refused() -> None:
    assert await refused(entry(amount_usdt=Decimal(59))) == "below_min_quantity"


async def test_a_negative_amount_is_refused() -> None:
    assert await refused(entry(amount_usdt=Decimal(-600))) == "below_min_quantity"


async def test_a_quantity_above_the_market_orders_limit_is_refused() -> None:
    world = World()
    world.set_rules(market_max_quantity=Decimal("0.008"))

    assert await refused(entry(), world) == "above_max_quantity"


async def test_a_leverage_above_the_bracket_of_that_notional_is_refused() -> None:
    # Up to 300,000 USDT the recorded tiers allow 150x, above it 100x.
    account = paper(balance="1000000")
    big = entry(account, amount_usdt=Decimal(320_000), leverage=Decimal(101), stop_loss=Decimal(59_800))

    assert await refused(big) == "leverage_above_bracket"


@pytest.mark.parametrize("signal_price", ["59600", "60400"])
async def test_a_market_that_ran_away_from_the_signal_is_not_chased(signal_price: str) -> None:
    assert await refused(entry(signal_price=Decimal(signal_price))) == "price_drifted"


async def test_a_drift_of_more_than_half_the_way_to_the_stop_is_too_much() -> None:
    near = entry(signal_price=Decimal(60_100), stop_loss=Decimal(59_950), take_profit=Decimal(60_500))

    assert await refused(near) == "price_drifted"


@pytest.mark.parametrize(("side", "stop"), [(Side.LONG, "60100"), (Side.SHORT, "59900"), (Side.LONG, "0")])
async def test_a_stop_on_the_wrong_side_of_the_fill_is_refused(side: Side, stop: str) -> None:
    request = entry(side=side, stop_loss=Decimal(stop), signal_price=Decimal("60000.05"))

    assert await refused(request) == "wrong_side_stop"


@pytest.mark.parametrize(("side", "target"), [(Side.LONG, "59900"), (Side.SHORT, "60100"), (Side.SHORT, "0")])
async def test_a_target_on_the_wrong_side_of_the_fill_is_refused(side: Side, target: str) -> None:
    assert await refused(entry(side=side, take_profit=Decimal(target))) == "wrong_side_target"


async def test_a_stop_that_liquidation_would_come_before_is_refused() -> None:
    assert await refused(entry(leverage=Decimal(100), stop_loss=Decimal(59_400))) == "stop_beyond_liquidation"


async def test_a_book_that_does_not_hold_the_quantity_is_too_thin() -> None:
    assert await refused(entry(paper(balance="1000000"), amount_usdt=Decimal(600_000))) == "thin_book"


async def test_a_book_that_would_slip_by_more_than_half_a_percent_is_too_thin() -> None:
    world = World()
    world.set_book(asks=((Decimal("60000.1"), Decimal("0.001")), (Decimal(61000), Decimal(9))))

    assert await refused(entry(), world) == "thin_book"


async def test_an_empty_book_is_too_thin() -> None:
    world = World()
    world.set_book(asks=())

    assert await refused(entry(), world) == "thin_book"


async def test_a_price_outside_the_bounds_around_the_mark_is_refused() -> None:
    world = World()
    world.market.mark_now = msgspec.structs.replace(BTC_MARK, price=Decimal(57_000))

    assert await refused(entry(), world) == "outside_price_bounds"


async def test_margin_and_fee_must_fit_into_what_is_free() -> None:
    # The entry needs 27.000045 + 0.27000045 USDT.
    assert await refused(entry(paper(balance="27.27004544"))) == "not_enough_margin"
    assert (await filled(entry(paper(balance="27.27004545")))).margin == Decimal("27.000045")


async def test_margins_in_use_are_not_free() -> None:
    other = held(symbol="ETHUSDT", margin=Decimal(980))

    assert await refused(entry(paper(other, balance="1000"))) == "not_enough_margin"


@pytest.mark.parametrize("side", list(Side))
async def test_an_entry_never_adds_to_or_turns_an_open_position(side: Side) -> None:
    assert await refused(entry(paper(held()), side=side)) == "position_open"


async def test_a_dry_run_is_simulated_as_the_exchange_would_fill_and_names_what_it_could_not_check() -> None:
    report = await filled(entry(real(dry_run=True)))

    assert report.venue == "binance"
    assert report.dry_run is True
    assert report.average_price == Decimal("60000.1")
    assert report.protection is not None
    assert "free_margin" in report.unchecked
    assert "account_brackets" in report.unchecked


async def test_an_entry_is_dry_where_only_the_engine_says_so() -> None:
    report = await filled(entry(real(dry_run=False)), World(dry_run=True))

    assert report.dry_run is True


async def test_an_entry_is_dry_where_only_the_request_says_so() -> None:
    report = await filled(entry(real(dry_run=True)), World(dry_run=False))

    assert report.dry_run is True


async def test_real_money_is_refused_clearly_until_it_can_be_traded() -> None:
    world = World(dry_run=False)

    assert await refused(entry(real(dry_run=False)), world) == "no_credentials"
    assert world.market.asked == 0


async def test_a_refused_dry_run_shares_the_checks() -> None:
    assert await refused(entry(real(dry_run=True), stop_loss=Decimal(60_100))) == "wrong_side_stop"
