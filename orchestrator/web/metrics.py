"""Prometheus metrics of the web process, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.web.health import Ready

REGISTRY = CollectorRegistry()
REQUESTS = Counter("nt_http_requests_total", "Requests answered", ["method", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "nt_http_request_seconds",
    "Time to the first byte of an answer",
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
STREAMS = Gauge("nt_live_streams", "Live streams open", registry=REGISTRY)
SOURCE_AGE = Gauge("nt_source_age_seconds", "Age of a source's newest proof", ["source"], registry=REGISTRY)
SOURCE_OK = Gauge("nt_source_ok", "Whether a source is fresh", ["source"], registry=REGISTRY)


def answered(method: str, status: int, seconds: float) -> None:
    """Count an answer, and the time to its first byte."""
    REQUESTS.labels(method, str(status)).inc()
    REQUEST_SECONDS.observe(seconds)


def observe(ready: Ready, streams: int) -> None:
    """Take the state of the sources and the number of streams over."""
    STREAMS.set(streams)
    for name, state in ready.sources.items():
        SOURCE_OK.labels(name).set(state.ok)
        if state.age_seconds is not None:
            SOURCE_AGE.labels(name).set(state.age_seconds)
