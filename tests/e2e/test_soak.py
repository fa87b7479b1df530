"""The soak in short: real feeds, Redis and a reader over a few symbols, with connections lost and replaced; and that what is unsound is found out.

`make soak` is the long one.
"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from deploy.errors import ServerFailed
from engine.core.market import Timeframe
from shared.analysis import AnalyzeReply, Candidate
from shared.enums import AnalystKind, Side
from tests.conftest import missing
from tests.soak.drift import Drift
from tests.soak.market import walked_market
from tests.soak.reader import judged
from tests.soak.soak import GROWTH_BYTES, WARM_UP, Memory, Plan, Soaked, memory_of, run_soak, wrong_in

SYMBOLS = 12
SHORT = Plan(seconds=9.0, speed=450, faults_every=2.5, faults_last=2.2, lifetime=3.0, drift_every=2.0, rss_every=0.1)
"""A 15m candle closes every two seconds."""

SOUND = Soaked(
    seconds=60,
    market_hours=2,
    universe=500,
    memory=[Memory(process="feed-1", median=2e8, growth=1e5, hourly=1e6, samples=30)],
    drift=[Drift(symbols=20, carried=600, error=1e-13), Drift(symbols=500, carried=700, error=1e-13)],
    fired={"ws_drop": 1, "ws_missing_close": 9, "ws_silent": 1},
    reconnects=3,
    rotations=2,
    scans=100,
    failed_scans=0,
    from_figures=0.99,
    candidates=50,
    signals=5,
    stale=[],
    overtaken=1,
    scan_p50_ms=20,
    fallbacks={},
    wrong=[],
)


@pytest.mark.servers
@pytest.mark.xdist_group("soak")
def test_a_few_symbols_soak_soundly_while_connections_are_lost_and_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    try:
        soaked = run_soak(tmp_path, walked_market(tmp_path, SYMBOLS), SHORT, said.append)
    except ServerFailed as failure:
        missing(str(failure))
    assert soaked.wrong == [], said
    assert soaked.universe == SYMBOLS
    assert soaked.scans > 5
    assert soaked.drift[-1].symbols == SYMBOLS
    assert max(one.error for one in soaked.drift) <= 1e-9
    assert soaked.stale == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stale": ["BTCUSDT at 1"]}, "1 stale decisions: ['BTCUSDT at 1']"),
        ({"drift": [Drift(symbols=1, carried=place, error=2e-9) for place in (1, 2)]}, "figures drift by 2.0e-09"),
        (
            {"drift": [Drift(symbols=1, carried=place, error=1e-13 if place < 3 else 1e-10) for place in range(4)]},
            "the drift grows: 1.0e-13, then 1.0e-10",
        ),
        ({"drift": [Drift(symbols=1, carried=499, error=0)] * 2}, "figures were not carried on: [499] candles, then [499]"),
        ({"memory": [memory_of("feed-1", [(second, 2e8 + 1e6 * second) for second in range(100)])]}, "feed-1 grew by 56.3 MB after the warm-up"),
        ({"fired": {"ws_drop": 1, "ws_silent": 1}}, "never injected: ws_missing_close"),
        ({"failed_scans": 2}, "2 of 100 scans failed"),
        ({"from_figures": 0.3}, "most of the market was read by request"),
        ({"candidates": 0}, "no candidate was ever found"),
        ({"rotations": 0}, "no connection was replaced in time"),
    ],
)  # fmt: skip
def test_what_is_not_sound_is_said(changed: dict[str, object], said: str) -> None:
    assert wrong_in(SOUND) == []
    assert wrong_in(msgspec.structs.replace(SOUND, **changed)) == [said]


def test_memory_that_grows_during_the_warm_up_alone_is_flat() -> None:
    samples = [(second, 2e8 + 1e6 * min(second, 100 * WARM_UP)) for second in range(100)]
    found = memory_of("reader", samples)
    assert found.flat
    assert abs(found.growth) < GROWTH_BYTES / 100


def test_a_candidate_without_the_last_closed_candle_is_stale_and_one_that_a_close_overtook_is_not() -> None:
    quarter, four_hour = Timeframe.M15.ms, Timeframe.H4.ms
    close = 100 * four_hour + quarter
    reply = AnalyzeReply(
        as_of=datetime.fromtimestamp(close / 1000, UTC),
        universe=1,
        screened=1,
        analyst=AnalystKind.RULES,
        candidates=[Candidate(symbol="BTCUSDT", score=1.0, direction=Side.LONG, features={})],
        signals=[],
        rejections=[],
        timings_ms={"total": 1.0},
        fallbacks=[],
    )
    fresh = {"BTCUSDT": {Timeframe.M15: close, Timeframe.H4: 100 * four_hour}}
    assert judged(reply, fresh, 1, close + 5, close + 10).stale == []
    overtaken = judged(reply, fresh, 1, close + quarter - 1, close + quarter + 1)
    assert (overtaken.stale, overtaken.overtaken) == ([], 1)
    assert judged(reply, fresh, 1, close + quarter, close + quarter + 1).stale == ["BTCUSDT"]
    old = {"BTCUSDT": {Timeframe.M15: close, Timeframe.H4: 99 * four_hour}}
    assert judged(reply, old, 1, close + 5, close + 10).stale == ["BTCUSDT"]
