"""POST /analyze as a use case: from a market in memory to signals and reasons."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from engine.analysis import RulesAnalyst, ScanPlan, Sources, scan, show_window
from engine.core.market import Candles, Timeframe, at
from engine.core.screen import ScreenBounds
from engine.core.screen_presets import PRESETS
from engine.core.verdict import AnalystFailure, Case, Verdict
from engine.errors import ExchangeUnreachable
from engine.ports import FiguresState
from shared.analysis import AnalyzeReply, AnalyzeRequest, LiquidationPressure, RejectionReason, WhaleSignal
from shared.enums import AnalystKind, Side
from tests.unit.engine.execution_desk import NOW, WALL_MS, StandingClock
from tests.unit.engine.market_world import NOW_MS, Kept, World, book, forced, living_feed, rules_of, ticker

PLAN = ScanPlan(bounds=ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=10), min_confidence=60)
STAGES = {"universe", "tickers", "candles", "features", "screen", "whales", "analyst", "verdict", "total"}

READ = "candles of 2 symbols from REST"
"""What a scan says where nobody keeps figures."""


class Silent:
    """An analyst that never has a verdict, and remembers what it was shown."""

    kind = AnalystKind.MODEL
    model = "silent"
    answered_ms: int | None = None
    failing = False

    def __init__(self, *, over_budget: bool = False) -> None:
        self.shown: list[Case] = []
        self.over_budget = over_budget

    async def argue(self, case: Case) -> Verdict | AnalystFailure:
        self.shown.append(case)
        return AnalystFailure(reason="no answer", over_budget=self.over_budget)


def no_wider(_candles: Candles) -> dict[str, float]:
    return {"CCI_14": 1.0}


class Market:
    def __init__(self) -> None:
        self.clock = StandingClock()
        self.world, self.kept = World(self.clock), Kept()
        self.kept.feed = living_feed()
        self.kept.hear("AUSDT", "BUSDT", "CUSDT", "DUSDT")
        self.world.list_dip("AUSDT")
        self.world.list_dip("BUSDT")
        self.kept.ticker_of = dict(self.world.ticker_of)
        self.sources = Sources(market=self.world, snapshots=self.kept, clock=self.clock, skew_ms=lambda: 2)

    async def scan(self, analyst: RulesAnalyst | Silent | None = None, **request: object) -> AnalyzeReply:
        wanted = msgspec.convert(request, AnalyzeRequest)
        return await scan(wanted, PLAN, self.sources, analyst or RulesAnalyst(), no_wider)


def reasons(found: AnalyzeReply) -> dict[str, RejectionReason]:
    return {no.symbol: no.reason for no in found.rejections}


async def test_a_good_setup_becomes_a_signal_that_names_its_candle_its_price_and_its_analyst() -> None:
    found = await Market().scan()
    assert [signal.symbol for signal in found.signals] == ["AUSDT", "BUSDT"]
    signal = found.signals[0]
    assert (signal.side, signal.candle_close, signal.price_at, signal.analyst) == (Side.LONG, NOW, NOW, AnalystKind.RULES)
    assert signal.stop_loss < signal.signal_price < signal.take_profit
    assert set(found.timings_ms) == STAGES
    assert (found.universe, found.screened, found.fallbacks) == (2, 2, [READ])


async def test_a_scan_screens_by_the_preset_that_the_deployment_chose() -> None:
    market = Market()
    plan = msgspec.structs.replace(PLAN, rule_set=PRESETS["structure"])
    found = await scan(AnalyzeRequest(), plan, market.sources, Silent(), no_wider)
    assert {(no.symbol, no.reason, no.detail) for no in found.rejections} == {
        (symbol, RejectionReason.NO_SETUP, "swings are UNCLEAR") for symbol in ("AUSDT", "BUSDT")
    }
    plan = msgspec.structs.replace(PLAN, rule_set=PRESETS["v4"])
    found = await scan(AnalyzeRequest(), plan, market.sources, Silent(), no_wider)
    assert [kept.symbol for kept in found.candidates] == ["AUSDT", "BUSDT"]


async def test_only_perpetuals_in_usdt_that_trade_are_the_universe() -> None:
    market = Market()
    odd: list[tuple[str, dict[str, object]]] = [
        ("OLDUSDT", {"status": "SETTLING"}), ("SOONUSDT", {"step_size": Decimal(0)}),
        ("CUSDC", {"quote_asset": "USDC"}), ("BTCUSDT_261225", {"contract_type": "CURRENT_QUARTER"}),
    ]  # fmt: skip
    for name, changes in odd:
        market.world.rules[name] = rules_of(name, **changes)
    assert (await market.scan()).universe == 2


async def test_one_symbol_without_candles_never_affects_another() -> None:
    market = Market()
    market.world.broken.add("AUSDT")
    found = await market.scan()
    assert [signal.symbol for signal in found.signals] == ["BUSDT"]
    assert reasons(found) == {"AUSDT": RejectionReason.MARKET_DATA_MISSING}


async def test_candles_that_ended_long_ago_decide_nothing() -> None:
    market = Market()
    market.clock.market = NOW + timedelta(minutes=30)
    found = await market.scan()
    assert set(reasons(found).values()) == {RejectionReason.MARKET_DATA_STALE}


async def test_a_trend_of_yesterday_decides_nothing_either() -> None:
    market = Market()
    old = market.world.candle_of[("AUSDT", Timeframe.H4)]
    market.world.candle_of[("AUSDT", Timeframe.H4)] = msgspec.structs.replace(old, open_ms=old.open_ms - 2 * Timeframe.H4.ms)
    found = await market.scan()
    assert reasons(found) == {"AUSDT": RejectionReason.MARKET_DATA_STALE}
    assert "4h" in found.rejections[0].detail


async def test_a_symbol_whose_ticker_stopped_long_ago_is_stale_while_the_others_go_on() -> None:
    market = Market()
    market.world.rules |= {name: rules_of(name) for name in (f"Q{place}USDT" for place in range(20))}
    market.kept.ticker_of |= {name: ticker(name, volume=1) for name in market.world.rules if name.startswith("Q")}
    market.kept.ticker_of["AUSDT"] = ticker("AUSDT", received_ms=WALL_MS - 61_000)
    found = await market.scan()
    assert found.fallbacks == ["candles of 1 symbol from REST"]
    assert [no.detail for no in found.rejections if no.reason is RejectionReason.MARKET_DATA_STALE] == [
        "its 24 h ticker is 61 s old"
    ]
    assert reasons(found)["AUSDT"] is RejectionReason.MARKET_DATA_STALE
    assert [signal.symbol for signal in found.signals] == ["BUSDT"]


async def test_a_symbol_with_too_little_history_says_so() -> None:
    market = Market()
    kept = market.world.candle_of[("AUSDT", Timeframe.H4)]
    market.world.candle_of[("AUSDT", Timeframe.H4)] = msgspec.structs.replace(
        kept, **{name: getattr(kept, name)[-199:] for name in ("open_ms", "open", "high", "low", "close", "volume")}
    )
    assert reasons(await market.scan())["AUSDT"] is RejectionReason.NOT_ENOUGH_HISTORY


async def test_a_silent_feed_is_replaced_by_requests_and_the_reply_says_so() -> None:
    market = Market()
    market.clock.pass_wall(timedelta(seconds=6))
    market.world.book_of = {name: book(name, received_ms=market.clock.wall_ms()) for name in ("AUSDT", "BUSDT")}
    found = await market.scan()
    assert len(found.signals) == 2
    assert found.fallbacks == [
        "tickers from REST", READ, "no liquidations: the feed is silent", "large trades of 2 symbols from REST",
        "no funding of 2 symbols",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("skew_ms", "told", "signals"), [(900, False, 2), (-2_500, True, 2), (10_001, True, 0), (-60_000, True, 0)]
)
async def test_a_clock_that_differs_from_the_exchanges_is_told_and_past_ten_seconds_decides_nothing(
    skew_ms: int, told: bool, signals: int
) -> None:
    market = Market()
    market.kept.figures_by = FiguresState(leader="one", written_ms=WALL_MS, market_ms=NOW_MS, skew_ms=skew_ms)
    found = await market.scan()
    assert any("the feed's clock differs" in said for said in found.fallbacks) is told
    assert len(found.signals) == signals
    assert len(found.signals) + len(found.rejections) == found.universe
    market.kept.figures_by = msgspec.structs.replace(market.kept.figures_by, written_ms=WALL_MS - 600_001)
    found = await market.scan()
    assert (len(found.signals), found.fallbacks) == (2, ["clock skew of the feed not measured", READ])


async def test_a_clock_that_nobody_measured_is_said_whosever_it_is() -> None:
    market = Market()
    market.sources = msgspec.structs.replace(market.sources, skew_ms=lambda: None)
    assert (await market.scan()).fallbacks == ["clock skew not measured", READ]
    market.kept.figures_by = None
    assert (await market.scan()).fallbacks == ["clock skew not measured", "clock skew of the feed not measured", READ]


def with_a_clock_ahead(market: Market, ahead: timedelta) -> None:
    """This replica's clock alone is ahead of the exchange's and of the feed's, and has been measured."""
    market.clock.pass_wall(ahead)
    market.clock.market += ahead
    skew_ms = -round(ahead.total_seconds() * 1_000)
    market.sources = msgspec.structs.replace(market.sources, skew_ms=lambda: skew_ms)


