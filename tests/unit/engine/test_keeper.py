"""The keeper: figures carried from closing frames that come twice, late, in any order or never, with what was missing read."""

import random
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from zlib import crc32

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import features_live
from engine.core.features import features_of, panel_of
from engine.core.features_bytes import memory_bytes, memory_of
from engine.core.features_live import LiveFeatures
from engine.core.market import Candles, ClosedCandle, Timeframe, at
from engine.feeding.keeper import LATE_MS, WHOLE, Keeper, Missing, frames_of
from tests.unit.engine.execution_desk import WALL_MS
from tests.unit.engine.market_world import series

START_MS = 1_700_006_400_000
"""A boundary of 4h candles."""

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    features_live.warm_up()


class SteppedClock:
    """Both times, moved by hand; see `engine.ports.Clock`."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.market = now_ms
        self.walled = WALL_MS

    def now_ms(self) -> int:
        return self.market

    def wall_ms(self) -> int:
        return self.walled

    def now(self) -> datetime:
        return at(self.market)

    def wall(self) -> datetime:
        return at(self.walled)

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        raise NotImplementedError


def history(symbol: str, timeframe: Timeframe, closed_ms: int, length: int) -> Candles:
    """A walk that is the same however much of it is asked for."""
    whole = walked(symbol, timeframe)
    until = closed_ms // timeframe.ms - int(whole.open_ms[0]) // timeframe.ms
    columns = ("open_ms", "open", "high", "low", "close", "volume")
    return msgspec.structs.replace(whole, **{name: getattr(whole, name)[max(0, until - length) : until] for name in columns})


@cache
def walked(symbol: str, timeframe: Timeframe) -> Candles:
    walk = np.random.default_rng(crc32(f"{symbol} {timeframe}".encode())).normal(0, 0.01, 1_000)
    volume = 100 + 50 * np.abs(walk)
    return series(symbol, timeframe, 100 * np.exp(np.cumsum(walk)), volume, closed_ms=START_MS + 300 * timeframe.ms)


class Told:
    """What the exchange would answer, and how often it was asked."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self.asked: list[Missing] = []

    def read(self, keeper: Keeper, most: int = 100) -> list[Missing]:
        due = keeper.due(lambda symbol: 0.0, most)
        self.asked += due
        for missing in due:
            keeper.fill(missing, history(missing.symbol, missing.timeframe, self.clock.now_ms(), missing.count))
        return due


def seeded(clock: SteppedClock, symbols: Sequence[str] = SYMBOLS) -> tuple[Keeper, Told]:
    keeper, told = Keeper(LiveFeatures.of(()), clock), Told(clock)
    keeper.follow(symbols)
    told.read(keeper)
    return keeper, told


def closing(symbol: str, timeframe: Timeframe, closed_ms: int) -> ClosedCandle:
    (candle,) = frames_of(history(symbol, timeframe, closed_ms, 1))
    return candle


def fresh(keeper: Keeper) -> list[str]:
    return sorted(set(keeper.symbols) - set(keeper.stale()))


def test_a_symbol_begins_with_one_read_of_its_whole_history_the_most_traded_first() -> None:
    clock = SteppedClock()
    keeper = Keeper(LiveFeatures.of(()), clock)
    keeper.follow(SYMBOLS)
    first = keeper.due({"AUSDT": 1.0, "BUSDT": 3.0, "CUSDT": 2.0}.__getitem__, 3)
    assert [(missing.symbol, missing.count, missing.whole) for missing in first] == [
        ("BUSDT", WHOLE, True),
        ("BUSDT", WHOLE, True),
        ("CUSDT", WHOLE, True),
    ]
    assert {missing.timeframe for missing in first[:2]} == {Timeframe.M15, Timeframe.H4}


