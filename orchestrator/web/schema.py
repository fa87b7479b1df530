"""The OpenAPI document: what the framework derives from the routes, with what every route may answer besides, a problem, and who may ask."""

from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

_PROBLEM: Final = {
    "type": "object",
    "required": ["code", "detail", "trace_id"],
    "properties": {
        "code": {"type": "string", "description": "A stable word for programs."},
        "detail": {"type": "string", "description": "A sentence for people."},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}, "description": "What is wrong with each field."},
        "trace_id": {"type": "string", "description": "Finds the record; also in the header X-Trace-Id."},
    },
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "nt_session", "description": "Mutations carry X-CSRF-Token besides."},
}
_SAID: Final = {
    "400": "A field, a query or the body does not fit.",
    "401": "No login, or one that counts no more.",
    "403": "The role or the CSRF token is missing.",
    "404": "It does not exist, or is not yours.",
    "409": "How things stand does not allow it; the code says why.",
    "415": "The body is not JSON.",
    "429": "Too many attempts; Retry-After says how long to wait.",
    "503": "A source this needs does not answer.",
}
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_ENTRANCE: Final = frozenset({"/api/auth/register", "/api/auth/login"})
_ASKS_FOR_CODES: Final = ("/api/user/api-key", "/api/user/totp", "/api/settings")


class SchemaPlugin(JsonRenderPlugin):
    """Renders the document with problems and logins in it."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document as JSON."""
        return super().render(request, told_whole(openapi_schema))


def told_whole(schema: dict[str, Any]) -> dict[str, Any]:
    """A document with the problems and the login that each route of the API knows; the one given stays as it is."""
    components = schema.get("components", {})
    known = components.get("schemas", {}) | {"Problem": _PROBLEM}
    paths = {path: {name: _operation(path, name, part) for name, part in item.items()} for path, item in schema["paths"].items()}
    return schema | {"paths": paths, "components": components | {"schemas": known, "securitySchemes": _SECURITY}}


def _operation(path: str, method: str, operation: Any) -> Any:
    if method not in _METHODS or not path.startswith("/api/"):
        return operation
    problems = {status: _answer(_SAID[status]) for status in _statuses(path, method, operation)}
    closed: dict[str, Any] = {} if path in _ENTRANCE else {"security": [{"bearer": []}, {"cookie": []}]}
    answers = {status: _bare(answer) if status == "204" else answer for status, answer in operation["responses"].items()}
    return operation | {"responses": answers | problems | {"default": _answer("A problem.")}} | closed


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    """The statuses of problems that a route may answer, by what it is."""
    asks = "requestBody" in operation
    changes = method != "get"
    told = {
        "400": asks or bool(operation.get("parameters")),
        "401": path != "/api/auth/register",
        "403": changes or path.startswith("/api/admin/"),
        "404": "{" in path or path in ("/api/user/totp", "/api/user/api-key/claim"),
        "409": changes and path not in _ENTRANCE - {"/api/auth/register"},
        "415": asks,
        "429": path in _ENTRANCE or path.startswith(_ASKS_FOR_CODES),
        "503": True,
    }
    return [status for status, may in told.items() if may]


def _bare(answer: dict[str, Any]) -> dict[str, Any]:
    """A 204 has no body, whatever the framework says."""
    return {name: value for name, value in answer.items() if name != "content"}


def _answer(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
