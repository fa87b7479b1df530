"""Every "no" over HTTP in one form, and the trace id of every request.

Doors raise ProblemError; use cases answer values, which `refused` turns into one. Pages show the same problems as readable pages.
"""

import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ASGIApp, Message, Method, Receive, Scope, Send
from litestar.utils import normalize_path

from orchestrator.errors import Conflict, EngineUnavailable, OrchestratorError
from orchestrator.log import TRACE_ID, bound_trace, logger, new_trace_id
from orchestrator.ports import Refusal, RefusalReason
from orchestrator.web.metrics import answered
from shared.problem import Problem
from shared.wire import TRACE_HEADER, encode

JSON = "application/json"
ErrorPage = Callable[[Request[Any, Any, Any], int, Problem], Response[Any]]

_MAX_TRACE = 64
_METHODS: Final[tuple[Method, ...]] = ("GET", "POST", "PUT", "PATCH", "DELETE")
_UNKNOWN_FIELD = re.compile(r"unknown field `(.+)`")
_MISSING_FIELD = re.compile(r"missing required field `(.+)`")


class ProblemError(Exception):
    """Ends a request with a problem; raised by doors only, never by a use case."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = Problem(code=code, detail=detail, fields=fields)
        self.headers = headers or {}


def bad_fields(fields: dict[str, str]) -> ProblemError:
    """What was sent does not fit, field by field."""
    return ProblemError(400, "bad_request", "Some fields cannot be accepted.", fields=fields)


def unauthorized(code: str, detail: str) -> ProblemError:
    """401 with the scheme a client should use."""
    return ProblemError(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


def not_found(what: str = "It") -> ProblemError:
    """Not there, or not this user's: the answer is the same."""
    return ProblemError(404, "not_found", f"{what} does not exist.")


_REFUSED_STATUS = {
    RefusalReason.NOT_FOUND: 404,
    RefusalReason.BAD_QUANTITY: 400,
    RefusalReason.BAD_PRICE: 400,
    RefusalReason.ENGINE_UNAVAILABLE: 503,
}
"""Everything else is a conflict with how things stand: 409."""


def refused(refusal: Refusal) -> ProblemError:
    """Trading's "no" as a problem: the reason is its code."""
    return ProblemError(_REFUSED_STATUS.get(refusal.reason, 409), str(refusal.reason), refusal.detail)


def trace_middleware(app: ASGIApp) -> ASGIApp:
    """Binds the caller's trace id, or a new one, to the request's records and echoes it in the reply."""

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        began = time.perf_counter()
        with bound_trace(_given_trace(scope)) as trace_id:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    answered(scope["method"], message["status"], time.perf_counter() - began)
                    message["headers"] = [*message["headers"], (TRACE_HEADER.lower().encode(), trace_id.encode())]
                await send(message)

            await app(scope, receive, send_traced)

    return traced


def _given_trace(scope: Scope) -> str:
    header = TRACE_HEADER.lower().encode()
    given = next((value for name, value in scope["headers"] if name.lower() == header), b"").decode("latin-1")
    return given if 0 < len(given) <= _MAX_TRACE and given.isascii() and given.replace("-", "").isalnum() else ""


_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    503: "unavailable",
}


_TOO_DEEP = Problem(code="bad_request", detail="The body is nested too deeply.")
"""The one place where a request decides how deep the stack gets is its JSON."""


def exception_handlers(error_page: ErrorPage | None = None) -> dict[Any, Any]:
    """What the application answers to each kind of exception; people who ask for HTML outside /api get a page."""

    def answer(
        request: Request[Any, Any, Any], status: int, problem: Problem, headers: Mapping[str, str] | None = None
    ) -> Response[Any]:
        traced = msgspec.structs.replace(problem, trace_id=TRACE_ID.get() or _given_trace(request.scope) or new_trace_id())
        if not TRACE_ID.get():  # no route was found, so no middleware ran
            headers = {**(headers or {}), TRACE_HEADER: traced.trace_id}
        if error_page is not None and wants_page(request):
            page = error_page(request, status, traced)
            page.headers.update(headers or {})
            return page
        return Response(encode(traced), status_code=status, media_type=JSON, headers=dict(headers or {}))

    def on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[Any]:
        return answer(request, error.status, error.problem, error.headers)

    def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
        status = error.status_code
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE:
            return on_crash(request, error)
        code = _CODES.get(status, "http_error")
        problem = Problem(code=code, detail=_sentence(error), fields=_fields_of(error))
        return answer(request, status, problem, {**(error.headers or {}), **_allowed(request, status)})

    def on_own_error(request: Request[Any, Any, Any], error: OrchestratorError) -> Response[Any]:
        if isinstance(error, Conflict):
            return answer(request, 409, Problem(code="conflict", detail="It changed meanwhile. Reload and try again."))
        code = "engine_unavailable" if isinstance(error, EngineUnavailable) else "unavailable"
        logger().warning("a request failed on its source", error=str(error), code=code, route=request.url.path)
        return answer(
            request,
            503,
            Problem(code=code, detail="A source this needs does not answer. Please try again."),
            {"Retry-After": "2"},
        )

    def on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        logger().error("a request crashed", route=request.url.path, error=type(error).__name__, exc_info=error)
        return answer(request, 500, Problem(code="internal", detail="Something failed here; the trace id finds the record."))

    return {
        ProblemError: on_problem,
        HTTPException: on_http_error,
        OrchestratorError: on_own_error,
        RecursionError: lambda request, _error: answer(request, 400, _TOO_DEEP),
        Exception: on_crash,
    }


def _allowed(request: Request[Any, Any, Any], status: int) -> dict[str, str]:
    """The methods that a path knows, with a 405. Source: RFC 9110, 15.5.6."""
    if status != HTTPStatus.METHOD_NOT_ALLOWED:
        return {}
    return {"Allow": ", ".join(method for method in _METHODS if _is_routed(request, method))}


def _is_routed(request: Request[Any, Any, Any], method: Method) -> bool:
    try:
        request.app.asgi_router.handle_routing(path=normalize_path(request.scope["path"]), method=method)
    except HTTPException:
        return False
    return True


def wants_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person looks at this request: outside /api, and HTML is welcome; htmx asks for anything."""
    asked = "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
    return asked and not request.url.path.startswith("/api/")


def _sentence(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.BAD_REQUEST and _fields_of(error):
        return "Some fields cannot be accepted."
    return error.detail


def _fields_of(error: HTTPException) -> dict[str, str] | None:
    if not isinstance(error, ValidationException) or not isinstance(error.extra, list):
        return None
    found = dict(_fault(item) for item in error.extra if isinstance(item, dict))
    return found or None


def _fault(item: Mapping[str, Any]) -> tuple[str, str]:
    message = str(item.get("message", ""))
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown:
        return unknown[1], "is not known"
    missing = _MISSING_FIELD.search(message)
    if missing:
        return missing[1], "is required"
    key = str(item.get("key") or "data")
    if key != "data":
        return key, message
    return "body", message if message.startswith("Expected") else "is required, as JSON"
