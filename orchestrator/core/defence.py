"""The defence's first two layers over signals, before anybody's money is looked at: once a batch, and not again soon.

The third layer, an active position or claim, is a user's own and its last word is the primary key of `claims`.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final, Protocol

from orchestrator.core.order import Refusal, RefusalReason
from shared.enums import Side

RECENT: Final = timedelta(minutes=60)
"""Market time in which the same symbol and side is not signalled again: four candles of the deciding timeframe."""


class Sided(Protocol):
    """Whatever names a symbol and a side."""

    @property
    def symbol(self) -> str:
        """As the exchange spells it."""
        ...

    @property
    def side(self) -> Side:
        """Of the position that it wants."""
        ...


def distinct[S: Sided](batch: Sequence[S]) -> tuple[list[S], list[tuple[S, Refusal]]]:
    """The first signal of each symbol, and the others with the reason; what is kept is kept again."""
    seen: set[str] = set()
    kept: list[S] = []
    refused: list[tuple[S, Refusal]] = []
    for signal in batch:
        if signal.symbol in seen:
            detail = f"another signal of the same scan is for {signal.symbol}"
            refused.append((signal, Refusal(reason=RefusalReason.DUPLICATE_IN_BATCH, detail=detail)))
            continue
        seen.add(signal.symbol)
        kept.append(signal)
    return kept, refused


def not_recent[S: Sided](batch: Sequence[S], recent: Iterable[Sided]) -> tuple[list[S], list[tuple[S, Refusal]]]:
    """The signals whose symbol and side was not signalled within RECENT, and the others with the reason.

    Args:
        batch: Distinct by symbol.
        recent: Signals of other scans in that window that were not themselves refused as recent, else a lasting signal would
            silence itself for ever.
    """
    spoken = {(signal.symbol, signal.side) for signal in recent}
    kept = [signal for signal in batch if (signal.symbol, signal.side) not in spoken]
    refused = [
        (
            signal,
            Refusal(reason=RefusalReason.RECENT_SIGNAL, detail=f"{signal.symbol} {signal.side} was signalled within the hour"),
        )
        for signal in batch
        if (signal.symbol, signal.side) in spoken
    ]
    return kept, refused
