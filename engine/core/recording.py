"""What a recording of the streams looks like: its kinds, their columns, the names of its files, and which of them go when the disk budget is spent.

Stands beside the arrow: nothing decides by it. The exchange withdrew its history of forced orders and never had one of marks and book tops, so
whoever wants to look back must have written them down. Candles are written too, so that a recording can be replayed without any other source.

A day of one kind is one Parquet file in the end. Until it is over it is parts, each whole when it appears; a part's name says when it was written
and by whom.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
import polars as pl

from engine.core.market import BookTop, Candles, ForcedOrder, Mark, Timeframe

DAY_MS: Final = 86_400_000


class Kind(StrEnum):
    """A folder of the recording each."""

    FORCED_ORDERS = "force_orders"
    MARKS = "marks"
    BOOK_TOPS = "book_tops"
    CANDLES_15M = "candles_15m"
    CANDLES_4H = "candles_4h"


CANDLES: Final = frozenset({Kind.CANDLES_15M, Kind.CANDLES_4H})
HISTORY: Final = timedelta(days=90)
"""What a replay needs before its first day: 498 candles of 4h, with which a feed begins, are 83 days."""

TIME: Final = {
    Kind.FORCED_ORDERS: "time", Kind.MARKS: "time", Kind.BOOK_TOPS: "time", Kind.CANDLES_15M: "open_time", Kind.CANDLES_4H: "open_time",
}  # fmt: skip
"""The column of exchange milliseconds, by which a row belongs to its UTC day of market time."""

_CANDLE: Final = {
    "symbol": pl.String,
    "open_time": pl.Int64,
    **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64),
}
COLUMNS: Final = {
    Kind.FORCED_ORDERS: {
        "time": pl.Int64, "symbol": pl.String, "side": pl.String, "price": pl.Float64, "quantity": pl.Float64,
        "fill_price": pl.Float64,
    },
    Kind.MARKS: {
        "time": pl.Int64, "symbol": pl.String, "mark": pl.Float64, "funding_rate": pl.Float64, "next_funding": pl.Int64,
    },
    Kind.BOOK_TOPS: {
        "time": pl.Int64, "symbol": pl.String, "bid": pl.Float64, "bid_quantity": pl.Float64, "ask": pl.Float64, "ask_quantity": pl.Float64,
    },
    Kind.CANDLES_15M: _CANDLE,
    Kind.CANDLES_4H: _CANDLE,
}  # fmt: skip
"""Prices in USDT, quantities in base asset, `side` LONG or SHORT: the position that was liquidated; `fill_price` is its average, null
where it was not told, and older files have no such column. The exchange's prices have at most 15
digits, which a float keeps."""


def forced_rows(orders: Iterable[ForcedOrder]) -> list[tuple[object, ...]]:
    """Rows of FORCED_ORDERS."""
    return [
        (order.at_ms, order.symbol, str(order.side), float(order.price), float(order.quantity), _known(order.fill_price))
        for order in orders
    ]


def _known(price: Decimal | None) -> float | None:
    return None if price is None else float(price)


def mark_rows(marks: Iterable[Mark]) -> list[tuple[object, ...]]:
    """Rows of MARKS."""
    return [(mark.at_ms, mark.symbol, float(mark.price), float(mark.funding_rate), mark.next_funding_ms) for mark in marks]


def top_rows(tops: Iterable[BookTop]) -> list[tuple[object, ...]]:
    """Rows of BOOK_TOPS."""
    return [(top.at_ms, top.symbol, top.bid, top.bid_quantity, top.ask, top.ask_quantity) for top in tops]


def candle_rows(candles: Candles) -> list[tuple[object, ...]]:
    """Rows of CANDLES_15M or CANDLES_4H."""
    columns = (candles.open_ms, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return [(candles.symbol, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def days_of(kind: Kind, rows: Sequence[tuple[object, ...]]) -> dict[str, pl.DataFrame]:
    """Rows by their UTC day of market time, in the order of symbol and time, each once: that is how they are read and how they pack best."""
    frame = pl.DataFrame(rows, schema=COLUMNS[kind], orient="row").unique().sort("symbol", TIME[kind])
    parted = frame.with_columns(day=pl.col(TIME[kind]) // DAY_MS).partition_by("day", as_dict=True, include_key=False)
    return {day_name(int(str(day)) * DAY_MS): part for (day,), part in parted.items()}


def day_name(now_ms: int) -> str:
    """The UTC day of a moment of market time, as files are named."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the recording; `part` is empty for the file of a whole day."""

    kind: Kind
    day: str
    part: str
    size: int

    @property
    def name(self) -> str:
        """Below the recording's folder."""
        return f"{self.kind}/{self.day}{'.' if self.part else ''}{self.part}.parquet"


def kept_of(kind: Kind, name: str, size: int) -> Kept | None:
    """What a file's name says, None where it is none of ours."""
    stem, dot, ending = name.rpartition(".")
    day, _, part = stem.partition(".")
    try:
        datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Kept(kind=kind, day=day, part=part, size=size) if dot and ending == "parquet" else None


def over_budget(files: Iterable[Kept], budget: int) -> list[Kept]:
    """What must go so that the rest fits: the oldest days first, of a day its parts before its whole file.

    Candles stay until whatever else is left is more than HISTORY younger: without them nothing of the rest could be replayed.

    Args:
        files: All of the recording.
        budget: Bytes.
    """
    room, going = budget, []
    for file in sorted(files, key=_worth, reverse=True):
        room -= file.size
        if room < 0:
            going.append(file)
    return going[::-1]


def _worth(file: Kept) -> tuple[date, bool, bool, str, Kind]:
    """The greater, the longer it is kept: candles count as so much younger as they are needed longer."""
    day, history = date.fromisoformat(file.day), file.kind in CANDLES
    return (day + HISTORY if history else day), history, not file.part, file.part, file.kind


def ended(files: Iterable[Kept], today: str) -> dict[tuple[Kind, str], list[Kept]]:
    """Days that are over and still lie in parts: their parts and, where there is one already, their whole file."""
    days: dict[tuple[Kind, str], list[Kept]] = {}
    for file in sorted(files, key=lambda file: file.part):
        if file.day < today:
            days.setdefault((file.kind, file.day), []).append(file)
    return {day: found for day, found in days.items() if any(file.part for file in found)}


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """A history with holes: they are gone once its newest `count` closed candles are written down."""

    symbol: str
    timeframe: Timeframe
    count: int


def lacking(held: pl.DataFrame, symbols: Iterable[str], timeframe: Timeframe, now_ms: int, most: int) -> list[Lack]:
    """The histories that are not whole among their newest candles that closed by now.

    Args:
        held: symbol and open_time of what is written down, in any order, perhaps twice.
        symbols: Who should have a history.
        timeframe: Of the candles.
        now_ms: Market time.
        most: So many candles back is looked; one listed later lacks those before.
    """
    newest = now_ms - now_ms % timeframe.ms - timeframe.ms
    ages = held.with_columns(age=(newest - pl.col("open_time")) // timeframe.ms).partition_by("symbol", as_dict=True)
    oldest = {
        symbol: int(holes[-1])
        for symbol in symbols
        for rows in [ages.get((symbol,))]
        for holes in [np.setdiff1d(np.arange(most), [] if rows is None else rows["age"].to_numpy())]
        if len(holes)
    }
    return [Lack(symbol=symbol, timeframe=timeframe, count=age + 1) for symbol, age in oldest.items()]
