"""The door to recordings: Parquet candles and JSON lines of forced orders, or the folder that the engine's recorder writes."""

import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import polars as pl

from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.market import Liquidation, Market, first_ripe_ms, of_wire
from deploy.sandbox.core.path import TICK_MS
from deploy.sandbox.core.recorded import Heard, RecordedMarket
from deploy.sandbox.core.source import CandleSource
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, SyntheticMarket
from deploy.sandbox.options import SandboxOptions

GZIP_MAGIC = b"\x1f\x8b"
DAY_SECONDS = 86_400
DAY_LETTERS = len("2025-09-22")
"""With which the name of a recorder's file begins."""

type Kind = Literal["candles_15m", "candles_4h", "marks", "book_tops", "force_orders"]
_CANDLE = {"symbol": pl.String, "open_time": pl.Int64, **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64)}
_COLUMNS: dict[Kind, Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "candles_15m": _CANDLE,
    "candles_4h": _CANDLE,
    "marks": {"time": pl.Int64, "symbol": pl.String, "mark": pl.Float64, "funding_rate": pl.Float64, "next_funding": pl.Int64},
    "book_tops": {
        "time": pl.Int64, "symbol": pl.String, "bid": pl.Float64, "bid_quantity": pl.Float64, "ask": pl.Float64, "ask_quantity": pl.Float64,
    },
    "force_orders": {
        "time": pl.Int64, "symbol": pl.String, "side": pl.String, "price": pl.Float64, "quantity": pl.Float64, "fill_price": pl.Float64,
    },
}  # fmt: skip
"""What is read of each kind of a recording; null where none was written."""

_CLOSED_BY = {"LONG": "SELL", "SHORT": "BUY"}
"""The side of the order that closes a position."""


def open_market(options: SandboxOptions) -> tuple[Market, int]:
    """The market of some options, and where its market time begins, Unix milliseconds."""
    recorded = _liquidations(options)
    source: CandleSource
    if options.market is None:
        start = DEFAULT_START_MS if options.start_ms is None else options.start_ms
        source = SyntheticMarket(options.seed, start)
    else:
        source = read_market(options.market, options.history, options.start_ms)
        start = first_ripe_ms(source) if options.start_ms is None else options.start_ms
    return Market(source, options.seed, start, recorded), start


def default_start(market: Path | None, history: Path | None) -> int:
    """The first moment at which most symbols have history enough for every indicator, Unix milliseconds."""
    return DEFAULT_START_MS if market is None else first_ripe_ms(RecordedMarket(*_candles(market, history)))


def read_market(market: Path, history: Path | None, start_ms: int | None = None) -> RecordedMarket:
    """Recorded candles, with older ones where a file of them is given.

    Of a recorder's folder its marks are the path inside them, and its book tops the best of their books.

    Args:
        market: 15m candles, or a recorder's folder.
        history: Older 4h candles, a folder's own by default.
        start_ms: Where market time begins: marks and tops of days that ended more than a day before are not read.
    """
    candles = _candles(market, history)
    if not market.is_dir():
        return RecordedMarket(*candles)
    marks, tops = (_files(market, kind, start_ms) for kind in ("marks", "book_tops"))
    return RecordedMarket(*candles, Heard(_marks(marks), _fundings(marks), _tops(tops)))


def _candles(market: Path, history: Path | None) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """15m and 4h."""
    older = None if history is None else pl.read_parquet(history)
    if not market.is_dir():
        return pl.read_parquet(market), older
    quarters, four_hours = _of_kind(market, "candles_15m"), _of_kind(market, "candles_4h") if older is None else older
    return _unbroken(quarters, QUARTER_MS), _unbroken(four_hours, 16 * QUARTER_MS)


