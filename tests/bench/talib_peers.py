"""TA-Lib as peer: its own streaming handles, and its functions coin by coin."""

from typing import Any

import numpy as np
import talib
from talib import stream

from engine.core.features import WIDTH
from engine.core.market import Candles, Floats
from tests.bench.market import Market, until
from tests.bench.peers.ranking import Picks, ranked


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
            rsi, _, mean = indicators(high, low, close, volume)
            _, ema, _ = indicators(slow.high, slow.low, slow.close, slow.volume)
            found.append((close[-1], volume[-1] / mean, rsi, ema))
        return ranked(self._market.symbols, *np.array(found).T)


def indicators(high: Floats, low: Floats, close: Floats, volume: Floats) -> tuple[float, float, float]:
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
