"""The whole market: a tape for each symbol, the settled ones that only have rules, and the forced orders.

Everything that is served is asked of it with a moment in market time.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from deploy.sandbox.core.delivery import WithQuarterly
from deploy.sandbox.core.errors import not_trading, unknown_symbol
from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.liquidations import ForcedOrder, forced_orders
from deploy.sandbox.core.path import key_of
from deploy.sandbox.core.rules import RECORDED, SymbolRules
from deploy.sandbox.core.shocks import Shockable
from deploy.sandbox.core.source import CandleSource
from deploy.sandbox.core.tape import Cache, Caches, Tape

NEEDED_QUARTERS = 300
NEEDED_FOUR_HOURS = 200
"""Closed candles that every indicator of the screener has enough of."""
FOUR_HOURS_MS = 16 * QUARTER_MS
KEPT_FORCED = 4_000


class Liquidation(msgspec.Struct, frozen=True, kw_only=True):
    """One forced order as the wire has it, and when."""

    time_ms: int
    symbol: str
    notional: float
    order: dict[str, Any]
    synthetic: bool


class Market:
    """Everything that trades.

    Args:
        source: Candles of every symbol.
        seed: Of the walk inside candles.
        start_ms: Where market time begins: the quarterly future is chosen by it.
        recorded: Forced orders of a recording, oldest first; None to synthesise them.
    """

    def __init__(self, source: CandleSource, seed: int, start_ms: int, recorded: Sequence[Liquidation] | None = None) -> None:
        self._shockable = Shockable(source)
        whole = WithQuarterly(self._shockable, start_ms)
        self.seed = seed
        self.ends_ms = whole.ends_ms
        self._caches = caches = Caches()
        names = enumerate(whole.rules)
        self.tapes = {rules.symbol: Tape(n, key_of(seed, rules.symbol), whole, caches) for n, rules in names}
        self.settled = {name: rules for name, rules in RECORDED.items() if rules.status != "TRADING" and name not in self.tapes}
        self.recorded = recorded
        self.changes = 0
        """How often rules were changed by hand."""
        self.injected: list[Liquidation] = []
        self._forced: Cache[tuple[str, int], list[Liquidation]] = Cache(KEPT_FORCED)

    def live(self, now: int) -> list[Tape]:
        """The tapes that trade at a moment, in the exchange's order."""
        return [tape for tape in self.tapes.values() if tape.alive(now)]

    def listed(self, now: int) -> list[SymbolRules]:
        """The rules of every symbol that has been listed, those that no longer trade as SETTLING."""
        out = [
            tape.rules if tape.alive(now) else msgspec.structs.replace(tape.rules, status="SETTLING")
            for tape in self.tapes.values()
            if tape.first * QUARTER_MS <= now
        ]
        return out + list(self.settled.values())

    def tape(self, symbol: str, now: int) -> Tape:
        """The tape of a symbol that is listed.

        Raises:
            Rejected: The symbol is unknown, or settled without a tape.
        """
        tape = self.tapes.get(symbol)
        if tape is not None and tape.first * QUARTER_MS <= now:
            return tape
        raise not_trading() if symbol in self.settled else unknown_symbol()

    def trading(self, symbol: str, now: int) -> Tape:
        """The tape of a symbol that trades at a moment.

        Raises:
            Rejected: The symbol is unknown or no longer trades.
        """
        tape = self.tape(symbol, now)
        if not tape.alive(now):
            raise not_trading()
        return tape

    def rule(self, symbol: str, rules: SymbolRules) -> None:
        """Let a symbol have other filters."""
        self.tapes[symbol].rules = rules
        self.changes += 1

    def close(self, symbol: str, now: int) -> None:
        """Let a symbol trade no more from a moment on."""
        self.tapes[symbol].closed_ms = now

    def shock(self, symbol: str | None, factor: float, now: int) -> int:
        """Let a price, or every price, move by a factor within the next candle.

        Args:
            symbol: None for all; the quarterly future follows its perpetual.
            factor: 0.9 falls by ten percent.
            now: Market time.

        Returns:
            When the candle opens, Unix milliseconds.

        Raises:
            Rejected: The symbol is unknown or does not trade.
        """
        chosen = self.live(now) if symbol is None else [self.trading(symbol, now)]
        candle = now // QUARTER_MS + 1
        for tape in chosen:
            if tape.rules.contract_type == "PERPETUAL":
                self._shockable.shock(tape.number, candle, factor)
        self._caches.clear()
        return candle * QUARTER_MS

    def liquidations(self, since: int, until: int) -> list[Liquidation]:
        """Forced orders in (since, until], oldest first."""
        told = [item for item in self.injected if since < item.time_ms <= until]
        if self.recorded is not None:
            told += [item for item in self.recorded if since < item.time_ms <= until]
        else:
            told += self._synthesised(since, until)
        return sorted(told, key=lambda item: item.time_ms)

    def _synthesised(self, since: int, until: int) -> list[Liquidation]:
        out: list[Liquidation] = []
        for number in range(since // QUARTER_MS, until // QUARTER_MS + 1):
            for tape in self.live(number * QUARTER_MS):
                if tape.end is None or number < tape.end:
                    out += [item for item in self._of_candle(tape, number) if since < item.time_ms <= until]
        return out

    def _of_candle(self, tape: Tape, number: int) -> list[Liquidation]:
        return self._forced.get(
            (tape.rules.symbol, number), lambda: [worded(tape, order) for order in forced_orders(tape, number)]
        )


def worded(tape: Tape, order: ForcedOrder) -> Liquidation:
    """A synthesised order in the exchange's words."""
    tick, step = float(tape.rules.tick), float(tape.rules.step)
    quantity = f"{order.quantity * step:.{tape.rules.quantity_decimals}f}"
    decimals = tape.rules.price_decimals
    wire = {
        "s": tape.rules.symbol,
        "S": order.side,
        "o": "LIMIT",
        "f": "IOC",
        "q": quantity,
        "p": f"{order.price * tick:.{decimals}f}",
        "ap": f"{order.average * tick:.{decimals}f}",
        "X": "FILLED",
        "l": quantity,
        "z": quantity,
        "T": order.time_ms,
    }
    notional = order.quantity * order.average * tape.unit
    return Liquidation(time_ms=order.time_ms, symbol=tape.rules.symbol, notional=notional, order=wire, synthetic=True)


def of_wire(events: Sequence[dict[str, Any]]) -> list[Liquidation]:
    """Recorded forceOrder events, oldest first."""
    told = [
        Liquidation(
            time_ms=int(event["o"]["T"]),
            symbol=event["o"]["s"],
            notional=float(event["o"]["q"]) * float(event["o"]["ap"]),
            order=event["o"],
            synthetic=False,
        )
        for event in events
    ]
    return sorted(told, key=lambda item: item.time_ms)


def largest_each(told: Sequence[Liquidation]) -> list[Liquidation]:
    """The largest of each symbol: all that the stream shows of one second."""
    by_symbol: dict[str, list[Liquidation]] = defaultdict(list)
    for item in told:
        by_symbol[item.symbol].append(item)
    chosen = [max(items, key=lambda item: item.notional) for items in by_symbol.values()]
    return sorted(chosen, key=lambda item: item.time_ms)


def first_ripe_ms(source: CandleSource) -> int:
    """The first moment at which most symbols have history enough for every indicator."""
    ripe = sorted(_ripe(source, number) for number in range(len(source.rules)))
    return ripe[len(ripe) // 2]


def _ripe(source: CandleSource, number: int) -> int:
    first = source.span(number)[0] * QUARTER_MS
    coarse = source.coarse(number)
    oldest = -(-first // FOUR_HOURS_MS) * FOUR_HOURS_MS if coarse is None else min(first, int(coarse.opened_ms[0]))
    return max(first + NEEDED_QUARTERS * QUARTER_MS, oldest + NEEDED_FOUR_HOURS * FOUR_HOURS_MS)
