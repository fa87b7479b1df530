"""The exchange as a whole: its clocks, going on after a restart, what it lists, and its process."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.__main__ import milliseconds, parsed
from deploy.sandbox.app import running_exchange, running_sandbox
from deploy.sandbox.core.clock import MarketClock
from deploy.sandbox.core.delivery import delivery_ms
from deploy.sandbox.core.intervals import DAY_MS, next_open, open_time
from deploy.sandbox.core.synthetic import DEFAULT_START_MS
from deploy.sandbox.core.wording import RenderedKlines
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=450, weight_limit=100_000))


@pytest.fixture
async def get(exchange: Exchange) -> AsyncIterator[Any]:
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:

        async def get(path: str, **params: str) -> tuple[int, Any]:
            async with session.get(base + path, params=params) as response:
                return response.status, await response.json()

        yield get


def test_market_time_is_a_function_of_three_numbers() -> None:
    clock = MarketClock(base_market_ms=1_000, base_wall_ms=500, speed=450)
    assert clock.market_ms(502) == 1_900
    assert MarketClock(base_market_ms=1_000, base_wall_ms=500, speed=450, ends_ms=1_500).market_ms(600) == 1_500
    assert clock.rebased(502, 2).market_ms(503) == 1_902
    assert clock.wall_seconds(45_000) == pytest.approx(0.1)


async def test_a_restart_with_the_same_numbers_goes_on_with_the_same_market() -> None:
    base_market, base_wall = DEFAULT_START_MS, Exchange.wall_ms() - 60_000
    replies = []
    for _ in range(2):
        options = SandboxOptions(port=0, seed=5, base_market_ms=base_market, base_wall_ms=base_wall, speed=450)
        async with running_sandbox(options) as base, aiohttp.ClientSession() as session:
            url = f"{base}/fapi/v1/aggTrades?symbol=SOLUSDT&startTime={base_market + 10_000_000}&limit=20"
            async with session.get(url) as response:
                replies.append(await response.read())
            async with session.get(f"{base}/sandbox/clock") as response:
                clock = await response.json()
            assert clock["market_ms"] == base_market + (clock["wall_ms"] - base_wall) * 450
    assert replies[0] == replies[1] != b"[]"


async def test_server_time_is_wall_time_and_data_is_market_time(get: Any) -> None:
    _, clock = await get("/sandbox/clock")
    _, server = await get("/fapi/v1/time")
    _, info = await get("/fapi/v1/exchangeInfo")
    _, ticker = await get("/fapi/v1/ticker/24hr", symbol="BTCUSDT")
    assert 0 <= server["serverTime"] - clock["wall_ms"] < 10_000
    assert 0 <= info["serverTime"] - clock["wall_ms"] < 10_000
    assert 0 <= ticker["closeTime"] - clock["market_ms"] < 10_000 * 450


async def test_the_exchange_lists_what_clients_must_cope_with(get: Any) -> None:
    _, info = await get("/fapi/v1/exchangeInfo")
    rows = {row["symbol"]: row for row in info["symbols"]}
    assert len([row for row in rows.values() if row["status"] == "TRADING" and row["contractType"] == "PERPETUAL"]) == 120
    assert rows["BTCUSDT_261225"]["contractType"] == "CURRENT_QUARTER"
    assert rows["BTCUSDT_261225"]["pair"] == "BTCUSDT"
    assert rows["EOSUSDT"]["status"] == "SETTLING"
    assert rows["币安人生USDT"]["baseAsset"] == "币安人生"
    filters = {item["filterType"]: item for item in rows["BTCUSDT"]["filters"]}
    assert filters["MIN_NOTIONAL"]["notional"] == "50"
    assert (filters["PRICE_FILTER"]["tickSize"], filters["MARKET_LOT_SIZE"]["maxQty"]) == ("0.10", "120")


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("/fapi/v1/klines", {"symbol": "NOPE", "interval": "1m"}, 400, -1121),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT"}, 400, -1102),
        ("/fapi/v1/klines", {"interval": "1m"}, 400, -1102),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, 400, -1100),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "1501"}, 400, -1130),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": ""}, 400, -1102),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": "7"}, 400, -1130),
        ("/fapi/v1/ticker/24hr", {"symbol": "EOSUSDT"}, 400, -1122),
        ("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "7m"}, 400, -1130),
        ("/fapi/v1/nothing", {}, 404, -5000),
        ("/fapi/v3/account", {}, 401, -2014),
    ],
)
async def test_refusals_have_binances_codes(get: Any, path: str, params: dict[str, str], status: int, code: int) -> None:
    said, body = await get(path, **params)
    assert (said, body["code"]) == (status, code)


async def test_klines_obey_their_bounds(get: Any) -> None:
    hour = 3_600_000
    since = DEFAULT_START_MS - 100 * hour
    _, rows = await get("/fapi/v1/klines", symbol="BTCUSDT", interval="1h", startTime=str(since + 1), limit="5")
    assert [row[0] for row in rows] == [since + n * hour for n in range(1, 6)]
    _, rows = await get("/fapi/v1/klines", symbol="BTCUSDT", interval="1h", endTime=str(since), limit="3")
    assert [row[0] for row in rows] == [since - 2 * hour, since - hour, since]
    _, rows = await get("/fapi/v1/klines", symbol="BTCUSDT", interval="1h", startTime=str(since), endTime=str(since + 2 * hour))
    assert [row[0] for row in rows] == [since, since + hour, since + 2 * hour]
    _, rows = await get("/fapi/v1/klines", symbol="BTCUSDT", interval="1h", startTime=str(DEFAULT_START_MS + 900 * DAY_MS))
    assert rows == []
    _, rows = await get("/fapi/v1/klines", symbol="EOSUSDT", interval="1h")
    assert rows == []


async def test_paging_trades_by_id_and_time_meets_the_same_trades(get: Any) -> None:
    since = DEFAULT_START_MS - 3_600_000
    _, by_time = await get("/fapi/v1/aggTrades", symbol="ETHUSDT", startTime=str(since), limit="300")
    _, by_id = await get("/fapi/v1/aggTrades", symbol="ETHUSDT", fromId=str(by_time[0]["a"]), limit="300")
    _, bounded = await get("/fapi/v1/aggTrades", symbol="ETHUSDT", startTime=str(since), endTime=str(since + 60_000), limit="300")
    assert by_time == by_id
    assert by_time[0]["T"] >= since
    assert bounded == [row for row in by_time if row["T"] <= since + 60_000]


async def test_funding_is_paid_at_its_hours(get: Any) -> None:
    _, rows = await get("/fapi/v1/fundingRate", symbol="BTCUSDT", limit="6")
    times = [row["fundingTime"] for row in rows]
    assert [b - a for a, b in pairwise(times)] == [8 * 3_600_000] * 5
    _, premium = await get("/fapi/v1/premiumIndex", symbol="BTCUSDT")
    assert premium["nextFundingTime"] > times[-1]
    _, info = await get("/fapi/v1/fundingInfo")
    assert {row["fundingIntervalHours"] for row in info} == {4}


async def test_a_clock_can_be_stopped_and_started(exchange: Exchange) -> None:
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        for speed in (0, 450):
            async with session.post(f"{base}/sandbox/clock", json={"speed": speed}) as response:
                assert (await response.json())["speed"] == speed
        async with session.post(f"{base}/sandbox/clock", json={"speed": -1}) as response:
            assert response.status == 400


@pytest.mark.parametrize(
    ("start", "delivery"),
    [
        ("2026-10-05T00:00:00Z", "2026-12-25T08:00:00Z"),
        ("2025-09-22T02:00:00Z", "2025-12-26T08:00:00Z"),
        ("2025-09-01T00:00:00Z", "2025-09-26T08:00:00Z"),
        ("2025-12-30T00:00:00Z", "2026-03-27T08:00:00Z"),
    ],
)
def test_the_quarterly_future_is_delivered_on_a_last_friday(start: str, delivery: str) -> None:
    assert delivery_ms(milliseconds(start)) == milliseconds(delivery)


def test_months_and_weeks_open_where_binance_opens_them() -> None:
    moment = milliseconds("2026-10-07T13:00:00Z")
    assert open_time("1w", moment) == milliseconds("2026-10-05")
    assert open_time("1M", moment) == milliseconds("2026-10-01")
    assert next_open("1M", milliseconds("2026-10-01"), 3) == milliseconds("2027-01-01")
    assert next_open("1M", milliseconds("2026-01-01"), -1) == milliseconds("2025-12-01")


def test_a_command_line_becomes_options() -> None:
    options = parsed(
        ["--port", "1", "--seed", "3", "--start", "2025-09-22T02:00:00Z", "--base-market-ms", "5", "--base-wall-ms", "6"]
    )
    assert (options.port, options.seed, options.start_ms) == (1, 3, 1_758_506_400_000)
    assert (options.base_market_ms, options.base_wall_ms) == (5, 6)


async def test_the_process_says_when_it_serves_and_ends_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "deploy.sandbox", "--port", "0"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert "121 symbols" in line
        base = next(word for word in line.split() if word.startswith("http://"))
        async with aiohttp.ClientSession() as session, session.get(f"{base}/sandbox/health") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("kind", ["last", "mark", "premium"])
def test_a_reply_that_stands_until_the_next_tick_is_the_one_that_would_be_written_anew(exchange: Exchange, kind: str) -> None:
    quarter, now = 900_000, exchange.now()
    tape = exchange.prices.market.tape("BTCUSDT", now)
    words = exchange.prices.words(tape)
    kept, begin = RenderedKlines(tape, words, "15m", kind), now - now % quarter
    moments = [begin + passed for passed in (0, 1, 4_000, 5_001, 5_002, 60_000, quarter - 1, quarter, quarter + 5_001)]
    replies = []
    for moment in moments:
        start, end = open_time("15m", moment) - 3 * quarter, open_time("15m", moment)
        replies.append(kept.reply(start, end, moment))
        assert replies[-1] == RenderedKlines(tape, words, "15m", kind).reply(start, end, moment)
        assert kept.reply(start, start, moment) != replies[-1]
    assert len(set(replies)) > 1
