"""How signed calls are asked: what no answer means, and how long one asks again.

A read may be asked again and again; an order is handed over once and then only looked up. All bounds are wall seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from engine.core.order import OrderRefusal, no
from engine.errors import SealBroken, VenueAway, VenueError, VenueHalted, VenueUnsure
from shared.problem import Problem


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long each step of an order may take, wall seconds."""

    poll: float = 0.15
    read: float = 2.5
    """For the reads before an entry: past it nothing was sent, and a new signal comes."""
    outcome: float = 7.0
    """For the answer to an order, and for the end of one that still works."""
    shown: float = 7.0
    """For the look-ups of an order without an answer: about its receive window."""
    linger: float = 25.0
    """And then for an entry, less often, while its caller knows it as unknown: it would be a position without a stop."""
    silence: float = 1.0
    """Before an order that was sent and has no answer yet is looked for: it may be filled already, and have no stop."""
    protect: float = 3.0
    """Source: house decision 4: an entry whose stop is not confirmed within a few seconds is closed."""
    fills: float = 4.0
    """How far the exchange's list of trades may be behind."""
    drain: float = 12.0
    again: float = 0.5
    """For the answer to a reduce-only order that is followed by another: two of them open nothing, waiting leaves a position bare."""
    clear: float = 5.0
    flatten: float = 38.0
    """Below the 45 s that the caller waits."""
    apart: float = 1.5
    """Between two reads that shall not be equally stale."""
    send_within: float = 10.0
    """Nothing is sent later than this after the caller sent the request."""
    arrives_within: float = 20.0
    """`send_within`, the receive window of 5 s, and as much again for clocks apart: later no signed request is under way."""

    def brief(self, seconds: float, shown: float | None = None) -> "Patience":
        """For an order that is followed by another: for its answer, and for the look-ups where none came; as long where they are not given."""
        return msgspec.structs.replace(self, outcome=seconds, shown=seconds if shown is None else shown, linger=0.0)


class Bound:
    """A moment of the loop's clock up to which something may take."""

    def __init__(self, seconds: float) -> None:
        self._ends = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds left, 0 at least."""
        return max(self._ends - asyncio.get_running_loop().time(), 0.0)

    async def call[T](self, question: Awaitable[T]) -> T:
        """An answer within the bound.

        Raises:
            VenueUnsure: It did not come in time; an order may have been carried out.
        """
        try:
            async with asyncio.timeout(self.left):
                return await question
        except TimeoutError as error:
            raise VenueUnsure("no answer in time") from error

    async def pause(self, seconds: float) -> bool:
        """Waits, if there is time for it and for something after it; False where there is not."""
        if self.left <= seconds:
            return False
        await asyncio.sleep(seconds)
        return True


async def until[T](question: Callable[[], Awaitable[T | None]], bound: Bound, poll: float) -> T | None:
    """Asks until there is an answer other than None, whatever fails meanwhile; None where none came in time."""
    while True:
        wait = poll
        try:
            found = await bound.call(question())
            if found is not None:
                return found
        except VenueError as error:
            wait = max(poll, wait_of(error))
        if not await bound.pause(wait):
            return None


async def insisted[T](question: Callable[[], Awaitable[T]], bound: Bound, poll: float) -> T:
    """The answer to a read that is asked again while the exchange turns it away; raises the last VenueError at the bound."""
    while True:
        try:
            return await bound.call(question())
        except VenueAway as error:
            if not await bound.pause(max(poll, wait_of(error))):
                raise


def wait_of(error: VenueError) -> float:
    """Seconds that the exchange asked us to stay away."""
    return error.retry_after_seconds if isinstance(error, VenueAway) else 0.0


async def answered[T](question: Awaitable[T], seconds: float) -> T | Problem:
    """The answer to a read, or why none came; nothing was done then."""
    try:
        return await Bound(seconds).call(question)
    except (VenueError, SealBroken) as error:
        return refusal_of(error)


def refusal_of(error: VenueError | SealBroken) -> Problem:
    """What a signed call that failed before anything was done is told as."""
    if isinstance(error, SealBroken):
        return no(OrderRefusal.SEAL_BROKEN, f"the account's keys do not open: {error}")
    if isinstance(error, VenueHalted):
        return no(OrderRefusal.VENUE_HALTED, f"the exchange does not take the account's key: {error}")
    return no(OrderRefusal.VENUE_AWAY, f"the exchange did not answer; nothing was sent: {error}")
