"""The engine's marks as the worker judges them: looks however late and however many end as if somebody had watched each second."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.market import at
from engine.core.ticks import Tick
from orchestrator.core.barriers import Judgement, judge
from orchestrator.core.position import Position
from shared.analysis import Bar
from shared.enums import Side, TriggerKind
from tests.builders import position
from tests.unit.engine.market_world import NOW_MS
from tests.unit.engine.test_marks_ticks import ANYWHERE, BOUNDARY, SECOND, Market, moved, seconds

OPENED_MS = NOW_MS + 10_500


def opened(side: Side, **changes: object) -> Position:
    return position(side, judged_until=at(OPENED_MS), funded_until=at(OPENED_MS), **changes)


async def watched(market: Market, held: Position, moments: Sequence[int]) -> tuple[Judgement[Position] | None, datetime]:
    """What a worker that looks at these moments books, and up to when it saw."""
    judgement = None
    for now_ms in moments:
        since = min(held.judged_until, held.funded_until)
        found = await market.look(round(since.timestamp() * 1000), now_ms)
        judgement = judge(held, found.bars, found.funding, found.since)
        if judgement.trigger is not None:
            break
        held = judgement.position
    return judgement, at(market.clock.now_ms())


async def test_a_worker_that_was_away_books_the_stop_of_the_minute_in_which_a_position_opened() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 90 * SECOND, s31="97", s45="105"))
    judgement, _ = await watched(market, opened(Side.LONG), [OPENED_MS + 1_500, NOW_MS + 80 * SECOND])
    assert judgement is not None
    assert judgement.trigger is not None
    assert (judgement.trigger.kind, judgement.trigger.at) == (TriggerKind.STOP, at(NOW_MS + 31 * SECOND))


async def test_a_target_before_a_stop_within_a_minute_that_was_heard_is_a_target_and_without_the_feed_a_stop() -> None:
    market = Market(seconds(NOW_MS, NOW_MS + 140 * SECOND, s80="105", s100="97"))
    kinds = []
    for down in (False, True):
        market.kept.down = down
        judgement, _ = await watched(market, opened(Side.LONG), [NOW_MS + 65 * SECOND, NOW_MS + 130 * SECOND])
        assert judgement is not None
        assert judgement.trigger is not None
        kinds.append(judgement.trigger.kind)
    assert kinds == [TriggerKind.TARGET, TriggerKind.STOP]


@settings(max_examples=200, deadline=None)
@given(
    side=st.sampled_from(Side),
    trailing=st.sampled_from([None, Decimal("0.005"), Decimal("0.02")]),
    steps=st.lists(st.sampled_from([-7, -3, -2, -1, 0, 0, 1, 2, 3, 7]), min_size=200, max_size=320),
    pauses=st.lists(BOUNDARY | ANYWHERE, min_size=1, max_size=10),
    lag_ms=st.integers(0, 1_500),
)
async def test_looks_however_spaced_end_as_one_look_at_every_second(
    side: Side, trailing: Decimal | None, steps: list[int], pauses: list[tuple[int, int]], lag_ms: int
) -> None:
    prices = [Decimal(10_000 + sum(steps[: place + 1]) * 3) / 100 for place in range(len(steps))]
    path = [Tick(at_ms=NOW_MS + place * SECOND, price=price) for place, price in enumerate(prices) if price > 0]
    market, held = Market(path), opened(side, trailing_ratio=trailing)
    moments = [OPENED_MS]
    for pause in pauses:
        moments.append(min(moved(moments[-1], pause), path[-1].at_ms))
    market.mark_lag_ms = market.lag_ms = lag_ms
    judgement, seen = await watched(market, held, moments)
    market.mark_lag_ms = market.lag_ms = 0
    assert judgement is not None
    if judgement.trigger is None:
        judgement, seen = await watched(market, judgement.position, [moments[-1]])
    told = [
        Bar(from_=at(one.at_ms), to=at(one.at_ms), open=one.price, high=one.price, low=one.price)
        for one in path
        if at(OPENED_MS) <= at(one.at_ms) <= seen
    ]
    truth = judge(held, told, [], seen)
    assert judgement is not None
    assert judgement.trigger == truth.trigger
    assert (judgement.position.stop_loss, judgement.position.trailing_best) == (
        truth.position.stop_loss,
        truth.position.trailing_best,
    )
