"""Registering and logging in: what is refused, what delays, and how long a login lives."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from orchestrator.ports import NewUser
from orchestrator.web.auth import LOGIN_LIFE, SESSION_SECONDS, Viewer
from orchestrator.web.security import CSRF_COOKIE, CSRF_FIELD, CSRF_HEADER, PRE_COOKIE, SESSION_COOKIE
from tests.unit.orchestrator.web_fakes import ADDRESS, PASSWORD, SECRET, World, client_of

type Client = httpx.AsyncClient


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with client_of(world) as opened:
        yield opened


async def register(client: Client, name: str = "ada", password: str = PASSWORD) -> Any:
    return await client.post("/api/auth/register", json={"username": name, "password": password})


async def log_in(client: Client, name: str = "ada", password: str = PASSWORD) -> Any:
    return await client.post("/api/auth/login", json={"username": name, "password": password})


async def test_a_new_user_is_on_paper_with_ten_thousand_and_no_auto_trading(client: Client) -> None:
    reply = await register(client)
    assert reply.status_code == 201
    assert reply.json() | {"id": ""} == {"id": "", "username": "ada", "role": "USER", "mode": "PAPER"}
    token = (await log_in(client)).json()["access_token"]
    me = (await client.get("/api/user/me", headers={"Authorization": f"Bearer {token}"})).json()
    assert me["paper_balance"] == "10000"
    assert me["auto_trade_enabled"] is False
    assert (me["real_balance"], me["real_balance_status"]) == (None, "none")


async def test_nobody_registers_as_admin(client: Client) -> None:
    reply = await client.post("/api/auth/register", json={"username": "ada", "password": PASSWORD, "role": "ADMIN"})
    assert reply.status_code == 400
    assert reply.json()["fields"] == {"role": "is not known"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "ad", "password": PASSWORD}, "username"),
        ({"username": "a" * 41, "password": PASSWORD}, "username"),
        ({"username": "<img src=x>", "password": PASSWORD}, "username"),
        ({"username": "ada", "password": "too short"}, "password"),
        ({"username": "ada", "password": "x" * 201}, "password"),
        ({"username": "ada"}, "password"),
        ({"username": 7, "password": PASSWORD}, "username"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(client: Client, body: dict[str, Any], field: str) -> None:
    reply = await client.post("/api/auth/register", json=body)
    assert reply.status_code == 400
    assert field in reply.json()["fields"]


async def test_a_taken_name_is_a_conflict_and_registration_can_be_closed(client: Client) -> None:
    assert (await register(client)).status_code == 201
    assert (await register(client, "ADA")).json()["code"] == "username_taken"
    async with client_of(World(registration_open=False)) as closed:
        assert (await register(closed)).json()["code"] == "registration_closed"


async def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(client: Client) -> None:
    await register(client)
    wrong, unknown = await log_in(client, password="wrong password"), await log_in(client, "nobody")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() | {"trace_id": ""} == unknown.json() | {"trace_id": ""}


@pytest.mark.parametrize("name", ["a\x00bc", "a\nb", "x" * 60_000])
async def test_a_name_that_nobody_can_have_is_not_asked_for(client: Client, world: World, name: str) -> None:
    async def never(_username: str) -> Any:
        raise AssertionError("PostgreSQL takes no such text")

    world.store.credentials = never  # type: ignore[method-assign,assignment]
    assert (await log_in(client, name)).json()["code"] == "wrong_credentials"


async def test_wrong_passwords_delay_and_the_right_one_ends_the_delay(client: Client, world: World) -> None:
    await register(client)
    for _ in range(3):
        assert (await log_in(client, password="wrong password")).status_code == 401
    delayed = await log_in(client)
    assert delayed.status_code == 429
    assert int(delayed.headers["retry-after"]) >= 1
    world.throttle.failures = dict.fromkeys(world.throttle.failures, 2)
    assert (await log_in(client)).status_code == 200
    assert world.throttle.failures == {}


async def test_strangers_cannot_keep_a_user_out(client: Client, world: World) -> None:
    await register(client)
    world.throttle.failures["ada", "203.0.113.7"] = 100
    assert (await log_in(client)).status_code == 200


async def test_a_second_factor_is_accepted_and_ignored_where_none_is_set(client: Client) -> None:
    await register(client)
    reply = await client.post("/api/auth/login", json={"username": "ada", "password": PASSWORD, "totp": "123456"})
    assert reply.status_code == 200


async def test_a_login_by_cookie_reaches_everything_with_its_csrf_token(client: Client) -> None:
    await register(client)
    access = (await log_in(client)).json()
    client.cookies = {SESSION_COOKIE: access["access_token"], CSRF_COOKIE: access["csrf_token"]}
    assert (await client.get("/api/user/me")).status_code == 200
    assert (await client.patch("/api/settings", json={"leverage": 5})).status_code == 403
    reply = await client.patch("/api/settings", json={"leverage": 5}, headers={CSRF_HEADER: access["csrf_token"]})
    assert reply.json()["leverage"] == "5"


async def test_logging_out_clears_the_cookie_ends_the_token_and_tells_the_pages(client: Client, world: World) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    reply = await client.post("/api/auth/logout", headers=headers)
    assert reply.status_code == 204
    assert 'nt_session=""' in reply.headers["set-cookie"]
    assert (await client.get("/api/user/me", headers=headers)).json()["code"] == "login_ended"
    assert [event for _, event, _ in world.bus.told] == ["signed_out"]


async def test_a_cookie_is_renewed_while_it_is_used_and_never_past_twelve_hours(client: Client, world: World) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    began = world.clock.real
    renewals = 0
    while world.clock.real < began + LOGIN_LIFE - timedelta(minutes=10):
        world.clock.real += timedelta(minutes=10)
        client.cookies.clear()
        reply = await client.get("/api/user/me", headers={"Cookie": f"{SESSION_COOKIE}={token}"})
        assert reply.status_code == 200
        token = next(
            part.split(";")[0].removeprefix(f"{SESSION_COOKIE}=")
            for part in reply.headers.get_list("set-cookie")
            if part.startswith(SESSION_COOKIE)
        )
        renewals += 1
    assert renewals > 60
    world.clock.real = began + LOGIN_LIFE
    client.cookies.clear()
    assert (await client.get("/api/user/me", headers={"Cookie": f"{SESSION_COOKIE}={token}"})).status_code == 401


async def test_a_fresh_cookie_is_left_alone(client: Client) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    client.cookies.clear()
    reply = await client.get("/api/user/me", headers={"Cookie": f"{SESSION_COOKIE}={token}"})
    assert "set-cookie" not in reply.headers


async def test_a_login_is_asked_of_the_store_once_in_a_while(client: Client, world: World) -> None:
    await register(client)
    headers = {"Authorization": f"Bearer {(await log_in(client)).json()['access_token']}"}
    for _ in range(20):
        assert (await client.get("/api/user/me", headers=headers)).status_code == 200
    assert world.store.finds == 1
    assert SESSION_SECONDS <= 5


async def test_an_address_may_not_keep_the_hasher_busy(client: Client, world: World) -> None:
    world.throttle.spent["login", ADDRESS] = 60
    reply = await log_in(client)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "31")


def test_no_secret_shows_in_a_repr(world: World) -> None:
    user = NewUser(id=uuid4(), username="ada", password_hash="$argon2id$x", created_at=world.clock.now())
    assert "argon2" not in repr(user)
    assert SECRET not in repr(world.tokens)
    viewer = Viewer(
        id=uuid4(),
        username="ada",
        role="USER",
        mode="PAPER",
        login_id=uuid4(),
        csrf="a token",
        by_cookie=True,
        ends_at=world.clock.wall(),
    )
    assert "a token" not in repr(viewer)
    assert "password" not in {field.name for field in msgspec.structs.fields(Viewer)}


async def test_nobody_is_logged_in_from_another_site(client: Client, world: World) -> None:
    await register(client)
    body = {"username": "ada", "password": PASSWORD}
    for site in ("cross-site", "same-site"):
        reply = await client.post("/api/auth/login", json=body, headers={"Sec-Fetch-Site": site})
        assert (reply.status_code, reply.json()["code"]) == (403, "csrf")
    plain = await client.post("/api/auth/login", content=json.dumps(body), headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert world.store.sessions == {}


async def test_the_forms_before_a_login_need_the_token_of_their_page(client: Client, world: World) -> None:
    page = await client.get("/login", headers={"Accept": "text/html"})
    nonce = client.cookies[PRE_COOKIE]
    assert world.tokens.pre_csrf(nonce) in page.text
    form = {"username": "ada", "password": PASSWORD, CSRF_FIELD: world.tokens.pre_csrf("another page")}
    for path in ("/login", "/register"):
        assert (await client.post(path, data=form)).status_code == 403


async def test_while_the_database_is_away_a_signed_login_suffices_for_panic_and_for_nothing_else(
    world: World, client: Client
) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    world.auth.forget(next(iter(world.store.sessions)))
    world.store.away = True
    bearer = {"Authorization": f"Bearer {token}"}
    client.cookies.clear()
    done = await client.post("/api/user/panic-button", headers=bearer)
    assert (done.status_code, done.json()["auto_trade_enabled"]) == (207, False)
    for path in ("/api/user/me", "/api/settings", "/api/user/positions"):
        assert (await client.get(path, headers=bearer)).status_code == 503
    for wrong in (f"{token[:-4]}AAAA", "", "x.y.z"):
        refused = await client.post("/api/user/panic-button", headers={"Authorization": f"Bearer {wrong}"})
        assert refused.status_code == 401


async def test_a_login_that_is_known_to_have_ended_panics_for_nobody_even_while_the_database_is_away(
    world: World, client: Client
) -> None:
    await register(client)
    tokens = [(await log_in(client)).json()["access_token"] for _ in range(3)]
    here, elsewhere, unheard_of = ({"Authorization": f"Bearer {token}"} for token in tokens)
    client.cookies.clear()
    await client.post("/api/auth/logout", headers=here)
    world.auth.forget_named(str(list(world.store.sessions)[1]))  # as the bus tells of another process's log-out
    world.auth.forget(list(world.store.sessions)[2])
    world.store.away = True
    told = [(await client.post("/api/user/panic-button", headers=one)).status_code for one in (here, elsewhere, unheard_of)]
    assert told == [401, 401, 207]


async def test_an_expired_token_panics_for_nobody_even_while_the_database_is_away(world: World, client: Client) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    world.auth.forget(next(iter(world.store.sessions)))
    world.store.away = True
    world.clock.real += LOGIN_LIFE
    client.cookies.clear()
    done = await client.post("/api/user/panic-button", headers={"Authorization": f"Bearer {token}"})
    assert done.status_code == 401


async def test_the_panic_pages_work_by_cookie_while_the_database_is_away_and_ask_for_their_token(
    world: World, client: Client
) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    csrf = client.cookies[CSRF_COOKIE]
    client.cookies = {SESSION_COOKIE: token, CSRF_COOKIE: csrf}
    world.auth.forget(next(iter(world.store.sessions)))
    world.store.away = True
    page = await client.get("/dashboard/panic", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "The database is away" in page.text
    assert csrf in page.text
    assert (await client.post("/dashboard/panic", data={})).status_code == 403
    done = await client.post("/dashboard/panic", data={CSRF_FIELD: csrf})
    assert done.status_code == 207
    assert "Receipt" in done.text
