"""Forced orders: recorded ones where there is a recording, else what the tape's sharp moves would have forced.

A synthesised order lies on a tick that made a new extreme far from the candle's open, at that tick's time and price, and its quantity
is a share of what the candle had traded by then: nothing is sold that the tape did not trade, and nothing in an order knows what the tape
will do next. That is what lets a detector be measured on them.
"""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.path import noise
from deploy.sandbox.core.tape import Tape

THRESHOLD = 0.012
"""How far from the candle's open, as a share of the price, a tick must be to force somebody."""
STEP = 0.0006
"""How much further it must be than the last one that did."""
MOST_SHARE = 0.06
"""Of what a candle has traded, the most that is forced."""
LEAST_TAKEN = 0.1
"""Of what may still be forced, the least that an order takes; chance adds up to as much as there is."""
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
    opened, high, low = (int(value) for value in tape.candles(number, number + 1)[:3, 0])
    if max(opened - low, high - opened) < THRESHOLD * opened:
        return []
    ticks = tape.ticks(number)
    moves = ticks.price / opened - 1
    traded = np.cumsum(ticks.quantity)
    out: list[ForcedOrder] = []
    reached, forced = {"SELL": THRESHOLD - STEP, "BUY": THRESHOLD - STEP}, 0
    for tick in np.nonzero(np.abs(moves) >= THRESHOLD)[0].tolist():
        move = float(abs(moves[tick]))
        side = "BUY" if moves[tick] > 0 else "SELL"
        if move < reached[side] + STEP:
            continue
        reached[side] = move
        budget = float(traded[tick]) * min(MOST_SHARE, move * 1.5) - forced
        quantity = int(budget * (LEAST_TAKEN + (1 - LEAST_TAKEN) * noise(tape.key, _SALT, number, tick) ** 4))
        if quantity > 0:
            forced += quantity
            out.append(_order(int(ticks.times[tick]), side, int(ticks.price[tick]), quantity))
    return out


def _order(time_ms: int, side: str, average: int, quantity: int) -> ForcedOrder:
    limit = max(1, round(average * (1 - BANKRUPT if side == "SELL" else 1 + BANKRUPT)))
    return ForcedOrder(time_ms, side, limit, average, quantity)
