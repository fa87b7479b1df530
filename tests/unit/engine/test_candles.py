"""Public data over HTTP: decoding, caching until the next close, one flight for all, weight, retries, refusals by name."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from engine.candles import BinanceData, Door, WeightBudget, open_session
from engine.candles.budget import DATA, FUNDING
from engine.candles.rows import (
    DepthRow,
    ExchangeInfo,
    FundingRow,
    OpenInterestRow,
    PremiumRow,
    RatioRow,
    TickerRow,
    TradeRow,
    rules_of,
)
from engine.core.market import Timeframe
from engine.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnreachable, ReplyMalformed, UnknownSymbol
from tests.polling import eventually
from tests.unit.engine.execution_desk import NOW, StandingClock
from tests.unit.engine.market_world import MINUTE, NOW_MS, mark

type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchange:
    """A tiny exchange: each path answers what a test puts there, every question is remembered."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.drops = 0
        self.held: asyncio.Event | None = None
        self.budget = WeightBudget(2400, self.clock.now_ms, patience_seconds=0.1)

    async def was_asked(self, path: str, times: int) -> bool:
        return sum(asked == path for asked, _ in self.asked) >= times

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.query)))
        if self.held is not None:
            await self.held.wait()
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
        answer = self.answers.get(request.path, [])
        body = answer(dict(request.query)) if callable(answer) else answer
        return web.json_response(body, status=self.status, headers=self.headers)


@asynccontextmanager
async def data_of(exchange: Exchange) -> AsyncIterator[BinanceData]:
    app = web.Application()
    app.router.add_get("/{path:.*}", exchange.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with open_session() as session:
            yield BinanceData(Door(session, f"http://127.0.0.1:{runner.addresses[0][1]}", exchange.budget), exchange.clock)
    finally:
        await runner.cleanup()


def kline(open_ms: int, timeframe: Timeframe = Timeframe.M15) -> list[object]:
    return [open_ms, "1.0", "1.3", "0.9", "1.2", "50", open_ms + timeframe.ms - 1, "60", 3, "1", "1", "0"]


def until_now(query: dict[str, str]) -> list[list[object]]:
    timeframe = Timeframe(query["interval"])
    newest = NOW_MS // timeframe.ms * timeframe.ms
    return [kline(newest - back * timeframe.ms, timeframe) for back in range(5, -1, -1)]


async def test_only_closed_candles_are_kept() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    async with data_of(exchange) as data:
        candles = await data.candles("XUSDT", Timeframe.M15)
    assert candles.closed_ms == NOW_MS
    assert list(candles.open_ms) == [NOW_MS - back * Timeframe.M15.ms for back in range(5, 0, -1)]
    assert exchange.asked[0][1] == {"symbol": "XUSDT", "interval": "15m", "limit": "499"}


async def test_a_reply_that_was_on_its_way_while_a_candle_closed_does_not_tell_of_that_candle() -> None:
    exchange = Exchange()

    def slow(query: dict[str, str]) -> list[list[object]]:
        told = until_now(query)
        exchange.clock.market = NOW + timedelta(minutes=15, seconds=5)
        return told

    exchange.answers["/fapi/v1/klines"] = slow
    async with data_of(exchange) as data:
        candles = await data.candles("XUSDT", Timeframe.M15)
    assert candles.closed_ms == NOW_MS


async def test_candles_are_read_again_only_when_the_next_one_has_closed() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    async with data_of(exchange) as data:
        await data.candles("XUSDT", Timeframe.M15)
        exchange.clock.market = NOW + timedelta(minutes=14, seconds=59)
        await data.candles("XUSDT", Timeframe.M15)
        assert len(exchange.asked) == 1
        exchange.clock.market = NOW + timedelta(minutes=15)
        await data.candles("XUSDT", Timeframe.M15)
        await data.candles("XUSDT", Timeframe.H4)
    assert [query["interval"] for _, query in exchange.asked] == ["15m", "15m", "4h"]


async def test_many_who_want_the_same_share_one_flight() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    exchange.held = asyncio.Event()
    async with data_of(exchange) as data:
        asked = [asyncio.ensure_future(data.candles("XUSDT", Timeframe.M15)) for _ in range(20)]
        asked[0].cancel()
        await asyncio.sleep(0)
        exchange.held.set()
        found = await asyncio.gather(*asked[1:])
    assert len(exchange.asked) == 1
    assert all(candles is found[0] for candles in found)


async def test_a_book_does_not_wait_behind_the_candles_of_a_whole_scan() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    exchange.answers["/fapi/v1/depth"] = {"bids": [["1", "2"]], "asks": [["3", "4"]], "T": 5}
    exchange.held = asyncio.Event()
    async with data_of(exchange) as data:
        candles = asyncio.gather(*(data.candles(f"X{place}USDT", Timeframe.M15) for place in range(60)))
        await eventually(partial(exchange.was_asked, "/fapi/v1/klines", 16), seconds=5, what="sixteen questions for candles")
        book = asyncio.ensure_future(data.book("XUSDT"))
        await eventually(partial(exchange.was_asked, "/fapi/v1/depth", 1), seconds=5, what="the question for the book")
        exchange.held.set()
        await book
        assert len(await candles) == 60


async def test_a_symbol_that_is_not_ascii_reaches_the_exchange_as_it_is() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    async with data_of(exchange) as data:
        await data.candles("币安人生USDT", Timeframe.M15)
        await data.candles("1000SATSUSDT", Timeframe.M15)
    assert [query["symbol"] for _, query in exchange.asked] == ["币安人生USDT", "1000SATSUSDT"]


async def test_a_dropped_connection_is_tried_again_and_a_dead_exchange_is_unreachable() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    exchange.drops = 2
    async with data_of(exchange) as data:
        assert len(await data.candles("XUSDT", Timeframe.M15)) == 5
        assert len(exchange.asked) == 3
        exchange.drops = 100
        with pytest.raises(ExchangeUnreachable):
            await data.candles("YUSDT", Timeframe.M15)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"code": -1121, "msg": "Invalid symbol."}, UnknownSymbol),
        (400, {"code": -1102, "msg": "Mandatory parameter."}, ExchangeRefused),
        (404, ["not", "a", "problem"], ReplyMalformed),
        (500, {}, ExchangeUnreachable),
        (503, {"code": -1008, "msg": "overload"}, ExchangeUnreachable),
        (403, "<html>", ExchangeUnreachable),
        (200, {"neither": "list"}, ReplyMalformed),
    ],
)
async def test_every_refusal_has_its_name_and_is_not_repeated(status: int, body: object, error: type[Exception]) -> None:
    exchange = Exchange()
    exchange.status, exchange.answers["/fapi/v1/klines"] = status, body
    async with data_of(exchange) as data:
        with pytest.raises(error):
            await data.candles("XUSDT", Timeframe.M15)
    assert len(exchange.asked) == 1


