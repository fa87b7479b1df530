"""The real process: granian, PostgreSQL, Redis; a login, a live stream, and an end by SIGTERM with streams open."""

import contextlib
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis

from tests.integration.served import Served, database_of, serving, stream, until
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("live-server")]


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    with database_of(postgres_url, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def served(shared_database_url: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(shared_database_url, redis_server_url, tmp_path_factory.mktemp("served")) as running:
        yield running


def test_a_stream_says_hello_tells_what_happens_and_ends_with_the_login(served: Served, redis_server_url: str) -> None:
    headers = served.log_in()
    user_id = served.client.get("/api/user/me", headers=headers).json()["id"]
    with stream(served, headers) as events:
        kind, hello, _ = next(events)
        assert kind == "hello"
        assert hello["boot"]
        served.client.patch("/api/settings", headers=headers, json={"leverage": "20"})
        _, changed, event_id = until(events, "settings")
        assert changed == {"version": 2}
        assert event_id.startswith(hello["boot"] + "-")
        assert until(events, "balance")[1]["total"] == "10000"
        served.client.post("/api/auth/logout", headers=headers)
        assert until(events, "bye")[1]["reason"] == "signed_out"
        assert list(events) == []
    assert served.client.get("/api/user/me", headers=headers).status_code == 401
    with redis.Redis.from_url(redis_server_url) as client:
        assert client.xlen(f"live:log:{user_id}") >= 2


def test_a_stream_that_comes_back_gets_what_it_missed(served: Served) -> None:
    headers = served.log_in()
    served.client.patch("/api/settings", headers=headers, json={"leverage": "20"})
    with stream(served, headers) as events:
        hello = next(events)[1]
    last = f"{hello['boot']}-{hello['rev']}"
    served.client.patch("/api/settings", headers=headers, json={"leverage": "30"})
    with stream(served, headers, last) as events:
        assert next(events)[1]["resumed"] is True
        assert until(events, "settings")[1] == {"version": 3}
    for strange in (f"{hello['boot']}-99999", "anotherboot-1", "nonsense"):
        with stream(served, headers, strange) as events:
            assert next(events)[1]["resumed"] is False
            assert until(events, "reset")[1]["reason"] == "gap"


def test_the_server_ends_within_seconds_while_streams_are_open(database_url: str, redis_server_url: str, tmp_path: Path) -> None:
    with serving(database_url, redis_server_url, tmp_path) as served:
        _ends_within_seconds(served)


def _ends_within_seconds(served: Served) -> None:
    headers = served.log_in()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stream(served, headers)) for _ in range(5)]
        for events in streams:
            assert next(events)[0] == "hello"
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert [until(events, "bye")[1]["reason"] for events in streams] == ["shutdown"] * 5
        served.process.wait(6)
        assert time.monotonic() - began < 6
    assert served.process.returncode == 0
    assert '"level": "error"' not in served.log.read_text()


def test_only_so_many_streams_a_user(served: Served) -> None:
    headers = served.log_in()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stream(served, headers)) for _ in range(9)]
        assert until(streams[0], "bye")[1]["reason"] == "too_many"
        assert next(streams[8])[0] == "hello"


def test_wrong_passwords_delay_one_name_from_one_address_only(served: Served) -> None:
    served.log_in()
    wrong = served.person | {"password": "wrong password"}
    statuses = [served.client.post("/api/auth/login", json=wrong).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 401, 429]
    delayed = served.client.post("/api/auth/login", json=served.person)
    assert delayed.json()["code"] == "too_many_attempts"
    assert int(delayed.headers["retry-after"]) >= 1
    assert served.client.post("/api/auth/login", json=wrong | {"username": "bob"}).status_code == 401
    reply = wait_until(lambda: _logged_in(served), seconds=5, what="the delay to end")
    assert reply


def test_readiness_names_what_is_missing_and_how_old_the_rest_is(served: Served) -> None:
    reply = served.client.get("/ready")
    assert reply.status_code == 503
    sources: dict[str, Any] = reply.json()["sources"]
    assert {name: source["ok"] for name, source in sources.items()} == {
        "postgres": True, "redis": True, "engine": False, "worker": False, "watch": False, "scan": False, "feed": False, "exchange": False,
        "truth": True,
    }  # fmt: skip
    assert sources["postgres"]["age_seconds"] < 1
    assert sources["engine"]["age_seconds"] is None
    assert b"nt_source_ok" in served.client.get("/metrics").content


def test_a_login_taken_away_in_the_database_ends_within_seconds(served: Served, shared_database_url: str) -> None:
    headers = served.log_in()
    assert served.client.get("/api/user/me", headers=headers).status_code == 200
    with psycopg.connect(shared_database_url) as connection:
        connection.execute("UPDATE logins SET revoked_at = now()")
    wait_until(lambda: served.client.get("/api/user/me", headers=headers).status_code == 401, seconds=4, what="the login to end")


def test_the_cookie_of_the_dashboard_is_out_of_reach_of_scripts(served: Served) -> None:
    served.log_in()
    cookies = [
        value
        for name, value in served.client.post("/api/auth/login", json=served.person).headers.multi_items()
        if name == "set-cookie"
    ]
    session = next(cookie for cookie in cookies if cookie.startswith("nt_session="))
    assert "HttpOnly" in session
    assert "samesite=strict" in session.lower()
    page = served.client.get("/api/user/me", headers={"X-Trace-Id": str(uuid4())})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-store"


def _logged_in(served: Served) -> bool:
    return served.client.post("/api/auth/login", json=served.person).status_code == 200


def test_a_ledger_of_five_thousand_entries_adds_up_whole_and_page_by_page(served: Served, shared_database_url: str) -> None:
    headers = served.log_in()
    user_id = served.client.get("/api/user/me", headers=headers).json()["id"]
    with psycopg.connect(shared_database_url) as connection:
        connection.execute(
            "INSERT INTO ledger_entries (user_id, mode, at, kind, amount, balance_after, source)"
            " SELECT %s, 'PAPER', now() + n * interval '1 second', 'FUNDING', 0.00000001 * n - 0.01, 10000 + 0.00000001 * n * (n + 1) / 2 - 0.01 * n,"
            " 'test:' || n FROM generate_series(1, 5000) AS n",
            [user_id],
        )
    whole = served.client.get("/api/user/ledger", headers=headers).json()
    assert (len(whole["entries"]), whole["total"]) == (5001, 5001)
    balance = Decimal(0)
    for entry in reversed(whole["entries"]):
        balance += Decimal(entry["amount"])
        assert Decimal(entry["balance_after"]) == balance
    assert Decimal(whole["balance"]) == balance
    pages = [
        served.client.get(f"/api/user/ledger?limit=999&offset={start}", headers=headers).json() for start in range(0, 5001, 999)
    ]
    assert [entry for page in pages for entry in page["entries"]] == whole["entries"]
    assert served.client.get("/api/user/stats", headers=headers).json()["equity"] == whole["balance"]
    points = served.client.get("/api/user/equity?period=all", headers=headers).json()["points"]
    assert points[-1]["value"] == whole["balance"]
    assert len(points) < 300
