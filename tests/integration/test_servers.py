"""The embedded servers are real, empty where promised, and gone with the process that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from deploy.servers import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer, free_port
from tests.polling import wait_until

pytestmark = pytest.mark.servers


def test_a_test_database_is_a_postgres_18_with_every_table(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        version = connection.execute("SHOW server_version_num").fetchone()
        tables = {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert version is not None
    assert int(version[0]) >= 150000
    assert {"users", "signals", "claims", "orders", "fills", "positions", "ledger_entries"} <= tables


def test_a_test_redis_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])
def test_a_stopped_server_leaves_no_process_and_keeps_its_data(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    server = kind(tmp_path / "data", free_port(), password="quiet")
    server.start()
    _write(server)
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    server.stop()
    assert not [process for process in family if process.is_running()]
    server.start()
    try:
        assert _read(server) == "kept"
    finally:
        server.stop()


@pytest.mark.parametrize("kind", ["EmbeddedPostgres", "EmbeddedRedis"])
def test_a_server_does_not_outlive_a_parent_killed_with_9(kind: str, tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from deploy.servers import *\n"
        f"server = {kind}(pathlib.Path(sys.argv[1]), free_port(), durable=False); server.start()\n"
        "print(server.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not _alive(pid), seconds=10, what="the server to end")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _write(server: EmbeddedServer) -> None:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE note AS SELECT 'kept' AS word")
    else:
        with redis.Redis.from_url(server.url) as client:
            client.set("word", "kept")


def _read(server: EmbeddedServer) -> str:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT word FROM note").fetchone()
            assert row is not None
            return str(row[0])
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return str(client.get("word"))
