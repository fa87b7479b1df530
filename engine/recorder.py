"""The door to the recording on disk: what the feed saw, in daily Parquet files below one folder, the oldest going when the budget is spent.

Nothing depends on it. Rows wait in memory for a minute at most, then each kind becomes a part, written beside its name and renamed: a file that
has its name is whole, and whoever dies loses a minute. Days that are over are put together; the whole file names the parts that went into it, so
that one that was left lying is not read twice. A disk that is full or gone costs the rows that wait, never the feed.
"""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from engine.core.market import BookTop, Candles, ClosedCandle, ForcedOrder, Mark, Timeframe
from engine.core.recording import (
    COLUMNS,
    Kept,
    Kind,
    Lack,
    candle_rows,
    day_name,
    days_of,
    ended,
    forced_rows,
    kept_of,
    lacking,
    mark_rows,
    over_budget,
    top_rows,
)
from engine.log import logger

FLUSH_SECONDS: Final = 60.0
MOST_ROWS: Final = 400_000
"""Of a kind, waiting: ten minutes of marks of the whole market. More are not kept: a recording is not worth the feed's memory."""

MERGED: Final = "parts"
"""In a whole file's metadata: the names of the parts that it was put together from."""

HALF: Final = ".writing"
HALF_SECONDS: Final = 3_600.0
"""Wall seconds after which nobody writes a half file any more: who did is gone."""

_MIB: Final = 2**20
_CANDLES: Final = {Timeframe.M15: Kind.CANDLES_15M, Timeframe.H4: Kind.CANDLES_4H}

type Rows = dict[Kind, list[tuple[object, ...]]]