def test_frames_of_one_close_make_every_symbol_fresh_and_one_that_comes_twice_changes_nothing() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock)
    assert fresh(keeper) == list(SYMBOLS)
    clock.market += Timeframe.M15.ms
    assert fresh(keeper) == []
    for symbol in reversed(SYMBOLS):
        keeper.take(closing(symbol, Timeframe.M15, clock.market))
    keeper.absorb()
    version = keeper.version
    assert fresh(keeper) == list(SYMBOLS)
    keeper.take(closing("BUSDT", Timeframe.M15, clock.market))
    keeper.absorb()
    told.read(keeper)
    assert fresh(keeper) == list(SYMBOLS)
    assert len(told.asked) == 2 * len(SYMBOLS)
    assert keeper.version >= version


def test_a_closing_frame_that_does_not_come_is_read_after_three_seconds_and_only_that_candle() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock)
    clock.market += Timeframe.M15.ms
    for symbol in SYMBOLS[:2]:
        keeper.take(closing(symbol, Timeframe.M15, clock.market))
    keeper.absorb()
    assert told.read(keeper) == []
    clock.walled += LATE_MS - 1
    assert told.read(keeper) == []
    clock.walled += 1
    (missing,) = told.read(keeper)
    assert (missing.symbol, missing.timeframe, missing.count, missing.whole) == ("CUSDT", Timeframe.M15, 1, False)
    assert fresh(keeper) == list(SYMBOLS)


def test_a_frame_behind_a_hole_is_held_until_the_hole_is_read_at_once() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock, ["AUSDT"])
    clock.market += 2 * Timeframe.M15.ms
    keeper.take(closing("AUSDT", Timeframe.M15, clock.market))
    keeper.absorb()
    assert keeper.live.quarter.told.seen[0] == WHOLE
    (missing,) = keeper.due(lambda symbol: 0.0, 9)
    late = history("AUSDT", Timeframe.M15, clock.market - Timeframe.M15.ms, missing.count)
    keeper.fill(missing, late)
    assert (fresh(keeper), int(keeper.live.quarter.told.seen[0])) == (["AUSDT"], WHOLE + 2)
    assert told.read(keeper) == []


def test_a_frame_that_comes_after_its_follower_lets_both_in() -> None:
    clock = SteppedClock()
    keeper, _ = seeded(clock, ["AUSDT"])
    for steps in (2, 1):
        keeper.take(closing("AUSDT", Timeframe.M15, clock.market + steps * Timeframe.M15.ms))
        keeper.absorb()
    clock.market += 2 * Timeframe.M15.ms
    assert fresh(keeper) == ["AUSDT"]


def test_a_frame_that_arrives_while_its_symbol_is_being_read_is_not_lost() -> None:
    clock = SteppedClock()
    keeper = Keeper(LiveFeatures.of(()), clock)
    keeper.follow(["AUSDT"])
    reads = [
        (missing, history("AUSDT", missing.timeframe, clock.market, missing.count)) for missing in keeper.due(lambda _: 0.0, 9)
    ]
    clock.market += Timeframe.M15.ms
    keeper.take(closing("AUSDT", Timeframe.M15, clock.market))
    keeper.absorb()
    for missing, candles in reads:
        keeper.fill(missing, candles)
    assert fresh(keeper) == ["AUSDT"]


def test_after_a_cut_what_a_symbol_lacks_is_read_without_waiting_for_its_frame() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock)
    told.read(keeper)
    clock.market += 3 * Timeframe.M15.ms
    assert told.read(keeper) == []
    keeper.interrupted(["AUSDT", "ELSEUSDT"])
    (missing,) = told.read(keeper)
    assert (missing.symbol, missing.count, missing.whole) == ("AUSDT", 3, False)
    assert fresh(keeper) == ["AUSDT"]


