"""Faults on the wire, as the unmodified CCXT client meets them: each with what the exchange did and what the client is told."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options
from tests.polling import eventually

BTC = "BTC/USDT:USDT"
ORDER = {"method": "POST", "path": "/fapi/v1/order"}


class Desk:
    """One account, its client, and the sandbox's controls."""

    def __init__(self, session: aiohttp.ClientSession, base: str, opened: dict[str, str]) -> None:
        self.session, self.base, self.key = session, base, opened["api_key"]
        self.ccxt = ccxt.binanceusdm(ccxt_options(base, opened["api_key"], opened["api_secret"]) | {"timeout": 400})

    async def fault(self, *rules: dict[str, Any]) -> None:
        async with self.session.post(f"{self.base}/sandbox/faults", json={"rules": rules}) as response:
            assert response.status == 201, await response.text()

    async def cleared(self) -> dict[str, Any]:
        async with self.session.delete(f"{self.base}/sandbox/faults") as response:
            told: dict[str, Any] = await response.json()
            return told

    async def held(self) -> float:
        async with self.session.get(f"{self.base}/sandbox/accounts/{self.key}") as response:
            told = await response.json()
        return sum(float(position["quantity"]) for position in told["positions"])

    async def buy(self) -> Any:
        return await self.ccxt.create_order(BTC, "market", "buy", 0.01)


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=1, weight_limit=1_000_000))


@pytest.fixture
async def desk(exchange: Exchange) -> AsyncIterator[Desk]:
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "1000"}) as response:
            desk = Desk(session, base, await response.json())
        try:
            await desk.ccxt.load_markets()
            yield desk
        finally:
            await desk.cleared()
            await desk.ccxt.close()


@pytest.mark.parametrize(
    ("kind", "error", "words", "bought"),
    [
        ("timeout_executed", ccxt.RequestTimeout, "-1007", 0.01),
        ("timeout_lost", ccxt.RequestTimeout, "-1007", 0),
        ("silent_executed", ccxt.RequestTimeout, "binanceusdm POST", 0.01),
        ("silent_lost", ccxt.RequestTimeout, "binanceusdm POST", 0),
        ("unknown_executed", ccxt.OperationFailed, "Unknown error", 0.01),
        ("unknown_lost", ccxt.OperationFailed, "Unknown error", 0),
        ("reset_before", ccxt.ExchangeNotAvailable, "binanceusdm POST", 0),
        ("reset_after", ccxt.ExchangeNotAvailable, "binanceusdm POST", 0.01),
        ("html_502", ccxt.ExchangeNotAvailable, "502", 0),
        ("html_502_executed", ccxt.ExchangeNotAvailable, "502", 0.01),
        ("html_403", ccxt.NetworkError, "403", 0),
        ("overloaded", ccxt.OperationFailed, "-1008", 0),
        ("unavailable", ccxt.ExchangeNotAvailable, "Service Unavailable", 0),
        ("skew", ccxt.InvalidNonce, "-1021", 0),
        ("duplicate", ccxt.InvalidOrder, "-4116", 0.01),
        ("revoked", ccxt.AuthenticationError, "-2015", 0),
    ],
)
async def test_an_order_meets_a_fault_once(desk: Desk, kind: str, error: type[Exception], words: str, bought: float) -> None:
    await desk.fault({"kind": kind, "match": ORDER, "times": 1})
    with pytest.raises(error, match=words):
        await desk.buy()
    assert await desk.held() == bought
    assert (await desk.cleared())["fired"] == {kind: 1}


async def test_a_slow_reply_comes(desk: Desk) -> None:
    await desk.fault({"kind": "slow", "match": ORDER, "seconds": 0.2})
    assert (await desk.buy())["filled"] == 0.01


async def test_an_order_that_arrives_late_is_executed_after_its_sender_gave_up(desk: Desk) -> None:
    await desk.fault({"kind": "arrives_late", "match": ORDER, "seconds": 0.7})
    with pytest.raises(ccxt.RequestTimeout):
        await desk.buy()
    assert await desk.held() == 0

    async def arrived() -> bool | None:
        return await desk.held() == 0.01 or None

    await eventually(arrived, seconds=5, what="the late order")


