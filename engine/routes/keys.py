"""The doors of /keys: what exchange keys are sealed to, sealing anew, the audit of a pair, and the pair of the environment."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from engine.core.order import OrderRefusal
from engine.errors import SealBroken
from engine.execution.desk import Desk
from engine.execution.key_check import check_keys
from engine.ports import KeyPair, Keys
from engine.routes.http import ProblemError, read_body, reply
from shared.execution import AccountRequest, ClaimKeysRequest, ResealRequest
from shared.problem import Problem


@get("/keys")
async def public_key(request: Request[Any, Any, State]) -> Response[bytes]:
    """The newest public key."""
    try:
        return reply(_seal(request).public(claimable=_own_pair(request) is not None))
    except SealBroken as error:
        raise ProblemError(409, OrderRefusal.SEAL_BROKEN, str(error)) from error


@post("/keys/reseal", status_code=200)
async def reseal(request: Request[Any, Any, State]) -> Response[bytes]:
    """The same pair under the newest key."""
    wanted = read_body(await request.body(), ResealRequest)
    try:
        return reply(_seal(request).reseal(wanted.user_id, wanted.credentials))
    except SealBroken as error:
        raise ProblemError(403, OrderRefusal.SEAL_BROKEN, str(error)) from error


@post("/keys/check", status_code=200)
async def check(request: Request[Any, Any, State]) -> Response[bytes]:
    """The audit of a pair."""
    wanted = read_body(await request.body(), AccountRequest)
    desk: Desk = request.app.state.desk
    done = await check_keys(desk, wanted.account)
    if isinstance(done, Problem):
        status = 503 if done.code == OrderRefusal.VENUE_AWAY else 403
        raise ProblemError(status, done.code, done.detail)
    return reply(done)


@post("/keys/claim", status_code=200)
async def claim(request: Request[Any, Any, State]) -> Response[bytes]:
    """The pair of the engine's environment, sealed for one user. Who may ask is the orchestrator's to decide, and to decide once."""
    wanted = read_body(await request.body(), ClaimKeysRequest)
    pair = _own_pair(request)
    if pair is None:
        raise ProblemError(404, OrderRefusal.NO_CREDENTIALS, "the engine's environment holds no exchange key")
    try:
        return reply(_seal(request).seal(wanted.user_id, pair))
    except SealBroken as error:
        raise ProblemError(409, OrderRefusal.SEAL_BROKEN, str(error)) from error


HANDLERS: list[HTTPRouteHandler] = [public_key, reseal, check, claim]


def _seal(request: Request[Any, Any, State]) -> Keys:
    seal: Keys = request.app.state.seal
    return seal


def _own_pair(request: Request[Any, Any, State]) -> KeyPair | None:
    pair: KeyPair | None = request.app.state.own_pair
    return pair
