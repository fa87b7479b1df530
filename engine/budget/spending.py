"""What the language model cost today, of all replicas, and whether another question may be asked.

The sum is of the UTC day of wall time, in billionths of a dollar, counted in Redis under a key that carries a version and ends by itself.
While Redis is away each replica counts alone and goes on; what it counted is told with the next question that Redis hears.
The bound is looked at before each question and costs are known after it: it may be passed by the questions that were under way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import ROUND_CEILING, Decimal
from typing import Final, cast

import msgspec
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.log import logger

PREFIX: Final = "neurotrade:ai-spent:1:"
DAY_MS: Final = 86_400_000
KEPT_SECONDS: Final = 2 * 86_400
"""Past the end of its day, so that it can still be read the day after."""

ANSWER_SECONDS: Final = 0.25
"""A question takes seconds: so long it may wait for a counter."""

NANO: Final = Decimal(1_000_000_000)
MILLION: Final = Decimal(1_000_000)

SPENT: Final = Gauge("neurotrade_engine_ai_spent_usd", "What the model cost in this UTC day, of all replicas as far as heard.")
BOUND: Final = Gauge("neurotrade_engine_ai_budget_usd", "What the model may cost a UTC day; 0 is no bound.")
WITHHELD: Final = Gauge("neurotrade_engine_ai_budget_reached", "1 while the day's budget is spent and no model is asked.")


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """USD for a million tokens."""

    prompt: Decimal
    completion: Decimal

    def nano_usd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The cost in billionths of a dollar, rounded up."""
        usd = (self.prompt * max(0, prompt_tokens) + self.completion * max(0, completion_tokens)) / MILLION
        return int((usd * NANO).to_integral_value(ROUND_CEILING))


class _Day(msgspec.Struct):
    """A day's sum: what Redis last said, and what it was not told yet."""

    number: int
    heard: int = 0
    untold: int = 0

    @property
    def spent(self) -> int:
        return self.heard + self.untold


class DailySpending:
    """Counts what a model costs, and says when the day's budget is spent.

    Args:
        redis: Shared by all replicas.
        bound_usd: For a UTC day; 0 is no bound.
        prices: Of the model that is asked.
        wall_ms: Wall time.
    """

    def __init__(self, redis: "Redis", bound_usd: Decimal, prices: Prices, wall_ms: Callable[[], int]) -> None:
        self._redis = redis
        self._bound_usd = bound_usd
        self._bound = int(bound_usd * NANO)
        self._prices = prices
        self._wall_ms = wall_ms
        self._today = _Day(self._number())
        self._told = -1
        BOUND.set(float(bound_usd))
        SPENT.set_function(lambda: float(self.spent_usd))
        WITHHELD.set_function(lambda: float(self._is_spent(self._day())))

    @property
    def spent_usd(self) -> Decimal:
        """Of this UTC day, as far as we have heard."""
        return Decimal(self._day().spent) / NANO

    async def exhausted(self) -> str:
        """Why no further question may be asked today; empty where one may."""
        if not self._bound:
            return ""
        day = self._day()
        await self._tell(day, 0)
        if not self._is_spent(day):
            return ""
        reason = f"the day's budget for the model, ${self._bound_usd}, is spent; the next UTC day has its own"
        if self._told != day.number:
            self._told = day.number
            logger().warning("the day's budget for the model is spent", reason=reason)
        return reason

    async def add(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts a reply; never fails."""
        await self._tell(self._day(), self._prices.nano_usd(prompt_tokens, completion_tokens))

    async def _tell(self, day: _Day, cost: int) -> None:
        """Adds a cost to the shared sum, and with it what could not be told before."""
        untold, day.untold = day.untold + cost, 0
        try:
            said = await asyncio.wait_for(self._increase(day.number, untold), ANSWER_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            logger().warning("what the model costs is counted in this process alone", error=type(error).__name__)
            day.untold += untold
        except asyncio.CancelledError:
            day.untold += untold
            raise
        else:
            day.heard = max(day.heard, said)

    async def _increase(self, number: int, amount: int) -> int:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.incrby(f"{PREFIX}{number}", amount)
            pipe.expire(f"{PREFIX}{number}", KEPT_SECONDS)
            said = await cast(Awaitable[list[int]], pipe.execute())
        return int(said[0])

    def _is_spent(self, day: _Day) -> bool:
        return 0 < self._bound <= day.spent

    def _day(self) -> _Day:
        if self._today.number != self._number():
            self._today = _Day(self._number())
        return self._today

    def _number(self) -> int:
        return self._wall_ms() // DAY_MS
