"""The use case behind GET /whales: the liquidation window as it stands, heaviest symbols first, without a request to the exchange."""

from collections.abc import Sequence
from typing import Final

from engine.analysis.sources import Sources, marks_of
from engine.analysis.whale_views import cascades_of, flows_of
from engine.core.market import ForcedOrder, Positioning, at
from engine.core.whales import WINDOW_MS, Traces, detect, flow_of
from shared.analysis import Liquidation, WhalesReply

MOST_RECENT: Final = 50
MOST_VIEWS: Final = 20


async def show_window(sources: Sources) -> WhalesReply:
    """What was liquidated in the last 300 s of market time, where each cascade stands, and how old the feed's word is.

    Raises:
        SnapshotsUnavailable: Redis does not answer.
    """
    state = await sources.snapshots.state()
    now_ms = sources.clock.now_ms()
    window = [order for order in await sources.snapshots.liquidations() if 0 <= now_ms - order.at_ms <= WINDOW_MS]
    symbols = _heaviest(window)
    cascades = await cascades_of(symbols, window, sources)
    flows, marks = await flows_of(sources), await marks_of(sources, symbols)
    views = [
        detect(
            symbol,
            Traces(
                flow=flow_of(window, symbol, now_ms),
                large=flows.get(symbol),
                positioning=Positioning(funding_ratio=float(marks[symbol].funding_rate) if symbol in marks else None),
                cascade=cascades[symbol],
            ),
        )
        for symbol in symbols
    ]
    return WhalesReply(
        as_of=sources.clock.now(),
        feed_age_ms=None if state is None else max(0, sources.clock.wall_ms() - state.beat_ms),
        views=views,
        recent=[_told(order) for order in sorted(window, key=lambda order: -order.at_ms)[:MOST_RECENT]],
    )


def _heaviest(window: Sequence[ForcedOrder]) -> list[str]:
    totals: dict[str, float] = {}
    for order in window:
        totals[order.symbol] = totals.get(order.symbol, 0.0) + order.usd
    return sorted(totals, key=lambda symbol: (-totals[symbol], symbol))[:MOST_VIEWS]


def _told(order: ForcedOrder) -> Liquidation:
    return Liquidation(
        symbol=order.symbol, side=order.side, price=order.price, quantity=order.quantity, usd=order.usd, at=at(order.at_ms)
    )
