"""How many orders an account may send in ten seconds and in a minute of market time; too many are refused, and nobody is banned for it.

Source: Binance USDⓈ-M "Limits": 300 in ten seconds and 1200 in a minute, in X-MBX-ORDER-COUNT-10S and -1M; a batch counts five in the short
window and one in the long one.
"""

from typing import NamedTuple

from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.intervals import MINUTE_MS

SHORT_MS = 10_000


class OrderLimits(NamedTuple):
    """Orders allowed in each window."""

    short: int = 300
    minute: int = 1200


class OrderCount(NamedTuple):
    """What a request costs, or what was used, in each window."""

    short: int
    minute: int

    def headers(self) -> dict[str, str]:
        """As replies tell it."""
        return {"X-MBX-ORDER-COUNT-10S": str(self.short), "X-MBX-ORDER-COUNT-1M": str(self.minute)}


NONE, ONE, BATCH = OrderCount(0, 0), OrderCount(1, 1), OrderCount(5, 1)


class OrderCounter:
    """What one account has sent."""

    def __init__(self) -> None:
        self._windows = (0, 0)
        self._used = NONE

    def count(self, cost: OrderCount, limits: OrderLimits, now: int) -> OrderCount:
        """Count orders at a moment; returns what is used.

        Raises:
            Rejected: One window is full; what is refused is not counted.
        """
        used = self.used(now)
        wanted = OrderCount(used.short + cost.short, used.minute + cost.minute)
        if wanted.short > limits.short:
            raise too_many(limits.short, "10 SECOND", SHORT_MS - now % SHORT_MS)
        if wanted.minute > limits.minute:
            raise too_many(limits.minute, "MINUTE", MINUTE_MS - now % MINUTE_MS)
        self._used = wanted
        return wanted

    def used(self, now: int) -> OrderCount:
        """What is used in the windows of a moment."""
        windows = (now // SHORT_MS, now // MINUTE_MS)
        same = [windows[n] == self._windows[n] for n in range(2)]
        self._windows = windows
        self._used = OrderCount(self._used.short if same[0] else 0, self._used.minute if same[1] else 0)
        return self._used


def too_many(limit: int, window: str, wait_ms: int) -> Rejected:
    """One order too many; the wait is market time."""
    return Rejected(-1015, f"Too many new orders; current limit is {limit} orders per {window}.", 429, wait_ms)
