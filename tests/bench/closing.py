"""One 15m close of the whole market, ranking included, and the batch over candles in memory, beside every peer.

A close is less work than a rescan, and a kernel that tells the last figures does less than a library that tells the series: the rows against
handles and indicators that are carried on are like for like, the others are what a user would run instead. The 4h track does not move, as on
fifteen closes of sixteen.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engine.core import features_batch, features_live, screen_fast
from engine.core.features_batch import features_from
from engine.core.features_live import Closes, Track
from engine.core.market import Floats, Timeframe
from engine.core.screen_fast import Ranking, rank, rank_told
from tests.bench.market import Market, require_agreement
from tests.bench.outside import Outside
from tests.bench.peers.ranking import Picks
from tests.bench.rounds import AROUND, Ratio, alternate_with, once_with
from tests.bench.table_peers import PandasTa, Polars
from tests.bench.talib_peers import CoinByCoin, Streaming

SYMBOLS = 600
FEW = 60
"""Symbols for three rounds of a slow peer."""

CLOSE_ROUNDS = 41
BATCH_ROUNDS = 7
SLOW_ROUNDS = 3

MANY = 2000
ALL_AROUND = 1 + 2 * AROUND
"""Closes that ours take around one of a slow peer, the last of which the peer takes too."""

type Names = dict[str, str]
"""Rows' names, and which of our ways each is of: "close" or "batch"."""


class Ours:
    """Our ways: one call takes the close and ranks, one computes everything anew and ranks. Each counts its own rounds."""

    def __init__(self, market: Market, closes: int) -> None:
        for kernels in (features_live, features_batch, screen_fast):
            kernels.warm_up()
        self._market = market
        self._live = market.seeded()
        self._rows = np.arange(len(market.symbols))
        self._everyone = np.ones(len(market.symbols), np.bool_)
        self._closes = iter([market.close(place) for place in range(closes)])
        self._windows = iter([market.window(place) for place in range(closes)])
        self.closed: Ranking | None = None
        self.computed: Picks = []

    async def close(self) -> None:
        """Takes the next close and ranks."""
        self.closed = self._take(next(self._closes))

    def _take(self, candles: Floats) -> Ranking:
        track: Track = self._live.quarter
        track.close(Closes(rows=self._rows, open_ms=track.told.newest_ms + Timeframe.M15.ms, candles=candles))
        return rank_told(self._live.told, self._everyone)

    async def batch(self) -> None:
        """Computes both timeframes from the candles in memory after the next close and ranks."""
        features = features_from(next(self._windows), self._market.four_hour)
        ranking = rank(features)
        self.computed = [(features.symbols[row], float(ranking.score[row])) for row in ranking.best]

    def require_agreement(self, theirs: Picks) -> None:
        """Whichever of our ways were asked must have found what the peer found."""
        if self.computed:
            require_agreement(self.computed, theirs)
        if self.closed is not None:
            mine = [(self._market.symbols[row], float(self.closed.score[row])) for row in self.closed.best]
            require_agreement(mine, theirs)


class Answering(Protocol):
    """A peer that takes close after close."""

    picks: Picks

    async def close(self) -> object:
        """The next close; the picks of the last are kept."""


class Inside:
    """A peer in this process."""

    def __init__(self, close: Callable[[Any], Picks], arguments: Iterable[Any]) -> None:
        self._close = close
        self._arguments = iter(arguments)
        self.picks: Picks = []

    async def close(self) -> None:
        """The next close."""
        self.picks = self._close(next(self._arguments))


type Peer = Callable[[Market, range], AbstractAsyncContextManager[Answering]]
"""A peer over a market, asked for some of its closes."""


@asynccontextmanager
async def coin_by_coin(market: Market, closes: range) -> AsyncIterator[Answering]:
    """TA-Lib over 499 candles of both timeframes of each symbol."""
    yield Inside(CoinByCoin(market).close, closes)


@asynccontextmanager
async def streaming(market: Market, closes: range) -> AsyncIterator[Answering]:
    """TA-Lib's handles."""
    yield Inside(Streaming(market).close, [market.close(place) for place in closes])


@asynccontextmanager
async def pandas_ta(market: Market, closes: range) -> AsyncIterator[Answering]:
    """Coin by coin on twelve threads."""
    yield Inside(PandasTa(market).close, closes)


@asynccontextmanager
async def polars(market: Market, closes: range) -> AsyncIterator[Answering]:
    """One query."""
    yield Inside(Polars(market).close, closes)


@asynccontextmanager
async def nautilus(market: Market, closes: range) -> AsyncIterator[Answering]:
    """Its incremental indicators."""
    with tempfile.TemporaryDirectory(prefix="nt-bench-") as folder:
        async with Outside("nautilus", market, Path(folder), closes) as peer:
            yield peer


@asynccontextmanager
async def freqtrade(market: Market, closes: range) -> AsyncIterator[Answering]:
    """A strategy's analyze."""
    with tempfile.TemporaryDirectory(prefix="nt-bench-") as folder:
        async with Outside("freqtrade", market, Path(folder), closes) as peer:
            yield peer


async def beside(peer: Peer, names: Names, rounds: int, symbols: int = SYMBOLS) -> dict[str, Ratio]:
    """Rows by name, each of one of our ways beside the same rounds of a peer."""
    market, closes = Market(symbols, rounds + 1), range(rounds + 1)
    ours = Ours(market, rounds + 1)
    async with peer(market, closes) as theirs:
        ratios = await alternate_with([getattr(ours, way) for way in names.values()], theirs.close, rounds)
        ours.require_agreement(theirs.picks)
    return dict(zip(names, ratios, strict=True))


async def beside_slow(peer: Peer, names: Names, full: bool = False) -> dict[str, Ratio]:
    """Rows by name, three rounds at 60 symbols; then, timed once, at 600 and, where asked for, at 2,000."""
    found = await beside(peer, {f"{name}_{FEW}": way for name, way in names.items()}, SLOW_ROUNDS, FEW)
    for symbols in (SYMBOLS, MANY) if full else (SYMBOLS,):
        market = Market(symbols, ALL_AROUND)
        ours = Ours(market, ALL_AROUND)
        async with peer(market, range(ALL_AROUND - 1, ALL_AROUND)) as theirs:
            ratios = await once_with([getattr(ours, way) for way in names.values()], theirs.close)
            ours.require_agreement(theirs.picks)
        found |= dict(zip((name if symbols == SYMBOLS else f"{name}_{symbols}" for name in names), ratios, strict=True))
    return found
