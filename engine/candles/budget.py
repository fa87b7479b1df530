"""What the exchange grants per window of market time, spent by everyone who asks through one door: request weight, and two pools.

Source: Binance USDⓈ-M "Limits" (2026-05): REQUEST_WEIGHT per minute and IP, X-MBX-USED-WEIGHT-1M, 429 and 418 with Retry-After;
"Get Funding Rate History": 500 requests in 5 minutes with fundingInfo; pages under /futures/data: 1000 requests in 5 minutes.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from engine.core.market import MINUTE_MS
from engine.errors import ExchangeThrottled

POLL_SECONDS = 0.02
"""How often a waiter looks whether the market minute is over; market time may run faster than the wall."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that some endpoints share in a window, apart from the weight."""

    name: str
    limit: int
    window_ms: int = 5 * MINUTE_MS


FUNDING = Pool(name="funding rates", limit=500)
DATA = Pool(name="futures data", limit=1000)


class _Window(msgspec.Struct):
    number: int = -1
    used: int = 0

    def at(self, number: int) -> "_Window":
        if number != self.number:
            self.number, self.used = number, 0
        return self


class WeightBudget:
    """Waiters wait for the next minute's weight, or are refused when that takes too long; a spent pool refuses at once."""

    def __init__(self, limit: int, now_ms: Callable[[], int], patience_seconds: float = 10.0) -> None:
        self._limit = limit
        self._now_ms = now_ms
        self._patience = patience_seconds
        self._minute = _Window()
        self._pools: dict[str, _Window] = {}
        self._blocked_until = 0.0

    @property
    def used(self) -> int:
        """Weight spent in this market minute."""
        return self._weight().used

    async def spend(self, weight: int) -> int:
        """Takes weight from this minute's budget, waiting for the next one where it is spent.

        Returns:
            The market minute that it was taken from.

        Raises:
            ExchangeThrottled: The wait would be, or was, too long, or the exchange told us to stay away.
        """
        deadline = time.monotonic() + self._patience
        while not self._take(weight):
            if max(time.monotonic(), self._blocked_until) > deadline:
                raise ExchangeThrottled("request weight is spent", max(0.0, self._blocked_until - time.monotonic()))
            await asyncio.sleep(POLL_SECONDS)
        return self._minute.number

    def draw(self, pool: Pool) -> None:
        """Takes one request from a pool.

        Raises:
            ExchangeThrottled: The pool's window is spent: it may be minutes until the next.
        """
        window = self._pools.setdefault(pool.name, _Window()).at(self._now_ms() // pool.window_ms)
        if window.used >= pool.limit:
            raise ExchangeThrottled(f"the pool of {pool.name} is spent")
        window.used += 1

    def learn(self, used: int, minute: int) -> None:
        """Takes over what the exchange counted, where it counted more than we did.

        Args:
            used: Weight, all callers of this address together.
            minute: When the request was sent: the count of a minute that is over says nothing of this one.
        """
        window = self._weight()
        if window.number == minute:
            window.used = max(window.used, used)

    def block(self, seconds: float) -> None:
        """Stays away for wall seconds, as a 429 or 418 demands."""
        self._blocked_until = max(self._blocked_until, time.monotonic() + seconds)

    def _take(self, weight: int) -> bool:
        window = self._weight()
        if time.monotonic() < self._blocked_until or window.used + weight > self._limit:
            return False
        window.used += weight
        return True

    def _weight(self) -> _Window:
        return self._minute.at(self._now_ms() // MINUTE_MS)
