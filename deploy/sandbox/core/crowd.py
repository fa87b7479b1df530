"""What the crowd holds: open interest and long/short ratios, made up from the seed but leaning where the tape leans.

Taker volumes are not made up: they are the tape's own.
"""

import math
from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.intervals import DAY_MS, HOUR_MS, QUARTER_MS
from deploy.sandbox.core.path import VOLUME, noise
from deploy.sandbox.core.tape import QUARTERS_A_DAY, Tape

_SIZE, _PHASE, _WOBBLE = 41, 42, 43
KINDS = {
    "globalLongShortAccountRatio": (50, -3.0),
    "topLongShortAccountRatio": (51, -1.5),
    "topLongShortPositionRatio": (52, 2.0),
}
"""Salt and lean of each ratio: the public buys what fell, large positions follow the move."""


class Balance(NamedTuple):
    """Shares of longs and shorts, which sum to one."""

    long: float
    short: float

    @property
    def ratio(self) -> float:
        """Longs for each short."""
        return self.long / self.short


def open_interest(tape: Tape, time_ms: int) -> int:
    """Open interest at a moment, steps."""
    day = time_ms // DAY_MS * QUARTERS_A_DAY
    volume = tape.candles(day - QUARTERS_A_DAY, min(day, time_ms // QUARTER_MS))[VOLUME]
    usual = float(volume.mean()) * QUARTERS_A_DAY if len(volume) else 1_000.0
    wave = math.sin(2 * math.pi * (time_ms / (9 * HOUR_MS) + noise(tape.key, _PHASE)))
    wobble = noise(tape.key, _WOBBLE, time_ms // QUARTER_MS) - 0.5
    return max(1, int(usual * (0.25 + 0.5 * noise(tape.key, _SIZE)) * (1 + 0.06 * wave + 0.02 * wobble)))


def balance(tape: Tape, kind: str, time_ms: int) -> Balance:
    """Longs and shorts of one kind of ratio at a moment."""
    salt, lean = KINDS[kind]
    wobble = noise(tape.key, salt, time_ms // QUARTER_MS) - 0.5
    share = 0.5 + 0.22 * math.tanh(lean * _day_move(tape, time_ms)) + 0.1 * wobble
    share = round(float(np.clip(share, 0.15, 0.85)), 4)
    return Balance(share, round(1 - share, 4))


def _day_move(tape: Tape, time_ms: int) -> float:
    """The last closed candle's close against the day before it."""
    current = time_ms // QUARTER_MS
    candles = tape.candles(current - QUARTERS_A_DAY, current)
    return float(candles[3, -1] / candles[0, 0] - 1.0) if candles.shape[1] else 0.0