def test_a_symbol_of_which_the_exchange_has_nothing_new_is_asked_less_and_less_often() -> None:
    clock = SteppedClock()
    keeper, _ = seeded(clock, ["AUSDT"])
    nothing_newer = history("AUSDT", Timeframe.M15, clock.market, 3)
    clock.market += Timeframe.M15.ms
    asked: list[int] = []
    for _ in range(300):
        clock.walled += 1_000
        for missing in keeper.due(lambda _: 0.0, 9):
            asked.append(clock.walled)
            keeper.fill(missing, nothing_newer)
    pauses = np.diff(asked) // 1_000
    assert pauses.tolist()[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses.tolist()[6:]) == {60}


def test_a_symbol_away_for_long_begins_anew_and_a_failed_read_is_tried_again() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock, ["AUSDT"])
    clock.market += 200 * Timeframe.M15.ms
    keeper.interrupted(["AUSDT"])
    due = keeper.due(lambda _: 0.0, 9)
    assert {(missing.timeframe, missing.whole) for missing in due} == {(Timeframe.M15, True), (Timeframe.H4, False)}
    for missing in due:
        keeper.failed(missing)
    assert told.read(keeper) == []
    clock.walled += 1_000
    assert len(told.read(keeper)) == 2
    assert (fresh(keeper), int(keeper.live.quarter.told.seen[0])) == (["AUSDT"], WHOLE)


def test_who_is_delisted_is_forgotten_and_who_is_listed_begins_while_the_others_go_on() -> None:
    clock = SteppedClock()
    keeper, told = seeded(clock)
    keeper.take(closing("BUSDT", Timeframe.M15, clock.market + 5 * Timeframe.M15.ms))
    keeper.follow(["AUSDT", "CUSDT", "NEWUSDT"])
    assert fresh(keeper) == ["AUSDT", "CUSDT"]
    assert {missing.symbol for missing in told.read(keeper)} == {"NEWUSDT"}
    assert fresh(keeper) == ["AUSDT", "CUSDT", "NEWUSDT"]
    keeper.take(closing("BUSDT", Timeframe.M15, clock.market))
    keeper.absorb()
    assert keeper.live.told.symbols == ("AUSDT", "CUSDT", "NEWUSDT")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), loss=st.sampled_from([0.0, 0.2, 0.6]), quarters=st.integers(5, 40))
def test_after_losses_cuts_disorder_and_a_change_of_leader_figures_equal_the_batch_to_the_bit(
    seed: int, loss: float, quarters: int
) -> None:
    chance, clock = random.Random(seed), SteppedClock()
    keeper, told = seeded(clock)
    for _ in range(quarters):
        clock.market += Timeframe.M15.ms
        frames = [closing(symbol, Timeframe.M15, clock.market) for symbol in SYMBOLS]
        if clock.market % Timeframe.H4.ms == 0:
            frames += [closing(symbol, Timeframe.H4, clock.market) for symbol in SYMBOLS]
        chance.shuffle(frames)
        for frame in frames:
            for _ in range(0 if chance.random() < loss else chance.choice((1, 1, 2))):
                keeper.take(frame)
            if chance.random() < 0.3:
                keeper.absorb()
        clock.walled += chance.choice((100, LATE_MS))
        told.read(keeper, most=chance.randint(0, 4))
        if chance.random() < 0.1:
            keeper.absorb()
            carried = memory_of(memory_bytes(keeper.live))
            assert carried is not None
            keeper = Keeper(carried, clock)
    keeper.absorb()
    for _ in range(4):
        keeper.interrupted(SYMBOLS)
        clock.walled += LATE_MS
        told.read(keeper)
    assert fresh(keeper) == list(SYMBOLS)
    live = keeper.live
    pairs = [
        [history(symbol, track.told.timeframe, clock.market, int(track.told.seen[row])) for row, symbol in enumerate(SYMBOLS)]
        for track in (live.quarter, live.four_hour)
    ]
    quarter, four_hour = (panel_of(candles, max(map(len, candles))) for candles in pairs)
    batch, ours = features_of(quarter, four_hour), live.told.features()
    for name in batch.__struct_fields__:
        if name != "symbols":
            np.testing.assert_array_equal(getattr(ours, name), getattr(batch, name), err_msg=name)
