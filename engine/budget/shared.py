"""The same budget over all replicas, counted in Redis; while Redis is away each replica counts alone, and says so.

One script a request takes weight and orders together or nothing, and says for how long the exchange wants us to stay away. What the
exchange itself counted travels with the next request of the same minute. Alone, a replica is held by the exchange's own count, which
is of all callers of the address.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.budget.windows import (
    LOWERED_SECONDS,
    ORDER_LIMITS,
    POLL_SECONDS,
    RESERVE_SHARE,
    Pool,
    WeightBudget,
    spent,
    wall_seconds,
)
from engine.core.market import MINUTE_MS
from engine.errors import ExchangeThrottled
from engine.log import logger
from engine.ports import Urgency

PREFIX: Final = "neurotrade:budget:1:"
KEPT_SECONDS: Final = 180
"""Longer than the longest window, whatever the speed of market time."""

ALONE_SECONDS: Final = 5.0
"""How long Redis is not asked again after it did not answer."""

ANSWER_SECONDS: Final = 0.25
"""How long an order may wait for a counter."""

AHEAD: Final = 40
AHEAD_SECONDS: Final = 0.5
"""Weight that a replica takes ahead for what may wait, and for how long it may use it: a scan's hundreds of reads ask Redis a few times,
and a ban told to another replica is heard soon. What protects or watches, and every order, asks for itself."""

TAKE_SCRIPT: Final = """
local blocked = math.max(redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[2]))
if blocked > 0 then return {0, blocked, 0} end
local weight, learned, limit = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[2])
limit = math.min(limit, tonumber(redis.call('GET', KEYS[4]) or limit))
local used = math.max(tonumber(redis.call('GET', KEYS[3]) or '0'), learned)
local own = math.floor(limit * tonumber(ARGV[7]))
local watched = own > 0 and tonumber(redis.call('GET', KEYS[5]) or '0') + weight or 0
if used + weight > limit - math.floor(limit * tonumber(ARGV[6])) then
  if own == 0 or watched > own or used + weight > limit - math.floor(limit * tonumber(ARGV[8])) then return {0, 0, used} end
end
local orders, counts = tonumber(ARGV[4]), {}
for i = 6, #KEYS do
  counts[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), tonumber(ARGV[2 * i - 2])) + orders
  if counts[i] > tonumber(ARGV[2 * i - 3]) then return {0, 0, used} end
end
for i = 6, #KEYS do redis.call('SET', KEYS[i], counts[i], 'EX', ARGV[5]) end
redis.call('SET', KEYS[3], used + weight, 'EX', ARGV[5])
if own > 0 then redis.call('SET', KEYS[5], watched, 'EX', ARGV[5]) end
return {1, 0, used + weight}
"""
"""KEYS: ban, ban of the account's orders, weight of the minute, lowered limit, weight of the minute that watched, then the account's order windows.
ARGV: weight, limit, what the exchange counted, orders, seconds to keep, share left alone, share kept for this purpose, share kept for what
protects, then for each window its limit and what the exchange counted in it."""

LEFT_SCRIPT: Final = """
if redis.call('PTTL', KEYS[1]) > 0 then return 0 end
local limit = tonumber(ARGV[1])
limit = math.min(limit, tonumber(redis.call('GET', KEYS[3]) or limit))
local used = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[2]))
return math.max(0, limit - math.floor(limit * tonumber(ARGV[3])) - used)
"""
"""KEYS: ban, weight of the minute, lowered limit. ARGV: limit, what the exchange counted, share left alone."""

LOWER_SCRIPT: Final = """
local known = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
redis.call('SET', KEYS[1], math.min(known, tonumber(ARGV[1])), 'EX', ARGV[2])
return 1
"""
"""KEYS: lowered limit. ARGV: a limit, seconds to keep."""

DRAW_SCRIPT: Final = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], used + 1, 'PX', ARGV[2])
return 1
"""
"""KEYS: a pool's window. ARGV: its limit, milliseconds to keep: twice the window, whatever the speed of market time."""

BLOCK_SCRIPT: Final = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 1
"""


class _Taken(msgspec.Struct, frozen=True):
    taken: bool
    blocked: float
    used: int


class _Ahead(msgspec.Struct):
    """Weight of a minute that was taken from all replicas' and not spent yet."""

    minute: int = -1
    weight: int = 0
    until: float = 0.0

    def gives(self, minute: int, weight: int) -> bool:
        """Spends of it, where it holds so much."""
        if self.minute != minute or self.weight < weight or wall_seconds() >= self.until:
            return False
        self.weight -= weight
        return True


