"""The measure itself: what counts as a flag, a hit and a lead, that nothing looks ahead, and that the recorded sessions are all read."""

import math
from pathlib import Path

import pytest

from engine.core.cascade import ANSWER, RUNNING_HEAT
from shared.analysis import CascadeState
from tests.conftest import PROJECT
from tests.skill.labelled import CASCADE, PRESSURE, RETURN_SPIKE, VOLUME_SPIKE, judged
from tests.skill.recorded import FILES, Candles, flags_of, read_events, sessions_of, told
from tests.skill.scoring import Alarm, Label, best_threshold, skill_of, tally, wilson
from tests.skill.scoring import flags_of as flagged

MINUTE = 60_000


def alarm(minute: float, score: float = 5.0, sign: int = -1, symbol: str = "A", day: str = "1", price: float = 100.0) -> Alarm:
    return Alarm(day, symbol, round(minute * MINUTE), score, sign, price)


def label(begins: float = 10, extreme: float = 30, sign: int = -1, symbol: str = "A", day: str = "1") -> Label:
    return Label(
        day, symbol, sign, round(begins * MINUTE), round((begins + 30) * MINUTE), 0.03, 101.0, 97.0, round(extreme * MINUTE)
    )


def test_an_episode_is_flagged_once_in_half_an_hour_for_each_direction() -> None:
    alarms = [alarm(1, score=4.0), alarm(2), alarm(20), alarm(20, sign=1), alarm(31), alarm(32)]
    assert [(flag.at_ms // MINUTE, flag.sign) for flag in flagged(alarms, 5.0)] == [(2, -1), (20, 1), (32, -1)]


@pytest.mark.parametrize(
    ("flag", "hits"),
    [
        (alarm(9.9), 0),
        (alarm(10), 1),
        (alarm(29.9), 1),
        (alarm(30), 0),
        (alarm(15, sign=1), 0),
        (alarm(15, symbol="B"), 0),
        (alarm(15, day="2"), 0),
    ],
    ids=["too early", "at its start", "just before the extreme", "too late", "the other way", "another symbol", "another day"],
)
def test_only_a_flag_inside_the_cascade_and_before_its_extreme_is_a_hit(flag: Alarm, hits: int) -> None:
    assert sum(day.hits for day in tally([flag], [label()]).values()) == hits


def test_precision_recall_lead_and_what_is_still_ahead() -> None:
    skill = skill_of([alarm(12, price=100.0), alarm(50, symbol="C")], [label(), label(symbol="B")], 5.0, draws=50)
    assert (skill.flags, skill.precision[0], skill.recall[0], skill.f1) == (2, 0.5, 0.5, 0.5)
    assert skill.lead_minutes[0] == pytest.approx(18)
    assert skill.ahead[0] == pytest.approx(0.75)


def test_intervals_are_over_days_and_a_single_day_has_none() -> None:
    one = skill_of([alarm(12)], [label()], 5.0, draws=50)
    assert one.precision == (1.0, 1.0, 1.0)
    days = [f"{n}" for n in range(20)]
    alarms = [alarm(12 if n % 2 else 50, day=day) for n, day in enumerate(days)]
    found = skill_of(alarms, [label(day=day) for day in days], 5.0, draws=200)
    assert found.precision[0] == 0.5
    assert 0.2 < found.precision[1] < 0.45
    assert 0.55 < found.precision[2] < 0.8
    assert math.isnan(skill_of([], [label()], 5.0, draws=10).lead_minutes[0])


def test_the_threshold_with_the_best_f1_is_chosen() -> None:
    alarms = [alarm(12, score=9.0), alarm(60, score=3.0), alarm(100, score=3.0)]
    assert best_threshold(alarms, [label()], [3.0, 9.0, 12.0]) == 9.0


def test_wilson_holds_at_the_edges() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_no_detector_knows_of_a_later_day_and_the_cascade_is_better_than_chance() -> None:
    short, long = judged(range(3, 4), 1), judged(range(3, 4), 2)
    assert {name.partition(",")[0] for name in short.alarms} == {CASCADE, PRESSURE, VOLUME_SPIKE, RETURN_SPIKE}
    first = {alarm.day for alarm in short.alarms[CASCADE]}
    assert len(first) == 1
    for name, alarms in short.alarms.items():
        assert alarms == [one for one in long.alarms[name] if one.day in first]
    skill = skill_of(long.alarms[CASCADE], long.labels, 65.0, draws=1)
    turned = [Alarm(one.day, one.symbol, one.at_ms, one.score, -one.sign, one.price) for one in long.alarms[CASCADE]]
    assert skill.precision[0] > 3 * skill_of(turned, long.labels, 65.0, draws=1).precision[0]
    assert skill.lead_minutes[0] > 0


def test_every_recorded_session_is_judged_and_what_came_next_is_read_from_candles(data_folder: Path) -> None:
    sessions = sessions_of(read_events(data_folder / "force_orders.jsonl.gz"))
    assert sum(told(session).events for session in sessions) == 4_146
    assert len(sessions) == 9
    candles = {name: Candles(data_folder / file, length) for name, (file, length) in FILES.items()}
    flags = list(flags_of(8, sessions[8], candles))
    assert {flag.state for flag in flags} == {CascadeState.BUILDING, CascadeState.RUNNING, CascadeState.EXHAUSTED}
    reached = [flag for flag in flags if "15m candle, 15 to 30 min on" in flag.next_ratio]
    assert reached
    for flag in reached:
        close = candles["15m"].close_after(flag.symbol, flag.at_ms, 1)
        assert close is not None
        assert flag.next_ratio["15m candle, 15 to 30 min on"] == pytest.approx(flag.sign * (close / flag.price - 1))


def test_the_page_on_whales_quotes_the_constants_and_the_threshold_that_was_chosen() -> None:
    page = (PROJECT / "docs" / "whales.md").read_text()
    assert f"**Running** from heat {RUNNING_HEAT:g} once the price has moved {ANSWER:.1%}".replace("%", " %") in page
    starred = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("|") and "* |" in line]
    assert [name.strip().partition(",")[0] for name, _ in starred] == [CASCADE, PRESSURE, VOLUME_SPIKE, RETURN_SPIKE]
    assert starred[0][1].strip() == f"{RUNNING_HEAT:g}*"
