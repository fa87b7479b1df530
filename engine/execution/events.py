"""POST /execute/events: the user data stream as nudges, one JSON line each, for as long as the caller listens."""

import asyncio
from collections.abc import AsyncIterator

from engine.errors import SealBroken, VenueError
from engine.execution.asking import refusal_of
from engine.execution.desk import Desk
from engine.log import logger
from shared.execution import Account, AccountEvent
from shared.problem import Problem
from shared.wire import encode

FIRST_SECONDS = 3.0
"""A key that is not taken is told as a refusal, if the exchange says so at once."""

SILENT_SECONDS = 5.0
"""The caller takes a stream for dead that says nothing for 20 s."""

MAX_SECONDS = 3600.0
"""A caller connects anew each hour: no stream outlives its reason for ever."""


async def listen(desk: Desk, account: Account) -> AsyncIterator[bytes] | Problem:
    """The lines, or why there are none."""
    exchange = desk.venues.exchange(account)
    if isinstance(exchange, Problem):
        return exchange
    events = exchange.events()
    first = asyncio.ensure_future(_next(events))
    await asyncio.wait({first}, timeout=FIRST_SECONDS)
    error = first.exception() if first.done() else None
    if isinstance(error, VenueError | SealBroken):
        return refusal_of(error)
    return _lines(desk, events, first)


async def _next(events: AsyncIterator[AccountEvent]) -> AccountEvent | None:
    return await anext(events, None)


async def _lines(
    desk: Desk, events: AsyncIterator[AccountEvent], first: asyncio.Task[AccountEvent | None]
) -> AsyncIterator[bytes]:
    pending = first
    ends = asyncio.get_running_loop().time() + MAX_SECONDS
    try:
        while asyncio.get_running_loop().time() < ends:
            await asyncio.wait({pending}, timeout=SILENT_SECONDS)
            if not pending.done():
                yield _line(AccountEvent(kind="PING", at=desk.clock.now()))
                continue
            event = pending.result()
            if event is None:
                return
            pending = asyncio.ensure_future(_next(events))
            yield _line(event)
    except VenueError as error:
        logger().warning("a stream of account events ended", error=str(error))
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _line(event: AccountEvent) -> bytes:
    return encode(event) + b"\n"
