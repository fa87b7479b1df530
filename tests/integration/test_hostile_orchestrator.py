"""Hostile clients of the orchestrator as it is deployed, on PostgreSQL and Redis: a stranger with a login and everybody else's ids."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import psycopg
import psycopg.sql
import pytest
from litestar.routes import HTTPRoute

from orchestrator.store.audit import verify
from orchestrator.store.database import open_database
from orchestrator.store.tables import Base, PanicReceipt
from orchestrator.web.pages import pages_router
from orchestrator.web.site import create_site
from tests.browser.scripted import ScriptedEngine
from tests.integration import rows
from tests.integration.served import PASSWORD, SECRET, Served, database_of, serving
from tests.polling import wait_until
from tests.unit.orchestrator.web_fakes import World

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("live-server")]

OWNED = ("users", "positions", "orders", "claims", "ledger_entries", "panic_receipts", "settings_history")
FORBIDDEN_FIELDS: dict[str, Any] = {
    "id": str(uuid4()),
    "user_id": str(uuid4()),
    "role": "ADMIN",
    "paper_balance": "1000000",
    "real_balance": "1000000",
    "real_balance_cache": "1000000",
    "password_hash": "x",
    "settings_version": 99,
    "has_api_key": True,
    "totp_enabled": False,
    "margin": "0",
    "entry_price": "1",
    "pnl": "1000000",
    "status": "CLOSED_WIN",
    "size": "0",
    "__class__": "x",
}
BODIES: dict[str, dict[str, Any]] = {
    "/api/auth/register": {"username": "newcomer", "password": PASSWORD},
    "/api/auth/login": {"username": "newcomer", "password": PASSWORD},
    "/api/settings": {"leverage": "20"},
    "/api/user/stop": {"positions": "keep"},
    "/api/user/positions/{position_id}": {"stop_loss": "1"},
    "/api/user/api-key": {"api_key": "k" * 64, "api_secret": "s" * 64},
    "/api/user/totp/confirm": {"code": "123456"},
}
PROPOSED: dict[str, Any] = {"signal_price": Decimal(100), "stop_loss": Decimal(95), "take_profit": Decimal(110)}
FORMS: dict[str, dict[str, str]] = {
    "/dashboard/positions/{position_id}/protect": {"stop_loss": "96", "take_profit": "120"},
    "/dashboard/positions/{position_id}/close": {},
    "/dashboard/approvals/{approval_id}/approve": {},
    "/dashboard/approvals/{approval_id}/decline": {},
}
"""Every form of the dashboard that names a row, in the order in which its owner can send them."""


class Stage:
    """A served site, an owner with rows of every kind, a stranger; the owner is never logged in where it is not said."""

    def __init__(self, served: Served, database_url: str) -> None:
        self.served, self.client, self.url = served, served.client, database_url
        self.owner_headers = served.log_in()
        self.owner = dict(served.person)
        self.owner_id = UUID(self.client.get("/api/user/me", headers=self.owner_headers).json()["id"])
        self.ids = asyncio.run(self._rows())
        self.headers = served.log_in()
        self.schema = self.client.get("/schema").json()

    async def _rows(self) -> dict[str, str]:
        database = open_database(self.url)
        try:
            signal_id, soon = await rows.signal(database), datetime.now(UTC) + timedelta(hours=1)
            position_id = await rows.position(database, self.owner_id, signal_id=signal_id)
            entry_id = await rows.order(database, self.owner_id, signal_id, "FILLED", position_id=position_id)
            await rows.opening_fill(database, self.owner_id, position_id, entry_id)
            approval_id = await rows.order(database, self.owner_id, signal_id, "AWAITING_APPROVAL", expires_at=soon, **PROPOSED)
            receipt_id, now = uuid4(), datetime.now(UTC)
            await rows.put(
                database,
                PanicReceipt,
                id=receipt_id,
                user_id=self.owner_id,
                started_at=now,
                finished_at=now,
                phase="DONE",
                results=[],
            )
        finally:
            await database.close()
        return {"position_id": str(position_id), "approval_id": str(approval_id), "receipt_id": str(receipt_id)}

    def operations(self) -> list[tuple[str, str]]:
        return [
            (method.upper(), path)
            for path, item in self.schema["paths"].items()
            for method in item
            if path.startswith("/api/") and path != "/api/live"
        ]

    def owners_rows(self) -> dict[str, list[Any]]:
        """Everything of the owner, as text."""
        with psycopg.connect(self.url) as connection:
            return {name: self._rows_of(connection, name) for name in OWNED}

    def _rows_of(self, connection: psycopg.Connection[Any], name: str) -> list[Any]:
        key = "id" if name == "users" else "user_id"
        assert name in Base.metadata.tables
        query = psycopg.sql.SQL("SELECT t::text FROM {} t WHERE {} = %s ORDER BY 1")
        return connection.execute(
            query.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(key)), (self.owner_id,)
        ).fetchall()


@contextlib.contextmanager
def an_engine() -> Iterator[str]:
    """One that fills, moves and closes what it is asked to, in a loop of its own."""
    loop, engine = asyncio.new_event_loop(), ScriptedEngine(datetime.now(UTC), 1.0)
    thread, standing = Thread(target=loop.run_forever), engine.serve()
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(standing.__aenter__(), loop).result(10)
        yield engine.url
        asyncio.run_coroutine_threadsafe(standing.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def stage(
    postgres_url: str, migrated_template: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with (
        database_of(postgres_url, migrated_template) as url,
        an_engine() as engine_url,
        serving(url, redis_server_url, folder, ENGINE_URL=engine_url) as served,
    ):
        yield Stage(served, url)


def as_page(headers: dict[str, str]) -> dict[str, str]:
    """A browser's request, by the cookie of a login."""
    return {"Cookie": f"nt_session={headers['Authorization'][7:]}", "Accept": "text/html"}


