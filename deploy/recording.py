"""The market at a moment of a recording, as the engine would have read it: 24 h tickers and closed candles.

A recording has no tickers: they are made from its candles of the 24 hours before the newest close. What follows a hole in a symbol's candles
counts, what came before it does not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl

from deploy.errors import DeployError
from engine.core.features import WIDTH
from engine.core.market import Candles, Ticker, Timeframe, at
from engine.core.recording import Kind

DAY: Final = 96
"""Candles of 15m."""

QUARTERS: Final = Timeframe.H4.ms // Timeframe.M15.ms
FIGURES: Final = ("open", "high", "low", "close", "volume")


class RecordedMoment(msgspec.Struct, frozen=True, kw_only=True):
    """What was known at `now_ms`: nothing here saw a candle that had not closed by then. Each frame is sorted by symbol and time."""

    now_ms: int
    tickers: Mapping[str, Ticker]
    quarters: pl.DataFrame
    four_hours: pl.DataFrame

    @property
    def universe(self) -> Sequence[str]:
        """The symbols that traded in the 24 hours before, by name."""
        return sorted(self.tickers)

    def candles(self, symbols: Sequence[str]) -> list[tuple[Candles, Candles]]:
        """The 15m and 4h candles of each symbol, in order."""
        quarter, four_hour = (
            frame.filter(pl.col("symbol").is_in(symbols)).partition_by("symbol", as_dict=True)
            for frame in (self.quarters, self.four_hours)
        )
        return [
            (
                _candles(symbol, Timeframe.M15, quarter.get((symbol,), self.quarters.clear())),
                _candles(symbol, Timeframe.H4, four_hour.get((symbol,), self.four_hours.clear())),
            )
            for symbol in symbols
        ]


def recorded_moment(market: Path, history: Path | None, now_ms: int | None) -> RecordedMoment:
    """The market of a recording at a moment of market time.

    Args:
        market: 15m candles, Parquet: symbol, open_time (Unix ms), open, high, low, close, volume; or a recorder's folder.
        history: Older 4h candles of the same columns, a folder's own by default; what it lacks is put together from the 15m ones.
        now_ms: The moment; None for the recording's end.

    Raises:
        DeployError: A file cannot be read or holds other candles, a folder holds none, or the moment lies outside the recording.
    """
    market, history = _candles_in(market, history)
    try:
        now_ms = _moment(market, now_ms)
        needed = (WIDTH + 1) * QUARTERS
        recent = _closed(market, Timeframe.M15, now_ms, needed)
        older = None if history is None else _closed(history, Timeframe.H4, now_ms, WIDTH)
    except (pl.exceptions.PolarsError, OSError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeployError(f"the recording cannot be read: {words}") from error
    return RecordedMoment(
        now_ms=now_ms,
        tickers=_tickers(_newest(recent, Timeframe.M15, now_ms, DAY), now_ms),
        quarters=_newest(recent, Timeframe.M15, now_ms, WIDTH),
        four_hours=_newest(_four_hours(recent, older), Timeframe.H4, now_ms, WIDTH),
    )


def _candles_in(market: Path, history: Path | None) -> tuple[Path, Path | None]:
    """Files as they are; of a recorder's folder those of its kinds that hold candles."""
    if not market.is_dir():
        return market, history
    quarters, older = market / Kind.CANDLES_15M, market / Kind.CANDLES_4H
    if not _parquet(quarters):
        raise DeployError(f"{market} is no recording: there is nothing in its {Kind.CANDLES_15M}")
    return quarters, older if history is None and _parquet(older) else history


