"""Schedules over a real PostgreSQL, a real Redis and TCP sockets, many at once, in wall time: `python -m tests.fault_storm --real N`.

TEST_DATABASE_URL and TEST_REDIS_URL name the servers; else the embedded ones are started. Each schedule has a database copied from a
migrated template and a numbered database of Redis, emptied between two. Most of its two minutes a schedule waits, so that dozens share
two cores; they begin apart, since making a schedule's processes takes the loop that all of them share.
"""

import asyncio
import os
import tempfile
import time
import warnings
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
from sqlalchemy.exc import SAWarning

from deploy.servers import EmbeddedPostgres, EmbeddedRedis, free_port
from tests.fault_storm.one import Outcome, _outcome, quiet
from tests.fault_storm.real_store import CONNECTIONS, copy_template, drop, empty, make_template, patiently, with_database
from tests.fault_storm.real_world import BRIEF, WHOSE, Pace, RealWorld, WallClock, new_exchange
from tests.fault_storm.schedule import schedule_of

AT_ONCE: Final = 50
"""Schedules under way together, over all processes."""

MOST_CONNECTIONS: Final = 700
DATABASES: Final = 64
"""Of the embedded servers."""

SPARE_CONNECTIONS: Final = 12
APART_SECONDS: Final = 1.0
"""Between two beginnings in one process."""

LOOK_SECONDS: Final = 0.05
TOLD_EVERY: Final = 20
MOST_AGAIN: Final = 2
"""Beginnings of a schedule after its first, where nothing was judged."""

MOST_TOLD: Final = 400
"""Of a violation's words at once; the table has all of them."""


CALM_LAG_SECONDS: Final = 0.25
CALM_SECONDS: Final = 2.0
"""No timer came later than that for so long before another schedule begins: a machine that is busy with other things gets fewer at once."""


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """Where schedules find their servers: as many databases as schedules run at once."""

    databases: list[str]
    redis_url: str

    @property
    def at_once(self) -> int:
        """How many schedules find room."""
        return len(self.databases)


class _Postgres(EmbeddedPostgres):
    def command(self) -> list[str]:
        return [*super().command(), "-c", f"max_connections={MOST_CONNECTIONS}"]


class _Redis(EmbeddedRedis):
    def prepare(self) -> None:
        super().prepare()
        with self._configuration.open("a") as file:
            file.write(f"databases {DATABASES}\n")


@contextmanager
def servers(wanted: int) -> Iterator[Servers]:
    """The servers of one run, with a migrated database for each of so many schedules at once, or for as many as they bear."""
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
        names = [f"storm_{os.getpid()}_{number}" for number in range(min(wanted, _borne(postgres_url, redis_url)))]
        for name in names:
            closing.callback(drop, postgres_url, name)
        make_template(postgres_url, names[0])
        copy_template(postgres_url, names[0], names[1:])
        yield Servers(databases=[with_database(postgres_url, name) for name in names], redis_url=redis_url)


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
    with servers(min(AT_ONCE, len(seeds))) as found:
        processes = max(1, min(processes, found.at_once))
        each = found.at_once // processes
        with ProcessPoolExecutor(processes, initializer=quiet) as pool:
            shares = [
                pool.submit(run_share, seeds[number::processes], found, pace, number * each, each) for number in range(processes)
            ]
            for share in shares:
                yield from share.result()


def run_share(seeds: list[int], found: Servers, pace: Pace, first: int, each: int) -> list[Outcome]:
    """One process's schedules, so many at once, on the databases from number `first` on."""
    warnings.simplefilter("ignore", SAWarning)  # of processes that died, which never give a connection back
    new_exchange(WallClock().now_ms())
    return asyncio.run(_all(seeds, found, pace, first, each))


def replay_real(seed: int, trace: deque[str], *, brief: bool) -> Outcome:
    """One schedule alone, told into a trace."""
    with servers(1) as found:
        return asyncio.run(_one(seed, found, BRIEF if brief else Pace(), 0, trace))


async def _all(seeds: list[int], found: Servers, pace: Pace, first: int, each: int) -> list[Outcome]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    waiting, outcomes, beginning, lags = deque(seeds), list[Outcome](), asyncio.Lock(), Lags()
    looking = asyncio.create_task(lags.look())

    async def one_after_another(number: int) -> None:
        while waiting:
            async with beginning:
                await asyncio.sleep(APART_SECONDS)
                await lags.calm()
                if not waiting:
                    return
                seed = waiting.popleft()
            outcome = await _guarded(seed, found, pace, number)
            if outcome.violations:
                brief = " --brief" if pace.early else ""
                again = f"python -m tests.fault_storm --real 1 --seed {outcome.seed}{brief} --verbose"
                print(f"seed {outcome.seed}: {'; '.join(outcome.violations)[:MOST_TOLD]}\n    alone: {again}", flush=True)
            outcomes.append(outcome)
            if len(outcomes) % TOLD_EVERY == 0:
                bad = sum(bool(one.violations) for one in outcomes)
                print(f"{len(outcomes)} of {len(seeds)}, {bad} with violations, {lags.longest:.2f} s the longest lag", flush=True)

    await asyncio.gather(*(one_after_another(number) for number in range(first, first + each)))
    looking.cancel()
    print(f"the loop that {each} schedules shared stood still for {lags.longest:.2f} s at most", flush=True)
    return outcomes


class Lags:
    """By how much timers of this process come late: what a crowded machine adds to every figure."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._late_at = -CALM_SECONDS

    async def look(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            lag = loop.time() - due
            self.longest = max(self.longest, lag)
            if lag > CALM_LAG_SECONDS:
                self._late_at = loop.time()

    async def calm(self) -> None:
        """Returns once none was late for a while."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._late_at < CALM_SECONDS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_SECONDS)


async def _guarded(seed: int, found: Servers, pace: Pace, number: int) -> Outcome:
    """What it came to; lived through again where the servers did not let it be made or acted out, which judges nothing."""
    for again in range(MOST_AGAIN, -1, -1):
        try:
            return await asyncio.create_task(_one(seed, found, pace, number, None))
        except Exception as error:  # noqa: BLE001 - the edge of a schedule: what breaks it is told as what it came to
            broken = f"crash: {type(error).__name__}: {error}"
            if again:
                print(f"seed {seed} is begun again: {broken[:MOST_TOLD]}", flush=True)
    return Outcome(
        seed=seed, cuts=schedule_of(seed).cuts, violations=[broken], unprotected_ms=[], steps=0,
        entered=0, closed=0, requests=0, faults={}, took_seconds=0.0,
    )  # fmt: skip


async def _one(seed: int, found: Servers, pace: Pace, number: int, trace: deque[str] | None) -> Outcome:
    WHOSE.set(seed)
    schedule, began = schedule_of(seed), time.perf_counter()
    redis_url = f"{found.redis_url.rsplit('/', 1)[0]}/{number}"
    async with Redis.from_url(redis_url) as client:
        await patiently(client.flushdb)
    await empty(found.databases[number])
    world = RealWorld(schedule, pace, (found.databases[number], redis_url), trace)
    async with world.standing():
        await world.live()
        return _outcome(schedule, world, time.perf_counter() - began)
