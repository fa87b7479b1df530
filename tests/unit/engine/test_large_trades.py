"""The window of large aggressive trades, a symbol at a time."""

from engine.core.large_trades import LargeTrades, TradeFlow, flow_of_trades, trades_in_window
from engine.core.market import Trade
from tests.unit.engine.market_world import NOW_MS


def trade(usd: float, at_ms: int = NOW_MS, *, sell: bool = False) -> Trade:
    return Trade(price=2.0, quantity=usd / 2, sell=sell, at_ms=at_ms)


def listening(*symbols: str, since_ms: int = NOW_MS - 600_000) -> LargeTrades:
    large = LargeTrades()
    large.follow(symbols, since_ms)
    return large


def test_takers_of_fifty_thousand_and_more_are_added_up_by_who_pushed() -> None:
    large = listening("A")
    for each in (trade(50_000), trade(70_000), trade(49_999), trade(60_000, sell=True)):
        large.take("A", each)
    assert large.told(NOW_MS) == [TradeFlow(symbol="A", bought_usd=120_000, sold_usd=60_000, trades=3, since_ms=NOW_MS - 300_000)]
    assert large.told(NOW_MS)[0].bias == "BUYING"


def test_a_trade_leaves_the_window_after_three_hundred_seconds() -> None:
    large = listening("A")
    large.take("A", trade(80_000))
    assert large.told(NOW_MS + 300_000)[0].trades == 1
    assert large.told(NOW_MS + 300_001)[0].trades == 0


def test_of_trades_by_request_those_before_the_window_are_no_push() -> None:
    found = [trade(80_000, 0, sell=True), trade(80_000, NOW_MS - 300_001), trade(60_000, NOW_MS - 300_000), trade(60_000, NOW_MS)]
    assert flow_of_trades("A", trades_in_window(found, NOW_MS)).bought_usd == 120_000
    assert flow_of_trades("A", trades_in_window(found[:2], NOW_MS)).bias == "NONE"


def test_a_symbol_that_is_followed_and_quiet_is_told_and_another_is_not() -> None:
    large = listening("A")
    large.take("B", trade(80_000))
    assert [(flow.symbol, flow.bias) for flow in large.told(NOW_MS)] == [("A", "NONE")]


def test_a_symbol_followed_lately_says_since_when() -> None:
    large = listening("A")
    large.follow(["A", "B"], NOW_MS - 10_000)
    assert {flow.symbol: NOW_MS - flow.since_ms for flow in large.told(NOW_MS)} == {"A": 300_000, "B": 10_000}


def test_a_symbol_that_comes_back_begins_anew() -> None:
    large = listening("A", "B")
    large.take("A", trade(80_000))
    large.follow(["B"], NOW_MS)
    large.follow(["A", "B"], NOW_MS + 1)
    assert {flow.symbol: flow.trades for flow in large.told(NOW_MS + 1)} == {"A": 0, "B": 0}


def test_after_a_cut_of_the_stream_every_window_begins_anew() -> None:
    large = listening("A")
    large.take("A", trade(80_000))
    large.interrupted(NOW_MS)
    assert large.told(NOW_MS + 1_000) == [TradeFlow(symbol="A", since_ms=NOW_MS)]
