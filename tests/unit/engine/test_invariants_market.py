"""The first system's invariants that the market side can break (`original.md`, section 7), each by its number."""

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from engine.analysis import RulesAnalyst, ScanPlan, Sources, look, readiness, scan
from engine.core.features import features_of, panel_of
from engine.core.market import Timeframe, at
from engine.core.screen import ScreenBounds, screen
from engine.routes import execution, market
from shared.analysis import AnalyzeRequest, MarksRequest, RejectionReason
from tests.unit.engine.execution_desk import WALL_MS, StandingClock
from tests.unit.engine.market_world import NOW_MS, Kept, World, book, dip, living_feed, mark

PLAN = ScanPlan(bounds=ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=10), min_confidence=60)


async def test_invariant_15_a_price_older_than_seconds_decides_nothing_and_a_missing_symbol_never_affects_another() -> None:
    clock = StandingClock()
    world, kept = World(clock), Kept()
    for name in ("AUSDT", "BUSDT", "CUSDT"):
        world.list_dip(name)
    world.book_of["AUSDT"] = book("AUSDT", received_ms=WALL_MS - 5_001)
    world.broken.add("BUSDT")
    sources = Sources(market=world, snapshots=kept, clock=clock)
    found = await scan(AnalyzeRequest(), PLAN, sources, RulesAnalyst(), lambda _candles: {})
    assert {no.symbol: no.reason for no in found.rejections} == {
        "AUSDT": RejectionReason.STALE_PRICE,
        "BUSDT": RejectionReason.MARKET_DATA_MISSING,
    }
    assert [signal.symbol for signal in found.signals] == ["CUSDT"]


async def test_invariant_15_a_mark_that_the_feed_received_long_ago_is_asked_again() -> None:
    clock = StandingClock()
    world, kept = World(clock), Kept()
    kept.mark_of["X"] = mark("X", "1", received_ms=WALL_MS - 5_001)
    world.mark_of["X"] = mark("X", "2")
    reply = await look(MarksRequest(since={"X": at(NOW_MS)}), Sources(market=world, snapshots=kept, clock=clock))
    assert str(reply.marks["X"].mark) == "2"


@pytest.mark.parametrize("length", [0, 1, 13, 14, 19, 49])
def test_invariant_16_not_enough_data_is_a_value_and_nan_never_decides(length: int) -> None:
    quarter, four_hour = dip("XUSDT")
    short = msgspec.structs.replace(
        quarter, **{name: getattr(quarter, name)[:length] for name in ("open_ms", "open", "high", "low", "close", "volume")}
    )
    found = screen(features_of(panel_of([short]), panel_of([four_hour])), 10)
    assert [no.reason for no in found.rejections] == [RejectionReason.NOT_ENOUGH_HISTORY]


@pytest.mark.parametrize("figure", ["close", "volume_ratio", "rsi", "ema_200_4h"])
def test_invariant_16_a_figure_that_is_nan_rejects_its_symbol_alone(figure: str) -> None:
    pairs = [dip("AUSDT"), dip("BUSDT")]
    features = features_of(panel_of([pair[0] for pair in pairs]), panel_of([pair[1] for pair in pairs]))
    getattr(features, figure)[0] = np.nan
    found = screen(features, 10)
    assert [kept.symbol for kept in found.candidates] == ["BUSDT"]


async def test_invariant_16_figures_without_the_newest_closed_candle_decide_nothing() -> None:
    clock = StandingClock()
    world, kept = World(clock), Kept()
    for name in ("AUSDT", "BUSDT"):
        world.list_dip(name)
    live = kept.follow(world.candle_of)
    clock.market = at(NOW_MS + 60_000)
    live.quarter.told.newest_ms[0] -= Timeframe.M15.ms
    world.broken.add("AUSDT")
    found = await scan(AnalyzeRequest(), PLAN, Sources(market=world, snapshots=kept, clock=clock), RulesAnalyst(), None)
    assert [(no.symbol, no.reason) for no in found.rejections] == [("AUSDT", RejectionReason.MARKET_DATA_MISSING)]
    assert [signal.symbol for signal in found.signals] == ["BUSDT"]


async def test_invariant_17_readiness_tells_real_ages() -> None:
    clock = StandingClock()
    world, kept = World(clock), Kept()
    kept.feed = living_feed()
    clock.pass_wall(timedelta(seconds=4))
    found = await readiness(world, kept, kept, RulesAnalyst(), clock)
    assert found.sources["feed_marks"].age_ms == 4_000
    assert found.sources["exchange"].age_ms == 0


def test_invariant_18_every_door_but_health_is_behind_the_token() -> None:
    opened = {path for handler in [*market.HANDLERS, *execution.HANDLERS] if handler.opt.get("open") for path in handler.paths}
    assert opened == {"/health"}


async def test_invariant_20_each_age_fails_when_its_source_fails() -> None:
    clock = StandingClock()
    for broken in ("exchange", "redis", "feed"):
        world, kept = World(clock), Kept()
        world.down = broken == "exchange"
        kept.feed = None if broken == "feed" else living_feed(clock.wall_ms())
        kept.down = broken == "redis"
        found = await readiness(world, kept, kept, RulesAnalyst(), clock)
        assert found.sources[broken].stale
        assert found.status == ("degraded" if broken == "feed" else "unready")


def test_invariant_23_a_symbol_is_its_own_name_everywhere() -> None:
    for name in ("1000SHIBUSDT", "币安人生USDT", "BTCUSDT"):
        quarter, four_hour = dip(name)
        assert quarter.timeframe is Timeframe.M15
        (kept,) = screen(features_of(panel_of([quarter]), panel_of([four_hour])), 1).candidates
        assert kept.symbol == name
