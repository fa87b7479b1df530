"""POST /analyze from the figures that the feed keeps: the whole universe without a candle read, the same as from candles."""

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.analysis import RulesAnalyst, ScanPlan, Sources, scan
from engine.analysis.figures import CLOSE_SECONDS
from engine.core.features_bytes import told_bytes, told_of
from engine.core.features_live import Closes, LiveFeatures, Told
from engine.core.market import Timeframe, at
from engine.core.screen import ScreenBounds
from engine.core.screen_presets import PRESETS
from engine.ports import FiguresState
from shared.analysis import AnalyzeReply, AnalyzeRequest, RejectionReason
from tests.unit.engine.execution_desk import NOW, StandingClock
from tests.unit.engine.market_world import NOW_MS, Kept, World, book, living_feed, rules_of, ticker
from tests.unit.engine.test_features_live import part
from tests.unit.engine.test_scan import PLAN, STAGES, Market, Silent, no_wider, reasons
from tests.unit.engine.test_screen_fast import NOW as RECORDED_NOW
from tests.unit.engine.test_screen_fast import Recorded, advance, seeded

M15, H4 = Timeframe.M15, Timeframe.H4


def followed(market: Market) -> Market:
    market.kept.follow(market.world.candle_of)
    return market


async def test_known_figures_are_screened_without_a_candle_read_and_the_signal_names_the_same_candle() -> None:
    market = followed(Market())
    found = await scan(AnalyzeRequest(), PLAN, market.sources, RulesAnalyst(), None)
    assert [signal.symbol for signal in found.signals] == ["AUSDT", "BUSDT"]
    assert {signal.candle_close for signal in found.signals} == {NOW}
    assert "candles" not in market.world.asked
    assert (found.universe, found.screened, found.fallbacks) == (2, 2, [])
    assert set(found.timings_ms) == STAGES
    from_candles = await Market().scan()
    for ours, theirs in zip(found.candidates, from_candles.candidates, strict=True):
        assert (ours.symbol, ours.direction) == (theirs.symbol, theirs.direction)
        assert ours.score == pytest.approx(theirs.score, rel=1e-9)


async def test_no_symbol_with_figures_is_left_out_for_having_moved_less_than_others() -> None:
    market = Market()
    for place in range(70):
        market.world.list_dip(f"Q{place:02}USDT")
        market.world.ticker_of[f"Q{place:02}USDT"] = market.kept.ticker_of[f"Q{place:02}USDT"] = ticker("x", change=2 + place)
    cold = await market.scan(top_n=1)
    assert cold.screened == 6
    assert [no.reason for no in cold.rejections].count(RejectionReason.OUTSIDE_TOP_MOVERS) == 66
    warm = await followed(market).scan(top_n=1)
    assert warm.screened == 72
    assert set(reasons(warm).values()) == {RejectionReason.OUTRANKED}


async def test_what_is_missing_or_stale_is_read_and_the_reply_says_so() -> None:
    market = Market()
    for name in ("CUSDT", "DUSDT"):
        market.world.list_dip(name)
        market.kept.ticker_of[name] = ticker(name)
    live = market.kept.follow({key: candles for key, candles in market.world.candle_of.items() if key[0] != "DUSDT"})
    live.quarter.forget("CUSDT")
    found = await market.scan()
    assert found.fallbacks == ["candles of 2 symbols from REST"]
    assert [kept.symbol for kept in found.candidates] == ["AUSDT", "BUSDT", "CUSDT", "DUSDT"]
    assert {signal.candle_close for signal in found.signals} == {NOW}


async def test_only_whoever_asks_for_structure_reads_candles_of_all() -> None:
    market = followed(Market())
    plan = msgspec.structs.replace(PLAN, rule_set=PRESETS["structure"])
    found = await scan(AnalyzeRequest(), plan, market.sources, Silent(), no_wider)
    assert {no.detail for no in found.rejections} == {"swings are UNCLEAR"}
    assert found.fallbacks == []
    market.world.asked.clear()
    plan = msgspec.structs.replace(PLAN, rule_set=PRESETS["v4"])
    found = await scan(AnalyzeRequest(), plan, market.sources, RulesAnalyst(), None)
    assert [kept.symbol for kept in found.candidates] == ["AUSDT", "BUSDT"]
    assert "candles" not in market.world.asked


