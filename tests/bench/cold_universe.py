"""Figures of the whole universe from nothing: an empty Redis, one feed, and the exchange's real weight limit, which bounds any way to read it.

600 symbols x 2 timeframes weigh 2,400, and something is left for the second minute whatever one does: nobody can end before that begins. The feed
starts right after a minute began, and keeps two fifths of the limit for what protects and watches.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from engine.clock import market_clock
from engine.snapshots import RedisSnapshots, connect
from tests.bench.rounds import Ratio
from tests.soak.market import walked_market
from tests.soak.stack import Stack

SYMBOLS: Final = 600
MINUTE: Final = 60.0
PATIENCE: Final = 240.0


async def beside_weight_bound(symbols: int = SYMBOLS) -> dict[str, Ratio]:
    """One run: the bound is the beginning of the next minute of the exchange's limit; the ratio is bound over ours, 1 at best."""
    with tempfile.TemporaryDirectory(prefix="nt-bench-") as name:
        folder = Path(name)
        sandbox = await asyncio.to_thread(walked_market, folder, symbols)
        with Stack(folder, [*sandbox, "--speed", "1"]) as stack:
            await asyncio.to_thread(stack.wait_exchange)
            clock = await market_clock(stack.url)
            await asyncio.sleep(MINUTE - clock.now_ms() / 1000 % MINUTE)
            begun = time.perf_counter()
            feed = stack.start("feed", "-m", "engine.feed")
            redis = connect(stack.redis.url)
            try:
                while not await _whole(RedisSnapshots(redis), symbols):
                    if time.perf_counter() - begun > PATIENCE or not feed.lives():
                        raise RuntimeError(f"the universe is not known after {PATIENCE:g} s: {feed.output[-2000:]}")
                    await asyncio.sleep(0.05)
                took = time.perf_counter() - begun
            finally:
                await redis.aclose()
    bound = Ratio(ratio=round(MINUTE / took, 2), ours_ms=round(took * 1000), peer_ms=MINUTE * 1000, n=1)
    return {"cold_universe_vs_weight_bound": bound}


async def _whole(snapshots: RedisSnapshots, symbols: int) -> bool:
    state = await snapshots.figures_state()
    return state is not None and state.seeded == state.wanted == symbols and not state.stale
