"""Independent clients watch their account on the sandbox: CCXT Pro, the official SDK, python-binance and a bare socket."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import ccxt.pro
import pytest
from binance_common.configuration import ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options
from tests.contract.test_sandbox_signed_wire import SOL, Trader
from tests.polling import eventually

with warnings.catch_warnings():
    # python-binance still imports the legacy client of websockets.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceSocketManager

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PATIENCE = 20
BUY = {**SOL, "side": "BUY", "type": "MARKET", "quantity": "1"}
ORDER_FIELDS = "s c S o f q p ap sp x X i l z L N n T t b a m R wt ot ps cp rp pP si ss V pm gtd er"


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=1, weight_limit=1_000_000))


@pytest.fixture
async def trader(exchange: Exchange) -> AsyncIterator[Trader]:
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "10000"}) as response:
            opened = await response.json()
        yield Trader(session, base, opened)


async def listen_key(trader: Trader, method: str = "POST") -> str:
    status, body = await trader.send(method, "v1/listenKey")
    assert status == 200, body
    return str(body.get("listenKey", ""))


async def listened_to(exchange: Exchange, trader: Trader) -> None:
    """Wait until a socket listens to the trader."""

    async def listening() -> bool | None:
        return exchange.listeners(trader.key) > 0 or None

    await eventually(listening, seconds=PATIENCE, what="a listener")


async def heard(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[dict[str, Any]]:
    """Events until one of a kind."""
    out: list[dict[str, Any]] = []
    while not out or out[-1]["e"] != last:
        out.append(json.loads(await socket.receive_str(timeout=PATIENCE)))
    return out


async def test_a_fill_is_told_with_every_field_and_then_the_account(trader: Trader) -> None:
    key = await listen_key(trader)
    assert await listen_key(trader) == key
    assert await listen_key(trader, "PUT") == key
    async with trader.session.ws_connect(f"{trader.base}/private/ws/{key}") as socket:
        placed = await trader.ask("POST", "v1/order", **BUY, newClientOrderId="entry-1")
        events = await heard(socket, "ACCOUNT_UPDATE")
    kinds = [event["e"] for event in events]
    assert kinds == ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"]
    fill, account = events[2]["o"], events[3]["a"]
    assert set(fill) >= set(ORDER_FIELDS.split())
    assert (fill["c"], fill["i"], fill["x"], fill["X"], fill["z"]) == ("entry-1", placed["orderId"], "TRADE", "FILLED", "1.00")
    assert (account["m"], [(row["s"], row["pa"]) for row in account["P"]]) == ("ORDER", [("SOLUSDT", "1")])
    await trader.ask("DELETE", "v1/algoOpenOrders", **SOL)


async def test_only_the_events_asked_for_come(trader: Trader) -> None:
    key = await listen_key(trader)
    url = f"{trader.base}/private/ws?listenKey={key}&events=ALGO_UPDATE/ACCOUNT_CONFIG_UPDATE"
    async with trader.session.ws_connect(url) as socket:
        await trader.ask("POST", "v1/leverage", **SOL, leverage="7")
        await trader.ask("POST", "v1/order", **BUY)
        stop = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "side": "SELL", "quantity": "1", "triggerPrice": "1.00"}
        algo = await trader.ask("POST", "v1/algoOrder", **SOL, **stop)
        events = await heard(socket, "ALGO_UPDATE")
    assert [event["e"] for event in events] == ["ACCOUNT_CONFIG_UPDATE", "ALGO_UPDATE"]
    assert events[0]["ac"] == {"s": "SOLUSDT", "l": 7}
    assert (events[1]["o"]["aid"], events[1]["o"]["X"]) == (algo["algoId"], "NEW")


async def test_combined_streams_wrap_and_may_be_joined_later(trader: Trader) -> None:
    key = await listen_key(trader)
    async with (
        trader.session.ws_connect(f"{trader.base}/private/stream?listenKey={key}") as first,
        trader.session.ws_connect(f"{trader.base}/private/stream") as later,
        trader.session.ws_connect(f"{trader.base}/ws/{key}") as unrouted,
    ):
        await later.send_str(json.dumps({"method": "SUBSCRIBE", "params": [key], "id": "an-id"}))
        assert json.loads(await later.receive_str(timeout=PATIENCE)) == {"result": None, "id": "an-id"}
        await trader.ask("POST", "v1/order", **BUY)
        for socket in (first, later):
            told = json.loads(await socket.receive_str(timeout=PATIENCE))
            assert (told["stream"], told["data"]["e"]) == (key, "ORDER_TRADE_UPDATE")
        with pytest.raises(TimeoutError):
            await unrouted.receive_str(timeout=0.2)


async def test_a_key_that_is_not_kept_alive_ends_and_is_silent(trader: Trader, exchange: Exchange) -> None:
    key = await listen_key(trader)
    async with trader.session.ws_connect(f"{trader.base}/private/ws/{key}") as socket:
        exchange.listen_keys.validity_ms = -1
        try:
            await listen_key(trader)
            [event] = await heard(socket, "listenKeyExpired")
        finally:
            exchange.listen_keys.validity_ms = 3_600_000
        assert event["listenKey"] == key
        await trader.ask("POST", "v1/order", **BUY)
        with pytest.raises(TimeoutError):
            await socket.receive_str(timeout=0.2)
    for method in ("PUT", "DELETE"):
        status, body = await trader.send(method, "v1/listenKey")
        assert (status, body["code"]) == (400, -1125)


async def test_what_time_brings_is_told_without_asking(trader: Trader, exchange: Exchange) -> None:
    key = await listen_key(trader)
    await trader.ask("POST", "v1/order", **BUY)
    async with trader.session.get(f"{trader.base}/fapi/v1/ticker/price?symbol=SOLUSDT") as response:
        last = float((await response.json())["price"])
    stop = {"algoType": "CONDITIONAL", "type": "TRAILING_STOP_MARKET", "side": "SELL", "quantity": "1", "callbackRate": "0.1"}
    await trader.ask("POST", "v1/algoOrder", **SOL, **stop, reduceOnly="true")
    assert last > 0
    clock = exchange.clock
    async with trader.session.ws_connect(f"{trader.base}/private/ws/{key}") as socket:
        exchange.clock = clock.rebased(exchange.wall_ms(), 5_000)
        try:
            events = await heard(socket, "ACCOUNT_UPDATE")
        finally:
            exchange.clock = exchange.clock.rebased(exchange.wall_ms(), 1)
    states = [event["o"]["X"] for event in events if event["e"] == "ALGO_UPDATE"]
    assert states == ["TRIGGERING", "TRIGGERED", "FINISHED"]


async def test_ccxt_watches_a_fill(trader: Trader, exchange: Exchange) -> None:
    client = ccxt.pro.binanceusdm(ccxt_options(trader.base, trader.key, trader.secret))
    try:
        await client.load_markets()
        watching = asyncio.create_task(client.watch_orders("SOL/USDT:USDT"))
        trades = asyncio.create_task(client.watch_my_trades("SOL/USDT:USDT"))
        await listened_to(exchange, trader)
        order = await client.create_order("SOL/USDT:USDT", "market", "buy", 1, None, {"newClientOrderId": "seen-1"})
        [trade] = await asyncio.wait_for(trades, PATIENCE)
        orders = await asyncio.wait_for(watching, PATIENCE)
        assert (trade["order"], trade["amount"]) == (order["id"], 1)
        assert orders[-1]["clientOrderId"] == "seen-1"
    finally:
        await client.close()


async def test_the_official_sdk_reads_every_event(trader: Trader, exchange: Exchange) -> None:
    key = await listen_key(trader)
    configuration = ConfigurationWebSocketStreams(stream_url=trader.base.replace("http", "ws"))
    client = DerivativesTradingUsdsFutures(config_ws_streams=configuration).websocket_streams
    told: asyncio.Queue[Any] = asyncio.Queue()
    connection = await client.create_connection()
    try:
        stream = await connection.user_data(key)
        stream.on("message", told.put_nowait)
        await listened_to(exchange, trader)
        await trader.ask("POST", "v1/order", **BUY)
        seen = []
        while "AccountUpdate" not in seen:
            message = await asyncio.wait_for(told.get(), PATIENCE)
            seen.append(type(message.actual_instance).__name__)
        assert seen == ["OrderTradeUpdate", "TradeLite", "OrderTradeUpdate", "AccountUpdate"]
    finally:
        await connection.close_connection(close_session=True)


async def test_python_binance_watches_a_fill(trader: Trader) -> None:
    client = AsyncClient(trader.key, trader.secret)
    client.FUTURES_URL = f"{trader.base}/fapi"
    manager = BinanceSocketManager(client)
    manager.FSTREAM_URL = trader.base.replace("http", "ws") + "/"
    try:
        async with manager.futures_user_socket() as socket:
            await trader.ask("POST", "v1/order", **BUY)
            seen = []
            while "ACCOUNT_UPDATE" not in seen:
                seen.append((await asyncio.wait_for(socket.recv(), PATIENCE))["e"])
            assert seen[0] == "ORDER_TRADE_UPDATE"
    finally:
        await client.close_connection()
