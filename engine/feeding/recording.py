"""What of the feed is recorded: marks, forced orders, closed candles with the histories that were read, and book tops of the shortlist.

Stands beside the feed's arrow: it listens to what others take, and nothing waits for it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from engine.core.market import BookTop, Candles, ClosedCandle, ForcedOrder, Mark, Timeframe
from engine.feeding.backfill import History

MOST_TOPS: Final = 40
"""Symbols whose tops are recorded, those that scans shortlisted last."""

SECOND_MS: Final = 1_000


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