def test_a_stranger_reaches_nothing_of_the_owner_by_any_route(stage: Stage) -> None:
    before = stage.owners_rows()
    assert all(before[name] for name in ("users", "positions", "orders", "ledger_entries", "panic_receipts"))
    tried = 0
    for method, path in stage.operations():
        if "{position_id}" not in path and "{approval_id}" not in path:
            continue
        reply = stage.client.request(method, path.format(**stage.ids), headers=stage.headers, json=BODIES.get(path))
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found"), (method, path, reply.text)
        tried += 1
    assert tried >= 5
    for page in (f"/dashboard/positions/{stage.ids['position_id']}", f"/dashboard/panic/{stage.ids['receipt_id']}"):
        assert stage.client.get(page, headers=as_page(stage.headers)).status_code == 404, page
        assert stage.client.get(page, headers=as_page(stage.owner_headers)).status_code == 200, page
    assert stage.owners_rows() == before


def forms_that_name_a_row() -> set[str]:
    site = create_site(World().open_doors, pages=[pages_router])
    return {
        route.path_format
        for route in site.routes
        if isinstance(route, HTTPRoute) and "POST" in route.methods and route.path.startswith("/dashboard/") and "{" in route.path
    }


def form_sender(stage: Stage, person: dict[str, str]) -> Callable[[str], httpx.Response]:
    """Sends forms as a page of that person's own login does, with its cookie and its CSRF token."""
    login = stage.client.post("/api/auth/login", json=person).json()
    stage.client.cookies.clear()
    headers = {"Cookie": f"nt_session={login['access_token']}", "Accept": "text/html"}

    def send(path: str) -> httpx.Response:
        data = FORMS[path] | {"csrf_token": login["csrf_token"]}
        return stage.client.post(path.format(**stage.ids), headers=headers, data=data)

    return send


def test_a_stranger_moves_nothing_of_the_owner_by_any_form(stage: Stage) -> None:
    assert forms_that_name_a_row() == set(FORMS)
    stranger, owner = form_sender(stage, stage.served.person), form_sender(stage, stage.owner)
    before = stage.owners_rows()
    for path in FORMS:
        assert stranger(path).status_code == 404, path
    assert stage.owners_rows() == before
    answers = [owner(path) for path in FORMS]
    assert [answer.status_code for answer in answers] == [303, 303, 303, 409], (
        "its owner's do, and what is approved cannot be declined"
    )
    after = stage.owners_rows()
    assert [name for name in ("positions", "orders", "ledger_entries") if after[name] == before[name]] == []


