"""The first system's way to screen: a pool of twelve threads, each symbol by CCXT into pandas, indicators by pandas-ta.

Source: original.md 1.2, "v3.1". The throttle is off, which favours this side.
"""

from concurrent.futures import ThreadPoolExecutor

import ccxt
import pandas as pd
import pandas_ta

THREADS = 12
CANDLES = 499
COLUMNS = ["time", "open", "high", "low", "close", "volume"]


def client(base: str) -> ccxt.binanceusdm:
    """CCXT's USDⓈ-M client, pointed at the sandbox."""
    paths = {"fapiPublic": "/fapi/v1", "fapiPublicV2": "/fapi/v2", "fapiPublicV3": "/fapi/v3", "fapiData": "/futures/data"}
    exchange = ccxt.binanceusdm(
        {
            "enableRateLimit": False,
            "options": {"fetchCurrencies": False},
            "urls": {"api": {name: base + path for name, path in paths.items()}},
        }
    )
    exchange.load_markets()
    return exchange


def screen(exchange: ccxt.binanceusdm, symbols: list[str]) -> list[tuple[str, float]]:
    """Candidates with their scores, best first."""
    with ThreadPoolExecutor(THREADS) as pool:
        scored = pool.map(lambda symbol: (symbol, _score(exchange, symbol)), symbols)
    return sorted(((symbol, score) for symbol, score in scored if score > 0), key=lambda row: (-row[1], row[0]))


def _frame(exchange: ccxt.binanceusdm, symbol: str, timeframe: str) -> pd.DataFrame:
    rows = exchange.fetch_ohlcv(exchange.market_id(symbol) if symbol in exchange.markets else symbol, timeframe, limit=CANDLES)
    return pd.DataFrame(rows[:-1], columns=COLUMNS)  # the last one is still open


def _score(exchange: ccxt.binanceusdm, symbol: str) -> float:
    return score_of(_frame(exchange, symbol, "15m"), _frame(exchange, symbol, "4h"))


def score_of(quarter: pd.DataFrame, four_hour: pd.DataFrame) -> float:
    """A symbol's score from its closed candles; 0 where it is dropped."""
    if len(quarter) < 50 or len(four_hour) < 200:
        return 0.0
    volume_ratio = quarter["volume"].iloc[-1] / pandas_ta.sma(quarter["volume"], length=20, talib=False).iloc[-1]
    rsi = pandas_ta.rsi(quarter["close"], length=14, talib=False).iloc[-1]
    ema = pandas_ta.ema(four_hour["close"], length=200, talib=False).iloc[-1]
    if volume_ratio < 1.2 or (40 <= rsi <= 60 and volume_ratio < 3.0):
        return 0.0
    bullish = quarter["close"].iloc[-1] > ema
    if bullish and rsi < 45:
        return float(50 - rsi + 5 * volume_ratio)
    if not bullish and rsi > 55:
        return float(rsi - 50 + 5 * volume_ratio)
    return 0.0
