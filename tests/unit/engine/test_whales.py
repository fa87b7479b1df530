"""The whale detector's points, pressure and window."""

from decimal import Decimal

import pytest

from engine.core.large_trades import flow_of_trades
from engine.core.market import Book, Positioning, Trade
from engine.core.whales import Flow, Traces, detect, expected_side, flow_of, imbalance_of, walls_of
from shared.analysis import LiquidationPressure, WhaleSignal
from shared.enums import Side
from tests.unit.engine.market_world import NOW_MS, book, forced


def trade(usd: float, *, sell: bool) -> Trade:
    return Trade(price=1.0, quantity=usd, sell=sell, at_ms=NOW_MS)


@pytest.mark.parametrize(
    ("long_usd", "short_usd", "pressure"),
    [
        (9_999, 0, LiquidationPressure.NONE),
        (10_000, 0, LiquidationPressure.LONG_HEAVY),
        (0, 10_000, LiquidationPressure.SHORT_HEAVY),
        (20_000, 10_000, LiquidationPressure.BALANCED),
        (20_004, 10_000, LiquidationPressure.LONG_HEAVY),
        (10_000, 20_001, LiquidationPressure.SHORT_HEAVY),
    ],
)
def test_pressure_names_the_side_that_is_forced_out(long_usd: float, short_usd: float, pressure: LiquidationPressure) -> None:
    assert Flow(long_usd=long_usd, short_usd=short_usd).pressure is pressure


def test_the_window_is_three_hundred_seconds_of_market_time_of_that_symbol() -> None:
    orders = [
        forced("A", 1_000, Side.LONG, NOW_MS - 300_000),
        forced("A", 2_000, Side.LONG, NOW_MS - 300_001),
        forced("A", 4_000, Side.SHORT, NOW_MS),
        forced("B", 8_000, Side.LONG, NOW_MS),
        forced("A", 16_000, Side.LONG, NOW_MS + 1),
    ]
    assert flow_of(orders, "A", NOW_MS) == Flow(long_usd=1_000, short_usd=4_000, orders=2)


def test_imbalance_is_the_bids_weight_over_both() -> None:
    assert imbalance_of(book("A", "100", bid_quantity="30", ask_quantity="10")) == pytest.approx(50, abs=0.1)


def test_a_wall_is_one_level_above_a_hundred_thousand_within_one_percent() -> None:
    near = Book(
        symbol="A", bids=((Decimal(100), Decimal(1001)),), asks=((Decimal("100.1"), Decimal(10)),), at_ms=0, received_ms=0
    )
    assert walls_of(near) == (True, False)
    far = Book(
        symbol="A",
        bids=((Decimal(100), Decimal(1)),),
        asks=((Decimal("100.1"), Decimal(1)), (Decimal(102), Decimal(5000))),
        at_ms=0,
        received_ms=0,
    )
    assert walls_of(far) == (False, False)


def bias(trades: list[Trade]) -> str:
    return flow_of_trades("A", trades).bias


def test_only_large_trades_have_a_bias() -> None:
    assert bias([trade(49_999, sell=False)]) == "NONE"
    assert bias([trade(160_000, sell=False), trade(100_000, sell=True)]) == "BUYING"
    assert bias([trade(60_000, sell=False), trade(100_000, sell=True)]) == "SELLING"
    assert bias([trade(100_000, sell=False), trade(100_000, sell=True)]) == "MIXED"


def test_a_pump_is_imminent_from_sixty_points_and_its_confidence_is_its_points() -> None:
    traces = Traces(
        flow=Flow(short_usd=50_000),
        book=book("A", "100", bid_quantity="30", ask_quantity="10"),
        trades=[trade(60_000, sell=False)],
        positioning=Positioning(funding_ratio=-0.0004, long_short_ratio=0.6),
    )
    found = detect("A", traces)
    assert (found.signal, found.pump_points, found.confidence) == (WhaleSignal.PUMP_IMMINENT, 30 + 25 + 25 + 20 + 20, 95)
    assert expected_side(found) is Side.LONG
    assert found.reasons[0] == "shorts liquidated for $50,000"


def test_a_dump_mirrors_a_pump() -> None:
    traces = Traces(
        flow=Flow(long_usd=50_000),
        book=book("A", "100", bid_quantity="10", ask_quantity="30"),
        positioning=Positioning(funding_ratio=0.0003, long_short_ratio=1.3),
    )
    found = detect("A", traces)
    assert (found.signal, found.dump_points) == (WhaleSignal.DUMP_IMMINENT, 30 + 25 + 10 + 10)
    assert expected_side(found) is Side.SHORT


@pytest.mark.parametrize(
    ("flow", "signal", "confidence"),
    [
        (Flow(long_usd=200_000), WhaleSignal.SQUEEZE_LONGS, 70),
        (Flow(short_usd=50_000), WhaleSignal.SQUEEZE_SHORTS, 55),
        (Flow(long_usd=5_000_000), WhaleSignal.SQUEEZE_LONGS, 95),
        (Flow(), WhaleSignal.NEUTRAL, 100),
    ],
)
def test_a_squeeze_grows_surer_by_ten_for_each_hundred_thousand(flow: Flow, signal: WhaleSignal, confidence: int) -> None:
    found = detect("A", Traces(flow=flow))
    assert (found.signal, found.confidence) == (signal, confidence)


def test_sources_that_did_not_answer_give_no_points() -> None:
    found = detect("A", Traces(flow=Flow()))
    assert (found.pump_points, found.dump_points, found.signal) == (0, 0, WhaleSignal.NEUTRAL)
    assert expected_side(found) is None
