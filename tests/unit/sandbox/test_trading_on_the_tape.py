"""The floor on the sandbox's own tape: what the book, the ticks and the funding of REST say is what happens to accounts."""

from decimal import Decimal
from typing import Any

import pytest

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.account_settings import set_leverage, set_margin_type
from deploy.sandbox.core.algo_request import algo_request
from deploy.sandbox.core.board import TapeBoard
from deploy.sandbox.core.conditional import Conditional, state
from deploy.sandbox.core.intervals import HOUR_MS, QUARTER_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.order_request import order_request
from deploy.sandbox.core.passage import Passage
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Prices
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from shared.margin import ZERO

NOW = DEFAULT_START_MS + 12_345


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=0))


def lived(market: Market, step_ms: int, span_ms: int) -> tuple[Account, Decimal]:
    """An account with a position, a target that rests, a stop and a trailing one, some hours later."""
    trading = Trading(TapeBoard(market))
    conditional = Conditional(trading)
    passage = Passage(trading, conditional)
    passage.advance(NOW)
    account = trading.open_account("key", "secret", Decimal(10_000), NOW)
    for symbol in ("BTCUSDT", "SOLUSDT"):
        set_margin_type(account, symbol, isolated=True)
        set_leverage(account, symbol, 50, trading.marks(NOW))
        last, tick = trading.board.last(symbol, NOW), Decimal("0.1") if symbol == "BTCUSDT" else Decimal("0.01")
        size = f"{Decimal(3000) / last:.2f}"

        def words(symbol: str = symbol, size: str = size, **given: str) -> Query:
            return Query({"symbol": symbol, "quantity": size} | given)

        trading.place(account, order_request(words(side="BUY", type="MARKET")), NOW)
        target = f"{(last * Decimal('1.006')).quantize(tick):f}"
        limit = words(side="SELL", type="LIMIT", price=target, timeInForce="GTC", reduceOnly="true")
        trading.place(account, order_request(limit), NOW)
        stop = f"{(last * Decimal('0.995')).quantize(tick):f}"
        wanted = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "workingType": "MARK_PRICE", "reduceOnly": "true"}
        conditional.place(account, algo_request(words(side="SELL", triggerPrice=stop, **wanted)), NOW)
    for now in range(NOW + step_ms, NOW + span_ms + 1, step_ms):
        passage.advance(now)
        assert trading.imbalance(now) == ZERO
    passage.advance(NOW + span_ms)
    return account, trading.imbalance(NOW + span_ms)


def history(account: Account) -> list[tuple[Any, ...]]:
    return [(item.kind, item.symbol, item.amount, item.time_ms) for item in account.incomes]


def test_late_or_often_looked_at_the_same_happens(exchange: Exchange) -> None:
    once, rest = lived(exchange.market, 9 * HOUR_MS, 9 * HOUR_MS)
    often, _ = lived(exchange.market, 7 * 60_000, 9 * HOUR_MS)
    assert rest == ZERO
    assert history(once) == history(often)
    assert len(history(once)) > 5
    assert any(state(once, algo) == "FINISHED" for algo in once.algos.values()) or any(t.maker for t in once.trades)


def test_funding_is_what_the_public_history_says(exchange: Exchange) -> None:
    trading = Trading(TapeBoard(exchange.market))
    passage = Passage(trading, Conditional(trading))
    passage.advance(NOW)
    account = trading.open_account("key", "secret", Decimal(10_000), NOW)
    wanted = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.01"}
    trading.place(account, order_request(Query(wanted)), NOW)
    until = NOW + 17 * HOUR_MS
    passage.advance(until)
    told = exchange.facts.funding_rate(Query({"symbol": "BTCUSDT", "startTime": str(NOW)}), until)
    assert isinstance(told, list)
    paid = [item.amount for item in account.incomes if item.kind == "FUNDING_FEE"]
    owed = [Decimal(row["markPrice"]) * Decimal(row["fundingRate"]) * Decimal("0.01") for row in told]
    assert len(paid) == 2
    assert paid == [amount.quantize(Decimal("0.00000001")) for amount in owed]


def test_a_taker_meets_the_book_that_depth_shows(exchange: Exchange) -> None:
    trading = Trading(TapeBoard(exchange.market))
    account = trading.open_account("key", "secret", Decimal(1_000_000), NOW)
    shown = Prices(exchange.market).depth(Query({"symbol": "SOLUSDT", "limit": "20"}), NOW)
    assert isinstance(shown, dict)
    best = shown["asks"][0]
    wanted = {"symbol": "SOLUSDT", "side": "BUY", "type": "MARKET", "quantity": str(Decimal(best[1]) + 1)}
    order = trading.place(account, order_request(Query(wanted)), NOW)
    assert [trade.price for trade in account.trades[:2]] == [Decimal(best[0]), Decimal(shown["asks"][1][0])]
    assert order.status == "FILLED"


def test_a_crash_liquidates_and_the_market_is_told() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0))
    exchange.advance(NOW)
    account = exchange.trading.open_account("key", "secret", Decimal(100), NOW)
    size = str(1500 // int(exchange.trading.board.last("SOLUSDT", NOW)))
    wanted = {"symbol": "SOLUSDT", "side": "BUY", "type": "MARKET", "quantity": size}
    exchange.trading.place(account, order_request(Query(wanted)), NOW)
    exchange.market.shock(None, 0.7, NOW)
    then = NOW + 2 * QUARTER_MS
    exchange.advance(then)
    assert (account.held(), account.wallet >= 0, exchange.trading.imbalance(then)) == ([], True, ZERO)
    forced = [item for item in exchange.market.liquidations(then, then + 1) if item in exchange.market.injected]
    assert [(item.symbol, item.order["S"], item.order["q"]) for item in forced] == [("SOLUSDT", "SELL", f"{size}.00")]
