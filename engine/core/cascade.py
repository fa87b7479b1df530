"""The state of a liquidation cascade: none, building, running or exhausted, from how fast orders are forced and how the price answers.

Stands between liquidations and `whales`. It looks at one symbol's last 300 s alone and remembers nothing, so that every replica says the
same. The stream tells at most one forced order per symbol and second: counts and sums are an undercount, and the rate saturates at
sixty a minute. Skill on labelled cascades and on recorded sessions: docs/whales.md.
"""

from collections.abc import Sequence
from math import log2
from typing import Final

import msgspec

from engine.core.market import ForcedOrder
from shared.analysis import CascadeState
from shared.enums import Side

WINDOW_MS: Final = 300_000
"""Market time over which liquidations are added up."""

QUIET_USD: Final = 10_000.0
"""Below this total the window says nothing."""

RECENT_MS: Final = 60_000
"""What counts as now: a cascade in which nobody was forced for so long has stopped."""

FEWEST: Final = 3
"""Forced orders on one side below which nothing is called a cascade: a single large one is an accident."""

ONE_SIDED: Final = 2 / 3
"""Share of the forced value that the heavier side has at least. Source: the first system's LONG_HEAVY, more than two to one."""

ANSWER: Final = 0.005
"""Share of the price that it must have moved with the forced orders to count as an answer."""

RETRACED: Final = 1 / 3
"""Share of that move which, given back, ends it."""

RUNNING_HEAT: Final = 65.0
"""Heat from which a cascade runs. Source: best F1 over the training seeds of `make skill`, judged on others (docs/whales.md)."""

type Step = tuple[int, float]
"""A price and its moment: market milliseconds, then the price."""


class Cascade(msgspec.Struct, frozen=True, kw_only=True):
    """What is being forced out of a symbol.

    `side` is the position that is liquidated: LONG means that the price is pushed down. `events` counts that side's forced orders in the window,
    `recent` those of its last minute. `answer` is how far the price went with them and still stands, as a share, None where nobody heard it;
    `heat` is 0..100.
    """

    state: CascadeState = CascadeState.NONE
    side: Side | None = None
    events: int = 0
    recent: int = 0
    answer: float | None = None
    heat: float = 0.0


class _Move(msgspec.Struct, frozen=True):
    """The largest move one way: how far it went, how far it stands now, and which share of it was given back."""

    went: float
    stands: float
    retraced: float


def cascade_of(orders: Sequence[ForcedOrder], path: Sequence[Step], now_ms: int) -> Cascade:
    """Judges one symbol at one moment; what lies outside the last 300 s, or in the future, is not looked at.

    Args:
        orders: The symbol's forced orders, in any order.
        path: Its prices, oldest first, as many of the last 300 s as were heard.
        now_ms: Market time.
    """
    window = [order for order in orders if 0 <= now_ms - order.at_ms <= WINDOW_MS]
    side = _heavier(window)
    if side is None:
        return Cascade()
    forced = [order for order in window if order.side is side]
    recent = sum(now_ms - order.at_ms <= RECENT_MS for order in forced)
    move = _move([price for at_ms, price in path if 0 <= now_ms - at_ms <= WINDOW_MS and price > 0], -side.sign)
    heat = _heat(recent, move)
    return Cascade(
        state=_state(recent, move, heat),
        side=side,
        events=len(forced),
        recent=recent,
        answer=None if move is None else move.stands,
        heat=heat,
    )


def _heavier(window: Sequence[ForcedOrder]) -> Side | None:
    total = sum(order.usd for order in window)
    if total < QUIET_USD:
        return None
    for side in Side:
        own = [order.usd for order in window if order.side is side]
        if len(own) >= FEWEST and sum(own) >= ONE_SIDED * total:
            return side
    return None


def _move(prices: Sequence[float], sign: int) -> _Move | None:
    """The largest rise (sign 1) or fall (-1) from an earlier price to a later one; None of fewer than two prices."""
    if len(prices) < 2:
        return None
    turn = origin = extreme = prices[0]
    went = 0.0
    for price in prices:
        if sign * (price - turn) < 0:
            turn = price
        elif sign * (price / turn - 1) > went:
            origin, extreme, went = turn, price, sign * (price / turn - 1)
    stands = sign * (prices[-1] / origin - 1)
    return _Move(went, stands, sign * (extreme - prices[-1]) / (sign * (extreme - origin)) if went else 0.0)


def _heat(recent: int, move: _Move | None) -> float:
    """Half from the rate (15 forced orders a minute are all of it, each doubling an eighth), half from the price (1 % is all of it)."""
    rate = min(50.0, 12.5 * log2(1 + recent))
    answer = 0.0 if move is None else min(50.0, max(0.0, move.stands) * 5_000)
    return rate + answer


def _state(recent: int, move: _Move | None, heat: float) -> CascadeState:
    answered = move is not None and move.went >= ANSWER
    if answered and (recent == 0 or (move is not None and move.retraced >= RETRACED)):
        return CascadeState.EXHAUSTED
    if recent == 0:
        return CascadeState.NONE
    return CascadeState.RUNNING if answered and heat >= RUNNING_HEAT else CascadeState.BUILDING
