"""One scan for everyone: the three layers, each user's own decision, and what a lost lease or a failing user may not do."""

import asyncio
from datetime import datetime, timedelta

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from orchestrator.core.barriers import Outcome
from orchestrator.core.order import OrderStatus, Refusal
from orchestrator.errors import StoreUnavailable
from orchestrator.ports import OrderRecord, SignalRecord, Trader, UnitOfWork
from orchestrator.trading.accounts import Marks
from orchestrator.trading.scan import ScanOutcome, last_close
from shared.analysis import AnalyzeRequest
from shared.enums import Side
from tests.builders import NOON, USER, at, bar, d, signal, trader
from tests.fakes import FakeMutex, OpenMutex, World
from tests.soundness import assert_at_rest, assert_sound


def reasons(world: World) -> list[tuple[int | None, str]]:
    return [(row.user_id.int if row.user_id else None, row.reason.value) for row in world.rows.refusals]


async def test_one_scan_serves_everyone() -> None:
    world = World(trader(1), trader(2), trader(3, auto_trade_enabled=False))
    await world.enter(signal())
    assert len(world.engine.sent("analyze")) == 1
    assert [position.user_id.int for position in world.rows.live()] == [1, 2]
    assert [order.status for order in world.rows.orders.values()].count(OrderStatus.AWAITING_APPROVAL) == 1
    assert_sound(world.rows)


async def test_what_a_scan_fell_back_on_is_kept_with_it_and_told_in_its_log_line() -> None:
    world = World(trader())
    world.engine.fallbacks = ["tickers from REST", "clock skew not measured"]
    with capture_logs() as lines:
        await world.trading.scan.run()
    assert [scan.fallbacks for scan in world.rows.scans] == [world.engine.fallbacks]
    assert [line["fallbacks"] for line in lines if line["event"] == "scan done"] == ["tickers from REST; clock skew not measured"]


async def test_a_second_signal_for_a_symbol_in_one_batch_is_refused_for_everyone() -> None:
    world = World(trader())
    await world.enter(signal(), signal(side=Side.SHORT))
    assert reasons(world) == [(None, "duplicate_in_batch")]
    assert len(world.rows.live()) == 1


async def test_a_signal_that_another_scan_recorded_is_a_duplicate() -> None:
    world = World(trader())
    await world.enter(signal())
    await world.trading.scan.run()
    assert reasons(world) == [(None, "duplicate_signal")]
    assert len(world.rows.signals) == 1


async def test_a_recent_signal_of_the_same_side_is_refused_with_its_reason() -> None:
    world = World(trader(fixed_order_size=d("0.1")))
    await world.enter(signal())
    world.clock.pass_market(minutes=45)
    await world.enter(signal(candle_close=at("12:45")))
    assert reasons(world)[-1] == (None, "recent_signal")


async def test_a_signal_refused_as_recent_does_not_silence_the_next_one() -> None:
    """Signalled at 12:00, refused at 12:45, free again at 13:15: what was refused is not "recent"."""
    world = World(trader(fixed_order_size=d("0.1")))
    await world.enter(signal())
    for minutes in (45, 30):
        world.clock.pass_market(minutes=minutes)
        await world.enter(signal(candle_close=last_close(world.clock.now())))
    assert [reason for _, reason in reasons(world)] == ["below_min_notional", "recent_signal", "below_min_notional"]


async def test_a_second_signal_for_a_held_symbol_is_refused_for_its_holder_only() -> None:
    world = World(trader(1), trader(2, auto_trade_enabled=False))
    await world.enter(signal())
    (waiting,) = [order for order in world.rows.orders.values() if order.status is OrderStatus.AWAITING_APPROVAL]
    await world.trading.desk.decline(waiting.user_id, waiting.id)
    world.clock.pass_market(minutes=75)
    await world.enter(signal(candle_close=at("13:15")))
    assert reasons(world)[1:] == [(1, "position_held")]
    assert [order.user_id.int for order in world.rows.orders.values()].count(2) == 2


async def test_a_scan_while_another_runs_does_nothing() -> None:
    world = World(trader())
    world.quote("SOLUSDT", 100)
    world.engine.signals = [signal()]
    inner: list[ScanOutcome] = []

    async def overlap() -> None:
        world.engine.analyzing = None
        inner.append((await world.trading.scan.run()).outcome)

    world.engine.analyzing = overlap
    assert (await world.trading.scan.run()).outcome is ScanOutcome.DONE
    assert inner == [ScanOutcome.ANOTHER_RUNS]
    assert len(world.rows.scans) == 1


async def test_results_of_a_scan_whose_lease_was_lost_are_not_traded() -> None:
    world = World(trader())
    world.mutex.lost = True  # type: ignore[union-attr]
    world.engine.signals = [signal()]
    assert (await world.trading.scan.run()).outcome is ScanOutcome.LEASE_LOST
    assert world.rows.orders == {}
    assert world.rows.signals == {}


async def test_two_overlapping_scans_with_the_same_signals_make_one_position_per_user_and_symbol() -> None:
    """Even where the lease excludes nobody, the signal's row and the claim do."""
    world = World(*(trader(number) for number in range(1, 6)))
    world.mutex = OpenMutex()
    world.engine.signals = [signal("AAAUSDT"), signal("BBBUSDT", Side.SHORT)]
    world.quote("AAAUSDT", 100)
    world.quote("BBBUSDT", 100)
    one, other = world.trading, world.trading
    one = world.start()
    other = world.start()
    await asyncio.gather(one.scan.run(), other.scan.run())
    held = [(position.user_id.int, position.symbol) for position in world.rows.live()]
    assert len(held) == len(set(held)) == 10
    assert_at_rest(world.rows)


