"""The signed door on the wire: signatures wherever parameters stand, times, keys, and replies with every documented field."""

import asyncio
import hashlib
import hmac
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.signing import signature_of
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import REST_EXAMPLES, examples, lacking

with warnings.catch_warnings():
    # python-binance still imports the legacy client of websockets.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SOL = {"symbol": "SOLUSDT"}


class Trader:
    """Signs by hand."""

    def __init__(self, session: aiohttp.ClientSession, base: str, opened: dict[str, str]) -> None:
        self.session, self.base = session, base
        self.key, self.secret = opened["api_key"], opened["api_secret"]

    def signed(self, given: dict[str, str], at: int | None = None) -> str:
        text = urlencode(given | {"timestamp": str(Exchange.wall_ms() if at is None else at)})
        return f"{text}&signature={hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()}"

    async def send(self, method: str, path: str, query: str = "", body: str = "", key: str | None = None) -> tuple[int, Any]:
        url = f"{self.base}/fapi/{path}" + (f"?{query}" if query else "")
        headers = {"X-MBX-APIKEY": self.key if key is None else key}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        async with self.session.request(method, url, data=body or None, headers=headers) as response:
            return response.status, await response.json()

    async def ask(self, method: str, path: str, **given: str) -> Any:
        status, reply = await self.send(method, path, self.signed(given))
        assert status == 200, reply
        return reply


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=1, weight_limit=1_000_000))


@pytest.fixture
async def trader(exchange: Exchange) -> AsyncIterator[Trader]:
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "10000"}) as response:
            opened = await response.json()
        yield Trader(session, base, opened)


def test_the_signature_is_the_documented_one() -> None:
    secret = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
    payload = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943"
    assert signature_of(secret, payload) == "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


@pytest.mark.parametrize("place", ["query", "body", "both", "shouted"])
async def test_parameters_may_stand_anywhere(trader: Trader, place: str) -> None:
    signed = trader.signed({"symbol": "BTCUSDT", "leverage": "7"})
    query, body = {"query": (signed, ""), "body": ("", signed)}.get(place, ("", ""))
    if place == "shouted":
        text, _, signature = signed.rpartition("=")
        query = f"{text}={signature.upper()}"
    if place == "both":
        query, body = "symbol=BTCUSDT", f"leverage=7&timestamp={Exchange.wall_ms()}"
        body += f"&signature={signature_of(trader.secret, query + body)}"
    status, told = await trader.send("POST", "v1/leverage", query, body)
    assert (status, told["symbol"], told["leverage"]) == (200, "BTCUSDT", 7)


async def test_what_is_not_believed_is_refused_with_its_number(trader: Trader) -> None:
    now = Exchange.wall_ms()
    cases = [
        (trader.signed({}), "", 401, -2014),
        (trader.signed({}), "nobody", 401, -2015),
        (f"timestamp={now}", None, 400, -1102),
        (f"timestamp={now}&signature=00", None, 400, -1022),
        (trader.signed({}, at=now - 6_000), None, 400, -1021),
        (trader.signed({}, at=now + 60_000), None, 400, -1021),
        (trader.signed({"recvWindow": "60001"}), None, 400, -1131),
        (f"signature={signature_of(trader.secret, '')}", None, 400, -1102),
    ]
    for query, key, status, code in cases:
        said, body = await trader.send("GET", "v3/account", query, key=key)
        assert (said, body["code"]) == (status, code)
    said, _ = await trader.send("GET", "v3/account", trader.signed({"recvWindow": "60000"}, at=now - 30_000))
    assert said == 200


async def _lived(trader: Trader) -> dict[str, dict[str, str]]:
    """An account with a position, a resting order, a waiting and a canceled one; what to ask each path for."""
    async with trader.session.get(f"{trader.base}/fapi/v1/ticker/price?symbol=SOLUSDT") as response:
        last = float((await response.json())["price"])
    bought = await trader.ask("POST", "v1/order", **SOL, side="BUY", type="MARKET", quantity="1", newOrderRespType="RESULT")
    low = f"{last * 0.97:.2f}"
    await trader.ask("POST", "v1/order", **SOL, side="BUY", type="LIMIT", quantity="1", price=low, timeInForce="GTC")
    stop = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "side": "SELL", "quantity": "1", "triggerPrice": low}
    algo = await trader.ask("POST", "v1/algoOrder", **SOL, **stop)
    order, one = {"orderId": str(bought["orderId"])}, {"algoId": str(algo["algoId"])}
    paths: dict[str, dict[str, str]] = {
        path: {} for path in ("v3/account", "v2/balance", "v3/balance", "v1/leverageBracket", "v1/accountConfig", "v1/income")
    }
    paths |= {path: {} for path in ("v1/positionSide/dual", "v1/openOrders", "v1/openAlgoOrders", "v1/multiAssetsMargin")}
    paths |= dict.fromkeys(("v2/positionRisk", "v3/positionRisk", "v1/symbolConfig", "v1/commissionRate"), SOL)
    paths |= dict.fromkeys(("v1/userTrades", "v1/allOrders", "v1/allAlgoOrders"), SOL)
    return paths | {"v1/order": SOL | order, "v1/algoOrder": one}


