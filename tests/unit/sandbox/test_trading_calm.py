"""Passing over calm stretches changes nothing: whoever walks every tick meets the same fate."""

from decimal import Decimal
from typing import Any

import pytest

from deploy.sandbox.core.account_settings import set_leverage, set_margin_type
from deploy.sandbox.core.algo_request import algo_request
from deploy.sandbox.core.board import Span, TapeBoard
from deploy.sandbox.core.calm import loud_symbols
from deploy.sandbox.core.conditional import Conditional, state
from deploy.sandbox.core.intervals import HOUR_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.order_request import order_request
from deploy.sandbox.core.passage import Passage
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.unit.sandbox.trading_board import SYMBOL, Floor

NOW = DEFAULT_START_MS + 12_345
SYMBOLS = ("ETHUSDT", "SOLUSDT", "XRPUSDT")
STOP, TARGET = {"type": "STOP_MARKET", "workingType": "MARK_PRICE"}, {"type": "TAKE_PROFIT_MARKET"}


class Restless(TapeBoard):
    """A board on which every span might hold anything, so that every tick is walked."""

    def span(self, symbol: str, since: int, until: int) -> Span | None:
        span = super().span(symbol, since, until)
        return span and Span(Decimal(0), Decimal(10**9), Decimal(0), Decimal(10**9), span.mark)


@pytest.fixture(scope="module")
def market() -> Market:
    return Exchange(SandboxOptions(port=0, speed=0)).market


def lived(board: TapeBoard, *, isolated: bool) -> list[Any]:
    """Everything that happened to an account with stops, targets and trailing stops on three symbols within some hours."""
    trading = Trading(board)
    conditional = Conditional(trading)
    passage = Passage(trading, conditional)
    passage.advance(NOW)
    account = trading.open_account("key", "secret", Decimal(900), NOW)
    for symbol, leverage in zip(SYMBOLS, (50, 20, 40), strict=True):
        if isolated:
            set_margin_type(account, symbol, isolated=True)
        set_leverage(account, symbol, leverage, trading.marks(NOW))
        last = trading.board.last(symbol, NOW)
        rules = trading.board.rules(symbol, NOW)
        size = f"{Decimal(5000) / last:.{rules.quantity_decimals}f}"
        trading.place(account, order_request(Query({"symbol": symbol, "side": "BUY", "type": "MARKET", "quantity": size})), NOW)
        for words, share in ((STOP, "0.985"), (TARGET, "1.012"), ({"type": "TRAILING_STOP_MARKET", "callbackRate": "1.5"}, None)):
            price = {"triggerPrice": f"{last * Decimal(share):.{rules.price_decimals}f}"} if share else {}
            third = f"{Decimal(size) / 3:.{rules.quantity_decimals}f}"
            given = {"algoType": "CONDITIONAL", "symbol": symbol, "side": "SELL", "quantity": third, "reduceOnly": "true"}
            conditional.place(account, algo_request(Query(given | words | price)), NOW)
    for now in range(NOW + 90_000, NOW + 12 * HOUR_MS, 90_000):
        passage.advance(now)
        assert trading.imbalance(now) == 0
    algos = [(state(account, algo), algo.extreme, algo.updated_ms) for algo in account.algos.values()]
    return [(item.kind, item.symbol, item.amount, item.time_ms) for item in account.incomes] + algos


@pytest.mark.parametrize("isolated", [True, False])
def test_a_stretch_passed_over_and_one_walked_end_the_same(market: Market, *, isolated: bool) -> None:
    brisk, slow = lived(TapeBoard(market), isolated=isolated), lived(Restless(market), isolated=isolated)
    assert brisk == slow
    assert len(brisk) > 20


def span(low: str, high: str) -> Span:
    return Span(Decimal(low), Decimal(high), Decimal(low), Decimal(high), Decimal(high))


def loud(floor: Floor, low: str, high: str) -> bool:
    spans = {SYMBOL: span(low, high)}
    return SYMBOL in loud_symbols([floor.ada], spans, set(), lambda symbol: floor.board.mark(symbol, floor.now))


def test_only_what_is_in_reach_wakes_a_symbol() -> None:
    floor = Floor()
    floor.order(quantity="0.1")
    assert not loud(floor, "48000", "52000")
    floor.algo(triggerPrice="48500", reduceOnly="true")
    floor.limit("SELL", "51500", reduceOnly="true")
    assert [loud(floor, *bounds) for bounds in (("48501", "51500"), ("48500", "51000"), ("49000", "51501"))] == [
        False,
        True,
        True,
    ]


def test_an_account_with_cross_margin_wakes_before_it_is_liquidated() -> None:
    floor = Floor(wallet="300")
    floor.order(quantity="0.1")
    assert [loud(floor, low, "50000") for low in ("48000", "47300", "47270", "46000")] == [False, False, True, True]
