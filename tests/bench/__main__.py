"""`make bench`: ratios against peers, measured in one run. `--json FILE` writes them, `--only NAME` runs one."""

import argparse
import asyncio
import json
import platform
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.closing import (
    batch_vs_talib_coin_by_coin,
    close_vs_talib_coin_by_coin,
    close_vs_talib_streaming,
    warm_scan_vs_reading_candles,
)
from tests.bench.me_route import me_vs_fastapi
from tests.bench.rounds import Ratio
from tests.bench.screening import cold_loopback_vs_first_system

BENCHMARKS: dict[str, Callable[[], Coroutine[Any, Any, Ratio]]] = {
    "cold_loopback_vs_first_system": cold_loopback_vs_first_system,
    "me_vs_fastapi": me_vs_fastapi,
    "close_vs_talib_streaming": close_vs_talib_streaming,
    "close_vs_talib_coin_by_coin": close_vs_talib_coin_by_coin,
    "batch_vs_talib_coin_by_coin": batch_vs_talib_coin_by_coin,
    "warm_scan_vs_reading_candles": warm_scan_vs_reading_candles,
    "warm_scan_60_vs_reading_candles": partial(warm_scan_vs_reading_candles, 60),
    "warm_scan_2000_vs_reading_candles": partial(warm_scan_vs_reading_candles, 2000),
}


def main() -> None:
    """Runs the benchmarks one after the other and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=list(BENCHMARKS))
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; ratio = peer's time / ours, median of alternating rounds")
    print(f"{'benchmark':34} {'ratio':>8} {'ours ms':>10} {'peer ms':>10} {'n':>4}")
    found: dict[str, Ratio] = {}
    for name in [options.only] if options.only else BENCHMARKS:
        ratio = asyncio.run(BENCHMARKS[name]())
        found[name] = ratio
        print(f"{name:34} {ratio.ratio:8.2f} {ratio.ours_ms:10.3f} {ratio.peer_ms:10.3f} {ratio.n:4}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
