"""Takers walk the book: which levels an order takes, up to what price. Pure, and the same for everyone at one moment."""

from collections.abc import Iterable
from decimal import Decimal

from deploy.sandbox.core.board import Board, Depth, Level
from shared.margin import ZERO


class Takings:
    """The book less what takers have already had of it; a new tick brings a new book.

    Args:
        board: Whose books.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._read: tuple[tuple[str, int], Depth] | None = None
        self._taken: dict[str, tuple[int, dict[Decimal, Decimal]]] = {}

    def levels(self, symbol: str, side: str, now: int, wanted: Decimal) -> list[Level]:
        """What a BUY or a SELL meets, best first, as deep as a quantity reaches; at least the best level."""
        depth = self._depth(symbol, now)
        taken = self._of(symbol, depth)
        out: list[Level] = []
        for price, quantity in depth.asks if side == "BUY" else depth.bids:
            left = quantity - taken.get(price, ZERO)
            if left > 0:
                out.append(Level(price, left))
                wanted -= left
            if out and wanted <= 0:
                break
        return out

    def take(self, symbol: str, levels: Iterable[Level], now: int) -> None:
        """Remember what was taken at each price."""
        taken = self._of(symbol, self._depth(symbol, now))
        for price, quantity in levels:
            taken[price] = taken.get(price, ZERO) + quantity

    def _depth(self, symbol: str, now: int) -> Depth:
        """The board's, read once a moment."""
        if self._read is None or self._read[0] != (symbol, now):
            self._read = ((symbol, now), self._board.depth(symbol, now))
        return self._read[1]

    def _of(self, symbol: str, depth: Depth) -> dict[Decimal, Decimal]:
        known = self._taken.get(symbol)
        if known is None or known[0] != depth.update_id:
            known = self._taken[symbol] = (depth.update_id, {})
        return known[1]


def walk(levels: Iterable[Level], side: str, quantity: Decimal, limit: Decimal | None) -> list[Level]:
    """What an order takes of each level.

    Args:
        levels: Of the other side, best first.
        side: BUY or SELL, of the taker.
        quantity: Wanted.
        limit: The worst price; None for any.
    """
    out: list[Level] = []
    for price, there in levels:
        beyond = limit is not None and (price > limit if side == "BUY" else price < limit)
        if quantity <= 0 or beyond:
            break
        taken = min(there, quantity)
        out.append(Level(price, taken))
        quantity -= taken
    return out


def total(levels: Iterable[Level]) -> Decimal:
    """Their quantity."""
    return sum((level.quantity for level in levels), ZERO)


def worth(levels: Iterable[Level]) -> Decimal:
    """Their notional."""
    return sum((level.quantity * level.price for level in levels), ZERO)
