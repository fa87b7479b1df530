"""What orchestration and monitors ask without a login: alive, ready, metrics."""

from typing import Any

from litestar import MediaType, Request, Response, Router, get
from prometheus_client import generate_latest

from orchestrator.web.doors import doors_of
from orchestrator.web.health import Ready
from orchestrator.web.metrics import REGISTRY, observe
from orchestrator.web.replies import Reply

PROMETHEUS = "text/plain; version=0.0.4"


class Alive(Reply, frozen=True, kw_only=True):
    """The process answers."""

    status: str


@get("/health", summary="Alive")
async def health() -> Alive:
    """Whether the process answers; asks nobody."""
    return Alive(status="ok")


@get("/ready", summary="Ready, with the age of every source")
async def ready(request: Request[Any, Any, Any]) -> Response[Ready]:
    """200 when every source that must be there is fresh, else 503 with the same body."""
    found = await doors_of(request).health.ready()
    return Response(found, status_code=200 if found.status == "ready" else 503)


@get("/metrics", summary="Prometheus metrics", media_type=MediaType.TEXT)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """This process's metrics; the ages of its sources among them."""
    observe(await doors_of(request).health.ready(), doors_of(request).hub.streams)
    return Response(generate_latest(REGISTRY), media_type=PROMETHEUS)


health_router = Router("/", route_handlers=[health, ready, metrics], opt={"open": True}, tags=["health"])
