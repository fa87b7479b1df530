"""`python -m deploy.sandbox`: the sandbox exchange alone, for any Binance USDⓈ-M client."""

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from deploy.sandbox.app import SandboxOptions, serve
from deploy.sandbox.core.limits import DEFAULT_WEIGHT
from deploy.sandbox.options import DEMO_SPEED


def parsed(arguments: list[str] | None = None) -> SandboxOptions:
    """Options from a command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox", description="Binance USDⓈ-M on loopback, on a tape.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--speed", type=float, default=DEMO_SPEED)
    parser.add_argument("--market", type=Path, help="recorded 15m candles, Parquet, or a recorder's folder")
    parser.add_argument("--history", type=Path, help="older 4h candles, Parquet")
    parser.add_argument("--liquidations", type=Path, help="recorded forceOrder events, JSON lines, plain or gzip")
    parser.add_argument("--start", dest="start_ms", type=milliseconds, help="where market time begins, ISO 8601")
    parser.add_argument("--base-market-ms", type=int)
    parser.add_argument("--base-wall-ms", type=int)
    parser.add_argument("--journal", type=Path, help="what was done is kept here, and done again after a restart")
    parser.add_argument("--weight-limit", type=int, default=DEFAULT_WEIGHT)
    return SandboxOptions(**vars(parser.parse_args(arguments)))


def milliseconds(text: str) -> int:
    """An ISO 8601 moment, UTC where it names no zone, as Unix milliseconds."""
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


if __name__ == "__main__":
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(parsed()))
    except OSError as error:
        raise SystemExit(f"the sandbox cannot start: {error}") from error
