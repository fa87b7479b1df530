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
    "screen_warm_vs_talib_stream": LIKE,
    "screen_warm_vs_nautilus": LIKE,
    "screen_warm_vs_read_floor": FLOOR,
    "screen_warm": LESS,
    "screen_batch": FIGURES,
    "cold_decode_vs_first_system": FEWER,
    "cold_decode_vs_talib": FIGURES,
    "cold_loopback": FEWER,
    "cold_universe": BOUND,
    "me_vs_fastapi": LIKE,
}
"""What is compared, by the beginning of a row's name."""

GOALS = {
    "screen_batch_vs_talib": 8,
    "screen_batch_vs_pandas_ta_12t": 2_000,
    "screen_warm_vs_talib_stream": 12,
    "screen_warm_vs_nautilus": 15,
    "screen_warm_vs_talib": 250,
    "screen_warm_vs_pandas_ta_12t": 50_000,
    "screen_warm_vs_freqtrade": 50_000,
    "screen_warm_vs_read_floor": 1,
    "cold_decode_vs_first_system": 40,
    "cold_decode_vs_talib": 2.2,
    "cold_loopback_vs_first_system": 15,
    "cold_loopback_throttled_vs_first_system": 15,
}
"""The least ratio that a row is meant to have; a row that has less says so."""

PROMISED = {*GOALS, "me_vs_fastapi"}
"""Rows that others read by their names: a run of everything must have them."""


def groups(full: bool) -> dict[str, Callable[[], Coroutine[Any, Any, Found]]]:
    """The rows, as they are measured together."""
    both = {"screen_warm_vs_{}": "close", "screen_batch_vs_{}": "batch"}
    return {
        "talib_streaming": partial(
            closing.beside, closing.streaming, {"screen_warm_vs_talib_stream": "close"}, closing.CLOSE_ROUNDS
        ),
        "nautilus": partial(closing.beside, closing.nautilus, {"screen_warm_vs_nautilus": "close"}, closing.CLOSE_ROUNDS),
        "talib": partial(closing.beside, closing.coin_by_coin, _named("talib", both), closing.BATCH_ROUNDS),
        "polars": partial(closing.beside, closing.polars, _named("polars", both), closing.SLOW_ROUNDS),
        "cold_raw": raw.beside_both,
        "warm_scan": partial(warm.scans, (60, 600, 2000)),
        "cold_loopback": screening.beside_first_system,
        "cold_universe": cold_universe.beside_weight_bound,
        "pandas_ta": partial(closing.beside_slow, closing.pandas_ta, _named("pandas_ta_12t", both), full),
        "freqtrade": partial(closing.beside_slow, closing.freqtrade, _named("freqtrade", both), full),
        "me": me_vs_fastapi_row,
        "close_to_order": close_to_order.row,
    }


def _named(peer: str, ways: dict[str, str]) -> dict[str, str]:
    return {name.format(peer): way for name, way in ways.items()}


async def me_vs_fastapi_row() -> Found:
    """A web route."""
    return {"me_vs_fastapi": await me_vs_fastapi()}


def _line(name: str, ratio: Ratio) -> str:
    likeness = next(said for row, said in LIKENESS.items() if name.startswith(row))
    goal = GOALS.get(name)
    kept = "" if goal is None else f"{goal:,}" if ratio.ratio >= goal else f"{goal:,} MISSED"
    return f"{name:40} {ratio.ratio:10.2f} {ratio.ours_ms:10.3f} {ratio.peer_ms:12.3f} {ratio.n:4} {kept:>13}  {likeness}"


def _growth(found: Found) -> str:
    few, many = (found[f"{warm.READ_FLOOR}_{symbols}"].ours_ms for symbols in (60, 2000))
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
    print(f"{'benchmark':40} {'ratio':>10} {'ours ms':>10} {'peer ms':>12} {'n':>4} {'goal':>13}")
    found: Found = {}
    for name, run in groups(options.full).items():
        if options.only is None or name in options.only:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the engine's own
                rows = runner.run(run())
            found |= rows
            print("\n".join(_line(row, ratio) for row, ratio in rows.items()), flush=True)
    if f"{warm.READ_FLOOR}_60" in found:
        print(_growth(found))
    if options.only is None and (missing := PROMISED - set(found)):
        raise SystemExit(f"rows are missing: {', '.join(sorted(missing))}")
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
