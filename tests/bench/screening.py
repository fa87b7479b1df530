"""Screening 60 symbols x 2 timeframes over loopback from nothing: ours beside the first system's way."""

import asyncio
import subprocess
import sys

import ccxt

from deploy.servers import free_port, tethered
from engine.candles import BinanceData, Door, WeightBudget, open_session
from engine.clock import MarketClock, market_clock
from engine.core.features import features_of, panel_of
from engine.core.market import Timeframe
from engine.core.screen import screen
from tests.bench import first_system
from tests.bench.rounds import Ratio, alternate

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


async def ours(url: str, clock: MarketClock, symbols: list[str]) -> list[tuple[str, float]]:
    """Candidates with their scores, best first, nothing cached."""
    async with open_session() as session:
        data = BinanceData(Door(session, url, WeightBudget(PLENTY, clock.now_ms)), clock)
        asked = [data.candles(symbol, timeframe) for timeframe in (Timeframe.M15, Timeframe.H4) for symbol in symbols]
        candles = await asyncio.gather(*asked)
    kept = screen(features_of(panel_of(candles[: len(symbols)]), panel_of(candles[len(symbols) :])), len(symbols))
    return [(candidate.symbol, candidate.score) for candidate in kept.candidates]


def _symbols(exchange: ccxt.binanceusdm) -> list[str]:
    ids = sorted(market["id"] for market in exchange.markets.values() if market["swap"] and market["active"])
    return ids[:SYMBOLS]


def _require_agreement(mine: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> None:
    if [symbol for symbol, _ in mine] != [symbol for symbol, _ in theirs]:
        raise SystemExit(f"the two ways found different candidates: {mine} and {theirs}")


async def cold_loopback_vs_first_system() -> Ratio:
    """From 120 requests to ranked candidates; both sides must find the same ones."""
    async with SandboxProcess() as sandbox:
        clock = await market_clock(sandbox.url)
        exchange = await asyncio.to_thread(first_system.client, sandbox.url)
        symbols = _symbols(exchange)
        found: dict[str, list[tuple[str, float]]] = {}

        async def mine() -> None:
            found["ours"] = await ours(sandbox.url, clock, symbols)

        async def theirs() -> None:
            found["theirs"] = await asyncio.to_thread(first_system.screen, exchange, symbols)

        ratio = await alternate(mine, theirs, ROUNDS)
        _require_agreement(found["ours"], found["theirs"])
        return ratio


async def beside_first_system() -> dict[str, Ratio]:
    """The row."""
    return {"cold_loopback_vs_first_system": await cold_loopback_vs_first_system()}
