"""What every route of the engine shares: token guard, trace id, strict bodies, problems as JSON."""

import hmac
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Message, Method, Receive, Scope, Send
from litestar.utils import normalize_path

from engine.errors import EngineError, ExchangeError, SnapshotsUnavailable
from engine.log import TRACE_ID, logger, new_trace_id
from shared.problem import Problem
from shared.wire import TRACE_HEADER, decode_strict, encode

JSON = "application/json"
MOST_TRACE = 64
_METHODS: Final[tuple[Method, ...]] = ("GET", "POST", "PUT", "PATCH", "DELETE")


class ProblemError(Exception):
    """Ends a request with a problem; raised by doors only, never by a use case."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = Problem(code=code, detail=detail)


def reply(value: object, status: int = 200) -> Response[bytes]:
    """A wire value as a JSON response."""
    return Response(encode(value), status_code=status, media_type=JSON)


def read_body[T](body: bytes, kind: type[T]) -> T:
    """A wire value from a request body; unknown fields, bad types and malformed numbers end as problem 400.

    Raises:
        ProblemError: The body does not fit.
    """
    try:
        return decode_strict(body or b"{}", kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProblemError(400, "bad_request", str(error)) from error
    except RecursionError as error:
        raise ProblemError(400, "bad_request", "the body is nested too deeply") from error


def token_guard(token: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """A guard that compares the bearer token in constant time; routes with `opt={"open": True}` pass."""
    expected = f"Bearer {token}".encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if handler.opt.get("open"):
            return
        given = connection.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            raise NotAuthorizedException("the engine's token is missing or wrong")

    return guard


def trace_middleware(app: ASGIApp) -> ASGIApp:
    """Binds the caller's trace id, or a new one, to the request's records and echoes it in the reply."""

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        trace_id = _given_trace(scope) or new_trace_id()
        bound = TRACE_ID.set(trace_id)

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (TRACE_HEADER.lower().encode(), trace_id.encode())]
            await send(message)

        try:
            await app(scope, receive, send_traced)
        finally:
            TRACE_ID.reset(bound)

    return traced


def _given_trace(scope: Scope) -> str:
    """The caller's trace id, where it is one: letters, digits and hyphens, so that nothing else reaches a log."""
    header = TRACE_HEADER.lower().encode()
    given = next((value for name, value in scope["headers"] if name.lower() == header), b"").decode("ascii", "replace")
    return given if len(given) <= MOST_TRACE and given.isascii() and given.replace("-", "").isalnum() else ""


def _problem_response(request: Request[Any, Any, Any], status: int, problem: Problem) -> Response[bytes]:
    bound = TRACE_ID.get()
    trace_id = bound or _given_trace(request.scope) or new_trace_id()
    answer = reply(msgspec.structs.replace(problem, trace_id=trace_id), status)
    if not bound:  # no route was found, so no middleware ran
        answer.set_header(TRACE_HEADER, trace_id)
    return answer


def on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    """A problem that a door raised."""
    return _problem_response(request, error.status, error.problem)


_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: no route, wrong method, no token."""
    answer = _problem_response(
        request, error.status_code, Problem(code=_CODES.get(error.status_code, "http_error"), detail=error.detail)
    )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.set_header("Allow", ", ".join(_allowed(request)))
    return answer


def _allowed(request: Request[Any, Any, Any]) -> list[str]:
    """The methods that a path knows. Source: RFC 9110, 15.5.6: a 405 names them."""
    return [method for method in _METHODS if _is_routed(request, method)]


def _is_routed(request: Request[Any, Any, Any], method: Method) -> bool:
    try:
        request.app.asgi_router.handle_routing(path=normalize_path(request.scope["path"]), method=method)
    except HTTPException:
        return False
    return True


def on_engine_error(request: Request[Any, Any, Any], error: EngineError) -> Response[bytes]:
    """A source that failed while the request needed it: the caller may ask again later."""
    code = {True: "exchange_unavailable"}.get(isinstance(error, ExchangeError), "engine_unavailable")
    if isinstance(error, SnapshotsUnavailable):
        code = "redis_unavailable"
    logger().warning("a request failed on its source", error=str(error), code=code)
    return _problem_response(request, 503, Problem(code=code, detail=str(error)))


def on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The process's edge: what nobody foresaw is logged with its traceback and told without it."""
    logger().error("a request crashed", route=request.url.path, error=type(error).__name__, exc_info=error)
    return _problem_response(request, 500, Problem(code="internal", detail="the engine failed; the trace id finds the record"))


EXCEPTION_HANDLERS: dict[Any, Any] = {
    ProblemError: on_problem,
    HTTPException: on_http_error,
    EngineError: on_engine_error,
    Exception: on_crash,
}
