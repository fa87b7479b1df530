"""How the benchmark of the way from a close to the order reckons: every stage from the one before, and none below zero."""

import msgspec
import pytest

from tests.bench.close_to_order import STAGES, Clock, Facts, ScanLine, Told, measured

BASE_MS = 1_700_000_000_000
CLOSE_MS = BASE_MS + 900_000
CLOSED_AT = 5_000.0 + 2_000.0
"""Where the market runs 450 times as fast as the wall, the close after 15 minutes is two seconds after the base."""

ENGINE = {"total": 60.0, "whales": 50.0}
FACTS = Facts(
    clock=Clock(BASE_MS, 5_000, 450.0),
    told={CLOSE_MS: Told(frame_ms=7_200, at_ms=7_220.0)},
    scans={CLOSE_MS: ScanLine(began_ms=7_230.0, replied_ms=7_330.0, engine_ms=ENGINE)},
    stored_ms={CLOSE_MS: 7_350.0},
    sent_ms={CLOSE_MS: 7_390.0},
    ordered_ms={CLOSE_MS: 7_400.0},
)


def test_stages_lie_end_to_end_from_the_close_to_the_order_and_make_up_the_whole() -> None:
    found = measured(FACTS)
    assert [found.stages[name].p50_ms for name in STAGES] == [200, 20, 10, 100, 20, 40, 10]
    assert sum(stage.share for stage in found.stages.values()) == pytest.approx(1)
    assert (found.closes, found.with_order, found.by_clock, found.whole.p50_ms, found.whole.p99_ms) == (1, 1, 0, 400, 400)
    assert found.engine_ms == ENGINE
    assert found.stages["frames"].share == 0.5
    assert FACTS.clock.wall_ms(CLOSE_MS) == CLOSED_AT


def test_a_scan_that_the_clock_called_for_first_is_counted_and_waits_within_the_analysis() -> None:
    early = {CLOSE_MS: ScanLine(began_ms=7_100.0, replied_ms=7_330.0, engine_ms=ENGINE)}
    found = measured(msgspec.structs.replace(FACTS, scans=early))
    assert (found.by_clock, found.stages["asked"].p50_ms, found.stages["analyze"].p50_ms) == (1, 0, 110)
    assert found.whole.p50_ms == 400


def test_closes_without_an_order_are_scans_only_and_none_at_all_is_no_measurement() -> None:
    more = FACTS.scans | {CLOSE_MS + 900_000: ScanLine(began_ms=9_200.0, replied_ms=9_300.0, engine_ms=ENGINE)}
    found = measured(msgspec.structs.replace(FACTS, scans=more))
    assert (found.closes, found.with_order) == (2, 1)
    with pytest.raises(SystemExit, match="no close"):
        measured(msgspec.structs.replace(FACTS, ordered_ms={}))
