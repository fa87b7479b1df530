"""The feed process, run by `python -m engine.feed`: market streams in, Redis snapshots out.

It keeps nothing that may be lost: tickers and marks come again within a second, the liquidation window is read back from Redis at the
start, and the ticks of the last minutes stay in Redis, where a gap shows as what it is. Kill it at any moment; the app goes on by
request and says so.
"""

import asyncio
import itertools
import os
import signal
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from engine import log
from engine.clock import market_clock
from engine.core.market import ForcedOrder, Mark, Ticker
from engine.core.ticks import TickFrame, frame_of
from engine.core.whales import WINDOW_MS
from engine.errors import EngineError, SnapshotsUnavailable
from engine.ports import Clock, FeedState
from engine.settings import EngineSettings, read_settings
from engine.snapshots import RedisSnapshots, connect
from engine.streams import listen

WRITE_SECONDS: Final = 0.25
"""Streams speak each second: writing four times as often adds a quarter to a price's age at most."""

WHOLE_EVERY: Final = 40
"""Every so many writes all is written, in case Redis came back empty between two of them."""

MOST_WAITING: Final = 60
"""Events of marks that wait for a Redis which is away, the newest: what a longer absence loses is a gap, and klines tell of it."""

MOST_ORDERS: Final = 5_000
LARGE_USD: Final = 100_000.0
"""A liquidation that is worth a line in the log."""


class Board(Protocol):
    """Where the feed writes: `engine.snapshots.RedisSnapshots`."""

    async def write(
        self,
        state: FeedState,
        tickers: Sequence[Ticker] | None = None,
        marks: Sequence[Mark] | None = None,
        liquidations: Sequence[ForcedOrder] | None = None,
        ticks: Sequence[TickFrame] = (),
    ) -> None:
        """Writes what is given; raises SnapshotsUnavailable."""
        ...


class Feed:
    """What the streams said last, and which parts of it Redis does not have yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tickers: dict[str, Ticker] = {}
        self.marks: dict[str, Mark] = {}
        self.orders: deque[ForcedOrder] = deque(maxlen=MOST_ORDERS)
        self.ticks: deque[TickFrame] = deque(maxlen=MOST_WAITING)
        """Events that Redis does not have yet: each is written once."""
        self._dirty = {"tickers": False, "marks": False, "orders": False}
        self._spoke: dict[str, int | None] = {"tickers": None, "marks": None, "orders": None}
        self._up = False
        self._reconnects = -1

    def take_tickers(self, tickers: list[Ticker]) -> None:
        """Changed tickers of one second."""
        self.tickers.update((ticker.symbol, ticker) for ticker in tickers)
        self._touch("tickers")

    def take_marks(self, marks: list[Mark]) -> None:
        """Marks of one second."""
        self.marks.update((mark.symbol, mark) for mark in marks)
        if marks:
            self.ticks.append(frame_of(marks))
        self._touch("marks")

    def take_liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        self.orders.append(order)
        self._touch("orders")
        if order.usd >= LARGE_USD:
            log.logger().info("large liquidation", symbol=order.symbol, side=str(order.side), quantity=str(order.quantity))

    def connection(self, up: bool) -> None:
        """The connection came up or went down."""
        self._up = up
        self._reconnects += up

    def state(self) -> FeedState:
        """The feed's account of itself."""
        return FeedState(
            beat_ms=self._clock.wall_ms(),
            tickers_ms=self._spoke["tickers"],
            marks_ms=self._spoke["marks"],
            liquidations_ms=self._spoke["orders"],
            connected=self._up,
            reconnects=max(0, self._reconnects),
        )

    def all_dirty(self) -> None:
        """Redis may have lost everything: write all again."""
        self._dirty = dict.fromkeys(self._dirty, True)

    async def write(self, snapshots: Board) -> None:
        """Writes what changed since the last write; raises SnapshotsUnavailable, and then it all counts as changed."""
        self._forget_old()
        dirty, self._dirty = self._dirty, dict.fromkeys(self._dirty, False)
        ticks, self.ticks = self.ticks, deque(maxlen=MOST_WAITING)
        try:
            await snapshots.write(
                self.state(),
                tickers=list(self.tickers.values()) if dirty["tickers"] else None,
                marks=list(self.marks.values()) if dirty["marks"] else None,
                liquidations=list(self.orders) if dirty["orders"] else None,
                ticks=list(ticks),
            )
        except SnapshotsUnavailable:
            self.all_dirty()
            self.ticks = deque([*ticks, *self.ticks], maxlen=MOST_WAITING)
            raise

    def _touch(self, part: str) -> None:
        self._dirty[part] = True
        self._spoke[part] = self._clock.wall_ms()

    def _forget_old(self) -> None:
        oldest = self._clock.now_ms() - WINDOW_MS
        while self.orders and self.orders[0].at_ms < oldest:
            self.orders.popleft()
            self._dirty["orders"] = True


async def keep_writing(feed: Feed, snapshots: Board) -> None:
    """Writes until it is cancelled; Redis may go and come."""
    lost = False
    for beat in itertools.count():
        if beat % WHOLE_EVERY == 0:
            feed.all_dirty()
        try:
            await feed.write(snapshots)
            if lost:
                log.logger().info("redis answers again")
            lost = False
        except SnapshotsUnavailable as error:
            if not lost:
                log.logger().warning("redis does not answer; the feed goes on", error=str(error))
            lost = True
        await asyncio.sleep(WRITE_SECONDS)


async def run(settings: EngineSettings) -> None:
    """Feeds until SIGTERM or SIGINT."""
    clock = await market_clock(settings.market_clock_url)
    redis = connect(settings.redis_url)
    snapshots = RedisSnapshots(redis)
    feed = Feed(clock)
    await _remember(feed, snapshots)
    log.logger().info("feed starts", url=settings.binance_ws_url)
    work = asyncio.gather(listen(settings.binance_ws_url, feed, clock), keep_writing(feed, snapshots))
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.logger().info("feed ends")
    finally:
        await redis.aclose()


async def _remember(feed: Feed, snapshots: RedisSnapshots) -> None:
    """The window of the feed that ran before; without it the next 300 s would look calm."""
    try:
        feed.orders.extend(await snapshots.liquidations())
    except EngineError as error:
        log.logger().warning("no window to go on with", error=str(error))


def main() -> None:
    """The process; an error nobody foresaw ends it with its traceback in the log, and the supervisor starts it again."""
    settings = read_settings(os.environ)
    log.configure(settings.log_format, "feed")
    try:
        asyncio.run(run(settings))
    except Exception:
        log.logger().exception("the feed crashed")
        raise


if __name__ == "__main__":
    main()
