"""Screening 60 symbols x 2 timeframes over loopback from nothing: ours beside the first system's way."""

import asyncio
import subprocess
import sys

import ccxt

from deploy.servers import free_port, tethered
from engine import candles as reading
from engine.candles import BinanceData, Door, WeightBudget, open_session
from engine.clock import MarketClock, market_clock
from engine.core import features_batch, screen_fast
from engine.core.features_batch import features_from
from engine.core.market import Timeframe
from tests.bench import first_system
from tests.bench.market import require_agreement
from tests.bench.peers.ranking import Picks
from tests.bench.rounds import Ratio, again, alternate, once_with

SYMBOLS = 60
ROUNDS = 5
PLENTY = 1_000_000
"""Request weight: the limit is not what this measures."""


class SandboxProcess:
    """The sandbox exchange in a process of its own, its clock at the wall's pace so that no candle closes in between."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "deploy.sandbox", "--port", str(port), "--seed", "7", "--speed", "1"]
        self._process = subprocess.Popen(tethered([*command, "--weight-limit", str(PLENTY)]), stdout=subprocess.DEVNULL)

    async def __aenter__(self) -> "SandboxProcess":
        await market_clock(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 10)


async def ours(door: Door, clock: MarketClock, symbols: list[str]) -> Picks:
    """Candidates with their scores, best first, nothing kept but the connections, which the peer keeps too."""
    data = BinanceData(door, clock)
    asked = [data.candles(symbol, timeframe) for timeframe in (Timeframe.M15, Timeframe.H4) for symbol in symbols]
    candles = await asyncio.gather(*asked)
    kept = screen_fast.screen_fast(features_from(candles[: len(symbols)], candles[len(symbols) :]), len(symbols))
    return [(candidate.symbol, candidate.score) for candidate in kept.candidates]


def _symbols(exchange: ccxt.binanceusdm) -> list[str]:
    ids = sorted(market["id"] for market in exchange.markets.values() if market["swap"] and market["active"])
    return ids[:SYMBOLS]


async def beside_first_system() -> dict[str, Ratio]:
    """From 120 requests to ranked candidates, CCXT's own throttle off and, once, on; both sides must find the same ones."""
    for kernels in (reading, features_batch, screen_fast):
        kernels.warm_up()
    async with SandboxProcess() as sandbox, open_session() as session:
        clock = await market_clock(sandbox.url)
        door = Door(session, sandbox.url, WeightBudget(PLENTY, clock.now_ms))
        exchange = await asyncio.to_thread(first_system.client, sandbox.url)
        symbols = _symbols(exchange)
        found: dict[str, Picks] = {}

        async def mine() -> None:
            found["ours"] = await ours(door, clock, symbols)

        async def theirs() -> None:
            found["theirs"] = await asyncio.to_thread(first_system.screen, exchange, symbols)

        await theirs()  # the sandbox writes its market's history at the first question
        free = await alternate(again(mine), again(theirs), ROUNDS)
        require_agreement(found["ours"], found["theirs"])
        exchange.enableRateLimit = True
        (throttled,) = await once_with([mine], theirs)
        require_agreement(found["ours"], found["theirs"])
        return {"cold_loopback_vs_first_system": free, "cold_loopback_throttled_vs_first_system": throttled}
