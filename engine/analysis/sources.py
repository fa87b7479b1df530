"""Where the use cases get each thing: from the feed while it is fresh, else by request, and they say which."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from engine.core.market import Candles, ForcedOrder, Mark, Ticker, ms_of
from engine.core.ticks import REACH_MS, Tick
from engine.errors import SnapshotsUnavailable
from engine.ports import Clock, MarketData, Snapshots

FRESH_MS: Final = 5_000
"""Wall age past which the feed's word is not used; every stream sends each second."""

TICKER_MS: Final = 60_000
"""Wall age past which a single symbol's ticker is stale: one that trades enough for us changes within seconds."""

COVERAGE: Final = 0.9
"""The ticker stream sends changed symbols only: right after its start the feed does not know the market yet."""

SKEW_MS: Final = 600_000
"""Wall age past which the skew that the feed told says nothing any more."""

CANDLE_SETTLES_MS: Final = 2_000
"""Market time after a close in which the exchange still writes its candle: one that is read by request then would be kept unfinished, while
closing frames are final. It is also what our clock may be behind the feed's."""

type Widen = Callable[[Candles], dict[str, float]]
"""The wider indicator set of one shortlisted symbol, from its 15m candles."""


def unmeasured() -> int | None:
    """What a clock skew is where nobody measures it."""
    return None


class Governor(msgspec.Struct, frozen=True, kw_only=True):
    """What reading may cost: `left` of the request weight of all processes now, `cost` of a symbol's candles."""

    left: Callable[[], Awaitable[int]]
    cost: Callable[[str], int]


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What the use cases ask; without a governor reading is bounded by the budget's own waits alone.

    `settles_ms`: market time after a close in which no candle is read by request. `skew_ms`: what the exchange's clock is ahead of ours,
    milliseconds of wall time, None where it is not measured.
    """

    market: MarketData
    snapshots: Snapshots
    clock: Clock
    governor: Governor | None = None
    settles_ms: int = 0
    skew_ms: Callable[[], int | None] = unmeasured


class Tickers(msgspec.Struct, frozen=True, kw_only=True):
    """24 h tickers by symbol; `stale` have one that is too old, with its wall age in milliseconds."""

    living: Mapping[str, Ticker]
    stale: Mapping[str, int] = {}


def counted(symbols: int) -> str:
    """How many symbols, in words of a reply's fallbacks."""
    return f"{symbols} symbol{'' if symbols == 1 else 's'}"


async def tickers_of(sources: Sources, universe: Sequence[str], fallbacks: list[str]) -> Tickers:
    """The 24 h tickers of the universe: the feed's while fresh and whole, else by request."""
    try:
        kept = await sources.snapshots.tickers()
    except SnapshotsUnavailable:
        kept = {}
    now_ms = sources.clock.wall_ms()
    newest = max((ticker.received_ms for ticker in kept.values()), default=0)
    living = {symbol: ticker for symbol, ticker in kept.items() if now_ms - ticker.received_ms <= TICKER_MS}
    covered = sum(symbol in living for symbol in universe)
    if now_ms - newest <= FRESH_MS and covered >= COVERAGE * len(universe):
        old = (symbol for symbol in universe if symbol in kept and symbol not in living)
        return Tickers(living=living, stale={symbol: now_ms - kept[symbol].received_ms for symbol in old})
    fallbacks.append("tickers from REST")
    return Tickers(living=await sources.market.tickers())


async def skew_of(sources: Sources, fallbacks: list[str]) -> tuple[str, int]:
    """Whose clock is the worse, ours or the feed's, and what the exchange's is ahead of it, milliseconds; one that is not measured is said.

    By ours every age is judged, whatever the feed's says; by the feed's it is told when anything was received.
    """
    measured = {"clock skew": sources.skew_ms(), "clock skew of the feed": await _skew_of_feed(sources)}
    fallbacks += [f"{what} not measured" for what, skew_ms in measured.items() if skew_ms is None]
    own, feed = measured.values()
    ours, theirs = ("our clock", own or 0), ("the feed's clock", feed or 0)
    return max(ours, theirs, key=lambda one: abs(one[1]))


async def _skew_of_feed(sources: Sources) -> int | None:
    try:
        state = await sources.snapshots.figures_state()
    except SnapshotsUnavailable:
        return None
    if state is None or sources.clock.wall_ms() - state.written_ms > SKEW_MS:
        return None
    return state.skew_ms


async def liquidations_of(sources: Sources, fallbacks: list[str]) -> Sequence[ForcedOrder]:
    """The liquidation window; empty, and said so, where the feed is silent: no request gives it."""
    try:
        state = await sources.snapshots.state()
        if state is not None and sources.clock.wall_ms() - state.beat_ms <= FRESH_MS and state.connected:
            return await sources.snapshots.liquidations()
    except SnapshotsUnavailable:
        pass
    fallbacks.append("no liquidations: the feed is silent")
    return []


async def marks_speak(sources: Sources) -> bool:
    """Whether the feed hears marks now; a path that ended before is none."""
    try:
        state = await sources.snapshots.state()
    except SnapshotsUnavailable:
        return False
    return state is not None and state.marks_ms is not None and sources.clock.wall_ms() - state.marks_ms <= FRESH_MS


async def marks_of(sources: Sources, symbols: Sequence[str]) -> Mapping[str, Mark]:
    """The marks of these symbols that the feed received within the last seconds."""
    try:
        kept = await sources.snapshots.marks()
    except SnapshotsUnavailable:
        return {}
    oldest = sources.clock.wall_ms() - FRESH_MS
    return {symbol: kept[symbol] for symbol in symbols if symbol in kept and kept[symbol].received_ms >= oldest}


async def ticks_of(sources: Sources, since: Mapping[str, datetime]) -> Mapping[str, Sequence[Tick]]:
    """The ticks that the feed heard of each symbol since its moment, of the last minutes only; empty where Redis does not answer."""
    now_ms = sources.clock.now_ms()
    oldest_ms = now_ms - REACH_MS
    wanted = {symbol: max(ms_of(moment), oldest_ms) for symbol, moment in since.items() if ms_of(moment) <= now_ms}
    if not wanted:
        return {}
    try:
        return await sources.snapshots.ticks(wanted)
    except SnapshotsUnavailable:
        return {}
