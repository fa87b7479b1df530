"""A freqtrade strategy's own analyze over every pair, 4h as informative timeframe, indicators by TA-Lib. Run in its own environment."""

import sys
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.enums import CandleType, RunMode  # type: ignore[import-not-found, unused-ignore]
from freqtrade.strategy import IStrategy, informative  # type: ignore[import-not-found, unused-ignore]
from talib import abstract

from tests.bench.peers.ranking import Picks, ranked
from tests.bench.peers.serving import WIDTH, Rows, read_market, serve

COLUMNS = ["date", "open", "high", "low", "close", "volume"]

ta: Any = abstract


class Screening(IStrategy):  # type: ignore[misc]  # freqtrade is in another environment
    """The indicators of both timeframes, and v3.1's words for a side."""

    INTERFACE_VERSION = 3
    timeframe = "15m"
    can_short = True
    process_only_new_candles = False
    startup_candle_count = WIDTH
    minimal_roi = {"0": 100.0}
    stoploss = -0.99

    @informative("4h")  # type: ignore[untyped-decorator]
    def populate_indicators_4h(self, frame: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        return _indicators(frame)

    def populate_indicators(self, frame: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        return _indicators(frame)

    def populate_entry_trend(self, frame: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        bull = frame["close"] > frame["ema_200_4h"]
        frame.loc[bull & (frame["rsi"] < 45) & (frame["volume_ratio"] >= 1.2), "enter_long"] = 1
        frame.loc[~bull & (frame["rsi"] > 55) & (frame["volume_ratio"] >= 1.2), "enter_short"] = 1
        return frame

    def populate_exit_trend(self, frame: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        return frame


def _indicators(frame: pd.DataFrame) -> pd.DataFrame:
    frame["rsi"] = ta.RSI(frame, timeperiod=14)
    frame["atr"] = ta.ATR(frame, timeperiod=14)
    frame["adx"] = ta.ADX(frame, timeperiod=14)
    frame["ema_50"] = ta.EMA(frame, timeperiod=50)
    frame["ema_200"] = ta.EMA(frame, timeperiod=200)
    frame["macd_histogram"] = ta.MACD(frame)["macdhist"]
    bands = ta.BBANDS(frame, timeperiod=20)
    frame["band_width"] = (bands["upperband"] - bands["lowerband"]) / bands["middleband"]
    path = frame["close"].diff().abs().rolling(10).sum()
    frame["efficiency"] = frame["close"].diff(10).abs() / path
    frame["roc"] = ta.ROC(frame, timeperiod=3)
    mean, spread = ta.SMA(frame, timeperiod=20, price="volume"), frame["volume"].rolling(20).std(ddof=0)
    frame["volume_ratio"] = frame["volume"] / mean
    frame["volume_z"] = (frame["volume"] - mean) / spread
    return frame


class Candles:
    """What a strategy asks its data provider for."""

    runmode = RunMode.DRY_RUN

    def __init__(self, quarter: dict[str, pd.DataFrame], four_hour: dict[str, pd.DataFrame]) -> None:
        self.quarter, self.four_hour = quarter, four_hour
        self.analyzed: dict[str, pd.DataFrame] = {}

    def ohlcv(self, pair: str, timeframe: str | None = None, copy: bool = True, candle_type: str = "") -> pd.DataFrame:
        """One pair's candles, copied as freqtrade copies them."""
        frame = (self.quarter if timeframe == "15m" else self.four_hour)[pair]
        return frame.copy() if copy else frame

    def get_pair_dataframe(self, pair: str, timeframe: str | None = None, candle_type: str = "") -> pd.DataFrame:
        """The informative timeframe."""
        return self.ohlcv(pair, timeframe)

    def market(self, pair: str) -> dict[str, str]:
        """What an informative timeframe is named by."""
        return {"base": pair.split("/")[0], "quote": "USDT"}

    def _set_cached_df(self, pair: str, timeframe: str, dataframe: pd.DataFrame, candle_type: CandleType) -> None:
        self.analyzed[pair] = dataframe

    def _emit_df(self, key: Any, dataframe: pd.DataFrame, new_candle: bool) -> None:
        """Nobody listens."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a strategy asked its data provider for {name}")


def _frame(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["date"] = pd.to_datetime(frame["date"], unit="ms", utc=True)
    return frame


def main() -> None:
    """Builds the strategy once, then analyzes every pair for each close."""
    symbols, quarter, four_hour = read_market(sys.argv[1])
    pairs = [f"{symbol.removesuffix('USDT')}/USDT:USDT" for symbol in symbols]
    config: dict[str, Any] = {
        "stake_currency": "USDT",
        "candle_type_def": CandleType.FUTURES,
        "trading_mode": "futures",
        "timeframe": "15m",
        "runmode": RunMode.DRY_RUN,
        "dry_run": True,
        "exchange": {"pair_whitelist": pairs},
    }
    strategy = Screening(config)
    slow = {pair: _frame(rows) for pair, rows in zip(pairs, four_hour, strict=True)}

    def close(place: int) -> Picks:
        windows = quarter[:, place + 1 : place + 1 + WIDTH]
        return _analyze(strategy, Candles({pair: _frame(rows) for pair, rows in zip(pairs, windows, strict=True)}, slow), symbols)

    serve(close)


def _analyze(strategy: Screening, candles: Candles, symbols: list[str]) -> Picks:
    strategy.dp = candles
    strategy.analyze(list(candles.quarter))
    names = ("close", "volume_ratio", "rsi", "ema_200_4h")
    lasts = np.array([[frame[name].iloc[-1] for name in names] for frame in candles.analyzed.values()])
    return ranked(symbols, *lasts.T)


if __name__ == "__main__":
    main()
