"""The doors of /analyze, /marks, /whales and the process's own state."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.routes.http import reply


@get("/health", opt={"open": True}, sync_to_thread=False)
def health() -> Response[bytes]:
    """Liveness: the process answers."""
    return reply({"status": "ok"})


HANDLERS: list[HTTPRouteHandler] = [health]
