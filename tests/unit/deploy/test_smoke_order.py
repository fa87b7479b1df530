"""What a smoke run buys: the most traded symbol that a small margin can hold, at the least leverage that lifts it over the least notional."""

from decimal import Decimal
from typing import Any

import pytest

from deploy.errors import DeployError
from deploy.smoke_order import Instrument, instruments_of, plan


def instrument(symbol: str, least: str, volume: str, price: str = "100") -> Instrument:
    return Instrument(
        symbol=symbol,
        least_notional=Decimal(least),
        tick_size=Decimal("0.01"),
        price=Decimal(price),
        quote_volume=Decimal(volume),
    )


def test_the_most_traded_symbol_that_the_margin_can_hold_is_taken() -> None:
    order = plan(
        [instrument("BTCUSDT", "110", "9e9"), instrument("SOLUSDT", "6", "5e9"), instrument("XUSDT", "5", "1e6")], Decimal(1)
    )
    assert order.instrument.symbol == "SOLUSDT"
    assert order.leverage == 7
    assert order.notional == Decimal(7)
    assert order.stop_loss == Decimal("98.00")
    assert order.take_profit == Decimal("104.00")


def test_a_margin_that_is_large_enough_needs_no_leverage() -> None:
    assert plan([instrument("SOLUSDT", "6", "5e9")], Decimal(50)).leverage == 1


def test_a_margin_that_holds_nothing_is_refused_with_a_sentence() -> None:
    with pytest.raises(DeployError, match="no symbol can be bought"):
        plan([instrument("BTCUSDT", "110", "9e9")], Decimal(1))


def row(symbol: str, **changes: Any) -> dict[str, Any]:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]
    whole = {"symbol": symbol, "contractType": "PERPETUAL", "status": "TRADING", "quoteAsset": "USDT", "filters": filters}
    return {**whole, **changes}


def test_one_step_of_a_dear_coin_counts_into_its_least_notional() -> None:
    tickers = [{"symbol": "BTCUSDT", "lastPrice": "60000", "quoteVolume": "1"}]
    [found] = instruments_of({"symbols": [row("BTCUSDT")]}, tickers)
    assert found.least_notional == Decimal(65)


def test_only_usdt_perpetuals_that_trade_and_have_a_price_count() -> None:
    names = ("AUSDT", "BUSDC", "CUSDT", "DUSDT", "EUSDT")
    tickers = [{"symbol": name, "lastPrice": "1", "quoteVolume": "1"} for name in names if name != "EUSDT"]
    rows = [
        row("AUSDT"),
        row("BUSDC", quoteAsset="USDC"),
        row("CUSDT", status="SETTLING"),
        row("DUSDT", contractType="CURRENT_QUARTER"),
        row("EUSDT"),
    ]
    assert [one.symbol for one in instruments_of({"symbols": rows}, tickers)] == ["AUSDT"]
