"""The feed process, run by `python -m engine.feed`: market streams in, Redis snapshots out, by one leader of the deployment.

It keeps nothing that may be lost: tickers and marks come again within a second, the liquidation window and the memory of the figures
are read back from Redis by whoever leads next, and the ticks of the last minutes stay in Redis, where a gap shows as what it is. Kill
it at any moment: a standby leads within seconds, and the app goes on by request and says so.
"""

import asyncio
import itertools
import os
import secrets
import signal
import socket
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from engine import candles, log
from engine.budget import SharedBudget
from engine.candles import BinanceData, Door, open_session
from engine.candles.history import CandleHistory
from engine.clock import market_clock
from engine.core import features_live
from engine.core.features_live import LiveFeatures
from engine.core.market import ClosedCandle, ForcedOrder, Mark, Ticker
from engine.core.ticks import TickFrame, frame_of
from engine.core.whales import WINDOW_MS
from engine.errors import EngineError, SnapshotsUnavailable
from engine.feeding.backfill import Backfill, History, Skew, follow_universe
from engine.feeding.keeper import Keeper
from engine.feeding.leading import lead
from engine.feeding.recording import RecordedHistory, Tape, TopWatch, keep_histories_whole
from engine.feeding.telling import Teller
from engine.feeding.trades import TradeWatch, keep_trades
from engine.kline_streams import listen_klines
from engine.lease import KEY, Lease
from engine.ports import Clock, FeedState
from engine.recorder import Recorder
from engine.settings import EngineSettings, read_settings
from engine.snapshots import Fence, RedisSnapshots, connect
from engine.streams import listen, listen_trades
from engine.top_streams import listen_tops

WRITE_SECONDS: Final = 0.25
"""Streams speak each second: writing four times as often adds a quarter to a price's age at most."""

WHOLE_EVERY: Final = 40
"""Every so many writes all is written, in case Redis came back empty between two of them."""

MOST_WAITING: Final = 60
"""Events of marks that wait for a Redis which is away, the newest: what a longer absence loses is a gap, and klines tell of it."""

MOST_ORDERS: Final = 5_000
LARGE_USD: Final = 100_000.0
"""A liquidation that is worth a line in the log."""

LAST_ORDERS: Final = 100
"""Among so many forced orders one is looked for that is told twice, while one connection replaces another."""


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

    def __init__(self, clock: Clock, tape: Tape | None = None) -> None:
        self._clock = clock
        self._tape = tape
        self.tickers: dict[str, Ticker] = {}
        self.marks: dict[str, Mark] = {}
        self.orders: deque[ForcedOrder] = deque(maxlen=MOST_ORDERS)
        self.ticks: deque[TickFrame] = deque(maxlen=MOST_WAITING)
        """Events that Redis does not have yet: each is written once."""
        self.knows_tickers = asyncio.Event()
        self._dirty = {"tickers": False, "marks": False, "orders": False}
        self._spoke: dict[str, int | None] = {"tickers": None, "marks": None, "orders": None}
        self._up = False
        self._reconnects = -1

    def take_tickers(self, tickers: list[Ticker]) -> None:
        """Changed tickers of one second."""
        self.tickers.update((ticker.symbol, ticker) for ticker in tickers)
        self.knows_tickers.set()
        self._touch("tickers")

    def take_marks(self, marks: list[Mark]) -> None:
        """Marks of one second."""
        self.marks.update((mark.symbol, mark) for mark in marks)
        if marks:
            self.ticks.append(frame_of(marks))
            if self._tape is not None:
                self._tape.marks(marks)
        self._touch("marks")

    def take_liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        if order in itertools.islice(reversed(self.orders), LAST_ORDERS):
            return
        self.orders.append(order)
        self._touch("orders")
        if self._tape is not None:
            self._tape.liquidation(order)
        if order.usd >= LARGE_USD:
            log.logger().info("large liquidation", symbol=order.symbol, side=str(order.side), quantity=str(order.quantity))

    def connection(self, up: bool) -> None:
        """The connection came up or went down."""
        self._up = up
        self._reconnects += up

    def traded(self, symbol: str) -> float:
        """A symbol's 24 h volume in USDT, 0 before its ticker came."""
        ticker = self.tickers.get(symbol)
        return 0.0 if ticker is None else ticker.quote_volume

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


