"""Forced orders on the stream: recorded ones as recorded, and of each symbol only the largest of a second."""

import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.market import Liquidation, largest_each
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions


def wire(symbol: str, after_ms: int, quantity: str) -> dict[str, Any]:
    at = DEFAULT_START_MS + after_ms
    order = {"s": symbol, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": quantity, "p": "99.1", "ap": "100.2", "X": "FILLED"}
    return {"e": "forceOrder", "E": at, "o": {**order, "l": quantity, "z": quantity, "T": at}}


EVENTS = [wire("SOLUSDT", 3_600_000 + n * 100, str(n)) for n in range(1, 40)] + [wire("ETHUSDT", 3_601_000, "7")]


@pytest.mark.parametrize("packed", [True, False])
async def test_recorded_forced_orders_come_at_their_market_time(tmp_path: Path, packed: bool) -> None:
    text = "\n".join(json.dumps(event) for event in reversed(EVENTS)).encode()
    path = tmp_path / "force_orders"
    path.write_bytes(gzip.compress(text) if packed else text)
    exchange = Exchange(SandboxOptions(port=0, speed=3_600, liquidations=path))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.get(f"{base}/sandbox/clock") as response:
            assert (await response.json())["liquidations"] == "recorded"
        told: list[dict[str, Any]] = []
        async with session.ws_connect(f"{base}/market/ws/!forceOrder@arr") as socket:
            while {event["o"]["s"] for event in told if event["st"] == 1} != {"SOLUSDT", "ETHUSDT"}:
                told.append(json.loads((await socket.receive(timeout=10)).data))
    told = [event for event in told if event["st"] == 1]
    assert all(event["o"] in [item["o"] for item in EVENTS] and "syn" not in event for event in told)
    assert all(event["E"] >= event["o"]["T"] for event in told)
    # All of them lie within four market seconds, one wall millisecond at this speed: forty orders are not forty events.
    assert len(told) <= 3


def test_only_the_largest_of_a_symbol_is_shown() -> None:
    def item(symbol: str, time_ms: int, notional: float) -> Liquidation:
        return Liquidation(time_ms=time_ms, symbol=symbol, notional=notional, order={}, synthetic=True)

    told = [item("A", 1, 5.0), item("B", 2, 1.0), item("A", 3, 9.0), item("A", 4, 7.0)]
    assert largest_each(told) == [told[1], told[2]]
