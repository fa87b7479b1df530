"""The process that trades: scans on each candle's close from a queue, everything that protects in loops of its own.

`python -m orchestrator.worker`. Any number may run: scans are apart by a lease, everything else by compare-and-set. A source that is away
is waited for; SIGTERM ends rounds and jobs that have begun, for a few seconds, and what is then cut off is settled at the next start.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, cast

import uvloop
from arq.worker import Worker, func
from redis.exceptions import RedisError

from orchestrator.bootstrap import Orchestrator, build
from orchestrator.closes import RedisCloses
from orchestrator.errors import OrchestratorError, SettingsError, StoreUnavailable
from orchestrator.jobs import ON_DEMAND, QUEUE, SCAN, Pulse, RedisJobs, open_redis, serialize
from orchestrator.log import configure, logger
from orchestrator.loops import AWAY, Loop, backoff, one_at_a_time, pause, repeat
from orchestrator.metrics import Metrics, serve_metrics
from orchestrator.ports import Clock, ScannedCloses
from orchestrator.settings import OrchestratorSettings, read_settings
from orchestrator.trading.scan import CANDLE, Scan, ScanOutcome, last_close
from orchestrator.trading.whales import Whales

WATCH_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0
PULSE_SECONDS: Final = 1.0
CANARY_SECONDS: Final = 60.0
"""Between two looks at whose proof of protection is old; one sings once a day."""

WHALES_SECONDS: Final = 2.0
CLOSE_LOOK_SECONDS: Final = 0.05
ASK_SECONDS: Final = 1.5
"""What queueing a scan may take: a Redis that hangs is asked again, under the same id, and holds up no worker that stops."""

REVIEW_EVERY: Final = timedelta(minutes=5)
"""Market time; a barrier that was touched is no less touched five minutes later."""

CLOSE_SETTLES: Final = timedelta(seconds=2)
"""Market time after a close in which the exchange still writes its candle: by the clock alone no close is scanned sooner. One that the feed
tells is whole already; our clock may be as much behind the feed's."""

TELLING: Final = timedelta(seconds=0.5)
"""Wall time in which the feed tells of a close: where market time runs fast, the clock leaves it to the feed for as long, or for a quarter
of the candle."""

POLL_SECONDS: Final = 0.01
SCAN_TIMEOUT_SECONDS: Final = 150
"""Above the engine's own time-out; it is also how long a killed worker's job stays taken."""

DRAIN_SECONDS: Final = 5.0
"""What a stopping worker gives to rounds and jobs that have begun; a supervisor kills after ten."""


SCAN_LOOK_SECONDS: Final = 0.05
"""After which a close first looks again whether the scan that runs has ended: most last a fraction of a second."""

STORE_AWAY: Final = "store_unavailable"


class ScanQueue(Protocol):
    """Where scans are asked for."""

    async def enqueue_scan_of(self, candle_close: datetime) -> str:
        """Queue the scan of a candle's close; the same close twice is one job."""
        ...


class Closes(Protocol):
    """Who tells of closes whose figures are whole: `orchestrator.closes.RedisCloses`."""

    def listen(self) -> AsyncIterator[datetime]:
        """Every close that is told from now on; it may be told twice, late or never."""
        ...


class CloseFeed:
    """Asks for a scan at each close of market time, for the newest one only: when the feed tells that it is whole, else when it has settled."""

    def __init__(self, clock: Clock, jobs: ScanQueue, settles: timedelta = CLOSE_SETTLES) -> None:
        self._clock = clock
        self._jobs = jobs
        self._settles = settles
        self._asked: datetime | None = None

    async def run(self) -> None:
        """One look at the clock."""
        await self._ask(last_close(self._clock.now() - self._settles))

    async def hear(self, close: datetime) -> None:
        """A close that the feed told; one that is not the newest by the clock is left to the clock."""
        now = self._clock.now()
        if close in (last_close(now), last_close(now + CLOSE_SETTLES)):
            await self._ask(close)

    async def _ask(self, close: datetime) -> None:
        if self._asked is None or close > self._asked:
            async with asyncio.timeout(ASK_SECONDS):
                await self._jobs.enqueue_scan_of(close)
            self._asked = close


def settling(speed: float) -> timedelta:
    """Market time for which the clock leaves a close to the feed, where market time runs at this speed."""
    return min(max(CLOSE_SETTLES, TELLING * speed), CANDLE / 4)


