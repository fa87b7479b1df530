"""The use case behind POST /marks: what each symbol's mark price did since the caller last looked, for stops, targets and funding.

Ticks where the feed was up, else 1m klines (`engine.core.ticks` says which), never anything before `since`. Gaps are never papered over:
a symbol whose bars did not come is missing, and its caller asks again from the same moment.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from engine.analysis.sources import Sources, marks_of, ticks_of
from engine.core.market import FUNDING_GRACE_MS, HOUR_MS, MINUTE_MS, Funding, Mark, MarkBar, at, ms_of
from engine.core.ticks import Tick, first_whole_minute, minutes_heard, ticks_told, unfinished_from
from engine.errors import ExchangeError, ExchangeUnreachable
from shared.analysis import Bar, FundingEvent, MarksReply, MarksRequest, SymbolMarks

MARK_AGE_MS: Final = 10_000
"""Market age past which a mark from the feed is asked again, since market time may run faster than the stream's second."""

LOOK_SECONDS: Final = 4.0
"""Wall time of a whole look, below the five seconds that its caller waits: a symbol that is slow is missing, and the others are judged."""

ALL_MARKS_SECONDS: Final = 1.5

ALL_AT_ONCE: Final = 10
"""All marks weigh 10, one weighs 1."""


class _Fed(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed knows of the symbols asked for."""

    marks: Mapping[str, Mark]
    ticks: Mapping[str, Sequence[Tick]]


async def look(request: MarksRequest, sources: Sources) -> MarksReply:
    """The marks, bars and funding of every symbol asked for; one that is missing never affects another.

    Args:
        request: From which moment of market time each symbol's bars are wanted.
        sources: Feed first, else by request.
    """
    ends = asyncio.get_running_loop().time() + LOOK_SECONDS
    marks, ticks = await asyncio.gather(_live_marks(list(request.since), sources), ticks_of(sources, request.since))
    fed = _Fed(marks=marks, ticks=ticks)
    found = await asyncio.gather(*(_in_time(symbol, since, fed, sources, ends) for symbol, since in request.since.items()))
    kept = {symbol: outcome for symbol, outcome in zip(request.since, found, strict=True) if isinstance(outcome, SymbolMarks)}
    missing = {
        symbol: str(outcome) for symbol, outcome in zip(request.since, found, strict=True) if isinstance(outcome, ExchangeError)
    }
    return MarksReply(as_of=sources.clock.now(), marks=kept, missing=missing)


async def _live_marks(symbols: Sequence[str], sources: Sources) -> Mapping[str, Mark]:
    now_ms = sources.clock.now_ms()
    fed = {name: mark for name, mark in (await marks_of(sources, symbols)).items() if now_ms - mark.at_ms <= MARK_AGE_MS}
    if len(symbols) - len(fed) < ALL_AT_ONCE:
        return fed
    try:
        async with asyncio.timeout(ALL_MARKS_SECONDS):
            return {**await sources.market.marks(), **fed}
    except (ExchangeError, TimeoutError):
        return fed


async def _in_time(symbol: str, since: datetime, fed: _Fed, sources: Sources, ends: float) -> SymbolMarks | ExchangeError:
    try:
        async with asyncio.timeout_at(ends):
            return await _symbol(symbol, since, fed, sources)
    except TimeoutError:
        return ExchangeUnreachable(f"{symbol}: not in time")


async def _symbol(symbol: str, since: datetime, fed: _Fed, sources: Sources) -> SymbolMarks | ExchangeError:
    since_ms, ticks = ms_of(since), fed.ticks.get(symbol, ())
    try:
        mark = fed.marks.get(symbol) or await sources.market.mark(symbol)
        now_ms = max(sources.clock.now_ms(), mark.at_ms)
        heard = minutes_heard(ticks, since_ms, now_ms)
        klines, fundings = await asyncio.gather(
            _klines(symbol, since_ms, now_ms, heard, sources), _fundings(symbol, since_ms, now_ms, sources)
        )
    except ExchangeError as error:
        return error
    seen_ms = max(sources.clock.now_ms(), now_ms)
    unfinished = unfinished_from(ticks, heard, since_ms, now_ms)
    bars = _told(klines, ticks_told(ticks, heard, since_ms), mark, since_ms, seen_ms)
    return SymbolMarks(
        mark=mark.price,
        as_of=at(mark.at_ms),
        age_ms=max(0, sources.clock.wall_ms() - mark.received_ms),
        bars=bars,
        funding=[_event(funding, bars, mark) for funding in fundings],
        since=since if since_ms > now_ms else at(_next_look(since_ms, now_ms, fundings, unfinished)),
    )


async def _klines(symbol: str, since_ms: int, now_ms: int, heard: Collection[int], sources: Sources) -> Sequence[MarkBar]:
    """Of the minutes that were not heard whole; asked for up to now, since bars are kept a while under the minute they were asked in."""
    unheard = (minute for minute in range(first_whole_minute(since_ms), now_ms + 1, MINUTE_MS) if minute not in heard)
    first = next(unheard, None)
    if first is None:
        return []
    return [bar for bar in await sources.market.mark_bars(symbol, first, now_ms) if bar.open_ms not in heard]


async def _fundings(symbol: str, since_ms: int, now_ms: int, sources: Sources) -> Sequence[Funding]:
    if now_ms // HOUR_MS == since_ms // HOUR_MS:
        return []
    return await sources.market.fundings(symbol, since_ms, now_ms)


def _told(klines: Sequence[MarkBar], ticks: Sequence[Tick], mark: Mark, since_ms: int, seen_ms: int) -> list[Bar]:
    """Klines and ticks oldest first, and at last the live mark where it is newer than all of them."""
    told = [
        Bar(from_=at(bar.open_ms), to=at(min(bar.close_ms, max(seen_ms, bar.open_ms))), open=bar.open, high=bar.high, low=bar.low)
        for bar in klines
    ]
    told = sorted([*told, *(_moment(tick.at_ms, tick.price) for tick in ticks)], key=lambda bar: bar.from_)
    newest_ms = max([since_ms, *(bar.open_ms for bar in klines[-1:]), *(tick.at_ms + 1 for tick in ticks[-1:])])
    return [*told, _moment(mark.at_ms, mark.price)] if mark.at_ms >= newest_ms else told


def _moment(at_ms: int, price: Decimal) -> Bar:
    return Bar(from_=at(at_ms), to=at(at_ms), open=price, high=price, low=price)


def _event(funding: Funding, bars: Sequence[Bar], mark: Mark) -> FundingEvent:
    minute = funding.at_ms // MINUTE_MS * MINUTE_MS
    opened = next((bar.open for bar in bars if at(minute) <= bar.from_ < at(minute + MINUTE_MS)), mark.price)
    return FundingEvent(at=at(funding.at_ms), rate=funding.rate, mark=opened if funding.mark is None else funding.mark)


def _next_look(since_ms: int, now_ms: int, fundings: Sequence[Funding], unfinished_ms: int | None) -> int:
    following = max(since_ms, now_ms // MINUTE_MS * MINUTE_MS)
    if unfinished_ms is not None:
        following = min(following, max(since_ms, unfinished_ms))
    hour = now_ms // HOUR_MS * HOUR_MS
    settled = any(funding.at_ms >= hour for funding in fundings)
    if since_ms < hour and not settled and now_ms - hour < FUNDING_GRACE_MS:
        return min(following, max(since_ms, hour - MINUTE_MS))
    return following
