"""What of the feed is recorded: marks, forced orders, closed candles with the histories that were read, and book tops of the shortlist.

Stands beside the feed's arrow: it listens to what others take, and nothing waits for it. It reads only histories that the recording lacks.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from engine.core.market import BookTop, Candles, ClosedCandle, ForcedOrder, Mark, Timeframe
from engine.core.recording import Lack
from engine.errors import ExchangeError, ExchangeThrottled
from engine.feeding.backfill import THROTTLED_SECONDS, History
from engine.feeding.keeper import WHOLE

MOST_TOPS: Final = 40
"""Symbols whose tops are recorded, those that scans shortlisted last."""

SECOND_MS: Final = 1_000

PAUSE_SECONDS: Final = 0.25
"""Between two histories that are read for the recording alone: a fifth of the exchange's weight a minute, nobody waits for them."""

LOOK_SECONDS: Final = 600.0
"""Between two looks at what the recording lacks."""


class Tape(Protocol):
    """Where it is written: `engine.recorder.Recorder`."""

    def marks(self, marks: Sequence[Mark]) -> None:
        """Marks of one second."""
        ...

    def liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        ...

    def book_tops(self, tops: Iterable[BookTop]) -> None:
        """Best bids and asks."""
        ...

    def candles(self, candles: Candles) -> None:
        """Closed candles of a symbol."""
        ...

    def closed(self, candle: ClosedCandle) -> None:
        """One closing frame."""
        ...

    def lacking(self, symbols: Sequence[str], most: int) -> list[Lack]:
        """Histories with holes among their newest `most` candles."""
        ...


class RecordedHistory:
    """Implements `History` by another one, and records what it reads: without it a recording of a day would lack what indicators need."""

    def __init__(self, history: History, tape: Tape) -> None:
        self._history = history
        self._tape = tape

    async def newest_candles(self, symbol: str, timeframe: Timeframe, count: int) -> Candles:
        """The other's."""
        candles = await self._history.newest_candles(symbol, timeframe, count)
        self._tape.candles(candles)
        return candles

    async def skew_ms(self) -> int:
        """The other's."""
        return await self._history.skew_ms()


class TopWatch:
    """Implements `engine.top_streams.TopListener`: one top of each shortlisted symbol a second is recorded.

    Args:
        tape: Where.
        shortlisted: By scans, the last first.
    """

    def __init__(self, tape: Tape, shortlisted: Callable[[], Sequence[str]]) -> None:
        self._tape = tape
        self._shortlisted = shortlisted
        self._seconds: dict[str, int] = {}

    def wanted_tops(self) -> Sequence[str]:
        """The shortlist."""
        return self._shortlisted()[:MOST_TOPS]

    def take_top(self, top: BookTop) -> None:
        """The first of its second."""
        second = top.at_ms // SECOND_MS
        if self._seconds.get(top.symbol) != second:
            self._seconds[top.symbol] = second
            self._tape.book_tops([top])


async def keep_histories_whole(
    tape: Tape, history: History, symbols: Callable[[], Sequence[str]], idle: asyncio.Event, seconds: float = LOOK_SECONDS
) -> None:
    """Reads what the recording lacks, until it is cancelled.

    A feed that goes on from what the one before it knew asks for no history, and its folder may have none: recording was just switched on, another
    host led, or the last minute was lost.

    Args:
        tape: What lacks histories.
        history: Where they are read, and written down thereby: a `RecordedHistory`.
        symbols: The universe.
        idle: Set once nobody else needs to read.
        seconds: Between two looks. A history is read once: of a symbol that was listed lately there is no more.
    """
    await idle.wait()
    read: set[tuple[str, Timeframe]] = set()
    while True:
        for lack in await asyncio.to_thread(tape.lacking, symbols(), WHOLE):
            key = lack.symbol, lack.timeframe
            if key not in read and await _is_read(history, lack):
                read.add(key)
        await asyncio.sleep(seconds)


async def _is_read(history: History, lack: Lack) -> bool:
    try:
        await history.newest_candles(lack.symbol, lack.timeframe, lack.count + 1)
    except ExchangeThrottled as error:
        await asyncio.sleep(max(THROTTLED_SECONDS, error.retry_after_seconds))
        return False
    except ExchangeError:
        await asyncio.sleep(THROTTLED_SECONDS)
        return False
    await asyncio.sleep(PAUSE_SECONDS)
    return True
