"""What every route of the engine shares: token guard, trace id, strict bodies, problems as JSON."""

import hmac
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import EngineError, ExchangeError, SnapshotsUnavailable
from engine.log import TRACE_ID, logger, new_trace_id
from shared.problem import Problem
from shared.wire import TRACE_HEADER, decode_strict, encode

JSON = "application/json"


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
        given = next((value for name, value in scope["headers"] if name.lower() == TRACE_HEADER.lower().encode()), b"")
        trace_id = given.decode("ascii", "replace")[:64] or new_trace_id()
        bound = TRACE_ID.set(trace_id)

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (TRACE_HEADER.lower().encode(), trace_id.encode("ascii", "replace"))]
            await send(message)

        try:
            await app(scope, receive, send_traced)
        finally:
            TRACE_ID.reset(bound)

    return traced


def _problem_response(status: int, problem: Problem) -> Response[bytes]:
    return reply(msgspec.structs.replace(problem, trace_id=TRACE_ID.get() or new_trace_id()), status)


def on_problem(_request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    """A problem that a door raised."""
    return _problem_response(error.status, error.problem)


_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}


def on_http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: no route, wrong method, no token."""
    return _problem_response(error.status_code, Problem(code=_CODES.get(error.status_code, "http_error"), detail=error.detail))


def on_engine_error(_request: Request[Any, Any, Any], error: EngineError) -> Response[bytes]:
    """A source that failed while the request needed it: the caller may ask again later."""
    code = {True: "exchange_unavailable"}.get(isinstance(error, ExchangeError), "engine_unavailable")
    if isinstance(error, SnapshotsUnavailable):
        code = "redis_unavailable"
    logger().warning("a request failed on its source", error=str(error), code=code)
    return _problem_response(503, Problem(code=code, detail=str(error)))


def on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The process's edge: what nobody foresaw is logged with its traceback and told without it."""
    logger().error("a request crashed", route=request.url.path, error=type(error).__name__, exc_info=error)
    return _problem_response(500, Problem(code="internal", detail="the engine failed; the trace id finds the record"))


EXCEPTION_HANDLERS: dict[Any, Any] = {
    ProblemError: on_problem,
    HTTPException: on_http_error,
    EngineError: on_engine_error,
    Exception: on_crash,
}
