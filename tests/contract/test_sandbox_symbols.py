"""A symbol changes under a trader's hands: its rules, and that it trades at all; and the exchange behaves as it is told to."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.test_sandbox_signed_wire import SOL, Trader

BUY = {**SOL, "side": "BUY", "type": "MARKET", "quantity": "1.5"}


@pytest.fixture
async def trader() -> AsyncIterator[Trader]:
    exchange = Exchange(SandboxOptions(port=0, speed=0, weight_limit=1_000_000))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "10000"}) as response:
            opened = await response.json()
        yield Trader(session, base, opened)


async def control(trader: Trader, path: str, given: dict[str, Any]) -> tuple[int, Any]:
    async with trader.session.post(f"{trader.base}/sandbox/{path}", json=given) as response:
        return response.status, await response.json()


async def filters(trader: Trader) -> dict[str, Any]:
    async with trader.session.get(f"{trader.base}/fapi/v1/exchangeInfo") as response:
        [row] = [row for row in (await response.json())["symbols"] if row["symbol"] == "SOLUSDT"]
        return {item["filterType"]: item for item in row["filters"]} | {"status": row["status"]}


async def test_new_rules_are_told_and_old_quantities_refused(trader: Trader) -> None:
    assert (await filters(trader))["LOT_SIZE"]["stepSize"] == "0.01"
    await trader.ask("POST", "v1/order", **BUY)
    status, _ = await control(trader, "symbols/SOLUSDT/rules", {"step": "1", "min_notional": "20"})
    told = await filters(trader)
    assert (status, told["LOT_SIZE"]["stepSize"], told["MIN_NOTIONAL"]["notional"]) == (200, "1", "20")
    status, body = await trader.send("POST", "v1/order", trader.signed(BUY))
    assert (status, body["code"]) == (400, -4023)
    for wrong in ({"step": "0.001"}, {"tick": "0"}, {"tock": "1"}):
        assert (await control(trader, "symbols/SOLUSDT/rules", wrong))[0] == 400
    assert (await control(trader, "symbols/NONEUSDT/rules", {}))[1]["code"] == -1121


async def test_a_symbol_that_is_taken_off_settles_what_is_there_and_tells_it(trader: Trader) -> None:
    await trader.ask("POST", "v1/order", **BUY)
    stop = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "side": "SELL", "quantity": "1.5", "triggerPrice": "1.00"}
    await trader.ask("POST", "v1/algoOrder", **SOL, **stop, reduceOnly="true", clientAlgoId="stop-1")
    _, body = await trader.send("POST", "v1/listenKey")
    async with trader.session.ws_connect(f"{trader.base}/private/ws/{body['listenKey']}") as socket:
        status, told = await control(trader, "symbols/SOLUSDT/settle", {})
        assert (status, told["positions_settled"]) == (200, 1)
        events: list[dict[str, Any]] = []
        while not events or events[-1]["e"] != "ACCOUNT_UPDATE":
            events.append(json.loads(await socket.receive_str(timeout=10)))
    assert [event["e"] for event in events if event["e"] != "TRADE_LITE"] == [
        "ALGO_UPDATE",
        "ORDER_TRADE_UPDATE",
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
    ]
    assert events[1]["o"]["c"].startswith("settlement_autoclose-")
    assert await trader.ask("GET", "v3/positionRisk") == []
    assert await trader.ask("GET", "v1/openAlgoOrders", **SOL) == []
    assert (await trader.ask("GET", "v1/algoOrder", clientAlgoId="stop-1"))["algoStatus"] == "EXPIRED"
    assert len(await trader.ask("GET", "v1/userTrades", **SOL)) >= 2
    assert (await filters(trader))["status"] == "SETTLING"
    status, body = await trader.send("POST", "v1/order", trader.signed(BUY))
    assert (status, body["code"]) == (400, -1122)
    assert (await control(trader, "symbols/SOLUSDT/settle", {}))[1]["code"] == -1122


async def test_a_deleveraged_position_is_listed_among_forced_orders(trader: Trader) -> None:
    await trader.ask("POST", "v1/order", **BUY)
    status, told = await control(trader, f"accounts/{trader.key}/deleverage", {"symbol": "SOLUSDT"})
    assert (status, len(told["orders"])) == (200, 1)
    assert await trader.ask("GET", "v3/positionRisk") == []
    [forced] = await trader.ask("GET", "v1/forceOrders", autoCloseType="ADL")
    assert (forced["orderId"], forced["clientOrderId"]) == (told["orders"][0], "adl_autoclose")
    assert await trader.ask("GET", "v1/forceOrders", autoCloseType="LIQUIDATION") == []


async def test_the_exchange_behaves_as_it_is_told_to(trader: Trader) -> None:
    status, told = await control(trader, "behaviour", {"average_in_replies": True, "trigger_latency_ms": 5000})
    assert (status, told["average_in_replies"], told["trigger_latency_ms"], told["orders_per_10s"]) == (200, True, 5000, 300)
    placed = await trader.ask("POST", "v1/order", **BUY, newOrderRespType="RESULT")
    assert float(placed["avgPrice"]) > 0
    assert (await control(trader, "behaviour", {"trigger_latency_ms": -1}))[0] == 400
    assert (await control(trader, "behaviour", {"unheard_of": 1}))[0] == 400


async def test_the_truth_says_how_long_a_position_had_no_stop(trader: Trader) -> None:
    await trader.ask("POST", "v1/order", **BUY, newClientOrderId="entry-1")

    async def truth() -> Any:
        async with trader.session.get(f"{trader.base}/sandbox/accounts/{trader.key}") as response:
            return await response.json()

    [span] = (await truth())["unprotected"]
    assert (span["symbol"], span["quantity"], span["lasting"]) == ("SOLUSDT", "1.5", True)
    stop = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "side": "SELL", "quantity": "1.5", "triggerPrice": "1.00"}
    await trader.ask("POST", "v1/algoOrder", **SOL, **stop, reduceOnly="true", clientAlgoId="stop-1")
    told = await truth()
    assert all(not span["lasting"] for span in told["unprotected"])
    assert [row["client_id"] for row in told["waiting"]] == ["stop-1"]
    assert {trade["client_id"] for trade in told["trades"]} == {"entry-1"}
    assert sum(float(item["amount"]) for item in told["incomes"]) == pytest.approx(float(told["wallet"]), abs=1e-6)
    assert told["positions"][0]["stopped"] == "1.5"
