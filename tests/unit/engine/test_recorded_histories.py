"""Histories that a recording lacks are read for it alone: each once, after everybody else, whatever the exchange says meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest

from engine.core.market import BookTop, Candles, ClosedCandle, ForcedOrder, Mark, Timeframe
from engine.core.recording import Lack
from engine.errors import ExchangeUnreachable
from engine.feeding import recording
from engine.feeding.keeper import WHOLE
from engine.feeding.recording import RecordedHistory, keep_histories_whole
from tests.polling import eventually
from tests.unit.engine.test_backfill import Exchange
from tests.unit.engine.test_keeper import SteppedClock

SYMBOLS = ("AUSDT", "BUSDT", "YOUNGUSDT")


class Folder:
    """A recording in memory; of a symbol that was listed lately it always lacks what was before."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, Timeframe], int] = {}
        self.looks = 0

    def marks(self, marks: Sequence[Mark]) -> None:
        raise AssertionError

    def liquidation(self, order: ForcedOrder) -> None:
        raise AssertionError

    def book_tops(self, tops: Iterable[BookTop]) -> None:
        raise AssertionError

    def closed(self, candle: ClosedCandle) -> None:
        raise AssertionError

    def candles(self, candles: Candles) -> None:
        self.held[(candles.symbol, candles.timeframe)] = 3 if candles.symbol == "YOUNGUSDT" else len(candles)

    def lacking(self, symbols: Sequence[str], most: int) -> list[Lack]:
        self.looks += 1
        keys = [(symbol, timeframe) for symbol in symbols for timeframe in (Timeframe.M15, Timeframe.H4)]
        return [Lack(symbol=key[0], timeframe=key[1], count=most) for key in keys if self.held.get(key, 0) < most]

    async def looked(self, times: int) -> None:
        async def so() -> bool:
            return self.looks >= times

        await eventually(so, seconds=5, what="looks at the folder")


@asynccontextmanager
async def kept_whole(folder: Folder, exchange: Exchange, idle: asyncio.Event) -> AsyncIterator[None]:
    history = RecordedHistory(exchange, folder)
    task = asyncio.create_task(keep_histories_whole(folder, history, lambda: SYMBOLS, idle, seconds=0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(recording, "THROTTLED_SECONDS", 0.001)


async def test_each_is_read_once_and_none_before_the_feed_has_what_it_needs() -> None:
    folder, exchange, idle = Folder(), Exchange(SteppedClock()), asyncio.Event()
    async with kept_whole(folder, exchange, idle):
        for _ in range(10):
            await asyncio.sleep(0)
        assert (folder.looks, exchange.asked) == (0, [])
        idle.set()
        await folder.looked(4)
    assert exchange.asked == [symbol for symbol in SYMBOLS for _ in range(2)]
    assert exchange.most_at_once == 1
    assert {folder.held[(symbol, timeframe)] for symbol in SYMBOLS[:2] for timeframe in (Timeframe.M15, Timeframe.H4)} == {
        WHOLE + 1
    }


async def test_one_that_could_not_be_read_stops_nobody_else_and_is_tried_again_at_the_next_look() -> None:
    folder, exchange, idle = Folder(), Exchange(SteppedClock()), asyncio.Event()
    idle.set()
    exchange.failure = lambda symbol: ExchangeUnreachable("away") if symbol == "AUSDT" else None
    async with kept_whole(folder, exchange, idle):
        await folder.looked(3)
        assert "AUSDT" not in {symbol for symbol, _ in folder.held}
        assert ("BUSDT", Timeframe.H4) in folder.held
        exchange.failure = lambda symbol: None
        await folder.looked(folder.looks + 2)
    assert folder.held[("AUSDT", Timeframe.M15)] > WHOLE - 1
    assert exchange.asked.count("BUSDT") == 2
