"""MarketData against Binance's public REST: what is cached, for how long, and who shares a request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.candles import rows
from engine.candles.budget import DATA, FUNDING, Pool
from engine.candles.door import Door
from engine.candles.klines import candles_of, klines_of
from engine.core.instrument import InstrumentRules
from engine.core.market import (
    FUNDING_GRACE_MS,
    HOUR_MS,
    MINUTE_MS,
    Book,
    Candles,
    Funding,
    Mark,
    MarkBar,
    Positioning,
    Ticker,
    Timeframe,
    Trade,
)
from engine.errors import ExchangeError, UnknownSymbol
from engine.ports import Clock

CANDLES_LIMIT: Final = 499
CANDLES_WEIGHT: Final = 2
"""499 candles weigh 2, 500 weigh 5. Source: Binance USDⓈ-M "Kline", weights."""

CANDLES_AT_ONCE: Final = 16
"""Fewer than the door lets through: an order, a stop or a scan's own books never wait behind a whole scan's candles."""

RULES_AGE_MS: Final = 3_600_000
DOUBTS_APART_MS: Final = 5_000
POSITIONING_AGE_MS: Final = 300_000
"""The exchange publishes ratios and open interest every 5 minutes: so long, of market time, an answer is kept."""

PUBLISHED_AGE_MS: Final = 900_000
"""Market age past which a published figure says nothing of now: five minutes to the next one, as many for one that is late, and
as many for which an answer is kept."""

BARS_AGE_MS: Final = 3_000
"""Wall age; asked each second for fifty symbols, bars would eat the whole weight of a minute."""

FUNDINGS_AGE_MS: Final = 15_000
"""Wall age; five questions a symbol in the minute after a full hour leave a hundred symbols inside the pool of 500."""

MOST_MINUTES: Final = 1500
MOST_FUNDINGS: Final = 1000


class _KeptBars(msgspec.Struct, frozen=True):
    since_ms: int
    minute: int
    wall_ms: int
    bars: Sequence[MarkBar]


class _KeptFundings(msgspec.Struct, frozen=True):
    since_ms: int
    until_ms: int
    wall_ms: int
    events: Sequence[Funding]

    def answers(self, since_ms: int, until_ms: int, wall_ms: int) -> bool:
        hour = until_ms // HOUR_MS * HOUR_MS
        if since_ms < self.since_ms or self.until_ms < hour:
            return False
        settled = any(hour <= event.at_ms <= until_ms for event in self.events) or self.until_ms - hour >= FUNDING_GRACE_MS
        return settled or (until_ms - hour < FUNDING_GRACE_MS and wall_ms - self.wall_ms <= FUNDINGS_AGE_MS)


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published figure, the market moment that it tells of, and the one at which it was asked for."""

    asked_ms: int
    figure: float | None = None
    at_ms: int = 0

    def still_tells(self, now_ms: int) -> float | None:
        return self.figure if now_ms - self.at_ms <= PUBLISHED_AGE_MS else None


