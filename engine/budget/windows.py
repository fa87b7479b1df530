"""What the exchange grants per window of market time, as one replica alone counts it.

Source: Binance USDⓈ-M "Limits" (2026-05): REQUEST_WEIGHT per minute and IP, ORDERS per 10 s and per minute and account,
X-MBX-USED-WEIGHT-1M, 429 and 418 with Retry-After; pools that some endpoints share apart from the weight.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from engine.core.market import MINUTE_MS
from engine.errors import ExchangeThrottled
from engine.ports import Urgency

POLL_SECONDS: Final = 0.02
"""How often a waiter looks whether the market minute is over; market time may run faster than the wall."""

TEN_SECONDS_MS: Final = 10_000
ORDER_LIMITS: Final = ((TEN_SECONDS_MS, 300), (MINUTE_MS, 1200))
"""Window and orders in it."""

RESERVE_SHARE: Final = 0.2
"""Of weight and orders, kept for calls that protect: thirty stops and closes a second are more than anybody's panic."""

WATCH_AT_ONCE: Final = 0.1
"""Of what is kept for watching: so much may be spent when a minute begins, the rest as it passes, so that no part of it is blind."""

LOWERED_SECONDS: Final = 7_200.0
"""Wall time for which a limit that turned out lower than ours is believed: past it the next refusal, or exchangeInfo, says so again."""

LEAST_LIMIT: Final = 50
"""Weight a minute below which nothing is believed: with less not even a stop could be placed and watched."""

_GRANTED: Final = re.compile(r"limit of IP\b.{0,80}? is (\d{1,7}) requests? per minute")
"""Source: the words of a 429 with -1003, "Too many requests; current limit of IP(...) is 2400 requests per minute"."""


def granted_in(words: str) -> int | None:
    """The weight a minute that a refusal names; None where it names none."""
    found = _GRANTED.search(words)
    return int(found[1]) if found else None


def wall_seconds() -> float:
    """The running loop's clock, by which waits are measured: where a test makes its time jump, they jump with it."""
    return asyncio.get_running_loop().time()


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that some endpoints share in a window, apart from the weight."""

    name: str
    limit: int
    window_ms: int = 5 * MINUTE_MS


def spent(pool: Pool) -> ExchangeThrottled:
    """That a pool has nothing left in this window."""
    return ExchangeThrottled(f"the pool of {pool.name} is spent")


class Window(msgspec.Struct):
    """A count that starts anew with each window."""

    number: int = -1
    used: int = 0

    def at(self, number: int) -> "Window":
        """Itself, emptied where another window has begun."""
        if number != self.number:
            self.number, self.used = number, 0
        return self


class Blocks:
    """Until when, by the loop's clock, the exchange wants us to stay away: wholly, or with an account's orders."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Stays away for wall seconds; an empty name means with everything."""
        self._until[name] = max(self._until.get(name, 0.0), wall_seconds() + seconds)

    def left(self, account: str = "") -> float:
        """Seconds that are left of the longest that applies."""
        return max(0.0, max(self._until.get("", 0.0), self._until.get(account, 0.0)) - wall_seconds())


