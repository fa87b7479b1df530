"""The doors of /analyze, /marks, /whales and of the process's own state: decode, one use case, encode."""

import time
from typing import Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from engine.analysis import MarketDesk, Readiness, look, readiness, scan, show_window
from engine.log import logger
from engine.routes.http import read_body, reply
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksRequest, RejectionReason

Asked = Request[object, object, State]
"""Litestar resolves no `type` statement."""

METRICS_TYPE: Final = CONTENT_TYPE_LATEST.partition("; charset")[0]
"""Litestar adds the charset itself; said twice, Prometheus 3 refuses the scrape."""

_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SCANS = Counter("neurotrade_engine_scans", "Scans that were answered.", ["analyst"])
STAGES = Histogram("neurotrade_engine_scan_stage_seconds", "Wall time of each stage of a scan.", ["stage"], buckets=_SECONDS)
REJECTIONS = Counter("neurotrade_engine_rejections", "Symbols that gave no signal, by reason.", ["reason"])
FALLBACKS = Counter(
    "neurotrade_engine_scans_fallen_back", "Scans that read elsewhere what the feed should have told, or did without it."
)
SIGNALS = Counter("neurotrade_engine_signals", "Signals by side.", ["side"])
ANALYST_FAILURES = Counter("neurotrade_engine_analyst_failures", "Candidates whose analyst gave no verdict.")
MARKS_SECONDS = Histogram("neurotrade_engine_marks_seconds", "Wall time of a look at the marks.", buckets=_SECONDS)
MARKS_MISSING = Counter("neurotrade_engine_marks_missing", "Symbols whose mark or bars did not come.")
WEIGHT_USED = Gauge("neurotrade_engine_request_weight_used", "Request weight spent in this market minute.")
SOURCE_AGE = Gauge(
    "neurotrade_engine_source_age_seconds", "Wall time since a source's last word; -1 where it never spoke.", ["source"]
)
RECONNECTS = Gauge("neurotrade_engine_stream_reconnects", "Reconnects of the feed since it started.")


@get("/health", opt={"open": True}, sync_to_thread=False)
def health() -> Response[bytes]:
    """Liveness: the process answers."""
    return reply({"status": "ok"})


@post("/analyze", status_code=200)
async def analyze(request: Asked) -> Response[bytes]:
    """One scan of the market."""
    desk = _desk(request)
    wanted = read_body(await request.body(), AnalyzeRequest)
    found = await scan(wanted, desk.plan, desk.sources, desk.analyst, desk.widen)
    _count_scan(found)
    return reply(found)


@post("/marks", status_code=200)
async def marks(request: Asked) -> Response[bytes]:
    """What the mark prices did since the caller last looked."""
    begun = time.perf_counter()
    found = await look(read_body(await request.body(), MarksRequest), _desk(request).sources)
    MARKS_SECONDS.observe(time.perf_counter() - begun)
    MARKS_MISSING.inc(len(found.missing))
    return reply(found)


@get("/whales")
async def whales(request: Asked) -> Response[bytes]:
    """The liquidation window."""
    return reply(await show_window(_desk(request).sources))


@get("/ready")
async def ready(request: Asked) -> Response[bytes]:
    """The age of every source; 503 where a must-have is stale."""
    found = await _readiness(request)
    return reply(found, 503 if found.status == "unready" else 200)


@get("/metrics")
async def metrics(request: Asked) -> Response[bytes]:
    """Prometheus's text form."""
    found = await _readiness(request)
    for name, source in found.sources.items():
        SOURCE_AGE.labels(name).set(-1 if source.age_ms is None else source.age_ms / 1000)
    RECONNECTS.set(found.reconnects)
    WEIGHT_USED.set(_desk(request).weight_used())
    return Response(generate_latest(), media_type=METRICS_TYPE)


HANDLERS: list[HTTPRouteHandler] = [health, analyze, marks, whales, ready, metrics]


def _desk(request: Asked) -> MarketDesk:
    desk: MarketDesk = request.app.state.market_desk
    return desk


async def _readiness(request: Asked) -> Readiness:
    desk = _desk(request)
    return await readiness(desk.exchange, desk.redis, desk.sources.snapshots, desk.analyst, desk.sources.clock)


def _count_scan(found: AnalyzeReply) -> None:
    SCANS.labels(found.analyst).inc()
    for stage, milliseconds in found.timings_ms.items():
        STAGES.labels(stage).observe(milliseconds / 1000)
    for rejection in found.rejections:
        REJECTIONS.labels(rejection.reason).inc()
        if rejection.reason is RejectionReason.ANALYST_FAILED:
            ANALYST_FAILURES.inc()
    if found.fallbacks:
        FALLBACKS.inc()
    for signal in found.signals:
        SIGNALS.labels(signal.side).inc()
    logger().info(
        "scan",
        ms=found.timings_ms["total"],
        universe=found.universe,
        screened=found.screened,
        candidates=len(found.candidates),
        signals=len(found.signals),
        analyst=str(found.analyst),
        fallbacks="; ".join(found.fallbacks),
    )
