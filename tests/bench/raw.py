"""From raw replies to ranked candidates, no network: 60 coins x 2 timeframes of klines as the exchange writes them.

The first system reads them by CCXT into pandas and computes three indicators on twelve threads; orjson and TA-Lib compute all eleven, as ours.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ccxt
import numpy as np
import orjson
import pandas as pd

from engine.candles import klines
from engine.core import features_batch, screen_fast
from engine.core.features_batch import features_from
from engine.core.features_live import stacked
from engine.core.market import Candles, Floats, Timeframe
from engine.core.screen_fast import rank
from tests.bench import first_system
from tests.bench.market import Market, require_agreement
from tests.bench.peers.ranking import Picks, ranked
from tests.bench.rounds import Ratio, alternate
from tests.bench.talib_peers import indicators

SYMBOLS = 60
ROUNDS = 7
LONG_AFTER_MS = 10**13

type Replies = list[tuple[str, bytes, bytes]]


def reply_of(candles: Candles) -> bytes:
    """As the exchange writes klines, what follows the closing time included, and one candle that is still open."""
    numbers: Any = stacked(candles)
    rows = [_row(int(open_ms), candles.timeframe, row) for open_ms, row in zip(list(candles.open_ms), numbers, strict=True)]
    still_open: list[Any] = [rows[-1][6] + 1, *rows[-1][1:6], LONG_AFTER_MS, *rows[-1][7:]]
    return orjson.dumps([*rows, still_open])


def _row(open_ms: int, timeframe: Timeframe, numbers: list[float]) -> list[Any]:
    opened, high, low, close, volume = numbers
    texts = [f"{opened:.4f}", f"{high:.4f}", f"{low:.4f}", f"{close:.4f}", f"{volume:.1f}"]
    tail = [f"{volume * close:.5f}", 4711, f"{volume / 2:.1f}", f"{volume * close / 2:.5f}", "0"]
    return [open_ms, *texts, open_ms + timeframe.ms - 1, *tail]


def ours(replies: Replies) -> Picks:
    """By the engine's own reading of klines."""
    quarter = [klines.candles_of(symbol, Timeframe.M15, klines.klines_of(reply), LONG_AFTER_MS) for symbol, reply, _ in replies]
    four_hour = [klines.candles_of(symbol, Timeframe.H4, klines.klines_of(reply), LONG_AFTER_MS) for symbol, _, reply in replies]
    features = features_from(quarter, four_hour)
    ranking = rank(features)
    return [(features.symbols[row], float(ranking.score[row])) for row in ranking.best]


def by_first_system(exchange: ccxt.binanceusdm, replies: Replies) -> Picks:
    """Each symbol in one of twelve threads, as the first system did after its requests."""

    def score(reply: tuple[str, bytes, bytes]) -> tuple[str, float]:
        symbol, quarter, four_hour = reply
        frames = [_frame(exchange, body) for body in (quarter, four_hour)]
        return symbol, first_system.score_of(*frames)

    with ThreadPoolExecutor(first_system.THREADS) as pool:
        scored = pool.map(score, replies)
    return sorted(((symbol, score) for symbol, score in scored if score > 0), key=lambda row: (-row[1], row[0]))


def _frame(exchange: ccxt.binanceusdm, body: bytes) -> pd.DataFrame:
    rows = exchange.parse_ohlcvs(exchange.parse_json(body.decode()), None, "15m", None, len(body))
    return pd.DataFrame(rows[:-1], columns=first_system.COLUMNS)


def by_orjson_and_talib(replies: Replies) -> Picks:
    """The fastest JSON parser there is for Python, and TA-Lib coin by coin."""
    found = []
    for _, quarter, four_hour in replies:
        high, low, close, volume = _columns(quarter)
        rsi, _, mean = indicators(high, low, close, volume)
        _, ema, _ = indicators(*_columns(four_hour))
        found.append((close[-1], volume[-1] / mean, rsi, ema))
    return ranked([symbol for symbol, _, _ in replies], *np.array(found).T)


def _columns(body: bytes) -> tuple[Floats, Floats, Floats, Floats]:
    rows = np.array([row[2:6] for row in orjson.loads(body)[:-1]], dtype=np.float64)
    high, low, close, volume = np.ascontiguousarray(rows.T)
    return high, low, close, volume


async def beside_both() -> dict[str, Ratio]:
    """Both peers must find what we find."""
    for kernels in (klines, features_batch, screen_fast):
        kernels.warm_up()
    market = Market(SYMBOLS, 0)
    pairs = zip(market.symbols, market.quarter, market.four_hour, strict=True)
    replies = [(symbol, reply_of(quarter), reply_of(four_hour)) for symbol, quarter, four_hour in pairs]
    exchange = ccxt.binanceusdm()
    found: dict[str, Picks] = {}

    async def mine() -> None:
        found["ours"] = ours(replies)

    async def first() -> None:
        found["theirs"] = by_first_system(exchange, replies)

    async def orjson_and_talib() -> None:
        found["theirs"] = by_orjson_and_talib(replies)

    rows = {}
    for name, peer in (("cold_decode_vs_first_system", first), ("cold_decode_vs_talib", orjson_and_talib)):
        rows[name] = await alternate(mine, peer, ROUNDS)
        require_agreement(found["ours"], found["theirs"])
    return rows
