"""Replies and stream frames of the sandbox have at least the keys and JSON types that the official SDK documents."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import examples, lacking, rest_examples, stream_examples

pytestmark = examples

EMPTY_HERE = {"/fapi/v1/indexInfo", "/futures/data/delivery-price"}
"""What does not exist in this market: composite indices and deliveries of the past."""
DEFAULTS = {"symbol": "BTCUSDT", "pair": "BTCUSDT", "interval": "1m", "period": "5m", "contractType": "PERPETUAL", "limit": "5"}
SILENT = {"contractInfo", "assetIndexUpdate", "compositeIndex", "EquityUpdate"}
"""Events that never happen in this market."""
STREAMS = {
    "aggTrade": "/market/ws/btcusdt@aggTrade",
    "forceOrder": "/market/ws/!forceOrder@arr",
    "24hrMiniTicker": "/market/ws/!miniTicker@arr",
    "24hrTicker": "/market/ws/!ticker@arr",
    "kline": "/market/ws/btcusdt@kline_1m",
    "continuous_kline": "/market/ws/btcusdt_perpetual@continuousKline_1m",
    "markPriceUpdate": "/market/ws/!markPrice@arr@1s",
    "bookTicker": "/public/ws/btcusdt@bookTicker",
    "depthUpdate": "/public/ws/btcusdt@depth20@100ms",
}


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=450, weight_limit=1_000_000))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


def parameters(path: str) -> dict[str, str]:
    chosen = dict(DEFAULTS)
    if path in {
        "/fapi/v1/fundingInfo",
        "/fapi/v1/tradingSchedule",
        "/fapi/v1/exchangeInfo",
        "/fapi/v1/depth",
        "/fapi/v1/rpiDepth",
    }:
        chosen["limit"] = "10"
    if path == "/fapi/v1/assetIndex":
        chosen["symbol"] = "BTCUSD"
    return chosen


@pytest.mark.parametrize("example", rest_examples(), ids=lambda example: example["path"])
async def test_a_reply_has_what_the_sdk_documents(base: str, example: dict[str, Any]) -> None:
    path = example["path"]
    async with aiohttp.ClientSession() as session, session.get(base + path, params=parameters(path)) as response:
        assert response.status == 200, await response.text()
        reply = json.loads(await response.text())
    if path in EMPTY_HERE:
        assert reply == []
        return
    if isinstance(example["response"], list):
        assert isinstance(reply, list)
        assert reply
    if path == "/fapi/v1/exchangeInfo":
        # The documented example melts all filters into one.
        for row in reply["symbols"]:
            row["filters"] = [{name: value for item in row["filters"] for name, value in item.items()}]
    assert lacking(example["response"], reply) == []


@pytest.mark.parametrize("example", stream_examples(), ids=lambda example: example["test"])
async def test_a_frame_has_what_the_sdk_documents(base: str, example: dict[str, Any]) -> None:
    sample = example["response"]
    event = (sample[0] if isinstance(sample, list) else sample)["e"]
    if event in SILENT:
        return
    url = base + STREAMS[event]
    if event == "markPriceUpdate" and isinstance(sample, dict):
        url = base + "/market/ws/btcusdt@markPrice@1s"
    if event in {"24hrTicker", "24hrMiniTicker"} and isinstance(sample, dict):
        url = base + f"/market/ws/btcusdt@{'ticker' if event == '24hrTicker' else 'miniTicker'}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        frame = json.loads((await socket.receive(timeout=20)).data)
    assert isinstance(frame, list) == isinstance(sample, list)
    if event == "depthUpdate":
        assert all(len(level) == 2 for level in frame["b"] + frame["a"])
    assert lacking(sample, frame) == []
