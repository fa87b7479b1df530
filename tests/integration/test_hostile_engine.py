"""Hostile clients of the engine: every door without its token, with bodies that no caller of ours sends, with another user's keys."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from engine.ports import KeyPair
from engine.routes import schema
from tests.unit.engine.test_execution_routes import CLOSE, ENTRY
from tests.unit.engine.whole_engine import BEARER, DOORS, SealedAccounts, new_seal, whole_engine

PATHS = [
    (method, schema.public(path).replace("{client_order_id}", "e-1"))
    for handler in DOORS
    for path in sorted(handler.paths)
    for method in sorted(handler.http_methods)
    if method in ("GET", "POST")
]
POSTS = [path for method, path in PATHS if method == "POST"]
WRONG_TOKENS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer righ"},
    {"Authorization": "bearer right"},
    {"Authorization": "Basic cmlnaHQ="},
    {"Cookie": "Authorization=Bearer right"},
    {"X-Authorization": "Bearer right"},
]
MALFORMED = {
    "no JSON": b"{",
    "no UTF-8": b'{"account": "\xff\xfe"}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e999",
    "nested without end": b"[" * 100_000,
    "nested objects without end": b'{"account":' * 50_000,
    "an unknown field": b'{"is_admin": true}',
    "a book nested in a book": b'{"account": {"mode": "PAPER", "book": {"mode": "PAPER", "book": {}}}}',
    "another kind of account": b'{"account": {"mode": "ADMIN"}}',
    "NaN": b'{"account": {"mode": "PAPER", "book": {"balance": NaN}}}',
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    with TestClient(whole_engine(), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_no_door_but_health_opens_with_a_token_that_is_not_ours(client: TestClient[Litestar], method: str, path: str) -> None:
    for headers in WRONG_TOKENS:
        reply = client.request(method, path, headers=headers)
        assert reply.status_code == (200 if path == "/health" else 401), (headers, reply.text)
        assert path == "/health" or reply.json()["code"] == "unauthorized"


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("path", POSTS)
def test_a_malformed_body_is_a_bad_request_everywhere(client: TestClient[Litestar], path: str, name: str) -> None:
    reply = client.post(path, content=MALFORMED[name], headers=BEARER)
    assert reply.status_code == 400, reply.text
    assert reply.json()["code"] == "bad_request"
    assert "Traceback" not in reply.text


@pytest.mark.parametrize("path", POSTS)
def test_a_body_beyond_all_measure_is_refused(client: TestClient[Litestar], path: str) -> None:
    reply = client.post(path, content=b" " * (11 * 1024 * 1024), headers=BEARER)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_an_order_id_cannot_climb_out_of_its_path(client: TestClient[Litestar]) -> None:
    for name in ("..%2f..%2fkeys", "%00", "a" * 37, "e-1%0d%0aX: y", "%ef%bf%bd"):
        assert client.post(f"/execute/orders/{name}", content=b"{}", headers=BEARER).status_code in (400, 404), name


PAIR = KeyPair(api_key="alice-key", api_secret="alice-secret")
WITH_ACCOUNT: dict[str, dict[str, Any]] = {
    "/execute/entry": {name: value for name, value in ENTRY.items() if name != "account"},
    "/execute/close": {name: value for name, value in CLOSE.items() if name != "account"},
    "/execute/flatten": {"client_order_prefix": "nt-c-1"},
    "/execute/protect": {"client_order_id": "p-1", "symbol": "BTCUSDT", "side": "LONG", "stop_loss": "59400"},
    "/execute/balance": {},
    "/execute/positions": {},
    "/execute/orders/e-1": {"symbol": "BTCUSDT"},
    "/execute/truth": {"symbols": ["BTCUSDT"], "since": "2026-01-01T00:00:00Z"},
    "/execute/guards": {"symbols": ["BTCUSDT"]},
    "/execute/cancel": {"symbol": "BTCUSDT", "client_order_ids": ["nt-s-1"]},
    "/execute/canary": {},
    "/execute/events": {},
    "/keys/check": {},
}


def test_every_door_that_takes_an_account_is_tried() -> None:
    elsewhere = {"/analyze", "/marks", "/keys/reseal", "/keys/claim"}
    assert set(POSTS) == set(WITH_ACCOUNT) | elsewhere


@pytest.mark.parametrize("path", WITH_ACCOUNT)
@pytest.mark.parametrize("what", ["another user", "no user", "another key", "damaged", "no seal at all", "nothing"])
def test_keys_that_were_sealed_for_somebody_else_open_nothing(path: str, what: str) -> None:
    seal = new_seal()
    accounts = SealedAccounts(seal)
    sealed = msgspec.to_builtins(seal.seal("alice", PAIR))
    broken = bytearray(base64.b64decode(sealed["sealed"]))
    broken[-1] ^= 1
    users = {"another user": "mallory", "no user": ""}
    credentials: dict[str, Any] = {
        "another key": msgspec.to_builtins(new_seal().seal("alice", PAIR)),
        "damaged": sealed | {"sealed": base64.b64encode(bytes(broken)).decode()},
        "no seal at all": {"key_id": sealed["key_id"], "sealed": "not base64!"},
        "nothing": None,
    }
    account = {
        "mode": "REAL",
        "dry_run": False,
        "user_id": users.get(what, "alice"),
        "credentials": credentials.get(what, sealed),
    }
    with TestClient(whole_engine(accounts, seal), raise_server_exceptions=False) as client:
        reply = client.post(path, json=WITH_ACCOUNT[path] | {"account": account}, headers=BEARER)
    assert accounts.opened == []
    assert accounts.exchange.calls == []
    assert reply.status_code < 500, reply.text
    assert "alice-key" not in reply.text
    assert "alice-secret" not in reply.text
    said = reply.text
    assert "seal_broken" in said or "no_credentials" in said or '"UNKNOWN"' in said, said


def test_a_key_is_not_sealed_anew_for_somebody_else() -> None:
    seal = new_seal()
    sealed = msgspec.to_builtins(seal.seal("alice", PAIR))
    with TestClient(whole_engine(SealedAccounts(seal), seal), raise_server_exceptions=False) as client:
        reply = client.post("/keys/reseal", json={"user_id": "mallory", "credentials": sealed}, headers=BEARER)
        assert (reply.status_code, reply.json()["code"]) == (403, "seal_broken")
        assert client.post("/keys/reseal", json={"user_id": "alice", "credentials": sealed}, headers=BEARER).status_code == 200
