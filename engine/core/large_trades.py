"""Large aggressive trades of the last 300 s, added up a symbol at a time as the stream tells them.

Stands beside liquidations: the feed takes trades in, what is told goes to Redis, and `whales` reads who pushed. An aggregate trade is what one
taker order filled at one price, so an order that swept several prices counts only where a price alone was large.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from engine.core.cascade import WINDOW_MS
from engine.core.market import Trade

LARGE_TRADE_USD: Final = 50_000.0
"""Source: the first system's detector."""

MOST_KEPT: Final = 2_000
"""Large trades of one symbol in the window: BTCUSDT in a rush; the newest are kept."""


class TradeFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What takers of $50k and more bought and sold in one symbol, USD; `since_ms` is where listening, or the window, began."""

    symbol: str
    bought_usd: float = 0.0
    sold_usd: float = 0.0
    trades: int = 0
    since_ms: int = 0

    @property
    def bias(self) -> str:
        """BUYING, SELLING, MIXED or NONE. Source: the first system's detector, 1.5 to one and 0.67 to one."""
        if not self.trades:
            return "NONE"
        ratio = self.bought_usd / (self.sold_usd + 1)
        if ratio > 1.5:
            return "BUYING"
        return "SELLING" if ratio < 0.67 else "MIXED"


def trades_in_window(trades: Iterable[Trade], now_ms: int) -> list[Trade]:
    """Those of the last 300 s of market time: what a quiet symbol's newest hundred hold besides may be of any age."""
    return [trade for trade in trades if now_ms - trade.at_ms <= WINDOW_MS]


def flow_of_trades(symbol: str, trades: Iterable[Trade]) -> TradeFlow:
    """The large ones of these trades, added up."""
    large = [trade for trade in trades if trade.price * trade.quantity >= LARGE_TRADE_USD]
    return TradeFlow(
        symbol=symbol,
        bought_usd=sum(trade.price * trade.quantity for trade in large if not trade.sell),
        sold_usd=sum(trade.price * trade.quantity for trade in large if trade.sell),
        trades=len(large),
        since_ms=min((trade.at_ms for trade in large), default=0),
    )


class LargeTrades:
    """The window of each symbol that is listened to."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._kept: dict[str, deque[Trade]] = {}

    def follow(self, symbols: Sequence[str], now_ms: int) -> None:
        """Listens to these from now on; what was kept of others is forgotten, and a symbol that comes back begins anew."""
        self._since = {symbol: self._since.get(symbol, now_ms) for symbol in symbols}
        self._kept = {symbol: self._kept.get(symbol, deque(maxlen=MOST_KEPT)) for symbol in symbols}

    def take(self, symbol: str, trade: Trade) -> None:
        """One aggregate trade; a small one, or one of a symbol that is not followed, changes nothing."""
        kept = self._kept.get(symbol)
        if kept is not None and trade.price * trade.quantity >= LARGE_TRADE_USD:
            kept.append(trade)

    def interrupted(self, now_ms: int) -> None:
        """The stream was cut: what it would have said meanwhile is not known, so every window begins anew."""
        self.follow(list(self._since), now_ms)
        self._since = dict.fromkeys(self._since, now_ms)
        for kept in self._kept.values():
            kept.clear()

    def told(self, now_ms: int) -> list[TradeFlow]:
        """The window of every symbol that is followed, quiet ones too: nothing large is word as well."""
        oldest = now_ms - WINDOW_MS
        for kept in self._kept.values():
            while kept and kept[0].at_ms < oldest:
                kept.popleft()
        return [
            msgspec.structs.replace(flow_of_trades(symbol, kept), since_ms=max(self._since[symbol], oldest))
            for symbol, kept in self._kept.items()
        ]
