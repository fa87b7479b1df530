"""The unmodified CCXT client reads every public endpoint of the sandbox, and its streams."""

from collections.abc import AsyncIterator
from typing import Any

import ccxt.async_support as ccxt
import ccxt.pro as ccxtpro
import pytest
from ccxt.base.errors import BadRequest, BadSymbol, DDoSProtection

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options

BTC = "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=450, weight_limit=1_000_000))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


@pytest.fixture
async def client(base: str) -> AsyncIterator[Any]:
    client = ccxt.binanceusdm(ccxt_options(base))
    try:
        yield client
    finally:
        await client.close()


async def test_markets_have_what_orders_need(client: Any) -> None:
    markets = await client.load_markets()
    market = markets[BTC]
    assert (market["swap"], market["active"], market["precision"]["price"], market["precision"]["amount"]) == (
        True,
        True,
        0.1,
        0.001,
    )
    assert market["limits"]["cost"]["min"] == 50
    futures = [row for row in markets.values() if row["future"]]
    assert [row["id"] for row in futures] == ["BTCUSDT_261225"]
    assert markets["币安人生/USDT:USDT"]["active"]
    assert [row["id"] for row in markets.values() if not row["active"]] == ["EOSUSDT"]


async def test_prices_are_read(client: Any) -> None:
    ticker = await client.fetch_ticker(BTC)
    assert ticker["change"] == pytest.approx(ticker["last"] - ticker["open"])
    assert len(await client.fetch_tickers()) > 100
    assert (await client.fetch_last_prices([BTC]))[BTC]["price"] > 0
    assert (await client.fetch_bids_asks([BTC]))[BTC]["bid"] > 0
    assert (await client.fetch_mark_prices([BTC]))[BTC]["markPrice"] > 0
    book = await client.fetch_order_book(BTC, 20)
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(await client.fetch_trades(BTC, limit=30)) == 30


@pytest.mark.parametrize(
    "timeframe", ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]
)
async def test_candles_of_every_timeframe_are_read(client: Any, timeframe: str) -> None:
    rows = await client.fetch_ohlcv(BTC, timeframe, limit=3)
    assert len(rows) == 3
    assert all(low <= min(opened, close) <= max(opened, close) <= high for _, opened, high, low, close, _ in rows)


async def test_mark_and_index_candles_are_read(client: Any) -> None:
    for price in ("mark", "index"):
        assert len(await client.fetch_ohlcv(BTC, "15m", limit=4, params={"price": price})) == 4


async def test_funding_and_the_crowd_are_read(client: Any) -> None:
    assert (await client.fetch_time()) > 1_700_000_000_000
    assert (await client.fetch_funding_rate(BTC))["fundingRate"] is not None
    assert len(await client.fetch_funding_rates()) > 100
    assert len(await client.fetch_funding_rate_history(BTC, limit=5)) == 5
    assert await client.fetch_funding_intervals()
    assert (await client.fetch_open_interest(BTC))["openInterestAmount"] > 0
    assert len(await client.fetch_open_interest_history(BTC, "5m", limit=3)) == 3
    assert len(await client.fetch_long_short_ratio_history(BTC, "5m", limit=3)) == 3


async def test_refusals_become_the_right_errors(client: Any) -> None:
    with pytest.raises(BadSymbol):
        await client.fapiPublicGetKlines({"symbol": "NOPE", "interval": "1m"})
    with pytest.raises(BadRequest):
        await client.fapiPublicGetKlines({"symbol": "BTCUSDT"})


async def test_too_much_weight_is_ddos_protection() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0, weight_limit=39))
    async with running_exchange(exchange) as base:
        client = ccxt.binanceusdm(ccxt_options(base))
        try:
            with pytest.raises(DDoSProtection):
                await client.fetch_tickers()
        finally:
            await client.close()


async def test_streams_are_read(base: str) -> None:
    client = ccxtpro.binanceusdm(ccxt_options(base))
    try:
        await client.load_markets()
        assert (await client.watch_ohlcv(BTC, "1m"))[-1][4] > 0
        assert (await client.watch_ticker(BTC))["last"] > 0
        assert await client.watch_liquidations_for_symbols([])
    finally:
        await client.close()
