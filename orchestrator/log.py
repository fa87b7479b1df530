"""Structured logs of the orchestrator's processes: allowlisted fields only, so that no object, header or secret can slip in.

Stands beside `errors` at the bottom of the orchestrator. The trace id is bound per request and per job and read by every record.
"""

import logging
import secrets
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import structlog

FIELDS: Final = frozenset(
    {
        "event", "level", "at", "process", "trace_id", "user_id", "symbol", "client_order_id", "reason", "scan", "ms", "count",
        "status", "error", "exception", "stream", "attempt", "seconds", "universe", "screened", "candidates", "signals", "rejections",
        "route", "method", "venue", "side", "dry_run", "analyst", "model", "weight", "age_ms", "port", "host", "url", "code",
        "quantity", "price", "name", "order_id", "position_id", "signal_id", "login_id", "receipt_id", "mode", "purpose", "pnl",
        "amount", "job", "source", "loop", "channel", "positions", "refusals", "entries", "approvals", "phase", "version", "at_market",
        "candle_close", "detail", "kind", "fallbacks",
    }
)  # fmt: skip
"""Every field that a record may carry; anything else is dropped."""

TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
"""The id that ties scan, order and fill together over both services."""


def new_trace_id() -> str:
    """A fresh id of 32 hexadecimal digits."""
    return secrets.token_hex(16)


@contextmanager
def bound_trace(trace_id: str) -> Iterator[str]:
    """Binds a trace id to every record and engine call made inside; an empty one is replaced by a new one."""
    chosen = trace_id or new_trace_id()
    token = TRACE_ID.set(chosen)
    try:
        yield chosen
    finally:
        TRACE_ID.reset(token)


def configure(log_format: str, process: str) -> None:
    """Sets the process's logs up once.

    Args:
        log_format: "json", one object a line, or "text" for people.
        process: Named in every record.
    """
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        _stamp(process),
        structlog.processors.format_exc_info,
        _only_allowed,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(shared, renderer)


def logger() -> Any:
    """The logger of this process; call with an event sentence and allowlisted fields."""
    return structlog.get_logger()


def _route_standard_logging(shared: list[Any], renderer: Any) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_meta, renderer]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _drop_meta(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in event.items() if not key.startswith("_")}


def _stamp(process: str) -> Any:
    def stamp(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        event["process"] = process
        event.setdefault("trace_id", TRACE_ID.get())
        if not event["trace_id"]:
            del event["trace_id"]
        return event

    return stamp


def _only_allowed(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in event.items() if key in FIELDS or key.startswith("_")}
