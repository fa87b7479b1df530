"""What the detector said of the recorded sessions of forced orders, and what the price did next, as it is.

Every recorded event goes through the engine's own decoder. The price is that of the fills (`ap`), as marks were not recorded with them; what came
next is read from the recorded candles where they reach (15m in June 2025, 4h in January 2025), else from later fills of the same symbol, which are
there only because somebody was forced again: a biased look, and said so in the table.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import polars as pl

from engine.core.cascade import WINDOW_MS, Step, cascade_of
from engine.core.market import ForcedOrder, Mark, Ticker
from engine.streams import deliver
from shared.analysis import CascadeState
from tests.skill.scoring import REST_MS

BREAK_MS: Final = 1_800_000
"""Two events further apart belong to two sessions: nobody listened in between."""

SOON_MS, LATE_MS = 300_000, 900_000
"""A later fill counts as what came next where it lies this far behind the flag."""

FLAGGED: Final = (CascadeState.BUILDING, CascadeState.RUNNING, CascadeState.EXHAUSTED)

FILES: Final = {"15m": ("candles_15m_60.parquet", 900_000), "4h": ("candles_4h_60.parquet", 14_400_000)}


class Event(msgspec.Struct, frozen=True):
    """One forced order, and at which price it was filled."""

    order: ForcedOrder
    filled: float


class Flag(msgspec.Struct, frozen=True):
    """A state that a symbol's cascade entered; `sign` is where it pushes, `next_ratio` by which look what came next in that direction."""

    session: int
    symbol: str
    at_ms: int
    state: CascadeState
    sign: int
    price: float
    next_ratio: dict[str, float]


class Session(msgspec.Struct, frozen=True):
    """Recorded without a break."""

    begins_ms: int
    ends_ms: int
    events: int
    symbols: int


class _Ear:
    """Takes what the engine's decoder makes of a frame."""

    def __init__(self) -> None:
        self.orders: list[ForcedOrder] = []

    def take_tickers(self, tickers: list[Ticker]) -> None:
        """Not recorded here."""

    def take_marks(self, marks: list[Mark]) -> None:
        """Not recorded here."""

    def take_liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        self.orders.append(order)

    def connection(self, up: bool) -> None:
        """There is none."""


class Candles:
    """Recorded closes of a timeframe, by symbol."""

    def __init__(self, path: Path, length_ms: int) -> None:
        rows = pl.read_parquet(path, columns=["symbol", "open_time", "close"])
        self.length_ms = length_ms
        self._closes = {(symbol, opened): close for symbol, opened, close in rows.iter_rows()}

    def close_after(self, symbol: str, at_ms: int, whole: int) -> float | None:
        """The close of the candle that holds a moment and `whole` more; None where it was not recorded."""
        opened = at_ms // self.length_ms * self.length_ms
        return self._closes.get((symbol, opened + whole * self.length_ms))


def read_events(path: Path) -> list[Event]:
    """The recorded events, oldest first."""
    ear = _Ear()
    fills: list[float] = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            heard = len(ear.orders)
            deliver(json.dumps({"stream": "!forceOrder@arr", "data": event}), ear, 0)
            if len(ear.orders) > heard:
                fills.append(float(event["o"]["ap"]))
    events = [Event(order, filled) for order, filled in zip(ear.orders, fills, strict=True)]
    return sorted(events, key=lambda event: event.order.at_ms)


def sessions_of(events: Sequence[Event]) -> list[list[Event]]:
    """Parted where nobody listened, without what cannot be: a fill at more than twice, or less than half, its symbol's median price."""
    usual: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        usual[event.order.symbol, _date(event)].append(event.filled)
    middle = {key: median(fills) for key, fills in usual.items()}
    out: list[list[Event]] = []
    for event in events:
        if not 0.5 < event.filled / middle[event.order.symbol, _date(event)] < 2:
            continue
        if not out or event.order.at_ms - out[-1][-1].order.at_ms > BREAK_MS:
            out.append([])
        out[-1].append(event)
    return out


def _date(event: Event) -> str:
    return day_of(event.order.at_ms)[:10]


def told(session: Sequence[Event]) -> Session:
    """How long it was and of whom."""
    symbols = {event.order.symbol for event in session}
    return Session(session[0].order.at_ms, session[-1].order.at_ms, len(session), len(symbols))


def flags_of(number: int, session: Sequence[Event], candles: dict[str, Candles]) -> Iterator[Flag]:
    """The first time in half an hour that a symbol's cascade enters each state, judged at each of its forced orders, and a minute after it."""
    own: dict[str, list[Event]] = defaultdict(list)
    for event in session:
        own[event.order.symbol].append(event)
    ends_ms = session[-1].order.at_ms
    for symbol, events in own.items():
        last: dict[tuple[CascadeState, int], int] = {}
        times = sorted(
            {at_ms for event in events for at_ms in (event.order.at_ms, event.order.at_ms + 61_000) if at_ms <= ends_ms}
        )
        for now_ms in times:
            known = [event for event in events if now_ms - WINDOW_MS <= event.order.at_ms <= now_ms]
            path: list[Step] = [(event.order.at_ms, event.filled) for event in known]
            found = cascade_of([event.order for event in known], path, now_ms)
            if found.side is None or found.state not in FLAGGED:
                continue
            key = (found.state, -found.side.sign)
            if key in last and now_ms - last[key] < REST_MS:
                continue
            last[key] = now_ms
            flag = Flag(number, symbol, now_ms, found.state, -found.side.sign, known[-1].filled, {})
            yield msgspec.structs.replace(flag, next_ratio=_next(flag, events, candles))


def _next(flag: Flag, events: Sequence[Event], candles: dict[str, Candles]) -> dict[str, float]:
    """How far the price went on in the direction of the push, by each look that there is."""
    looks = {
        "15m candle, 15 to 30 min on": candles["15m"].close_after(flag.symbol, flag.at_ms, 1),
        "15m candle, 60 to 75 min on": candles["15m"].close_after(flag.symbol, flag.at_ms, 4),
        "4h candle, 4 to 8 h on": candles["4h"].close_after(flag.symbol, flag.at_ms, 1),
        "fill, 5 to 15 min on": next(
            (event.filled for event in events if SOON_MS <= event.order.at_ms - flag.at_ms <= LATE_MS), None
        ),
    }
    return {name: flag.sign * (price / flag.price - 1) for name, price in looks.items() if price is not None}


def day_of(ms: int) -> str:
    """A moment as it is printed."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