async def test_one_users_failure_never_touches_another() -> None:
    world = World(trader(1), trader(2), trader(3))
    broken = world.rows.traders[USER]
    world.rows.traders[USER] = structs.replace(broken, leverage=d(0))
    await world.enter(signal())
    assert [position.user_id.int for position in world.rows.live()] == [2, 3]


async def test_a_scan_without_an_engine_leaves_no_trace_in_the_rows() -> None:
    world = World(trader())
    world.engine.broken = {"analyze"}
    assert (await world.trading.scan.run()).outcome is ScanOutcome.ENGINE_UNAVAILABLE
    assert world.rows.scans == []


@pytest.mark.parametrize(("now", "close"), [("12:00", "12:00"), ("12:14:59", "12:00"), ("12:15", "12:15"), ("12:59:30", "12:45")])
def test_the_last_close_is_the_newest_quarter_of_an_hour(now: str, close: str) -> None:
    assert last_close(at(now)) == at(close)


class Closes:
    """Notes of closes, and whether somebody held the scan's lease when they were read and written."""

    def __init__(self, mutex: FakeMutex | OpenMutex) -> None:
        assert isinstance(mutex, FakeMutex)
        self.noted: list[datetime] = []
        self.apart: list[bool] = []
        self._mutex = mutex

    async def done(self, candle_close: datetime) -> bool:
        self.apart.append("scan" in self._mutex.held)
        return candle_close in self.noted

    async def mark_done(self, candle_close: datetime) -> None:
        self.apart.append("scan" in self._mutex.held)
        self.noted.append(candle_close)


async def test_a_close_is_looked_up_and_noted_under_the_lease_so_that_it_is_scanned_once() -> None:
    world = World(trader())
    closes = Closes(world.mutex)
    scan = world.trading.scan
    outcomes = [(await scan.run(NOON, closes)).outcome for _ in range(2)]
    assert outcomes == [ScanOutcome.DONE, ScanOutcome.DONE_BEFORE]
    assert len(world.rows.scans) == 1
    assert closes.noted == [NOON]
    assert closes.apart == [True] * 3


async def test_a_scan_that_did_not_come_to_its_end_is_not_noted_as_done() -> None:
    world = World(trader())
    world.engine.broken = {"analyze"}
    closes = Closes(world.mutex)
    await world.trading.scan.run(NOON, closes)
    assert closes.noted == []


async def test_old_signals_learn_which_barrier_came_first_traded_or_not() -> None:
    world = World(trader(fixed_order_size=d("0.1")))
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"), signal("CCCUSDT"))
    world.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 100, 105, 99)]
    world.engine.bars["BBBUSDT"] = [bar("12:10", "12:11", 100, 105, 97)]
    world.clock.pass_market(minutes=30)
    assert await world.trading.review.run() == 0
    world.clock.pass_market(hours=4)
    assert await world.trading.review.run() == 2
    outcomes = {row.symbol: (row.outcome, row.outcome_at) for row in world.rows.signals.values()}
    assert outcomes == {
        "AAAUSDT": (Outcome.TARGET.value, at("12:10")),
        "BBBUSDT": (Outcome.STOP.value, at("12:10")),
        "CCCUSDT": (None, None),
    }
    world.clock.pass_market(hours=20)
    assert await world.trading.review.run() == 1
    (last,) = [row for row in world.rows.signals.values() if row.symbol == "CCCUSDT"]
    assert (last.outcome, last.outcome_at) == ("NEITHER", NOON + timedelta(hours=24))


async def test_one_decision_that_fails_keeps_no_other_signal_from_being_decided_and_is_made_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is away for one user's first signal; the rest goes on, and what was left is decided within the candle."""
    world = World(trader(1), trader(2))
    deciding, failures = world.trading.enter._decide, ["AAAUSDT"]

    async def failing(unit: UnitOfWork, who: Trader, one: SignalRecord, marks: Marks) -> OrderRecord | Refusal:
        if one.symbol in failures:
            failures.remove(one.symbol)
            raise StoreUnavailable("postgresql: away")
        return await deciding(unit, who, one, marks)

    monkeypatch.setattr(world.trading.enter, "_decide", failing)
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT"))
    assert len(world.rows.live()) == 3
    assert await world.trading.scan.finish() == 2
    assert len(world.rows.live()) == 4
    assert world.rows.refusals == []
    assert await world.trading.scan.finish() == 0
    assert_at_rest(world.rows)


async def test_what_a_crash_left_undecided_is_not_decided_after_its_candle_nor_beside_a_scan() -> None:
    world = World(trader())
    world.engine.prices["SOLUSDT"] = d(100)
    world.engine.signals = [signal()]
    await world.trading.scan._keep(await world.engine.analyze(AnalyzeRequest()), world.ids.new(), NOON, 1.0, "trace")
    async with world.mutex.hold("scan", 15):
        assert await world.trading.scan.finish() == 0
    world.clock.pass_market(minutes=15)
    assert await world.trading.scan.finish() == 0
    assert world.rows.orders == {}
