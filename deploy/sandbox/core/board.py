"""The market as a trader meets it: a book to take from, prices that trigger and value, ticks that fill what rests.

Everything above it computes in Decimal; the tape's whole ticks and steps are exact in it.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple, Protocol

import numpy as np

from deploy.sandbox.core import funding
from deploy.sandbox.core.book import book_at
from deploy.sandbox.core.intervals import HOUR_MS, QUARTER_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import Ints
from deploy.sandbox.core.replies import mark_at
from deploy.sandbox.core.rules import SymbolRules

LEVELS = 500
HAIR = 1e-6
"""Spare room around bounds that are computed in floats, as a share."""
MARK_GRID = Decimal("0.00000001")


class Level(NamedTuple):
    """A price and how much of the base asset waits there."""

    price: Decimal
    quantity: Decimal


class Depth(NamedTuple):
    """Both sides, best first, and the number that says whether it is still the same book."""

    update_id: int
    bids: Iterable[Level]
    asks: Iterable[Level]


class Side:
    """One side of a book that is spelt out only as far as somebody walks it.

    Args:
        rows: Prices in ticks and quantities in steps, shape (2, n), best first.
        tick: Of prices.
        step: Of quantities.
    """

    def __init__(self, rows: Ints, tick: Decimal, step: Decimal) -> None:
        self._rows, self._tick, self._step = rows, tick, step

    def __iter__(self) -> Iterator[Level]:
        """Best first."""
        prices, quantities = self._rows
        for n in range(len(prices)):
            yield Level(int(prices[n]) * self._tick, int(quantities[n]) * self._step)


class Tick(NamedTuple):
    """A trade of the tape, and the mark price at that time."""

    time_ms: int
    price: Decimal
    quantity: Decimal
    mark: Decimal


class Span(NamedTuple):
    """What trades and mark prices of a span of time stayed within, and the mark price at its last trade."""

    low: Decimal
    high: Decimal
    mark_low: Decimal
    mark_high: Decimal
    mark: Decimal


class Funding(NamedTuple):
    """A funding time, its rate and the mark price it is paid on."""

    time_ms: int
    rate: Decimal
    mark: Decimal


class Board(Protocol):
    """What accounts trade against; every answer is of one moment in market time."""

    def rules(self, symbol: str, now: int) -> SymbolRules:
        """The rules of a symbol that trades now; Rejected otherwise."""
        ...

    def listed(self, symbol: str, now: int) -> SymbolRules:
        """The rules of a symbol that trades or once did."""
        ...

    def depth(self, symbol: str, now: int) -> Depth:
        """The book that a taker would meet."""
        ...

    def mark(self, symbol: str, now: int) -> Decimal:
        """The mark price."""
        ...

    def last(self, symbol: str, now: int) -> Decimal:
        """The last trade's price."""
        ...

    def ticks(self, symbol: str, since: int, until: int) -> list[Tick]:
        """Trades in (since, until], oldest first."""
        ...

    def span(self, symbol: str, since: int, until: int) -> Span | None:
        """What the ticks of (since, until] stay within, None where there are none; bounds of the mark may be wider."""
        ...

    def fundings(self, symbol: str, since: int, until: int) -> list[Funding]:
        """Fundings in (since, until], oldest first."""
        ...


class TapeBoard:
    """The board of a sandbox's own market.

    Args:
        market: Where the ticks are.
    """

    def __init__(self, market: Market) -> None:
        self._market = market

    def rules(self, symbol: str, now: int) -> SymbolRules:
        """The rules of a symbol that trades now."""
        return self._market.trading(symbol, now).rules

    def listed(self, symbol: str, now: int) -> SymbolRules:
        """The rules of a symbol that trades or once did."""
        return self._market.tape(symbol, now).rules

    def depth(self, symbol: str, now: int) -> Depth:
        """The book of REST and streams, walked 500 levels deep."""
        tape = self._market.tape(symbol, now)
        tick, step = Decimal(tape.rules.tick), Decimal(tape.rules.step)
        book = book_at(tape, now, LEVELS)
        return Depth(book.update_id, Side(book.bids, tick, step), Side(book.asks, tick, step))

    def mark(self, symbol: str, now: int) -> Decimal:
        """The mark price of premiumIndex, eight decimals."""
        tape = self._market.tape(symbol, now)
        return (Decimal(mark_at(tape, now)) * Decimal(tape.rules.tick)).quantize(MARK_GRID)

    def last(self, symbol: str, now: int) -> Decimal:
        """The last tick."""
        tape = self._market.tape(symbol, now)
        ticks, seen = tape.seen(now)
        return int(ticks.price[seen - 1]) * Decimal(tape.rules.tick)

    def ticks(self, symbol: str, since: int, until: int) -> list[Tick]:
        """The tape's ticks, with the mark price that premiumIndex showed at each."""
        tape = self._market.tape(symbol, until)
        tick, step = Decimal(tape.rules.tick), Decimal(tape.rules.step)
        out: list[Tick] = []
        for number in range(since // QUARTER_MS, tape.current(until) + 1):
            walk = tape.ticks(number)
            first, last = (int(np.searchsorted(walk.times, moment, side="right")) for moment in (since, until))
            for n in range(first, last):
                time_ms = int(walk.times[n])
                mark = (Decimal(mark_at(tape, time_ms)) * tick).quantize(MARK_GRID)
                out.append(Tick(time_ms, int(walk.price[n]) * tick, int(walk.quantity[n]) * step, mark))
        return out

    def span(self, symbol: str, since: int, until: int) -> Span | None:
        """Bounds of the tape's ticks; those of the mark with a hair's breadth to spare, since they are floats."""
        tape = self._market.tape(symbol, until)
        tick = Decimal(tape.rules.tick)
        prices: list[int] = []
        spots: list[float] = []
        newest = 0
        for number in range(since // QUARTER_MS, tape.current(until) + 1):
            walk = tape.ticks(number)
            first, last = (int(np.searchsorted(walk.times, moment, side="right")) for moment in (since, until))
            if first < last:
                traded, spot = walk.price[first:last], walk.spot[first:last]
                prices += [int(traded.min()), int(traded.max())]
                spots += [float(spot.min()), float(spot.max())]
                newest = int(walk.times[last - 1])
        if not prices:
            return None
        premiums = [funding.premium(tape, moment) for moment in (since, newest)]
        low, high = min(spots) * (1 + min(premiums)) * (1 - HAIR), max(spots) * (1 + max(premiums)) * (1 + HAIR)
        mark = (Decimal(mark_at(tape, newest)) * tick).quantize(MARK_GRID)
        return Span(min(prices) * tick, max(prices) * tick, Decimal(low) * tick, Decimal(high) * tick, mark)

    def fundings(self, symbol: str, since: int, until: int) -> list[Funding]:
        """The rates of fundingRate; none for a delivery contract."""
        tape = self._market.tape(symbol, until)
        if tape.rules.contract_type != "PERPETUAL":
            return []
        period = funding.hours(tape) * HOUR_MS
        until = until if tape.end is None else min(until, tape.end * QUARTER_MS)
        times = [number * period for number in range(since // period + 1, until // period + 1)]
        return [Funding(at, Decimal(f"{funding.rate(tape, at):.8f}"), self.mark(symbol, at)) for at in times]