def _parquet(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _moment(market: Path, now_ms: int | None) -> int:
    """The moment asked for, where the recording has it: from the close of its first candle to that of its last."""
    opened = pl.col("open_time")
    span = _scan(market).select(opened.min().alias("first"), opened.max().alias("last")).collect()
    first, last = span["first"].item(), span["last"].item()
    if first is None:
        raise DeployError(f"{market} holds no candle")
    first, last = first + Timeframe.M15.ms, last + Timeframe.M15.ms
    if now_ms is not None and not first <= now_ms <= last:
        span_told = f"{at(first).isoformat()} to {at(last).isoformat()}"
        raise DeployError(f"{at(now_ms).isoformat()} is outside the recording: {market} goes from {span_told}")
    return last if now_ms is None else now_ms


def _scan(file: Path) -> pl.LazyFrame:
    frame = pl.scan_parquet(_parquet(file) if file.is_dir() else file)
    schema = frame.collect_schema()
    missing = [name for name in ("symbol", "open_time", *FIGURES) if name not in schema]
    if missing:
        raise DeployError(f"{file} has no column {', '.join(missing)}")
    if not schema["open_time"].is_integer():
        raise DeployError(f"{file}: open_time must be whole milliseconds")
    return frame.select(
        pl.col("symbol").cast(pl.String), pl.col("open_time").cast(pl.Int64), *(pl.col(name).cast(pl.Float64) for name in FIGURES)
    )


def _closed(file: Path, timeframe: Timeframe, now_ms: int, count: int) -> pl.DataFrame:
    """At most `count` candles of each symbol that had closed by a moment."""
    end = now_ms - now_ms % timeframe.ms
    rows = _scan(file).filter(pl.col("open_time").is_between(end - count * timeframe.ms, end - timeframe.ms)).collect()
    rows = rows.unique(["symbol", "open_time"], keep="first").sort("symbol", "open_time")
    steps = rows.select((pl.col("open_time").diff().over("symbol")).drop_nulls()).to_series()
    if (rows["open_time"] % timeframe.ms != 0).any() or (len(steps) and timeframe.ms not in steps):
        raise DeployError(f"{file} does not hold {timeframe} candles")
    return rows


def _newest(rows: pl.DataFrame, timeframe: Timeframe, now_ms: int, count: int) -> pl.DataFrame:
    return rows.filter(pl.col("open_time") >= now_ms - now_ms % timeframe.ms - count * timeframe.ms)


def _four_hours(recent: pl.DataFrame, older: pl.DataFrame | None) -> pl.DataFrame:
    """4h candles, those of the file before those that whole runs of 15m ones make."""
    opened = pl.col("open_time")
    made = (
        recent.group_by("symbol", (opened - opened % Timeframe.H4.ms).alias("begin"), maintain_order=True)
        .agg(
            pl.len().alias("quarters"),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .filter(pl.col("quarters") == QUARTERS)
        .select("symbol", pl.col("begin").alias("open_time"), *FIGURES)
    )
    every = made if older is None else pl.concat([older, made])
    return every.unique(["symbol", "open_time"], keep="first", maintain_order=True).sort("symbol", "open_time")


def _tickers(day: pl.DataFrame, now_ms: int) -> dict[str, Ticker]:
    """Volume at the mean of each candle's four prices. One that did not trade until now has no change: nothing is known of it."""
    newest = now_ms - now_ms % Timeframe.M15.ms - Timeframe.M15.ms
    middle = (pl.col("open") + pl.col("high") + pl.col("low") + pl.col("close")) / 4
    sums = day.group_by("symbol", maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("close").last(),
        pl.col("open_time").last(),
        (middle * pl.col("volume")).sum().alias("quote_volume"),
    )
    return {
        row["symbol"]: Ticker(
            symbol=row["symbol"],
            last=row["close"],
            change_percent=(row["close"] / row["open"] - 1) * 100 if row["open_time"] == newest and row["open"] else np.nan,
            quote_volume=row["quote_volume"],
            received_ms=now_ms,
        )
        for row in sums.iter_rows(named=True)
    }


def _candles(symbol: str, timeframe: Timeframe, rows: pl.DataFrame) -> Candles:
    opened = rows["open_time"].to_numpy()
    holes = np.flatnonzero(np.diff(opened) != timeframe.ms)
    whole = rows.slice(int(holes[-1]) + 1) if len(holes) else rows
    figures = {name: whole[name].to_numpy() for name in FIGURES}
    return Candles(symbol=symbol, timeframe=timeframe, open_ms=whole["open_time"].to_numpy(), **figures)
