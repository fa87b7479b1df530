"""Schedules over a real PostgreSQL, a real Redis and TCP sockets, many at once, in wall time: `python -m tests.fault_storm --real N`.

TEST_DATABASE_URL and TEST_REDIS_URL name the servers; else the embedded ones are started. Each schedule has a database copied from a
migrated template and a numbered database of Redis. Most of its two minutes a schedule waits, so that dozens share two cores.
"""

import asyncio
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psycopg
import redis
from redis.asyncio import Redis

from deploy.servers import EmbeddedPostgres, EmbeddedRedis, free_port
from tests.fault_storm.one import Outcome, _outcome, quiet
from tests.fault_storm.real_store import CONNECTIONS, drop, make_template, own_database
from tests.fault_storm.real_world import BRIEF, WHOSE, Pace, RealWorld
from tests.fault_storm.schedule import schedule_of

AT_ONCE: Final = 50
"""Schedules under way together, over all processes."""

MOST_CONNECTIONS: Final = 700
DATABASES: Final = 64
"""Of the embedded servers."""

SPARE_CONNECTIONS: Final = 12
APART_SECONDS: Final = 0.3
"""Between two beginnings in one process: making a schedule's processes takes the loop for a while."""


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """Where schedules find their servers, and how many of them at once these bear."""

    postgres_url: str
    template: str
    redis_url: str
    at_once: int


class _Postgres(EmbeddedPostgres):
    def command(self) -> list[str]:
        return [*super().command(), "-c", f"max_connections={MOST_CONNECTIONS}"]


class _Redis(EmbeddedRedis):
    def prepare(self) -> None:
        super().prepare()
        with self._configuration.open("a") as file:
            file.write(f"databases {DATABASES}\n")


@contextmanager
def servers() -> Iterator[Servers]:
    """The servers of one run, with a migrated template."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="nt-storm-", ignore_cleanup_errors=True)))
        postgres_url = os.environ.get("TEST_DATABASE_URL", "")
        if not postgres_url:
            postgres = _Postgres(folder / "postgres", free_port(), durable=False)
            postgres.start()
            closing.callback(postgres.stop)
            postgres_url = postgres.url_of("postgres")
        redis_url = os.environ.get("TEST_REDIS_URL", "")
        if not redis_url:
            server = _Redis(folder / "redis", free_port(), durable=False)
            server.start()
            closing.callback(server.stop)
            redis_url = server.url
        template = f"storm_template_{os.getpid()}"
        make_template(postgres_url, template)
        closing.callback(drop, postgres_url, template)
        yield Servers(postgres_url=postgres_url, template=template, redis_url=redis_url, at_once=_borne(postgres_url, redis_url))


def _borne(postgres_url: str, redis_url: str) -> int:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT current_setting('max_connections')::int").fetchone()
    with redis.Redis.from_url(redis_url) as client:
        databases = int(client.config_get("databases")["databases"])
    connections = 0 if row is None else int(row[0])
    return max(1, min(databases, (connections - SPARE_CONNECTIONS) // CONNECTIONS))


def run_real(seeds: list[int], processes: int, *, brief: bool) -> Iterator[Outcome]:
    """Every seed's end, process by process; each that violates is told at once, with the command that replays it."""
    pace = BRIEF if brief else Pace()
    with servers() as found:
        at_once = min(AT_ONCE, found.at_once)
        processes = max(1, min(processes, at_once, len(seeds)))
        each = at_once // processes
        with ProcessPoolExecutor(processes, initializer=quiet) as pool:
            shares = [
                pool.submit(run_share, seeds[number::processes], found, pace, number * each, each) for number in range(processes)
            ]
            for share in shares:
                yield from share.result()


def run_share(seeds: list[int], found: Servers, pace: Pace, first: int, each: int) -> list[Outcome]:
    """One process's schedules, so many at once, on Redis databases from `first` on."""
    return asyncio.run(_all(seeds, found, pace, first, each))


def replay_real(seed: int, trace: deque[str], *, brief: bool) -> Outcome:
    """One schedule alone, told into a trace."""
    with servers() as found:
        return asyncio.run(_one(seed, found, BRIEF if brief else Pace(), 0, trace))


async def _all(seeds: list[int], found: Servers, pace: Pace, first: int, each: int) -> list[Outcome]:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    waiting, outcomes = deque(seeds), list[Outcome]()

    async def one_after_another(number: int) -> None:
        await asyncio.sleep(APART_SECONDS * (number - first))
        while waiting:
            outcome = await asyncio.create_task(_guarded(waiting.popleft(), found, pace, number))
            if outcome.violations:
                brief = " --brief" if pace.early else ""
                again = f"python -m tests.fault_storm --real 1 --seed {outcome.seed}{brief} --verbose"
                print(f"seed {outcome.seed} violates; alone: {again}", flush=True)
            outcomes.append(outcome)

    await asyncio.gather(*(one_after_another(number) for number in range(first, first + each)))
    return outcomes


async def _guarded(seed: int, found: Servers, pace: Pace, number: int) -> Outcome:
    try:
        return await _one(seed, found, pace, number, None)
    except Exception as error:  # noqa: BLE001 - the edge of a schedule: what breaks it is told as what it came to
        schedule = schedule_of(seed)
        return Outcome(
            seed=seed, cuts=schedule.cuts, violations=[f"crash: {type(error).__name__}: {error}"], unprotected_ms=[], steps=0,
            entered=0, closed=0, requests=0, faults={}, took_seconds=0.0,
        )  # fmt: skip


async def _one(seed: int, found: Servers, pace: Pace, number: int, trace: deque[str] | None) -> Outcome:
    WHOSE.set(seed)
    schedule, began = schedule_of(seed), time.perf_counter()
    redis_url = f"{found.redis_url.rsplit('/', 1)[0]}/{number}"
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
    async with own_database(found.postgres_url, found.template, f"storm_{os.getpid()}_{seed}") as database_url:
        world = RealWorld(schedule, pace, (database_url, redis_url), trace)
        async with world.standing():
            await world.live()
            return _outcome(schedule, world, time.perf_counter() - began)
