"""The one place where the engine reads a clock: market time and wall time (ADR: two clocks, one port).

In production both are the wall. In the demo the sandbox says once where market time started and how fast it runs.
"""

import asyncio
import time
from datetime import UTC, datetime

import aiohttp
import msgspec

from engine.errors import ClockUnavailable

FIRST_ANSWER_SECONDS = 60.0
"""How long a start waits for the sandbox, which may come up after the engine."""

RETRY_SECONDS = 0.2


class MarketClock(msgspec.Struct, frozen=True, kw_only=True):
    """Market time as a line over wall time: base + speed x (wall - base_wall)."""

    base_market_ms: float = 0.0
    base_wall_ms: float = 0.0
    speed: float = 1.0

    def now_ms(self) -> int:
        """Market time as an exchange integer."""
        return int(self.base_market_ms + (time.time() * 1000 - self.base_wall_ms) * self.speed)

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        """Wall seconds between two moments that the market stamped; None where its time runs faster or slower than the wall's."""
        return (until - since).total_seconds() if self.speed == 1 else None

    def wall_ms(self) -> int:
        """Wall time in milliseconds."""
        return int(time.time() * 1000)

    def now(self) -> datetime:
        """Market time, aware UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def wall(self) -> datetime:
        """Wall time, aware UTC."""
        return datetime.now(UTC)


async def market_clock(url: str, patience_seconds: float = FIRST_ANSWER_SECONDS) -> MarketClock:
    """The clock to run by: the wall without a URL, else the sandbox's, asked until it answers.

    Args:
        url: The sandbox's base address, or empty.
        patience_seconds: Wall seconds to go on asking.

    Raises:
        ClockUnavailable: Nobody answered in time.
    """
    if not url:
        return MarketClock()
    deadline = time.monotonic() + patience_seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            try:
                async with session.get(f"{url}/sandbox/clock") as reply:
                    reply.raise_for_status()
                    return msgspec.json.decode(await reply.read(), type=MarketClock, strict=False)
            except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
                if time.monotonic() > deadline:
                    raise ClockUnavailable(f"no market clock at {url}") from error
            await asyncio.sleep(RETRY_SECONDS)
