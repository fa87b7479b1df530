"""The worker as a process, on real servers, with an engine that a test drives."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa

from deploy.servers import EmbeddedPostgres, EmbeddedRedis, free_port
from orchestrator.jobs import RedisJobs, open_redis
from orchestrator.store.database import Database, open_database
from tests.integration.store_rows import NOW, add_user
from tests.integration.stub_engine import StubEngine
from tests.polling import eventually

pytestmark = pytest.mark.servers

STOPS_WITHIN_SECONDS = 8.0


class WorkerProcess:
    """One worker, its settings and what it logged."""

    def __init__(self, database_url: str, redis_url: str, engine: StubEngine) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ENGINE_URL": engine.url,
            "ENGINE_TOKEN": "token",
            "MARKET_CLOCK_URL": engine.url,
        }
        self.records: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "orchestrator.worker",
            env=self.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.reading = asyncio.create_task(self._read())

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        assert self.reading is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(STOPS_WITHIN_SECONDS):
            code = await self.process.wait()
        await self.reading
        return code

    def said(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == event]

    def levels(self) -> set[str]:
        return {record.get("level", "error") for record in self.records}

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            try:
                self.records.append(msgspec.json.decode(line))
            except msgspec.DecodeError:
                self.records.append({"event": line.decode(), "level": "error"})


@asynccontextmanager
async def running(worker: WorkerProcess) -> AsyncIterator[WorkerProcess]:
    await worker.start()
    try:
        yield worker
    finally:
        if worker.process is not None and worker.process.returncode is None:
            await worker.end(signal.SIGKILL)
        sys.stdout.writelines(f"{record}\n" for record in worker.records)  # shown when the test fails


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    async with StubEngine(NOW, speed=1.0).serve() as serving:
        yield serving


async def rows(database: Database, query: str) -> list[Any]:
    async with database.engine.connect() as connection:
        return list((await connection.execute(sa.text(query))).mappings())


async def test_a_worker_scans_enters_watches_and_stops_cleanly(
    database: Database, database_url: str, redis_url: str, engine: StubEngine
) -> None:
    await add_user(database)
    engine.symbols = ["BTCUSDT"]
    async with running(WorkerProcess(database_url, redis_url, engine)) as worker:
        [position] = await eventually(lambda: rows(database, "SELECT * FROM positions"), seconds=40, what="a position")
        watched = engine.count("/marks")

        async def watched_again() -> bool:
            return engine.count("/marks") > watched + 1

        await eventually(watched_again, seconds=5, what="the watch of it")
        redis = open_redis(redis_url)
        pulse = await eventually(RedisJobs(redis).last_pulse, seconds=5, what="a sign of life")
        await redis.aclose(close_connection_pool=True)
        assert await worker.end() == 0
    assert pulse.last_scan is not None
    assert pulse.last_watch is not None
    assert position["status"] == "OPEN"
    assert worker.levels() == {"info"}, worker.records


async def test_a_worker_that_is_told_to_stop_leaves_a_silent_engine_behind_in_time(
    database: Database, database_url: str, redis_url: str, engine: StubEngine
) -> None:
    await add_user(database)
    engine.symbols, engine.silence = ["BTCUSDT"], asyncio.Event()
    async with running(WorkerProcess(database_url, redis_url, engine)) as worker:

        async def sent() -> bool:
            return engine.unanswered == 1

        await eventually(sent, seconds=40, what="the entry on its way")
        assert await worker.end() == 0
    assert [row["status"] for row in await rows(database, "SELECT status FROM orders")] == ["SENT"]
    assert len(await rows(database, "SELECT * FROM claims")) == 1


async def test_a_worker_serves_its_metrics_where_it_is_told_to(database_url: str, redis_url: str, engine: StubEngine) -> None:
    worker = WorkerProcess(database_url, redis_url, engine)
    port = free_port()
    worker.env["WORKER_METRICS_PORT"] = str(port)
    async with running(worker), httpx.AsyncClient(trust_env=False) as client:

        async def counted() -> bool:
            try:
                reply = await client.get(f"http://127.0.0.1:{port}/metrics")
            except httpx.TransportError:
                return False
            return 'neurotrade_scans_total{result="done"} 1.0' in reply.text and 'loop_runs_total{loop="watch"}' in reply.text

        await eventually(counted, seconds=40, what="a counted scan")
        assert await worker.end() == 0


async def test_one_trace_id_leads_from_the_scan_to_the_fill(
    database: Database, database_url: str, redis_url: str, engine: StubEngine
) -> None:
    await add_user(database)
    engine.symbols = ["BTCUSDT"]
    async with running(WorkerProcess(database_url, redis_url, engine)) as worker:
        [fill] = await eventually(lambda: rows(database, "SELECT trace_id FROM fills"), seconds=40, what="a fill")
        assert await worker.end() == 0
    trace = fill["trace_id"]
    for table in ("scans", "signals", "orders"):
        assert [row["trace_id"] for row in await rows(database, f"SELECT trace_id FROM {table}")] == [trace], table  # noqa: S608
    assert engine.traces("/analyze") == [trace]
    assert engine.traces("/execute/entry") == [trace]
    assert [record["trace_id"] for record in worker.said("scan done")] == [trace]
    [order] = await rows(database, "SELECT signal_to_fill_ms FROM orders")
    assert order["signal_to_fill_ms"] > 0


async def test_two_workers_scan_a_close_once(database: Database, database_url: str, redis_url: str, engine: StubEngine) -> None:
    await add_user(database)
    engine.symbols = ["BTCUSDT"]
    async with (
        running(WorkerProcess(database_url, redis_url, engine)) as one,
        running(WorkerProcess(database_url, redis_url, engine)) as two,
    ):

        async def both() -> bool:
            return bool(one.said("the worker trades") and two.said("the worker trades"))

        await eventually(both, seconds=40, what="both workers")
        await eventually(lambda: rows(database, "SELECT id FROM positions"), seconds=10, what="a position")
        assert list(await asyncio.gather(one.end(), two.end())) == [0, 0]
    assert len(await rows(database, "SELECT id FROM scans")) == 1
    assert len(await rows(database, "SELECT id FROM positions")) == 1
    assert engine.count("/analyze") == 1


async def test_an_engine_that_is_away_is_waited_for_within_the_candle(
    database: Database, database_url: str, redis_url: str, engine: StubEngine
) -> None:
    engine.away = True
    async with running(WorkerProcess(database_url, redis_url, engine)) as worker:

        async def asked() -> bool:
            return engine.count("/analyze") >= 2

        await eventually(asked, seconds=40, what="two attempts")
        engine.away = False
        await eventually(lambda: rows(database, "SELECT id FROM scans"), seconds=10, what="the scan")
        assert await worker.end() == 0
    assert worker.levels() == {"info", "warning"}, worker.records


async def test_closes_that_come_faster_than_scans_are_skipped_not_piled_up(
    database: Database, database_url: str, redis_url: str
) -> None:
    async with (
        StubEngine(NOW, speed=9000.0).serve() as engine,
        running(WorkerProcess(database_url, redis_url, engine)) as worker,
    ):

        async def scanned() -> bool:
            return len(await rows(database, "SELECT id FROM scans")) >= 5

        await eventually(scanned, seconds=40, what="five scans")
        redis = open_redis(redis_url)
        waiting = await RedisJobs(redis).waiting()
        await redis.aclose(close_connection_pool=True)
        assert await worker.end() == 0
    closes = [row["candle_close"] for row in await rows(database, "SELECT candle_close FROM scans")]
    assert waiting <= 3
    assert len(set(closes)) == len(closes)
    assert worker.levels() <= {"info", "warning"}, worker.records


@pytest.mark.parametrize("lost", [False, True], ids=["the venue filled it", "it never arrived"])
async def test_a_worker_killed_between_order_and_fill_loses_and_doubles_nothing(
    database: Database, database_url: str, redis_url: str, engine: StubEngine, lost: bool
) -> None:
    user_id = await add_user(database)
    engine.symbols = ["BTCUSDT"]
    engine.silence, engine.loses_entries = asyncio.Event(), lost
    async with running(WorkerProcess(database_url, redis_url, engine)) as killed:

        async def sent() -> bool:
            return engine.unanswered == 1

        await eventually(sent, seconds=40, what="the entry on its way")
        await killed.end(signal.SIGKILL)
    [order] = await rows(database, "SELECT status, client_order_id FROM orders")
    assert order["status"] == "SENT"
    assert await rows(database, "SELECT id FROM positions") == []
    assert len(await rows(database, "SELECT * FROM claims")) == 1

    engine.silence.set()
    async with database.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE orders SET carried_until = NULL"))
    async with running(WorkerProcess(database_url, redis_url, engine)) as settler:
        await eventually(lambda: rows(database, "SELECT id FROM positions"), seconds=40, what="the position")
        assert await settler.end() == 0
    assert engine.count("/execute/entry") == (2 if lost else 1)
    assert list(engine.reports) == [order["client_order_id"]]
    assert len(await rows(database, "SELECT id FROM positions WHERE status = 'OPEN'")) == 1
    assert len(await rows(database, "SELECT id FROM fills")) == 1
    assert len(await rows(database, "SELECT * FROM claims")) == 1
    [wallet] = await rows(database, "SELECT sum(amount) AS total, max(paper_balance) AS kept FROM ledger_entries, users")
    assert wallet["total"] == wallet["kept"] == Decimal("9999.5")
    assert [row["user_id"] for row in await rows(database, "SELECT user_id FROM claims")] == [user_id]


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedPostgres, EmbeddedRedis]]:
    """Servers of this test's own, to be killed."""
    folder = tmp_path_factory.mktemp("killed")
    postgres = EmbeddedPostgres(folder / "postgres", free_port(), durable=False)
    redis = EmbeddedRedis(folder / "redis", free_port(), durable=False)
    postgres.start()
    redis.start()
    yield postgres, redis
    redis.stop()
    postgres.stop()