class SharedBudget:
    """See `engine.ports.Budget`; the pools of public pages are shared likewise.

    Args:
        redis: A client that decodes nothing.
        limit: Weight a market minute, of all replicas together.
        now_ms: Market time.
        patience_seconds: Wall seconds that a waiter waits at most.
    """

    def __init__(self, redis: "Redis", limit: int, now_ms: Callable[[], int], patience_seconds: float = 10.0) -> None:
        self._redis = redis
        self._given = limit
        self._now_ms = now_ms
        self._patience = patience_seconds
        self._alone = WeightBudget(limit, now_ms, patience_seconds, RESERVE_SHARE)
        self._alone_until = 0.0
        self._told = False
        self._taking = asyncio.Lock()
        self._ahead = _Ahead()
        self._used = (-1, 0)
        self._learned = (-1, 0)
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def used(self) -> int:
        """Weight spent in this market minute, of all replicas as far as we have heard."""
        minute, used = self._used
        return max(used, self._alone.used) if minute == self._minute() else self._alone.used

    async def spend(self, weight: int, urgency: Urgency = Urgency.ENTER, account: str = "", orders: int = 0) -> int:
        """Takes weight and order counts; see the port."""
        deadline = wall_seconds() + self._patience
        while True:
            minute = self._minute()
            said = await self._take(minute, weight, urgency, account, orders)
            if said.taken:
                return minute
            if wall_seconds() + said.blocked >= deadline:
                raise ExchangeThrottled("weight or orders of this window are spent", said.blocked)
            await (asyncio.sleep(said.blocked) if said.blocked else self._next_window(deadline, orders))

    async def draw(self, pool: Pool) -> None:
        """Takes one request from a pool; raises ExchangeThrottled where it is spent."""
        if wall_seconds() < self._alone_until:
            return await self._alone.draw(pool)
        key = _key("pool", pool.name.replace(" ", "-"), str(self._now_ms() // pool.window_ms))
        asked = self._redis.eval(DRAW_SCRIPT, 1, key, str(pool.limit), str(2 * pool.window_ms))
        try:
            drawn = await asyncio.wait_for(cast(Awaitable[int], asked), ANSWER_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            self._go_alone(error)
            return await self._alone.draw(pool)
        self._back()
        if not drawn:
            raise spent(pool)
        return None

    def learn(self, used: int, minute: int) -> None:
        """Takes over what the exchange counted; it travels with the next request."""
        self._alone.learn(used, minute)
        known = self._learned[1] if self._learned[0] == minute else 0
        self._learned = (minute, max(known, used))
        if self._used[0] == minute and used > self._used[1]:
            self._ahead.weight = 0  # others spend too: ask Redis, with this in hand

    def learn_orders(self, account: str, at_ms: int, counts: Sequence[int]) -> None:
        """Takes over what the exchange counted of an account's orders; it travels with the account's next order."""
        self._alone.learn_orders(account, at_ms, counts)

    def block(self, seconds: float) -> None:
        """Stays away for wall seconds; told to the other replicas at once."""
        self._alone.block(seconds)
        self._tell(_key("ban"), seconds)

    def lower(self, limit: int) -> None:
        """Believes for a while that the exchange grants no more than this a minute; told to the other replicas at once."""
        before = self._alone.limit
        if limit > before or limit >= self._given:
            return
        if limit < before:
            logger().warning("the exchange grants less request weight than we were given", limit=limit, given=self._given)
            self._ahead.weight = 0
        self._alone.lower(limit)
        self._spawn(self._lowered_all(self._alone.limit))

    async def left(self, urgency: Urgency = Urgency.ENTER) -> int:
        """What all replicas together have left of this market minute's weight for a purpose; 0 while we stay away."""
        alone = await self._alone.left(urgency)
        if alone == 0 or wall_seconds() < self._alone_until:
            return alone
        minute = self._minute()
        learned = self._learned[1] if self._learned[0] == minute else 0
        given = (str(self._alone.limit), str(learned), str(self._alone.kept_back(urgency)))
        asked = self._redis.eval(LEFT_SCRIPT, 3, _key("ban"), _key("weight", str(minute)), _key("limit"), *given)
        try:
            found = await asyncio.wait_for(cast(Awaitable[int], asked), ANSWER_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            self._go_alone(error)
            return alone
        return found + (self._ahead.weight if self._ahead.minute == minute and wall_seconds() < self._ahead.until else 0)

    def blocked(self) -> float:
        """Wall seconds for which this replica knows that we stay away."""
        return self._alone.blocked()

    def block_orders(self, account: str, seconds: float) -> None:
        """Sends no order of an account for wall seconds; told to the other replicas at once."""
        self._alone.block_orders(account, seconds)
        self._tell(_key("ban", account), seconds)

    async def _take(self, minute: int, weight: int, urgency: Urgency, account: str, orders: int) -> _Taken:
        blocked = self._alone.blocked(account)
        if blocked > 0:
            return _Taken(taken=False, blocked=blocked, used=0)
        if wall_seconds() >= self._alone_until:
            try:
                said = await self._shared(minute, weight, urgency, account, orders)
            except (RedisError, OSError, TimeoutError) as error:
                self._go_alone(error)
            else:
                self._back()
                self._used = (minute, said.used)
                return said
        return _Taken(taken=self._alone.take(weight, urgency, account, orders), blocked=0.0, used=self._alone.used)

    async def _shared(self, minute: int, weight: int, urgency: Urgency, account: str, orders: int) -> _Taken:
        """From all replicas' budget: at once for what protects, for orders and for nothing, in larger pieces for the rest."""
        if urgency is not Urgency.ENTER or orders or not 0 < weight < AHEAD:
            return await self._ask(minute, weight, urgency, account, orders)
        async with self._taking:
            if wall_seconds() < self._alone_until:
                raise TimeoutError  # whoever was before us in the queue has tried
            if self._ahead.gives(minute, weight):
                return _Taken(taken=True, blocked=0.0, used=self._used[1])
            piece = await self._ask(minute, AHEAD, urgency, account, 0)
            if not piece.taken:
                return await self._ask(minute, weight, urgency, account, 0)
            self._ahead = _Ahead(minute, AHEAD - weight, wall_seconds() + AHEAD_SECONDS)
            return piece

    async def _ask(self, minute: int, weight: int, urgency: Urgency, account: str, orders: int) -> _Taken:
        now, learned = self._now_ms(), self._learned[1] if self._learned[0] == minute else 0
        windows = [_key("orders", account, str(span), str(now // span)) for span, _ in ORDER_LIMITS] if orders else []
        limits = [str(self._alone.orders_allowed(limit, urgency)) for _, limit in ORDER_LIMITS]
        counted = [str(count) for count in self._alone.counted(account)]
        told = [text for pair in zip(limits, counted, strict=True) for text in pair] if orders else []
        minutes = [_key("weight", str(minute)), _key("limit"), _key("watched", str(minute))]
        keys = [_key("ban"), _key("ban", account or "-"), *minutes, *windows]
        shares = [str(self._alone.kept_back(urgency)), str(self._alone.own_share(urgency)), str(RESERVE_SHARE)]
        given = [str(weight), str(self._alone.limit), str(learned), str(orders), str(KEPT_SECONDS), *shares, *told]
        asked = cast(Awaitable[list[int]], self._redis.eval(TAKE_SCRIPT, len(keys), *keys, *given))
        taken, blocked_ms, used = await asyncio.wait_for(asked, ANSWER_SECONDS)
        return _Taken(taken=bool(taken), blocked=blocked_ms / 1000, used=used)

    async def _next_window(self, deadline: float, orders: int) -> None:
        """Until another window has begun, a second has passed, in which somebody may have learned more, or there is no time left."""
        span = ORDER_LIMITS[0][0] if orders else MINUTE_MS
        number, look = self._now_ms() // span, min(deadline, wall_seconds() + 1.0)
        while self._now_ms() // span == number and wall_seconds() < look:  # noqa: ASYNC110 - nobody tells when a minute is over
            await asyncio.sleep(POLL_SECONDS)

    def _go_alone(self, error: Exception) -> None:
        self._alone_until = wall_seconds() + ALONE_SECONDS
        if not self._told:
            self._told = True
            logger().warning("Redis is away: this replica counts the exchange's budget alone", error=type(error).__name__)

    def _back(self) -> None:
        if self._told:
            self._told = False
            logger().info("Redis is back: all replicas share the exchange's budget")

    def _tell(self, key: str, seconds: float) -> None:
        self._spawn(self._told_all(key, max(1, round(seconds * 1000))))

    def _spawn(self, telling: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _told_all(self, key: str, milliseconds: int) -> None:
        try:
            await cast(Awaitable[object], self._redis.eval(BLOCK_SCRIPT, 1, key, str(milliseconds)))
        except (RedisError, OSError, TimeoutError) as error:
            self._go_alone(error)

    async def _lowered_all(self, limit: int) -> None:
        try:
            asked = self._redis.eval(LOWER_SCRIPT, 1, _key("limit"), str(limit), str(int(LOWERED_SECONDS)))
            await cast(Awaitable[object], asked)
        except (RedisError, OSError, TimeoutError) as error:
            self._go_alone(error)

    def _minute(self) -> int:
        return self._now_ms() // MINUTE_MS


def _key(*parts: str) -> str:
    return PREFIX + ":".join(parts)
