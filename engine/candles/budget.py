"""The request weight that the exchange grants per market minute, spent by everyone who asks through one door.

Source: Binance USDⓈ-M "Limits" (2026-05): REQUEST_WEIGHT per minute and IP, X-MBX-USED-WEIGHT-1M, 429 and 418 with Retry-After.
"""

import asyncio
import time
from collections.abc import Callable

from engine.core.market import MINUTE_MS
from engine.errors import ExchangeThrottled

POLL_SECONDS = 0.02
"""How often a waiter looks whether the market minute is over; market time may run faster than the wall."""


class WeightBudget:
    """One window of weight. Waiters wait for the next minute, or are refused when that takes too long."""

    def __init__(self, limit: int, now_ms: Callable[[], int], patience_seconds: float = 10.0) -> None:
        self._limit = limit
        self._now_ms = now_ms
        self._patience = patience_seconds
        self._minute = -1
        self._blocked_until = 0.0
        self.used = 0

    async def spend(self, weight: int) -> None:
        """Takes weight from this minute's budget, waiting for the next one where it is spent.

        Raises:
            ExchangeThrottled: The wait would be, or was, too long, or the exchange told us to stay away.
        """
        deadline = time.monotonic() + self._patience
        while not self._take(weight):
            if max(time.monotonic(), self._blocked_until) > deadline:
                raise ExchangeThrottled("request weight is spent", max(0.0, self._blocked_until - time.monotonic()))
            await asyncio.sleep(POLL_SECONDS)

    def learn(self, used: int) -> None:
        """Takes over what the exchange counted, where it counted more than we did."""
        self._turn()
        self.used = max(self.used, used)

    def block(self, seconds: float) -> None:
        """Stays away for wall seconds, as a 429 or 418 demands."""
        self._blocked_until = max(self._blocked_until, time.monotonic() + seconds)

    def _take(self, weight: int) -> bool:
        self._turn()
        if time.monotonic() < self._blocked_until or self.used + weight > self._limit:
            return False
        self.used += weight
        return True

    def _turn(self) -> None:
        minute = self._now_ms() // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self.used = 0
