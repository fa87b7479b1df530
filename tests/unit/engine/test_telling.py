"""What the feed tells of a close, and when: at once with the last of its frames, once, and never of one that is not whole."""

import pytest

from engine.core import features_live
from engine.core.features_bytes import told_of
from engine.core.market import Timeframe
from engine.errors import SnapshotsUnavailable
from engine.feeding.keeper import Keeper
from engine.feeding.telling import Teller
from engine.ports import FiguresState
from tests.unit.engine.test_keeper import START_MS, SYMBOLS, SteppedClock, closing, seeded


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    features_live.warm_up()


class Board:
    """Redis, that may be away: what stands there, and which closes were told."""

    def __init__(self) -> None:
        self.told = b""
        self.closes: list[int] = []
        self.away = False

    async def write_figures(
        self, told: bytes, memory: bytes | None = None, state: FiguresState | None = None, closed_ms: int | None = None
    ) -> None:
        if self.away:
            raise SnapshotsUnavailable("ConnectionError")
        self.told = told
        self.closes += [] if closed_ms is None else [closed_ms]


def close(keeper: Keeper, clock: SteppedClock, *symbols: str) -> None:
    for symbol in symbols:
        keeper.take(closing(symbol, Timeframe.M15, clock.market))
    keeper.absorb()


async def test_a_close_is_told_with_the_figures_that_hold_its_last_frame_and_only_once() -> None:
    clock, board = SteppedClock(), Board()
    keeper, _ = seeded(clock)
    teller = Teller(keeper, board, clock, "one", lambda: None)
    await teller.tell()
    assert board.closes == [START_MS]
    clock.market += Timeframe.M15.ms
    close(keeper, clock, *SYMBOLS[:2])
    await teller.tell()
    assert board.closes == [START_MS]
    close(keeper, clock, SYMBOLS[2])
    await teller.tell()
    assert board.closes == [START_MS, clock.market]
    told = told_of(board.told)
    assert told is not None
    assert told.fresh(clock.market).all()
    await teller.tell()
    assert board.closes == [START_MS, clock.market]


async def test_a_close_that_redis_did_not_take_is_told_when_it_does_and_not_once_another_has_come() -> None:
    clock, board = SteppedClock(), Board()
    keeper, _ = seeded(clock)
    teller = Teller(keeper, board, clock, "one", lambda: None)
    board.away = True
    await teller.tell()
    board.away = False
    await teller.tell()
    clock.market += Timeframe.M15.ms
    await teller.tell()
    assert board.closes == [START_MS]


async def test_at_a_four_hour_boundary_the_four_hour_candles_are_waited_for_too() -> None:
    clock, board = SteppedClock(), Board()
    keeper, told = seeded(clock)
    teller = Teller(keeper, board, clock, "one", lambda: None)
    clock.market += Timeframe.H4.ms
    keeper.interrupted(SYMBOLS)
    for missing in told.read(keeper):
        assert missing.symbol in SYMBOLS
    before = [clock.market]
    await teller.tell()
    assert board.closes == before
    clock.market += Timeframe.H4.ms - Timeframe.M15.ms
    keeper.interrupted(SYMBOLS)
    told.read(keeper)
    clock.market += Timeframe.M15.ms
    close(keeper, clock, *SYMBOLS)
    await teller.tell()
    assert board.closes == before
    for symbol in SYMBOLS:
        keeper.take(closing(symbol, Timeframe.H4, clock.market))
    keeper.absorb()
    await teller.tell()
    assert board.closes == [*before, clock.market]
