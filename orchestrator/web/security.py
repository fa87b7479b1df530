"""The guard in front of every route, the cookies, and the headers of every answer.

A route is closed unless its `opt` says otherwise: `open` lets anybody in, `role` asks for a role, `pre_session` asks an anonymous form
for the token of the page it came from, `without_store` believes a signed token while PostgreSQL is away. A mutation by cookie needs the
CSRF token in X-CSRF-Token; a page's plain form may carry it in the field `csrf_token`.
"""

import secrets
from typing import Any, cast

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Message, Scope

from orchestrator.web.auth import LoggedIn, Viewer
from orchestrator.web.doors import Doors, doors_of
from orchestrator.web.problems import ProblemError, unauthorized
from orchestrator.web.tokens import same_token

SESSION_COOKIE = "nt_session"
CSRF_COOKIE = "nt_csrf"
PRE_COOKIE = "nt_pre"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_JSON = "application/json"
_ELSEWHERE = frozenset({"cross-site", "same-site"})
_RENEWED = "nt_renewed"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_NO_STORE = (b"cache-control", b"no-store")


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Lets a request through to its route, with its viewer in `request.user`, or raises 401 or 403.

    Raises:
        ProblemError: The request may not pass.
    """
    request = cast("Request[Any, Any, Any]", connection)
    connection.scope["user"] = None
    _check_media_type(request)
    if handler.opt.get("open"):
        if request.method not in _SAFE:
            await _check_anonymous(request, form=bool(handler.opt.get("pre_session")))
        return
    viewer = await identify(request, without_store=bool(handler.opt.get("without_store")))
    if viewer.by_cookie and request.method not in _SAFE:
        await _check_csrf(request, viewer.csrf)
    connection.scope["user"] = viewer
    if (role := handler.opt.get("role")) is not None and viewer.role != role:
        raise ProblemError(403, "forbidden", "Your role does not allow this.")


async def identify(request: Request[Any, Any, Any], *, without_store: bool = False) -> Viewer:
    """Who asks, by the Authorization header if there is one, else by the cookie, whose token is renewed when it is old.

    Raises:
        ProblemError: 401.
    """
    doors = doors_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized("unauthorized", "The Authorization header must be: Bearer TOKEN.")
        return (await doors.auth.viewer(token.strip(), by_cookie=False, without_store=without_store))[0]
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token:
        raise unauthorized("unauthorized", "Please log in.")
    viewer, claims = await doors.auth.viewer(token, by_cookie=True, without_store=without_store)
    if doors.auth.is_old(claims) and not without_store:
        request.scope["state"][_RENEWED] = session_cookies(doors, await doors.auth.renew(viewer))
    return viewer


async def maybe_viewer(request: Request[Any, Any, Any]) -> Viewer | None:
    """Who asks, on a route that anybody may see."""
    try:
        return await identify(request)
    except ProblemError:
        return None


def session_cookies(doors: Doors, logged_in: LoggedIn) -> list[Cookie]:
    """The cookies of a login: the token, which scripts cannot read, and the CSRF token, which they must."""
    return [
        _cookie(SESSION_COOKIE, logged_in.token, doors.secure, http_only=True, max_age=logged_in.expires_in),
        _cookie(CSRF_COOKIE, logged_in.viewer.csrf, doors.secure, http_only=False, max_age=logged_in.expires_in),
    ]


def cleared_cookies(doors: Doors) -> list[Cookie]:
    """What takes the cookies of a login away."""
    return [
        _cookie(SESSION_COOKIE, "", doors.secure, http_only=True, max_age=0),
        _cookie(CSRF_COOKIE, "", doors.secure, http_only=False, max_age=0),
    ]


def pre_session(request: Request[Any, Any, Any]) -> tuple[str, Cookie]:
    """The CSRF token for a form shown before a login, and the cookie to set with the page that carries it."""
    doors = doors_of(request)
    nonce = request.cookies.get(PRE_COOKIE) or secrets.token_urlsafe(24)
    return doors.auth.tokens.pre_csrf(nonce), _cookie(PRE_COOKIE, nonce, doors.secure, http_only=True, max_age=3600)


def address_of(request: Request[Any, Any, Any]) -> str:
    """Where a request comes from, as far as anybody whose word counts can tell."""
    peer = request.client.host if request.client else ""
    return doors_of(request).addresses.of(peer, ",".join(request.headers.getall("x-forwarded-for", [])))


def end_login(request: Request[Any, Any, Any], response: Response[Any]) -> None:
    """Clear the cookies on an answer, and renew nothing."""
    request.scope["state"].pop(_RENEWED, None)
    for cookie in cleared_cookies(doors_of(request)):
        response.set_cookie(cookie)


async def end_others(doors: Doors, viewer: Viewer) -> None:
    """End every other login of a user, and their live streams with them."""
    for login_id in await doors.auth.log_out_others(viewer):
        await doors.bus.publish(viewer.id, "signed_out", {"login_id": str(login_id)})


async def before_send(message: Message, scope: Scope) -> None:
    """Adds the security headers and a renewed cookie to every answer."""
    if message["type"] != "http.response.start":
        return
    names = {name.lower() for name, _ in message["headers"]}
    extra = [header for header in _HEADERS if header[0] not in names]
    if _NO_STORE[0] not in names:
        extra.append(_NO_STORE)
    cookies = cast("list[Cookie]", scope["state"].get(_RENEWED, []))
    extra.extend(cookie.to_encoded_header() for cookie in cookies)
    message["headers"] = [*message["headers"], *extra]


async def _check_csrf(request: Request[Any, Any, Any], expected: str) -> None:
    if request.headers.get("sec-fetch-site") in _ELSEWHERE or not same_token(await _given(request), expected):
        raise ProblemError(403, "csrf", "The request lacks its CSRF token. Reload the page and try again.")


async def _check_anonymous(request: Request[Any, Any, Any], *, form: bool) -> None:
    """Nobody may be logged in or registered from another site: a form needs its page's token, JSON cannot come from a plain form."""
    if form:
        await _check_pre_session(request)
    elif request.headers.get("sec-fetch-site") in _ELSEWHERE:
        raise ProblemError(403, "csrf", "This request comes from another site.")


def _check_media_type(request: Request[Any, Any, Any]) -> None:
    """The API takes JSON alone, so that nothing a plain form can send is ever read as an order."""
    if request.method in _SAFE or not request.url.path.startswith("/api/"):
        return
    if request.headers.get("content-type", _JSON).partition(";")[0].strip().lower() != _JSON:
        raise ProblemError(415, "unsupported_media_type", "Send the body as application/json.")


async def _check_pre_session(request: Request[Any, Any, Any]) -> None:
    nonce = request.cookies.get(PRE_COOKIE, "")
    if not nonce:
        raise ProblemError(403, "csrf", "The form lacks its cookie. Reload the page and try again.")
    await _check_csrf(request, doors_of(request).auth.tokens.pre_csrf(nonce))


async def _given(request: Request[Any, Any, Any]) -> str | None:
    header = request.headers.get(CSRF_HEADER)
    if header is not None or request.url.path.startswith("/api/"):
        return header
    if not request.headers.get("content-type", "").startswith(_FORMS):
        return None
    field = (await request.form()).get(CSRF_FIELD)
    return field if isinstance(field, str) else None


def _cookie(key: str, value: str, secure: bool, *, http_only: bool, max_age: int) -> Cookie:
    return Cookie(key=key, value=value, path="/", secure=secure, httponly=http_only, samesite="strict", max_age=max_age)