class WeightBudget:
    """Waiters wait for the next minute's weight, or are refused when that takes too long; a spent pool refuses at once.

    Args:
        limit: Weight a market minute.
        now_ms: Market time.
        patience_seconds: Wall seconds that a waiter waits at most.
        reserve_share: Of weight and orders, for Urgency.PROTECT alone; as much weight again for WATCH, also where PROTECT took more than its own.
    """

    def __init__(self, limit: int, now_ms: Callable[[], int], patience_seconds: float = 10.0, reserve_share: float = 0.0) -> None:
        self._given = limit
        self._lowered = (limit, 0.0)
        self._now_ms = now_ms
        self._patience = patience_seconds
        self._share = reserve_share
        self._minute = Window()
        self._watched = Window()
        self._pools: dict[str, Window] = {}
        self._orders: dict[tuple[str, int], Window] = {}
        self._blocks = Blocks()

    @property
    def used(self) -> int:
        """Weight spent in this market minute."""
        return self._weight().used

    @property
    def limit(self) -> int:
        """Weight a market minute: what we were given, or less where the exchange grants less."""
        lowered, until = self._lowered
        return min(self._given, lowered) if wall_seconds() < until else self._given

    def lower(self, limit: int) -> None:
        """Believes for a while that the exchange grants no more than this a minute."""
        self._lowered = (max(LEAST_LIMIT, limit), wall_seconds() + LOWERED_SECONDS)

    async def left(self, urgency: Urgency = Urgency.ENTER) -> int:
        """What is left of this market minute's weight for a purpose; 0 while we stay away."""
        return 0 if self.blocked() > 0 else max(0, self.allowed(self.limit, urgency) - self.used)

    def kept_back(self, urgency: Urgency) -> float:
        """The share of the weight that a purpose leaves alone now: entries, scans and books two reserves, who watches one."""
        if urgency is Urgency.PROTECT:
            return 0.0
        if urgency is Urgency.ENTER:
            return 2 * self._share
        return 2 * self._share - self.own_share(urgency)

    def own_share(self, urgency: Urgency) -> float:
        """The share of the weight that is kept for a purpose as the minute passes, whatever protecting calls have used of theirs: for watching."""
        if urgency is not Urgency.WATCH:
            return 0.0
        passed = self._now_ms() % MINUTE_MS / MINUTE_MS
        return self._share * (WATCH_AT_ONCE + (1 - WATCH_AT_ONCE) * passed)

    async def spend(self, weight: int, urgency: Urgency = Urgency.ENTER, account: str = "", orders: int = 0) -> int:
        """Takes weight and order counts, waiting for the next window where they are spent.

        Returns:
            The market minute that it was taken from.

        Raises:
            ExchangeThrottled: The wait would be, or was, too long, or the exchange told us to stay away.
        """
        deadline = wall_seconds() + self._patience
        while not self.take(weight, urgency, account, orders):
            left = self._blocks.left(account)
            if wall_seconds() + left > deadline:
                raise ExchangeThrottled("weight or orders of this window are spent", left)
            await asyncio.sleep(POLL_SECONDS)
        return self._minute.number

    def take(self, weight: int, urgency: Urgency, account: str = "", orders: int = 0) -> bool:
        """Takes at once, or says that it is not there."""
        window, counters = self._weight(), self._counters(account) if orders else []
        watched = self._watched.at(window.number)
        if self._blocks.left(account) > 0 or not self._fits(window.used + weight, watched.used + weight, urgency):
            return False
        if any(counter.used + orders > self.orders_allowed(limit, urgency) for counter, limit in counters):
            return False
        window.used += weight
        if urgency is Urgency.WATCH:
            watched.used += weight
        for counter, _ in counters:
            counter.used += orders
        return True

    def _fits(self, used: int, watched: int, urgency: Urgency) -> bool:
        if used <= self.allowed(self.limit, urgency):
            return True
        own = int(self.limit * self.own_share(urgency))
        return own > 0 and watched <= own and used <= self.limit - int(self.limit * self._share)

    def allowed(self, limit: int, urgency: Urgency) -> int:
        """How much of the weight may be used up for this."""
        return limit - int(limit * self.kept_back(urgency))

    def orders_allowed(self, limit: int, urgency: Urgency) -> int:
        """How many of an account's orders; whoever watches sends none."""
        return limit if urgency is Urgency.PROTECT else limit - int(limit * self._share)

    async def draw(self, pool: Pool) -> None:
        """Takes one request from a pool.

        Raises:
            ExchangeThrottled: The pool's window is spent: it may be minutes until the next.
        """
        window = self._pools.setdefault(pool.name, Window()).at(self._now_ms() // pool.window_ms)
        if window.used >= pool.limit:
            raise spent(pool)
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

    def learn_orders(self, account: str, at_ms: int, counts: Sequence[int]) -> None:
        """Takes over what the exchange counted of an account's orders, window by window of ORDER_LIMITS; -1 where it told nothing.

        Args:
            account: Whose.
            at_ms: Market time when the order was sent: the count of a window that is over says nothing of this one.
            counts: Whoever else trades the account is in them.
        """
        for (counter, _), (span, _), count in zip(self._counters(account), ORDER_LIMITS, counts, strict=True):
            if at_ms // span == counter.number:
                counter.used = max(counter.used, count)

    def counted(self, account: str) -> list[int]:
        """Orders of an account in the present windows, as far as this replica knows."""
        return [counter.used for counter, _ in self._counters(account)]

    def block(self, seconds: float) -> None:
        """Stays away for wall seconds, as a 429 or 418 demands."""
        self._blocks.add("", seconds)

    def block_orders(self, account: str, seconds: float) -> None:
        """Sends no order of an account for wall seconds."""
        self._blocks.add(account, seconds)

    def blocked(self, account: str = "") -> float:
        """Wall seconds for which we stay away."""
        return self._blocks.left(account)

    def _weight(self) -> Window:
        return self._minute.at(self._now_ms() // MINUTE_MS)

    def _counters(self, account: str) -> list[tuple[Window, int]]:
        now = self._now_ms()
        return [(self._orders.setdefault((account, span), Window()).at(now // span), limit) for span, limit in ORDER_LIMITS]
