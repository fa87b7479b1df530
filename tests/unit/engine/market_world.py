"""A market in memory for the market side's use cases: told what to say, counting what it is asked."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from engine.core.features_live import LiveFeatures, Told
from engine.core.instrument import InstrumentRules
from engine.core.large_trades import TradeFlow
from engine.core.market import (
    Book,
    Candles,
    Floats,
    ForcedOrder,
    Funding,
    Mark,
    MarkBar,
    Positioning,
    Ticker,
    Timeframe,
    Trade,
    ms_of,
)
from engine.core.ticks import GAP_MS, Tick
from engine.errors import ExchangeUnreachable, SnapshotsUnavailable, UnknownSymbol
from engine.ports import FeedState, FiguresState, TradeWindows
from shared.analysis import Candidate
from shared.enums import Side
from tests.unit.engine.execution_desk import BTC, NOW, WALL_MS, StandingClock

NOW_MS = ms_of(NOW)
MINUTE = 60_000


def rules_of(symbol: str, **changes: object) -> InstrumentRules:
    return msgspec.structs.replace(BTC, symbol=symbol, tick_size=Decimal("0.01"), **changes)


def ticker(symbol: str, change: float = 10.0, volume: float = 1e9, received_ms: int = WALL_MS) -> Ticker:
    return Ticker(symbol=symbol, last=100.0, change_percent=change, quote_volume=volume, received_ms=received_ms)


def series(symbol: str, timeframe: Timeframe, close: Floats, volume: Floats | None = None, closed_ms: int = NOW_MS) -> Candles:
    """Candles that end at `closed_ms`, each opening at the close before, with a small range around both."""
    length = len(close)
    opened = np.concatenate([close[:1], close[:-1]])
    return Candles(
        symbol=symbol,
        timeframe=timeframe,
        open_ms=np.array([closed_ms - (length - place) * timeframe.ms for place in range(length)], np.int64),
        open=opened,
        high=np.maximum(opened, close) * 1.001,
        low=np.minimum(opened, close) * 0.999,
        close=close,
        volume=np.full(length, 100.0) if volume is None else volume,
    )


def dip(symbol: str) -> tuple[Candles, Candles]:
    """A symbol that rose for weeks, swung quietly, and now falls on raised volume: what screener v3.1 goes long on."""
    swing = 200 + np.array([0.4 if place % 2 else -0.4 for place in range(290)], np.float64)
    fall = np.array([199.4 - 0.42 * step for step in range(9)], np.float64)
    quarter = np.concatenate([swing, fall])
    volume = np.full(len(quarter), 100.0)
    volume[-1] = 150.0
    four_hour = np.array([100 + place / 5 for place in range(300)], np.float64)
    return series(symbol, Timeframe.M15, quarter, volume), series(symbol, Timeframe.H4, four_hour)


def book(
    symbol: str, middle: str = "196", bid_quantity: str = "10", ask_quantity: str = "10", received_ms: int = WALL_MS
) -> Book:
    price = Decimal(middle)
    return Book(
        symbol=symbol,
        bids=((price - Decimal("0.01"), Decimal(bid_quantity)),),
        asks=((price + Decimal("0.01"), Decimal(ask_quantity)),),
        at_ms=NOW_MS,
        received_ms=received_ms,
    )


def mark(symbol: str, price: str = "100", at_ms: int = NOW_MS, received_ms: int = WALL_MS) -> Mark:
    return Mark(
        symbol=symbol,
        price=Decimal(price),
        at_ms=at_ms,
        funding_rate=Decimal("0.0001"),
        next_funding_ms=0,
        received_ms=received_ms,
    )


def bar(open_ms: int, high: str = "101", low: str = "99") -> MarkBar:
    return MarkBar(open_ms=open_ms, close_ms=open_ms + MINUTE, open=Decimal(100), high=Decimal(high), low=Decimal(low))


def forced(symbol: str, usd: int, side: Side = Side.LONG, at_ms: int = NOW_MS) -> ForcedOrder:
    return ForcedOrder(symbol=symbol, side=side, price=Decimal(1), quantity=Decimal(usd), at_ms=at_ms)


def candidate(symbol: str = "XUSDT", side: Side = Side.LONG, score: float = 20.0, **features: float | str | None) -> Candidate:
    return Candidate(symbol=symbol, score=score, direction=side, features=dict(features))


class World:
    """The MarketData port; `broken` symbols fail, the bars of `slow` ones never come, `down` fails everything."""

    def __init__(self, clock: StandingClock | None = None) -> None:
        self.clock = clock or StandingClock()
        self.rules: dict[str, InstrumentRules] = {}
        self.ticker_of: dict[str, Ticker] = {}
        self.candle_of: dict[tuple[str, Timeframe], Candles] = {}
        self.book_of: dict[str, Book] = {}
        self.mark_of: dict[str, Mark] = {}
        self.bars_of: dict[str, list[MarkBar]] = {}
        self.fundings_of: dict[str, list[Funding]] = {}
        self.trades_of: dict[str, list[Trade]] = {}
        self.broken: set[str] = set()
        self.slow: set[str] = set()
        self.down = False
        self.asked: list[str] = []
        self.answered_ms: int | None = None

    def list_dip(self, symbol: str) -> None:
        """Lists a symbol that will become a candidate."""
        self.rules[symbol] = rules_of(symbol)
        self.ticker_of[symbol] = ticker(symbol)
        quarter, four_hour = dip(symbol)
        self.candle_of[(symbol, Timeframe.M15)] = quarter
        self.candle_of[(symbol, Timeframe.H4)] = four_hour
        self.book_of[symbol] = book(symbol)

    def _ask(self, what: str, symbol: str = "") -> None:
        self.asked.append(what)
        if self.down or symbol in self.broken:
            raise ExchangeUnreachable("connection refused")

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        self._ask("instruments")
        return self.rules

    async def instrument(self, symbol: str) -> InstrumentRules:
        self._ask("instrument", symbol)
        return self.rules[symbol]

    async def tickers(self) -> Mapping[str, Ticker]:
        self._ask("tickers")
        return self.ticker_of

    async def candles(self, symbol: str, timeframe: Timeframe) -> Candles:
        self._ask("candles", symbol)
        return self.candle_of[(symbol, timeframe)]

    async def book(self, symbol: str) -> Book:
        self._ask("book", symbol)
        return self.book_of[symbol]

    async def mark(self, symbol: str) -> Mark:
        self._ask("mark", symbol)
        if symbol not in self.mark_of:
            raise UnknownSymbol(symbol)
        return self.mark_of[symbol]

    async def marks(self) -> Mapping[str, Mark]:
        self._ask("marks")
        return self.mark_of

    async def trades(self, symbol: str) -> Sequence[Trade]:
        self._ask("trades", symbol)
        return self.trades_of.get(symbol, [])

    async def positioning(self, symbol: str, mark: Mark | None = None) -> Positioning:
        del symbol
        return Positioning(funding_ratio=float(mark.funding_rate) if mark else None)

    async def mark_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[MarkBar]:
        self._ask("mark_bars", symbol)
        if symbol in self.slow:
            await asyncio.Event().wait()
        return [bar for bar in self.bars_of.get(symbol, []) if since_ms <= bar.open_ms <= until_ms]

    async def fundings(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Funding]:
        self._ask("fundings", symbol)
        return [event for event in self.fundings_of.get(symbol, []) if since_ms < event.at_ms <= until_ms]

    async def beat(self) -> None:
        self._ask("beat")
        self.answered_ms = self.clock.wall_ms()


class Kept:
    """The Snapshots port."""

    def __init__(self) -> None:
        self.ticker_of: dict[str, Ticker] = {}
        self.mark_of: dict[str, Mark] = {}
        self.ticks_of: dict[str, list[Tick]] = {}
        self.orders: list[ForcedOrder] = []
        self.feed: FeedState | None = None
        self.windows: TradeWindows | None = None
        self.wanted: list[str] = []
        self.told: Told | None = None
        self.figures_by: FiguresState | None = None
        self.down = False
        self.answered_ms: int | None = None

    def follow(self, candle_of: Mapping[tuple[str, Timeframe], Candles]) -> LiveFeatures:
        """Keeps the figures of these candles, as a feed does that was seeded with them; whoever holds what is returned goes on."""
        live = LiveFeatures.of(sorted({symbol for symbol, _ in candle_of}))
        for track in (live.quarter, live.four_hour):
            track.seed([candle_of[symbol, track.told.timeframe] for symbol in track.symbols])
        self.told = live.told
        return live

    def hear(self, *symbols: str) -> None:
        """Keeps what a feed tells that has heard these symbols for a whole window, in which nothing large happened, and their marks."""
        self.figures_by = living_figures()
        self.mark_of |= {symbol: mark(symbol) for symbol in symbols if symbol not in self.mark_of}
        flows = tuple(TradeFlow(symbol=symbol, since_ms=NOW_MS - 300_000) for symbol in symbols)
        self.windows = TradeWindows(beat_ms=WALL_MS, connected=True, flows=flows)

    def _ask(self) -> None:
        if self.down:
            raise SnapshotsUnavailable("ConnectionError")

    async def tickers(self) -> Mapping[str, Ticker]:
        self._ask()
        return self.ticker_of

    async def marks(self) -> Mapping[str, Mark]:
        self._ask()
        return self.mark_of

    async def ticks(self, since_ms: Mapping[str, int]) -> Mapping[str, Sequence[Tick]]:
        self._ask()
        return {
            name: [tick for tick in self.ticks_of.get(name, []) if tick.at_ms >= moment - GAP_MS]
            for name, moment in since_ms.items()
        }

    async def liquidations(self) -> Sequence[ForcedOrder]:
        self._ask()
        return self.orders

    async def state(self) -> FeedState | None:
        self._ask()
        return self.feed

    async def large_trades(self) -> TradeWindows | None:
        self._ask()
        return self.windows

    async def want_trades(self, symbols: Sequence[str]) -> None:
        self._ask()
        self.wanted += symbols

    async def figures(self) -> Told | None:
        self._ask()
        return self.told

    async def memory(self) -> LiveFeatures | None:
        self._ask()
        return None

    async def figures_state(self) -> FiguresState | None:
        self._ask()
        return self.figures_by

    async def beat(self) -> None:
        self._ask()
        self.answered_ms = WALL_MS


def living_figures(written_ms: int = WALL_MS, late: int = 0) -> FiguresState:
    return FiguresState(
        leader="one", written_ms=written_ms, market_ms=NOW_MS, skew_ms=3, wanted=100, seeded=99, late=late, candles_ms=written_ms
    )


def living_feed(beat_ms: int = WALL_MS) -> FeedState:
    return FeedState(beat_ms=beat_ms, tickers_ms=beat_ms, marks_ms=beat_ms, liquidations_ms=beat_ms, connected=True)
