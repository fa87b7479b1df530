"""Reads what closing frames left out: at the start, after a reconnect, and where a frame did not come; and who is in the universe at all.

Everything goes through the deployment's one weight budget. The most traded symbols are read first, so that a scan finds what it would choose.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from engine.core.instrument import InstrumentRules
from engine.core.market import Candles, Timeframe
from engine.errors import EngineError, ExchangeError, ExchangeThrottled
from engine.feeding.keeper import Keeper, Missing
from engine.log import logger

AT_ONCE: Final = 8
"""Reads under way: half of what a scan's candles may have, so that neither shuts the other out."""

LOOK_SECONDS: Final = 0.1
"""At most between two looks at what is missing; where a read ends the next begins at once."""

THROTTLED_SECONDS: Final = 1.0
"""At least so long nothing is read after the budget was found spent."""

UNIVERSE_SECONDS: Final = 10.0
"""Between two looks at the exchange's symbols, which `instruments` itself keeps for a market hour."""

SKEW_SECONDS: Final = 60.0
SKEW_KEPT_SECONDS: Final = 300.0
"""A measurement that the exchange or the weight budget refused does not undo the one before; five in a row do."""


LEAST_SET_MS: Final = 50
"""By less nobody set a clock: two clocks are read one after the other, and run a little apart."""


class History(Protocol):
    """What is read of one symbol."""

    async def newest_candles(self, symbol: str, timeframe: Timeframe, count: int) -> Candles:
        """The newest closed candles, about so many; raises an ExchangeError."""
        ...

    async def skew_ms(self) -> int:
        """By how much the exchange's clock is ahead of ours; raises an ExchangeError."""
        ...


class Listings(Protocol):
    """Who is listed."""

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        """The rules of every listed symbol; raises an ExchangeError."""
        ...


class Backfill:
    """Keeps a keeper whole.

    Args:
        keeper: What lacks candles.
        history: Where they are read.
        rank: The greater, the sooner a symbol is read.
    """

    def __init__(self, keeper: Keeper, history: History, rank: Callable[[str], float]) -> None:
        self.idle = asyncio.Event()
        """Set once nothing was left to read: whoever can wait reads from then on."""
        self._keeper = keeper
        self._history = history
        self._rank = rank
        self._reading: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._not_before = 0.0
        self._was_whole = False
        self._crash: BaseException | None = None

    async def run(self) -> None:
        """Reads until it is cancelled; an error nobody foresaw ends it."""
        try:
            while self._crash is None:
                self._room.clear()
                self._begin()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._room.wait()
            raise self._crash
        finally:
            for task in self._reading:
                task.cancel()
            await asyncio.gather(*self._reading, return_exceptions=True)

    def _begin(self) -> None:
        room = AT_ONCE - len(self._reading)
        if room <= 0 or asyncio.get_running_loop().time() < self._not_before:
            return
        for missing in self._keeper.due(self._rank, room):
            self._spawn(missing)
        if not self._keeper.symbols or self._reading:
            return
        self.idle.set()
        if not self._was_whole and not self._keeper.stale():
            self._was_whole = True
            logger().info("figures of every symbol are known", count=len(self._keeper.symbols))

    def _spawn(self, missing: Missing) -> None:
        task = asyncio.ensure_future(self._read(missing))
        self._reading.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        self._room.set()
        if not task.cancelled():
            error = task.exception()
            self._crash = self._crash or error

    async def _read(self, missing: Missing) -> None:
        try:
            candles = await self._history.newest_candles(missing.symbol, missing.timeframe, missing.count + 1)
        except ExchangeThrottled as error:
            pause = max(THROTTLED_SECONDS, error.retry_after_seconds)
            self._not_before = asyncio.get_running_loop().time() + pause
            self._keeper.failed(missing)
        except ExchangeError as error:
            logger().warning("candles did not come", symbol=missing.symbol, error=str(error))
            self._keeper.failed(missing)
        else:
            self._keeper.fill(missing, candles)


async def follow_universe(keeper: Keeper, listings: Listings, seconds: float = UNIVERSE_SECONDS) -> None:
    """Follows who is listed and who is not any more, until it is cancelled."""
    while True:
        await look_at_universe(keeper, listings)
        await asyncio.sleep(seconds if keeper.symbols else 1.0)


async def look_at_universe(keeper: Keeper, listings: Listings) -> None:
    """One look; where the exchange does not answer, nothing changes."""
    try:
        rules = await listings.instruments()
    except ExchangeError as error:
        logger().warning("the universe is not known", error=str(error))
        return
    symbols = sorted(symbol for symbol, rule in rules.items() if rule.tradable)
    if symbols and tuple(symbols) != keeper.symbols:
        logger().info("the universe changed", universe=len(symbols), count=len(set(symbols) ^ set(keeper.symbols)))
        keeper.follow(symbols)


class Skew:
    """By how much the exchange's clock is ahead of ours, as last measured; the feed measures its own, and each replica of the app its own.

    Args:
        history: Where it is asked.
        kept_seconds: For how long a measurement counts, by a clock that nobody sets; what ours was set by meanwhile is taken off.
    """

    def __init__(self, history: History, kept_seconds: float = SKEW_KEPT_SECONDS) -> None:
        self._history = history
        self._kept_seconds = kept_seconds
        self._measured: tuple[float, float, int] | None = None

    @property
    def ms(self) -> int | None:
        """Milliseconds; None before the first measurement, and where the last was long ago."""
        if self._measured is None:
            return None
        steady, wall, skew_ms = self._measured
        lasted = time.monotonic() - steady
        if lasted > self._kept_seconds:
            return None
        set_ms = round((time.time() - wall - lasted) * 1000)
        return skew_ms - set_ms if abs(set_ms) > LEAST_SET_MS else skew_ms

    async def run(self, seconds: float = SKEW_SECONDS) -> None:
        """Measures until it is cancelled."""
        while True:
            with suppress(EngineError):
                skew_ms = await self._history.skew_ms()
                self._measured = time.monotonic(), time.time(), skew_ms
            await asyncio.sleep(seconds)
