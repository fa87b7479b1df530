"""What a caller of POST /execute/close sees: reduce-only always, at the live market or at a trigger, to the cent."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.market import ms_of
from engine.execution.close import close
from shared.enums import ExecutionStatus, Side, TriggerKind
from shared.execution import CloseRequest, ExecutionReport, OrderSide, Trigger
from shared.margin import price_pnl
from tests.unit.engine.execution_desk import NOW, World, closing, held, paper, real, refusal_of

THEN = NOW - timedelta(minutes=40)


async def refused(request: CloseRequest, world: World | None = None) -> str:
    report = await close((world or World()).desk, request)
    assert report.status is ExecutionStatus.REFUSED
    return refusal_of(report)


async def filled(request: CloseRequest, world: World | None = None) -> ExecutionReport:
    report = await close((world or World()).desk, request)
    assert report.status is ExecutionStatus.FILLED, report.refusal
    assert report.reduce_only
    return report


def trigger(kind: TriggerKind, price: str, bar_open: str | None = None) -> Trigger:
    return Trigger(kind=kind, price=Decimal(price), at=THEN, bar_open=Decimal(bar_open) if bar_open else None)


async def test_closing_without_a_quantity_sells_all_of_a_long_at_the_best_bid() -> None:
    report = await filled(closing(paper(held())))

    (fill,) = report.fills
    assert report.order_side is OrderSide.SELL
    assert (fill.price, fill.quantity, fill.fee) == (Decimal("60000.0"), Decimal("0.01"), Decimal("0.30000000"))
    assert fill.trade_id == "c-1-1"
    assert report.leverage == 20


async def test_closing_a_short_buys_at_the_best_ask() -> None:
    report = await filled(closing(paper(held(Side.SHORT)), Side.SHORT))

    assert report.order_side is OrderSide.BUY
    assert report.average_price == Decimal("60000.1")


async def test_a_part_is_rounded_down_to_the_step() -> None:
    report = await filled(closing(paper(held()), quantity=Decimal("0.0049")))

    assert report.filled_quantity == Decimal("0.004")


async def test_more_than_the_position_is_cut_down_to_it() -> None:
    report = await filled(closing(paper(held()), quantity=Decimal(5)))

    assert report.filled_quantity == Decimal("0.01")


async def test_a_position_below_the_least_notional_can_still_be_closed() -> None:
    report = await filled(closing(paper(held(quantity="0.0005"))))

    assert report.filled_quantity == Decimal("0.0005")


async def test_less_than_a_step_is_refused() -> None:
    assert await refused(closing(paper(held()), quantity=Decimal("0.0009"))) == "below_min_quantity"


async def test_a_close_without_a_position_is_refused() -> None:
    assert await refused(closing(paper())) == "no_position"


async def test_a_close_never_opens_the_other_side() -> None:
    assert await refused(closing(paper(held(Side.SHORT)), Side.LONG)) == "no_position"


async def test_a_close_at_a_stale_book_is_refused_and_may_come_again_under_its_id() -> None:
    world = World()
    world.clock.pass_wall(timedelta(seconds=6))
    assert await refused(closing(paper(held())), world) == "stale_price"

    world.clock.pass_wall(timedelta(seconds=-6))
    assert (await filled(closing(paper(held())), world)).filled_quantity == Decimal("0.01")


async def test_a_close_waits_for_an_exchange_that_does_not_answer() -> None:
    world = World()
    world.market.down = True

    assert await refused(closing(paper(held())), world) == "market_data_unavailable"


async def test_nobody_to_sell_to_is_a_thin_book() -> None:
    world = World()
    world.set_book(bids=())

    assert await refused(closing(paper(held())), world) == "thin_book"


async def test_a_close_larger_than_the_visible_book_ends_at_a_worse_price() -> None:
    report = await filled(closing(paper(held(quantity="8"))))

    # 6.5 BTC are visible; the last 1.5 go half a percent below 59,990: 59,690.05, down to the tick.
    assert report.fills[-1].price == Decimal("59690.0")
    assert report.fills[-1].quantity == Decimal("1.5")
    assert report.filled_quantity == 8


async def test_a_stop_is_booked_at_its_own_moment_and_price_less_slippage() -> None:
    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400", "59800")))

    # 59,400 x 0.9995 = 59,370.3; fee 0.01 x 59,370.3 x 0.0005.
    (fill,) = report.fills
    assert fill.price == Decimal("59370.3")
    assert fill.fee == Decimal("0.29685150")
    assert fill.at == THEN
    assert report.as_of == THEN


async def test_a_stop_that_the_market_jumped_over_is_booked_at_the_bars_open() -> None:
    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400", "59000")))

    assert report.average_price == Decimal("58970.5")


@pytest.mark.parametrize(
    ("side", "kind", "price", "opened", "booked"),
    [
        (Side.LONG, TriggerKind.STOP, "59400", "59000", "58970.5"),
        (Side.LONG, TriggerKind.STOP, "59400", "59800", "59370.3"),
        (Side.SHORT, TriggerKind.TRAILING, "60600", "61000", "61030.5"),
        (Side.LONG, TriggerKind.TARGET, "61200", "61500", "61169.4"),
        (Side.LONG, TriggerKind.LIQUIDATION, "57228.9", "57100", "57100"),
    ],
)
async def test_a_trigger_without_its_bars_open_is_booked_at_the_open_of_that_minute_of_the_mark_price(
    side: Side, kind: TriggerKind, price: str, opened: str, booked: str
) -> None:
    world = World()
    world.market.bar_open = Decimal(opened)

    report = await filled(closing(paper(held(side)), side, trigger=trigger(kind, price)), world)

    assert report.average_price == Decimal(booked)


async def test_a_trigger_whose_minute_nobody_recorded_is_refused_and_may_come_again() -> None:
    world = World()
    world.market.since_ms = ms_of(NOW)
    request = closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400"))
    assert await refused(request, world) == "market_data_unavailable"

    world.market.since_ms = 0
    await filled(request, world)


async def test_a_trigger_that_has_not_happened_yet_is_refused() -> None:
    later = Trigger(kind=TriggerKind.STOP, price=Decimal(59400), at=NOW + timedelta(hours=1))

    assert await refused(closing(paper(held()), trigger=later)) == "trigger_in_future"


async def test_a_shorts_stop_is_booked_above() -> None:
    account = paper(held(Side.SHORT))
    report = await filled(closing(account, Side.SHORT, trigger=trigger(TriggerKind.TRAILING, "60600", "61000")))

    assert report.average_price == Decimal("61030.5")


@pytest.mark.parametrize("bar_open", ["60900", "61500", None])
async def test_a_target_is_booked_at_its_own_price_wherever_its_bar_opened(bar_open: str | None) -> None:
    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.TARGET, "61200", bar_open)))

    assert report.average_price == Decimal("61169.4")


async def test_slippage_is_rounded_to_the_tick_against_the_user() -> None:
    world = World()
    world.set_rules(tick_size=Decimal(10))

    long = await filled(closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400")), world)
    short = await filled(
        closing(paper(held(Side.SHORT)), Side.SHORT, client_order_id="c-2", trigger=trigger(TriggerKind.STOP, "60600")), world
    )

    assert long.average_price == 59370
    assert short.average_price == 60640


async def test_a_liquidation_costs_exactly_the_isolated_margin_where_its_fee_is_larger_than_the_rest() -> None:
    # Long 0.01 at 60,000, margin 30, liquidated at 57,228.9: 27.711 lost; the fee of 1.25 % is 7.15, only 2.289 is left.
    position = held()
    report = await filled(closing(paper(position), trigger=trigger(TriggerKind.LIQUIDATION, "57228.9", "57300")))

    (fill,) = report.fills
    assert fill.price == Decimal("57228.9")
    assert fill.fee == 0
    assert report.liquidation_fee == Decimal("2.28900000")


async def test_a_liquidation_leaves_the_user_what_its_fee_does_not_take() -> None:
    world = World()
    world.set_rules(liquidation_fee_ratio=Decimal("0.001"))
    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.LIQUIDATION, "57228.9")), world)

    assert report.liquidation_fee == Decimal("0.57228900")


@given(
    side=st.sampled_from(Side),
    trigger_price=st.decimals(min_value=50_000, max_value=70_000, places=1),
    bar_open=st.decimals(min_value=30_000, max_value=90_000, places=1),
    part=st.sampled_from(["0.01", "0.004", "0.001"]),
)
async def test_a_liquidation_never_costs_more_than_the_margin_of_the_closed_part(
    side: Side, trigger_price: Decimal, bar_open: Decimal, part: str
) -> None:
    position = held(side)
    fell = Trigger(kind=TriggerKind.LIQUIDATION, price=trigger_price, at=THEN, bar_open=bar_open)
    report = await filled(closing(paper(position), side, trigger=fell, quantity=Decimal(part)))

    (fill,) = report.fills
    lost = report.liquidation_fee + fill.fee - price_pnl(side, fill.quantity, position.entry_price, fill.price)
    assert lost <= position.margin * fill.quantity / position.quantity


async def test_a_stop_in_a_market_that_jumped_beyond_liquidation_costs_the_margin_and_no_more() -> None:
    # Margin 30 for 600 USDT: bankrupt at 57,000. The bar opened at 50,000, far below stop and liquidation price.
    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400", "50000")))

    (fill,) = report.fills
    assert (fill.price, fill.fee, report.liquidation_fee) == (Decimal(57_000), Decimal(0), Decimal(0))


async def test_a_manual_close_beyond_liquidation_costs_the_margin_and_no_more() -> None:
    world = World()
    world.set_book(bids=((Decimal(57_100), Decimal(5)),))
    report = await filled(closing(paper(held())), world)

    # 29 lost, and of the fee of 7.1375 only the last dollar is there.
    assert (report.average_price, report.liquidation_fee) == (Decimal(57_100), Decimal(1))


@given(
    side=st.sampled_from(Side),
    kind=st.sampled_from(TriggerKind),
    touched=st.decimals(min_value=40_000, max_value=80_000, places=1),
    bar_open=st.none() | st.decimals(min_value=30_000, max_value=90_000, places=1),
    leverage=st.sampled_from([2, 5, 20, 50, 100]),
)
async def test_no_triggered_close_ever_costs_more_than_the_isolated_margin_and_its_slippage_and_fee(
    side: Side, kind: TriggerKind, touched: Decimal, bar_open: Decimal | None, leverage: int
) -> None:
    position = held(side, leverage=Decimal(leverage), margin=Decimal(600) / leverage)
    met = Trigger(kind=kind, price=touched, at=THEN, bar_open=bar_open)
    report = await filled(closing(paper(position), side, trigger=met))

    (fill,) = report.fills
    lost = report.liquidation_fee + fill.fee - price_pnl(side, fill.quantity, position.entry_price, fill.price)
    assert lost <= position.margin


async def test_a_trigger_needs_no_live_price() -> None:
    world = World()
    world.clock.pass_wall(timedelta(hours=1))
    world.set_book(bids=())

    report = await filled(closing(paper(held()), trigger=trigger(TriggerKind.STOP, "59400")), world)

    assert report.average_price == Decimal("59370.3")


async def test_a_stop_of_a_delisted_symbol_is_still_booked() -> None:
    gone = held(symbol="GONEUSDT")
    report = await filled(closing(paper(gone), symbol="GONEUSDT", trigger=trigger(TriggerKind.STOP, "59400")))

    assert report.average_price == Decimal("59370.3")


async def test_a_dry_run_closes_the_quantity_that_is_named() -> None:
    report = await filled(closing(real(dry_run=True), quantity=Decimal("0.01")))

    assert report.venue == "binance"
    assert report.dry_run is True
    assert "open_position" in report.unchecked


async def test_a_dry_run_closes_the_position_that_came_with_it() -> None:
    report = await filled(closing(real(held(), dry_run=True), quantity=Decimal(5)))

    assert (report.filled_quantity, report.venue, report.dry_run) == (Decimal("0.01"), "binance", True)


async def test_a_dry_run_liquidation_costs_no_more_than_its_margin_either() -> None:
    account = real(held(), dry_run=True)
    report = await filled(closing(account, trigger=trigger(TriggerKind.LIQUIDATION, "57228.9", "40000")))

    assert (report.average_price, report.liquidation_fee) == (Decimal(57000), Decimal(0))


async def test_a_dry_run_cannot_guess_a_quantity() -> None:
    assert await refused(closing(real(dry_run=True))) == "quantity_required"


async def test_a_real_close_is_refused_even_while_the_engine_is_dry() -> None:
    # A position that was opened with real money is never closed by a simulation.
    assert await refused(closing(real(dry_run=False), quantity=Decimal(1)), World(dry_run=True)) == "no_credentials"