class Recorder:
    """Takes what the streams say and writes it down.

    Args:
        folder: Of the recording; made where it is missing.
        budget_mb: MiB that the recording may take.
        writer: Who writes, part of a part's name: two feeds that hand over to each other never write the same file.
        now_ms: Market time, by which a day ends.
    """

    def __init__(self, folder: Path, budget_mb: float, writer: str, now_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._budget = int(budget_mb * _MIB)
        self._writer = writer
        self._now_ms = now_ms
        self._waiting: Rows = {kind: [] for kind in Kind}
        self._numbers = itertools.count()
        self._ailing = False
        self._writing = threading.Lock()

    def marks(self, marks: Sequence[Mark]) -> None:
        """Marks of one second."""
        self._take(Kind.MARKS, mark_rows(marks))

    def liquidation(self, order: ForcedOrder) -> None:
        """One forced order."""
        self._take(Kind.FORCED_ORDERS, forced_rows([order]))

    def book_tops(self, tops: Iterable[BookTop]) -> None:
        """Best bids and asks."""
        self._take(Kind.BOOK_TOPS, top_rows(tops))

    def candles(self, candles: Candles) -> None:
        """Closed candles of a symbol, of the two timeframes that decide; the same ones may come again."""
        if candles.timeframe in _CANDLES:
            self._take(_CANDLES[candles.timeframe], candle_rows(candles))

    def closed(self, candle: ClosedCandle) -> None:
        """One closing frame of a timeframe that decides; the same one may come again."""
        row = (candle.symbol, candle.open_ms, candle.open, candle.high, candle.low, candle.close, candle.volume)
        if candle.timeframe in _CANDLES:
            self._take(_CANDLES[candle.timeframe], [row])

    def _take(self, kind: Kind, rows: list[tuple[object, ...]]) -> None:
        waiting = self._waiting[kind]
        if len(waiting) + len(rows) <= MOST_ROWS:
            waiting += rows

    async def keep_writing(self, every: float = FLUSH_SECONDS) -> None:
        """Writes until it is cancelled, and once more then: what waits is written before the process ends."""
        try:
            while True:
                await asyncio.sleep(every)
                await asyncio.to_thread(self.write)
        finally:
            self.write()

    def write(self) -> None:
        """Writes what waits, puts together the days that are over, and keeps to the budget. Never raises for the disk's sake."""
        with self._writing:
            rows, self._waiting = self._waiting, {kind: [] for kind in Kind}
            self._write(rows)

    def lacking(self, symbols: Sequence[str], most: int) -> list[Lack]:
        """Histories with holes among their newest `most` candles, once what waits is written; none where the disk is not to be had."""
        self.write()
        if self._ailing:
            return []
        try:
            with self._writing:
                return [lack for timeframe in _CANDLES for lack in self._lacking(symbols, timeframe, most)]
        except (OSError, PolarsError):
            return []

    def _lacking(self, symbols: Sequence[str], timeframe: Timeframe, most: int) -> list[Lack]:
        kind, now_ms = _CANDLES[timeframe], self._now_ms()
        since = day_name(now_ms - (most + 1) * timeframe.ms)
        files = [self._folder / file.name for file in self._files() if file.kind is kind and file.day >= since]
        return lacking(_rows(files, kind).select("symbol", "open_time").collect(), symbols, timeframe, now_ms, most)

    def _write(self, rows: Rows) -> None:
        try:
            self._write_parts(rows)
            self._clear()  # first: a day that cannot be put together must not fill the disk
            self._put_together()
        except (OSError, PolarsError) as error:
            if not self._ailing:
                logger().warning("the recording cannot be written; the feed goes on without it", error=type(error).__name__)
            self._ailing = True
            return
        self._ailing = False

    def _clear(self) -> None:
        """Keeps to the budget, and takes away what the dead left half written, which no budget counts."""
        for file in over_budget(self._files(), self._budget):
            (self._folder / file.name).unlink(missing_ok=True)
        for half in self._folder.glob(f"*/*{HALF}"):
            if time.time() - half.stat().st_mtime > HALF_SECONDS:
                half.unlink(missing_ok=True)

    def _write_parts(self, rows: Rows) -> None:
        for kind, taken in rows.items():
            for day, frame in days_of(kind, taken).items() if taken else ():
                part = f"{self._now_ms():015d}-{next(self._numbers):06d}-{self._writer}"
                self._place(frame.lazy(), Kept(kind=kind, day=day, part=part, size=0))

    def _place(self, rows: pl.LazyFrame, file: Kept, merged: Sequence[str] = ()) -> None:
        """What has its name is whole, also after a power cut; no two writers share a half file."""
        target = self._folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f"{target.stem}.{self._writer}{HALF}")
        try:
            rows.sink_parquet(half, metadata={MERGED: ",".join(merged)})
            with half.open("rb") as written:
                os.fsync(written.fileno())
            half.rename(target)
        finally:
            half.unlink(missing_ok=True)

    def _put_together(self) -> None:
        damaged: PolarsError | None = None
        for (kind, day), files in ended(self._files(), day_name(self._now_ms())).items():
            try:
                self._put_day_together(kind, day, files)
            except PolarsError as error:  # that day stays as it is, the others do not wait for it
                damaged = error
        if damaged is not None:
            raise damaged

    def _put_day_together(self, kind: Kind, day: str, files: Sequence[Kept]) -> None:
        whole = next((file for file in files if not file.part), None)
        held = self._merged(whole)
        fresh = [file for file in files if file.part and file.part not in held]
        if fresh:
            sources = [self._folder / file.name for file in ([whole] if whole else []) + fresh]
            names = [*held, *(file.part for file in fresh)]
            self._place(_rows(sources, kind), Kept(kind=kind, day=day, part="", size=0), names)
        for file in files:
            if file.part:
                (self._folder / file.name).unlink(missing_ok=True)

    def _merged(self, whole: Kept | None) -> list[str]:
        if whole is None:
            return []
        return pl.read_parquet_metadata(self._folder / whole.name).get(MERGED, "").split(",")

    def _files(self) -> list[Kept]:
        found = [
            kept_of(kind, path.name, path.stat().st_size)
            for kind in Kind
            if (self._folder / kind).is_dir()
            for path in (self._folder / kind).iterdir()
        ]
        return [file for file in found if file is not None]


def _rows(files: Sequence[Path], kind: Kind) -> pl.LazyFrame:
    """What an older writer did not know is null."""
    schema = COLUMNS[kind]
    return pl.scan_parquet(list(files), schema=schema, missing_columns="insert") if files else pl.LazyFrame(schema=schema)
