"""Mark prices as trading asks for them: every price has an age, and past a few seconds nothing is decided on it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from orchestrator.errors import EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Engine
from shared.analysis import SymbolMarks

MAX_AGE_MS: Final = 5000
"""Wall milliseconds since receipt."""

HIGHEST_FUNDING_RATIO: Final = Decimal("0.1")
"""Of notional, a settlement: no cap of the exchange is above 0.03. Source: Binance, fundingInfo `adjustedFundingRateCap` (2026-09)."""


def is_fresh(marks: SymbolMarks) -> bool:
    """Whether something may be decided on it."""
    return marks.age_ms <= MAX_AGE_MS


def is_sane(marks: SymbolMarks) -> bool:
    """Whether every number in it is one that a market can give: a price of zero would touch every stop there is."""
    prices = [marks.mark, *(price for bar in marks.bars for price in (bar.open, bar.high, bar.low))]
    rates = [event.rate for event in marks.funding]
    prices += [event.mark for event in marks.funding]
    return all(price.is_finite() and price > 0 for price in prices) and all(
        rate.is_finite() and abs(rate) <= HIGHEST_FUNDING_RATIO for rate in rates
    )


async def fresh_marks(engine: Engine, symbols: Iterable[str], now: datetime) -> dict[str, Decimal]:
    """The fresh mark prices of some symbols; those without one are absent, all of them where the engine does not answer."""
    wanted = dict.fromkeys(symbols, now)
    if not wanted:
        return {}
    try:
        reply = await engine.marks(wanted)
    except EngineUnavailable as unavailable:
        logger().warning("no mark prices", error=str(unavailable))
        return {}
    return {symbol: marks.mark for symbol, marks in reply.marks.items() if is_fresh(marks) and is_sane(marks)}


def rounds[T](looks: Sequence[tuple[str, datetime, T]]) -> list[tuple[Mapping[str, datetime], list[T]]]:
    """Groups looks at symbols into as few questions as ask each symbol from one moment only.

    Bars that straddle a look's own moment would show prices from before it; asked from exactly there, none does.

    Args:
        looks: Symbol, moment from which its bars are wanted, and whatever wants them.
    """
    groups: dict[str, dict[datetime, list[T]]] = {}
    for symbol, since, one in looks:
        groups.setdefault(symbol, {}).setdefault(since, []).append(one)
    asked: list[tuple[dict[str, datetime], list[T]]] = []
    for symbol, moments in groups.items():
        for number, since in enumerate(sorted(moments)):
            if number == len(asked):
                asked.append(({}, []))
            asked[number][0][symbol] = since
            asked[number][1].extend(moments[since])
    return [(since, wanting) for since, wanting in asked]
