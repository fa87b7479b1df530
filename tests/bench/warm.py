"""A warm scan: the snapshot read from Redis over loopback, checked and ranked, beside the time that reading the candles once takes.

The peer is the floor of any method that reads the candles again: np.sum over them, and before each side more is read than the last cache holds.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import redis

from deploy.servers import EmbeddedRedis, free_port
from engine.core.features_bytes import told_bytes, told_of
from engine.core.screen_fast import rank_told
from tests.bench.market import Market
from tests.bench.rounds import Ratio, alternate

SCAN_ROUNDS = 21
LINE_BYTES = 64
LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
NO_MORE_BYTES = 768 * 2**20


async def warm_scan_vs_reading_candles(symbols: int) -> Ratio:
    """A replica reads the snapshot from Redis over loopback, checks it and ranks; the peer adds up the candles that a rescan must read."""
    live = Market(symbols, 0).seeded()
    with tempfile.TemporaryDirectory(prefix="nt-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedRedis(Path(folder) / "data", free_port(), durable=False)
        await asyncio.to_thread(server.start)
        try:
            with redis.Redis.from_url(server.url) as client:
                client.set("told", told_bytes(live.told))
                return await _scan_beside_sum(client, symbols)
        finally:
            await asyncio.to_thread(server.stop)


def evicting_bytes() -> int:
    """A quarter more than the last cache holds, as far as the machine tells."""
    kilobytes = int(LAST_CACHE.read_text().strip().rstrip("K")) if LAST_CACHE.exists() else 64 * 1024
    return min(kilobytes * 1024 * 5 // 4, NO_MORE_BYTES)


async def _scan_beside_sum(client: Any, symbols: int) -> Ratio:
    candles = np.random.default_rng(7).random((2, 5, symbols, 500))
    everyone = np.ones(symbols, np.bool_)

    async def scan() -> None:
        told = told_of(client.get("told"))
        if told is None or not len(rank_told(told, everyone).best):
            raise SystemExit("the snapshot could not be read, or nobody is a candidate")

    async def read() -> None:
        np.sum(candles)

    other = np.ones(evicting_bytes() // 8)[:: LINE_BYTES // 8]
    return await alternate(scan, read, SCAN_ROUNDS, other.sum)  # afterwards no cache holds what was read before


async def scans(sizes: tuple[int, ...]) -> dict[str, Ratio]:
    """A row for each number of symbols."""
    return {f"warm_scan_vs_reading_candles_{symbols}": await warm_scan_vs_reading_candles(symbols) for symbols in sizes}
