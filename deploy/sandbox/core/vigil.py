"""How long each position went without a working stop: the sandbox's own witness, which no client can talk to.

A span begins when a position is larger than what its stops would close, and ends when they cover all of it or it is flat. A trailing stop
counts once it is activated: before that no fall of the price would trigger it. Spans in which the exchange would not take the account's
orders are kept beside them, so that a judge can leave them out.
"""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.algo_request import TRAILING
from deploy.sandbox.core.orders import AlgoOrder
from shared.margin import ZERO

FOREVER_MS = 253402300799000
"""The year 9999."""

STOPS = frozenset({"STOP", "STOP_MARKET", TRAILING})


class Moment(msgspec.Struct, frozen=True):
    """One moment on both clocks, Unix milliseconds."""

    market_ms: int
    wall_ms: int


class Unprotected(msgspec.Struct, kw_only=True):
    """A span without enough of a stop; it lasts while it has no end."""

    symbol: str
    side: str
    quantity: Decimal
    """The largest that the position had in it."""
    since: Moment
    until: Moment | None = None


class Refusal(msgspec.Struct, kw_only=True):
    """A span of wall time in which the account's orders were not accepted."""

    since_wall_ms: int
    until_wall_ms: int
    lasting: bool = False
    """Until somebody says otherwise."""


class Vigil:
    """Watches positions of every account."""

    def __init__(self) -> None:
        self.wall: Callable[[int], int] = lambda market_ms: market_ms
        """Wall time of a market time; the doors know it."""
        self.spans: dict[str, list[Unprotected]] = {}
        self.refusals: dict[str, list[Refusal]] = {}
        self._open: dict[tuple[str, str, str], Unprotected] = {}

    def look(self, account: Account, symbol: str, side: str, now: int) -> None:
        """Begin or end a span, now that a position or a stop of it has changed."""
        key = (account.key, symbol, side)
        held = account.positions.get((symbol, side))
        quantity = held.quantity if held else ZERO
        bare = bool(quantity) and stopped(account, symbol, side, quantity) < abs(quantity)
        span = self._open.get(key)
        if span is None and bare:
            moment = Moment(now, self.wall(now))
            self._open[key] = Unprotected(symbol=symbol, side=side, quantity=abs(quantity), since=moment)
        elif span is not None and bare:
            span.quantity = max(span.quantity, abs(quantity))
        elif span is not None:
            del self._open[key]
            span.until = Moment(now, self.wall(now))
            if span.until != span.since:
                self.spans.setdefault(account.key, []).append(span)

    def refuse(self, key: str, since_wall_ms: int, until_wall_ms: int) -> None:
        """Remember that an account's orders were not accepted for a while."""
        if since_wall_ms < until_wall_ms:
            self.refusals.setdefault(key, []).append(Refusal(since_wall_ms=since_wall_ms, until_wall_ms=until_wall_ms))

    def revoke(self, key: str, wall_ms: int) -> None:
        """Remember that an account's orders are not accepted until they are again."""
        refusal = Refusal(since_wall_ms=wall_ms, until_wall_ms=FOREVER_MS, lasting=True)
        self.refusals.setdefault(key, []).append(refusal)

    def accept(self, key: str, wall_ms: int) -> None:
        """End what a revoked key began; an outage or a wait that was told goes on."""
        for refusal in self.refusals.get(key, []):
            if refusal.lasting:
                refusal.until_wall_ms, refusal.lasting = wall_ms, False

    def told(self, key: str) -> list[Unprotected]:
        """Every span of an account, oldest first; the last ones may still go on."""
        lasting = [span for (owner, _, _), span in self._open.items() if owner == key]
        return self.spans.get(key, []) + lasting

    def refused_ms(self, key: str, since_wall_ms: int, until_wall_ms: int) -> int:
        """How much of a span of wall time the account's orders were not accepted."""
        total, reached = 0, since_wall_ms
        for refusal in sorted(self.refusals.get(key, []), key=lambda kept: kept.since_wall_ms):
            until = min(refusal.until_wall_ms, until_wall_ms)
            total += max(0, until - max(refusal.since_wall_ms, reached))
            reached = max(reached, until)
        return total


def stopped(account: Account, symbol: str, side: str, quantity: Decimal) -> Decimal:
    """How much of a position its waiting stops would close.

    Args:
        account: Whose.
        symbol: Of the position.
        side: Its position side.
        quantity: Signed.
    """
    closing = "SELL" if quantity > 0 else "BUY"
    stops = [algo for algo in account.waiting(symbol) if _stops(algo, side, closing)]
    return abs(quantity) if any(algo.close_position for algo in stops) else sum((algo.quantity for algo in stops), ZERO)


def _stops(algo: AlgoOrder, side: str, closing: str) -> bool:
    # Forwarded to the book and not yet there, it protects nothing; nor does a trailing stop that still waits for its activation price.
    awake = algo.kind != TRAILING or algo.extreme is not None
    return algo.kind in STOPS and awake and algo.status == "NEW" and (algo.position_side, algo.side) == (side, closing)
