"""The order book around the last price: its best levels touch the last trade, its depth follows how much the symbol trades.

The whole book is a pure function of the tick, so two readers at one moment see one book. Matching walks the same levels. Where a recording
knows the best of the book, its spread and the sizes of both best levels are those, around the price that trades.
"""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.path import TICKS, Floats, Ints, noises
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
RESTING = 24
"""A level keeps its size for so many ticks, two minutes."""
GRID_SHARE = 50_000
"""Levels lie about a fifty-thousandth of the price apart."""


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
    recorded = tape.top(ordinal)
    spread = recorded.spread if recorded else max(1, round(last * SPREAD * min(5.0, (REFERENCE_TURNOVER / turnover) ** 0.5)))
    ask, bid = (last, last - spread) if ticks.buyer[seen - 1] else (last + spread, last)
    notional = LEVEL_NOTIONAL * (turnover / REFERENCE_TURNOVER) ** 0.5
    tilt = 0.5 * (2.0 * float(noises(tape.key + 3, np.array([ordinal // 60]))[0]) - 1.0)
    bids = _side(tape, (bid, -1), levels, notional * (1.0 + tilt), ordinal)
    asks = _side(tape, (ask, 1), levels, notional * (1.0 - tilt), ordinal)
    if recorded:
        bids[1, :1], asks[1, :1] = recorded.bid, recorded.ask
    return Book(update_id=ordinal * UPDATES_A_TICK, time_ms=int(ticks.times[seen - 1]), bids=bids, asks=asks)


def _side(tape: Tape, best: tuple[int, int], levels: int, notional: float, ordinal: int) -> Ints:
    """One side: the best price, then levels on a grid of their own that stay where they are while the price moves."""
    price, sign = best
    gap = _gap(int(tape.ticks(ordinal // TICKS).price[0]))
    places: Ints = price // gap + sign * np.arange(levels + 1, dtype=np.int64)
    prices: Ints = places * gap + (noises(tape.key + 1, places) * gap).astype(np.int64)
    beyond = (prices - price) * sign > 0
    places = np.concatenate([[price // gap], places[beyond]])[:levels]
    prices = np.concatenate([[price], prices[beyond]])[:levels]
    sizes = notional * _shape(tape, places, sign, ordinal)
    quantities = np.maximum(1, (sizes / (np.maximum(prices, 1) * tape.unit)).astype(np.int64))
    kept = prices > 0
    return np.stack([prices[kept], quantities[kept]])


def _shape(tape: Tape, places: Ints, sign: int, ordinal: int) -> Floats:
    """Sizes in usual levels: deeper ones larger, a few of them walls; each rests for a while, the best never."""
    side = places * 2 + (sign > 0)
    epoch = (ordinal + places * 7) // RESTING
    epoch[0] = ordinal
    size = 0.3 + 1.4 * noises(tape.key + 2, side * 1_000_003 + epoch)
    depth = np.floor(np.log2(1 + np.arange(len(places))))
    walls = noises(tape.key + 4, side * 1_000_003 + ordinal // TICKS) < WALL_SHARE
    sizes: Floats = size * (1.0 + 0.6 * depth) * np.where(walls, WALL_SIZE, 1.0)
    return sizes


def _gap(price: int) -> int:
    """1, 2 or 5 times a power of ten, near a fifty-thousandth of the price, at least a tick: it changes seldom."""
    wanted = price / GRID_SHARE
    if wanted <= 1:
        return 1
    power = 10 ** int(np.log10(wanted))
    return int(max(factor * power for factor in (1, 2, 5) if factor * power <= wanted))
