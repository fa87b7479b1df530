"""The use case behind POST /marks: what each symbol's mark price did since the caller last looked, for stops, targets and funding.

Gaps are never papered over: a symbol whose bars did not come is missing, and its caller asks again from the same moment.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from engine.analysis.sources import Sources, marks_of
from engine.core.market import FUNDING_GRACE_MS, HOUR_MS, MINUTE_MS, Funding, Mark, MarkBar, at, ms_of
from engine.errors import ExchangeError, ExchangeUnreachable
from shared.analysis import Bar, FundingEvent, MarksReply, MarksRequest, SymbolMarks

MARK_AGE_MS: Final = 10_000
"""Market age past which a mark from the feed is asked again, since market time may run faster than the stream's second."""

LOOK_SECONDS: Final = 4.0
"""Wall time of a whole look, below the five seconds that its caller waits: a symbol that is slow is missing, and the others are judged."""

ALL_MARKS_SECONDS: Final = 1.5

ALL_AT_ONCE: Final = 10
"""All marks weigh 10, one weighs 1."""


async def look(request: MarksRequest, sources: Sources) -> MarksReply:
    """The marks, bars and funding of every symbol asked for; one that is missing never affects another.

    Args:
        request: From which moment of market time each symbol's bars are wanted.
        sources: Feed first, else by request.
    """
    ends = asyncio.get_running_loop().time() + LOOK_SECONDS
    marks = await _live_marks(list(request.since), sources)
    found = await asyncio.gather(*(_in_time(symbol, since, marks, sources, ends) for symbol, since in request.since.items()))
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


async def _in_time(
    symbol: str, since: datetime, marks: Mapping[str, Mark], sources: Sources, ends: float
) -> SymbolMarks | ExchangeError:
    try:
        async with asyncio.timeout_at(ends):
            return await _symbol(symbol, since, marks, sources)
    except TimeoutError:
        return ExchangeUnreachable(f"{symbol}: not in time")


async def _symbol(symbol: str, since: datetime, marks: Mapping[str, Mark], sources: Sources) -> SymbolMarks | ExchangeError:
    since_ms = ms_of(since)
    try:
        mark = marks.get(symbol) or await sources.market.mark(symbol)
        now_ms = max(sources.clock.now_ms(), mark.at_ms)
        bars, fundings = await asyncio.gather(
            _bars(symbol, since_ms, now_ms, sources), _fundings(symbol, since_ms, now_ms, sources)
        )
    except ExchangeError as error:
        return error
    seen_ms = max(sources.clock.now_ms(), now_ms)
    return SymbolMarks(
        mark=mark.price,
        as_of=at(mark.at_ms),
        age_ms=max(0, sources.clock.wall_ms() - mark.received_ms),
        bars=_told(bars, mark, since_ms, seen_ms),
        funding=[_event(funding, bars, mark) for funding in fundings],
        since=since if since_ms > now_ms else at(_next_look(since_ms, now_ms, fundings)),
    )


async def _bars(symbol: str, since_ms: int, now_ms: int, sources: Sources) -> Sequence[MarkBar]:
    first = -(-since_ms // MINUTE_MS) * MINUTE_MS
    return await sources.market.mark_bars(symbol, first, now_ms) if first <= now_ms else []


async def _fundings(symbol: str, since_ms: int, now_ms: int, sources: Sources) -> Sequence[Funding]:
    if now_ms // HOUR_MS == since_ms // HOUR_MS:
        return []
    return await sources.market.fundings(symbol, since_ms, now_ms)


def _told(bars: Sequence[MarkBar], mark: Mark, since_ms: int, seen_ms: int) -> list[Bar]:
    told = [
        Bar(from_=at(bar.open_ms), to=at(min(bar.close_ms, max(seen_ms, bar.open_ms))), open=bar.open, high=bar.high, low=bar.low)
        for bar in bars
    ]
    newest_ms = bars[-1].open_ms if bars else since_ms
    if mark.at_ms >= max(since_ms, newest_ms):
        told.append(Bar(from_=at(mark.at_ms), to=at(mark.at_ms), open=mark.price, high=mark.price, low=mark.price))
    return told


def _event(funding: Funding, bars: Sequence[MarkBar], mark: Mark) -> FundingEvent:
    minute = funding.at_ms // MINUTE_MS * MINUTE_MS
    opened = next((bar.open for bar in bars if bar.open_ms == minute), mark.price)
    return FundingEvent(at=at(funding.at_ms), rate=funding.rate, mark=opened if funding.mark is None else funding.mark)


def _next_look(since_ms: int, now_ms: int, fundings: Sequence[Funding]) -> int:
    following = max(since_ms, now_ms // MINUTE_MS * MINUTE_MS)
    hour = now_ms // HOUR_MS * HOUR_MS
    settled = any(funding.at_ms >= hour for funding in fundings)
    if since_ms < hour and not settled and now_ms - hour < FUNDING_GRACE_MS:
        return max(since_ms, hour - MINUTE_MS)
    return following
