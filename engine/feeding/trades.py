"""Large trades of the symbols that matter now: who is listened to, and what Redis is told of them.

Stands between the stream of aggregate trades (`engine.streams.listen_trades`) and the whale views. The shortlist of the last scans is followed first,
then the most liquid symbols. Nothing is kept that may be lost: after a cut or a new start every window begins anew and says since when, and
until one is whole the detector asks for the last trades by request.
"""

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from engine.core.large_trades import LargeTrades
from engine.core.market import Ticker, Trade
from engine.errors import SnapshotsUnavailable
from engine.log import logger
from engine.ports import Clock, TradeWindows

MOST_LIQUID: Final = 20
"""Symbols that are followed whatever the scans want: by 24 h quote volume they are most of the market's turnover."""

MOST_FOLLOWED: Final = 60
"""As many as one connection is asked for (`engine.streams.MOST_TRADED`): who is not listened to is not said to be quiet."""

WRITE_SECONDS: Final = 1.0
ASK_EVERY: Final = 5
"""Writes between two looks at what the scans want."""


class TradeBoard(Protocol):
    """Where the watch reads and writes: `engine.snapshots.RedisSnapshots`. Both raise SnapshotsUnavailable."""

    async def wanted_trades(self) -> Sequence[str]:
        """Symbols that scans shortlisted lately, the last first."""
        ...

    async def write_large_trades(self, windows: TradeWindows) -> None:
        """Writes the windows."""
        ...


class TradeWatch:
    """Implements `engine.streams.TradeListener`.

    Args:
        clock: Market time for the windows, wall time for the beat.
        tickers: What the feed knows of the market now.
    """

    def __init__(self, clock: Clock, tickers: Callable[[], Mapping[str, Ticker]]) -> None:
        self._clock = clock
        self._tickers = tickers
        self._large = LargeTrades()
        self._connected = False
        self.shortlisted: Sequence[str] = ()

    def wanted(self) -> Sequence[str]:
        """The shortlisted, those asked for last first, then the most liquid; of symbols with a ticker. Following begins with the answer."""
        tickers = self._tickers()
        liquid = heapq.nlargest(MOST_LIQUID, tickers.values(), key=lambda ticker: (ticker.quote_volume, ticker.symbol))
        listed = [symbol for symbol in self.shortlisted if symbol in tickers][: MOST_FOLLOWED - MOST_LIQUID]
        symbols = list(dict.fromkeys([*listed, *(ticker.symbol for ticker in liquid)]))
        self._large.follow(symbols, self._clock.now_ms())
        return symbols

    def take_trade(self, symbol: str, trade: Trade) -> None:
        """One aggregate trade."""
        self._large.take(symbol, trade)

    def trades_connection(self, up: bool) -> None:
        """The connection came up or went down; either way what is known begins now."""
        self._connected = up
        self._large.interrupted(self._clock.now_ms())

    def windows(self) -> TradeWindows:
        """What is known now."""
        flows = tuple(self._large.told(self._clock.now_ms())) if self._connected else ()
        return TradeWindows(beat_ms=self._clock.wall_ms(), connected=self._connected, flows=flows)


async def keep_trades(watch: TradeWatch, board: TradeBoard, seconds: float = WRITE_SECONDS) -> None:
    """Tells Redis of the windows, and asks it what is wanted, until it is cancelled; Redis may go and come."""
    beat, lost = 0, False
    while True:
        try:
            if beat % ASK_EVERY == 0:
                watch.shortlisted = await board.wanted_trades()
            await board.write_large_trades(watch.windows())
            lost = False
        except SnapshotsUnavailable as error:
            if not lost:
                logger().warning("large trades are not told: redis does not answer", error=str(error))
            lost = True
        beat += 1
        await asyncio.sleep(seconds)