NOT_OURS = {"baseQty", "goodTillDate", "activatePrice", "priceRate", "cumBase", "tpOrderType", "actualType", "icebergQuantity"}
"""Fields of COIN-M, of other order types, or null in the examples only as a string."""


@examples
async def test_every_signed_reply_has_the_documented_fields(trader: Trader) -> None:
    rows = json.loads(REST_EXAMPLES.read_text(encoding="utf-8"))
    samples = {row["path"]: row["response"] for row in rows if row["method"] == "GET"}
    for path, given in (await _lived(trader)).items():
        told = await trader.ask("GET", path, **given)
        wanting = [text for text in lacking(samples[f"/fapi/{path}"], told) if not any(name in text for name in NOT_OURS)]
        assert told, path
        assert wanting == [], path


async def test_replies_to_orders_have_no_average_price_unless_asked_for(trader: Trader, exchange: Exchange) -> None:
    words = {**SOL, "side": "BUY", "type": "MARKET", "quantity": "1", "newOrderRespType": "RESULT"}
    told = await trader.ask("POST", "v1/order", **words)
    assert (told["status"], told["executedQty"]) == ("FILLED", "1.00")
    assert not {"avgPrice", "cumQuote"} & set(told)
    exchange.average_in_replies = True
    try:
        assert float((await trader.ask("POST", "v1/order", **words))["avgPrice"]) > 0
    finally:
        exchange.average_in_replies = False
    acknowledged = await trader.ask("POST", "v1/order", **words | {"newOrderRespType": "ACK"})
    assert (acknowledged["status"], acknowledged["executedQty"]) == ("NEW", "0.00")


async def test_python_binance_trades(trader: Trader) -> None:
    client = AsyncClient(trader.key, trader.secret)
    client.FUTURES_URL = f"{trader.base}/fapi"
    try:
        order = await client.futures_create_order(**SOL, side="BUY", type="MARKET", quantity=1)
        assert (await client.futures_get_order(**SOL, orderId=order["orderId"]))["status"] == "FILLED"
        [position] = await client.futures_position_information(**SOL)
        low = f"{float(position['markPrice']) * 0.9:.2f}"
        stop = await client.futures_create_order(**SOL, side="SELL", type="STOP_MARKET", triggerPrice=low, closePosition="true")
        assert stop["algoStatus"] == "NEW"
        price = f"{float(position['markPrice']) * 0.97:.2f}"
        resting = await client.futures_create_order(**SOL, side="BUY", type="LIMIT", quantity=1, price=price, timeInForce="GTC")
        assert (await client.futures_cancel_order(**SOL, orderId=resting["orderId"]))["status"] == "CANCELED"
        await client.futures_create_order(**SOL, side="SELL", type="MARKET", quantity=1, reduceOnly="true")
        assert await client.futures_position_information(**SOL) == []
    finally:
        await client.close_connection()


async def test_the_official_sdk_trades(trader: Trader) -> None:
    configuration = ConfigurationRestAPI(api_key=trader.key, api_secret=trader.secret, base_path=trader.base)
    api = DerivativesTradingUsdsFutures(config_rest_api=configuration).rest_api

    async def ask(name: str, **given: Any) -> Any:
        return (await asyncio.to_thread(getattr(api, name), **given)).data()

    order = await ask("new_order", symbol="SOLUSDT", side="BUY", type="MARKET", quantity=1)
    assert (await ask("query_order", symbol="SOLUSDT", order_id=order.order_id)).status == "FILLED"
    [position] = await ask("position_information_v3", symbol="SOLUSDT")
    assert float(position.position_amt) == 1
    assert await ask("futures_account_balance_v3")
    assert await ask("notional_and_leverage_brackets")
    assert (await ask("account_information_v3")).positions
    await ask("new_order", symbol="SOLUSDT", side="SELL", type="MARKET", quantity=1, reduce_only="true")
    assert len(await ask("account_trade_list", symbol="SOLUSDT")) >= 2
