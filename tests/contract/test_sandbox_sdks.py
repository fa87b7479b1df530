"""Binance's official SDK and python-binance read the sandbox unmodified."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions

with warnings.catch_warnings():
    # python-binance still imports the legacy client of websockets.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceSocketManager

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PAIR_INTERVAL = {"pair": "BTCUSDT", "interval": "1m", "limit": 3}
SYMBOL_INTERVAL = {"symbol": "BTCUSDT", "interval": "1m", "limit": 3}
PERIOD = {"symbol": "BTCUSDT", "period": "5m", "limit": 3}
OFFICIAL: dict[str, dict[str, Any]] = {
    "test_connectivity": {},
    "check_server_time": {},
    "exchange_information": {},
    "order_book": {"symbol": "BTCUSDT", "limit": 20},
    "rpi_order_book": {"symbol": "BTCUSDT", "limit": 20},
    "recent_trades_list": {"symbol": "BTCUSDT", "limit": 5},
    "old_trades_lookup": {"symbol": "BTCUSDT", "limit": 5},
    "compressed_aggregate_trades_list": {"symbol": "BTCUSDT", "limit": 5},
    "kline_candlestick_data": SYMBOL_INTERVAL,
    "mark_price_kline_candlestick_data": SYMBOL_INTERVAL,
    "premium_index_kline_data": SYMBOL_INTERVAL,
    "index_price_kline_candlestick_data": PAIR_INTERVAL,
    "continuous_contract_kline_candlestick_data": {**PAIR_INTERVAL, "contract_type": "PERPETUAL"},
    "mark_price": {"symbol": "BTCUSDT"},
    "get_funding_rate_history": {"symbol": "BTCUSDT"},
    "get_funding_rate_info": {},
    "ticker24hr_price_change_statistics": {"symbol": "BTCUSDT"},
    "symbol_price_ticker": {"symbol": "BTCUSDT"},
    "symbol_price_ticker_v2": {"symbol": "BTCUSDT"},
    "symbol_order_book_ticker": {"symbol": "BTCUSDT"},
    "open_interest": {"symbol": "BTCUSDT"},
    "open_interest_statistics": PERIOD,
    "long_short_ratio": PERIOD,
    "top_trader_long_short_ratio_accounts": PERIOD,
    "top_trader_long_short_ratio_positions": PERIOD,
    "taker_buy_sell_volume": PERIOD,
    "basis": {"pair": "BTCUSDT", "contract_type": "PERPETUAL", "period": "5m", "limit": 3},
    "quarterly_contract_settlement_price": {"pair": "BTCUSDT"},
    "composite_index_symbol_information": {},
    "asset_index": {"symbol": "BTCUSD"},
    "query_index_price_constituents": {"symbol": "BTCUSDT"},
    "query_insurance_fund_balance_snapshot": {"symbol": "BTCUSDT"},
    "adl_risk": {"symbol": "BTCUSDT"},
    "trading_schedule": {},
}
MAY_BE_EMPTY = {"test_connectivity", "quarterly_contract_settlement_price", "composite_index_symbol_information"}


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=450, weight_limit=1_000_000))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


async def test_the_official_sdk_reads_every_public_endpoint(base: str) -> None:
    api = DerivativesTradingUsdsFutures(config_rest_api=ConfigurationRestAPI(api_key="", api_secret="", base_path=base)).rest_api
    for name, arguments in OFFICIAL.items():
        response = await asyncio.to_thread(getattr(api, name), **arguments)
        data = response.data()
        assert data or name in MAY_BE_EMPTY, name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kline_candlestick_streams", {"symbol": "btcusdt", "interval": "1m"}),
        ("individual_symbol_ticker_streams", {"symbol": "btcusdt"}),
        ("all_market_tickers_streams", {}),
        ("all_market_liquidation_order_streams", {}),
        ("individual_symbol_book_ticker_streams", {"symbol": "btcusdt"}),
    ],
)
async def test_the_official_sdk_reads_streams(base: str, name: str, arguments: dict[str, str]) -> None:
    configuration = ConfigurationWebSocketStreams(stream_url=base.replace("http", "ws"))
    streams = DerivativesTradingUsdsFutures(config_ws_streams=configuration).websocket_streams
    await streams.create_connection()
    try:
        handle = await getattr(streams, name)(**arguments)
        assert await first(lambda tell: handle.on("message", tell))
    finally:
        await streams.close_connection()


async def first(listen: Callable[[Callable[[Any], None]], None]) -> Any:
    """The first message that a callback is told."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def tell(message: Any) -> None:
        if not told.done():
            told.set_result(message)

    listen(tell)
    return await asyncio.wait_for(told, 20)


@pytest.fixture
async def python_binance(base: str) -> AsyncIterator[Any]:
    client = AsyncClient()
    client.FUTURES_URL, client.FUTURES_DATA_URL = f"{base}/fapi", f"{base}/futures/data"
    try:
        yield client
    finally:
        await client.close_connection()


async def test_python_binance_reads_every_public_endpoint(python_binance: Any) -> None:
    client = python_binance
    symbol = {"symbol": "BTCUSDT"}
    calls: list[tuple[Any, dict[str, Any]]] = [
        (client.futures_time, {}),
        (client.futures_exchange_info, {}),
        (client.futures_order_book, symbol),
        (client.futures_recent_trades, symbol),
        (client.futures_historical_trades, symbol),
        (client.futures_aggregate_trades, symbol),
        (client.futures_klines, SYMBOL_INTERVAL),
        (client.futures_mark_price_klines, SYMBOL_INTERVAL),
        (client.futures_index_price_klines, PAIR_INTERVAL),
        (client.futures_premium_index_klines, SYMBOL_INTERVAL),
        (client.futures_continuous_klines, {**PAIR_INTERVAL, "contractType": "PERPETUAL"}),
        (client.futures_mark_price, symbol),
        (client.futures_funding_rate, symbol),
        (client.futures_ticker, {}),
        (client.futures_symbol_ticker, {}),
        (client.futures_orderbook_ticker, {}),
        (client.futures_open_interest, symbol),
        (client.futures_open_interest_hist, PERIOD),
        (client.futures_top_longshort_account_ratio, PERIOD),
        (client.futures_top_longshort_position_ratio, PERIOD),
        (client.futures_global_longshort_ratio, PERIOD),
        (client.futures_taker_longshort_ratio, PERIOD),
    ]
    assert await client.futures_ping() == {}
    for call, arguments in calls:
        assert await call(**arguments), call.__name__


async def test_python_binance_reads_streams(base: str, python_binance: Any) -> None:
    manager = BinanceSocketManager(python_binance)
    manager.FSTREAM_URL = base.replace("http", "ws") + "/"
    for stream in ("btcusdt@kline_1m", "btcusdt@ticker", "!forceOrder@arr"):
        async with manager.futures_multiplex_socket([stream]) as socket:
            message = await asyncio.wait_for(socket.recv(), 20)
            assert message["stream"] == stream
            assert message["data"]
