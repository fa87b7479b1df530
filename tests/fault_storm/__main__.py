"""`python -m tests.fault_storm`: seeded schedules of faults over random trading, as a table; exits 0 only when nothing was violated.

`--schedules 1 --seed S --verbose` replays one: every step, every request and its answer. `--real N` runs N of the same schedules in wall
time over a real PostgreSQL, a real Redis and TCP sockets (`tests.fault_storm.real`).
"""

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from tests.fault_storm.judge import UNPROTECTED_MOST_MS
from tests.fault_storm.one import Outcome, loud, quiet, run_many, run_one

AT_ONCE: Final = 25
"""Schedules that a process is handed at a time."""

PER_PROCESS: Final = 40
"""Such portions; then a new process takes over, so that nothing gathers."""

INVARIANTS: Final = ("duplicate", "orphan", "naked", "unequal", "unsettled", "unprotected", "sandbox", "crash")


def main() -> int:
    """Runs the storm; 1 when something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_storm", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the others follow")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write what it came to here")
    parser.add_argument("--verbose", action="store_true", help="tell every step and request")
    parser.add_argument("--real", type=int, help="so many schedules on real PostgreSQL, Redis and sockets instead")
    parser.add_argument("--brief", action="store_true", help="with --real: six seconds of deeds, and judged once it stays sound")
    options = parser.parse_args()
    _same_hashes()
    if options.real is not None:
        return _real(options)
    if options.verbose:
        return _replay(range(options.seed, options.seed + options.schedules))
    began, outcomes = time.perf_counter(), []
    for outcome in _all(range(options.seed, options.seed + options.schedules), options.processes):
        outcomes.append(outcome)
        for line in outcome.violations:
            print(f"seed {outcome.seed}{' (cuts)' if outcome.cuts else ''}: {line}", flush=True)
        if len(outcomes) % 500 == 0:
            print(f"{len(outcomes)} of {options.schedules}, {_bad(outcomes)} with violations", flush=True)
    return _told(outcomes, options, time.perf_counter() - began)


def _told(outcomes: list[Outcome], options: argparse.Namespace, took: float) -> int:
    print(table(outcomes, took))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary(outcomes, options.seed, took))) + b"\n")
    return 1 if _bad(outcomes) else 0


def _real(options: argparse.Namespace) -> int:
    from tests.fault_storm.real import replay_real, run_real  # here, since the storm in memory needs none of the servers' clients
    from tests.fault_storm.real_world import BRIEF, Pace

    pace, began = BRIEF if options.brief else Pace(), time.perf_counter()
    seeds = list(range(options.seed, options.seed + options.real))
    if options.verbose:
        return _replay(seeds, lambda seed, trace: replay_real(seed, pace, trace))
    outcomes = list(run_real(seeds, options.processes, pace))
    return _told(outcomes, options, time.perf_counter() - began)


def _same_hashes() -> None:
    """Sets of texts are walked in an order that depends on this; a seed shall replay."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.fault_storm", *sys.argv[1:]])  # noqa: S606


def _all(seeds: range, processes: int) -> Iterator[Outcome]:
    portions = [list(seeds[start : start + AT_ONCE]) for start in range(0, len(seeds), AT_ONCE)]
    with ProcessPoolExecutor(processes, initializer=quiet, max_tasks_per_child=PER_PROCESS) as pool:
        for outcomes in pool.map(run_many, portions):
            yield from outcomes


def _replay(seeds: Sequence[int], run: Callable[[int, deque[str]], Outcome] = run_one) -> int:
    trace: deque[str] = deque()
    loud(trace)
    bad = 0
    for seed in seeds:
        try:
            outcome = run(seed, trace)
        finally:
            print(*trace, sep="\n")
        print(msgspec.json.format(msgspec.json.encode(outcome)).decode())
        trace.clear()
        bad += bool(outcome.violations)
    return 1 if bad else 0


def _bad(outcomes: list[Outcome]) -> int:
    return sum(bool(outcome.violations) for outcome in outcomes)


def by_invariant(outcomes: list[Outcome]) -> dict[str, int]:
    """Schedules that violated each."""
    counted = Counter(kind for outcome in outcomes for kind in {_kind(line) for line in outcome.violations})
    return {name: counted[name] for name in INVARIANTS}


def _kind(line: str) -> str:
    return next((name for name in INVARIANTS if f"{name}:" in line), "crash")


def unprotected(outcomes: list[Outcome], *, cuts: bool) -> dict[str, float]:
    """Seconds without a working stop, of every entry and lapse: how they are spread."""
    spans = sorted(span / 1000 for outcome in outcomes if outcome.cuts is cuts for span in outcome.unprotected_ms)
    if not spans:
        return {"n": 0}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    told = {name: spans[min(len(spans) - 1, int(len(spans) * share))] for name, share in shares.items()}
    return {"n": len(spans), **told, "max": spans[-1]}


def summary(outcomes: list[Outcome], seed: int, took: float) -> dict[str, object]:
    """For the JSON file."""
    faults = Counter[str]()
    for outcome in outcomes:
        faults.update(outcome.faults)
    return {
        "schedules": len(outcomes),
        "seed": seed,
        "sound": not _bad(outcomes),
        "violations": by_invariant(outcomes),
        "seeds": {outcome.seed: outcome.violations for outcome in outcomes if outcome.violations},
        "entered": sum(outcome.entered for outcome in outcomes),
        "closed": sum(outcome.closed for outcome in outcomes),
        "requests": sum(outcome.requests for outcome in outcomes),
        "with_cuts": sum(outcome.cuts for outcome in outcomes),
        "faults": dict(faults.most_common()),
        "unprotected_seconds": unprotected(outcomes, cuts=False),
        "unprotected_seconds_with_cuts": unprotected(outcomes, cuts=True),
        "took_seconds": round(took, 1),
    }


def table(outcomes: list[Outcome], took: float) -> str:
    """What people read."""
    told = summary(outcomes, 0, took)
    faults = Counter[str]()
    for outcome in outcomes:
        faults.update(outcome.faults)
    lines = [
        "",
        f"{len(outcomes)} schedules in {took:.0f} s ({len(outcomes) / took:.1f} a second), {told['with_cuts']} of them with dying processes",
        f"{told['entered']} positions opened, {told['closed']} closed, {told['requests']} requests, {faults.total()} faults",
        "",
        *(f"{name:<12} {count:>6} schedules" for name, count in by_invariant(outcomes).items()),
        "",
        f"seconds without a working stop while the exchange took orders (bound {UNPROTECTED_MOST_MS / 1000:.0f} s where no process dies)",
        _spread("no cuts", unprotected(outcomes, cuts=False)),
        _spread("cuts", unprotected(outcomes, cuts=True)),
        "",
        "faults       " + ", ".join(f"{name} {count}" for name, count in faults.most_common()),
    ]
    return "\n".join(lines)


def _spread(name: str, spread: dict[str, float]) -> str:
    return f"  {name:<8} " + "  ".join(f"{key} {value:g}" for key, value in spread.items())


if __name__ == "__main__":
    sys.exit(main())
