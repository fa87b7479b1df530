"""From a candle's close on the exchange to the order on the wire: `python -m tests.bench.close_to_order`, real processes over loopback.

The sandbox, feed, engine, worker and dashboard of `neurotrade demo --real`; a probe listens beside them and reads their books and logs
afterwards. Every moment is wall time of one machine's clock: the close by the sandbox's clock, the order by the sandbox's journal, which keeps it
before it is carried out.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import numpy as np
from redis.asyncio import Redis

from deploy.real import JOURNAL
from engine.ports import FiguresState
from engine.snapshots import FIGURES_STATE
from shared.closes import CHANNEL, CloseTold
from tests.bench.rounds import Ratio
from tests.demo import RunningDemo

SECONDS: Final = 75.0
GROUP_SECONDS: Final = 40.0
SPEED: Final = 450.0
LIVE: Final = "live:all"

ENTRIES: Final = """
SELECT s.candle_close, o.client_order_id, o.sent_at FROM orders o JOIN signals s ON s.id = o.signal_id
WHERE o.purpose = 'ENTRY' AND o.sent_at IS NOT NULL
"""

STAGES: Final = {
    "frames": "close -> its last closing frame at the feed",
    "figures": "-> figures whole in Redis, the worker told",
    "asked": "-> the scan begun: queue and lease",
    "analyze": "-> the engine's reply",
    "stored": "-> its signals stored and told",
    "claimed": "-> the first user's claim committed and sent to the engine: balance, risk, lock",
    "order": "-> POST /fapi/v1/order at the exchange: margin type and leverage before it",
}
"""What lies between two moments of a close, in order."""


class Clock(msgspec.Struct, frozen=True):
    """The sandbox's: see GET /sandbox/clock."""

    base_market_ms: int
    base_wall_ms: int
    speed: float

    def wall_ms(self, market_ms: float) -> float:
        """When a market time was on the wall."""
        return self.base_wall_ms + (market_ms - self.base_market_ms) / self.speed


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed said of a close: wall milliseconds of the last frame it had heard, and of its word's arrival at the probe."""

    frame_ms: int
    at_ms: float


class ScanLine(msgspec.Struct, frozen=True, kw_only=True):
    """A scan of a close: when it began, when the engine had answered, and the engine's own stages, milliseconds."""

    began_ms: float
    replied_ms: float
    engine_ms: dict[str, float]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen, by a close's market milliseconds: the feed's words, scans, the first signal stored, the first order as it was sent to
    the engine and as it was on the wire.
    """

    clock: Clock
    told: dict[int, Told]
    scans: dict[int, ScanLine]
    stored_ms: dict[int, float]
    sent_ms: dict[int, float]
    ordered_ms: dict[int, float]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds, and the part of the whole that it makes up over all closes."""

    p50_ms: float
    p99_ms: float
    share: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """`closes` scanned, `with_order` of them measured to the end; `by_clock` of these the clock called for, before the feed had told."""

    closes: int
    with_order: int
    by_clock: int
    whole: Stage
    stages: dict[str, Stage]
    engine_ms: dict[str, float]


class Probe:
    """Listens on Redis beside the worker."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.told: dict[int, Told] = {}
        self.signals: dict[str, float] = {}
        """When each signal was told to be stored, by its id."""

    async def listen(self) -> None:
        """Until it is cancelled."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL, LIVE)
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    await self._take(message["channel"].decode(), message["data"], time.time() * 1000)

    async def _take(self, channel: str, data: bytes, at_ms: float) -> None:
        if channel == LIVE:
            word = json.loads(data)
            if word["event"] == "signals" and word["data"]["outcome"] == "new":
                self.signals.setdefault(word["data"]["id"], at_ms)
            return
        close_ms = _ms(msgspec.json.decode(data, type=CloseTold).candle_close)
        state = msgspec.msgpack.decode(await self._redis.get(FIGURES_STATE) or b"", type=FiguresState)
        if state.candles_ms is not None:
            self.told.setdefault(close_ms, Told(frame_ms=state.candles_ms, at_ms=at_ms))


def passages(facts: Facts) -> dict[int, list[float]]:
    """By close, the moments at which its stages end, the close itself first; only closes that led to an order.

    Where the clock called for a scan before the feed had told, the scan waits inside /analyze: what it began with counts from the feed's word on.
    """
    found: dict[int, list[float]] = {}
    for close, ordered_ms in facts.ordered_ms.items():
        if close in facts.told and close in facts.scans and close in facts.stored_ms:
            told, scan = facts.told[close], facts.scans[close]
            moments = [
                facts.clock.wall_ms(close),
                told.frame_ms,
                told.at_ms,
                scan.began_ms,
                scan.replied_ms,
                facts.stored_ms[close],
                facts.sent_ms[close],
                ordered_ms,
            ]
            found[close] = np.maximum.accumulate(moments).tolist()
    return found


def measured(facts: Facts) -> Measured:
    """Percentiles of the whole and of each stage.

    Raises:
        SystemExit: No close led to an order.
    """
    found = passages(facts)
    if not found:
        raise SystemExit("no close led to an order that could be followed")
    steps = np.diff(np.array(list(found.values())), axis=1)
    whole = steps.sum(axis=1)
    replies = [facts.scans[close].engine_ms for close in found]
    return Measured(
        closes=len(facts.scans),
        with_order=len(found),
        by_clock=sum(facts.scans[close].began_ms < facts.told[close].at_ms for close in found),
        whole=_stage(whole, whole),
        stages={name: _stage(steps[:, place], whole) for place, name in enumerate(STAGES)},
        engine_ms={name: round(float(np.median([reply.get(name, 0.0) for reply in replies])), 2) for name in replies[0]},
    )


