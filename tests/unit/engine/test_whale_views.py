"""What a view of a shortlisted symbol is made of: each trace from where it is known best, and nothing made up."""

from decimal import Decimal

import msgspec
import pytest

from engine.analysis.sources import Sources
from engine.analysis.whale_views import whale_views
from engine.analysis.whales import show_window
from engine.core.large_trades import TradeFlow
from engine.core.market import Trade
from engine.core.ticks import Tick
from engine.ports import TradeWindows
from shared.analysis import CascadeState, WhaleSignal
from shared.enums import Side
from tests.unit.engine.execution_desk import WALL_MS
from tests.unit.engine.market_world import NOW_MS, Kept, World, book, forced, living_feed, mark


def falling_world() -> tuple[World, Kept, Sources]:
    """XUSDT: longs are forced out every two seconds, and its mark falls 1.5 % in ninety."""
    world, kept = World(), Kept()
    world.book_of["XUSDT"] = book("XUSDT")
    world.mark_of["XUSDT"] = mark("XUSDT", "98.5")
    kept.feed = living_feed()
    kept.orders = [forced("XUSDT", 20_000, Side.LONG, NOW_MS - second * 1_000) for second in range(40, 0, -2)]
    kept.mark_of["XUSDT"] = mark("XUSDT", "98.5")
    kept.ticks_of["XUSDT"] = [
        Tick(at_ms=NOW_MS - second * 1_000, price=Decimal("98.5") + Decimal(second) / 60) for second in range(90, -1, -1)
    ]
    return world, kept, Sources(market=world, snapshots=kept, clock=world.clock)


async def test_a_view_says_where_the_cascade_stands_by_the_feeds_orders_and_marks() -> None:
    _, _, sources = falling_world()
    view = (await whale_views(["XUSDT"], sources, []))["XUSDT"]
    assert (view.cascade, view.cascade_side, view.liquidations) == (CascadeState.RUNNING, Side.LONG, 20)
    assert view.cascade_answer_ratio is not None
    assert 0.013 < view.cascade_answer_ratio < 0.016
    assert view.signal is WhaleSignal.SQUEEZE_LONGS
    assert view.book_imbalance_ratio == pytest.approx(0.0, abs=1e-3)
    assert (view.buy_wall, view.sell_wall) == (False, False)


async def test_the_window_of_whales_tells_the_same_cascade_and_funding_without_asking_the_exchange() -> None:
    world, _, sources = falling_world()
    (view,) = (await show_window(sources)).views
    assert (view.cascade, view.cascade_side, view.funding_ratio) == (CascadeState.RUNNING, Side.LONG, 0.0001)
    assert view.book_imbalance_ratio is None
    assert world.asked == []


