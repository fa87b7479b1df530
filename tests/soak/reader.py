"""A process that scans all along as a replica of the engine does, and judges of every scan by how old candles it chose.

One JSON line a scan goes to the standard output. Stale is a decision on figures that lack a candle which had closed when the scan began;
one that a close overtook while the scan ran is counted beside.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from engine import candles, log
from engine.analysis import CANDLE_SETTLES_MS, Governor, RulesAnalyst, ScanPlan, Sources, scan
from engine.analysis.figures import Known, Material, Pairs
from engine.budget import SharedBudget
from engine.candles import BinanceData, Door, open_session
from engine.clock import market_clock
from engine.core import features_batch, screen_fast
from engine.core.market import Timeframe
from engine.core.screen import ScreenBounds
from engine.errors import EngineError
from engine.settings import read_settings
from engine.snapshots import RedisSnapshots, connect
from shared.analysis import AnalyzeReply, AnalyzeRequest

PAUSE_SECONDS: Final = 0.4
AT_ONCE: Final = 20

type Ends = Mapping[str, Mapping[Timeframe, int]]
"""When each symbol's newest candles closed, market milliseconds."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One scan."""

    at_ms: int
    universe: int = 0
    screened: int = 0
    from_figures: int = 0
    """Of those that were screened, by figures and not by candles read."""
    candidates: int = 0
    signals: int = 0
    stale: list[str] = []
    overtaken: int = 0
    fallbacks: list[str] = []
    total_ms: float = 0.0
    error: str = ""


class Witness:
    """Sees what a scan is decided by, on its way from the sources to the screen."""

    def __init__(self) -> None:
        self.ends: Ends = {}
        self.from_figures = 0
        self._module = sys.modules["engine.analysis.scan"]
        self._material_of = vars(self._module)["material_of"]
        setattr(self._module, "material_of", self._seen)  # noqa: B010 - a module's function is replaced

    async def _seen(self, chosen: list[str], known: Known, pairs: Pairs, *rest: Any) -> Material:
        self.ends, self.from_figures = ends_of(chosen, known, pairs), sum(symbol in known.rows for symbol in chosen)
        material: Material = await self._material_of(chosen, known, pairs, *rest)
        return material


def ends_of(chosen: list[str], known: Known, pairs: Pairs) -> Ends:
    """When the newest candles of each chosen symbol closed."""
    told = known.told
    found: dict[str, dict[Timeframe, int]] = {}
    if told is not None:
        for symbol in chosen:
            if symbol in known.rows:
                row = known.rows[symbol]
                found[symbol] = {
                    figures.timeframe: int(figures.newest_ms[row]) + figures.timeframe.ms
                    for figures in (told.quarter, told.four_hour)
                }
    for one in (*pairs.quarter, *pairs.four_hour):
        found.setdefault(one.symbol, {})[one.timeframe] = one.closed_ms
    return found


def judged(reply: AnalyzeReply, ends: Ends, from_figures: int, begun_ms: int, ended_ms: int) -> Judged:
    """What a reply is worth.

    Args:
        reply: To judge.
        ends: What its candidates were decided by.
        from_figures: How many symbols were screened by figures.
        begun_ms: Market time when the scan was asked for.
        ended_ms: And when it had answered.
    """
    lacking = {moment: _lacking(reply, ends, moment) for moment in (begun_ms, ended_ms)}
    return Judged(
        at_ms=begun_ms,
        universe=reply.universe,
        screened=reply.screened,
        from_figures=from_figures,
        candidates=len(reply.candidates),
        signals=len(reply.signals),
        stale=lacking[begun_ms],
        overtaken=len(set(lacking[ended_ms]) - set(lacking[begun_ms])),
        fallbacks=reply.fallbacks,
        total_ms=reply.timings_ms["total"],
    )


def _lacking(reply: AnalyzeReply, ends: Ends, moment: int) -> list[str]:
    """Candidates and signals that do not hold each timeframe's last candle closed by a moment."""
    chosen = {candidate.symbol for candidate in reply.candidates} | {signal.symbol for signal in reply.signals}
    late = {
        signal.symbol for signal in reply.signals if signal.candle_close.timestamp() * 1000 < moment - moment % Timeframe.M15.ms
    }
    for symbol in chosen:
        known = ends.get(symbol, {})
        if any(known.get(timeframe, 0) < moment - moment % timeframe.ms for timeframe in (Timeframe.M15, Timeframe.H4)):
            late.add(symbol)
    return sorted(late)


async def read_all(data: BinanceData) -> None:
    """Reads everyone's candles once, as a replica does that starts without a feed: what it keeps of each symbol it keeps from then on."""
    symbols = [symbol for symbol, rules in (await data.instruments()).items() if rules.tradable]
    for some in itertools.batched(symbols, AT_ONCE):
        with suppress(EngineError):
            await asyncio.gather(*(data.candles(symbol, frame) for symbol in some for frame in (Timeframe.M15, Timeframe.H4)))


async def read(pause_seconds: float = PAUSE_SECONDS) -> None:
    """Scans until SIGTERM."""
    settings = read_settings(os.environ)
    log.configure("text", "reader")
    for kernels in (features_batch, screen_fast, candles):
        kernels.warm_up()
    clock, redis, witness = await market_clock(settings.market_clock_url), connect(settings.redis_url), Witness()
    budget = SharedBudget(redis, settings.request_weight_limit, clock.now_ms)
    bounds = ScreenBounds(
        min_quote_volume=settings.min_volume_usdt, min_change_percent=settings.min_volatility_24h, top_n=settings.top_coins_limit
    )
    plan = ScanPlan(bounds=bounds, min_confidence=settings.min_confidence)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with open_session() as session:
        data = BinanceData(Door(session, settings.binance_rest_url, budget), clock)
        sources = Sources(
            market=data,
            snapshots=RedisSnapshots(redis),
            clock=clock,
            governor=Governor(left=budget.left, cost=data.candle_cost),
            settles_ms=CANDLE_SETTLES_MS,
        )
        await read_all(data)
        while not ended.is_set():
            begun_ms = clock.now_ms()
            try:
                reply = await scan(AnalyzeRequest(), plan, sources, RulesAnalyst(), None)
                line = judged(reply, witness.ends, witness.from_figures, begun_ms, clock.now_ms())
            except EngineError as error:
                line = Judged(at_ms=begun_ms, error=f"{type(error).__name__}: {error}")
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
            sys.stdout.flush()
            await asyncio.sleep(pause_seconds)
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(read())
