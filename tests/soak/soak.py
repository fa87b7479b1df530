"""One soak from its start to its figures: what runs, what is done to it, what is measured, and what must hold at the end."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from engine.clock import MarketClock, market_clock
from engine.snapshots import RedisSnapshots, connect
from tests.polling import eventually
from tests.soak.drift import Drift, drift_of
from tests.soak.feed import LIFETIME
from tests.soak.reader import Judged
from tests.soak.stack import Child, Stack

DRIFT_LIMIT: Final = 1e-9
GROWTH_RATIO, GROWTH_BYTES = 0.02, 4 * 2**20
"""After the warm-up a process may grow by so much of its memory, or by so many bytes where that is more: what allocators sway by."""

WARM_UP: Final = 0.4
"""The share of a soak in which memory may still grow: caches fill, arenas are made."""

DAY_SECONDS: Final = 24 * 3600.0
SAMPLE: Final = 20
"""Symbols of one comparison; the next takes those that follow, the last takes all."""

FAULTS: Final[Sequence[Sequence[dict[str, Any]]]] = (
    [{"kind": "ws_drop", "probability": 0.02, "times": 4, "seed": 3}],
    [{"kind": "ws_missing_close", "probability": 0.25, "seed": 5}],
    [{"kind": "ws_silent", "probability": 0.01, "times": 3, "seconds": 15, "seed": 7}],
)
"""In turn: connections lost, closing frames that never come, connections that say nothing."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long, how fast, and how often things are done; wall seconds."""

    seconds: float
    speed: float
    faults_every: float
    faults_last: float
    lifetime: float
    drift_every: float
    rss_every: float = 1.0


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """A process's memory after the warm-up, bytes; `growth` by the line through its samples."""

    process: str
    median: float
    growth: float
    hourly: float
    samples: int

    @property
    def flat(self) -> bool:
        """Whether it stayed within the bound."""
        return self.growth <= max(GROWTH_BYTES, GROWTH_RATIO * self.median)


class Soaked(msgspec.Struct, frozen=True, kw_only=True):
    """What a soak came to."""

    seconds: float
    market_hours: float
    universe: int
    memory: list[Memory]
    drift: list[Drift]
    fired: dict[str, int]
    reconnects: int
    rotations: int
    scans: int
    failed_scans: int
    from_figures: float
    candidates: int
    signals: int
    stale: list[str]
    overtaken: int
    scan_p50_ms: float
    fallbacks: dict[str, int]
    wrong: list[str]


async def soak(stack: Stack, plan: Plan, tell: Callable[[str], None]) -> Soaked:
    """Soaks; raises AssertionError where nothing begins.

    Args:
        stack: Up; nothing but the sandbox runs on it yet.
        plan: How long and how fast.
        tell: Takes lines about how it goes.
    """
    lifetime = {LIFETIME: str(plan.lifetime)}
    feeds = [stack.start(f"feed-{number}", "-m", "tests.soak.feed", **lifetime) for number in (1, 2)]
    stack.wait_exchange()
    clock = await market_clock(stack.url)
    redis = connect(stack.redis.url)
    snapshots = RedisSnapshots(redis)
    try:
        await eventually(lambda: _whole(snapshots), seconds=120, what="whole figures")
        reader = stack.start("reader", "-m", "tests.soak.reader")
        await eventually(lambda: _scans(reader), seconds=60, what="a scan")
        run = _Run(stack, plan, clock, snapshots, [*feeds, reader], tell)
        begun = time.monotonic()
        await asyncio.gather(run.sample_memory(), run.inject(), run.compare())
        seconds = time.monotonic() - begun
        return await run.came_to(seconds)
    finally:
        await redis.aclose()


async def _whole(snapshots: RedisSnapshots) -> bool:
    state = await snapshots.figures_state()
    return state is not None and state.wanted > 0 and len(state.stale) <= state.wanted // 20


async def _scans(reader: Child) -> bool:
    assert reader.lives(), reader.output
    return bool(reader.output)