async def test_where_the_feed_is_silent_there_is_no_cascade_and_the_reply_says_why() -> None:
    _, kept, sources = falling_world()
    kept.feed = None
    fallbacks: list[str] = []
    view = (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"]
    assert (view.cascade, view.liquidations) == (CascadeState.NONE, 0)
    assert fallbacks == ["no liquidations: the feed is silent", "large trades of 1 symbol from REST"]


async def test_a_cascade_whose_marks_are_silent_is_unknown_and_the_reply_says_so() -> None:
    for silent_ms, state, said in (
        (5_000, CascadeState.RUNNING, []),
        (5_001, CascadeState.BUILDING, ["no marks of 1 symbol: cascades unknown"]),
    ):
        world, kept, sources = falling_world()
        world.book_of["YUSDT"] = book("YUSDT")
        kept.hear("XUSDT", "YUSDT")
        kept.feed = msgspec.structs.replace(living_feed(), marks_ms=WALL_MS - silent_ms)
        fallbacks: list[str] = []
        views = await whale_views(["XUSDT", "YUSDT"], sources, fallbacks)
        assert (views["XUSDT"].cascade, views["YUSDT"].cascade) == (state, CascadeState.NONE)
        assert fallbacks == said


async def test_a_forced_symbol_of_which_no_mark_was_heard_is_said_too() -> None:
    _, kept, sources = falling_world()
    kept.hear("XUSDT")
    kept.ticks_of.clear()
    fallbacks: list[str] = []
    assert (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"].cascade is CascadeState.BUILDING
    assert fallbacks == ["no marks of 1 symbol: cascades unknown"]


async def test_without_redis_a_view_is_made_of_what_the_exchange_answers() -> None:
    world, kept, sources = falling_world()
    kept.down = True
    world.trades_of["XUSDT"] = [Trade(price=100.0, quantity=800.0, sell=True, at_ms=NOW_MS)]
    view = (await whale_views(["XUSDT"], sources, []))["XUSDT"]
    assert (view.large_bought_usd, view.large_sold_usd, view.cascade) == (0.0, 80_000.0, CascadeState.NONE)


async def test_large_trades_come_from_the_stream_where_it_was_listened_to_for_the_whole_window() -> None:
    world, kept, sources = falling_world()
    flow = TradeFlow(symbol="XUSDT", bought_usd=10.0, sold_usd=900_000.0, trades=4, since_ms=NOW_MS - 300_000)
    kept.windows = TradeWindows(beat_ms=WALL_MS, connected=True, flows=(flow,))
    fallbacks: list[str] = []
    view = (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"]
    assert view.large_sold_usd == 900_000.0
    assert "large trades are selling" in view.reasons
    assert "trades" not in world.asked
    assert fallbacks == []


async def test_the_last_trades_are_asked_for_where_the_stream_was_cut_is_old_or_began_lately() -> None:
    since = NOW_MS - 300_000
    for beat_ms, connected, since_ms in (
        (WALL_MS, False, since),
        (WALL_MS - 6_000, True, since),
        (WALL_MS, True, NOW_MS - 60_000),
    ):
        world, kept, sources = falling_world()
        flow = TradeFlow(symbol="XUSDT", sold_usd=900_000.0, trades=4, since_ms=since_ms)
        kept.windows = TradeWindows(beat_ms=beat_ms, connected=connected, flows=(flow,))
        fallbacks: list[str] = []
        view = (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"]
        assert view.large_sold_usd == 0.0
        assert "trades" in world.asked
        assert fallbacks == ["large trades of 1 symbol from REST"]


async def test_trades_by_request_that_are_older_than_the_window_give_no_points() -> None:
    world, kept, sources = falling_world()
    kept.orders = []
    for at_ms, sold in ((0, 0.0), (NOW_MS - 300_001, 0.0), (NOW_MS - 300_000, 80_000.0)):
        world.trades_of["XUSDT"] = [Trade(price=100.0, quantity=800.0, sell=True, at_ms=at_ms)]
        view = (await whale_views(["XUSDT"], sources, []))["XUSDT"]
        assert view.large_sold_usd == sold
        assert ("large trades are selling" in view.reasons) is (sold > 0)


async def test_funding_comes_from_the_mark_of_the_feed_while_that_is_fresh_else_by_request() -> None:
    for age_ms, funding, said in ((5_000, 0.0001, []), (5_001, None, ["no funding of 1 symbol"])):
        _, kept, sources = falling_world()
        kept.hear("XUSDT")
        kept.mark_of["XUSDT"] = mark("XUSDT", received_ms=WALL_MS - age_ms)
        fallbacks: list[str] = []
        assert (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"].funding_ratio == funding
        assert fallbacks == said


async def test_what_did_not_come_from_anywhere_is_said_to_be_missing() -> None:
    world, _, sources = falling_world()
    world.down = True
    fallbacks: list[str] = []
    view = (await whale_views(["XUSDT"], sources, fallbacks))["XUSDT"]
    assert (view.large_bought_usd, view.large_sold_usd) == (None, None)
    assert fallbacks == ["no large trades of 1 symbol", "no book of 1 symbol"]


async def test_the_feed_is_asked_to_listen_to_the_shortlist() -> None:
    _, kept, sources = falling_world()
    await whale_views(["XUSDT"], sources, [])
    assert kept.wanted == ["XUSDT"]
    assert await whale_views([], sources, []) == {}
