"""Faults of the streams on real sockets: a lost connection, and a candle whose closing frame never comes."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions

STREAM = "btcusdt@kline_1m"


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=600))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as base:
        yield base
    exchange.faults.clear()


async def closings(socket: aiohttp.ClientWebSocketResponse, seconds: float) -> list[bool]:
    """Of each frame heard in a while, whether it closes its candle."""
    out: list[bool] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                out.append(json.loads(await socket.receive_str())["k"]["x"])
    except TimeoutError:
        return out


async def test_closing_frames_are_missing_and_the_others_are_not(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{base}/market/ws/{STREAM}") as socket:
        assert True in await closings(socket, 1.0)
        await session.post(f"{base}/sandbox/faults", json={"rules": [{"kind": "ws_missing_close", "match": {"stream": STREAM}}]})
        await closings(socket, 0.3)
        heard = await closings(socket, 1.0)
        assert heard
        assert True not in heard


async def test_a_dropped_socket_ends_without_a_goodbye(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{base}/market/ws/{STREAM}") as socket:
        await session.post(f"{base}/sandbox/faults", json={"rules": [{"kind": "ws_drop", "match": {"stream": "*@kline_*"}}]})
        async with asyncio.timeout(10):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert socket.close_code in (None, 1006)
