"""One 15m close of the whole market, ranking included, and a warm scan from Redis: ours beside TA-Lib and beside reading the candles once.

A close is less work than a rescan, and a kernel that tells the last figures does less than a library that tells the series: the row against
TA-Lib's streaming handles is like for like, the one against TA-Lib coin by coin is what a user would run instead. The 4h track does not
move, as on fifteen closes of sixteen.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import redis
import talib
from talib import stream

from deploy.servers import EmbeddedRedis, free_port
from engine.core.features import WIDTH
from engine.core.features_batch import features_from
from engine.core.features_bytes import told_bytes, told_of
from engine.core.features_live import Closes, LiveFeatures, Track, stacked
from engine.core.market import Candles, Floats, Timeframe
from engine.core.screen_fast import Ranking, rank, rank_told
from tests.bench.rounds import Ratio, alternate

SYMBOLS = 600
CLOSE_ROUNDS = 41
BATCH_ROUNDS = 7
SCAN_ROUNDS = 21
BEGIN_MS = 1_757_030_400_000
LINE_BYTES = 64
LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
NO_MORE_BYTES = 768 * 2**20

type Picks = list[tuple[str, float]]


def walk(random: np.random.Generator, symbol: str, timeframe: Timeframe, length: int, begin: float) -> Candles:
    """A random walk with volumes that now and then stand out."""
    close = begin * np.exp(np.cumsum(random.normal(0, 0.006, length)))
    opened = np.concatenate([[begin], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.004, length))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.004, length))
    volume = 1e5 * np.exp(random.normal(0, 0.8, length))
    open_ms = BEGIN_MS + np.arange(length) * timeframe.ms
    return Candles(
        symbol=symbol, timeframe=timeframe, open_ms=open_ms, open=opened, high=high, low=low, close=close, volume=volume
    )


class Market:
    """A seeded market of both timeframes: a history of 499 candles and the 15m closes that follow it."""

    def __init__(self, symbols: int, closes: int) -> None:
        random = np.random.default_rng(7)
        self.symbols = [f"C{place:04}USDT" for place in range(symbols)]
        self.four_hour = [walk(random, symbol, Timeframe.H4, WIDTH, 100.0) for symbol in self.symbols]
        lasts = [float(series.close[-1]) for series in self.four_hour]
        self.quarter = [
            walk(random, symbol, Timeframe.M15, WIDTH + closes, last) for symbol, last in zip(self.symbols, lasts, strict=True)
        ]

    def close(self, place: int) -> Floats:
        """The candles of one close, symbols x (open, high, low, close, volume)."""
        return np.stack([stacked(series)[WIDTH + place] for series in self.quarter])

    def seeded(self) -> LiveFeatures:
        """What stands before the first of the closes."""
        live = LiveFeatures.of(self.symbols)
        live.quarter.seed([until(series, WIDTH) for series in self.quarter])
        live.four_hour.seed(self.four_hour)
        return live


def until(series: Candles, end: int) -> Candles:
    """The first candles of a series."""
    return _part(series, slice(end))


def since(series: Candles, begin: int) -> Candles:
    """A series without its first candles."""
    return _part(series, slice(begin, None))


def _part(series: Candles, places: slice) -> Candles:
    columns = {name: getattr(series, name)[places] for name in ("open_ms", "open", "high", "low", "close", "volume")}
    return Candles(symbol=series.symbol, timeframe=series.timeframe, **columns)


class Ours:
    """Our way: one call takes the close, one ranks."""

    def __init__(self, market: Market) -> None:
        self._live = market.seeded()
        self._rows = np.arange(len(market.symbols))
        self._everyone = np.ones(len(market.symbols), np.bool_)

    def close(self, candles: Floats) -> Ranking:
        """Takes the close and ranks."""
        track: Track = self._live.quarter
        track.close(Closes(rows=self._rows, open_ms=track.told.newest_ms + Timeframe.M15.ms, candles=candles))
        return rank_told(self._live.told, self._everyone)

    def picks(self, ranking: Ranking) -> Picks:
        """The candidates, best first."""
        return [(self._live.quarter.symbols[row], float(ranking.score[row])) for row in ranking.best]


def ranked(symbols: list[str], close: Floats, ratio: Floats, rsi: Floats, ema: Floats) -> Picks:
    """Screener v3.1 in numpy, for the peers: all have 499 candles."""
    bull = close > ema
    score = np.where(bull & (rsi < 45), 50 - rsi, np.where(~bull & (rsi > 55), rsi - 50, -np.inf)) + 5 * ratio
    dead = (ratio < 1.2) | ((rsi >= 40) & (rsi <= 60) & (ratio < 3))
    kept = np.flatnonzero(~dead & (score > 0))
    return [(symbols[row], float(score[row])) for row in kept[np.argsort(-score[kept], kind="stable")]]


class Streaming:
    """TA-Lib's own handles, one an indicator and symbol."""

    def __init__(self, market: Market) -> None:
        self._symbols = market.symbols
        self._ema = np.array([talib.EMA(series.close, 200)[-1] for series in market.four_hour])
        self._handles = [self._open(until(series, WIDTH)) for series in market.quarter]

    @staticmethod
    def _open(candles: Candles) -> tuple[Any, ...]:
        high, low, close, volume = candles.high, candles.low, candles.close, candles.volume
        ranges = (stream.ATR(high, low, close, 14), stream.ADX(high, low, close, 14))
        averages = (stream.EMA(close, 50), stream.EMA(close, 200), stream.MACD(close, 12, 26, 9))
        windows = (stream.BBANDS(close, 20, 2.0, 2.0), stream.ER(close, 10), stream.ROC(close, 3))
        volumes = (stream.SMA(volume, 20), stream.STDDEV(volume, 20, 1))
        return (stream.RSI(close, 14), *ranges, *averages, *windows, *volumes)

    def close(self, candles: Floats) -> Picks:
        """Takes the close and ranks."""
        ratios, strengths = [], []
        rows: list[list[float]] = np.asarray(candles).tolist()
        for handles, (_, high, low, close, volume) in zip(self._handles, rows, strict=True):
            rsi, atr, adx, ema_50, ema_200, macd, bands, path, change, mean, deviation = handles
            strengths.append(rsi.update(close))
            atr.update(high, low, close)
            adx.update(high, low, close)
            for handle in (ema_50, ema_200, macd, path, change):
                handle.update(close)
            upper, middle, lower = bands.update(close)
            (upper - lower) / middle
            average, spread = mean.update(volume), deviation.update(volume)
            (volume - average) / spread
            ratios.append(volume / average)
        return ranked(self._symbols, candles[:, 3], np.array(ratios), np.array(strengths), self._ema)


