"""Forced orders: recorded ones where there is a recording, else what the tape's sharp moves would have forced.

A synthesised order lies on a tick that made a new extreme far from the candle's open, at that tick's time and price, and its quantity
is a share of the candle's volume: nothing is sold that the tape did not trade.
"""

from typing import NamedTuple

from deploy.sandbox.core.path import noise
from deploy.sandbox.core.tape import Tape

THRESHOLD = 0.016
"""A candle that moves less from its open, as a share of the price, forces nobody."""
FROM_THE_OPEN = 0.009
"""How far from the open a tick must be."""
MOST_SHARE = 0.06
"""Of a candle's volume, the most that is forced."""
MOST_ORDERS = 24
BANKRUPT = 0.006
"""The order's limit lies this far beyond its fill."""
_SALT = 91


class ForcedOrder(NamedTuple):
    """One liquidation. A SELL closes a long."""

    time_ms: int
    side: str
    price: int
    """Limit, ticks."""
    average: int
    """Fill, ticks."""
    quantity: int
    """Steps."""


def forced_orders(tape: Tape, number: int) -> list[ForcedOrder]:
    """The forced orders of one whole candle of the tape, oldest first."""
    opened, high, low, _, volume = (int(value) for value in tape.candles(number, number + 1)[:, 0])
    fall, rise = (opened - low) / opened, (high - opened) / opened
    if max(fall, rise) < THRESHOLD:
        return []
    side, move = ("SELL", fall) if fall >= rise else ("BUY", rise)
    chosen = _extreme_ticks(tape, number, side, opened)
    budget = volume * min(MOST_SHARE, move * 1.5)
    weights = [0.05 + noise(tape.key, _SALT, number, tick) ** 4 for tick in chosen]
    total = sum(weights) or 1.0
    orders = [_order(tape, number, tick, side, int(budget * w / total)) for tick, w in zip(chosen, weights, strict=True)]
    return [order for order in orders if order.quantity > 0]


def _extreme_ticks(tape: Tape, number: int, side: str, opened: int) -> list[int]:
    """Ticks that made a new extreme far enough from the open."""
    sign = -1 if side == "SELL" else 1
    best, chosen = opened * (1 + sign * FROM_THE_OPEN), []
    for tick, price in enumerate(tape.ticks(number).price.tolist()):
        if (price - best) * sign > 0:
            best = price
            chosen.append(tick)
    return chosen[:: max(1, len(chosen) // MOST_ORDERS)]


def _order(tape: Tape, number: int, tick: int, side: str, quantity: int) -> ForcedOrder:
    ticks = tape.ticks(number)
    average = int(ticks.price[tick])
    limit = max(1, round(average * (1 - BANKRUPT if side == "SELL" else 1 + BANKRUPT)))
    return ForcedOrder(int(ticks.times[tick]), side, limit, average, quantity)
