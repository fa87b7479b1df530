"""Several processes of the site, and one with all the streams it can hold: they answer as one, and panic always finds a place."""

import asyncio
import contextlib
import re
import resource
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from orchestrator.ports import NewUser
from orchestrator.store.database import open_database
from orchestrator.store.logins import SqlLogins
from orchestrator.web.hub import STREAMS_A_USER
from orchestrator.web.tokens import Tokens
from tests.integration.served import SECRET, Served, database_of, serving, stream, until
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("live-server")]

STREAMS = 300


@pytest.fixture(scope="module")
def replicas(
    postgres_url: str, migrated_template: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Served]]:
    folder = tmp_path_factory.mktemp("replicas")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(database_of(postgres_url, migrated_template))
        started = [stack.enter_context(serving(url, redis_server_url, folder)) for _ in range(2)]
        yield started[0], started[1]


def test_two_replicas_behave_as_one(replicas: tuple[Served, Served]) -> None:
    here, there = replicas
    headers = here.log_in()
    assert there.client.get("/api/user/me", headers=headers).status_code == 200
    with stream(there, headers) as events:
        boot = next(events)[1]["boot"]
        here.client.patch("/api/settings", headers=headers, json={"leverage": "20"})
        _, changed, event_id = until(events, "settings")
        assert (changed, event_id.rpartition("-")[0]) == ({"version": 2}, boot)
        with stream(here, headers, last=f"{boot}-0") as same:
            assert next(same)[1]["boot"] == boot
        assert here.client.post("/api/auth/logout", headers=headers).status_code == 204
        assert until(events, "bye")[1]["reason"] == "signed_out"
    assert there.client.get("/api/user/me", headers=headers).status_code == 401


def test_a_login_ends_on_a_replica_that_believed_it_a_moment_ago(replicas: tuple[Served, Served]) -> None:
    here, there = replicas
    headers = here.log_in()
    assert there.client.get("/api/user/me", headers=headers).status_code == 200
    here.client.post("/api/auth/logout", headers=headers)
    assert here.client.get("/api/user/me", headers=headers).status_code == 401
    wait_until(lambda: there.client.get("/api/user/me", headers=headers).status_code == 401, seconds=4, what="the login to end")


def test_a_form_that_was_sent_to_one_replica_was_sent_to_all(replicas: tuple[Served, Served]) -> None:
    here, there = replicas
    here.log_in()
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in here.client.cookies.items()), "Accept": "text/html"}
    page = here.client.get("/dashboard/stop", headers=cookie).text
    tokens = dict(re.findall(r'name="(csrf_token|form_token)" value="([^"]+)"', page))
    form = tokens | {"positions": "keep"}
    said = [each.client.post("/dashboard/stop", headers=cookie, data=form).headers["location"] for each in (here, there, here)]
    assert said == ["/dashboard?say=stopped", "/dashboard?say=again", "/dashboard?say=again"]


def test_wrong_passwords_delay_on_every_replica(replicas: tuple[Served, Served]) -> None:
    here, there = replicas
    here.log_in()
    wrong = here.person | {"password": "wrong password"}
    statuses = [each.client.post("/api/auth/login", json=wrong).status_code for each in (here, there, here, there, here)]
    assert statuses == [401, 401, 401, 401, 429]


async def test_panic_answers_while_every_stream_is_taken(database_url: str, redis_server_url: str, tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4 * STREAMS:
        pytest.skip("this machine allows too few open files")
    with serving(database_url, redis_server_url, tmp_path, LIVE_STREAMS=str(STREAMS)) as served:
        people = await logins(database_url, STREAMS // STREAMS_A_USER + 1)
        wanted = [people[number // STREAMS_A_USER] for number in range(STREAMS)]
        async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack, http_of(served) as client:
            streams: list[asyncio.StreamReader] = []
            for some in batched(wanted, 50):
                streams += await asyncio.gather(*(stack.enter_async_context(opened(served, token)) for _, token in some))
            assert sum(await asyncio.gather(*(hears(each, b"event: hello") for each in streams))) == STREAMS
            one_more = await client.get("/api/live", headers=bearer(people[-1][1]))
            assert (one_more.status_code, one_more.json()["code"]) == (503, "no_stream_free")
            panics = await asyncio.gather(
                *(client.post("/api/user/panic-button", headers=bearer(token)) for token in {token for _, token in wanted})
            )
            assert {reply.status_code for reply in panics} == {200}
            assert all(await asyncio.gather(*(hears(each, b"event: panic") for each in streams)))
            assert (await client.get("/health")).status_code == 200
        assert '"level": "error"' not in served.log.read_text()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def http_of(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.client.base_url, timeout=20, trust_env=False)


async def logins(database_url: str, number: int) -> list[tuple[UUID, str]]:
    """People with a login each, written as the site itself writes them, without hashing a password for each."""
    database, tokens, now = open_database(database_url), Tokens(SECRET), datetime.now(UTC)
    store = SqlLogins(database)
    people = []
    for index in range(number):
        user_id, login_id = uuid4(), uuid4()
        await store.add_user(NewUser(id=user_id, username=f"eve{index}", password_hash="-", created_at=now))
        await store.open(login_id, user_id, now, now + timedelta(hours=1))
        people.append((user_id, tokens.issue(user_id, login_id, now, now + timedelta(hours=1))[0]))
    await database.close()
    return people


@contextlib.asynccontextmanager
async def opened(served: Served, token: str) -> AsyncIterator[asyncio.StreamReader]:
    """A live stream on a bare socket, which costs the test less than a client of its own."""
    where = urlsplit(str(served.client.base_url))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"GET /api/live HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


async def hears(reader: asyncio.StreamReader, line: bytes) -> bool:
    """Reads on until a line comes; False where the stream ends first."""
    while found := await reader.readline():
        if found.strip() == line:
            return True
    return False