def test_no_reading_tells_a_stranger_of_the_owner(stage: Stage) -> None:
    told = [str(stage.owner_id), stage.owner["username"], *stage.ids.values()]
    for method, path in stage.operations():
        if method == "GET" and "{" not in path and not path.startswith("/api/admin/"):
            for query in ("", f"?user_id={stage.owner_id}", "?limit=100000&offset=0"):
                text = stage.client.get(path + query, headers=stage.headers).text
                assert not [name for name in told if name in text], path


def test_a_stranger_is_no_admin_whatever_the_request_says(stage: Stage) -> None:
    for method, path in stage.operations():
        if path.startswith("/api/admin/"):
            for extra in ({}, {"X-Role": "ADMIN"}, {"X-User-Id": str(stage.owner_id)}, {"X-HTTP-Method-Override": "GET"}):
                reply = stage.client.request(method, f"{path}?role=ADMIN", headers=stage.headers | extra)
                assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), path


def test_no_body_carries_what_it_may_not_set(stage: Stage) -> None:
    before = stage.owners_rows()
    tried = 0
    for method, path in stage.operations():
        if "requestBody" not in stage.schema["paths"][path][method.lower()]:
            continue
        for name, value in FORBIDDEN_FIELDS.items():
            body = BODIES.get(path, {}) | {name: value}
            reply = stage.client.request(method, path.format(**stage.ids), headers=stage.owner_headers, json=body)
            assert reply.status_code == 400, (method, path, name, reply.text)
            tried += 1
    assert tried >= 5 * len(FORBIDDEN_FIELDS)
    assert stage.owners_rows() == before


def test_endless_nesting_and_oversized_bodies_are_told_so(stage: Stage) -> None:
    for method, path in stage.operations():
        if "requestBody" not in stage.schema["paths"][path][method.lower()]:
            continue
        headers = stage.owner_headers | {"Content-Type": "application/json"}
        for body in (b'{"username":' * 5_000, b"[" * 60_000, b"\xff\xfe", b"null", b'"x"', b"{"):
            reply = stage.client.request(method, path.format(**stage.ids), headers=headers, content=body)
            assert 400 <= reply.status_code < 429, (path, body[:12], reply.status_code, reply.text)
        reply = stage.client.request(method, path.format(**stage.ids), headers=headers, content=b" " * 70_000)
        assert reply.status_code == 413, (path, reply.text)


