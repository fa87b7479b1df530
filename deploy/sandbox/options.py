"""How a sandbox is started."""

from pathlib import Path

import msgspec

from deploy.sandbox.core.limits import DEFAULT_WEIGHT

DEMO_SPEED = 450.0
"""Fifteen market minutes in two seconds."""


class SandboxOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The same options give the same market, and with both bases the same market time.

    Args:
        host: Loopback unless told otherwise.
        port: 0 takes a free one.
        seed: Of the synthetic market and of the walk inside every candle.
        speed: Market seconds per wall second.
        market: Recorded 15m candles, Parquet, or the folder of an engine's recording; None for the synthetic market.
        history: Older 4h candles, Parquet.
        liquidations: Recorded forceOrder events, one JSON object a line, plain or gzip; None for those of a recording's folder.
        start_ms: Where market time begins; None for the first moment with history enough.
        base_market_ms: With base_wall_ms: go on from there.
        base_wall_ms: See base_market_ms.
        weight_limit: Request weight a market minute.
        journal: What was done is kept here and done again by the next process; None forgets it.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    seed: int = 7
    speed: float = DEMO_SPEED
    market: Path | None = None
    history: Path | None = None
    liquidations: Path | None = None
    start_ms: int | None = None
    base_market_ms: int | None = None
    base_wall_ms: int | None = None
    weight_limit: int = DEFAULT_WEIGHT
    journal: Path | None = None
