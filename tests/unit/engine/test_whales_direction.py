"""Direction is used: nothing that speaks for a fall ever raises a long, whatever else is known, and the other way round."""

from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.cascade import Cascade
from engine.core.large_trades import TradeFlow
from engine.core.market import Book, Positioning
from engine.core.screen import weigh_whales
from engine.core.whales import Flow, Traces, detect, expected_side, forbids, pushed_side
from shared.analysis import CascadeState, WhaleView
from shared.enums import Side
from tests.unit.engine.market_world import candidate

usd = st.sampled_from([0.0, 4_000.0, 12_000.0, 60_000.0, 240_000.0, 2_000_000.0])
sizes = st.sampled_from([Decimal(1), Decimal(8), Decimal(12), Decimal(1_200)])


def book_of(bid: Decimal, ask: Decimal) -> Book:
    return Book(symbol="XUSDT", bids=((Decimal(100), bid),), asks=((Decimal("100.1"), ask),), at_ms=0, received_ms=0)


@st.composite
def traces(draw: st.DrawFn) -> Traces:
    return Traces(
        flow=Flow(long_usd=draw(usd), short_usd=draw(usd)),
        book=draw(st.none() | st.builds(book_of, sizes, sizes)),
        large=draw(st.none() | st.builds(TradeFlow, symbol=st.just("XUSDT"), bought_usd=usd, sold_usd=usd, trades=st.just(3))),
        positioning=Positioning(
            funding_ratio=draw(st.none() | st.sampled_from([-0.0004, -0.0002, 0.0, 0.0003, 0.0006])),
            long_short_ratio=draw(st.none() | st.sampled_from([0.6, 0.8, 1.0, 1.3, 1.6])),
        ),
        cascade=Cascade(state=draw(st.sampled_from(CascadeState)), side=draw(st.sampled_from([None, *Side]))),
    )


def score_of(side: Side, view: WhaleView) -> float:
    """What becomes of a candidate of 20 points; a veto is less than any score."""
    kept = weigh_whales([candidate(side=side, score=20.0)], {"XUSDT": view}, 10).candidates
    return kept[0].score if kept else 0.0


@settings(max_examples=200, deadline=None)
@given(traces(), st.sampled_from(Side))
def test_a_view_against_a_side_never_raises_it(seen: Traces, side: Side) -> None:
    view = detect("XUSDT", seen)
    if side.opposite in (expected_side(view), pushed_side(view)):
        assert forbids(view, side) is not None
        assert score_of(side, view) == 0.0
    elif expected_side(view) is not side:
        assert score_of(side, view) == 20.0


@settings(max_examples=200, deadline=None)
@given(traces(), st.sampled_from(["longs", "asks", "sold", "funding", "crowd", "cascade"]), usd)
def test_more_that_speaks_for_a_fall_never_raises_a_long(seen: Traces, more: str, amount: float) -> None:
    changed = worse(seen, more, amount)
    assert score_of(Side.LONG, detect("XUSDT", changed)) <= score_of(Side.LONG, detect("XUSDT", seen))


def worse(seen: Traces, more: str, amount: float) -> Traces:
    """The same with more on the side of a fall."""
    now = seen.positioning
    if more == "longs":
        return msgspec.structs.replace(seen, flow=msgspec.structs.replace(seen.flow, long_usd=seen.flow.long_usd + amount))
    if more == "asks":
        book = seen.book and msgspec.structs.replace(seen.book, asks=((seen.book.asks[0][0], seen.book.asks[0][1] * 3),))
        return msgspec.structs.replace(seen, book=book)
    if more == "sold":
        large = seen.large and msgspec.structs.replace(seen.large, sold_usd=seen.large.sold_usd + amount)
        return msgspec.structs.replace(seen, large=large)
    if more == "funding":
        now = msgspec.structs.replace(now, funding_ratio=max(now.funding_ratio or 0.0, 0.0006))
    if more == "crowd":
        now = msgspec.structs.replace(now, long_short_ratio=max(now.long_short_ratio or 0.0, 1.6))
    running = Cascade(state=CascadeState.RUNNING, side=Side.LONG) if more == "cascade" else seen.cascade
    return msgspec.structs.replace(seen, positioning=now, cascade=running)
