"""REST: what an admin may see and ask for; no balance of anybody is among it."""

from litestar import Response, Router, get, post
from litestar.params import FromQuery

from orchestrator.ports import AdminUserRow, ScanRow, Statistics
from orchestrator.web.api_positions import page_limit, page_offset
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.health import Ready
from orchestrator.web.replies import Reply
from orchestrator.web.replies_signals import SignalReply, view_of

MAX_ROWS = 500
SCANS = 20


class Users(Reply, frozen=True, kw_only=True):
    """Everyone."""

    users: list[AdminUserRow]


class AdminSignals(Reply, frozen=True, kw_only=True):
    """The newest signals and the scans that found them."""

    signals: list[SignalReply]
    scans: list[ScanRow]


class ScanQueued(Reply, frozen=True, kw_only=True):
    """A scan will run."""

    job_id: str


@get("/users", summary="List users")
async def users(request: Asked, limit: FromQuery[int] = 100, offset: FromQuery[int] = 0) -> Users:
    """Everyone, without their money."""
    rows = await doors_of(request).reads.admin_users(limit=page_limit(limit, MAX_ROWS), offset=page_offset(offset))
    return Users(users=rows)


@get("/health", summary="Sources with their age")
async def health(request: Asked) -> Ready:
    """As /ready, always 200."""
    return await doors_of(request).health.ready()


@get("/signals", summary="Signals and scans")
async def signals(request: Asked, limit: FromQuery[int] = 50) -> AdminSignals:
    """The newest signals with timings of the scans."""
    reads = doors_of(request).reads
    views = await reads.signals(request.user.id, limit=page_limit(limit, MAX_ROWS))
    return AdminSignals(signals=[view_of(view) for view in views], scans=await reads.scans(SCANS))


@get("/statistics", summary="Counts over everyone")
async def statistics(request: Asked) -> Statistics:
    """Counts, and refusals by reason."""
    return await doors_of(request).reads.statistics()


@post("/scan", status_code=202, summary="Scan now")
async def scan(request: Asked) -> Response[ScanQueued]:
    """Queue a scan; the job's id."""
    return Response(ScanQueued(job_id=await doors_of(request).desk.request_scan()), status_code=202)


admin_router = Router(
    "/api/admin",
    route_handlers=[users, health, signals, statistics, scan],
    opt={"role": "ADMIN"},
    tags=["admin"],
)
