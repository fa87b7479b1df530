"""A sandbox that was killed comes back with every account as it was, on the market time that has passed meanwhile."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.test_sandbox_signed_wire import SOL, Trader

BUY = {**SOL, "side": "BUY", "type": "MARKET", "quantity": "1"}
HOURS = 3 * 3_600_000


@pytest.fixture
def options(tmp_path: Path) -> SandboxOptions:
    return SandboxOptions(port=0, speed=0, weight_limit=1_000_000, journal=tmp_path / "sandbox.journal")


async def truth(session: aiohttp.ClientSession, base: str, key: str) -> dict[str, Any]:
    async with session.get(f"{base}/sandbox/accounts/{key}") as response:
        told: dict[str, Any] = await response.json()
        # Market time stands still here, so wall times are of the moment of asking.
        told["unprotected"] = [{n: v for n, v in span.items() if "wall" not in n} for span in told["unprotected"]]
        return {name: value for name, value in told.items() if name != "wall_ms"}


async def control(session: aiohttp.ClientSession, url: str, given: dict[str, Any]) -> dict[str, str]:
    async with session.post(url, json=given) as response:
        assert response.status in (200, 201), await response.text()
        told: dict[str, str] = await response.json()
        return told


def later(exchange: Exchange, span_ms: int) -> None:
    clock = exchange.clock
    exchange.clock = type(clock)(
        base_market_ms=clock.base_market_ms + span_ms, base_wall_ms=clock.base_wall_ms, speed=0, ends_ms=clock.ends_ms
    )


async def test_accounts_survive_a_kill(options: SandboxOptions) -> None:
    first = Exchange(options)
    async with aiohttp.ClientSession() as session:
        async with running_exchange(first) as base:
            opened = await control(session, f"{base}/sandbox/accounts", {"wallet": "1000"})
            other = await control(session, f"{base}/sandbox/accounts", {"wallet": "50", "withdrawals": True})
            trader = Trader(session, base, opened)
            await trader.ask("POST", "v1/marginType", **SOL, marginType="ISOLATED")
            await trader.ask("POST", "v1/order", **BUY)
            later(first, HOURS // 2)
            stop = {"algoType": "CONDITIONAL", "side": "SELL", "quantity": "1", "reduceOnly": "true"}
            await trader.ask("POST", "v1/algoOrder", **SOL, **stop, type="TRAILING_STOP_MARKET", callbackRate="3")
            status, _ = await trader.send("POST", "v1/order", trader.signed({**BUY, "quantity": "10000"}))
            assert status == 400
            await control(session, f"{base}/sandbox/symbols/ETHUSDT/rules", {"tick": "0.1"})
            await control(session, f"{base}/sandbox/shocks", {"percent": -4, "symbol": "SOLUSDT"})
            await control(session, f"{base}/sandbox/accounts/{other['api_key']}/revoke", {})
            later(first, HOURS)
            before = await truth(session, base, trader.key)
            assert before["positions"] == []
        second = Exchange(options)
        second.clock = first.clock
        async with running_exchange(second) as base:
            assert await truth(session, base, trader.key) == before
            assert (await truth(session, base, other["api_key"]))["revoked"]
            assert second.market.tapes["ETHUSDT"].rules.tick_size == "0.1"
            again = Trader(session, base, opened)
            placed = await again.ask("POST", "v1/order", **BUY)
            assert placed["orderId"] > max(trade["order_id"] for trade in before["trades"])
        third = Exchange(options)
        third.clock = first.clock
        async with running_exchange(third) as base:
            assert len((await truth(session, base, trader.key))["positions"]) == 1


async def test_a_line_that_a_kill_cut_off_was_never_done(options: SandboxOptions) -> None:
    assert options.journal is not None
    async with aiohttp.ClientSession() as session:
        async with running_exchange(Exchange(options)) as base:
            opened = await control(session, f"{base}/sandbox/accounts", {})
        whole = options.journal.read_bytes()
        options.journal.write_bytes(whole + b'{"at":1,"ki')
        async with running_exchange(Exchange(options)) as base:
            assert (await truth(session, base, opened["api_key"]))["wallet"] == "10000.00000000"
            second = await control(session, f"{base}/sandbox/accounts", {})
        lines = options.journal.read_bytes().splitlines()
        assert (options.journal.stat().st_mode & 0o077, len(lines)) == (0, 2)
        async with running_exchange(Exchange(options)) as base:
            assert (await truth(session, base, second["api_key"]))["wallet"] == "10000.00000000"