async def test_a_model_is_shown_the_wider_indicators_of_candidates_alone() -> None:
    market, analyst = followed(Market()), Silent()
    market.world.list_dip("CUSDT")
    market.world.ticker_of["CUSDT"] = market.kept.ticker_of["CUSDT"] = ticker("CUSDT")
    market.kept.follow(market.world.candle_of)
    await market.scan(analyst, top_n=1)
    assert market.world.asked.count("candles") == 1
    assert analyst.shown[0].indicators == {"CCI_14": 1.0}


async def test_a_model_is_shown_no_candles_that_end_before_the_figures() -> None:
    market, analyst = followed(Market()), Silent()
    whole = market.world.candle_of["AUSDT", M15]
    market.world.candle_of["AUSDT", M15] = part(whole, 0, len(whole) - 1)
    found = await market.scan(analyst)
    assert [case.candidate.symbol for case in analyst.shown] == ["BUSDT"]
    assert reasons(found)["AUSDT"] is RejectionReason.MARKET_DATA_STALE


async def test_without_redis_every_symbol_is_read() -> None:
    market = followed(Market())
    market.kept.down = True
    found = await market.scan()
    assert len(found.signals) == 2
    assert "candles of 2 symbols from REST" in found.fallbacks


class Following(Kept):
    """A feed whose closing frames arrive while a scan waits."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[Told] = []

    async def figures(self) -> Told | None:
        self._ask()
        if len(self.later) > 1:
            return self.later.pop(0)
        return self.later[0] if self.later else None


def copied(told: Told) -> Told:
    copy = told_of(told_bytes(told))
    assert copy is not None
    return copy


async def test_right_after_a_close_the_closing_frames_are_waited_for_instead_of_reading_the_market() -> None:
    market = Market()
    before = {key: part(candles, 0, len(candles) - (key[1] is M15)) for key, candles in market.world.candle_of.items()}
    following = Following()
    live = following.follow(before)
    following.ticker_of, following.feed, following.windows = market.kept.ticker_of, market.kept.feed, market.kept.windows
    following.mark_of, following.figures_by = market.kept.mark_of, market.kept.figures_by
    following.later = [copied(live.told), copied(live.told)]
    newest = [market.world.candle_of[name, M15] for name in live.quarter.symbols]
    candles = np.array([[c.open[-1], c.high[-1], c.low[-1], c.close[-1], c.volume[-1]] for c in newest])
    live.quarter.close(Closes(rows=np.arange(2), open_ms=np.array([c.open_ms[-1] for c in newest]), candles=candles))
    following.later.append(copied(live.told))
    market.sources = msgspec.structs.replace(market.sources, snapshots=following)
    found = await scan(AnalyzeRequest(), PLAN, market.sources, RulesAnalyst(), None)
    assert {signal.candle_close for signal in found.signals} == {NOW}
    assert "candles" not in market.world.asked
    assert found.fallbacks == []


async def test_long_after_a_close_nobody_waits_for_a_frame_that_did_not_come() -> None:
    market = Market()
    market.kept.follow({key: part(candles, 0, len(candles) - (key[1] is M15)) for key, candles in market.world.candle_of.items()})
    market.clock.market = NOW + timedelta(seconds=30)
    async with asyncio.timeout(CLOSE_SECONDS):
        assert (await market.scan()).fallbacks == ["candles of 2 symbols from REST"]


async def test_right_after_a_close_no_candle_is_read_before_the_exchange_has_written_it_by_its_own_clock() -> None:
    market = Market()
    market.sources = msgspec.structs.replace(market.sources, settles_ms=80)
    began = asyncio.get_running_loop().time()
    assert (await market.scan()).screened == 2
    assert asyncio.get_running_loop().time() - began >= 0.08
    market.sources = msgspec.structs.replace(market.sources, skew_ms=lambda: -120)
    assert (await market.scan()).screened == 2
    assert asyncio.get_running_loop().time() - began >= 0.08 + 0.2
    feed_ahead = FiguresState(leader="one", written_ms=market.clock.wall_ms(), market_ms=NOW_MS, skew_ms=900)
    market.kept.figures_by = feed_ahead  # the worse of both, and no word on when a candle closes by ours
    began = asyncio.get_running_loop().time()
    assert (await market.scan()).screened == 2
    assert asyncio.get_running_loop().time() - began >= 0.2
    known = followed(Market())
    known.sources = msgspec.structs.replace(known.sources, settles_ms=2_000)
    async with asyncio.timeout(1):
        assert (await known.scan()).fallbacks == []


async def test_what_a_clock_ahead_of_ours_heard_is_known_once_ours_has_come_there() -> None:
    market = followed(Market())
    market.clock.market = NOW - timedelta(milliseconds=60)

    async def pass_time() -> None:
        while market.clock.market < NOW:
            await asyncio.sleep(0.01)
            market.clock.market += timedelta(milliseconds=20)

    passing = asyncio.create_task(pass_time())
    found = await market.scan()
    await passing
    assert {signal.candle_close for signal in found.signals} == {NOW}
    assert found.fallbacks == []


class RecordedWorld:
    """The recorded market as an exchange tells it at a moment, and a feed that has followed it."""

    def __init__(self, recorded: Recorded, live: LiveFeatures, now_ms: int) -> None:
        self.clock = StandingClock()
        self.clock.market = at(now_ms + 60_000)
        self.world, self.kept = World(self.clock), Kept()
        self.kept.feed, self.kept.told = living_feed(), live.told
        for symbol in recorded.symbols:
            pair = {timeframe: recorded.until(symbol, timeframe, now_ms) for timeframe in (M15, H4)}
            close = pair[M15].close
            moved = (close[-1] / close[-97] - 1) * 100
            self.world.rules[symbol] = rules_of(symbol)
            self.kept.ticker_of[symbol] = ticker(symbol, change=moved, volume=float(pair[M15].volume[-96:] @ close[-96:]))
            self.world.book_of[symbol] = book(symbol, middle=str(close[-1]))
            self.world.candle_of |= {(symbol, timeframe): candles for timeframe, candles in pair.items()}

    async def scan(self, plan: ScanPlan, told: Told | None, **request: object) -> AnalyzeReply:
        self.kept.told = told
        self.world.asked.clear()
        sources = Sources(market=self.world, snapshots=self.kept, clock=self.clock)
        return await scan(msgspec.convert(request, AnalyzeRequest), plan, sources, RulesAnalyst(), None)


@pytest.fixture(scope="module")
def followed_day(data_folder: Path) -> dict[int, RecordedWorld]:
    """A feed that followed twenty closes of a recorded day, at the last four of them."""
    recorded = Recorded(data_folder, RECORDED_NOW)
    begin = RECORDED_NOW - 20 * M15.ms
    live, found = seeded(recorded, begin), {}
    for now_ms in range(begin + M15.ms, RECORDED_NOW + 1, M15.ms):
        advance(live, recorded, now_ms, set())
        if now_ms > RECORDED_NOW - 4 * M15.ms:
            found[now_ms] = RecordedWorld(recorded, live, now_ms)
            found[now_ms].kept.told = copied(live.told)
    return found


def said_of(found: AnalyzeReply) -> tuple[object, ...]:
    """All that a caller decides by."""
    return found.candidates, found.signals, sorted(found.rejections, key=lambda no: no.symbol), found.universe, found.screened


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_scan_from_figures_says_what_one_from_candles_says(followed_day: dict[int, RecordedWorld], data: st.DataObject) -> None:
    there = followed_day[data.draw(st.sampled_from(sorted(followed_day)))]
    whole = there.kept.told or pytest.fail("nobody told anything")
    symbols = list(whole.symbols)
    told = copied(whole)
    for symbol in data.draw(st.lists(st.sampled_from(symbols), max_size=8)):
        told.quarter.newest_ms[symbols.index(symbol)] -= M15.ms
    asked = data.draw(st.none() | st.lists(st.sampled_from(symbols), max_size=30))
    preset = PRESETS[data.draw(st.sampled_from(["v3.1", "v4", "v5", "squeeze", "momentum"]))]
    least = data.draw(st.sampled_from([0.0, 1.5, 6.0]))
    plan = ScanPlan(
        bounds=ScreenBounds(min_quote_volume=0, min_change_percent=least, top_n=10), min_confidence=0, rule_set=preset
    )
    top_n = data.draw(st.integers(10, 60))
    from_candles = asyncio.run(there.scan(plan, None, symbols=asked, top_n=top_n))
    from_figures = asyncio.run(there.scan(plan, told, symbols=asked, top_n=top_n))
    there.kept.told = whole
    assert said_of(from_figures) == said_of(from_candles)
    if not preset.structure:
        assert there.world.asked.count("candles") < 2 * 8 + 1


async def test_a_recorded_day_has_candidates_and_signals_from_figures_alone(followed_day: dict[int, RecordedWorld]) -> None:
    plan = ScanPlan(bounds=ScreenBounds(min_quote_volume=0, min_change_percent=1.5, top_n=10), min_confidence=0)
    found = [await there.scan(plan, there.kept.told) for there in followed_day.values()]
    assert sum(len(one.candidates) for one in found) >= 10
    assert sum(len(one.signals) for one in found) >= 1
    assert all("candles" not in there.world.asked for there in followed_day.values())
