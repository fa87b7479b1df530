"""Market time as a pure function of wall time: the first thing everything else in the sandbox is asked at.

A sandbox that is killed and started again with the same three numbers goes on exactly where market time stands.
"""

import msgspec


class MarketClock(msgspec.Struct, frozen=True, kw_only=True):
    """Three numbers, and the end of a recorded tape.

    Args:
        base_market_ms: Market time at the base, Unix milliseconds.
        base_wall_ms: Wall time at the base, Unix milliseconds.
        speed: Market milliseconds per wall millisecond; 0 stands still.
        ends_ms: Where market time stops, None on an endless tape.
    """

    base_market_ms: int
    base_wall_ms: int
    speed: float
    ends_ms: int | None = None

    def market_ms(self, wall_ms: int) -> int:
        """Market time at a wall time, never beyond the end of the tape."""
        now = self.base_market_ms + int((wall_ms - self.base_wall_ms) * self.speed)
        return now if self.ends_ms is None else min(now, self.ends_ms)

    def wall_seconds(self, market_span_ms: int) -> float:
        """How long a span of market time lasts on the wall, seconds; a standing clock counts as real time."""
        return market_span_ms / 1000 / (self.speed or 1.0)

    def rebased(self, wall_ms: int, speed: float) -> "MarketClock":
        """The same moment at another speed from now on."""
        return MarketClock(base_market_ms=self.market_ms(wall_ms), base_wall_ms=wall_ms, speed=speed, ends_ms=self.ends_ms)