async def test_reads_lag_behind_a_fill(desk: Desk) -> None:
    await desk.ccxt.fetch_positions([BTC])
    await desk.fault({"kind": "stale", "seconds": 1.0})
    order = await desk.buy()
    assert await desk.ccxt.fetch_positions([BTC]) == []
    assert await desk.ccxt.fetch_my_trades(BTC) == []
    with pytest.raises(ccxt.OrderNotFound):
        await desk.ccxt.fetch_order(order["id"], BTC)

    async def caught_up() -> bool | None:
        return bool(await desk.ccxt.fetch_positions([BTC])) or None

    await eventually(caught_up, seconds=5, what="reads that have caught up")
    assert (await desk.ccxt.fetch_order(order["id"], BTC))["filled"] == 0.01


async def test_a_caller_that_is_throttled_waits_or_is_banned(desk: Desk) -> None:
    await desk.fault({"kind": "throttled", "match": ORDER, "seconds": 0.3, "times": 1})
    statuses = []
    for _ in range(5):
        with pytest.raises(ccxt.DDoSProtection, match="-1003"):
            await desk.buy()
        statuses.append(desk.ccxt.last_response_headers["Retry-After"])
    assert statuses == ["1", "1", "1", "1", "2"]

    async def served() -> Any:
        try:
            return await desk.buy()
        except ccxt.DDoSProtection:
            return None

    await eventually(served, seconds=5, what="the end of the ban")


async def test_a_triggered_stop_is_stuck_until_faults_are_cleared(desk: Desk, exchange: Exchange) -> None:
    await desk.buy()
    last = (await desk.ccxt.fetch_ticker(BTC))["last"]
    await desk.fault({"kind": "stuck_triggering", "match": {"client_id": "stop-*"}})
    await desk.ccxt.create_order(
        BTC,
        "STOP_MARKET",
        "sell",
        0.01,
        None,
        {"triggerPrice": round(last * 0.9999, 1), "reduceOnly": True, "newClientOrderId": "stop-1"},
    )
    account = exchange.trading.accounts[desk.key]
    exchange.clock = exchange.clock.rebased(exchange.wall_ms(), 2_000)
    try:

        async def triggered() -> bool | None:
            return [algo.status for algo in account.algos.values()] == ["TRIGGERING"] or None

        await eventually(triggered, seconds=10, what="the trigger")
        for _ in range(5):
            exchange.advance(exchange.now())
        assert await desk.held() == 0.01
        await desk.cleared()

        async def closed() -> bool | None:
            return await desk.held() == 0 or None

        await eventually(closed, seconds=10, what="the stop's fill")
    finally:
        exchange.clock = exchange.clock.rebased(exchange.wall_ms(), 1)


async def test_rules_that_do_not_read_are_refused(desk: Desk) -> None:
    for body in ({"rules": [{"kind": "hail"}]}, {"profile": "hail"}, {"rules": [{"kind": "slow", "probability": 2}]}, {"x": 1}):
        async with desk.session.post(f"{desk.base}/sandbox/faults", json=body) as response:
            assert response.status == 400
    async with desk.session.post(f"{desk.base}/sandbox/faults", json={"profile": "storm", "seed": 3}) as response:
        assert len((await response.json())["rules"]) > 20


async def test_a_silent_exchange_counts_as_one_that_takes_no_orders(desk: Desk, exchange: Exchange) -> None:
    await desk.fault({"kind": "silent_lost", "match": ORDER, "times": 1})
    with pytest.raises(ccxt.RequestTimeout):
        await desk.buy()
    vigil, wall = exchange.trading.herald.vigil, exchange.wall_ms()

    async def noticed() -> bool | None:
        return vigil.refused_ms(desk.key, wall - 2_000, exchange.wall_ms()) >= 300 or None

    await eventually(noticed, seconds=5, what="the refused span")
