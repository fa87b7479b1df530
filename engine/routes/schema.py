"""GET /schema: the OpenAPI document of the engine, made from the wire's own types, behind the token like every other door.

The doors read bodies themselves, so the framework cannot tell what they take; OPERATIONS says it. A test demands a line for every door.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State

from engine.analysis import Readiness
from engine.routes.http import reply
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksReply, MarksRequest, WhalesReply
from shared.execution import (
    CLIENT_ORDER_ID,
    AccountEvent,
    AccountRequest,
    BalanceReply,
    CanaryReply,
    CancelReply,
    CancelRequest,
    ClaimKeysRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    KeyCheckReply,
    OrderReply,
    PositionsReply,
    ProtectReport,
    ProtectRequest,
    PublicKeyReply,
    ResealRequest,
    SealedCredentials,
    TruthReply,
    TruthRequest,
)
from shared.problem import Problem

JSON: Final = "application/json"
TEXT: Final = "text/plain"
NDJSON: Final = "application/x-ndjson"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What a door takes and gives. `problems` are the statuses that only this door, or few, answer besides those of every door."""

    says: str
    takes: Any = None
    gives: Any = None
    media: str = JSON
    problems: tuple[int, ...] = ()


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/health"): Operation(says="Liveness.", gives=Health),
    ("GET", "/ready"): Operation(says="The age of every source; the same with 503 where a must-have is stale.", gives=Readiness),
    ("GET", "/metrics"): Operation(says="Prometheus's text form.", media=TEXT),
    ("GET", "/schema"): Operation(says="This document."),
    ("POST", "/analyze"): Operation(says="One scan of the market.", takes=AnalyzeRequest, gives=AnalyzeReply),
    ("POST", "/marks"): Operation(says="What the mark prices did.", takes=MarksRequest, gives=MarksReply),
    ("GET", "/whales"): Operation(says="The liquidation window.", gives=WhalesReply),
    ("GET", "/chart/{symbol}.png"): Operation(says="A picture of a symbol's candles.", media="image/png", problems=(404,)),
    ("POST", "/execute/entry"): Operation(says="Open a position.", takes=EntryRequest, gives=ExecutionReport, problems=(409,)),
    ("POST", "/execute/close"): Operation(says="Reduce a position.", takes=CloseRequest, gives=ExecutionReport, problems=(409,)),
    ("POST", "/execute/flatten"): Operation(
        says="Close everything and prove it.", takes=FlattenRequest, gives=FlattenReply, problems=(403, 409)
    ),
    ("POST", "/execute/protect"): Operation(says="Amend stop and target.", takes=ProtectRequest, gives=ProtectReport),
    ("POST", "/execute/balance"): Operation(
        says="The account's USDT.", takes=AccountRequest, gives=BalanceReply, problems=(403, 409)
    ),
    ("POST", "/execute/positions"): Operation(
        says="What is open.", takes=AccountRequest, gives=PositionsReply, problems=(403, 409)
    ),
    ("POST", "/execute/orders/{client_order_id}"): Operation(
        says="What became of an id.", takes=AccountRequest, gives=OrderReply
    ),
    ("POST", "/execute/truth"): Operation(
        says="Everything that the exchange says of an account.", takes=TruthRequest, gives=TruthReply, problems=(403, 409)
    ),
    ("POST", "/execute/guards"): Operation(
        says="What guards an account's positions now.", takes=GuardsRequest, gives=GuardsReply, problems=(403, 409)
    ),
    ("POST", "/execute/cancel"): Operation(
        says="Cancel orders by id.", takes=CancelRequest, gives=CancelReply, problems=(403, 409)
    ),
    ("POST", "/execute/canary"): Operation(
        says="Place and cancel a protective order far away.", takes=AccountRequest, gives=CanaryReply, problems=(403, 409)
    ),
    ("POST", "/execute/events"): Operation(
        says="One line for each thing that happens to an account, until it ends.",
        takes=AccountRequest,
        gives=AccountEvent,
        media=NDJSON,
        problems=(403, 409),
    ),
    ("GET", "/keys"): Operation(says="The public key of the seal.", gives=PublicKeyReply, problems=(403, 409)),
    ("POST", "/keys/reseal"): Operation(
        says="Seal with the newest key.", takes=ResealRequest, gives=SealedCredentials, problems=(403, 409)
    ),
    ("POST", "/keys/check"): Operation(says="What a key may do.", takes=AccountRequest, gives=KeyCheckReply, problems=(403, 409)),
    ("POST", "/keys/claim"): Operation(
        says="The pair of .env, sealed for its owner.", takes=ClaimKeysRequest, gives=SealedCredentials, problems=(403, 404, 409)
    ),
}

