"""How an order would fill: walking a book, merging trades, rounding against the user. And what the executors say of themselves."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.binance import announce
from engine.core import fills
from engine.execution.entry import enter
from shared.enums import Side, TriggerKind
from shared.execution import OrderSide, Trigger
from tests.unit.engine.execution_desk import NOW, StandingMarket, World, entry, paper, real

quantities = st.decimals(min_value=Decimal("0.001"), max_value=100, places=3)
prices = st.decimals(min_value=1, max_value=100_000, places=2)
books = st.lists(st.tuples(prices, quantities), min_size=1, max_size=20)
order_sides = st.sampled_from(OrderSide)


def best_first(levels: list[tuple[Decimal, Decimal]], side: OrderSide) -> list[tuple[Decimal, Decimal]]:
    return sorted(levels, reverse=side is OrderSide.SELL)


@given(books, quantities, order_sides)
def test_a_walk_takes_what_was_asked_for_or_all_that_there_is(
    book: list[tuple[Decimal, Decimal]], quantity: Decimal, side: OrderSide
) -> None:
    walked = fills.walk(best_first(book, side), quantity)

    assert walked.quantity + walked.left == quantity
    assert walked.quantity <= sum(held for _, held in book)


@given(books, quantities, order_sides)
def test_no_trade_is_better_than_the_best_level(book: list[tuple[Decimal, Decimal]], quantity: Decimal, side: OrderSide) -> None:
    levels = best_first(book, side)
    walked = fills.walk_to_the_end(levels, quantity, side, Decimal("0.01"))
    told = fills.fills_of("x", walked.levels, side, NOW)

    assert walked.left == 0
    for fill in told:
        assert fill.price >= levels[0][0] if side is OrderSide.BUY else fill.price <= levels[0][0]


@given(books, quantities, order_sides)
def test_merged_trades_keep_the_quantity_and_never_flatter_the_price(
    book: list[tuple[Decimal, Decimal]], quantity: Decimal, side: OrderSide
) -> None:
    walked = fills.walk(best_first(book, side), quantity)
    told = fills.fills_of("x", walked.levels, side, NOW)
    notional = sum(fill.price * fill.quantity for fill in told)

    assert len(told) <= fills.MAX_FILLS
    assert sum(fill.quantity for fill in told) == walked.quantity
    assert notional >= walked.notional if side is OrderSide.BUY else notional <= walked.notional
    assert abs(notional - walked.notional) < Decimal("0.00001")


@given(books, quantities, order_sides)
def test_the_same_fill_twice_has_the_same_trade_ids(
    book: list[tuple[Decimal, Decimal]], quantity: Decimal, side: OrderSide
) -> None:
    levels = fills.walk(best_first(book, side), quantity).levels

    ids = [fill.trade_id for fill in fills.fills_of("order-7", levels, side, NOW)]
    assert ids == [fill.trade_id for fill in fills.fills_of("order-7", levels, side, NOW)]
    assert ids == [f"order-7-{number}" for number in range(1, len(ids) + 1)]


@given(books, quantities, order_sides)
def test_every_fee_is_five_basis_points_with_eight_decimals(
    book: list[tuple[Decimal, Decimal]], quantity: Decimal, side: OrderSide
) -> None:
    for fill in fills.fills_of("x", fills.walk(best_first(book, side), quantity).levels, side, NOW):
        assert abs(fill.fee - fill.price * fill.quantity * Decimal("0.0005")) <= Decimal("0.000000005")
        assert fill.fee.as_tuple().exponent == -8


@given(
    side=st.sampled_from(Side),
    kind=st.sampled_from([TriggerKind.STOP, TriggerKind.TARGET, TriggerKind.TRAILING]),
    price=prices,
    bar_open=st.none() | prices,
    tick=st.sampled_from([Decimal("0.01"), Decimal("0.1"), Decimal(1)]),
)
def test_a_trigger_is_never_booked_better_than_its_price_and_always_on_the_tick(
    side: Side, kind: TriggerKind, price: Decimal, bar_open: Decimal | None, tick: Decimal
) -> None:
    booked = fills.trigger_price(side, Trigger(kind=kind, price=price, at=NOW, bar_open=bar_open), tick)

    assert booked % tick == 0
    assert (price - booked) * side.sign > 0 or booked == tick


@pytest.mark.parametrize(
    ("side", "reduce_only", "order_side"),
    [
        (Side.LONG, False, OrderSide.BUY),
        (Side.SHORT, False, OrderSide.SELL),
        (Side.LONG, True, OrderSide.SELL),
        (Side.SHORT, True, OrderSide.BUY),
    ],
)
def test_the_order_side_follows_from_the_position_side(side: Side, reduce_only: bool, order_side: OrderSide) -> None:
    assert fills.order_side_of(side, reduce_only=reduce_only) is order_side


@pytest.mark.parametrize(("dry_run", "name"), [(True, "BinanceExecutor DRY_RUN"), (False, "BinanceExecutor LIVE")])
async def test_the_log_says_at_the_start_which_executor_runs_and_that_the_exchange_answers(dry_run: bool, name: str) -> None:
    with capture_logs() as records:
        assert await announce(StandingMarket(), dry_run=dry_run)

    assert [record["event"] for record in records] == [f"{name}: the exchange answers"]


async def test_the_log_says_at_the_start_that_the_exchange_does_not_answer() -> None:
    market = StandingMarket()
    market.down = True
    with capture_logs() as records:
        assert not await announce(market, dry_run=True)

    assert records[0]["event"] == "BinanceExecutor DRY_RUN: the exchange does not answer"
    assert records[0]["log_level"] == "warning"


async def test_the_log_names_the_executor_of_each_order() -> None:
    with capture_logs() as records:
        await enter(World().desk, entry(paper()))
        await enter(World().desk, entry(real(dry_run=True)))
        await enter(World(dry_run=False).desk, entry(real(dry_run=False)))

    assert [record["event"] for record in records] == [
        "PaperExecutor ENTRY FILLED",
        "BinanceExecutor DRY_RUN ENTRY FILLED",
        "BinanceExecutor LIVE ENTRY REFUSED",
    ]
    assert records[2]["reason"] == "no_credentials"