async def test_a_replica_that_is_eight_seconds_ahead_says_so_and_takes_all_from_the_exchange() -> None:
    market = Market()
    with_a_clock_ahead(market, timedelta(seconds=8))
    market.world.book_of = {name: book(name, received_ms=market.clock.wall_ms()) for name in ("AUSDT", "BUSDT")}
    found = await market.scan()
    assert found.fallbacks == [
        "our clock differs by -8.0 s from the exchange's",
        "tickers from REST", READ, "no liquidations: the feed is silent", "large trades of 2 symbols from REST",
        "no funding of 2 symbols",
    ]  # fmt: skip
    assert len(found.signals) == 2


async def test_a_replica_that_is_twenty_minutes_behind_decides_nothing_however_well_the_feeds_clock_goes() -> None:
    market = Market()
    market.kept.follow(market.world.candle_of)
    with_a_clock_ahead(market, -timedelta(minutes=20))
    found = await market.scan()
    assert found.fallbacks == ["our clock differs by +1200.0 s from the exchange's"]
    assert reasons(found) == dict.fromkeys(("AUSDT", "BUSDT"), RejectionReason.MARKET_DATA_STALE)
    assert (found.signals, found.candidates) == ([], [])


async def test_without_redis_a_scan_goes_on_by_request() -> None:
    market = Market()
    market.kept.down = True
    found = await market.scan()
    assert len(found.signals) == 2
    assert "tickers" in market.world.asked


