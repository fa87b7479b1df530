"""A warm scan by the engine's own steps: figures read from Redis over loopback, checked, ranked and told, beside reading the candles once.

The peer is the floor of any method that reads the candles again: np.sum over them, and before each side more is read than the last cache holds.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploy.servers import EmbeddedRedis, free_port
from engine.analysis import Sources
from engine.analysis.figures import Pairs, known_figures, material_of, screened
from engine.core.features_bytes import told_bytes
from engine.core.market import Timeframe, at
from engine.core.screen_fast import rank_told, warm_up
from engine.core.screen_rules import V3_1
from engine.snapshots import RedisSnapshots, connect
from tests.bench.market import Market
from tests.bench.rounds import Ratio, alternate

SCAN_ROUNDS = 21
SYMBOLS = 600
READ_FLOOR = "screen_warm_vs_read_floor"
"""The row of SYMBOLS; others add what is different of them to its name."""

LINE_BYTES = 64
LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
NO_MORE_BYTES = 768 * 2**20
CANDIDATES = 10
NOBODY: Final[Any] = None
"""A warm scan asks no exchange."""


class Moment:
    """The clock of a replica just after the newest close."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Market time."""
        return self._now_ms

    def wall_ms(self) -> int:
        """The same: nothing here has a wall age."""
        return self._now_ms

    def now(self) -> datetime:
        """Market time."""
        return at(self._now_ms)

    def wall(self) -> datetime:
        """See wall_ms."""
        return at(self._now_ms)

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        """At the wall's pace."""
        return (until - since).total_seconds()


async def warm_scan_vs_reading_candles(symbols: int, *, in_words: bool = False) -> Ratio:
    """A replica reads the snapshot from Redis over loopback, checks it and ranks; the peer adds up the candles that a rescan must read.

    Args:
        symbols: Of the market.
        in_words: All that a scan does up to its shortlist: candidates with their figures, and every other symbol's reason in words.
    """
    live = Market(symbols, 0).seeded()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="nt-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedRedis(Path(folder) / "data", free_port(), durable=False)
        await asyncio.to_thread(server.start)
        client = connect(server.url)
        try:
            snapshots = RedisSnapshots(client)
            await snapshots.write_figures(told_bytes(live.told))
            moment = Moment(int(live.told.quarter.newest_ms.max()) + Timeframe.M15.ms)
            sources = Sources(market=NOBODY, snapshots=snapshots, clock=moment)
            scan = partial(_told_in_words, sources, live.told.symbols) if in_words else partial(_ranked, sources)
            return await _beside_sum(scan, symbols)
        finally:
            await client.aclose()
            await asyncio.to_thread(server.stop)


def evicting_bytes() -> int:
    """A quarter more than the last cache holds, as far as the machine tells."""
    kilobytes = int(LAST_CACHE.read_text().strip().rstrip("K")) if LAST_CACHE.exists() else 64 * 1024
    return min(kilobytes * 1024 * 5 // 4, NO_MORE_BYTES)


async def _ranked(sources: Sources) -> None:
    told = await sources.snapshots.figures()
    if told is None or not len(rank_told(told, told.fresh(sources.clock.now_ms())).best):
        raise SystemExit("the snapshot could not be read, or nobody is a candidate")


async def _told_in_words(sources: Sources, symbols: tuple[str, ...]) -> None:
    known = await known_figures(sources, V3_1)
    material = await material_of(symbols, known, Pairs(), V3_1)
    found = screened(material.read, CANDIDATES, V3_1) if material.read is not None else None
    if found is None or not found.candidates or len(found.candidates) + len(found.rejections) != len(symbols):
        raise SystemExit("the snapshot could not be read, or nobody is a candidate")


async def _beside_sum(scan: Callable[[], Awaitable[None]], symbols: int) -> Ratio:
    candles = np.random.default_rng(7).random((2, 5, symbols, 500))

    async def read() -> None:
        np.sum(candles)

    other = np.ones(evicting_bytes() // 8)[:: LINE_BYTES // 8]
    return await alternate(scan, read, SCAN_ROUNDS, other.sum)  # afterwards no cache holds what was read before


async def scans(sizes: tuple[int, ...]) -> dict[str, Ratio]:
    """A row for each number of symbols, and one of 600 with every reason in words."""
    ranked = {_row(symbols): await warm_scan_vs_reading_candles(symbols) for symbols in sizes}
    return {**ranked, f"{READ_FLOOR}_in_words": await warm_scan_vs_reading_candles(SYMBOLS, in_words=True)}


def _row(symbols: int) -> str:
    return READ_FLOOR if symbols == SYMBOLS else f"{READ_FLOOR}_{symbols}"
