"""What many tests stand on: real PostgreSQL and Redis, started once a worker, and one fresh database a test.

First TEST_DATABASE_URL and TEST_REDIS_URL, then containers where Docker answers, else the embedded servers. With CI=true a missing
server is a failure.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from deploy.errors import ServerFailed
from deploy.servers import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer, free_port

PROJECT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NEUROTRADE_DATA", PROJECT.parent / "shared" / "data"))
FIXTURES = Path(os.environ.get("NEUROTRADE_FIXTURES", PROJECT.parent / "shared" / "fixtures"))

DOCKER_SOCKET = "/var/run/docker.sock"
TEMPLATE = "neurotrade_template"
_numbers = count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Names a test's group in its id, by which one worker gets the whole group.

    xdist 3.8 writes the group into `_nodeid`, which pytest 9.2 no longer reads; where it does again, there is nothing left to do.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        for mark in item.iter_markers("xdist_group"):
            suffix = f"@{mark.args[0]}"
            if not item.nodeid.endswith(suffix):
                item._id = type(item._id).parse(item.nodeid + suffix)


def missing(what: str) -> None:
    """Skips the test, or fails it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The recorded market data."""
    if not DATA.is_dir():
        pytest.skip(f"no recorded market data in {DATA} (set NEUROTRADE_DATA)")
    return DATA


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """Replies of the exchange and of its official clients."""
    if not FIXTURES.is_dir():
        pytest.skip(f"no recorded replies in {FIXTURES} (set NEUROTRADE_FIXTURES)")
    return FIXTURES


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server's maintenance database, for those who make their own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with _container_postgres() as url:
        if url:
            yield url
            return
    with tempfile.TemporaryDirectory(prefix="nt-postgres-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data", free_port(), durable=False)
        with _running(server):
            yield server.url_of("postgres")


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> str:
    """A migrated database that is copied for each test: a copy takes milliseconds, a migration half a second."""
    from orchestrator.store.database import migrate  # here, so that pure tests need not load the store

    name = f"{TEMPLATE}_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    migrate(_with_database(postgres_url, name))
    return name


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without tables."""
    with _database(postgres_url, "template0") as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    with _database(postgres_url, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """A Redis of this worker's own."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with _container_redis() as url:
        if url:
            yield url
            return
    with tempfile.TemporaryDirectory(prefix="nt-redis-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedRedis(Path(folder) / "data", free_port(), durable=False)
        with _running(server):
            yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@contextlib.contextmanager
def _running(server: EmbeddedServer) -> Iterator[None]:
    try:
        server.start()
    except ServerFailed as failure:
        missing(str(failure))
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _database(postgres_url: str, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield _with_database(postgres_url, name)
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _docker_answers() -> bool:
    if not Path(DOCKER_SOCKET).exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(DOCKER_SOCKET)
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200" in probe.recv(64)
        except OSError:
            return False


@contextlib.contextmanager
def _container_postgres() -> Iterator[str | None]:
    if not _docker_answers():
        yield None
        return
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer("postgres:18-alpine", driver=None) as container:
        yield container.get_connection_url()


@contextlib.contextmanager
def _container_redis() -> Iterator[str | None]:
    if not _docker_answers():
        yield None
        return
    from testcontainers.redis import RedisContainer

    with RedisContainer("redis:8-alpine") as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
