"""What the signed door counts, allows and takes away: order counts, permissions, revoked keys, and the rarer endpoints."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import REST_EXAMPLES, examples, lacking
from tests.contract.test_sandbox_signed_wire import NOT_OURS, SOL, Trader
from tests.polling import eventually

BUY = {**SOL, "side": "BUY", "type": "MARKET", "quantity": "1"}


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=0, weight_limit=1_000_000))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def opened(session: aiohttp.ClientSession, base: str, **given: Any) -> Trader:
    async with session.post(f"{base}/sandbox/accounts", json={"wallet": "10000"} | given) as response:
        assert response.status == 201
        return Trader(session, base, await response.json())


async def control(session: aiohttp.ClientSession, url: str, **given: Any) -> Any:
    async with session.post(url, json=given) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def place(trader: Trader, path: str = "v1/order", **given: str) -> tuple[int, Any, dict[str, str]]:
    headers = {"X-MBX-APIKEY": trader.key, "Content-Type": "application/x-www-form-urlencoded"}
    body = trader.signed(given or BUY)
    async with trader.session.post(f"{trader.base}/fapi/{path}", data=body, headers=headers) as response:
        return response.status, await response.json(), dict(response.headers)


async def test_orders_are_counted_in_headers_and_too_many_are_refused_without_a_ban(
    session: aiohttp.ClientSession, base: str
) -> None:
    trader, other = await opened(session, base), await opened(session, base)
    await control(session, f"{base}/sandbox/behaviour", orders_per_10s=8, orders_per_minute=1200)
    try:
        _, _, headers = await place(trader)
        assert (headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"]) == ("1", "1")
        batch = json.dumps([{**BUY, "quantity": 1}])
        _, _, headers = await place(trader, "v1/batchOrders", batchOrders=batch)
        assert (headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"]) == ("6", "2")
        stop = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "side": "SELL", "quantity": "1", "triggerPrice": "1.00"}
        _, _, headers = await place(trader, "v1/algoOrder", **SOL, **stop)
        assert headers["X-MBX-ORDER-COUNT-10S"] == "7"
        await place(trader)
        status, body, headers = await place(trader)
        assert (status, body["code"], int(headers["Retry-After"]) >= 1) == (429, -1015, True)
        assert (await trader.ask("GET", "v3/account"))["assets"]
        assert [row["limit"] for row in await trader.ask("GET", "v1/rateLimit/order")] == [8, 1200]
        assert (await place(other))[0] == 200
    finally:
        await control(session, f"{base}/sandbox/behaviour", orders_per_10s=300)


async def test_a_revoked_key_is_refused_everywhere_and_may_be_restored(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    await trader.ask("POST", "v1/order", **BUY)
    await control(session, f"{base}/sandbox/accounts/{trader.key}/revoke")
    for method, path in (("GET", "v3/account"), ("POST", "v1/order"), ("POST", "v1/listenKey")):
        status, body = await trader.send(method, path, trader.signed(BUY))
        assert (status, body["code"]) == (401, -2015)
    await control(session, f"{base}/sandbox/accounts/{trader.key}/restore")
    assert len(await trader.ask("GET", "v3/positionRisk")) == 1


async def test_permissions_are_what_the_account_was_opened_with(session: aiohttp.ClientSession, base: str) -> None:
    async def permissions(trader: Trader) -> Any:
        url = f"{base}/sapi/v1/account/apiRestrictions?{trader.signed({})}"
        async with session.get(url, headers={"X-MBX-APIKEY": trader.key}) as response:
            assert response.status == 200
            return await response.json()

    told = await permissions(await opened(session, base))
    assert (told["enableFutures"], told["enableWithdrawals"], told["ipRestrict"]) == (True, False, True)
    reader = await opened(session, base, trading=False, withdrawals=True, ip_restricted=False)
    told = await permissions(reader)
    assert (told["enableFutures"], told["enableWithdrawals"], told["ipRestrict"]) == (False, True, False)
    status, body = await reader.send("POST", "v1/order", reader.signed(BUY))
    assert (status, body["code"]) == (401, -2015)
    assert (await reader.ask("GET", "v3/account"))["assets"]


async def test_margin_is_moved_by_hand(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    await trader.ask("POST", "v1/marginType", **SOL, marginType="ISOLATED")
    await trader.ask("POST", "v1/order", **BUY)
    told = await trader.ask("POST", "v1/positionMargin", **SOL, amount="100", type="1")
    assert (told["amount"], told["type"]) == (100, 1)
    [position] = await trader.ask("GET", "v3/positionRisk")
    assert float(position["isolatedWallet"]) > 100
    for amount, kind, code in (("1000", "2", -4051), ("100000", "1", -4050)):
        status, body = await trader.send("POST", "v1/positionMargin", trader.signed({**SOL, "amount": amount, "type": kind}))
        assert (status, body["code"]) == (400, code)
    assert (await trader.ask("GET", "v1/adlQuantile"))[0]["adlQuantile"] == {"BOTH": 2}


async def test_a_countdown_cancels_what_rests_when_nobody_renews_it(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    async with session.get(f"{base}/fapi/v1/ticker/price?symbol=SOLUSDT") as response:
        low = f"{float((await response.json())['price']) * 0.97:.2f}"
    await trader.ask("POST", "v1/order", **SOL, side="BUY", type="LIMIT", quantity="1", price=low, timeInForce="GTC")
    assert await trader.ask("POST", "v1/countdownCancelAll", **SOL, countdownTime="60") == {
        "symbol": "SOLUSDT",
        "countdownTime": "60",
    }

    async def canceled() -> bool | None:
        return not await trader.ask("GET", "v1/openOrders", **SOL) or None

    await eventually(canceled, seconds=5, what="the orders to be canceled")


async def test_multi_assets_mode_excludes_isolated_margin(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    await trader.ask("POST", "v1/multiAssetsMargin", multiAssetsMargin="true")
    assert await trader.ask("GET", "v1/multiAssetsMargin") == {"multiAssetsMargin": True}
    status, body = await trader.send("POST", "v1/marginType", trader.signed({**SOL, "marginType": "ISOLATED"}))
    assert (status, body["code"]) == (400, -4168)


async def test_an_order_can_be_tried_without_being_placed(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    assert (await trader.ask("POST", "v1/order/test", **BUY))["status"] == "NEW"
    status, body = await trader.send("POST", "v1/order/test", trader.signed({**BUY, "quantity": "0.001"}))
    assert (status, body["code"]) == (400, -1111)
    assert await trader.ask("GET", "v3/positionRisk") == []


@examples
async def test_the_older_account_reply_has_the_documented_fields(session: aiohttp.ClientSession, base: str) -> None:
    trader = await opened(session, base)
    await trader.ask("POST", "v1/order", **BUY)
    rows = json.loads(REST_EXAMPLES.read_text(encoding="utf-8"))
    [sample] = [row["response"] for row in rows if (row["method"], row["path"]) == ("GET", "/fapi/v2/account")]
    told = await trader.ask("GET", "v2/account")
    assert [text for text in lacking(sample, told) if not any(name in text for name in NOT_OURS)] == []
    assert sum(row["positionAmt"] == "1" for row in told["positions"]) == 1