class BinanceData:
    """Public market data. One request at a time for one thing: callers who want the same share the flight."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._flights: dict[Any, asyncio.Task[Any]] = {}
        self._rules: Mapping[str, InstrumentRules] = {}
        self._rules_ms = 0
        self._doubted_ms = 0
        self._candles: dict[tuple[str, Timeframe], Candles] = {}
        self._candle_slots = asyncio.Semaphore(CANDLES_AT_ONCE)
        self._bars: dict[str, _KeptBars] = {}
        self._fundings: dict[str, _KeptFundings] = {}
        self._figures: dict[tuple[str, str], _Published] = {}
        self.answered_ms: int | None = None

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        """The rules of every listed symbol; a market hour old at most, older only while the exchange does not answer."""
        if self._rules and self._clock.now_ms() - self._rules_ms < RULES_AGE_MS:
            return self._rules
        try:
            return await self._shared("rules", self._read_rules)
        except ExchangeError:
            if not self._rules:
                raise
            return self._rules

    def doubt_rules(self) -> None:
        """The exchange refused what fits them: they are read again for whoever asks next, some wall seconds apart at most."""
        now = self._clock.wall_ms()
        if now - self._doubted_ms >= DOUBTS_APART_MS:
            self._doubted_ms, self._rules_ms = now, self._clock.now_ms() - RULES_AGE_MS

    async def instrument(self, symbol: str) -> InstrumentRules:
        """One symbol's rules; raises UnknownSymbol."""
        rules = (await self.instruments()).get(symbol)
        if rules is None:
            raise UnknownSymbol(symbol)
        return rules

    async def tickers(self) -> Mapping[str, Ticker]:
        """The rolling 24 h of all symbols, weight 40."""
        return await self._shared("tickers", self._read_tickers)

    async def candles(self, symbol: str, timeframe: Timeframe) -> Candles:
        """Up to 499 closed candles, read again only when the next one has closed."""
        kept = self._candles.get((symbol, timeframe))
        if kept is not None and self._clock.now_ms() < kept.closed_ms + timeframe.ms:
            return kept
        return await self._shared((symbol, timeframe), lambda: self._read_candles(symbol, timeframe))

    def candle_cost(self, symbol: str) -> int:
        """The weight that it takes to read both timeframes of a symbol now: nothing for what is cached."""
        now_ms = self._clock.now_ms()
        kept = (self._candles.get((symbol, timeframe)) for timeframe in (Timeframe.M15, Timeframe.H4))
        return sum(CANDLES_WEIGHT for candles in kept if candles is None or now_ms >= candles.closed_ms + candles.timeframe.ms)

    async def book(self, symbol: str) -> Book:
        """The 20 best levels of each side, weight 2."""
        row = await self._get("/fapi/v1/depth", rows.DepthRow, {"symbol": symbol, "limit": 20}, 2)
        return rows.book_of(symbol, row, self._clock.wall_ms())

    async def mark(self, symbol: str) -> Mark:
        """The mark price, weight 1."""
        row = await self._get("/fapi/v1/premiumIndex", rows.PremiumRow, {"symbol": symbol}, 1)
        return rows.mark_of(row, self._clock.wall_ms())

    async def marks(self) -> Mapping[str, Mark]:
        """All mark prices, weight 10."""
        return await self._shared("marks", self._read_marks)

    async def trades(self, symbol: str) -> Sequence[Trade]:
        """The last 100 trades, weight 5."""
        found = await self._get("/fapi/v1/trades", list[rows.TradeRow], {"symbol": symbol, "limit": 100}, 5)
        return [rows.trade_of(row) for row in found]

    async def positioning(self, symbol: str, mark: Mark | None = None) -> Positioning:
        """Funding, the mark's where one is known, the top traders' long/short ratio and the change of the open interest.

        What does not come is None.
        """
        funding, ratio, change = await asyncio.gather(
            self._funding(symbol, mark),
            self._published(symbol, "topLongShortAccountRatio", 1, list[rows.RatioRow], _ratio),
            self._published(symbol, "openInterestHist", 2, list[rows.OpenInterestRow], _change),
        )
        return Positioning(funding_ratio=funding, long_short_ratio=ratio, open_interest_change=change)

    async def mark_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[MarkBar]:
        """1m mark-price candles that open in [since, until], oldest first, the open one included.

        Within one market minute the same question is asked again only after some wall seconds: the open bar is then that old, and
        the caller's next look covers its minute again.
        """
        minute, wall_ms = until_ms // MINUTE_MS, self._clock.wall_ms()
        kept = self._bars.get(symbol)
        if kept is not None and (kept.since_ms, kept.minute) == (since_ms, minute) and wall_ms - kept.wall_ms <= BARS_AGE_MS:
            return kept.bars
        return await self._shared(("bars", symbol, since_ms, minute), lambda: self._read_bars(symbol, since_ms, until_ms))

    async def _read_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[MarkBar]:
        """Kept by the flight itself: a caller who could not wait for a long history finds it at the next look."""
        bars: list[MarkBar] = []
        start, wall_ms = since_ms, self._clock.wall_ms()
        while start <= until_ms:
            limit = min(MOST_MINUTES, max(1, (until_ms - start) // MINUTE_MS + 1))
            page = await self._mark_page(symbol, start, limit)
            bars += [bar for bar in page if start <= bar.open_ms <= until_ms]
            if len(page) < limit:
                break
            start, wall_ms = page[-1].close_ms, self._clock.wall_ms()
        self._bars[symbol] = _KeptBars(since_ms, until_ms // MINUTE_MS, wall_ms, bars)
        return bars

    async def fundings(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Funding]:
        """Settlements in (since, until], oldest first.

        Everyone who watches asks each second until an hour's settlement is out: one answer serves them all for some wall seconds, and
        for the rest of the hour once it holds the settlement or was given when that could no longer come.
        """
        kept = self._fundings.get(symbol)
        if kept is None or not kept.answers(since_ms, until_ms, self._clock.wall_ms()):
            kept = await self._shared(
                ("fundings", symbol, since_ms, until_ms // HOUR_MS), lambda: self._read_fundings(symbol, since_ms, until_ms)
            )
            self._fundings[symbol] = kept
        return [event for event in kept.events if since_ms < event.at_ms <= until_ms]

    async def _read_fundings(self, symbol: str, since_ms: int, until_ms: int) -> "_KeptFundings":
        events: list[Funding] = []
        wall_ms, start, full = self._clock.wall_ms(), since_ms + 1, True
        while full:
            params: dict[str, str | int] = {"symbol": symbol, "startTime": start, "endTime": until_ms, "limit": MOST_FUNDINGS}
            page = [
                rows.funding_of(row) for row in await self._get("/fapi/v1/fundingRate", list[rows.FundingRow], params, FUNDING)
            ]
            events += page
            full = len(page) >= MOST_FUNDINGS
            start = max((event.at_ms for event in page), default=until_ms) + 1
        return _KeptFundings(since_ms, until_ms, wall_ms, sorted(events, key=lambda event: event.at_ms))

    async def beat(self) -> None:
        """Pings the exchange, weight 1."""
        await self._get("/fapi/v1/ping", dict[str, str], {}, 1)

    async def _get[T](self, path: str, kind: type[T], params: Mapping[str, str | int], cost: int | Pool) -> T:
        found = await self._door.get(path, kind, params, cost)
        self._answered()
        return found

    def _answered(self) -> int:
        self.answered_ms = self._clock.wall_ms()
        return self.answered_ms

    async def _shared[T](self, key: Any, read: Callable[[], Awaitable[T]]) -> T:
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(read())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        found: T = await asyncio.shield(flight)
        return found

    def _landed(self, key: Any, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()

    async def _read_rules(self) -> Mapping[str, InstrumentRules]:
        info = await self._get("/fapi/v1/exchangeInfo", rows.ExchangeInfo, {}, 1)
        self._door.grant(info.weight_limit)
        found = (rows.rules_of(row) for row in info.symbols)
        self._rules = {rules.symbol: rules for rules in found if rules is not None}
        self._rules_ms = self._clock.now_ms()
        return self._rules

    async def _read_tickers(self) -> Mapping[str, Ticker]:
        found = await self._door.get_rows("/fapi/v1/ticker/24hr", rows.TickerRow, 40)
        received = self._answered()
        return {row.symbol: rows.ticker_of(row, received) for row in found}

    async def _read_marks(self) -> Mapping[str, Mark]:
        found = await self._door.get_rows("/fapi/v1/premiumIndex", rows.PremiumRow, 10)
        received = self._answered()
        return {row.symbol: rows.mark_of(row, received) for row in found}

    async def _read_candles(self, symbol: str, timeframe: Timeframe) -> Candles:
        params = {"symbol": symbol, "interval": timeframe.value, "limit": CANDLES_LIMIT}
        async with self._candle_slots:
            asked_ms = self._clock.now_ms()
            found = await self._door.read("/fapi/v1/klines", klines_of, params, CANDLES_WEIGHT)
        self._answered()
        candles = candles_of(symbol, timeframe, found, asked_ms)
        self._candles[(symbol, timeframe)] = candles
        return candles

    async def _mark_page(self, symbol: str, start_ms: int, limit: int) -> Sequence[MarkBar]:
        params: dict[str, str | int] = {"symbol": symbol, "interval": "1m", "startTime": start_ms, "limit": limit}
        found = await self._get("/fapi/v1/markPriceKlines", list[rows.MarkKlineRow], params, _klines_weight(limit))
        return [rows.mark_bar_of(row) for row in found]

    async def _funding(self, symbol: str, mark: Mark | None) -> float | None:
        try:
            return float((mark or await self.mark(symbol)).funding_rate)
        except ExchangeError:
            return None

    async def _published[Row: (rows.RatioRow, rows.OpenInterestRow)](
        self, symbol: str, what: str, limit: int, kind: type[list[Row]], read: Callable[[Sequence[Row]], float | None]
    ) -> float | None:
        """A figure that is published every five minutes, kept for as long; None where its newest row is old by its own time."""
        kept = self._figures.get((symbol, what))
        if kept is None or self._clock.now_ms() - kept.asked_ms >= POSITIONING_AGE_MS:
            params: dict[str, str | int] = {"symbol": symbol, "period": "5m", "limit": limit}
            try:
                found = await self._get(f"/futures/data/{what}", kind, params, DATA)
            except ExchangeError:
                return None
            at_ms = found[-1].timestamp if found else 0
            kept = _Published(asked_ms=self._clock.now_ms(), figure=read(found), at_ms=at_ms)
            self._figures[(symbol, what)] = kept
        return kept.still_tells(self._clock.now_ms())


def _ratio(found: Sequence[rows.RatioRow]) -> float | None:
    return found[-1].long_short_ratio if found else None


def _change(found: Sequence[rows.OpenInterestRow]) -> float | None:
    """The share by which the last of two grew; None of fewer, or from nothing."""
    if len(found) < 2 or found[0].sum_open_interest <= 0:
        return None
    return found[-1].sum_open_interest / found[0].sum_open_interest - 1


def _klines_weight(limit: int) -> int:
    return next((weight for below, weight in ((100, 1), (500, 2), (1001, 5)) if limit < below), 10)
