"""The doors of /execute. Handlers are listed in HANDLERS and mounted by `engine.app`, which puts the desk into the app's state."""

import re
import time
from collections.abc import Awaitable
from typing import Any

from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from prometheus_client import Counter, Histogram

from engine.core.order import OrderRefusal
from engine.errors import ClientOrderIdReused
from engine.execution.balance import balance, positions
from engine.execution.canary import canary
from engine.execution.cancel import cancel
from engine.execution.close import close
from engine.execution.desk import Desk
from engine.execution.entry import enter
from engine.execution.events import listen
from engine.execution.flatten import flatten
from engine.execution.lookup import look_up
from engine.execution.protect import protect
from engine.execution.truth import guards, truth
from engine.routes.http import ProblemError, read_body, reply
from shared.execution import (
    CLIENT_ORDER_ID,
    AccountRequest,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsRequest,
    ProtectRequest,
    TruthRequest,
)
from shared.problem import Problem

ORDERS = Counter("neurotrade_engine_orders", "Orders by what became of them.", ["kind", "venue", "status"])
REFUSALS = Counter("neurotrade_engine_refusals", "Orders that were refused, by the reason's code.", ["kind", "code"])
LATENCY = Histogram(
    "neurotrade_engine_order_seconds",
    "Wall time from request to report.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


@post("/execute/entry", status_code=200)
async def execute_entry(request: Request[Any, Any, State]) -> Response[bytes]:
    """Opens a position."""
    wanted = read_body(await request.body(), EntryRequest)
    return reply(await _measured("entry", enter(_desk(request), wanted)))


@post("/execute/close", status_code=200)
async def execute_close(request: Request[Any, Any, State]) -> Response[bytes]:
    """Reduces a position."""
    wanted = read_body(await request.body(), CloseRequest)
    return reply(await _measured("close", close(_desk(request), wanted)))


@post("/execute/flatten", status_code=200)
async def execute_flatten(request: Request[Any, Any, State]) -> Response[bytes]:
    """Closes everything of an account."""
    wanted = read_body(await request.body(), FlattenRequest)
    done = await flatten(_desk(request), wanted)
    if isinstance(done, FlattenReply):
        for report in done.reports:
            _count("flatten", report)
    return reply(_or_unavailable(done))


@post("/execute/protect", status_code=200)
async def execute_protect(request: Request[Any, Any, State]) -> Response[bytes]:
    """Amends stop and target."""
    return reply(await protect(_desk(request), read_body(await request.body(), ProtectRequest)))


@post("/execute/balance", status_code=200)
async def execute_balance(request: Request[Any, Any, State]) -> Response[bytes]:
    """The account's USDT."""
    wanted = read_body(await request.body(), AccountRequest)
    return reply(_or_unavailable(await balance(_desk(request), wanted.account)))


@post("/execute/positions", status_code=200)
async def execute_positions(request: Request[Any, Any, State]) -> Response[bytes]:
    """What is open."""
    wanted = read_body(await request.body(), AccountRequest)
    return reply(await positions(_desk(request), wanted.account))


@post("/execute/orders/{client_order_id:str}", status_code=200)
async def execute_order(request: Request[Any, Any, State], client_order_id: FromPath[str]) -> Response[bytes]:
    """What became of an id."""
    if not re.match(CLIENT_ORDER_ID, client_order_id):
        raise ProblemError(400, "bad_request", "no client order id has this form")
    wanted = read_body(await request.body(), AccountRequest)
    return reply(await look_up(_desk(request), wanted.account, client_order_id, wanted.symbol))


@post("/execute/truth", status_code=200)
async def execute_truth(request: Request[Any, Any, State]) -> Response[bytes]:
    """An account as the exchange tells it."""
    wanted = read_body(await request.body(), TruthRequest)
    return reply(_or_unavailable(await truth(_desk(request), wanted)))


@post("/execute/guards", status_code=200)
async def execute_guards(request: Request[Any, Any, State]) -> Response[bytes]:
    """What guards an account's positions now."""
    wanted = read_body(await request.body(), GuardsRequest)
    return reply(_or_unavailable(await guards(_desk(request), wanted)))


@post("/execute/cancel", status_code=200)
async def execute_cancel(request: Request[Any, Any, State]) -> Response[bytes]:
    """Cancels orders of ours."""
    wanted = read_body(await request.body(), CancelRequest)
    return reply(_or_unavailable(await cancel(_desk(request), wanted)))


@post("/execute/canary", status_code=200)
async def execute_canary(request: Request[Any, Any, State]) -> Response[bytes]:
    """Places and cancels one protective order."""
    wanted = read_body(await request.body(), AccountRequest)
    return reply(_or_unavailable(await canary(_desk(request), wanted.account)))


@post("/execute/events", status_code=200)
async def execute_events(request: Request[Any, Any, State]) -> Stream:
    """The user data stream, a JSON line an event."""
    wanted = read_body(await request.body(), AccountRequest)
    lines = _or_unavailable(await listen(_desk(request), wanted.account))
    return Stream(lines, media_type="application/x-ndjson")


HANDLERS: list[HTTPRouteHandler] = [
    execute_entry,
    execute_close,
    execute_flatten,
    execute_protect,
    execute_balance,
    execute_positions,
    execute_order,
    execute_truth,
    execute_guards,
    execute_cancel,
    execute_canary,
    execute_events,
]


def _desk(request: Request[Any, Any, State]) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _measured(kind: str, work: Awaitable[ExecutionReport]) -> ExecutionReport:
    started = time.perf_counter()
    try:
        report = await work
    except ClientOrderIdReused as error:
        raise ProblemError(409, OrderRefusal.CLIENT_ORDER_ID_REUSED, str(error)) from error
    LATENCY.labels(kind).observe(time.perf_counter() - started)
    _count(kind, report)
    return report


def _count(kind: str, report: ExecutionReport) -> None:
    ORDERS.labels(kind, report.venue, report.status).inc()
    if report.refusal is not None:
        REFUSALS.labels(kind, report.refusal.code).inc()


def _or_unavailable[T](done: T | Problem) -> T:
    if isinstance(done, Problem):
        raise ProblemError(_STATUS.get(done.code, 503), done.code, done.detail)
    return done


_STATUS: dict[str, int] = {
    OrderRefusal.NO_CREDENTIALS: 403,
    OrderRefusal.SEAL_BROKEN: 403,
    OrderRefusal.VENUE_HALTED: 403,
    OrderRefusal.VENUE_RULE: 400,
    OrderRefusal.REAL_NOT_AVAILABLE: 409,
    OrderRefusal.VENUE_AWAY: 503,
}
"""A 4xx tells the caller that nothing was done and that asking again alone does not help."""
