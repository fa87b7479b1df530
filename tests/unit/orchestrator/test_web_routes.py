"""Every route of the API with everybody who may not pass: a new route without a row fails here."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.exceptions import ImproperlyConfiguredException

from orchestrator.errors import StoreUnavailable
from orchestrator.web.pages import error_page, pages_router
from orchestrator.web.security import CSRF_HEADER, SESSION_COOKIE
from orchestrator.web.site import create_site
from tests.unit.orchestrator.web_fakes import SECRET, World, client_of

MUTATIONS = ("POST", "PUT", "PATCH", "DELETE")


class Row(msgspec.Struct, frozen=True):
    """What a route does for its rightful caller: which status, asked with which body."""

    status: int
    body: Any = None
    admin: bool = False


OPEN = {
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/schema/{path:str}"),
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/login"),
}
CLOSED = {
    ("POST", "/api/auth/renew"): Row(200),
    ("POST", "/api/auth/logout"): Row(204),
    ("POST", "/api/auth/logout-others"): Row(204),
    ("GET", "/api/user/me"): Row(200),
    ("GET", "/api/settings"): Row(200),
    ("PATCH", "/api/settings"): Row(200, {"leverage": "20"}),
    ("PUT", "/api/user/api-key"): Row(204, {"api_key": "k" * 64, "api_secret": "s" * 64}),
    ("DELETE", "/api/user/api-key"): Row(409),
    ("POST", "/api/user/api-key/claim"): Row(204, admin=True),
    ("GET", "/api/user/arming"): Row(200),
    ("POST", "/api/user/totp"): Row(200),
    ("POST", "/api/user/totp/confirm"): Row(409, {"code": "123456"}),
    ("DELETE", "/api/user/totp"): Row(404),
    ("GET", "/api/user/positions"): Row(200),
    ("GET", "/api/user/positions/{position_id:uuid}"): Row(200),
    ("PATCH", "/api/user/positions/{position_id:uuid}"): Row(200, {"stop_loss": "63500"}),
    ("POST", "/api/user/positions/{position_id:uuid}/close"): Row(200),
    ("GET", "/api/user/approvals"): Row(200),
    ("POST", "/api/user/approvals/{approval_id:uuid}/approve"): Row(200),
    ("POST", "/api/user/approvals/{approval_id:uuid}/decline"): Row(200),
    ("POST", "/api/user/stop"): Row(200, {"positions": "keep"}),
    ("POST", "/api/user/panic-button"): Row(200),
    ("GET", "/api/user/history"): Row(200),
    ("GET", "/api/user/stats"): Row(200),
    ("GET", "/api/user/equity"): Row(200),
    ("GET", "/api/user/ledger"): Row(200),
    ("GET", "/api/user/exchange"): Row(200),
    ("GET", "/api/signals"): Row(200),
    ("GET", "/api/signals/{signal_id:uuid}"): Row(200),
    ("GET", "/api/admin/users"): Row(200, admin=True),
    ("GET", "/api/admin/health"): Row(200, admin=True),
    ("GET", "/api/admin/signals"): Row(200, admin=True),
    ("GET", "/api/admin/statistics"): Row(200, admin=True),
    ("POST", "/api/admin/scan"): Row(202, admin=True),
    ("GET", "/api/live"): Row(503),
}
"""The live route answers 503 here, since this world has room for no stream."""

OWNED = [key for key in CLOSED if "{position_id" in key[1] or "{approval_id" in key[1]]


class Scene:
    """A site, its owner, an admin and a stranger; `path` fills a template with the owner's ids."""

    def __init__(self, world: World, client: httpx.AsyncClient, ids: dict[str, str], tokens: dict[str, str]) -> None:
        self.world, self.client, self.ids, self.tokens = world, client, ids, tokens

    def path(self, template: str) -> str:
        for name, value in self.ids.items():
            template = template.replace(name, value)
        return template

    async def ask(self, key: tuple[str, str], headers: dict[str, str], cookie: str = "") -> Any:
        body = CLOSED[key].body
        self.client.cookies.clear()
        if cookie:
            headers = headers | {"Cookie": f"{SESSION_COOKIE}={cookie}"}
        return await self.client.request(key[0], self.path(key[1]), json=body, headers=headers)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    world = World(most_streams=0)
    people = {
        "owner": await world.person("owner"),
        "stranger": await world.person("stranger"),
        "admin": await world.person("admin", "ADMIN"),
    }
    tokens = {name: (await world.token(user_id))[0] for name, user_id in people.items()}
    ids = {
        "{position_id:uuid}": str(world.position(people["owner"]).id),
        "{approval_id:uuid}": str(world.approval(people["owner"]).id),
        "{signal_id:uuid}": str(world.signal().id),
        "{symbol:str}": "BTCUSDT",
    }
    async with client_of(world) as client:
        yield Scene(world, client, ids, tokens)