@pytest.mark.parametrize("status", [429, 418])
async def test_after_429_or_418_nobody_asks_until_the_exchange_allows(status: int) -> None:
    exchange = Exchange()
    exchange.status, exchange.headers["Retry-After"] = status, "30"
    async with data_of(exchange) as data:
        for _ in range(2):
            with pytest.raises(ExchangeThrottled) as caught:
                await data.book("XUSDT")
    assert 29 < caught.value.retry_after_seconds <= 30
    assert len(exchange.asked) == 1


async def test_weight_is_spent_by_the_market_minute_and_the_exchange_knows_better() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/depth"] = {"bids": [["1", "2"]], "asks": [["3", "4"]], "T": 5}
    exchange.headers["X-MBX-USED-WEIGHT-1M"] = "2399"
    async with data_of(exchange) as data:
        assert (await data.book("XUSDT")).mid == Decimal(2)
        with pytest.raises(ExchangeThrottled, match="weight"):
            await data.book("XUSDT")
        exchange.clock.market = NOW + timedelta(minutes=1)
        exchange.headers.clear()
        await data.book("XUSDT")
    assert len(exchange.asked) == 2
    assert exchange.budget.used == 2


async def test_a_count_of_the_minute_before_does_not_starve_the_next_one() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/depth"] = {"bids": [["1", "2"]], "asks": [["3", "4"]], "T": 5}
    exchange.headers["X-MBX-USED-WEIGHT-1M"] = "2400"
    exchange.held = asyncio.Event()
    async with data_of(exchange) as data:
        late = asyncio.ensure_future(data.book("XUSDT"))
        await eventually(partial(exchange.was_asked, "/fapi/v1/depth", 1), seconds=5, what="the question for the book")
        exchange.clock.market = NOW + timedelta(minutes=1)
        exchange.held.set()
        await late
        assert exchange.budget.used == 0
        await data.book("XUSDT")