def _forged(stage: Stage) -> dict[str, str]:
    """Tokens that are none, each as an attacker would make it of a right one of the stranger's."""
    right = stage.headers["Authorization"].removeprefix("Bearer ")
    head, payload, signature = right.split(".")
    claims: dict[str, Any] = jwt.decode(right, options={"verify_signature": False})
    mine = stage.owner_headers["Authorization"].split(".")[1]

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    soon = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    return {
        "alg none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg None, signed": f"{part({'alg': 'None', 'typ': 'JWT'})}.{payload}.{signature}",
        "no signature": f"{head}.{payload}.",
        "the owner's claims under the stranger's signature": f"{head}.{mine}.{signature}",
        "an admin's role": f"{head}.{part(claims | {'role': 'ADMIN'})}.{signature}",
        "another secret": jwt.encode(claims, "another secret that is as long as it takes", algorithm="HS256"),
        "an empty secret": jwt.encode(claims, "", algorithm="HS256") if _empty_key_is_possible() else "x.y.z",
        "HS512 of our secret": jwt.encode(claims, SECRET * 2, algorithm="HS512"),
        "RS256 by name": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{payload}.{signature}",
        "a key in the header": jwt.encode(claims, "k" * 32, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": "a2s"}}),
        "a key by address": jwt.encode(
            claims, "k" * 32, algorithm="HS256", headers={"jku": "http://127.0.0.1/k", "kid": "../../k"}
        ),
        "no jti": jwt.encode({name: value for name, value in claims.items() if name != "jti"}, SECRET, algorithm="HS256"),
        "no sub": jwt.encode({name: value for name, value in claims.items() if name != "sub"}, SECRET, algorithm="HS256"),
        "no end": jwt.encode({name: value for name, value in claims.items() if name != "exp"}, SECRET, algorithm="HS256"),
        "over": jwt.encode(claims | {"exp": claims["iat"] - 1}, SECRET, algorithm="HS256"),
        "a login that never was": jwt.encode(claims | {"jti": str(uuid4()), "exp": soon}, SECRET, algorithm="HS256"),
        "the stranger's login, the owner's name": jwt.encode(claims | {"sub": str(stage.owner_id)}, SECRET, algorithm="HS256"),
        "no UUIDs": jwt.encode(claims | {"sub": "1 OR 1=1", "jti": "x"}, SECRET, algorithm="HS256"),
        "a flipped bit": right[:-2] + ("A" if right[-2] != "A" else "B") + right[-1],
        "nothing": ".",
        "a kilometre": "a" * 6_000,
    }


def _empty_key_is_possible() -> bool:
    try:
        jwt.encode({}, "", algorithm="HS256")
    except (jwt.PyJWTError, Warning):
        return False
    return True


def test_no_forged_token_opens_any_route(stage: Stage) -> None:
    closed = [(method, path) for method, path in stage.operations() if path not in ("/api/auth/register", "/api/auth/login")]
    before = stage.owners_rows()
    for name, token in _forged(stage).items():
        for method, path in closed:
            reply = stage.client.request(
                method, path.replace("{", "").replace("}", ""), headers={"Authorization": f"Bearer {token}"}
            )
            if "{" not in path:
                assert reply.status_code == 401, (name, method, path, reply.status_code)
        cookie = stage.client.get("/api/user/me", headers={"Cookie": f"nt_session={token}"})
        assert cookie.status_code == 401, name
    assert stage.client.get("/api/user/me", headers=stage.headers).json()["username"] == stage.served.person["username"]
    assert stage.owners_rows() == before


def test_another_logins_csrf_token_is_none(stage: Stage) -> None:
    bearer = stage.headers["Authorization"].removeprefix("Bearer ")
    cookie = {"Cookie": f"nt_session={bearer}"}
    login = stage.client.post("/api/auth/login", json=stage.owner, headers={"X-Forwarded-For": "198.51.100.9"})
    stage.client.cookies.clear()
    others = login.json()["csrf_token"]
    for csrf in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": others}, {"X-CSRF-Token": "x" * 43}):
        reply = stage.client.post("/api/user/panic-button", headers=cookie | csrf)
        assert (reply.status_code, reply.json()["code"]) == (403, "csrf")


def test_brute_force_is_slowed_and_the_victim_still_gets_in(stage: Stage) -> None:
    attacker, victim = {"X-Forwarded-For": "203.0.113.66"}, {"X-Forwarded-For": "198.51.100.7"}
    wrong = {"username": stage.owner["username"], "password": "a wrong password"}

    def attempt() -> int:
        reply = stage.client.post("/api/auth/login", json=wrong, headers=attacker)
        if reply.status_code == 429:
            waits.append(int(reply.headers["retry-after"]))
        return reply.status_code

    waits: list[int] = []
    while attempt() == 401:
        pass
    first = waits[-1]
    wait_until(lambda: attempt() == 401, seconds=10, what="the first delay to pass")
    assert attempt() == 429
    assert waits[-1] > first, "the delay grows"
    right = stage.client.post("/api/auth/login", json=stage.owner, headers=attacker)
    assert right.status_code == 429, "the right password does not jump the queue from there"
    assert stage.client.get("/api/user/me", headers=stage.owner_headers).status_code == 200
    assert stage.client.post("/api/auth/login", json=stage.owner, headers=victim).status_code == 200
    stage.client.cookies.clear()


def test_what_the_attackers_did_stands_in_a_sound_audit(stage: Stage) -> None:
    with psycopg.connect(stage.url) as connection:
        refused = connection.execute(
            "SELECT body FROM audit_entries WHERE chain = %s AND kind = 'login.refused'", (str(stage.owner_id),)
        ).fetchall()
    assert ('{"address":"203.0.113.66"}',) in refused

    async def walk() -> list[Any]:
        database = open_database(stage.url)
        try:
            return (await verify(database)).broken
        finally:
            await database.close()

    assert asyncio.run(walk()) == []