class _Run:
    """What is done and noted while it soaks."""

    def __init__(
        self,
        stack: Stack,
        plan: Plan,
        clock: MarketClock,
        snapshots: RedisSnapshots,
        children: Sequence[Child],
        tell: Callable[[str], None],
    ) -> None:
        self._stack, self._plan, self._clock, self._snapshots = stack, plan, clock, snapshots
        self._children, self._tell = children, tell
        self._ends = time.monotonic() + plan.seconds
        self._rss: dict[str, list[tuple[float, float]]] = {child.name: [] for child in children}
        self._drift: list[Drift] = []
        self._fired: Counter[str] = Counter()

    async def sample_memory(self) -> None:
        while self._left() > 0:
            for child in self._children:
                self._rss[child.name].append((time.monotonic(), child.rss()))
            await self._rest(self._plan.rss_every)

    async def inject(self) -> None:
        for rules in itertools.cycle(FAULTS):
            await self._rest(self._plan.faults_every - self._plan.faults_last)
            if self._left() <= self._plan.faults_last:
                return
            await asyncio.to_thread(self._stack.faults, list(rules))
            await self._rest(self._plan.faults_last)
            fired = await asyncio.to_thread(self._stack.calm)
            self._fired.update(fired)
            self._tell(f"injected: {fired}")

    async def compare(self) -> None:
        place = 0
        while self._left() > 0:
            await self._rest(self._plan.drift_every)
            told = await self._snapshots.figures()
            if told is not None:
                symbols = [told.symbols[number % len(told.symbols)] for number in range(place, place + SAMPLE)]
                await self._compared(symbols)
                place += SAMPLE

    async def _compared(self, symbols: Sequence[str] | None) -> None:
        told = await self._snapshots.figures()
        if told is None:
            return
        drift = await drift_of(told, told.symbols if symbols is None else symbols, self._stack.url, self._clock)
        self._drift.append(drift)
        rss = ", ".join(f"{name} {samples[-1][1] / 2**20:.0f} MB" for name, samples in self._rss.items() if samples)
        worst = f" ({drift.worst})" if drift.error else ""
        carried = f"up to {drift.carried} candles of 15m"
        self._tell(
            f"{self._left():.0f} s left; {drift.symbols} symbols differ by {drift.error:.1e} at most{worst}, {carried}; {rss}"
        )

    async def came_to(self, seconds: float) -> Soaked:
        """Compares all, reads what the reader noted, judges."""
        await self._compared(None)
        scans = [msgspec.json.decode(line, type=Judged) for line in _lines(self._children[-1])]
        good = [one for one in scans if not one.error]
        screened = sum(one.screened for one in good)
        soaked = Soaked(
            seconds=seconds,
            market_hours=seconds * self._plan.speed / 3600,
            universe=max((one.universe for one in good), default=0),
            memory=[memory_of(name, samples) for name, samples in self._rss.items()],
            drift=self._drift,
            fired=dict(self._fired),
            reconnects=sum(child.output.count(" dropped ") for child in self._children[:-1]),
            rotations=sum(child.output.count("moved to a new connection") for child in self._children[:-1]),
            scans=len(scans),
            failed_scans=len(scans) - len(good),
            from_figures=sum(one.from_figures for one in good) / screened if screened else 0.0,
            candidates=sum(one.candidates for one in good),
            signals=sum(one.signals for one in good),
            stale=[f"{symbol} at {one.at_ms}" for one in good for symbol in one.stale],
            overtaken=sum(one.overtaken for one in good),
            scan_p50_ms=float(np.median([one.total_ms for one in good])) if good else 0.0,
            fallbacks=dict(Counter(_kind_of(said) for one in good for said in one.fallbacks).most_common()),
            wrong=[f"{child.name} ended" for child in self._children if not child.lives()]
            + [f"{child.name} has a traceback in its log" for child in self._children if "Traceback" in child.output],
        )
        return msgspec.structs.replace(soaked, wrong=[*soaked.wrong, *wrong_in(soaked)])

    def _left(self) -> float:
        return self._ends - time.monotonic()

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self._left())))


def _lines(reader: Child) -> list[str]:
    return [line for line in reader.output.splitlines() if line.startswith("{") and line.endswith("}")]


def _kind_of(said: str) -> str:
    """A fallback without its numbers."""
    return " ".join("N" if any(sign.isdigit() for sign in word) and word != "24" else word for word in said.split())


def memory_of(process: str, samples: Sequence[tuple[float, float]]) -> Memory:
    """What a process's memory did after the warm-up.

    Args:
        process: Its name.
        samples: Wall seconds and bytes, oldest first, at least two after the warm-up.
    """
    begin = samples[0][0] + WARM_UP * (samples[-1][0] - samples[0][0])
    times, sizes = np.array([sample for sample in samples if sample[0] >= begin], np.float64).T
    slope = float(np.polyfit(times - times[0], sizes, 1)[0])
    return Memory(
        process=process,
        median=float(np.median(sizes)),
        growth=slope * float(times[-1] - times[0]),
        hourly=slope * 3600,
        samples=len(times),
    )


def wrong_in(soaked: Soaked) -> list[str]:
    """Why a soak is not sound, in words; empty where it is."""
    thirds = [max((one.error for one in part), default=0.0) for part in _ends_of(soaked.drift)]
    carried = [one.carried for one in soaked.drift if one.symbols]
    asked = {str(rule["kind"]) for rules in FAULTS for rule in rules}
    checks = {
        "no drift was measured": not carried,
        f"figures were not carried on: {carried[:1]} candles, then {carried[-1:]}": bool(carried) and carried[-1] <= carried[0],
        f"figures drift by {max((one.error for one in soaked.drift), default=0):.1e}": any(
            one.error > DRIFT_LIMIT for one in soaked.drift
        ),
        f"the drift grows: {thirds[0]:.1e}, then {thirds[1]:.1e}": thirds[1] > 2 * thirds[0] + 1e-12,
        f"never injected: {', '.join(sorted(asked - soaked.fired.keys()))}": bool(asked - soaked.fired.keys()),
        "no connection was lost": soaked.reconnects == 0,
        "no connection was replaced in time": soaked.rotations == 0,
        f"{soaked.failed_scans} of {soaked.scans} scans failed": soaked.failed_scans > 0,
        "no candidate was ever found": soaked.candidates == 0,
        "most of the market was read by request": soaked.from_figures < 0.5,
        f"{len(soaked.stale)} stale decisions: {soaked.stale[:5]}": bool(soaked.stale),
    }
    grown = [f"{one.process} grew by {one.growth / 2**20:.1f} MB after the warm-up" for one in soaked.memory if not one.flat]
    return [said for said, wrong in checks.items() if wrong] + grown


def _ends_of(drift: Sequence[Drift]) -> tuple[Sequence[Drift], Sequence[Drift]]:
    third = max(1, len(drift) // 3)
    return drift[:third], drift[-third:]


def run_soak(folder: Path, sandbox: list[str], plan: Plan, tell: Callable[[str], None]) -> Soaked:
    """A soak on a stack of its own."""
    settings = {"MIN_VOLUME_USDT": "1000000", "MIN_VOLATILITY_24H": "0.5"}
    with Stack(folder, [*sandbox, "--speed", str(plan.speed), "--weight-limit", "1000000000"], settings) as stack:
        return asyncio.run(soak(stack, plan, tell))
