"""Price shocks put in by hand: a source whose candles can be bent from a candle on that nobody has seen yet."""

import numpy as np

from deploy.sandbox.core.path import UNHEARD, UNRECORDED, Floats, Ints
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.source import CandleSource, Coarse, Fundings, Top

BUSTLE = 10.0
"""A shock of ten percent doubles the volume of its candle."""


class Shockable:
    """A source and what was done to it.

    Args:
        source: Any.
    """

    def __init__(self, source: CandleSource) -> None:
        self._source = source
        self.ends_ms = source.ends_ms
        self.rules: list[SymbolRules] = source.rules
        self._shocks: dict[int, list[tuple[int, float]]] = {}

    def shock(self, number: int, candle: int, factor: float) -> None:
        """Let a symbol's price move by a factor within a candle and stay there.

        Args:
            number: Of the symbol.
            candle: Not yet begun.
            factor: 0.9 falls by ten percent.
        """
        self._shocks.setdefault(number, []).append((candle, factor))

    def span(self, number: int) -> tuple[int, int | None]:
        """The source's."""
        return self._source.span(number)

    def candles(self, number: int, start: int, end: int) -> Ints:
        """The source's candles, bent."""
        candles = self._source.candles(number, start, end)
        for candle, factor in self._shocks.get(number, []):
            if candle < end:
                candles = _bent(candles, candle - start, factor)
        return candles

    def paths(self, number: int, start: int, end: int) -> Ints:
        """The source's; none of a symbol that was shocked: its prices are others."""
        return UNRECORDED if number in self._shocks else self._source.paths(number, start, end)

    def marks(self, number: int, start: int, end: int) -> Floats:
        """The source's; none of a symbol that was shocked."""
        return UNHEARD if number in self._shocks else self._source.marks(number, start, end)

    def fundings(self, number: int) -> Fundings | None:
        """The source's; none of a symbol that was shocked."""
        return None if number in self._shocks else self._source.fundings(number)

    def top(self, number: int, tick: int) -> Top | None:
        """The source's; none of a symbol that was shocked."""
        return None if number in self._shocks else self._source.top(number, tick)

    def coarse(self, number: int) -> Coarse | None:
        """The source's: older than any shock."""
        return self._source.coarse(number)


def _bent(candles: Ints, at: int, factor: float) -> Ints:
    """Everything after a column moved by a factor, the column itself from its open to there; `at` may lie before the first."""
    out = candles.copy()
    after = max(at + 1, 0)
    out[:4, after:] = np.maximum(1, np.rint(candles[:4, after:] * factor))
    if at >= 0:
        opened, high, low, close, volume = candles[:, at].tolist()
        moved = [max(1, round(price * factor)) for price in (high, low, close)]
        out[:, at] = [
            opened,
            max(opened, moved[0]),
            min(opened, moved[1]),
            moved[2],
            round(volume * (1 + BUSTLE * abs(factor - 1))),
        ]
    return out
