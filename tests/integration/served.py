"""The orchestrator's HTTP process as it is deployed, for tests: granian on a free port, on a database and a Redis of the caller's."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg

from deploy.servers import free_port
from tests.polling import wait_until

PROJECT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
SECRET = "s" * 48
_names = count(1)

type Events = Iterator[tuple[str, Any, str]]


class Served:
    """The process, a client of it, and somebody of this test's own."""

    def __init__(self, process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
        self.process, self.client, self.log = process, client, log
        self.person = {"username": "ada", "password": PASSWORD}

    def log_in(self) -> dict[str, str]:
        """Registers, logs in, answers the header to send; from an address of its own, since logins of an address are counted."""
        number = next(_names)
        self.person, home = {"username": f"ada{number}", "password": PASSWORD}, {"X-Forwarded-For": f"198.18.0.{number % 256}"}
        self.client.post("/api/auth/register", json=self.person, headers=home)
        reply = self.client.post("/api/auth/login", json=self.person, headers=home)
        assert reply.status_code == 200, reply.text
        return {"Authorization": f"Bearer {reply.json()['access_token']}"}


@contextlib.contextmanager
def database_of(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database for several tests that get on with one another."""
    name = f"served_{os.getpid()}_{next(_names)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.contextmanager
def serving(database_url: str, redis_url: str, folder: Path, **settings: str) -> Iterator[Served]:
    """The process on a free port until the end of the block."""
    port = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ENGINE_URL": "http://127.0.0.1:9",
        "ENGINE_TOKEN": "t" * 32,
        "JWT_SECRET": SECRET,
        "SECURE_COOKIES": "false",
        "ORCHESTRATOR_PORT": str(port),
        "LOG_FORMAT": "json",
        "TRUSTED_PROXIES": "127.0.0.1/32",
        **settings,
    }
    log = folder / f"orchestrator-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "orchestrator.app"], env=env, cwd=PROJECT, stdout=out, stderr=out)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
                wait_until(lambda: _answers(client, process, log), seconds=40, what="the server's first answer")
                yield Served(process, client, log)
        finally:
            process.terminate()
            process.wait(15)


@contextlib.contextmanager
def stream(served: Served, headers: dict[str, str], last: str = "") -> Iterator[Events]:
    """The events of one live stream, closed at the end of the block."""
    with served.client.stream("GET", "/api/live", params={"last": last} if last else {}, headers=headers) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield _events(reply)


def _events(reply: httpx.Response) -> Events:
    fields: dict[str, str] = {}
    for line in reply.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
            fields = {}


def until(events: Events, kind: str) -> tuple[str, Any, str]:
    """The next event of a kind.

    Raises:
        AssertionError: The stream ended without one.
    """
    for event in events:
        if event[0] == kind:
            return event
    raise AssertionError(f"the stream ended without {kind}")


def _answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False
