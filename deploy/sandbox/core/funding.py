"""Funding and the mark price: both follow the tape.

A period's rate is set at its beginning, from how far the price moved in the period before: crowds pay. The mark price is the index price
at a small premium of that rate, so it is smooth, close to the last price, and never simply equal to it. Of a symbol whose marks were recorded
marks, rates and funding times are the recorded ones; what its index price was nobody wrote down, so it is the mark.

Source: Binance FAQ "Introduction to Binance Futures Funding Rates": 8 hours by default, interest 0.01 %, capped.
"""

import numpy as np

from deploy.sandbox.core.intervals import HOUR_MS, QUARTER_MS
from deploy.sandbox.core.path import Floats, Ints, noise
from deploy.sandbox.core.tape import Rows, Tape

INTEREST = 0.0001
CAP = 0.003
CAP_TEXT = "0.00300000"
"""The exchange's usual adjusted cap and floor."""
SHORT_PERIOD_SHARE = 0.15
_PERIOD, _RATE, _LEAN = 77, 78, 79


def hours(tape: Tape) -> int:
    """Hours between two fundings of a symbol: as recorded, else 8, or 4 for some."""
    if (recorded := tape.fundings) is not None:
        return recorded.hours
    return 4 if noise(tape.key, _PERIOD) < SHORT_PERIOD_SHARE and tape.rules.symbol != "BTCUSDT" else 8


def next_time(tape: Tape, now: int) -> int:
    """When funding is next paid, Unix milliseconds."""
    period = hours(tape) * HOUR_MS
    return (now // period + 1) * period


def rate(tape: Tape, time_ms: int) -> float:
    """The rate paid at a funding time; known since the funding before."""
    return tape.remembered(time_ms, lambda: _rate(tape, time_ms))


def premium(tape: Tape, now: int) -> float:
    """How far the mark price is above the index price, as a share of it."""
    if tape.fundings is not None:
        return 0.0
    lean = noise(tape.key, _LEAN)
    own = (0.00002 + 0.00003 * lean) * (1 if lean < 0.5 else -1)
    return own + 0.4 * (rate(tape, next_time(tape, now)) - INTEREST)


def mark(tape: Tape, rows: Rows) -> Floats:
    """The mark price of rows that lie inside one funding period each, in ticks; shape (4, n)."""
    return rows.spot * (1.0 + premiums(tape, rows.opened))


def premiums(tape: Tape, times: Ints) -> Floats:
    """The premium at each time."""
    period = hours(tape) * HOUR_MS
    periods, which = np.unique(times // period, return_inverse=True)
    return np.array([premium(tape, int(number) * period) for number in periods])[which]


def _rate(tape: Tape, time_ms: int) -> float:
    if (recorded := tape.fundings) is not None and time_ms in recorded.rates:
        return recorded.rates[time_ms]
    period = hours(tape) * HOUR_MS
    until = (time_ms - period) // QUARTER_MS
    since = until - period // QUARTER_MS
    if since < tape.first or (tape.end is not None and until > tape.end):
        return INTEREST
    closes = tape.candles(since, until)
    move = closes[3, -1] / closes[0, 0] - 1.0
    own = (noise(tape.key, _RATE, time_ms) - 0.5) * 0.00012
    return round(float(np.clip(INTEREST + 0.006 * move + own, -CAP, CAP)), 8)
