"""Request limits in market time: weight a minute for each caller, and the pools that some endpoints have of their own.

Source: Binance USDⓈ-M "Limits": 2400 weight a minute, 429 beyond it; who goes on after a 429 is banned with 418 for two minutes and
longer each time. /futures/data has 1000 requests in five minutes, fundingRate and fundingInfo share 500 in five minutes.
"""

import msgspec

from deploy.sandbox.core.intervals import MINUTE_MS

DEFAULT_WEIGHT = 2400
FIRST_BAN_MS = 2 * MINUTE_MS
LONGEST_BAN_MS = 3 * 24 * 60 * MINUTE_MS
PATIENCE = 10
"""Refused requests in one window before a 429 turns into a ban."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A budget over a window of market time."""

    name: str
    limit: int
    window_ms: int


WEIGHT = Pool(name="weight", limit=DEFAULT_WEIGHT, window_ms=MINUTE_MS)
DATA = Pool(name="data", limit=1000, window_ms=5 * MINUTE_MS)
FUNDING = Pool(name="funding", limit=500, window_ms=5 * MINUTE_MS)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a caller stands after a request."""

    status: int
    """200, 429 or 418."""
    used: int
    """Of the weight pool in this minute."""
    wait_ms: int = 0
    """Market time until it is worth asking again."""


class _Window(msgspec.Struct):
    number: int = -1
    used: int = 0
    refused: int = 0


class Ledger:
    """What one caller has used.

    Args:
        weight_limit: Of the weight pool.
    """

    def __init__(self, weight_limit: int = DEFAULT_WEIGHT) -> None:
        self._limit = weight_limit
        self._windows: dict[str, _Window] = {}
        self._banned_until = 0
        self._ban_ms = FIRST_BAN_MS

    def spend(self, pool: Pool, cost: int, now: int) -> Standing:
        """Book a request at a moment and say whether it is served."""
        used = self._window(WEIGHT, now).used
        if now < self._banned_until:
            return Standing(status=418, used=used, wait_ms=self._banned_until - now)
        window = self._window(pool, now)
        window.used += cost
        limit = self._limit if pool is WEIGHT else pool.limit
        used = self._window(WEIGHT, now).used
        if window.used <= limit:
            return Standing(status=200, used=used)
        window.refused += 1
        if window.refused > PATIENCE:
            return self._ban(used, now)
        return Standing(status=429, used=used, wait_ms=(window.number + 1) * pool.window_ms - now)

    def _ban(self, used: int, now: int) -> Standing:
        wait, self._ban_ms = self._ban_ms, min(self._ban_ms * 2, LONGEST_BAN_MS)
        self._banned_until = now + wait
        return Standing(status=418, used=used, wait_ms=wait)

    def _window(self, pool: Pool, now: int) -> _Window:
        number = now // pool.window_ms
        window = self._windows.setdefault(pool.name, _Window())
        if window.number != number:
            window.number, window.used, window.refused = number, 0, 0
        return window
