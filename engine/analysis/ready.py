"""The use case behind GET /ready: how old the last word of every source is, and whether the engine can do without it.

Exchange and Redis are must-haves: without them neither scan nor order is possible. A silent feed degrades: tickers, marks and candles come by
request, liquidations are missed; every reply says so.
"""

import asyncio
from typing import Final, Literal

import msgspec

from engine.errors import EngineError, SnapshotsUnavailable
from engine.ports import Analyst, Clock, FeedState, FiguresState, Heart, Snapshots, TradeWindows
from shared.enums import AnalystKind

STALE_MS: Final = 10_000
ASK_AFTER_MS: Final = 1_000
"""A source that spoke this recently is not asked again only to hear it."""

ASK_SECONDS: Final = 2.0

MOST_LATE: Final = 0.1
"""The share of symbols without their newest candle past which figures count as stale; a few are always being listed, or quiet."""


class SourceAge(msgspec.Struct, frozen=True, kw_only=True):
    """One source: wall milliseconds since its last word, None where it never spoke."""

    age_ms: int | None
    stale: bool
    must_have: bool


class FiguresReadiness(msgspec.Struct, frozen=True, kw_only=True):
    """What the leading feed knows: of `wanted` symbols `seeded` have figures, and `late` lack a candle that should have come.

    `skew_ms` is what the exchange's clock is ahead of the feed's, None where it is not measured.
    """

    leader: str
    wanted: int
    seeded: int
    late: int
    skew_ms: int | None


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Every source's age; unready where a must-have is stale, degraded where another one is."""

    status: Literal["ready", "degraded", "unready"]
    sources: dict[str, SourceAge]
    analyst: str
    reconnects: int
    figures: FiguresReadiness | None = None


async def readiness(exchange: Heart, redis: Heart, snapshots: Snapshots, analyst: Analyst, clock: Clock) -> Readiness:
    """Asks what has been silent and tells every age."""
    await asyncio.gather(_ask(exchange, clock), _ask(redis, clock))
    now_ms = clock.wall_ms()
    feed, figures, trades = await _told(snapshots)
    sources = {
        "exchange": _age(exchange.answered_ms, now_ms, must_have=True),
        "redis": _age(redis.answered_ms, now_ms, must_have=True),
        "feed": _age(feed.beat_ms if feed else None, now_ms),
        "feed_tickers": _age(feed.tickers_ms if feed else None, now_ms),
        "feed_marks": _age(feed.marks_ms if feed else None, now_ms),
        "feed_liquidations": _liquidations(feed, now_ms),
        "feed_figures": _age(figures.written_ms if figures else None, now_ms),
        "feed_candles": _candles(figures, now_ms),
        "feed_trades": _trades(trades, now_ms),
        "analyst": _analyst(analyst, now_ms),
    }
    return Readiness(
        status=_status(sources),
        sources=sources,
        analyst=str(analyst.kind),
        reconnects=feed.reconnects if feed else 0,
        figures=_known(figures) if figures else None,
    )


def _known(figures: FiguresState) -> FiguresReadiness:
    return FiguresReadiness(
        leader=figures.leader, wanted=figures.wanted, seeded=figures.seeded, late=figures.late, skew_ms=figures.skew_ms
    )


def _status(sources: dict[str, SourceAge]) -> Literal["ready", "degraded", "unready"]:
    stale = [source for source in sources.values() if source.stale]
    if any(source.must_have for source in stale):
        return "unready"
    return "degraded" if stale else "ready"


def _age(spoke_ms: int | None, now_ms: int, *, must_have: bool = False) -> SourceAge:
    age = None if spoke_ms is None else max(0, now_ms - spoke_ms)
    return SourceAge(age_ms=age, stale=age is None or age > STALE_MS, must_have=must_have)


def _liquidations(feed: FeedState | None, now_ms: int) -> SourceAge:
    """Liquidations may rightly be silent for minutes: this one is stale only where the connection is down."""
    spoke_ms = feed.liquidations_ms if feed else None
    down = feed is None or not feed.connected or now_ms - feed.beat_ms > STALE_MS
    return SourceAge(age_ms=None if spoke_ms is None else max(0, now_ms - spoke_ms), stale=down, must_have=False)


def _candles(figures: FiguresState | None, now_ms: int) -> SourceAge:
    """Closing frames come every 15 market minutes: this one is stale where too many symbols wait for theirs, or nobody says so."""
    if figures is None:
        return SourceAge(age_ms=None, stale=True, must_have=False)
    late = figures.late > MOST_LATE * figures.wanted or not figures.wanted
    age = None if figures.candles_ms is None else max(0, now_ms - figures.candles_ms)
    return SourceAge(age_ms=age, stale=late or now_ms - figures.written_ms > STALE_MS, must_have=False)


def _trades(windows: TradeWindows | None, now_ms: int) -> SourceAge:
    """The age of the feed's word, quiet or not: this one is stale where it does not listen."""
    beat = _age(windows.beat_ms if windows else None, now_ms)
    return msgspec.structs.replace(beat, stale=beat.stale or windows is None or not windows.connected)


def _analyst(analyst: Analyst, now_ms: int) -> SourceAge:
    """Rules always answer. A model is asked only when there are candidates: it is stale where its last question had no answer."""
    if analyst.kind is AnalystKind.RULES:
        return SourceAge(age_ms=0, stale=False, must_have=False)
    age = None if analyst.answered_ms is None else max(0, now_ms - analyst.answered_ms)
    return SourceAge(age_ms=age, stale=analyst.failing, must_have=False)


async def _ask(source: Heart, clock: Clock) -> None:
    if source.answered_ms is not None and clock.wall_ms() - source.answered_ms < ASK_AFTER_MS:
        return
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await source.beat()
    except (EngineError, TimeoutError):
        return


async def _told(snapshots: Snapshots) -> tuple[FeedState | None, FiguresState | None, TradeWindows | None]:
    try:
        return await snapshots.state(), await snapshots.figures_state(), await snapshots.large_trades()
    except SnapshotsUnavailable:
        return None, None, None
