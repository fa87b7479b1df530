"""What the orchestrator counts for Prometheus, on a registry of its own.

The worker serves it on a port of its own where one is set; the web app may add its own series to the same registry.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Metrics:
    """Every series of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scans = Counter("neurotrade_scans", "Scans by how they ended", ["result"], registry=self.registry)
        self.scan_seconds = Histogram(
            "neurotrade_scan_seconds", "Wall time of a scan, entries included", buckets=_SECONDS, registry=self.registry
        )
        self.loop_runs = Counter("neurotrade_loop_runs", "Rounds of the worker's loops", ["loop"], registry=self.registry)
        self.loop_failures = Counter(
            "neurotrade_loop_failures", "Rounds that a missing source ended", ["loop"], registry=self.registry
        )
        self.loop_seconds = Histogram(
            "neurotrade_loop_seconds", "Wall time of one round", ["loop"], buckets=_SECONDS, registry=self.registry
        )
        self.refused_closes = Counter(
            "neurotrade_refused_closes", "Closes of triggered positions that the venue refused", registry=self.registry
        )
        self.bare_seconds = Histogram(
            "neurotrade_bare_seconds",
            "Wall time for which a real position was known to have no working stop, until one was put back or it was closed",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.last_round = Gauge(
            "neurotrade_loop_last_success_timestamp_seconds",
            "Wall time of the last whole round",
            ["loop"],
            registry=self.registry,
        )

    def went_well(self, loop: str, seconds: float) -> None:
        """A whole round of a loop."""
        self.loop_runs.labels(loop).inc()
        self.loop_seconds.labels(loop).observe(seconds)
        self.last_round.labels(loop).set_to_current_time()

    def went_wrong(self, loop: str) -> None:
        """A round that a missing source ended."""
        self.loop_failures.labels(loop).inc()

    def closes_refused(self, count: int) -> None:
        """Triggered positions that the venue would not close, and that are tried again."""
        self.refused_closes.inc(count)

    def was_bare(self, seconds: float) -> None:
        """A real position whose stop was put back, or that was closed for want of one, after so many seconds without."""
        self.bare_seconds.observe(seconds)

    def scanned(self, result: str, wall_ms: float) -> None:
        """A scan and how it ended."""
        self.scans.labels(result).inc()
        if wall_ms:
            self.scan_seconds.observe(wall_ms / 1000)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def serve_metrics(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serves /metrics from a thread; the answer stops it.

    Args:
        metrics: What to serve.
        host: Address to bind.
        port: A free port.
    """
    server, thread = start_http_server(port, addr=host, registry=metrics.registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop
