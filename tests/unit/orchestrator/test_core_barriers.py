"""What bars and funding do to a position: the worse first, nothing before the last look, each settlement once."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.barriers import Outcome, first_barrier, judge, touched, trail
from orchestrator.core.position import break_even
from shared.enums import Side, TriggerKind
from tests.builders import at, bar, d, funding, position

UNTIL = at("13:00")


def kind_of(side: Side, opened: str, high: str, low: str, **changes: object) -> tuple[TriggerKind, Decimal] | None:
    trigger = touched(position(side, **changes), bar("12:01", "12:02", opened, high, low))
    return None if trigger is None else (trigger.kind, trigger.price)


@pytest.mark.parametrize(
    ("side", "opened", "high", "low", "expected"),
    [
        (Side.LONG, "100", "103.99", "98.01", None),
        (Side.LONG, "100", "101", "98", (TriggerKind.STOP, "98")),
        (Side.LONG, "100", "104", "99", (TriggerKind.TARGET, "104")),
        (Side.LONG, "100", "104", "98", (TriggerKind.STOP, "98")),
        (Side.LONG, "100", "101", "90", (TriggerKind.STOP, "98")),
        (Side.LONG, "95", "96", "94", (TriggerKind.STOP, "98")),
        (Side.LONG, "90.9", "96", "90", (TriggerKind.LIQUIDATION, "90.909090909091")),
        (Side.SHORT, "100", "101.99", "96.01", None),
        (Side.SHORT, "100", "102", "99", (TriggerKind.STOP, "102")),
        (Side.SHORT, "100", "101", "96", (TriggerKind.TARGET, "96")),
        (Side.SHORT, "100", "102", "96", (TriggerKind.STOP, "102")),
        (Side.SHORT, "109", "110", "96", (TriggerKind.LIQUIDATION, "108.910891089109")),
    ],
)
def test_the_worse_barrier_of_a_bar_counts(
    side: Side, opened: str, high: str, low: str, expected: tuple[TriggerKind, str] | None
) -> None:
    assert kind_of(side, opened, high, low) == (None if expected is None else (expected[0], d(expected[1])))


def test_a_stop_beyond_the_liquidation_price_is_never_reached() -> None:
    assert kind_of(Side.LONG, "100", "101", "89", stop_loss=d(90)) == (TriggerKind.LIQUIDATION, d("90.909090909091"))


def test_bars_before_the_last_look_count_for_nothing() -> None:
    seen = position(judged_until=at("12:02"))
    judgement = judge(seen, [bar("12:01", "12:02", 100, 104, 90)], [], UNTIL)
    assert judgement.trigger is None
    assert judgement.position.judged_until == UNTIL


def test_with_a_trigger_the_next_look_starts_at_its_bar() -> None:
    bars = [bar("12:01", "12:02", 100, 101, 99), bar("12:02", "12:03", 100, 101, 97)]
    judgement = judge(position(), bars, [], UNTIL)
    assert judgement.trigger is not None
    assert judgement.trigger.at == judgement.position.judged_until == at("12:02")


def test_funding_after_the_trigger_is_not_paid() -> None:
    bars = [bar("12:01", "12:02", 100, 101, 97)]
    judgement = judge(position(), bars, [funding("12:02", "0.001", 100)], UNTIL)
    assert judgement.payments == []


def test_funding_at_the_first_moment_of_a_bar_is_paid_before_it() -> None:
    judgement = judge(position(), [bar("12:01", "12:02", 100, 101, 97)], [funding("12:01", "0.001", 100)], UNTIL)
    assert [payment.amount for payment in judgement.payments] == [d(-1)]


def test_funding_is_paid_once_over_any_number_of_looks() -> None:
    events = [funding("12:30", "0.001", 100)]
    first = judge(position(), [], events, at("12:40"))
    second = judge(first.position, [], events, UNTIL)
    assert (len(first.payments), second.payments) == (1, [])
    assert second.position.funding == d(-1)


def test_funding_can_bring_the_liquidation_price_into_a_bar() -> None:
    """Paying 5 of 100 margin lifts the liquidation price from 90.91 to 905 / 9.9 = 91.41: a low of 91.2 is fatal only then."""
    bare = position(stop_loss=None)
    bars = [bar("12:31", "12:32", 95, 96, "91.2")]
    assert judge(bare, bars, [], UNTIL).trigger is None
    trigger = judge(bare, bars, [funding("12:30", "0.005", 100)], UNTIL).trigger
    assert trigger is not None
    assert (trigger.kind, trigger.price) == (TriggerKind.LIQUIDATION, d("91.414141414141"))


def test_within_a_bar_the_old_stop_is_judged_before_trailing_moves_it() -> None:
    trailing = position(trailing_ratio=d("0.005"), take_profit=None)
    judgement = judge(trailing, [bar("12:01", "12:02", 100, 103, 100)], [], UNTIL)
    assert judgement.trigger is None
    assert judgement.position.stop_loss == d("102.49")


def test_what_a_growing_bar_did_before_it_moved_the_stop_never_touches_it() -> None:
    """The minute's low of 100 came before its high of 103 trailed the stop to 102.49; the minute is seen again, grown to 103.1."""
    trailing = position(trailing_ratio=d("0.005"), take_profit=None)
    first = judge(trailing, [bar("12:10", "12:10:30", 100, 103, 100)], [], at("12:10"))
    assert (first.position.stop_loss, first.position.judged_until) == (d("102.49"), at("12:10:30"))
    again = [bar("12:10", "12:10:40", 100, "103.1", 100), bar("12:10:40", "12:10:40", "103.1", "103.1", "103.1")]
    second = judge(first.position, again, [], at("12:10"))
    assert second.trigger is None
    fallen = [bar("12:10", "12:10:50", 100, "103.1", 100), bar("12:10:50", "12:10:50", 102, 102, 102)]
    third = judge(second.position, fallen, [], at("12:10"))
    assert third.trigger is not None
    assert third.trigger.kind is TriggerKind.TRAILING


def test_a_growing_bar_that_moved_nothing_is_judged_again_as_it_grows() -> None:
    first = judge(position(), [bar("12:10", "12:10:30", 100, 101, 99)], [], at("12:10"))
    second = judge(first.position, [bar("12:10", "12:10:40", 100, 101, 97)], [], at("12:10"))
    assert second.trigger is not None
    assert second.trigger.kind is TriggerKind.STOP


def test_a_settlement_published_late_is_paid_though_later_bars_were_judged() -> None:
    """Looked at 13:00:20 without the settlement of 13:00: the next look starts at 12:59 again, and it is there."""
    trailing = position(trailing_ratio=d("0.005"), take_profit=None)
    early = judge(trailing, [bar("13:00", "13:00:20", 100, 103, 100)], [], at("12:59"))
    assert early.position.funded_until == at("12:59")
    late = judge(early.position, [], [funding("13:00", "0.0001", 100)], at("13:01"))
    assert [payment.amount for payment in late.payments] == [d("-0.1")]


def test_a_trailed_stop_closes_as_trailing() -> None:
    trailing = position(trailing_ratio=d("0.005"), take_profit=None)
    bars = [bar("12:01", "12:02", 100, 103, 100), bar("12:02", "12:03", 103, 103, 102)]
    trigger = judge(trailing, bars, [], UNTIL).trigger
    assert trigger is not None
    assert (trigger.kind, trigger.price) == (TriggerKind.TRAILING, d("102.49"))


@given(
    st.lists(st.tuples(st.integers(9500, 11000), st.integers(0, 300), st.integers(0, 300)), max_size=12), st.sampled_from(Side)
)
def test_a_trailing_stop_never_moves_back_and_once_armed_is_never_worse_than_break_even(
    path: list[tuple[int, int, int]], side: Side
) -> None:
    trailing = position(side, trailing_ratio=d("0.005"), take_profit=None)
    start = trailing.stop_loss
    for middle, up, down in path:
        step = bar(
            "12:01", "12:02", str(Decimal(middle) / 100), str(Decimal(middle + up) / 100), str(Decimal(middle - down) / 100)
        )
        moved = trail(trailing, step)
        assert moved.stop_loss is not None
        assert trailing.stop_loss is not None
        assert side.sign * (moved.stop_loss - trailing.stop_loss) >= 0
        trailing = moved
    if trailing.stop_loss != start:
        assert trailing.stop_loss is not None
        assert side.sign * (trailing.stop_loss - break_even(trailing)) >= 0


def test_a_look_cut_in_two_finds_what_one_look_finds() -> None:
    bars = [bar("12:01", "12:02", 100, 102, 99), bar("12:02", "12:03", 102, 103, "98.5"), bar("12:03", "12:04", 99, 99, 97)]
    events = [funding("12:02", "0.0001", 101)]
    whole = judge(position(), bars, events, at("12:04"))
    first = judge(position(), bars[:1], events, at("12:02"))
    second = judge(first.position, bars[1:], events, at("12:04"))
    assert second.trigger == whole.trigger
    assert first.payments + second.payments == whole.payments
    assert second.position.stop_loss == whole.position.stop_loss


def test_a_signal_meets_its_stop_before_its_target_within_one_bar() -> None:
    both = [bar("12:01", "12:02", 100, 105, 97)]
    assert first_barrier(Side.LONG, d(98), d(104), both) == (Outcome.STOP, at("12:01"))
    assert first_barrier(Side.SHORT, d(106), d(98), both) == (Outcome.TARGET, at("12:01"))
    assert first_barrier(Side.LONG, d(90), d(110), both) is None