async def test_a_waiter_goes_on_when_the_market_minute_turns() -> None:
    clock = StandingClock()
    budget = WeightBudget(10, clock.now_ms, patience_seconds=5)
    await budget.spend(10)
    waiting = asyncio.ensure_future(budget.spend(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.market = NOW + timedelta(minutes=1)
    await asyncio.wait_for(waiting, 5)


async def test_rules_are_read_once_a_market_hour_and_an_old_word_is_better_than_none() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/exchangeInfo"] = {"symbols": [symbol_row("XUSDT"), {**symbol_row("ODDUSDT"), "filters": []}]}
    async with data_of(exchange) as data:
        assert set(await data.instruments()) == {"XUSDT"}
        await data.instrument("XUSDT")
        assert len(exchange.asked) == 1
        exchange.clock.market = NOW + timedelta(hours=1)
        exchange.status = 500
        assert (await data.instrument("XUSDT")).tick_size == Decimal("0.10")
        assert len(exchange.asked) == 2
        with pytest.raises(UnknownSymbol):
            await data.instrument("YUSDT")


async def test_doubted_rules_are_read_again_once_in_some_seconds() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/exchangeInfo"] = {"symbols": [symbol_row("XUSDT")]}
    async with data_of(exchange) as data:
        await data.instruments()
        data.doubt_rules()
        data.doubt_rules()
        await data.instruments()
        data.doubt_rules()
        await data.instruments()
        assert len(exchange.asked) == 2


async def test_long_gaps_of_mark_bars_are_read_page_by_page_without_a_hole() -> None:
    exchange = Exchange()
    since = NOW_MS - 4000 * MINUTE

    def page(query: dict[str, str]) -> list[list[object]]:
        start = int(query["startTime"])
        opens = range(start, min(start + int(query["limit"]) * MINUTE, NOW_MS + 1), MINUTE)
        return [kline(open_ms, Timeframe.M1) for open_ms in opens]

    exchange.answers["/fapi/v1/markPriceKlines"] = page
    async with data_of(exchange) as data:
        bars = await data.mark_bars("XUSDT", since, NOW_MS + 30_000)
    assert [bar.open_ms for bar in bars] == list(range(since, NOW_MS + 1, MINUTE))
    assert (bars[0].high, bars[0].close_ms) == (Decimal("1.3"), since + MINUTE)
    assert len(exchange.asked) == 3


async def test_bars_that_a_caller_could_not_wait_for_are_there_at_the_next_look() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/markPriceKlines"] = lambda query: [kline(int(query["startTime"]), Timeframe.M1)]
    exchange.held = asyncio.Event()
    async with data_of(exchange) as data:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await data.mark_bars("XUSDT", NOW_MS, NOW_MS)
        exchange.held.set()
        assert len(await data.mark_bars("XUSDT", NOW_MS, NOW_MS + 1)) == 1
        assert len(await data.mark_bars("XUSDT", NOW_MS, NOW_MS + 2)) == 1
    assert len(exchange.asked) == 1


async def test_bars_of_one_minute_are_asked_for_every_three_seconds_at_most_and_at_once_when_the_minute_turns() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/markPriceKlines"] = lambda query: [kline(int(query["startTime"]), Timeframe.M1)]
    async with data_of(exchange) as data:
        for wall, market, asked in [(0, 1, 1), (3, 4, 1), (1, 5, 2), (0, 60, 3)]:
            exchange.clock.pass_wall(timedelta(seconds=wall))
            await data.mark_bars("XUSDT", NOW_MS, NOW_MS + market * 1000)
            assert len(exchange.asked) == asked


HOUR = 60 * MINUTE


def funding_row(at_ms: int) -> dict[str, object]:
    return {"symbol": "XUSDT", "fundingTime": at_ms, "fundingRate": "0.0001", "markPrice": "100"}


async def test_an_hour_without_settlement_is_asked_about_a_few_times_however_often_positions_are_looked_at() -> None:
    exchange = Exchange()
    async with data_of(exchange) as data:
        for second in range(180):
            exchange.clock.pass_wall(timedelta(seconds=1))
            assert await data.fundings("XUSDT", NOW_MS - MINUTE, NOW_MS + second * 1000) == []
    assert len(exchange.asked) == 5


async def test_a_settlement_that_is_published_late_is_seen_and_then_not_asked_for_again() -> None:
    exchange = Exchange()
    async with data_of(exchange) as data:
        assert await data.fundings("XUSDT", NOW_MS - MINUTE, NOW_MS + 5_000) == []
        exchange.answers["/fapi/v1/fundingRate"] = [funding_row(NOW_MS + 4)]
        # Market time may run so fast that the next look is minutes later: then nothing kept serves.
        (event,) = await data.fundings("XUSDT", NOW_MS - MINUTE, NOW_MS + 7 * MINUTE)
        assert event.at_ms == NOW_MS + 4
        assert await data.fundings("XUSDT", NOW_MS + MINUTE, NOW_MS + 8 * MINUTE) == []
        assert len(exchange.asked) == 2
        await data.fundings("XUSDT", NOW_MS - HOUR, NOW_MS + 8 * MINUTE)
        await data.fundings("XUSDT", NOW_MS - HOUR, NOW_MS + HOUR)
    assert len(exchange.asked) == 4


async def test_more_settlements_than_a_page_holds_are_read_without_a_hole() -> None:
    exchange = Exchange()
    since = NOW_MS - 2500 * HOUR

    def page(query: dict[str, str]) -> list[dict[str, object]]:
        first = -(-int(query["startTime"]) // HOUR) * HOUR
        return [funding_row(at_ms) for at_ms in range(first, int(query["endTime"]) + 1, HOUR)][: int(query["limit"])]

    exchange.answers["/fapi/v1/fundingRate"] = page
    async with data_of(exchange) as data:
        events = await data.fundings("XUSDT", since, NOW_MS)
    assert [event.at_ms for event in events] == list(range(since + HOUR, NOW_MS + 1, HOUR))


async def test_funding_rates_and_futures_data_have_pools_of_their_own_beside_the_weight() -> None:
    exchange = Exchange()
    for pool, limit in ((FUNDING, 500), (DATA, 1000)):
        for _ in range(limit):
            await exchange.budget.draw(pool)
    async with data_of(exchange) as data:
        with pytest.raises(ExchangeThrottled, match="funding"):
            await data.fundings("XUSDT", NOW_MS - HOUR, NOW_MS)
        assert (await data.positioning("XUSDT")).long_short_ratio is None
        assert [path for path, _ in exchange.asked] == ["/fapi/v1/premiumIndex"]
        exchange.clock.market = NOW + timedelta(minutes=5)
        assert await data.fundings("XUSDT", NOW_MS - HOUR, NOW_MS) == []


async def test_an_odd_row_does_not_hide_the_rest_of_the_market() -> None:
    exchange = Exchange()
    row = {"symbol": "XUSDT", "lastPrice": "1.5", "priceChangePercent": "2", "quoteVolume": "3"}
    exchange.answers["/fapi/v1/ticker/24hr"] = [{**row, "symbol": "ODDUSDT", "lastPrice": ""}, row]
    quarterly = {"symbol": "BTCUSDT_261225", "markPrice": "2", "lastFundingRate": "", "nextFundingTime": 0, "time": 9}
    exchange.answers["/fapi/v1/premiumIndex"] = [quarterly, {**quarterly, "symbol": "ODDUSDT", "markPrice": None}]
    async with data_of(exchange) as data:
        assert set(await data.tickers()) == {"XUSDT"}
        assert set(await data.marks()) == {"BTCUSDT_261225"}
        assert data.answered_ms is not None


@pytest.mark.parametrize("price", ["NaN", "Infinity", "0.00000000", "-1", ""])
async def test_a_price_that_cannot_be_is_as_if_it_had_not_come(price: str) -> None:
    exchange = Exchange()
    mark = {"symbol": "XUSDT", "markPrice": "2", "lastFundingRate": "0.1", "nextFundingTime": 0, "time": 9}
    exchange.answers["/fapi/v1/premiumIndex"] = lambda query: (
        {**mark, "markPrice": price} if query else [{**mark, "symbol": "ODDUSDT", "markPrice": price}, mark]
    )
    exchange.answers["/fapi/v1/depth"] = {"bids": [[price, "1"]], "asks": [["3", "1"]], "T": 5}
    exchange.answers["/fapi/v1/markPriceKlines"] = [[NOW_MS, "1", "2", price, "1", "0", NOW_MS + MINUTE - 1]]
    async with data_of(exchange) as data:
        assert set(await data.marks()) == {"XUSDT"}
        for asked in (data.mark("XUSDT"), data.book("XUSDT"), data.mark_bars("XUSDT", NOW_MS, NOW_MS)):
            with pytest.raises(ReplyMalformed):
                await asked


@pytest.mark.parametrize("rate", ["NaN", "-Infinity", "a lot"])
async def test_a_funding_rate_that_is_no_number_is_never_settled_with(rate: str) -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/fundingRate"] = [{**funding_row(NOW_MS), "fundingRate": rate}]
    exchange.answers["/fapi/v1/premiumIndex"] = {
        "symbol": "XUSDT", "markPrice": "2", "lastFundingRate": rate, "nextFundingTime": 0, "time": 9
    }  # fmt: skip
    async with data_of(exchange) as data:
        for asked in (data.fundings("XUSDT", NOW_MS - HOUR, NOW_MS), data.mark("XUSDT")):
            with pytest.raises(ReplyMalformed):
                await asked


@pytest.mark.parametrize(("early_ms", "kept"), [(0, 5), (1_999, 5), (2_002, 6)])
async def test_the_newest_row_is_a_closed_candle_only_where_no_difference_of_clocks_explains_it(early_ms: int, kept: int) -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    exchange.clock.market = NOW + timedelta(minutes=15, milliseconds=early_ms)
    async with data_of(exchange) as data:
        assert len(await data.candles("XUSDT", Timeframe.M15)) == kept


async def test_a_mark_that_is_known_saves_the_request_for_the_funding() -> None:
    exchange = Exchange()
    premium = {"symbol": "XUSDT", "markPrice": "2", "lastFundingRate": "0.0003", "nextFundingTime": 1, "time": NOW_MS}
    exchange.answers["/fapi/v1/premiumIndex"] = premium
    async with data_of(exchange) as data:
        assert (await data.positioning("XUSDT", mark("XUSDT"))).funding_ratio == 0.0001
        assert "/fapi/v1/premiumIndex" not in [path for path, _ in exchange.asked]
        assert (await data.positioning("XUSDT")).funding_ratio == 0.0003


def interest(amount: str, at_ms: int = NOW_MS) -> dict[str, object]:
    return {"symbol": "XUSDT", "sumOpenInterest": amount, "timestamp": at_ms}


def ratio(told: str, at_ms: int = NOW_MS) -> dict[str, object]:
    return {"symbol": "XUSDT", "longShortRatio": told, "timestamp": at_ms}


async def test_positioning_that_does_not_come_is_none() -> None:
    exchange = Exchange()
    exchange.status = 500
    async with data_of(exchange) as data:
        found = await data.positioning("XUSDT")
    assert (found.funding_ratio, found.long_short_ratio, found.open_interest_change) == (None, None, None)


async def test_open_interest_is_told_as_its_change_in_five_minutes_and_asked_for_once_in_as_long() -> None:
    exchange = Exchange()
    exchange.answers["/futures/data/openInterestHist"] = [interest("200.0"), interest("190.0")]
    async with data_of(exchange) as data:
        found = [(await data.positioning("XUSDT")).open_interest_change for _ in range(2)]
        asked = [params for path, params in exchange.asked if path.endswith("openInterestHist")]
    assert found == [pytest.approx(-0.05)] * 2
    assert [params["limit"] for params in asked] == ["2"]


@pytest.mark.parametrize("rows", [[], [interest("3")], [interest("0"), interest("3")]])
async def test_too_little_open_interest_is_no_change(rows: list[dict[str, object]]) -> None:
    exchange = Exchange()
    exchange.answers["/futures/data/openInterestHist"] = rows
    async with data_of(exchange) as data:
        assert (await data.positioning("XUSDT")).open_interest_change is None


@pytest.mark.parametrize(("age", "known"), [(0, True), (14, True), (15, True), (16, False), (60 * 24 * 365, False)])
async def test_what_was_published_more_than_fifteen_minutes_ago_says_nothing_of_now(age: int, known: bool) -> None:
    exchange = Exchange()
    at_ms = NOW_MS - age * MINUTE
    exchange.answers["/futures/data/topLongShortAccountRatio"] = [ratio("2.5", at_ms)]
    exchange.answers["/futures/data/openInterestHist"] = [interest("200.0", at_ms - 5 * MINUTE), interest("190.0", at_ms)]
    async with data_of(exchange) as data:
        found = await data.positioning("XUSDT")
    assert (found.long_short_ratio is not None, found.open_interest_change is not None) == (known, known)


async def test_what_was_late_when_it_was_read_grows_old_while_it_is_kept() -> None:
    exchange = Exchange()
    exchange.answers["/futures/data/topLongShortAccountRatio"] = [ratio("2.5", NOW_MS - 12 * MINUTE)]
    async with data_of(exchange) as data:
        assert (await data.positioning("XUSDT")).long_short_ratio == 2.5
        exchange.clock.market = NOW + timedelta(minutes=4)
        assert (await data.positioning("XUSDT")).long_short_ratio is None
        assert [path for path, _ in exchange.asked].count("/futures/data/topLongShortAccountRatio") == 1


def symbol_row(symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol, "status": "TRADING", "contractType": "PERPETUAL", "baseAsset": "X", "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "1000", "tickSize": "0.10"},
            {"filterType": "LOT_SIZE", "minQty": "1", "maxQty": "1000", "stepSize": "1"},
        ],
    }  # fmt: skip


def test_the_whole_recorded_market_has_rules_and_only_trading_usdt_perpetuals_are_ours(fixtures_folder: Path) -> None:
    body = (fixtures_folder / "rules" / "exchangeInfo_DEMO_2026-03-31.json").read_bytes()
    rows = msgspec.json.decode(body, type=ExchangeInfo, strict=False).symbols
    rules = {found.symbol: found for row in rows if (found := rules_of(row)) is not None}
    ours = {symbol for symbol, found in rules.items() if found.tradable}
    assert len(rules) == 705
    assert len(ours) == 531
    assert {"1000SHIBUSDT", "币安人生USDT"} <= ours
    settled = {symbol for symbol, found in rules.items() if found.status == "SETTLING"}
    assert settled
    assert not settled & ours
    assert all(
        found.tick_size > 0 and found.step_size > 0 and found.min_notional > 0 for found in rules.values() if found.tradable
    )


def test_mainnet_rows_become_exact_decimals(fixtures_folder: Path) -> None:
    listed = json.loads((fixtures_folder / "rules" / "mainnet_rows_2026-09.json").read_text())["symbols"]
    btc = next(row for row in listed if row["symbol"] == "BTCUSDT")
    found = rules_of(
        msgspec.convert(
            {"baseAsset": "BTC", "quoteAsset": "USDT", **btc},
            type=ExchangeInfo.__annotations__["symbols"].__args__[0],
            strict=False,
        )
    )
    assert found is not None
    assert (found.tick_size, found.min_notional, found.market_max_quantity) == (Decimal("0.1"), Decimal(50), Decimal(120))
    assert found.liquidation_fee_ratio == Decimal("0.0125")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/fapi/v1/depth", DepthRow),
        ("/fapi/v1/trades", list[TradeRow]),
        ("/fapi/v1/premiumIndex", PremiumRow),
        ("/fapi/v1/ticker/24hr", TickerRow),
        ("/fapi/v1/fundingRate", list[FundingRow]),
        ("/futures/data/topLongShortAccountRatio", list[RatioRow]),
        ("/futures/data/openInterestHist", list[OpenInterestRow]),
    ],
)
def test_the_documented_replies_are_read(fixtures_folder: Path, path: str, kind: Any) -> None:
    examples = json.loads((fixtures_folder / "official_sdk" / "rest_api_examples.json").read_text())
    reply = next(example["response"] for example in examples if example["path"] == path)
    assert msgspec.json.decode(msgspec.json.encode(reply), type=kind, strict=False)


@pytest.mark.parametrize(
    ("words", "used", "limit"),
    [
        ("Too many requests; current limit of IP(1.2.3.4) is 300 requests per minute. Please use the websocket.", "301", 300),
        ("Too many requests.", "500", 450),
        ("Too many requests; current limit of IP is 2400 requests per minute.", "500", 450),
        ("Too many requests.", "7", 2400),
    ],
)
async def test_a_refusal_teaches_how_much_is_granted(words: str, used: str, limit: int) -> None:
    exchange = Exchange()
    exchange.status, exchange.headers["X-MBX-USED-WEIGHT-1M"] = 429, used
    exchange.answers["/fapi/v1/depth"] = {"code": -1003, "msg": words}
    async with data_of(exchange) as data:
        with pytest.raises(ExchangeThrottled):
            await data.book("BTCUSDT")
        assert exchange.budget.limit == limit


async def test_what_a_symbols_candles_cost_is_nothing_once_they_are_kept() -> None:
    exchange = Exchange()
    exchange.answers["/fapi/v1/klines"] = until_now
    async with data_of(exchange) as data:
        assert data.candle_cost("BTCUSDT") == 4
        await data.candles("BTCUSDT", Timeframe.M15)
        assert data.candle_cost("BTCUSDT") == 2
