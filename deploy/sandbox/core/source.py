"""Where a market's 15m candles come from: a recording, or a seeded generator. The tape walks inside whatever this gives."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from deploy.sandbox.core.path import Floats, Ints
from deploy.sandbox.core.rules import SymbolRules


class Coarse(msgspec.Struct, frozen=True, kw_only=True):
    """Older 4h candles of one symbol, from before its 15m candles begin.

    Args:
        opened_ms: Open times, oldest first, shape (n,).
        table: Shape (5, n): open, high, low, close in ticks, volume in steps.
        quote: Quote volume in ticks x steps, shape (n,).
    """

    opened_ms: Ints
    table: Ints
    quote: Ints


class Top(NamedTuple):
    """The best of a book as it was recorded."""

    spread: int
    """Ticks between best bid and best ask, at least one."""
    bid: int
    ask: int
    """Steps at the best price of each side, at least one."""


class Fundings(NamedTuple):
    """A symbol's fundings as they were recorded with its marks."""

    hours: int
    """Between two of them."""
    rates: Mapping[int, float]
    """By funding time, Unix milliseconds: the last that was told before it."""


class CandleSource(Protocol):
    """Candles of every symbol, numbered in quarters of an hour since the epoch."""

    rules: list[SymbolRules]
    """One for each symbol that has a tape."""
    ends_ms: int | None
    """Where the tape ends, None when it never does."""

    def span(self, number: int) -> tuple[int, int | None]:
        """The first candle of a symbol and the one after its last; None when it never ends."""
        ...

    def candles(self, number: int, start: int, end: int) -> Ints:
        """Candles start..end of a symbol, inside its span; shape (5, end - start), contiguous."""
        ...

    def paths(self, number: int, start: int, end: int) -> Ints:
        """What was recorded of the prices inside candles start..end: shape (end - start, 180), zeros where nothing was; or no row at all."""
        ...

    def marks(self, number: int, start: int, end: int) -> Floats:
        """Recorded marks at the ticks of candles start..end, in ticks: shape (end - start, 180), zeros where none were; or no row at all."""
        ...

    def fundings(self, number: int) -> Fundings | None:
        """Of a symbol whose marks were recorded; None of any other."""
        ...

    def top(self, number: int, tick: int) -> Top | None:
        """What was recorded of a symbol's book at a tick, counted in five seconds since the epoch; None where nothing was."""
        ...

    def coarse(self, number: int) -> Coarse | None:
        """Older 4h candles, where there are any."""
        ...
