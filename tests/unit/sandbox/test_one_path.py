"""Everything that the sandbox says at one moment derives from one path; an altered tick shows."""

import json
from collections.abc import AsyncIterator

import aiohttp
import numpy as np
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.unit.sandbox.reader import Path, disagreements, path_of, read

SYMBOLS = ("BTCUSDT", "1000PEPEUSDT", "币安人生USDT")
# Inside a minute, on a minute, on the opening of a day, one millisecond before a close.
MOMENTS = {7: 5_430_123, 8: 60_000, 9: 86_400_000, 10: 4_499_999}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def standing(seed: int, after_ms: int) -> Exchange:
    return Exchange(SandboxOptions(port=0, seed=seed, speed=0, start_ms=DEFAULT_START_MS + after_ms, weight_limit=100_000))


@pytest.mark.parametrize("seed", MOMENTS)
async def test_every_reading_by_rest_and_by_socket_follows_from_the_path(session: aiohttp.ClientSession, seed: int) -> None:
    exchange = standing(seed, MOMENTS[seed])
    async with running_exchange(exchange) as base:
        for symbol in SYMBOLS:
            readings = await read(session, base, symbol)
            assert disagreements(readings, path_of(exchange.market, symbol, readings.now)) == []


async def test_one_altered_tick_of_the_last_day_is_noticed(session: aiohttp.ClientSession) -> None:
    exchange = standing(7, MOMENTS[7])
    async with running_exchange(exchange) as base:
        readings = await read(session, base, "BTCUSDT")
        path = path_of(exchange.market, "BTCUSDT", readings.now)
        assert disagreements(readings, path) == []
        last = int(np.searchsorted(path.times, readings.now, side="right")) - 1
        for back in (0, 1, 7, 11, 60, 400, 5_000, 17_000):
            assert disagreements(readings, traded(path, last - back)), back


def traded(path: Path, at: int) -> Path:
    """The path with the nearest older real trade altered."""
    while path.quantity[at] == 0:
        at -= 1
    return path.altered(at)


async def test_streamed_trades_are_the_path_without_a_gap(session: aiohttp.ClientSession) -> None:
    exchange = Exchange(SandboxOptions(port=0, seed=7, speed=450))
    async with (
        running_exchange(exchange) as base,
        session.ws_connect(f"{base}/market/ws/btcusdt@aggTrade") as socket,
    ):
        rows = [json.loads((await socket.receive(timeout=5)).data) for _ in range(120)]
    path = path_of(exchange.market, "BTCUSDT", rows[-1]["T"])
    first = int(np.searchsorted(path.ids, rows[0]["a"]))
    expected = [number for number, size in zip(path.ids[first:].tolist(), path.quantity[first:].tolist(), strict=True) if size]
    assert [row["a"] for row in rows] == expected[: len(rows)]
    at = np.searchsorted(path.ids, [row["a"] for row in rows])
    assert [row["T"] for row in rows] == path.times[at].tolist()
    assert all(row["T"] <= row["E"] for row in rows)


async def test_a_fast_clock_closes_every_candle_on_the_stream(session: aiohttp.ClientSession) -> None:
    exchange = Exchange(SandboxOptions(port=0, seed=7, speed=900))
    closed: list[list[object]] = []
    async with running_exchange(exchange) as base:
        async with session.ws_connect(f"{base}/market/ws/ethusdt@kline_1m") as socket:
            while len(closed) < 12:
                kline = json.loads((await socket.receive(timeout=5)).data)["k"]
                if kline["x"]:
                    closed.append(
                        [kline["t"], kline["o"], kline["h"], kline["l"], kline["c"], kline["v"], kline["q"], kline["n"]]
                    )
        async with session.get(f"{base}/fapi/v1/klines?symbol=ETHUSDT&interval=1m&startTime={closed[0][0]}&limit=12") as response:
            rows = await response.json()
    assert closed == [[*row[:6], row[7], row[8]] for row in rows]
