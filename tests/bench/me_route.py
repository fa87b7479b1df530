"""Requests per second of GET /api/user/me: Litestar on granian beside FastAPI on uvicorn, one worker each, the same row and bytes."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from deploy.servers import EmbeddedPostgres, EmbeddedRedis, free_port, tethered
from orchestrator.ports import NewUser
from orchestrator.store.database import migrate_when_up, open_database
from orchestrator.store.logins import SqlLogins
from orchestrator.web.auth import Tokens
from tests.bench.rounds import Ratio, alternate

CONNECTIONS = 16
REQUESTS = 3_000
ROUNDS = 5
SECRET = "a-secret-for-a-benchmark-on-loopback-only"


async def me_vs_fastapi() -> Ratio:
    """Time for 3,000 requests over 16 connections; the bodies of both sides must be equal."""
    with tempfile.TemporaryDirectory() as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", free_port(), durable=False)
        redis = EmbeddedRedis(Path(folder) / "redis", free_port(), durable=False)
        postgres.start()
        redis.start()
        try:
            token = await _log_in(postgres.url)
            return await _race({"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}, token)
        finally:
            redis.stop()
            postgres.stop()


async def _log_in(database_url: str) -> str:
    await migrate_when_up(database_url)
    database = open_database(database_url, pool_size=2)
    try:
        now, user_id, login_id = datetime.now(UTC), uuid4(), uuid4()
        logins = SqlLogins(database)
        await logins.add_user(NewUser(id=user_id, username="bench", password_hash="-", created_at=now))
        await logins.open(login_id, user_id, now, now + timedelta(hours=1))
        return Tokens(SECRET).issue(user_id, login_id, now, now + timedelta(hours=1))[0]
    finally:
        await database.close()


async def _race(stores: Mapping[str, str], token: str) -> Ratio:
    mine, theirs = free_port(), free_port()
    fastapi = ["-m", "uvicorn", "tests.bench.fastapi_peer:app", "--port", str(theirs), "--log-level", "error", "--no-access-log"]
    async with _server(["-m", "orchestrator.app"], mine, stores), _server(fastapi, theirs, stores):
        await _until_it_answers(mine, token)
        await _until_it_answers(theirs, token)
        await _require_equal_bodies(mine, theirs, token)
        return await alternate(lambda: _load(mine, token), lambda: _load(theirs, token), ROUNDS)


@asynccontextmanager
async def _server(arguments: list[str], port: int, stores: Mapping[str, str]) -> AsyncIterator[None]:
    env = {
        **os.environ,
        **stores,
        "JWT_SECRET": SECRET,
        "ENGINE_URL": "http://127.0.0.1:9",
        "ENGINE_TOKEN": "unused",
        "ORCHESTRATOR_PORT": str(port),
        "LOG_FORMAT": "json",
    }
    process = subprocess.Popen(  # noqa: ASYNC220  starting takes no time worth a thread
        tethered([sys.executable, *arguments]), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)


def _request(token: str) -> bytes:
    return f"GET /api/user/me HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


async def _until_it_answers(port: int, token: str) -> None:
    for _ in range(300):
        try:
            if (await _once(port, token))[0] == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("a server of the benchmark did not come up within 30 s")


async def _once(port: int, token: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_request(token))
        return await _answer(reader)
    finally:
        writer.close()


async def _require_equal_bodies(mine: int, theirs: int, token: str) -> None:
    ours, peers = await _once(mine, token), await _once(theirs, token)
    if ours != peers:
        raise SystemExit(f"the two sides answer differently: {ours!r} and {peers!r}")


async def _load(port: int, token: str) -> None:
    await asyncio.gather(*(_ask(port, token, REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))


async def _ask(port: int, token: str, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = _request(token)
    for _ in range(times):
        writer.write(request)
        status, _body = await _answer(reader)
        if status != 200:
            raise SystemExit(f"a request of the benchmark was answered {status}")
    writer.close()