def rightful(key: tuple[str, str]) -> str:
    return "admin" if CLOSED[key].admin else "owner"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_route_has_a_row() -> None:
    routes = {
        (method, route.path)
        for route in create_site(World().open_doors).routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    assert routes == OPEN | set(CLOSED)


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
async def test_the_rightful_caller_passes(scene: Scene, key: tuple[str, str]) -> None:
    reply = await scene.ask(key, bearer(scene.tokens[rightful(key)]))
    assert reply.status_code == CLOSED[key].status, reply.text


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
async def test_nobody_passes_without_a_login_that_counts(scene: Scene, key: tuple[str, str]) -> None:
    assert_problem(await scene.ask(key, {}), 401, "unauthorized")
    assert_problem(await scene.ask(key, bearer("x.y.z")), 401, "invalid_token")
    assert_problem(await scene.ask(key, {"Authorization": "Basic eDp5"}), 401, "unauthorized")
    token = scene.tokens[rightful(key)]
    scene.world.clock.real += timedelta(minutes=16)
    assert_problem(await scene.ask(key, bearer(token)), 401, "token_expired")


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
async def test_a_revoked_login_ends_every_token_of_it(scene: Scene, key: tuple[str, str]) -> None:
    token, login_id = await scene.world.token(next(iter(scene.world.store.users)))
    await scene.world.store.revoke(login_id, scene.world.clock.wall())
    assert_problem(await scene.ask(key, bearer(token)), 401, "login_ended")
    assert_problem(await scene.ask(key, {}, cookie=token), 401, "login_ended")


@pytest.mark.parametrize("key", OWNED, ids=" ".join)
async def test_another_users_row_does_not_exist(scene: Scene, key: tuple[str, str]) -> None:
    assert_problem(await scene.ask(key, bearer(scene.tokens["stranger"])), 404, "not_found")
    assert scene.world.desk.asked == []


@pytest.mark.parametrize("key", [key for key in CLOSED if CLOSED[key].admin], ids=" ".join)
async def test_a_user_is_no_admin(scene: Scene, key: tuple[str, str]) -> None:
    assert_problem(await scene.ask(key, bearer(scene.tokens["owner"])), 403, "forbidden")


@pytest.mark.parametrize("key", [key for key in CLOSED if key[0] in MUTATIONS], ids=" ".join)
async def test_a_mutation_by_cookie_needs_its_csrf_token(scene: Scene, key: tuple[str, str]) -> None:
    token = scene.tokens[rightful(key)]
    right = scene.world.tokens.csrf(scene.world.tokens.read(token, scene.world.clock.wall()).login_id)
    assert_problem(await scene.ask(key, {}, cookie=token), 403, "csrf")
    assert_problem(await scene.ask(key, {CSRF_HEADER: scene.world.tokens.csrf(uuid4())}, cookie=token), 403, "csrf")
    cross = {CSRF_HEADER: right, "Sec-Fetch-Site": "cross-site"}
    assert_problem(await scene.ask(key, cross, cookie=token), 403, "csrf")
    assert scene.world.desk.asked == []
    passed = await scene.ask(key, {CSRF_HEADER: right}, cookie=token)
    assert passed.status_code == CLOSED[key].status, passed.text


@pytest.mark.parametrize("key", [key for key in CLOSED if key[0] == "GET"], ids=" ".join)
async def test_reading_by_cookie_needs_no_csrf_token(scene: Scene, key: tuple[str, str]) -> None:
    reply = await scene.ask(key, {}, cookie=scene.tokens[rightful(key)])
    assert reply.status_code == CLOSED[key].status, reply.text


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
async def test_a_header_is_judged_alone(scene: Scene, key: tuple[str, str]) -> None:
    assert_problem(await scene.ask(key, bearer("broken"), cookie=scene.tokens[rightful(key)]), 401, "invalid_token")


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
async def test_no_answer_holds_a_secret(scene: Scene, key: tuple[str, str]) -> None:
    text = (await scene.ask(key, bearer(scene.tokens[rightful(key)]))).text
    assert "password" not in text
    assert "hash" not in text
    assert "secret" not in text or key == SHOWN_ONCE
    assert SECRET not in text


SHOWN_ONCE = ("POST", "/api/user/totp")
"""A new secret for an authenticator."""

PAGES_OPEN = {"/", "/login", "/register", "/static/{digest:str}/{name:path}", "/health", "/ready", "/metrics"}


def pages_of(site: Litestar) -> list[tuple[str, str]]:
    """Every route that is no API and no schema, with its ids filled in."""
    found = [
        (method, route.path)
        for route in site.routes
        for method in sorted(getattr(route, "methods", ()))
        if method != "OPTIONS" and not route.path.startswith(("/api", "/schema"))
    ]
    return [(method, path) for method, path in found if path not in PAGES_OPEN or method != "GET"]


async def test_every_page_is_closed_to_strangers_and_every_form_needs_its_token(scene: Scene) -> None:
    site = create_site(scene.world.open_doors, pages=[pages_router], error_page=error_page)
    owner, html = scene.tokens["owner"], {"Accept": "text/html"}
    async with client_of(scene.world) as client:
        for method, template in pages_of(site):
            path = re.sub(r"{[^}]*}", str(uuid4()), template)
            client.cookies.clear()
            anonymous = await client.request(method, path, headers=html, follow_redirects=False)
            if method == "GET":
                assert (anonymous.status_code, anonymous.headers["location"][:6]) == (303, "/login"), path
            else:
                assert anonymous.status_code in (401, 403), path
                cookie = html | {"Cookie": f"{SESSION_COOKIE}={owner}"}
                forged = await client.request(method, path, headers=cookie, data={"x": "1"}, follow_redirects=False)
                assert forged.status_code == 403, path
    assert scene.world.desk.asked == []


async def test_another_users_pages_do_not_exist(scene: Scene) -> None:
    site = create_site(scene.world.open_doors, pages=[pages_router], error_page=error_page)
    owned = [path for method, path in pages_of(site) if method == "GET" and "{position_id" in path]
    assert owned
    async with client_of(scene.world) as client:
        for template in owned:
            path = re.sub(r"{[^}]*}", scene.ids["{position_id:uuid}"], template)
            client.cookies.clear()
            headers = {"Accept": "text/html", "Cookie": f"{SESSION_COOKIE}={scene.tokens['stranger']}"}
            assert (await client.get(path, headers=headers)).status_code == 404, path


async def test_a_token_signed_without_our_key_is_refused(scene: Scene) -> None:
    import jwt

    user_id = next(iter(scene.world.store.users))
    _, login_id = await scene.world.token(user_id)
    wall = scene.world.clock.wall().timestamp()
    payload = {"sub": str(user_id), "jti": str(login_id), "iat": wall, "exp": wall + 900}
    forged = [
        jwt.encode(payload, "another secret that is as long as it takes", algorithm="HS256"),
        jwt.encode(payload, SECRET * 2, algorithm="HS512"),
        jwt.encode(payload, "", algorithm="none"),
        jwt.encode({"sub": str(user_id), "exp": wall + 900}, SECRET, algorithm="HS256"),
        jwt.encode(payload | {"sub": str(uuid4())}, SECRET, algorithm="HS256"),
    ]
    for token in forged:
        assert (await scene.client.get("/api/user/me", headers=bearer(token))).status_code == 401


async def test_unknown_paths_and_methods_are_problems(scene: Scene) -> None:
    assert_problem(await scene.client.get("/api/nothing"), 404, "not_found")
    assert_problem(await scene.client.delete("/api/user/me"), 405, "method_not_allowed")
    assert_problem(await scene.client.get("/api/user/positions/12", headers=bearer(scene.tokens["owner"])), 404, "not_found")
    assert_problem(await scene.client.get(f"/api/signals/{uuid4()}", headers=bearer(scene.tokens["owner"])), 404, "not_found")


async def test_a_crash_tells_no_internals(scene: Scene) -> None:
    async def broken(_user_id: UUID) -> Any:
        raise RuntimeError("a secret detail")

    scene.world.store.user = broken  # type: ignore[method-assign,assignment]
    reply = await scene.client.get("/api/user/me", headers=bearer(scene.tokens["owner"]) | {"X-Trace-Id": "abc123"})
    assert_problem(reply, 500, "internal")
    assert "secret detail" not in reply.text
    assert reply.json()["trace_id"] == reply.headers["x-trace-id"] == "abc123"


async def test_a_source_that_is_away_is_no_crash(scene: Scene) -> None:
    async def away(_user_id: UUID) -> Any:
        raise StoreUnavailable("postgresql: OperationalError")

    scene.world.store.user = away  # type: ignore[method-assign,assignment]
    reply = await scene.client.get("/api/user/me", headers=bearer(scene.tokens["owner"]))
    assert_problem(reply, 503, "unavailable")
    assert "postgresql" not in reply.text
    assert reply.headers["retry-after"] == "2"


def test_two_handlers_for_one_route_stop_the_start() -> None:
    @get("/api/user/me")
    async def another() -> None: ...

    with pytest.raises(ImproperlyConfiguredException):
        create_site(World().open_doors, pages=[another])


async def test_the_schema_names_every_route_of_the_api(scene: Scene) -> None:
    paths = (await scene.client.get("/schema")).json()["paths"]
    named = {path.replace(":uuid", "").replace(":str", "") for _, path in CLOSED}
    assert named <= set(paths)


async def test_the_schema_tells_every_problem_and_who_may_ask(scene: Scene) -> None:
    schema = (await scene.client.get("/schema")).json()
    assert schema == (await scene.client.get("/schema/openapi.json")).json()
    assert set(schema["components"]["schemas"]["Problem"]["properties"]) == {"code", "detail", "fields", "trace_id"}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for method, path in CLOSED:
        operation = schema["paths"][path.replace(":uuid", "").replace(":str", "")][method.lower()]
        answers = operation["responses"]
        problems = {status for status, answer in answers.items() if not status.startswith("2")}
        assert all(answers[status]["content"]["application/json"] == problem for status in problems), path
        assert problems >= {"401", "503", "default"}
        assert operation["security"] == [{"bearer": []}, {"cookie": []}]
        assert ("400" in problems) == bool(operation.get("parameters") or "requestBody" in operation), path
    assert "security" not in schema["paths"]["/api/auth/login"]["post"]


def assert_problem(reply: Any, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    problem = reply.json()
    assert problem["code"] == code
    assert problem["detail"]
    assert problem["trace_id"]
    assert set(problem) <= {"code", "detail", "fields", "trace_id"}
