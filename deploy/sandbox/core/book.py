"""The order book around the last price: its best levels touch the last trade, its depth follows how much the symbol trades.

The whole book is a pure function of the tick, so two readers at one moment see one book. Matching (next issue) walks the same levels.
"""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.path import Ints, noises
from deploy.sandbox.core.statistics import trade_id
from deploy.sandbox.core.tape import Tape

UPDATES_A_TICK = 64
"""lastUpdateId moves by this much a tick, so that ids of diffs fit between."""
REFERENCE_TURNOVER = 3e7
"""USDT a day at which a level holds LEVEL_NOTIONAL and the spread is SPREAD."""
LEVEL_NOTIONAL = 1_800.0
SPREAD = 2e-4
WALL_SHARE, WALL_SIZE = 0.02, 15.0
"""One level in fifty is a wall of fifteen times its neighbours."""
SLOWNESS = 6
"""Every so many levels deeper, a level keeps its size for one tick longer."""


class Book(NamedTuple):
    """Prices in ticks and quantities in steps, best first, shape (2, n)."""

    update_id: int
    time_ms: int
    bids: Ints
    asks: Ints


def book_at(tape: Tape, now: int, levels: int) -> Book:
    """A live symbol's book at a moment.

    Args:
        tape: The symbol's.
        now: Market time.
        levels: How deep, 1 to 1000.
    """
    ticks, seen = tape.seen(now)
    last, ordinal = int(ticks.price[seen - 1]), trade_id(ticks.number, seen - 1)
    turnover = max(tape.day_quote(now) * tape.unit, 1e5)
    spread = max(1, round(last * SPREAD * min(5.0, (REFERENCE_TURNOVER / turnover) ** 0.5)))
    ask, bid = (last, last - spread) if ticks.buyer[seen - 1] else (last + spread, last)
    notional = LEVEL_NOTIONAL * (turnover / REFERENCE_TURNOVER) ** 0.5
    tilt = 0.5 * (2.0 * float(noises(tape.key + 3, np.array([ordinal // 60]))[0]) - 1.0)
    return Book(
        update_id=ordinal * UPDATES_A_TICK,
        time_ms=int(ticks.times[seen - 1]),
        bids=_side(tape, (bid, -1), levels, notional * (1.0 + tilt), ordinal),
        asks=_side(tape, (ask, 1), levels, notional * (1.0 - tilt), ordinal),
    )


def _side(tape: Tape, best: tuple[int, int], levels: int, notional: float, ordinal: int) -> Ints:
    """One side: gaps of a few ticks, sizes that grow slowly with depth."""
    price, sign = best
    level = np.arange(levels, dtype=np.int64)
    slot = ordinal // (1 + level // SLOWNESS)
    numbers = (slot * 4096 + level) * 2 + (sign > 0)
    gap = max(1, price // 100_000)
    gaps = gap * (1 + np.floor(2.999 * noises(tape.key + 1, level + ordinal // 12 * 4096)).astype(np.int64))
    gaps[0] = 0
    prices = price + sign * np.cumsum(gaps)
    size = notional * (0.3 + 1.4 * noises(tape.key + 2, numbers)) * (1.0 + 0.15 * level)
    size *= np.where(noises(tape.key + 4, level + ordinal // 180 * 4096 + (sign > 0) * 2048) < WALL_SHARE, WALL_SIZE, 1.0)
    quantities = np.maximum(1, (size / (np.maximum(prices, 1) * tape.unit)).astype(np.int64))
    kept = prices > 0
    return np.stack([prices[kept], quantities[kept]])