async def hear_closes(closes: Closes, feed: CloseFeed, stop: asyncio.Event) -> None:
    """Asks for scans as closes are told, until `stop` is set; one that could not be queued is left to the clock."""

    async def hear() -> None:
        async for close in closes.listen():
            try:
                await feed.hear(close)
            except (StoreUnavailable, TimeoutError) as error:
                why = f"{type(error).__name__}: {error}"
                logger().warning("a close was heard and could not be queued", error=why, candle_close=close.isoformat())

    hearing, stopping = asyncio.create_task(hear()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({hearing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            hearing.result()
    finally:
        await _end(hearing, stopping)


class Scans:
    """The job: scans each close once and never an old one for a newer; waits for an engine that is away."""

    def __init__(self, scan: Scan, clock: Clock, jobs: ScannedCloses, metrics: Metrics, stop: asyncio.Event) -> None:
        self._scan = scan
        self._clock = clock
        self._jobs = jobs
        self._metrics = metrics
        self._stop = stop
        self.last_done: datetime | None = None

    async def job(self, _context: dict[Any, Any], argument: str) -> str:
        """What the queue calls; answers how it ended. What nobody foresaw is logged by the queue, with its traceback."""
        try:
            if argument == ON_DEMAND:
                return await self._once(None)
            return await self._of_close(datetime.fromisoformat(argument))
        except StoreUnavailable as error:
            logger().warning("a scan could not be looked up", error=str(error), candle_close=argument)
            return STORE_AWAY

    async def _of_close(self, close: datetime) -> str:
        """Scans the newest close there is by now, so that late jobs still scan; a job that failed leaves a newer close to its own."""
        failures = 0
        while not self._stop.is_set():
            newest = max(close, last_close(self._clock.now() - CLOSE_SETTLES))
            outcome = await self._once(newest)
            if outcome in {ScanOutcome.DONE, ScanOutcome.DONE_BEFORE}:
                return outcome
            if last_close(self._clock.now()) > close:
                logger().info("a close was skipped for a newer one", candle_close=close.isoformat())
                return "superseded"
            failures += 1
            await pause(self._stop, _until_free(failures) if outcome is ScanOutcome.ANOTHER_RUNS else backoff(failures))
        return "stopped"

    async def _once(self, close: datetime | None) -> str:
        try:
            result = await self._scan.run(close, None if close is None else self._jobs)
        except AWAY as error:
            logger().warning("a scan ended early", error=f"{type(error).__name__}: {error}")
            self._metrics.scanned(STORE_AWAY, 0)
            return STORE_AWAY
        if result.outcome is ScanOutcome.DONE_BEFORE:
            return result.outcome
        self._metrics.scanned(result.outcome, result.wall_ms)
        if result.outcome is ScanOutcome.DONE:
            self.last_done = self._clock.wall()
        return result.outcome


def _until_free(looks: int) -> float:
    return min(SCAN_LOOK_SECONDS * 2.0 ** min(looks - 1, 10), backoff(1))


class Heart:
    """Notes which loops went well and gives the worker's sign of life."""

    def __init__(self, clock: Clock, jobs: RedisJobs, scans: Scans, metrics: Metrics) -> None:
        self._clock = clock
        self._jobs = jobs
        self._scans = scans
        self._metrics = metrics
        self._well: dict[str, datetime] = {}

    def went_well(self, loop: str, seconds: float) -> None:
        """A whole round."""
        self._well[loop] = self._clock.wall()
        self._metrics.went_well(loop, seconds)

    def went_wrong(self, loop: str) -> None:
        """A round that ended early."""
        self._metrics.went_wrong(loop)

    async def run(self) -> None:
        """One beat."""
        await self._jobs.beat(
            Pulse(
                at=self._clock.wall(),
                last_scan=self._scans.last_done,
                last_watch=self._well.get("watch"),
                last_settle=self._well.get("settle"),
            )
        )


def loops_of(orchestrator: Orchestrator, heart: Heart, closes: CloseFeed) -> list[Loop]:
    """Everything that the worker does again and again; what protects comes first and never waits in a queue."""
    trading, mutex = orchestrator.trading, orchestrator.mutex
    review_seconds = max(WATCH_SECONDS, REVIEW_EVERY.total_seconds() / orchestrator.clock.speed)

    async def watch() -> None:
        orchestrator.metrics.closes_refused((await trading.watch.run()).refused)

    whales = Whales(orchestrator.engine, orchestrator.bus)

    def alone(name: str, run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return lambda: one_at_a_time(mutex, name, run)

    return [
        Loop(name="watch", every_seconds=WATCH_SECONDS, run=alone("watch", watch)),
        Loop(name="settle", every_seconds=SETTLE_SECONDS, run=alone("settle", trading.settle.run)),
        Loop(name="follow", every_seconds=SETTLE_SECONDS, run=trading.follow.run),
        Loop(name="alarm", every_seconds=WATCH_SECONDS, run=trading.follow.alarm),
        Loop(name="panics", every_seconds=SETTLE_SECONDS, run=alone("panics", trading.panic.resume)),
        Loop(name="stops", every_seconds=SETTLE_SECONDS, run=alone("stops", trading.emergency.write_back)),
        Loop(name="approvals", every_seconds=SETTLE_SECONDS, run=alone("approvals", trading.approve.expire)),
        Loop(name="leftovers", every_seconds=SETTLE_SECONDS, run=trading.scan.finish),
        Loop(name="canaries", every_seconds=CANARY_SECONDS, run=alone("canaries", orchestrator.arm.run)),
        Loop(name="review", every_seconds=review_seconds, run=alone("review", trading.review.run)),
        Loop(name="closes", every_seconds=CLOSE_LOOK_SECONDS, run=closes.run),
        Loop(name="whales", every_seconds=WHALES_SECONDS, run=alone("whales", whales.run)),
        Loop(name="pulse", every_seconds=PULSE_SECONDS, run=heart.run),
    ]


async def serve_queue(redis_url: str, scans: Scans, stop: asyncio.Event) -> None:
    """Runs queued jobs until `stop` is set, over every absence of Redis."""
    failures = 0
    while not stop.is_set():
        try:
            await _serve_until(redis_url, scans, stop)
            failures = 0
        except (RedisError, OSError) as error:
            failures += 1
            logger().warning("the queue is away", error=f"{type(error).__name__}: {error}", attempt=failures)
            await pause(stop, backoff(failures))


async def _serve_until(redis_url: str, scans: Scans, stop: asyncio.Event) -> None:
    redis = open_redis(redis_url)
    queue = Worker(
        functions=[func(cast("Any", scans.job), name=SCAN, keep_result=0, timeout=SCAN_TIMEOUT_SECONDS)],
        queue_name=QUEUE,
        redis_pool=redis,
        handle_signals=False,
        poll_delay=POLL_SECONDS,
        keep_result=0,
        log_results=False,
        job_serializer=serialize,
        job_deserializer=redis.job_deserializer,
    )
    polling, stopping = asyncio.create_task(queue.async_run()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({polling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        queue.allow_pick_jobs = False
        if queue.tasks:
            await asyncio.wait(queue.tasks.values(), timeout=DRAIN_SECONDS)
        if polling.done():
            polling.result()
    finally:
        await _end(polling, stopping, *queue.tasks.values())
        await redis.aclose(close_connection_pool=True)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def work(settings: OrchestratorSettings, stop: asyncio.Event) -> None:
    """Trades until `stop` is set.

    Raises:
        ClockUnavailable: The market clock did not answer at the start.
        StoreUnavailable: PostgreSQL did not answer at the start.
    """
    async with build(settings) as orchestrator:
        scans = Scans(orchestrator.trading.scan, orchestrator.clock, orchestrator.jobs, orchestrator.metrics, stop)
        heart = Heart(orchestrator.clock, orchestrator.jobs, scans, orchestrator.metrics)
        with ExitStack() as closing:
            if settings.worker_metrics_port:
                closing.callback(serve_metrics(orchestrator.metrics, settings.orchestrator_host, settings.worker_metrics_port))
            logger().info("the worker trades")
            try:
                await _trade(orchestrator, heart, scans, stop)
            finally:
                await orchestrator.trading.follow.end()
                await orchestrator.trading.watch.end()


async def _trade(orchestrator: Orchestrator, heart: Heart, scans: Scans, stop: asyncio.Event) -> None:
    closes = CloseFeed(orchestrator.clock, orchestrator.jobs, settling(orchestrator.clock.speed))
    async with asyncio.TaskGroup() as group:
        for loop in loops_of(orchestrator, heart, closes):
            group.create_task(repeat(loop, stop, heart))
        group.create_task(hear_closes(RedisCloses(orchestrator.redis), closes, stop))
        group.create_task(serve_queue(orchestrator.settings.redis_url, scans, stop))


async def run_until_told(settings: OrchestratorSettings, stop: asyncio.Event) -> None:
    """Works until `stop` is set, then gives what has begun a few seconds and cuts off the rest."""
    working, stopping = asyncio.create_task(work(settings, stop)), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set() and not working.done():
        await asyncio.wait({working}, timeout=DRAIN_SECONDS + 1)
    stopping.cancel()
    if not working.done():
        logger().warning("what had begun was cut off; it is settled at the next start")
        await _end(working)
        return
    working.result()


async def _process(settings: OrchestratorSettings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await run_until_told(settings, stop)
    except OrchestratorError as error:
        logger().error("the worker ends", error=f"{type(error).__name__}: {error}")
        return 1
    logger().info("the worker has stopped")
    return 0


def main(env: Mapping[str, str]) -> int:
    """The process's exit code."""
    try:
        settings = read_settings(env, logs_people_in=False)
    except SettingsError as error:
        sys.stderr.write(f"the worker cannot start: {error}\n")
        return 2
    configure(settings.log_format, "worker")
    return uvloop.run(_process(settings))


if __name__ == "__main__":
    sys.exit(main(os.environ))
