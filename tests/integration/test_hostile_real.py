"""Real money's doors as they are deployed, orchestrator and engine as processes: other people's keys and codes, guesses, forms, rotation.

The exchange knows nobody's key here: what is tried is who may have a key sealed, opened, claimed and replaced, and what is left behind.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pyotp
import pytest
import redis

from deploy.servers import free_port
from engine.errors import SealBroken
from engine.keys import Seal, new_private_key, private_keys_of
from orchestrator.lifeline import CREDENTIALS
from orchestrator.store.audit import verify
from orchestrator.store.database import open_database
from shared.execution import SealedCredentials
from shared.wire import decode
from tests.integration.served import PASSWORD, PROJECT, Served, database_of, serving
from tests.integration.test_vault import dump_of
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("live-server")]

KEY, SECRET = "HOSTILEKEYq7" + "k" * 52, "HOSTILESECRET" + "s" * 51
OWN_KEY, OWN_SECRET = "OWNERSKEYx3" + "o" * 53, "OWNERSSECRETw" + "p" * 51
TOKEN = "e" * 40
STEP = 30
MOVES = [("PUT", "/api/user/api-key"), ("DELETE", "/api/user/api-key"), ("PATCH", "/api/settings"), ("DELETE", "/api/user/totp")]
BODIES: dict[str, Any] = {"/api/user/api-key": {"api_key": KEY, "api_secret": SECRET}, "/api/settings": {"mode": "REAL"}}


class Refusing(BaseHTTPRequestHandler):
    """An exchange that knows no key."""

    def do_GET(self) -> None:
        body = b'{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def an_exchange() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def an_engine(redis_url: str, port: int, log: Path, **settings: str) -> Iterator[None]:
    env = {**os.environ, "REDIS_URL": redis_url, "ENGINE_TOKEN": TOKEN, "ENGINE_PORT": str(port), "LOG_FORMAT": "json"}
    env |= {
        "BINANCE_WS_URL": "ws://127.0.0.1:9",
        "BINANCE_DRY_RUN": "false",
        **settings,
    }
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "engine.app"], env=env, cwd=PROJECT, stdout=out, stderr=out)
    try:
        wait_until(lambda: _answers(process, port, log), seconds=150, what="the engine's first answer")
        yield
    finally:
        process.terminate()
        process.wait(15)


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    return False


class Person:
    """Somebody with a login and, once enrolled, an authenticator whose codes are each taken once."""

    def __init__(self, served: Served) -> None:
        self.client = served.client
        self.headers = served.log_in()
        self.who = dict(served.person)
        self.client.cookies.clear()
        self.token = self.headers["Authorization"].removeprefix("Bearer ")
        self.id = UUID(self.ask("GET", "/api/user/me").json()["id"])
        self.totp: pyotp.TOTP | None = None
        self._step = 0

    def ask(self, method: str, path: str, body: Any = None, code: str | None = None, **headers: str) -> httpx.Response:
        given = self.headers | headers | ({} if code is None else {"X-TOTP": code})
        return self.client.request(method, path, json=body, headers=given)

    def enrol(self) -> None:
        self.totp = pyotp.TOTP(self.ask("POST", "/api/user/totp").json()["secret"])
        assert self.ask("POST", "/api/user/totp/confirm", {"code": self.code(-1)}).status_code == 200

    def code(self, drift: int = 0) -> str:
        assert self.totp is not None
        return self.totp.at(int(time.time()) + drift * STEP)

    def admin(self, database_url: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE users SET role = 'ADMIN' WHERE id = %s", (self.id,))
        told: Callable[[], bool] = lambda: self.ask("GET", "/api/admin/users").status_code == 200  # noqa: E731
        wait_until(told, seconds=10, what="the new role")


class Stage:
    def __init__(self, served: Served, database_url: str, redis_url: str, engine_port: int, exchange: str, folder: Path) -> None:
        self.served, self.url, self.redis_url, self.engine_port, self.folder = (
            served,
            database_url,
            redis_url,
            engine_port,
            folder,
        )
        self.first, self.second = new_private_key(), new_private_key()
        self.exchange, self.log = exchange, folder / "engine.log"

    def engine(self, seal_keys: str, **settings: str) -> contextlib.AbstractContextManager[None]:
        return an_engine(
            self.redis_url, self.engine_port, self.log, SEAL_PRIVATE_KEYS=seal_keys, BINANCE_REST_URL=self.exchange, **settings
        )

    def sealed(self) -> dict[UUID, SealedCredentials]:
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT user_id, key_id, sealed FROM exchange_keys").fetchall()
        return {row[0]: SealedCredentials(key_id=row[1], sealed=row[2]) for row in rows}

    def lifeline(self) -> Any:
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def rotate(self) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "DATABASE_URL": self.url, "REDIS_URL": self.redis_url, "ENGINE_TOKEN": TOKEN}
        env["ENGINE_URL"] = f"http://127.0.0.1:{self.engine_port}"
        command = [sys.executable, "-m", "deploy.cli", "keys", "rotate", "--data", str(self.folder)]
        return subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def stage(
    postgres_url: str, migrated_template: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder, port = tmp_path_factory.mktemp("hostile-real"), free_port()
    with (
        an_exchange() as exchange,
        database_of(postgres_url, migrated_template) as url,
        serving(url, redis_server_url, folder, ENGINE_URL=f"http://127.0.0.1:{port}", ENGINE_TOKEN=TOKEN) as served,
    ):
        yield Stage(served, url, redis_server_url, port, exchange, folder)


def test_without_a_right_code_nothing_that_needs_one_is_done(stage: Stage) -> None:
    ada, mallory = Person(stage.served), Person(stage.served)
    ada.enrol()
    mallory.enrol()
    for method, path in MOVES:
        for wrong in (None, "", "0", "-", "000000" * 20, "a" * 8_000):
            reply = ada.ask(method, path, BODIES.get(path), wrong)
            assert reply.status_code in (403, 409, 429), (method, path, reply.text)
    assert ada.id not in stage.sealed()
    assert ada.ask("GET", "/api/user/me").json()["totp_enabled"] is True
    stolen = ada.ask("PUT", "/api/user/api-key", BODIES["/api/user/api-key"], mallory.code())
    assert stolen.status_code in (403, 429), "another user's code is none"
    assert ada.ask("POST", "/api/auth/logout").status_code == 204


def test_guessing_codes_is_cut_short_and_a_replayed_one_is_none(stage: Stage) -> None:
    grace = Person(stage.served)
    grace.enrol()
    grace.client.post("/api/auth/login", json=grace.who | {"totp": grace.code()})
    grace.client.cookies.clear()
    replayed = grace.client.post("/api/auth/login", json=grace.who | {"totp": grace.code()})
    assert (replayed.status_code, replayed.json()["code"]) == (403, "totp_wrong")
    told = [grace.ask("DELETE", "/api/user/totp", code=f"{guess:06}").status_code for guess in range(40)]
    assert set(told) <= {403, 429}
    assert told.count(403) <= 12
    assert told[-1] == 429
    assert grace.ask("POST", "/api/user/panic-button").status_code == 200, "panic asks for no code"


def test_a_cookie_without_its_csrf_token_moves_nothing_and_a_header_is_judged_alone(stage: Stage) -> None:
    ada, mallory = Person(stage.served), Person(stage.served)
    moves = [*MOVES, ("POST", "/api/user/totp"), ("POST", "/api/user/totp/confirm"), ("POST", "/api/user/api-key/claim")]
    moves += [("POST", "/api/auth/logout-others"), ("POST", "/api/user/panic-button"), ("POST", "/api/user/stop")]
    cookie = {"Cookie": f"nt_session={ada.token}"}
    for method, path in moves:
        for csrf in ({}, {"X-CSRF-Token": "x" * 43}, {"X-CSRF-Token": "", "Sec-Fetch-Site": "cross-site"}):
            reply = ada.client.request(method, path, json=BODIES.get(path, {}), headers=cookie | csrf)
            assert (reply.status_code, reply.json()["code"]) == (403, "csrf"), (method, path)
        form = ada.client.request(method, path, data={"csrf_token": "x"}, headers=cookie)
        assert form.status_code == 415, (method, path)
        forged = ada.client.request(method, path, json=BODIES.get(path, {}), headers=cookie | {"Authorization": "Bearer x.y.z"})
        assert forged.status_code == 401, (method, path)
    mixed = ada.client.get("/api/user/me", headers=cookie | mallory.headers)
    assert mixed.json()["id"] == str(mallory.id), "the header, not the cookie"


def test_no_form_of_the_dashboard_is_taken_from_elsewhere_or_for_somebody_else(stage: Stage) -> None:
    ada, mallory = Person(stage.served), Person(stage.served)
    login = mallory.client.post("/api/auth/login", json=mallory.who)
    mallory.client.cookies.clear()
    own_csrf = login.json()["csrf_token"]
    forms = ["settings", "settings/key", "settings/key/delete", "settings/key/claim", "settings/totp", "settings/totp/confirm"]
    forms += ["settings/totp/end", "settings/mode", "stop", "panic", "auto-trading", "look", "admin/scan"]
    for name in forms:
        for csrf in ("", "x" * 43, own_csrf):
            data = {"csrf_token": csrf, "user_id": str(mallory.id), "mode": "REAL", "code": "123456", "totp": "123456"}
            reply = ada.client.post(f"/dashboard/{name}", data=data, headers={"Cookie": f"nt_session={ada.token}"})
            assert reply.status_code == 403, (name, csrf, reply.status_code)
    mine = {"Cookie": f"nt_session={login.json()['access_token']}", "Accept": "text/html"}
    for name in ("positions/{}/close", "positions/{}/protect", "approvals/{}/approve", "approvals/{}/decline"):
        data = {"csrf_token": own_csrf, "token": "t", "stop_loss": "1"}
        reply = ada.client.post(f"/dashboard/{name.format(uuid4())}", data=data, headers=mine)
        assert reply.status_code in (404, 303), (name, reply.status_code)
        assert reply.status_code == 404 or "/dashboard" in reply.headers["location"]
    for name in ("settings/key/claim", "admin/scan"):
        assert ada.client.post(f"/dashboard/{name}", data={"csrf_token": own_csrf}, headers=mine).status_code == 403


def test_keys_are_claimed_once_by_an_admin_sealed_for_one_and_rotated_without_a_loss(stage: Stage) -> None:
    ada, owner, other = Person(stage.served), Person(stage.served), Person(stage.served)
    owner.admin(stage.url)
    other.admin(stage.url)
    with stage.engine(stage.first):
        nothing = owner.ask("POST", "/api/user/api-key/claim")
        assert (nothing.status_code, nothing.json()["code"]) == (409, "no_credentials"), "the environment has no pair"
        assert ada.ask("PUT", "/api/user/api-key", {"api_key": KEY, "api_secret": SECRET}).status_code == 204
    with stage.engine(f"{stage.second},{stage.first}", BINANCE_API_KEY=OWN_KEY, BINANCE_API_SECRET=OWN_SECRET):
        assert ada.ask("POST", "/api/user/api-key/claim").status_code == 403, "no admin"
        assert owner.ask("POST", "/api/user/api-key/claim").status_code == 204
        late = other.ask("POST", "/api/user/api-key/claim")
        assert (late.status_code, late.json()["code"]) == (409, "key_claimed")
        assert other.id not in stage.sealed()
        old = stage.sealed()[ada.id]
        with stage.lifeline() as kept:
            kept.hset(CREDENTIALS, str(ada.id), f'{{"key_id":"{old.key_id}","sealed":"{old.sealed}"}}')
            kept.hset(CREDENTIALS, str(uuid4()), f'{{"key_id":"{old.key_id}","sealed":"{old.sealed}"}}')
            done = stage.rotate()
            assert done.returncode == 0, done.stderr
            assert "1 of 2 exchange keys were sealed anew, 0 do not open" in done.stdout
            copies = {UUID(name): decode(text.encode(), SealedCredentials) for name, text in kept.hgetall(CREDENTIALS).items()}
    alone = Seal(private_keys_of(stage.second))
    rows = stage.sealed()
    assert copies == {ada.id: rows[ada.id]}, "the copy for panic has the new seal, and nobody's is forgotten"
    assert alone.open(str(ada.id), rows[ada.id]).api_secret == SECRET
    assert alone.open(str(owner.id), rows[owner.id]).api_secret == OWN_SECRET
    with pytest.raises(SealBroken):
        alone.open(str(other.id), rows[owner.id])
    with pytest.raises(SealBroken):
        alone.open(str(ada.id), old)


def test_nothing_of_all_this_left_a_secret_behind_and_the_audit_has_it_soundly(stage: Stage) -> None:
    with stage.lifeline() as kept:
        values = "\n".join(
            f"{name} {kept.dump(name)!r} {kept.hgetall(name) if kept.type(name) == 'hash' else ''}" for name in kept.scan_iter()
        )
    logs = stage.log.read_text() + stage.served.log.read_text()
    everything = "\n".join([dump_of(stage.url), values, logs, stage.served.client.get("/metrics").text])
    for text in (KEY, SECRET, OWN_KEY, OWN_SECRET, PASSWORD, TOKEN, stage.first, stage.second):
        aligned = [b64encode(b"\0" * shift + text.encode()).decode()[4:-4] for shift in range(3)]
        assert not [form for form in (text, text.encode().hex(), *aligned) if form in everything]

    async def walk() -> list[Any]:
        database = open_database(stage.url)
        try:
            return (await verify(database)).broken
        finally:
            await database.close()

    assert asyncio.run(walk()) == []
    with psycopg.connect(stage.url) as connection:
        kinds = {kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM audit_entries")}
        bodies = " ".join(body for (body,) in connection.execute("SELECT body FROM audit_entries WHERE kind = 'keys.changed'"))
    assert {"keys.changed", "factor.changed", "login.opened", "login.ended", "login.refused"} - kinds == set(), kinds
    assert "sealed anew" in bodies