def read_liquidations(path: Path) -> Sequence[Liquidation]:
    """Recorded forced orders, oldest first."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    return of_wire([msgspec.json.decode(line) for line in text.splitlines() if line.strip()])


def _liquidations(options: SandboxOptions) -> Sequence[Liquidation] | None:
    if options.liquidations is not None:
        return read_liquidations(options.liquidations)
    if options.market is None or not options.market.is_dir():
        return None
    rows = _of_kind(options.market, "force_orders").sort("time")
    return of_wire([{"o": _worded(row)} for row in rows.iter_rows(named=True)])


def _worded(row: dict[str, Any]) -> dict[str, object]:
    """A recorded forced order in the exchange's words; where it is not known what it was filled at, its own price."""
    told = row["price"], row["price"] if row["fill_price"] is None else row["fill_price"], row["quantity"]
    price, average, quantity = (np.format_float_positional(value, trim="-") for value in told)
    words = {"s": row["symbol"], "S": _CLOSED_BY[row["side"]], "o": "LIMIT", "f": "IOC", "X": "FILLED"}
    return {**words, "q": quantity, "p": price, "ap": average, "l": quantity, "z": quantity, "T": row["time"]}


def _of_kind(folder: Path, kind: Kind) -> pl.DataFrame:
    """All rows of a kind, each once: a recorder that died may have left a part beside the day that it went into."""
    return _scan(_files(folder, kind), kind).unique(maintain_order=True).collect()


def _files(folder: Path, kind: Kind, start_ms: int | None = None) -> list[Path]:
    """A kind's files, day after day, from the day before a moment on."""
    first = "" if start_ms is None else datetime.fromtimestamp(start_ms / 1000 - DAY_SECONDS, UTC).strftime("%Y-%m-%d")
    return sorted(file for file in (folder / kind).glob("*.parquet") if file.name >= first)


def _scan(files: Sequence[Path], kind: Kind) -> pl.LazyFrame:
    schema = _COLUMNS[kind]
    if not files:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(list(files), schema=schema, missing_columns="insert", extra_columns="ignore")


def _marks(files: Sequence[Path]) -> pl.DataFrame:
    """The last mark of every tick."""
    return _last_of_ticks(files, "marks", pl.col("mark"))


def _fundings(files: Sequence[Path]) -> pl.DataFrame:
    """The last rate that was told ahead of each funding; 0 is no time: the exchange tells it of contracts without funding."""
    rows = _scan(files, "marks").filter(pl.col("next_funding") > 0).group_by("symbol", "next_funding")
    return rows.agg(pl.col("funding_rate").sort_by("time").last()).collect()


def _tops(files: Sequence[Path]) -> pl.DataFrame:
    """The last spread of every tick, with what rested on either side of it."""
    spread = (pl.col("ask") - pl.col("bid")).alias("spread")
    return _last_of_ticks(files, "book_tops", spread, pl.col("bid_quantity"), pl.col("ask_quantity"))


def _last_of_ticks(files: Sequence[Path], kind: Kind, *columns: pl.Expr) -> pl.DataFrame:
    """Day by day, since a day of the whole market is fifty million marks; no tick lies in two of them."""
    days = [list(day) for _, day in groupby(files, lambda file: file.name[:DAY_LETTERS])]
    return pl.concat(_last_of_day(_scan(day, kind), columns) for day in days or [[]])


def _last_of_day(rows: pl.LazyFrame, columns: Sequence[pl.Expr]) -> pl.DataFrame:
    compact = rows.with_columns(pl.col("symbol").cast(pl.Categorical), tick=pl.col("time") // TICK_MS)
    ticks = compact.group_by("symbol", "tick").agg(column.max_by("time") for column in columns)
    return ticks.sort("tick").collect(engine="streaming")


def _unbroken(candles: pl.DataFrame, length_ms: int) -> pl.DataFrame:
    """Of each symbol what follows its last gap."""
    opened = pl.col("open_time")
    gap = (opened.diff() != length_ms).fill_null(value=False).over("symbol")
    rows = candles.unique(["symbol", "open_time"], keep="last").sort("symbol", "open_time").with_columns(gap=gap)
    after = rows.with_columns(run=pl.col("gap").cum_sum().over("symbol"))
    return after.filter(pl.col("run") == pl.col("run").max().over("symbol")).drop("gap", "run")
