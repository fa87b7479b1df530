"""Runs one schedule from its seed, and tells what it came to."""

import asyncio
import logging
import random
import time
from collections import deque
from typing import Any

import msgspec
import structlog

from engine.binance import vendor
from tests.fault_storm.judge import UNPROTECTED_MOST_MS
from tests.fault_storm.schedule import Schedule, schedule_of
from tests.fault_storm.simulated_time import SimulatedClock, SimulatedLoop, process_time, run
from tests.fault_storm.world import World


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule's end."""

    seed: int
    cuts: bool
    violations: list[str]
    unprotected_ms: list[int]
    steps: int
    entered: int
    closed: int
    requests: int
    faults: dict[str, int]
    took_seconds: float


def run_one(seed: int, trace: deque[str] | None = None) -> Outcome:
    """One schedule in this process, always the same for a seed."""
    schedule, began = schedule_of(seed), time.perf_counter()
    loop = SimulatedLoop()
    random.seed(seed)
    world: list[World] = []

    async def main() -> None:
        world.append(World(schedule, loop, trace))
        await world[0].live()

    loop.jump(schedule.begins_at)
    with process_time(SimulatedClock(loop)):
        run(main(), loop)
    return _outcome(schedule, world[0], time.perf_counter() - began)


def run_many(seeds: list[int]) -> list[Outcome]:
    """Some schedules, one after another."""
    return [run_one(seed) for seed in seeds]


def quiet() -> None:
    """No log, and ccxt imported before any clock jumps."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False)
    logging.disable(logging.CRITICAL)
    asyncio.run(vendor.load())


def loud(trace: deque[str]) -> None:
    """Logs go into the trace."""

    def into(_logger: Any, level: str, event: Any) -> str:
        trace.append(f"  [{level}] {event}")
        raise structlog.DropEvent

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), processors=[structlog.processors.format_exc_info, into]
    )
    asyncio.run(vendor.load())


def _outcome(schedule: Schedule, world: World, took: float) -> Outcome:
    judged = world.judgement
    assert judged is not None
    violations = list(judged.violations)
    if max(judged.unprotected_ms, default=0) > UNPROTECTED_MOST_MS:
        violations.append(f"unprotected: {judged.longest}")
    rows = world.store.rows
    faults: dict[str, int] = dict(world.weather.struck)
    for firing in world.fired:
        faults[firing] = faults.get(firing, 0) + 1
    return Outcome(
        seed=schedule.seed,
        cuts=schedule.cuts,
        violations=violations,
        unprotected_ms=judged.unprotected_ms,
        steps=len(schedule.steps),
        entered=len(rows.positions),
        closed=sum(row.closed_at is not None for row in rows.positions.values()),
        requests=world.doors.calls,
        faults=faults,
        took_seconds=took,
    )
