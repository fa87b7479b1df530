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


class Took(float):
    """Milliseconds that a work measured itself, instead of who asked for it: it runs in another process."""


AROUND = 3
WARM_SECONDS = 0.3

type Work = Callable[[], Awaitable[object]]


def again(work: Work) -> Work:
    """The last of several goes in a row, the others as long for either side: after a wait two processes that talk are slow for some goes."""

    async def last() -> Took:
        begun = time.perf_counter()
        while time.perf_counter() - begun < WARM_SECONDS:
            await work()
        return Took(await _timed(work, bool))

    return last


async def alternate(ours: Work, peer: Work, rounds: int, before: Callable[[], object] = bool) -> Ratio:
    """One untimed round of each, then `rounds` timed pairs; which goes first changes with every round.

    `before` is called ahead of each timed work, untimed.
    """
    (found,) = await alternate_with([ours], peer, rounds, before)
    return found


async def alternate_with(ours: list[Work], peer: Work, rounds: int, before: Callable[[], object] = bool) -> list[Ratio]:
    """The same for several of our ways beside one round of a peer that takes long."""
    for work in (*ours, peer):
        await work()
    return await _measure(ours, peer, rounds, before)


async def once_with(ours: list[Work], peer: Work) -> list[Ratio]:
    """One timed round of a peer that takes very long, with some of ours ahead of it and as many after; only ours are warmed up."""
    for work in ours:
        await work()
    taken: list[list[float]] = [[] for _ in ours]
    for which, work in [*enumerate(ours)] * AROUND:
        taken[which].append(await _timed(work, bool))
    theirs = await _timed(peer, bool)
    for which, work in [*enumerate(ours)] * AROUND:
        taken[which].append(await _timed(work, bool))
    return [_ratio([statistics.median(mine)], [theirs]) for mine in taken]


async def _measure(ours: list[Work], peer: Work, rounds: int, before: Callable[[], object]) -> list[Ratio]:
    taken: list[list[float]] = [[] for _ in range(len(ours) + 1)]
    for place in range(rounds):
        works = list(enumerate([*ours, peer]))
        for which, work in reversed(works) if place % 2 else works:
            taken[which].append(await _timed(work, before))
    return [_ratio(mine, taken[-1]) for mine in taken[:-1]]


def _ratio(mine: list[float], theirs: list[float]) -> Ratio:
    return Ratio(
        ratio=round(statistics.median(their / my for my, their in zip(mine, theirs, strict=True)), 2),
        ours_ms=round(statistics.median(mine), 3),
        peer_ms=round(statistics.median(theirs), 3),
        n=len(mine),
    )


async def _timed(work: Work, before: Callable[[], object]) -> float:
    before()
    begun = time.perf_counter()
    took = await work()
    return took if isinstance(took, Took) else (time.perf_counter() - begun) * 1000