def _stage(took: Any, whole: Any) -> Stage:
    p50, p99 = np.percentile(took, [50, 99]).round(1).tolist()
    return Stage(p50_ms=p50, p99_ms=p99, share=round(float(took.sum() / whole.sum()), 3))


def read_books(demo: RunningDemo, clock: Clock, probe: Probe) -> Facts:
    """What database, log and journal of a running demo say of the closes that the probe heard."""
    done = {
        line["trace_id"]: _ms(datetime.fromisoformat(line["at"])) - line["ms"]
        for line in _lines(demo.folder / "logs" / "worker.jsonl")
        if line.get("event") == "scan done"
    }
    scans = {}
    for close, trace_id, wall_ms, engine_ms in demo.ask("SELECT candle_close, trace_id, wall_ms, timings_ms FROM scans"):
        if trace_id in done and _ms(close) in probe.told:
            scans[_ms(close)] = ScanLine(began_ms=done[trace_id], replied_ms=done[trace_id] + float(wall_ms), engine_ms=engine_ms)
    stored: dict[int, float] = {}
    for close, signal_id in demo.ask("SELECT candle_close, id::text FROM signals"):
        if signal_id in probe.signals:
            stored[_ms(close)] = min(probe.signals[signal_id], stored.get(_ms(close), float("inf")))
    posts = _posts(demo.folder / JOURNAL, clock)
    sent: dict[int, float] = {}
    ordered: dict[int, float] = {}
    for close, order_id, sent_at in demo.ask(ENTRIES):
        if order_id in posts and posts[order_id] < ordered.get(_ms(close), float("inf")):
            ordered[_ms(close)] = posts[order_id]
            sent[_ms(close)] = clock.wall_ms(sent_at.timestamp() * 1000)
    return Facts(clock=clock, told=probe.told, scans=scans, stored_ms=stored, sent_ms=sent, ordered_ms=ordered)


def _posts(journal: Path, clock: Clock) -> dict[str, float]:
    """When each order's POST was taken by the exchange, wall milliseconds, by its client order id."""
    calls = ((deed["at"], deed["given"]) for deed in _lines(journal) if deed["kind"] == "call")
    return {
        call["parameters"].get("newClientOrderId", ""): clock.wall_ms(at)
        for at, call in calls
        if (call["method"], call["path"]) == ("POST", "/fapi/v1/order")
    }


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text().splitlines() if line.startswith("{") and line.endswith("}"))


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)


async def measure(seconds: float = SECONDS, arguments: Sequence[str] = ("--speed", f"{SPEED:g}")) -> Measured:
    """Runs the whole stack for so long after its first scan.

    Args:
        seconds: Wall time.
        arguments: Of `neurotrade demo --real`: the market and its speed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="nt-bench-", ignore_cleanup_errors=True) as folder,
        RunningDemo(Path(folder) / "demo", "--real", *arguments) as demo,
    ):
        await asyncio.to_thread(demo.wait_trading, 120)
        clock = await _clock_of(demo)
        async with Redis.from_url(demo.urls["REDIS_URL"]) as redis:
            probe = Probe(redis)
            listening = asyncio.create_task(probe.listen())
            await asyncio.wait({listening}, timeout=seconds)
            if listening.done():
                listening.result()
            facts = await asyncio.to_thread(read_books, demo, clock, probe)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return measured(facts)


async def _clock_of(demo: RunningDemo) -> Clock:
    command = demo.children()["sandbox"].cmdline()
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.get(f"http://127.0.0.1:{command[command.index('--port') + 1]}/sandbox/clock")
        return msgspec.json.decode(reply.content, type=Clock)


def table(found: Measured) -> str:
    """For people."""
    lines = [
        f"close to order: {found.closes} closes scanned, {found.with_order} led to an order, {found.by_clock} of them called for by the clock",
        f"{'stage':10} {'p50 ms':>8} {'p99 ms':>8} {'share':>6}",
        *(
            f"{name:10} {stage.p50_ms:8.1f} {stage.p99_ms:8.1f} {stage.share:6.0%}  {STAGES[name]}"
            for name, stage in found.stages.items()
        ),
        f"{'whole':10} {found.whole.p50_ms:8.1f} {found.whole.p99_ms:8.1f}",
        "inside /analyze, medians in ms: " + ", ".join(f"{name} {took:g}" for name, took in found.engine_ms.items()),
    ]
    return "\n".join(lines)


async def row() -> dict[str, Ratio]:
    """As a group of `make bench`, and shorter: prints its own table, since nobody is beside it."""
    print(table(await measure(GROUP_SECONDS)))
    return {}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--speed", type=float, default=SPEED, help="market seconds a second; 450 closes a candle every two")
    parser.add_argument("--start", help="where market time begins, ISO 8601: at speed 1 a minute before a close")
    options = parser.parse_args()
    arguments = ["--speed", f"{options.speed:g}", *(["--start", options.start] if options.start else [])]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}"
    )
    found = asyncio.run(measure(options.seconds, arguments))
    print(table(found))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


if __name__ == "__main__":
    main()
