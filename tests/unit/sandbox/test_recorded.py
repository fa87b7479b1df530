"""A recorded market is served as it was recorded."""

import os
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import polars as pl
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.intervals import HOUR_MS, QUARTER_MS
from deploy.sandbox.core.market import first_ripe_ms
from deploy.sandbox.core.recorded import Heard, RecordedMarket, decimals_needed
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import default_start, read_market
from deploy.sandbox.options import SandboxOptions

DATA = Path(os.environ.get("NEUROTRADE_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
QUARTERS, OLDER = DATA / "universe_15m_2025-09.parquet", DATA / "universe_4h_2025-09.parquet"
NOW = 1_758_513_600_000 + 65_000
"""2025-09-22T04:01:05Z: a 4h candle has just closed."""
CHOSEN = ["BTCUSDT", "ETHUSDT", "1000000BOBUSDT", "0GUSDT", "MYXUSDT", "PUMPUSDT", "ICPUSDT"]

recorded = pytest.mark.skipif(not QUARTERS.exists(), reason=f"no recorded market at {QUARTERS}")


def frame(rows: list[tuple[str, int, float, float, float, float, float]]) -> pl.DataFrame:
    names = ["symbol", "open_time", "open", "high", "low", "close", "volume"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    out = []
    for path in (QUARTERS, OLDER):
        out.append(folder / path.name)
        pl.scan_parquet(path).filter(pl.col("symbol").is_in(CHOSEN)).collect().write_parquet(out[-1])
    return out[0], out[1]


def closed(rows: list[list[Any]], length: int) -> list[tuple[float, ...]]:
    return [(row[0], *(float(value) for value in row[1:6])) for row in rows if row[0] + length <= NOW]


@recorded
@pytest.mark.parametrize("interval", ["15m", "4h"])
async def test_served_candles_equal_the_recording(few: tuple[Path, Path], interval: str) -> None:
    length = QUARTER_MS if interval == "15m" else 16 * QUARTER_MS
    source = few[0] if interval == "15m" else few[1]
    truth = pl.read_parquet(source).filter(pl.col("open_time") + length <= NOW)
    exchange = Exchange(SandboxOptions(port=0, speed=0, market=few[0], history=few[1], start_ms=NOW))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        for symbol in CHOSEN:
            async with session.get(f"{base}/fapi/v1/klines?symbol={symbol}&interval={interval}&limit=1500") as response:
                rows = closed(await response.json(), length)
            found = truth.filter(pl.col("symbol") == symbol).drop("symbol")
            # The 4h recording was summed in floats: 40544.155000000006 stands for 40544.155.
            expected = found.with_columns(pl.col("volume").round(6)).rows()
            # A symbol listed inside a 4h candle has that part of a candle in the 15m recording only.
            shown = [row for row in rows if row[0] >= expected[0][0]]
            assert len(shown) == min(len(expected), 1500 - 1)
            assert shown == expected[-len(shown) :]


@recorded
def test_the_whole_market_is_ripe_after_three_days(few: tuple[Path, Path]) -> None:
    source = RecordedMarket(pl.read_parquet(few[0]), pl.read_parquet(few[1]))
    assert first_ripe_ms(source) == 1_756_080_000_000 + 300 * QUARTER_MS


async def test_market_time_stops_where_the_tape_ends(tmp_path: Path) -> None:
    path = tmp_path / "market.parquet"
    opened = 1_758_499_200_000
    frame(
        [("BTCUSDT", opened + n * QUARTER_MS, 100.0 + n, 103.0 + n, 99.0 + n, 101.0 + n, 12.5) for n in range(120)]
    ).write_parquet(path)
    ends = opened + 120 * QUARTER_MS
    options = SandboxOptions(port=0, market=path, speed=450, base_market_ms=ends - 1_000, base_wall_ms=0)
    async with running_exchange(Exchange(options)) as base, aiohttp.ClientSession() as session:
        async with session.get(f"{base}/sandbox/clock") as response:
            clock = await response.json()
        assert (clock["market_ms"], clock["ends_ms"], clock["symbols"]) == (ends, ends, 2)
        async with session.get(f"{base}/fapi/v1/klines?symbol=BTCUSDT&interval=15m&limit=3") as response:
            rows = await response.json()
        assert [float(row[4]) for row in rows] == [218.0, 219.0, 220.0]
        for path_ in ("ticker/24hr", "premiumIndex", "depth", "trades"):
            async with session.get(f"{base}/fapi/v1/{path_}?symbol=BTCUSDT") as response:
                assert response.status == 200, path_


OPENED = 1_758_499_200_000


def record_tops(folder: Path, seconds: range, bid: float, ask: float) -> None:
    """A recorder's folder: three days of candles, and a top a second in the last of them."""
    candles = [("BTCUSDT", OPENED + n * QUARTER_MS, 100.0, 103.0, 99.0, 101.5, 1_200.5) for n in range(288)]
    last = OPENED + 287 * QUARTER_MS
    tops = [(last + second * 1_000, "BTCUSDT", bid, 17.5 + second, ask, 0.3) for second in seconds]
    names = ["time", "symbol", "bid", "bid_quantity", "ask", "ask_quantity"]
    for kind, rows in (("candles_15m", frame(candles)), ("book_tops", pl.DataFrame(tops, schema=names, orient="row"))):
        (folder / kind).mkdir()
        rows.write_parquet(folder / kind / "2025-09-24.parquet")


async def best_of(folder: Path, second: int) -> tuple[list[list[str]], float]:
    """Best bid and ask of the served book at a second of the last candle, and the price that traded last."""
    now = OPENED + 287 * QUARTER_MS + second * 1_000
    async with (
        running_exchange(Exchange(SandboxOptions(port=0, speed=0, market=folder, start_ms=now))) as base,
        aiohttp.ClientSession() as session,
    ):
        replies = []
        for path in ("depth?symbol=BTCUSDT&limit=5", "trades?symbol=BTCUSDT&limit=1", "ticker/bookTicker?symbol=BTCUSDT"):
            async with session.get(f"{base}/fapi/v1/{path}") as response:
                replies.append(await response.json())
    depth, trades, ticker = replies
    best = [depth["bids"][0], depth["asks"][0]]
    assert best == [[ticker["bidPrice"], ticker["bidQty"]], [ticker["askPrice"], ticker["askQty"]]]
    return best, float(trades[-1]["price"])


async def test_the_best_of_a_recorded_book_has_its_recorded_spread_and_sizes_around_what_trades(tmp_path: Path) -> None:
    record_tops(tmp_path, range(100, 200), 100.5, 102.0)
    (bid, ask), last = await best_of(tmp_path, 159)
    assert float(ask[0]) - float(bid[0]) == pytest.approx(1.5)
    assert last in (float(bid[0]), float(ask[0]))
    assert 17.5 + 150 <= float(bid[1]) <= 17.5 + 159
    assert float(ask[1]) == 0.3


@pytest.mark.parametrize("second", [90, 225])
async def test_where_no_top_was_recorded_for_a_while_the_book_is_its_own(tmp_path: Path, second: int) -> None:
    record_tops(tmp_path, range(100, 200), 100.5, 102.0)
    (bid, ask), _ = await best_of(tmp_path, second)
    assert float(ask[0]) - float(bid[0]) < 0.5


async def test_marks_and_fundings_are_served_as_they_were_recorded(tmp_path: Path) -> None:
    record_tops(tmp_path, range(0), 100.5, 102.0)
    last = OPENED + 287 * QUARTER_MS
    paid = last - last % (8 * HOUR_MS) + 8 * HOUR_MS
    told = [(last + n * 1_000, "BTCUSDT", 100.0 - 0.01 * min(n, 200), 0.0007, paid) for n in range(900)]
    names = ["time", "symbol", "mark", "funding_rate", "next_funding"]
    (tmp_path / "marks").mkdir()
    pl.DataFrame(told, schema=names, orient="row").write_parquet(tmp_path / "marks" / "2025-09-24.parquet")
    for second in (60, 130, 400):
        options = SandboxOptions(port=0, speed=0, market=tmp_path, start_ms=last + second * 1_000)
        async with running_exchange(Exchange(options)) as base, aiohttp.ClientSession() as session:
            async with session.get(f"{base}/fapi/v1/premiumIndex?symbol=BTCUSDT") as response:
                premium = await response.json()
            async with session.get(f"{base}/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1m&limit=2") as response:
                (before, _) = await response.json()
        spoken = range(max(0, second - 10), second + 5)
        assert float(premium["markPrice"]) in {round(100.0 - 0.01 * min(n, 200), 8) for n in spoken}
        assert (float(premium["lastFundingRate"]), premium["nextFundingTime"]) == (0.0007, paid)
        minute = range((before[0] - last) // 1_000, (before[0] - last) // 1_000 + 60)
        if minute.start >= 0:
            assert float(before[2]) <= 100.0 - 0.01 * min(minute.start, 200)
            assert float(before[3]) == pytest.approx(100.0 - 0.01 * min(minute[-1], 200))


def record_marks(folder: Path, day: str, rows: pl.DataFrame, parts: int) -> None:
    """A day that is not put together yet: rows in any order, and one part of them twice."""
    (folder / "marks").mkdir(exist_ok=True)
    for n in [*range(parts), 0]:
        rows[n::parts].write_parquet(folder / "marks" / f"{day}.{n}-{len(list((folder / 'marks').iterdir()))}.parquet")


def test_of_marks_in_many_files_the_last_of_every_tick_counts(tmp_path: Path) -> None:
    record_tops(tmp_path, range(0), 100.5, 102.0)
    midnight = OPENED + 192 * QUARTER_MS
    times = np.arange(midnight - QUARTER_MS, midnight + QUARTER_MS, 1_000)
    prices = np.round(np.random.default_rng(3).uniform(99, 103, len(times)), 8)
    told = pl.DataFrame({"time": times, "symbol": "BTCUSDT", "mark": prices, "funding_rate": 0.0, "next_funding": midnight})
    record_marks(tmp_path, "2025-09-23", told.filter(pl.col("time") < midnight).sample(fraction=1, shuffle=True, seed=1), 4)
    record_marks(tmp_path, "2025-09-24", told.filter(pl.col("time") >= midnight).sample(fraction=1, shuffle=True, seed=2), 3)
    market = read_market(tmp_path, None)
    number = midnight // QUARTER_MS
    marks = market.marks(0, number - 1, number + 1).ravel() * float(market.rules[0].tick)
    assert marks.tolist() == pytest.approx(prices[4::5].tolist(), abs=1e-9)


def test_days_that_ended_more_than_a_day_before_the_start_are_not_read(tmp_path: Path) -> None:
    record_tops(tmp_path, range(100, 200), 100.5, 102.0)
    for kind in ("marks", "book_tops"):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / "2025-09-22.parquet").write_bytes(b"damaged")
    midnight = OPENED + 192 * QUARTER_MS
    assert read_market(tmp_path, None, midnight).top(0, (midnight + 95 * QUARTER_MS + 150_000) // 5_000) is not None
    assert default_start(tmp_path, None) > 0
    with pytest.raises(pl.exceptions.PolarsError):
        read_market(tmp_path, None, midnight - 1)


@pytest.mark.parametrize(("hours", "every"), [((8, 16), 8), ((4, 8), 4), ((2, 4), 2), ((1, 2), 1)])
def test_the_hours_between_fundings_are_the_longest_that_fit_all_that_were_told(hours: tuple[int, ...], every: int) -> None:
    quarters = frame([("BTCUSDT", OPENED + n * QUARTER_MS, 100.0, 103.0, 99.0, 101.5, 1.0) for n in range(3)])
    day = OPENED - OPENED % (24 * HOUR_MS)
    told = pl.DataFrame({"symbol": "BTCUSDT", "next_funding": [day + hour * HOUR_MS for hour in hours], "funding_rate": 0.0001})
    fundings = RecordedMarket(quarters, heard=Heard(fundings=told)).fundings(0)
    assert fundings is not None
    assert fundings.hours == every


def test_a_gap_in_a_recording_is_refused() -> None:
    rows = [("BTCUSDT", n * QUARTER_MS, 1.0, 1.0, 1.0, 1.0, 1.0) for n in (0, 1, 3)]
    with pytest.raises(ValueError, match="gap"):
        RecordedMarket(frame(rows))


def test_a_symbol_outside_the_table_gets_its_grid_from_the_recording() -> None:
    rows = [("NEWCOINUSDT", n * QUARTER_MS, 1.2345, 1.24, 1.2, 1.2, 10.5) for n in range(3)]
    rules = RecordedMarket(frame(rows)).rules[0]
    assert (rules.tick, rules.step, rules.base_asset) == ("0.0001", "0.1", "NEWCOIN")


def test_decimals_are_counted_through_the_noise_of_floats() -> None:
    values = pl.Series([0.1 + 0.2, 114235.7, 5.0]).to_numpy()
    assert decimals_needed(values) == 1
