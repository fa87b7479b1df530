"""REST: signals, with what was done with each for the user who asks."""

import re
from uuid import UUID

from litestar import Router, get
from litestar.params import FromPath, FromQuery

from orchestrator.web.api_positions import page_limit, page_offset
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.problems import bad_fields, not_found
from orchestrator.web.replies_signals import SignalReply, Signals, view_of

MAX_ROWS = 200
_SYMBOL = re.compile(r"\w{1,40}")
"""Letters of any script: the exchange lists names that are not ASCII."""


@get("/", summary="List signals")
async def list_signals(
    request: Asked, limit: FromQuery[int] = 50, offset: FromQuery[int] = 0, symbol: FromQuery[str | None] = None
) -> Signals:
    """Signals for everyone, the newest first."""
    if symbol is not None and not _SYMBOL.fullmatch(symbol):
        raise bad_fields({"symbol": "is no symbol"})
    views = await doors_of(request).reads.signals(
        request.user.id, limit=page_limit(limit, MAX_ROWS), offset=page_offset(offset), symbol=symbol
    )
    return Signals(signals=[view_of(view) for view in views])


@get("/{signal_id:uuid}", summary="Read a signal")
async def read_signal(request: Asked, signal_id: FromPath[UUID]) -> SignalReply:
    """One signal with reasoning and features."""
    view = await doors_of(request).reads.signal(request.user.id, signal_id)
    if view is None:
        raise not_found("This signal")
    return view_of(view)


signals_router = Router("/api/signals", route_handlers=[list_signals, read_signal], tags=["signals"])