async def test_a_feed_that_does_not_know_the_market_yet_is_not_believed() -> None:
    market = Market()
    del market.kept.ticker_of["BUSDT"]
    assert (await market.scan()).fallbacks == ["tickers from REST", READ]


async def test_without_the_exchange_there_is_no_scan() -> None:
    market = Market()
    market.world.down = True
    with pytest.raises(ExchangeUnreachable):
        await market.scan()


async def test_liquidations_of_longs_veto_a_long() -> None:
    market = Market()
    market.kept.orders = [forced("AUSDT", 200_000, Side.LONG)]
    found = await market.scan()
    assert reasons(found)["AUSDT"] is RejectionReason.WHALE_VETO
    assert [signal.symbol for signal in found.signals] == ["BUSDT"]


async def test_liquidations_of_shorts_raise_a_long_and_its_confidence() -> None:
    market = Market()
    market.kept.orders = [forced("BUSDT", 200_000, Side.SHORT)]
    found = await market.scan()
    assert [kept.symbol for kept in found.candidates] == ["BUSDT", "AUSDT"]
    by_name = {signal.symbol: signal for signal in found.signals}
    assert by_name["BUSDT"].confidence > by_name["AUSDT"].confidence
    whale = by_name["BUSDT"].whale
    assert whale is not None
    assert whale.signal is WhaleSignal.SQUEEZE_SHORTS


async def test_an_analyst_that_fails_means_no_trade_with_its_reason() -> None:
    analyst = Silent()
    found = await Market().scan(analyst)
    assert found.signals == []
    assert set(reasons(found).values()) == {RejectionReason.ANALYST_FAILED}
    assert analyst.shown[0].indicators == {"CCI_14": 1.0}


async def test_an_analyst_whose_budget_is_spent_is_a_reason_of_its_own() -> None:
    found = await Market().scan(Silent(over_budget=True))
    assert found.signals == []
    assert set(reasons(found).values()) == {RejectionReason.ANALYST_OVER_BUDGET}
    assert found.analyst is AnalystKind.MODEL


async def test_a_request_may_narrow_symbols_and_raise_the_threshold() -> None:
    market = Market()
    found = await market.scan(symbols=["BUSDT", "NOPE"], min_confidence=100)
    assert found.screened == 1
    assert reasons(found) == {"NOPE": RejectionReason.NO_SYMBOL_RULES, "BUSDT": RejectionReason.LOW_CONFIDENCE}


async def test_top_n_bounds_the_candidates() -> None:
    found = await Market().scan(top_n=1)
    assert len(found.candidates) == 1
    assert reasons(found)["BUSDT"] is RejectionReason.OUTRANKED


async def test_an_empty_book_is_no_price() -> None:
    market = Market()
    market.world.book_of["AUSDT"] = msgspec.structs.replace(book("AUSDT"), asks=())
    assert reasons(await market.scan())["AUSDT"] is RejectionReason.MARKET_DATA_MISSING


async def test_nothing_is_signalled_on_a_book_that_was_received_long_ago() -> None:
    market = Market()
    market.world.book_of["AUSDT"] = book("AUSDT", received_ms=WALL_MS - 6_000)
    assert reasons(await market.scan())["AUSDT"] is RejectionReason.STALE_PRICE


async def test_features_hold_no_nan() -> None:
    found = await Market().scan()
    for candidate in found.candidates:
        for value in candidate.features.values():
            assert not (isinstance(value, float) and np.isnan(value))


async def test_the_window_tells_the_heaviest_symbols_first_and_forgets_after_five_minutes() -> None:
    market = Market()
    market.kept.orders = [forced("A", 50_000, Side.SHORT, NOW_MS - 300_001), forced("A", 20_000), forced("B", 30_000, Side.SHORT)]
    found = await show_window(market.sources)
    assert [(view.symbol, view.pressure) for view in found.views] == [
        ("B", LiquidationPressure.SHORT_HEAVY),
        ("A", LiquidationPressure.LONG_HEAVY),
    ]
    assert len(found.recent) == 2
    assert found.recent[0].at == at(NOW_MS)
    assert found.feed_age_ms == 0
