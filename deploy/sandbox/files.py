"""The door to recordings: Parquet candles and JSON lines of forced orders."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from deploy.sandbox.core.market import Liquidation, Market, first_ripe_ms, of_wire
from deploy.sandbox.core.recorded import RecordedMarket
from deploy.sandbox.core.source import CandleSource
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, SyntheticMarket
from deploy.sandbox.options import SandboxOptions

GZIP_MAGIC = b"\x1f\x8b"


def open_market(options: SandboxOptions) -> tuple[Market, int]:
    """The market of some options, and where its market time begins, Unix milliseconds."""
    recorded = None if options.liquidations is None else read_liquidations(options.liquidations)
    source: CandleSource
    if options.market is None:
        start = DEFAULT_START_MS if options.start_ms is None else options.start_ms
        source = SyntheticMarket(options.seed, start)
    else:
        source = read_market(options.market, options.history)
        start = first_ripe_ms(source) if options.start_ms is None else options.start_ms
    return Market(source, options.seed, start, recorded), start


def default_start(market: Path | None, history: Path | None) -> int:
    """The first moment at which most symbols have history enough for every indicator, Unix milliseconds."""
    return DEFAULT_START_MS if market is None else first_ripe_ms(read_market(market, history))


def read_market(market: Path, history: Path | None) -> RecordedMarket:
    """Recorded candles, with older ones where a file of them is given."""
    older = None if history is None else pl.read_parquet(history)
    return RecordedMarket(pl.read_parquet(market), older)


def read_liquidations(path: Path) -> Sequence[Liquidation]:
    """Recorded forced orders, oldest first."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    return of_wire([msgspec.json.decode(line) for line in text.splitlines() if line.strip()])
