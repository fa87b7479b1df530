"""Screener v3.1 in numpy, for every peer; imports nothing that one of their environments lacks."""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Picks = list[tuple[str, float]]


def ranked(symbols: list[str], close: Floats, ratio: Floats, rsi: Floats, ema: Floats) -> Picks:
    """Candidates with their scores, best first; all have 499 candles."""
    bull = close > ema
    score = np.where(bull & (rsi < 45), 50 - rsi, np.where(~bull & (rsi > 55), rsi - 50, -np.inf)) + 5 * ratio
    dead = (ratio < 1.2) | ((rsi >= 40) & (rsi <= 60) & (ratio < 3))
    kept = np.flatnonzero(~dead & (score > 0))
    return [(symbols[row], float(score[row])) for row in kept[np.argsort(-score[kept], kind="stable")]]
