"""Ratios of two ways to do the same work, measured in one run with rounds alternating, so that a busy machine slows both."""

import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """The peer's time over ours, as the median of the rounds' ratios; medians of each in milliseconds, and the rounds."""

    ratio: float
    ours_ms: float
    peer_ms: float
    n: int


type Work = Callable[[], Awaitable[object]]


async def alternate(ours: Work, peer: Work, rounds: int, before: Callable[[], object] = bool) -> Ratio:
    """One untimed round of each, then `rounds` timed pairs; which goes first changes with every round.

    `before` is called ahead of each timed work, untimed.
    """
    await ours()
    await peer()
    pairs: list[tuple[float, float]] = []
    for place in range(rounds):
        if place % 2:
            theirs = await _timed(peer, before)
            pairs.append((await _timed(ours, before), theirs))
        else:
            pairs.append((await _timed(ours, before), await _timed(peer, before)))
    return Ratio(
        ratio=round(statistics.median(theirs / mine for mine, theirs in pairs), 2),
        ours_ms=round(statistics.median(mine for mine, _ in pairs), 3),
        peer_ms=round(statistics.median(theirs for _, theirs in pairs), 3),
        n=rounds,
    )


async def _timed(work: Work, before: Callable[[], object]) -> float:
    before()
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1000