@pytest.mark.parametrize("killed", [0, 1], ids=["postgresql", "redis"])
async def test_a_worker_goes_on_when_a_server_was_killed_and_came_back(
    servers: tuple[EmbeddedPostgres, EmbeddedRedis], killed: int
) -> None:
    postgres, redis = servers
    async with (
        StubEngine(NOW, speed=900.0).serve() as engine,
        running(WorkerProcess(postgres.url, redis.url, engine)) as worker,
    ):

        async def scans(count: int) -> bool:
            return len(worker.said("scan done")) >= count

        await eventually(lambda: scans(2), seconds=60, what="two scans")
        victim = servers[killed]
        assert victim.process is not None
        victim.process.kill()
        victim.process.wait()

        async def warned() -> bool:
            return len(worker.said("a round waits for its source")) >= 2

        await eventually(warned, seconds=30, what="warnings")
        await asyncio.to_thread(victim.start)
        done = len(worker.said("scan done"))
        await eventually(lambda: scans(done + 2), seconds=60, what="two scans more")
        assert await worker.end() == 0
    assert worker.levels() == {"info", "warning"}, [record for record in worker.records if record["level"] == "error"]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "is gone"])
async def test_positions_are_watched_while_redis_is_of_no_use(
    database: Database,
    database_url: str,
    servers: tuple[EmbeddedPostgres, EmbeddedRedis],
    engine: StubEngine,
    number: signal.Signals,
) -> None:
    redis = servers[1].process
    assert redis is not None
    await add_user(database)
    engine.symbols = ["BTCUSDT"]
    async with running(WorkerProcess(database_url, servers[1].url, engine)) as worker:
        await eventually(lambda: rows(database, "SELECT id FROM positions"), seconds=40, what="a position")
        redis.send_signal(number)
        try:
            watched = engine.count("/marks")

            async def watched_on() -> bool:
                return engine.count("/marks") >= watched + 4

            await eventually(watched_on, seconds=20, what="four looks at the position")
            assert await worker.end() == 0
        finally:
            redis.send_signal(signal.SIGCONT)
    assert worker.levels() <= {"info", "warning"}, worker.records


async def test_a_worker_without_its_settings_says_which(redis_url: str, engine: StubEngine) -> None:
    worker = WorkerProcess("", redis_url, engine)
    await worker.start()
    assert await worker.end(signal.SIGCONT) == 2
    assert "DATABASE_URL is required" in worker.records[0]["event"]
