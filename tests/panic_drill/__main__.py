"""`python -m tests.panic_drill`: panics over sixty positions, calm and in a storm, as a table; exits 0 only when no receipt lied.

`--seed S --runs 1 --storm --verbose` replays one: every request and its answer.
"""

import argparse
import os
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tests.fault_storm.one import loud, quiet
from tests.fault_storm.pools import in_order
from tests.panic_drill.drill import Drilled, run_one, run_refused

PER_PROCESS: Final = 20
MOST_REFUSED: Final = 8
SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def main() -> int:
    """Drills; 1 when a receipt said flat and it was not, or none ever said it."""
    parser = argparse.ArgumentParser(prog="python -m tests.panic_drill", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each weather")
    parser.add_argument("--positions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    parser.add_argument("--storm", action="store_true", help="with --verbose: replay in a storm")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write what it came to here")
    parser.add_argument("--verbose", action="store_true", help="tell every request of one run")
    options = parser.parse_args()
    _same_hashes()
    if options.verbose:
        return _replay(options.seed, options.positions, storm=options.storm)
    seeds = range(options.seed, options.seed + options.runs)
    done: list[Drilled] = []
    refusing = partial(run_refused, positions=min(options.positions, MOST_REFUSED))
    [refused] = in_order(refusing, [options.seed], 1, quiet, PER_PROCESS)
    print(*(f"one symbol refused: {line}" for line in refused or ["named, the others closed"]), sep="\n", flush=True)
    for storm in (False, True):
        drill = partial(run_one, positions=options.positions, storm=storm)
        for drilled in in_order(drill, seeds, options.processes, quiet, PER_PROCESS):
            done.append(drilled)
            for line in drilled.violations:
                print(f"seed {drilled.seed} {'storm' if storm else 'calm'}: {line}", flush=True)
    print(table(done))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary(done))) + b"\n")
    return 1 if refused or any(drilled.violations for drilled in done) else 0


def summary(done: list[Drilled]) -> dict[str, object]:
    """By weather."""
    return {name: _summary([one for one in done if one.storm is storm]) for name, storm in (("calm", False), ("storm", True))}


def _summary(done: list[Drilled]) -> dict[str, object]:
    return {
        "runs": len(done),
        "positions": spread([one.opened for one in done]),
        "seconds_until_the_exchange_is_empty": spread([one.empty_seconds for one in done if one.empty_seconds is not None]),
        "seconds_until_verified_flat": spread([one.receipt_seconds for one in done if one.receipt_seconds is not None]),
        "pressed_more_than_once": sum(one.presses > 1 for one in done),
        "never_flat": sum(one.receipt_seconds is None for one in done),
        "said_flat_and_was_not": sum(any(line.startswith(("untrue", "later")) for line in one.violations) for one in done),
        "violations": {str(one.seed): one.violations for one in done if one.violations},
    }


def spread(values: list[int] | list[float]) -> dict[str, float]:
    """How values are spread."""
    ranked = sorted(values)
    if not ranked:
        return {"n": 0}
    told = {name: round(float(ranked[min(len(ranked) - 1, int(len(ranked) * share))]), 2) for name, share in SHARES.items()}
    return {"n": len(ranked), **told, "max": round(float(ranked[-1]), 2)}


def table(done: list[Drilled]) -> str:
    """What people read."""
    lines = []
    for name, told in summary(done).items():
        assert isinstance(told, dict)
        lines.append(f"\n{name}: {told['runs']} panics")
        for what in ("positions", "seconds_until_the_exchange_is_empty", "seconds_until_verified_flat"):
            figures = "  ".join(f"{key} {value:g}" for key, value in told[what].items())
            lines.append(f"  {what.replace('_', ' '):<38} {figures}")
        lines += [
            f"  {what.replace('_', ' '):<38} {told[what]}"
            for what in ("pressed_more_than_once", "never_flat", "said_flat_and_was_not")
        ]
    return "\n".join(lines)


def _same_hashes() -> None:
    """Sets of texts are walked in an order that depends on this; a seed shall replay."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.panic_drill", *sys.argv[1:]])  # noqa: S606


def _replay(seed: int, positions: int, *, storm: bool) -> int:
    trace: deque[str] = deque()
    loud(trace)
    drilled = run_one(seed, positions, storm=storm, trace=trace)
    print(*trace, sep="\n")
    print(msgspec.json.format(msgspec.json.encode(drilled)).decode())
    return 1 if drilled.violations else 0


if __name__ == "__main__":
    sys.exit(main())
