"""GET /api/live: the server-sent events of the dashboard, JSON only, one stream for all tabs of a browser.

Numbers come as ticks and are patched as text (the keys are in `ticks`); structure comes as events with an id, and the page reads its
sections again. The stream ends with `bye` when the login does, when the server stops, and after MAX_AGE_SECONDS in any case.
"""

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from litestar import Router, get
from litestar.params import FromQuery
from litestar.response import Stream as StreamResponse

from orchestrator.errors import StoreUnavailable
from orchestrator.web.auth import Viewer
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.hub import ping
from orchestrator.web.problems import ProblemError
from orchestrator.web.stream import Stream

PING_SECONDS = 10.0
CHECK_SECONDS = 60.0
MAX_AGE_SECONDS = 12 * 60.0
"""Under the life of the cookie's token, which is renewed when the stream is opened again."""

MOST_WATCHED = 3
_SYMBOL = re.compile(r"\w{1,40}")
"""What is no symbol at all is not asked of the engine, which would refuse the whole question."""


@get("/api/live", summary="Live events", media_type="text/event-stream", tags=["live"])
async def live(request: Asked, last: FromQuery[str] = "", watch: FromQuery[str] = "") -> StreamResponse:
    """Server-sent events; `last` (or Last-Event-ID) is the last id seen, `watch` up to three more symbols to price."""
    doors = doors_of(request)
    if doors.hub.closing or doors.hub.streams >= doors.hub.most_streams:
        raise ProblemError(
            503, "no_stream_free", "No live stream is free. The page asks for its numbers instead.", headers={"Retry-After": "5"}
        )
    seen = request.headers.get("last-event-id") or last
    return StreamResponse(
        _events(doors, request.user, _watched(watch), seen[:80]),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(doors: Doors, viewer: Viewer, watch: frozenset[str], seen: str) -> AsyncGenerator[bytes, None]:
    stream = doors.hub.open(viewer, watch)  # here, since whoever hangs up before the first byte never gets to `finally`
    try:
        yield await doors.hub.greeting(stream, seen)
        async with aclosing(_following(doors, stream)) as following:
            async for sent in following:
                yield sent
    finally:
        doors.hub.drop(stream)


async def _following(doors: Doors, stream: Stream) -> AsyncGenerator[bytes, None]:
    next_ping = time.monotonic() + PING_SECONDS
    next_check = time.monotonic() + CHECK_SECONDS
    while True:
        if await stream.wait(next_ping - time.monotonic()):
            yield stream.take()
        if stream.ended:
            return
        now = time.monotonic()
        if now >= next_ping:
            next_ping = now + PING_SECONDS
            yield ping(doors.clock)
        if now - stream.opened >= MAX_AGE_SECONDS:
            stream.end("max_age", retry_ms=0)
        elif now >= next_check:
            next_check = now + CHECK_SECONDS
            if not await _still_logged_in(doors, stream):
                stream.end("revoked")


async def _still_logged_in(doors: Doors, stream: Stream) -> bool:
    try:
        session = await doors.auth.session(stream.login_id)
    except StoreUnavailable:
        return True  # nobody can say now; the stream's greatest age bounds the doubt
    return session is not None and session.ends_at > doors.clock.wall()


def _watched(given: str) -> frozenset[str]:
    names = [name.strip().upper() for name in given.split(",")]
    return frozenset([name for name in names if _SYMBOL.fullmatch(name)][:MOST_WATCHED])


live_router = Router("/", route_handlers=[live])
