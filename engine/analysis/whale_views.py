"""What large hands do to the shortlisted symbols: every trace from where it is known best, to a view of each.

The second half of `scan`'s way: features choose, whales veto or raise. What does not answer gives no points and never stops a scan.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import msgspec

from engine.analysis.sources import FRESH_MS, Sources, counted, liquidations_of, marks_of, marks_speak, ticks_of
from engine.core.cascade import WINDOW_MS, Cascade, cascade_of
from engine.core.large_trades import TradeFlow, trades_in_window
from engine.core.market import ForcedOrder, Mark, Trade, at
from engine.core.ticks import Tick
from engine.core.whales import Traces, detect, flow_of
from engine.errors import ExchangeError, SnapshotsUnavailable
from shared.analysis import WhaleView

WHOLE_MS: Final = WINDOW_MS - 5_000
"""Market time for which a symbol's trades were listened to before the stream's word counts; until then the last 100 are asked for."""


async def whale_views(symbols: Sequence[str], sources: Sources, fallbacks: list[str]) -> dict[str, WhaleView]:
    """A view of each symbol.

    Args:
        symbols: The shortlist; the feed is asked to listen to their trades from now on.
        sources: Exchange, feed and clock.
        fallbacks: Takes what could not be known from the feed.
    """
    if not symbols:
        return {}
    orders, flows, marks, _ = await asyncio.gather(
        liquidations_of(sources, fallbacks), flows_of(sources), marks_of(sources, symbols), _want(symbols, sources)
    )
    cascades = await cascades_of(symbols, orders, sources)
    now_ms = sources.clock.now_ms()
    heard = [
        Traces(flow=flow_of(orders, symbol, now_ms), large=flows.get(symbol), cascade=cascades[symbol]) for symbol in symbols
    ]
    traces = await asyncio.gather(
        *(_asked(symbol, known, marks.get(symbol), sources) for symbol, known in zip(symbols, heard, strict=True))
    )
    found = dict(zip(symbols, traces, strict=True))
    fallbacks += _said(found, marks)
    return {symbol: detect(symbol, known) for symbol, known in found.items()}


def _said(found: Mapping[str, Traces], marks: Mapping[str, Mark]) -> list[str]:
    """What came by request, and what did not come at all."""
    trades = [known.trades is not None for known in found.values() if known.large is None]
    funding = [known.positioning.funding_ratio is not None for symbol, known in found.items() if symbol not in marks]
    bare = sum(known.book is None for known in found.values())
    unanswered = sum(known.cascade.events > 0 and known.cascade.answer is None for known in found.values())
    said = []
    for what, came in (("large trades", trades), ("funding", funding)):
        said += [f"{what} of {counted(sum(came))} from REST"] if any(came) else []
        said += [] if all(came) else [f"no {what} of {counted(came.count(False))}"]
    said += [f"no book of {counted(bare)}"] if bare else []
    return [*said, f"no marks of {counted(unanswered)}: cascades unknown"] if unanswered else said


async def cascades_of(symbols: Sequence[str], orders: Sequence[ForcedOrder], sources: Sources) -> dict[str, Cascade]:
    """Where each symbol's cascade stands; the price's answer is that of the marks that the feed hears."""
    now_ms = sources.clock.now_ms()
    own = {symbol: [order for order in orders if order.symbol == symbol] for symbol in symbols}
    forced = {symbol: at(now_ms - WINDOW_MS) for symbol, found in own.items() if found}
    ticks = await ticks_of(sources, forced) if forced and await marks_speak(sources) else {}
    return {symbol: cascade_of(found, _path(ticks.get(symbol, ())), now_ms) for symbol, found in own.items()}


async def flows_of(sources: Sources) -> Mapping[str, TradeFlow]:
    """Large trades of the symbols that the feed has listened to for the whole window; empty where it does not now."""
    try:
        windows = await sources.snapshots.large_trades()
    except SnapshotsUnavailable:
        return {}
    if windows is None or not windows.connected or sources.clock.wall_ms() - windows.beat_ms > FRESH_MS:
        return {}
    now_ms = sources.clock.now_ms()
    return {flow.symbol: flow for flow in windows.flows if now_ms - flow.since_ms >= WHOLE_MS}


async def _want(symbols: Sequence[str], sources: Sources) -> None:
    try:
        await sources.snapshots.want_trades(symbols)
    except SnapshotsUnavailable:
        return


async def _asked(symbol: str, heard: Traces, mark: Mark | None, sources: Sources) -> Traces:
    """With what is asked for by request; what does not come is None."""
    book, trades, positioning = await asyncio.gather(
        _or_none(sources.market.book(symbol)),
        _or_none(_trades(symbol, sources)) if heard.large is None else _nothing(),
        sources.market.positioning(symbol, mark),
    )
    return msgspec.structs.replace(heard, book=book, trades=trades, positioning=positioning)


async def _trades(symbol: str, sources: Sources) -> list[Trade]:
    return trades_in_window(await sources.market.trades(symbol), sources.clock.now_ms())


def _path(ticks: Sequence[Tick]) -> list[tuple[int, float]]:
    return [(tick.at_ms, float(tick.price)) for tick in ticks]


async def _nothing() -> None:
    return None


async def _or_none[T](asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except ExchangeError:
        return None
