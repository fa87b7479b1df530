"""Peers that compute over tables: pandas-ta symbol by symbol on twelve threads, and polars over one long table."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pandas_ta
import polars as pl

from engine.core.market import Candles, Floats
from tests.bench.first_system import THREADS
from tests.bench.market import Market
from tests.bench.peers.ranking import Picks, ranked


def _frame(candles: Candles) -> pd.DataFrame:
    return pd.DataFrame({name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")})


class PandasTa:
    """Every indicator by pandas-ta's own code, both timeframes of a symbol in one thread of twelve, as the first system did."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._four_hour = [_frame(candles) for candles in market.four_hour]

    def close(self, place: int) -> Picks:
        """Computes everything anew at one of the closes and ranks; candles become frames inside, as they would."""
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(_both, self._market.window(place), self._four_hour))
        return ranked(self._market.symbols, *np.array(found).T)


def _both(quarter: Candles, four_hour: pd.DataFrame) -> tuple[float, float, float, float]:
    frame = _frame(quarter)
    rsi, _, mean = _indicators(frame)
    _, ema, _ = _indicators(four_hour)
    return float(quarter.close[-1]), float(quarter.volume[-1]) / mean, rsi, ema


def _indicators(frame: pd.DataFrame) -> tuple[float, float, float]:
    high, low, close, volume = frame["high"], frame["low"], frame["close"], frame["volume"]
    rsi, ema = pandas_ta.rsi(close, length=14, talib=False), pandas_ta.ema(close, length=200, talib=False)
    mean = pandas_ta.sma(volume, length=20, talib=False)
    pandas_ta.atr(high, low, close, length=14, talib=False)
    pandas_ta.adx(high, low, close, length=14, talib=False)
    pandas_ta.ema(close, length=50, talib=False)
    pandas_ta.macd(close, talib=False)
    pandas_ta.bbands(close, length=20, talib=False)
    pandas_ta.er(close, length=10)
    pandas_ta.roc(close, length=3, talib=False)
    pandas_ta.zscore(volume, length=20)
    return float(rsi.iloc[-1]), float(ema.iloc[-1]), float(mean.iloc[-1])


class Polars:
    """One lazy query over the candles of all symbols, on as many threads as there are cores."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._four_hour = _long(market.four_hour)

    def close(self, place: int) -> Picks:
        """Computes everything anew at one of the closes and ranks; candles become a table inside, as they would."""
        quarter, four_hour = pl.collect_all([_figures(_long(self._market.window(place))), _figures(self._four_hour)])
        close, ratio, rsi = (quarter[name].to_numpy() for name in ("close", "volume_ratio", "rsi"))
        return ranked(self._market.symbols, close, ratio, rsi, four_hour["ema_200"].to_numpy())


def _long(series: list[Candles]) -> pl.DataFrame:
    columns: dict[str, Floats] = {
        name: np.concatenate([getattr(one, name) for one in series]) for name in ("high", "low", "close", "volume")
    }
    return pl.DataFrame({"symbol": np.repeat(np.arange(len(series)), [len(one) for one in series]), **columns})


def _average(values: pl.Expr, begin: int, period: int, alpha: float) -> pl.Expr:
    """An exponential average that begins with the mean of its first period, which begins at a row."""
    row, end = pl.int_range(pl.len()), begin + period - 1
    begun = pl.when(row == end).then(values.slice(begin, period).mean()).when(row > end).then(values)
    return begun.ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True)


def _wilder(values: pl.Expr, begin: int = 1) -> pl.Expr:
    return _average(values, begin, 14, 1 / 14)


def _ema(values: pl.Expr, period: int, begin: int = 0) -> pl.Expr:
    return _average(values, begin, period, 2 / (period + 1))


def _figures(frame: pl.DataFrame) -> pl.LazyFrame:
    high, low, close, volume = (pl.col(name) for name in ("high", "low", "close", "volume"))
    change, before, row = close.diff(), close.shift(1), pl.int_range(pl.len())
    gain, loss = _wilder(change.clip(lower_bound=0)), _wilder((-change).clip(lower_bound=0))
    true_range = pl.max_horizontal(high - low, (high - before).abs(), (low - before).abs())
    rise, fall = high.diff(), -low.diff()
    plus = _wilder(pl.when((rise > fall) & (rise > 0)).then(rise).otherwise(0.0))
    minus = _wilder(pl.when((fall > rise) & (fall > 0)).then(fall).otherwise(0.0))
    strength = _wilder(100 * (plus - minus).abs() / (plus + minus), 14)
    macd = _ema(close, 12, 14) - _ema(close, 26)
    mean, spread, average = close.rolling_mean(20), close.rolling_std(20, ddof=0), volume.rolling_mean(20)
    return (
        frame.lazy()
        .group_by("symbol", maintain_order=True)
        .agg(
            close=close.last(),
            rsi=(100 * gain / (gain + loss)).last(),
            atr=_wilder(pl.when(row > 0).then(true_range)).last(),
            adx=strength.last(),
            ema_50=_ema(close, 50).last(),
            ema_200=_ema(close, 200).last(),
            macd_histogram=(macd - _ema(macd, 9, 25)).last(),
            band_width=(4 * spread / mean).last(),
            efficiency=((close - close.shift(10)).abs() / change.abs().rolling_sum(10)).last(),
            roc=(close / close.shift(3) - 1).last(),
            volume_ratio=(volume / average).last(),
            volume_z=((volume - average) / volume.rolling_std(20, ddof=0)).last(),
        )
    )
