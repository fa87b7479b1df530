"""The mark price second by second, as the feed heard it: which minutes it heard whole, and what of it is told.

A minute that was heard whole is told by its ticks, which keep the order in which prices were touched; any other by its kline. Of the
minute that holds the caller's `since` no kline is told, since it would reach before it: there every tick that was heard is told, and
one that was not heard is not made up.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from engine.core.market import MINUTE_MS, Mark

GAP_MS: Final = 1_500
"""Marks come each second: neighbours further apart in market time have lost one between them, nearer ones only jitter."""

LAG_MS: Final = 3_000
"""Market age past which the newest tick no longer covers what came since."""

LATE_MS: Final = 10_000
"""For so long of market time after the newest tick the end of a part-minute is waited for: only its ticks tell of it."""

MOST_FRAMES: Final = 180
"""Events kept: three minutes at the exchange's pace, and no more however fast market time runs."""

REACH_MS: Final = 150_000
"""How far back ticks are asked for; before that, klines."""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's mark price at one moment of market time."""

    at_ms: int
    price: Decimal


class TickFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """All marks of one event: two columns of text, since only a few of hundreds are ever read and a column is read at once.

    Args:
        at_ms: The newest moment in it.
        symbols: Parted by commas; from one event to the next nearly always the same.
        prices: Of these, in their order.
        odd_ms: The moments of symbols whose mark is of another one.
    """

    at_ms: int
    symbols: str
    prices: str
    odd_ms: dict[str, int] = {}


def frame_of(marks: Sequence[Mark]) -> TickFrame:
    """The marks of one event, at least one."""
    newest = max(mark.at_ms for mark in marks)
    return TickFrame(
        at_ms=newest,
        symbols=",".join(mark.symbol for mark in marks),
        prices=",".join(str(mark.price) for mark in marks),
        odd_ms={mark.symbol: mark.at_ms for mark in marks if mark.at_ms != newest},
    )


def ticks_in(frames: Sequence[TickFrame], from_ms: Mapping[str, int]) -> dict[str, list[Tick]]:
    """Each symbol's ticks since its moment, oldest first, one a moment; a price that is no number is as if it was not heard."""
    heard: dict[str, dict[int, Decimal]] = {symbol: {} for symbol in from_ms}
    for frame in frames:
        places, prices = _places(frame.symbols), frame.prices.split(",")
        for symbol in from_ms:
            place = places.get(symbol, len(prices))
            price = _price(prices[place]) if place < len(prices) and frame.at_ms >= from_ms[symbol] else None
            if price is not None:
                heard[symbol][frame.odd_ms.get(symbol, frame.at_ms)] = price
    return {symbol: [Tick(at_ms=at_ms, price=price) for at_ms, price in sorted(found.items())] for symbol, found in heard.items()}


@lru_cache(maxsize=8)
def _places(symbols: str) -> dict[str, int]:
    return {symbol: place for place, symbol in enumerate(symbols.split(","))}


def first_whole_minute(since_ms: int) -> int:
    """Where the first minute opens that does not reach before `since`."""
    return -(-since_ms // MINUTE_MS) * MINUTE_MS


def minutes_heard(ticks: Sequence[Tick], since_ms: int, now_ms: int) -> frozenset[int]:
    """The openings of the minutes from `since` to now that were heard whole: no second is missing from before each to its end.

    The minute at whose end a tick may still be on its way is heard while the newest one is at most LAG_MS behind.
    """
    spans = _spans(ticks)
    if not spans:
        return frozenset()
    first = max(first_whole_minute(since_ms), spans[0][0] // MINUTE_MS * MINUTE_MS)
    return frozenset(
        minute
        for minute in range(first, now_ms + 1, MINUTE_MS)
        if any(start <= minute and min(minute + MINUTE_MS, now_ms - LAG_MS) <= end for start, end in spans)
    )


def ticks_told(ticks: Sequence[Tick], heard: frozenset[int], since_ms: int) -> list[Tick]:
    """Those of the minutes heard whole and of the part of a minute after `since`, oldest first, none before `since`."""
    part_ends = first_whole_minute(since_ms)
    return [
        tick
        for tick in ticks
        if tick.at_ms >= since_ms and (tick.at_ms < part_ends or tick.at_ms // MINUTE_MS * MINUTE_MS in heard)
    ]


def unfinished_from(ticks: Sequence[Tick], heard: frozenset[int], since_ms: int, now_ms: int) -> int | None:
    """From where the next look must ask again, since a tick may still be on its way; None where none is waited for.

    A minute told by ticks, and the part of one after `since`, are over for the feed when it heard a tick after their end.
    """
    if not ticks:
        return None
    newest_ms = ticks[-1].at_ms
    if newest_ms < first_whole_minute(since_ms) and now_ms - newest_ms <= LATE_MS:
        return since_ms
    return min((minute for minute in heard if newest_ms < minute + MINUTE_MS), default=None)


def _spans(ticks: Sequence[Tick]) -> list[tuple[int, int]]:
    """From when to when no second is missing."""
    if not ticks:
        return []
    breaks = [(before.at_ms, after.at_ms) for before, after in pairwise(ticks) if after.at_ms - before.at_ms > GAP_MS]
    starts = [ticks[0].at_ms, *(after for _, after in breaks)]
    ends = [*(before for before, _ in breaks), ticks[-1].at_ms]
    return list(zip(starts, ends, strict=True))


def _price(text: str) -> Decimal | None:
    try:
        price = Decimal(text)
    except InvalidOperation:
        return None
    return price if price.is_finite() and price > 0 else None
