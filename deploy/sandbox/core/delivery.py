"""The quarterly future: a contract that follows BTCUSDT at a premium until it is delivered, added to any source that has BTCUSDT."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from deploy.sandbox.core.intervals import DAY_MS
from deploy.sandbox.core.path import HIGH, LOW, UNHEARD, UNRECORDED, Floats, Ints
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.source import CandleSource, Coarse, Fundings, Top

PREMIUM = 1.0063
"""Price over the perpetual's, a usual quarter's carry."""
SHARE = 40
"""The perpetual trades this many times as much."""
QUARTER_LAST_MONTHS = (3, 6, 9, 12)
DELIVERY_HOUR = 8


class WithQuarterly:
    """A source and its current-quarter future.

    Args:
        source: Any; without BTCUSDT nothing is added.
        start_ms: Market time at which the contract is chosen: the first delivery more than a week away.
    """

    def __init__(self, source: CandleSource, start_ms: int) -> None:
        self._source = source
        self.ends_ms = source.ends_ms
        self.rules = list(source.rules)
        self._perpetual = next((n for n, rules in enumerate(source.rules) if rules.symbol == "BTCUSDT"), None)
        if self._perpetual is not None:
            self.rules.append(quarterly(source.rules[self._perpetual], start_ms))

    def span(self, number: int) -> tuple[int, int | None]:
        """The perpetual's span for the future."""
        return self._source.span(self._original(number))

    def candles(self, number: int, start: int, end: int) -> Ints:
        """The perpetual's candles at a premium for the future: rounding keeps their order."""
        original = self._original(number)
        candles = self._source.candles(original, start, end)
        return candles if original == number else _carried(candles)

    def paths(self, number: int, start: int, end: int) -> Ints:
        """The source's; none of the future, whose prices are not the perpetual's."""
        return self._source.paths(number, start, end) if self._original(number) == number else UNRECORDED

    def marks(self, number: int, start: int, end: int) -> Floats:
        """The source's; none of the future."""
        return self._source.marks(number, start, end) if self._original(number) == number else UNHEARD

    def fundings(self, number: int) -> Fundings | None:
        """The source's; the future has none."""
        return self._source.fundings(number) if self._original(number) == number else None

    def top(self, number: int, tick: int) -> Top | None:
        """The source's; none of the future, whose book nobody recorded."""
        return self._source.top(number, tick) if self._original(number) == number else None

    def coarse(self, number: int) -> Coarse | None:
        """Older candles; the future has none."""
        return self._source.coarse(number) if self._original(number) == number else None

    def _original(self, number: int) -> int:
        if number < len(self._source.rules) or self._perpetual is None:
            return number
        return self._perpetual


def quarterly(perpetual: SymbolRules, start_ms: int) -> SymbolRules:
    """The rules of the current-quarter future."""
    delivery = delivery_ms(start_ms)
    date = datetime.fromtimestamp(delivery / 1000, UTC)
    return msgspec.structs.replace(
        perpetual,
        symbol=f"{perpetual.symbol}_{date:%y%m%d}",
        contract_type="CURRENT_QUARTER",
        delivery_ms=delivery,
        onboard_ms=delivery - 182 * DAY_MS,
        max_quantity="500",
        max_market_quantity="50",
    )


def delivery_ms(start_ms: int) -> int:
    """The last Friday of a quarter, 08:00 UTC, that is more than a week after a moment."""
    moment = datetime.fromtimestamp(start_ms / 1000, UTC)
    for months in range(moment.month - 1, moment.month + 12):
        if months % 12 + 1 not in QUARTER_LAST_MONTHS:
            continue
        after = datetime(moment.year + (months + 1) // 12, (months + 1) % 12 + 1, 1, DELIVERY_HOUR, tzinfo=UTC)
        friday = after - timedelta(days=(after.weekday() - 4 - 1) % 7 + 1)
        if friday - moment > timedelta(days=7):
            return int(friday.timestamp() * 1000)
    raise ValueError("a year has four quarters")


def _carried(candles: Ints) -> Ints:
    out: Ints = np.rint(candles * PREMIUM).astype(np.int64)
    out[4] = candles[4] // SHARE + 8
    out[HIGH] = np.maximum(out[HIGH], out[:4].max(axis=0))
    out[LOW] = np.minimum(out[LOW], out[:4].min(axis=0))
    return out
