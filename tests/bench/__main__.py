"""`make bench`: ratios against peers, measured in one run. `--json FILE` writes them, `--only NAME` runs one group, `--full` 2,000 symbols too."""

import argparse
import asyncio
import json
import os
import platform
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tests.bench import close_to_order, closing, cold_universe, raw, screening, warm
from tests.bench.me_route import me_vs_fastapi
from tests.bench.rounds import Ratio

type Found = dict[str, Ratio]

LIKE = "like for like"
LESS = "not: a close is less work than a rescan"
FIGURES = "same figures; the peer tells whole series"
FLOOR = "not: the peer only reads"
BOUND = "the exchange's weight limit, which nobody beats"
FEWER = "peer computes 3 of our 11 figures"

LIKENESS = {
    "close_vs_talib_streaming": LIKE,
    "close_vs_nautilus": LIKE,
    "close_vs_talib_coin_by_coin": LESS,
    "close_vs_pandas_ta": LESS,
    "close_vs_freqtrade": LESS,
    "close_vs_polars": LESS,
    "batch_vs_talib_coin_by_coin": FIGURES,
    "batch_vs_pandas_ta": FIGURES,
    "batch_vs_polars": FIGURES,
    "batch_vs_freqtrade": FIGURES,
    "cold_raw_vs_first_system": FEWER,
    "cold_raw_vs_orjson_and_talib": FIGURES,
    "cold_loopback": FEWER,
    "cold_universe": BOUND,
    "warm_scan_vs_reading_candles": FLOOR,
    "me_vs_fastapi": LIKE,
}
"""What is compared, by the beginning of a row's name."""


def groups(full: bool) -> dict[str, Callable[[], Coroutine[Any, Any, Found]]]:
    """The rows, as they are measured together."""
    both = {"close": "close", "batch": "batch"}
    return {
        "talib_streaming": partial(
            closing.beside, closing.streaming, {"close_vs_talib_streaming": "close"}, closing.CLOSE_ROUNDS
        ),
        "nautilus": partial(closing.beside, closing.nautilus, {"close_vs_nautilus": "close"}, closing.CLOSE_ROUNDS),
        "talib": partial(closing.beside, closing.coin_by_coin, _named("talib_coin_by_coin", both), closing.BATCH_ROUNDS),
        "polars": partial(closing.beside, closing.polars, _named("polars", both), closing.SLOW_ROUNDS),
        "cold_raw": raw.beside_both,
        "warm_scan": partial(warm.scans, (60, 600, 2000)),
        "cold_loopback": screening.beside_first_system,
        "cold_universe": cold_universe.beside_weight_bound,
        "pandas_ta": partial(closing.beside_slow, closing.pandas_ta, _named("pandas_ta", both), full),
        "freqtrade": partial(closing.beside_slow, closing.freqtrade, _named("freqtrade", both), full),
        "me": me_vs_fastapi_row,
        "close_to_order": close_to_order.row,
    }


def _named(peer: str, ways: dict[str, str]) -> dict[str, str]:
    return {f"{way}_vs_{peer}": way for way in ways}


async def me_vs_fastapi_row() -> Found:
    """A web route."""
    return {"me_vs_fastapi": await me_vs_fastapi()}


def _line(name: str, ratio: Ratio) -> str:
    likeness = next(said for row, said in LIKENESS.items() if name.startswith(row))
    return f"{name:34} {ratio.ratio:10.2f} {ratio.ours_ms:10.3f} {ratio.peer_ms:12.3f} {ratio.n:4}  {likeness}"


def _growth(found: Found) -> str:
    few, many = (found[f"warm_scan_vs_reading_candles_{symbols}"].ours_ms for symbols in (60, 2000))
    return f"warm scan from 60 to 2,000 symbols: {many / few:.1f} times the time for {2000 / 60:.1f} times the symbols"


def main() -> None:
    """Runs the benchmarks one after the other and prints a line for each."""
    names = list(groups(full=False))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=names, action="append")
    parser.add_argument("--full", action="store_true", help="slow peers at 2,000 symbols too")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start, Python {platform.python_version()}")
    print("ratio = peer's time / ours, median of alternating rounds; 600 symbols unless the row's name or group says otherwise")
    print(f"{'benchmark':34} {'ratio':>10} {'ours ms':>10} {'peer ms':>12} {'n':>4}")
    found: Found = {}
    for name, run in groups(options.full).items():
        if options.only is None or name in options.only:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the engine's own
                rows = runner.run(run())
            found |= rows
            print("\n".join(_line(row, ratio) for row, ratio in rows.items()), flush=True)
    if "warm_scan_vs_reading_candles_60" in found:
        print(_growth(found))
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