class Klines:
    """Hands closing frames to the keeper."""

    def __init__(self, keeper: Keeper, tape: Tape | None = None) -> None:
        self._keeper = keeper
        self._tape = tape

    def wanted_symbols(self) -> Sequence[str]:
        """The universe."""
        return self._keeper.symbols

    def take_close(self, candle: ClosedCandle) -> None:
        """One closed candle."""
        self._keeper.take(candle)
        if self._tape is not None:
            self._tape.closed(candle)

    def klines_connection(self, symbols: Iterable[str], up: bool) -> None:
        """What was not heard meanwhile is read."""
        if up:
            self._keeper.interrupted(symbols)


async def lead_once(settings: EngineSettings, clock: Clock, redis: Redis, lease: Lease) -> None:
    """What the leader does, until it is cancelled; raises LeaseLost where another one leads."""
    snapshots = RedisSnapshots(redis, Fence(key=KEY, holder=lease.holder, seconds=lease.seconds))
    recorder = _recorder(settings, clock, lease.holder)
    feed = Feed(clock, recorder)
    await _remember(feed, snapshots)
    keeper = Keeper(await _memory(snapshots), clock)
    trades = TradeWatch(clock, lambda: feed.tickers)
    async with open_session() as session:
        door = Door(session, settings.binance_rest_url, SharedBudget(redis, settings.request_weight_limit, clock.now_ms))
        history = CandleHistory(door, clock)
        skew = Skew(history)
        read: History = history if recorder is None else RecordedHistory(history, recorder)
        backfill = Backfill(keeper, read, feed.traded)
        await _together(
            listen(settings.binance_ws_url, feed, clock),
            keep_writing(feed, snapshots),
            follow_universe(keeper, BinanceData(door, clock)),
            listen_klines(settings.binance_ws_url, Klines(keeper, recorder)),
            backfill.run(),
            Teller(keeper, snapshots, clock, lease.holder, lambda: skew.ms).run(),
            skew.run(),
            _listen_trades(settings.binance_ws_url, trades, feed),
            keep_trades(trades, snapshots),
            *_recording(settings, recorder, trades),
            *([] if recorder is None else [keep_histories_whole(recorder, read, lambda: keeper.symbols, backfill.idle)]),
        )


def _recorder(settings: EngineSettings, clock: Clock, writer: str) -> Recorder | None:
    if not settings.record_folder:
        return None
    return Recorder(Path(settings.record_folder), settings.record_budget_mb, writer.replace(":", "-"), clock.now_ms)


def _recording(settings: EngineSettings, recorder: Recorder | None, trades: TradeWatch) -> list[Coroutine[Any, Any, None]]:
    if recorder is None:
        return []
    tops = TopWatch(recorder, lambda: trades.shortlisted)
    return [recorder.keep_writing(), listen_tops(settings.binance_ws_url, tops)]


async def _listen_trades(url: str, trades: TradeWatch, feed: Feed) -> None:
    """Which symbols are liquid is known with the first tickers."""
    await feed.knows_tickers.wait()
    await listen_trades(url, trades)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All until one of them fails; its error, not a group of errors, says why."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():  # a second one would cut short how a connection is closed
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(settings: EngineSettings) -> None:
    """Feeds, or stands by, until SIGTERM or SIGINT."""
    clock = await market_clock(settings.market_clock_url)
    for kernels in (features_live, candles):
        await asyncio.to_thread(kernels.warm_up)  # before it leads: compiling lets no lease be renewed
    redis = connect(settings.redis_url)
    lease = Lease(redis, f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
    log.logger().info("feed starts", url=settings.binance_ws_url)
    work = asyncio.ensure_future(lead(lease, lambda: lead_once(settings, clock, redis, lease)))
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
    """What the leader before left: without its window the next 300 s would look calm, and quiet symbols have no ticker for a while."""
    try:
        feed.orders.extend(await snapshots.liquidations())
        feed.tickers.update(await snapshots.tickers())
    except EngineError as error:
        log.logger().warning("no window to go on with", error=str(error))


async def _memory(snapshots: RedisSnapshots) -> LiveFeatures:
    try:
        found = await snapshots.memory()
    except EngineError as error:
        log.logger().warning("no figures to go on with", error=str(error))
        found = None
    return LiveFeatures.of(()) if found is None else found


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
