"""The unmodified CCXT client trades on the sandbox: it opens, reads back and closes, as it would on the exchange."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options

BTC = "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=1, weight_limit=1_000_000))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


@pytest.fixture
async def opened(base: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.post(base + "/sandbox/accounts", json={"wallet": "1000"}) as response:
        assert response.status == 201
        opened: dict[str, str] = await response.json()
        return opened


@pytest.fixture
async def client(base: str, opened: dict[str, str]) -> AsyncIterator[Any]:
    client = ccxt.binanceusdm(ccxt_options(base, opened["api_key"], opened["api_secret"]))
    try:
        await client.load_markets()
        yield client
    finally:
        await client.close()


async def truth(base: str, opened: dict[str, str]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{base}/sandbox/accounts/{opened['api_key']}") as response:
        told: dict[str, Any] = await response.json()
        return told


async def test_a_market_order_is_opened_read_back_and_closed_reduce_only(client: Any, base: str, opened: dict[str, str]) -> None:
    await client.set_margin_mode("isolated", BTC)
    await client.set_leverage(10, BTC)
    order = await client.create_order(BTC, "market", "buy", 0.01, None, {"newClientOrderId": "entry-1"})
    assert (order["status"], order["filled"], order["average"]) == ("closed", 0.01, None)
    read = await client.fetch_order(None, BTC, {"origClientOrderId": "entry-1"})
    assert read["average"] > 0
    fills = await client.fetch_my_trades(BTC)
    assert sum(fill["amount"] for fill in fills) == pytest.approx(0.01)
    assert sum(fill["fee"]["cost"] for fill in fills) == pytest.approx(read["cost"] * 0.0005, rel=1e-3)
    [position] = await client.fetch_positions([BTC], {"useV2": True})
    assert (position["side"], position["contracts"], position["leverage"], position["marginMode"]) == (
        "long",
        0.01,
        10,
        "isolated",
    )
    assert position["entryPrice"] == pytest.approx(read["average"])
    assert 0 < position["liquidationPrice"] < read["average"]
    [plain] = await client.fetch_positions([BTC])
    assert plain["leverage"] is None
    balance = await client.fetch_balance()
    assert balance["USDT"]["free"] == pytest.approx(1000 - read["cost"] / 10, abs=2)
    closed = await client.create_order(BTC, "market", "sell", 0.02, None, {"reduceOnly": True})
    assert (closed["status"], closed["filled"]) == ("closed", 0.01)
    assert await client.fetch_positions([BTC]) == []
    told = await truth(base, opened)
    assert told["positions"] == []
    assert told["exchange"]["imbalance"] == "0.00000000"
    assert sum(map(float, told["income"].values())) == pytest.approx(float(told["wallet"]), abs=1e-6)


async def test_a_limit_order_rests_and_is_canceled(client: Any) -> None:
    price = round((await client.fetch_ticker(BTC))["last"] * 0.97, 1)
    order = await client.create_order(BTC, "limit", "buy", 0.01, price)
    assert (order["status"], order["filled"]) == ("open", 0)
    assert [row["id"] for row in await client.fetch_open_orders(BTC)] == [order["id"]]
    assert (await client.cancel_order(order["id"], BTC))["status"] == "canceled"
    assert await client.fetch_open_orders(BTC) == []
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(order["id"], BTC)
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("1", BTC)


async def test_refusals_become_the_right_errors(client: Any) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(BTC, "market", "buy", 5)
    with pytest.raises(ccxt.InvalidOrder, match="-2022"):
        await client.create_order(BTC, "market", "sell", 1, None, {"reduceOnly": True})
    with pytest.raises(ccxt.InvalidOrder, match="-4164"):
        await client.create_order("SOL/USDT:USDT", "limit", "buy", 0.01, 100)
    with pytest.raises(ccxt.MarginModeAlreadySet):
        await client.set_margin_mode("cross", BTC)
    with pytest.raises(ccxt.InvalidOrder, match="-4120"):
        await client.fapiPrivatePostOrder({"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "1"})


async def test_a_wrong_secret_is_an_authentication_error(base: str, opened: dict[str, str]) -> None:
    client = ccxt.binanceusdm(ccxt_options(base, opened["api_key"], "wrong"))
    try:
        with pytest.raises(ccxt.AuthenticationError, match="-1022"):
            await client.fetch_balance()
    finally:
        await client.close()


async def test_settings_and_tiers_are_read(client: Any) -> None:
    tiers = await client.fetch_leverage_tiers([BTC])
    assert tiers[BTC][0]["maxLeverage"] == 150
    assert (await client.fetch_position_mode(BTC))["hedged"] is False
    assert (await client.fetch_trading_fee(BTC))["taker"] == 0.0005
    assert (await client.fetch_leverages([BTC]))[BTC]["longLeverage"] == 20
    assert [row["type"] for row in await client.fetch_ledger()] == ["transfer"]


async def test_a_stop_is_placed_read_back_and_canceled(client: Any) -> None:
    last = (await client.fetch_ticker(BTC))["last"]
    await client.create_order(BTC, "market", "buy", 0.01)
    stop = await client.create_order(
        BTC,
        "STOP_MARKET",
        "sell",
        0.01,
        None,
        {"triggerPrice": round(last * 0.98, 1), "reduceOnly": True, "newClientOrderId": "stop-1", "workingType": "MARK_PRICE"},
    )
    assert (stop["status"], stop["clientOrderId"], stop["triggerPrice"]) == ("open", "stop-1", round(last * 0.98, 1))
    assert await client.fetch_open_orders(BTC) == []
    assert [row["id"] for row in await client.fetch_open_orders(BTC, params={"trigger": True})] == [stop["id"]]
    assert (await client.fetch_order(None, BTC, {"trigger": True, "clientAlgoId": "stop-1"}))["id"] == stop["id"]
    with pytest.raises(ccxt.OrderImmediatelyFillable, match="-2021"):
        await client.create_order(BTC, "STOP_MARKET", "sell", 0.01, None, {"triggerPrice": round(last * 1.02, 1)})
    await client.cancel_all_orders(BTC, {"trigger": True})
    assert await client.fetch_open_orders(BTC, params={"trigger": True}) == []
    assert (await client.fetch_order(stop["id"], BTC, {"trigger": True}))["status"] == "canceled"


async def test_orders_are_placed_amended_and_canceled_in_batches(client: Any) -> None:
    low = round((await client.fetch_ticker(BTC))["last"] * 0.97, 1)
    wanted = {"symbol": BTC, "type": "limit", "side": "buy", "amount": 0.01, "price": low}
    placed = await client.create_orders([wanted, {**wanted, "amount": 0.0171}])
    assert [row["status"] for row in placed] == ["open", "open"]
    amended = await client.edit_order(placed[0]["id"], BTC, "limit", "buy", 0.02, low)
    assert (amended["amount"], amended["id"]) == (0.02, placed[0]["id"])
    canceled = await client.cancel_orders([row["id"] for row in placed], BTC)
    assert [row["status"] for row in canceled] == ["canceled", "canceled"]
    assert await client.fetch_open_orders(BTC) == []
    assert await client.fetch_my_liquidations(BTC) == []
