"""What the feed reads of the exchange to fill a hole: the newest candles of one symbol, as few as will do, and the exchange's clock.

Beside `source`, which keeps whole histories for who asks again; here nothing is kept.
"""

from typing import Final

import msgspec

from engine.candles.door import Door
from engine.candles.klines import candles_of, klines_of
from engine.candles.source import CANDLES_LIMIT, CANDLES_WEIGHT
from engine.core.market import Candles, Timeframe
from engine.errors import ExchangeUnreachable
from engine.ports import Clock

CHEAP_LIMIT: Final = 99
"""Up to so many candles weigh 1. Source: Binance USDⓈ-M "Kline", weights."""

MOST_ROUND_MS: Final = 2_000
"""Wall time from the question to the answer past which a clock is not measured: it may have waited for weight before it left, and half of it is
the most that the measurement may be wrong by."""


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class CandleHistory:
    """See `engine.feeding.backfill.History`."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._clock = clock

    async def newest_candles(self, symbol: str, timeframe: Timeframe, count: int) -> Candles:
        """The newest closed candles, about `count`, at most 498; raises an ExchangeError."""
        limit = count + 1 if count < CHEAP_LIMIT else CANDLES_LIMIT  # the open one comes too
        weight = 1 if limit <= CHEAP_LIMIT else CANDLES_WEIGHT
        params = {"symbol": symbol, "interval": timeframe.value, "limit": limit}
        asked_ms = self._clock.now_ms()
        found = await self._door.read("/fapi/v1/klines", klines_of, params, weight)
        return candles_of(symbol, timeframe, found, asked_ms)

    async def skew_ms(self) -> int:
        """By how much the exchange's clock is ahead of ours, half the way there and back taken off.

        Raises:
            ExchangeError: It was not told, or not soon enough.
        """
        asked = self._clock.wall_ms()
        reply = await self._door.get("/fapi/v1/time", _Time, {}, 1)
        answered = self._clock.wall_ms()
        if answered - asked > MOST_ROUND_MS:
            raise ExchangeUnreachable(f"/fapi/v1/time: {answered - asked} ms for an answer measure no clock")
        return reply.server_time - (asked + answered) // 2
