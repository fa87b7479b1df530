"""How a peer in an environment of its own is asked: a line with a round's number on standard input, a line of JSON with its time and picks."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bench.peers.ranking import Picks

Rows = Any
"""Tables of numbers."""

WIDTH = 499
TIME, OPEN, HIGH, LOW, CLOSE, VOLUME = range(6)
"""Columns of the candle file's tables, candles x columns of each symbol."""


def read_market(path: str) -> tuple[list[str], Rows, Rows]:
    """Symbols, 15m and 4h tables."""
    file = np.load(path)
    return [str(symbol) for symbol in file["symbols"]], file["quarter"], file["four_hour"]


def serve(work: Callable[[int], Picks]) -> None:
    """Answers until standard input ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        begun = time.perf_counter()
        picks = work(int(line))
        took = (time.perf_counter() - begun) * 1000
        sys.stdout.write(json.dumps([took, picks]) + "\n")
        sys.stdout.flush()