class CoinByCoin:
    """TA-Lib's functions over each symbol's 499 newest candles of both timeframes: what most people run."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._columns = {
            name: np.stack([getattr(series, name) for series in market.quarter]) for name in ("high", "low", "close", "volume")
        }

    def close(self, place: int) -> Picks:
        """Computes everything anew at one of the closes and ranks."""
        found = []
        for row, slow in enumerate(self._market.four_hour):
            high, low, close, volume = (column[row, place + 1 : place + 1 + WIDTH] for column in self._columns.values())
            rsi, _, mean = _indicators(high, low, close, volume)
            _, ema, _ = _indicators(slow.high, slow.low, slow.close, slow.volume)
            found.append((close[-1], volume[-1] / mean, rsi, ema))
        return ranked(self._market.symbols, *np.array(found).T)


def _indicators(high: Floats, low: Floats, close: Floats, volume: Floats) -> tuple[float, float, float]:
    """All of them; RSI, EMA200 and the mean volume decide."""
    rsi, ema, mean = talib.RSI(close, 14)[-1], talib.EMA(close, 200)[-1], talib.SMA(volume, 20)[-1]
    talib.ATR(high, low, close, 14)
    talib.ADX(high, low, close, 14)
    talib.EMA(close, 50)
    talib.MACD(close, 12, 26, 9)
    talib.BBANDS(close, 20, 2.0, 2.0)
    talib.ER(close, 10)
    talib.ROC(close, 3)
    talib.STDDEV(volume, 20, 1)
    return rsi, ema, mean


def require_agreement(mine: Picks, theirs: Picks) -> None:
    """Both sides must find the same candidates, at least one, with the same scores."""
    same = [symbol for symbol, _ in mine] == [symbol for symbol, _ in theirs]
    if not (mine and same and np.allclose([score for _, score in mine], [score for _, score in theirs], rtol=1e-9)):
        raise SystemExit(f"the two ways found different candidates, or none: {mine} and {theirs}")


async def close_vs_talib_streaming() -> Ratio:
    """Both sides carry the same indicators from candle to candle; every round is the next close."""
    market = Market(SYMBOLS, CLOSE_ROUNDS + 1)
    ours, peer = Ours(market), Streaming(market)
    closes = [market.close(place) for place in range(CLOSE_ROUNDS + 1)]
    found: dict[str, Any] = {}
    mine, theirs = iter(closes), iter(closes)

    async def take() -> None:
        found["ours"] = ours.close(next(mine))

    async def stream_on() -> None:
        found["theirs"] = peer.close(next(theirs))

    ratio = await alternate(take, stream_on, CLOSE_ROUNDS)
    require_agreement(ours.picks(found["ours"]), found["theirs"])
    return ratio


async def close_vs_talib_coin_by_coin() -> Ratio:
    """Ours takes one close, the peer computes both timeframes anew."""
    market = Market(SYMBOLS, BATCH_ROUNDS + 1)
    ours, peer = Ours(market), CoinByCoin(market)
    closes = [market.close(place) for place in range(BATCH_ROUNDS + 1)]
    found: dict[str, Any] = {}
    mine, theirs = iter(closes), iter(range(BATCH_ROUNDS + 1))

    async def take() -> None:
        found["ours"] = ours.close(next(mine))

    async def compute() -> None:
        found["theirs"] = peer.close(next(theirs))

    ratio = await alternate(take, compute, BATCH_ROUNDS)
    require_agreement(ours.picks(found["ours"]), found["theirs"])
    return ratio


async def batch_vs_talib_coin_by_coin() -> Ratio:
    """Both sides compute both timeframes anew from 499 candles of each in memory."""
    market = Market(SYMBOLS, 1)
    peer = CoinByCoin(market)
    quarter = [since(series, 1) for series in market.quarter]
    found: dict[str, Any] = {}

    async def compute() -> None:
        features = features_from(quarter, market.four_hour)
        ranking = rank(features)
        found["ours"] = [(features.symbols[row], float(ranking.score[row])) for row in ranking.best]

    async def compute_coin_by_coin() -> None:
        found["theirs"] = peer.close(0)

    ratio = await alternate(compute, compute_coin_by_coin, BATCH_ROUNDS)
    require_agreement(found["ours"], found["theirs"])
    return ratio


async def warm_scan_vs_reading_candles(symbols: int = SYMBOLS) -> Ratio:
    """A replica reads the snapshot from Redis over loopback, checks it and ranks; the peer adds up the candles that a rescan must read."""
    live = Market(symbols, 0).seeded()
    with tempfile.TemporaryDirectory(prefix="nt-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedRedis(Path(folder) / "data", free_port(), durable=False)
        await asyncio.to_thread(server.start)
        try:
            with redis.Redis.from_url(server.url) as client:
                client.set("told", told_bytes(live.told))
                return await _scan_beside_sum(client, symbols)
        finally:
            await asyncio.to_thread(server.stop)


def evicting_bytes() -> int:
    """A quarter more than the last cache holds, as far as the machine tells."""
    kilobytes = int(LAST_CACHE.read_text().strip().rstrip("K")) if LAST_CACHE.exists() else 64 * 1024
    return min(kilobytes * 1024 * 5 // 4, NO_MORE_BYTES)


async def _scan_beside_sum(client: Any, symbols: int) -> Ratio:
    candles = np.random.default_rng(7).random((2, 5, symbols, 500))
    everyone = np.ones(symbols, np.bool_)

    async def scan() -> None:
        told = told_of(client.get("told"))
        if told is None or not len(rank_told(told, everyone).best):
            raise SystemExit("the snapshot could not be read, or nobody is a candidate")

    async def read() -> None:
        np.sum(candles)

    other = np.ones(evicting_bytes() // 8)[:: LINE_BYTES // 8]
    return await alternate(scan, read, SCAN_ROUNDS, other.sum)  # afterwards no cache holds what was read before