_SAID: Final = {
    400: "The body or the path does not fit.",
    401: "The engine's token is missing or wrong.",
    403: "The account has no key that opens, or the exchange lets nothing of it pass.",
    404: "It is not there.",
    409: "The id was used for something else, or this account or how things stand does not allow it.",
    413: "The body is too large.",
    503: "A source this needs does not answer.",
}
_COMPONENTS: Final = "#/components/schemas/{name}"
_PLAIN: Final = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "A decimal number in plain notation."}
_CLIENT_ORDER_ID: Final = {
    "name": "client_order_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": CLIENT_ORDER_ID.replace(r"\Z", "$"), "minLength": 1, "maxLength": 36},
}
_SYMBOL: Final = {"name": "symbol", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_PARAMETERS: Final = {"{client_order_id}": _CLIENT_ORDER_ID, "{symbol}": _SYMBOL}


@get("/schema")
async def schema(request: Request[Any, Any, State]) -> Response[bytes]:
    """The document of the doors that are mounted."""
    mounted = ((method, route.path) for route in request.app.routes for method in getattr(route, "methods", ()))
    return reply(document(mounted))


def document(doors: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """An OpenAPI document of doors by method and path, as the router writes them; those without an operation are left out."""
    paths: dict[str, dict[str, Any]] = {}
    types = sorted(
        {kind for one in OPERATIONS.values() for kind in (one.takes, one.gives) if kind}, key=lambda kind: kind.__name__
    )
    references, components = msgspec.json.schema_components([*types, Problem], ref_template=_COMPONENTS)
    by_type = dict(zip([*types, Problem], references, strict=True))
    for method, path in sorted((method, public(path)) for method, path in doors):
        operation = OPERATIONS.get((method, path))
        if operation is not None:
            paths.setdefault(path, {})[method.lower()] = _operation(path, operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "NeuroTrade engine", "version": "1"},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _plain(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def public(path: str) -> str:
    """A router's path as OpenAPI writes it: `{name:str}` is `{name}`."""
    return path.replace(":str}", "}").replace(":uuid}", "}")


def _operation(path: str, operation: Operation, by_type: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": operation.says, "responses": _responses(path, operation, by_type)}
    if operation.takes is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": by_type[operation.takes]}}}
    parameters = [parameter for name, parameter in _PARAMETERS.items() if name in path]
    if parameters:
        told["parameters"] = parameters
    if path == "/health":
        told["security"] = []
    return told


def _responses(path: str, operation: Operation, by_type: dict[Any, Any]) -> dict[str, Any]:
    given = by_type.get(operation.gives, {"type": "object"}) if operation.media == JSON else {"type": "string"}
    problem = {JSON: {"schema": by_type[Problem]}}
    statuses = {*operation.problems}
    if path != "/health":
        statuses |= {401, 503}
    if operation.takes is not None:
        statuses |= {400, 413}
    answers: dict[str, Any] = {"200": {"description": operation.says, "content": {operation.media: {"schema": given}}}}
    answers |= {str(status): {"description": _SAID[status], "content": problem} for status in sorted(statuses)}
    if operation.gives is Readiness:
        stale = {"anyOf": [by_type[Readiness], by_type[Problem]]}
        answers["503"] = {"description": "A must-have is stale or does not answer.", "content": {JSON: {"schema": stale}}}
    return answers


def _plain(value: Any) -> Any:
    """A schema with our decimals in it, and with patterns that every dialect of regular expressions knows."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("format") == "decimal":
        return {name: item for name, item in value.items() if name not in ("type", "format")} | _PLAIN
    return {name: _pattern(item) if name == "pattern" and isinstance(item, str) else _plain(item) for name, item in value.items()}


def _pattern(pattern: str) -> str:
    return pattern.replace(r"\Z", "$")


HANDLERS: Final = [schema]
