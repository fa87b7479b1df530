"""`python -m tests.fault_storm`: seeded schedules of faults over random trading, as a table; exits 0 only when nothing was violated.

`--schedules 1 --seed S --verbose` replays one: every step, every request and its answer. `--real N` runs N of the same schedules in wall
time over a real PostgreSQL, a real Redis and TCP sockets (`tests.fault_storm.real`).
"""

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.fault_storm.judge import UNPROTECTED_MOST_MS
from tests.fault_storm.one import Outcome, loud, quiet, run_many, run_one
from tests.fault_storm.pools import in_order

AT_ONCE: Final = 25
"""Schedules that a process is handed at a time."""

PER_PROCESS: Final = 40
"""Such portions; then a new process takes over, so that nothing gathers."""

INVARIANTS: Final = ("duplicate", "orphan", "naked", "unequal", "unsettled", "unprotected", "left", "sandbox", "crash")


def main() -> int:
    """Runs the storm; 1 when something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_storm", description=__doc__)
    parser.add_argument("--schedules", type=int, help="in memory; 10,000, and none where only --real is given")
    parser.add_argument("--real", type=int, default=0, help="so many on real PostgreSQL, Redis and sockets")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the others follow")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write what it came to here")
    parser.add_argument("--verbose", action="store_true", help="tell every step and request")
    parser.add_argument("--brief", action="store_true", help="real ones: four seconds of deeds, judged once they stay sound")
    options = parser.parse_args()
    _same_hashes()
    schedules = options.schedules if options.schedules is not None else 0 if options.real else 10_000
    simulated = range(options.seed, options.seed + schedules)
    real = range(options.seed, options.seed + options.real)
    if options.verbose:
        return max(_replay(simulated), _replay_real(real, brief=options.brief))
    told = []
    if simulated:
        told.append(_ran(_all(simulated, options.processes), simulated, "in memory"))
    if real:
        told.append(_ran(_all_real(real, options.processes, brief=options.brief), real, "on real servers"))
    if options.json is not None:
        both = {**told[0], "real": told[1]} if len(told) > 1 else told[0] if told else {}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(both)) + b"\n")
    return 0 if all(one["sound"] for one in told) else 1


def _ran(coming: Iterator[Outcome], seeds: range, where: str) -> dict[str, object]:
    began, outcomes = time.perf_counter(), list[Outcome]()
    for outcome in coming:
        outcomes.append(outcome)
        for line in outcome.violations:
            print(f"seed {outcome.seed}{' (cuts)' if outcome.cuts else ''}: {line}", flush=True)
        if len(outcomes) % 500 == 0:
            print(f"{len(outcomes)} of {len(seeds)}, {_bad(outcomes)} with violations", flush=True)
    took = time.perf_counter() - began
    print(table(outcomes, took, where))
    return summary(outcomes, seeds.start, took)


def _same_hashes() -> None:
    """Sets of texts are walked in an order that depends on this; a seed shall replay."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.fault_storm", *sys.argv[1:]])  # noqa: S606


def _all(seeds: range, processes: int) -> Iterator[Outcome]:
    portions = [list(seeds[start : start + AT_ONCE]) for start in range(0, len(seeds), AT_ONCE)]
    for outcomes in in_order(run_many, portions, processes, quiet, PER_PROCESS):
        yield from outcomes


def _all_real(seeds: range, processes: int, *, brief: bool) -> Iterator[Outcome]:
    from tests.fault_storm.real import run_real  # here, since the storm in memory needs none of the servers' clients

    return run_real(list(seeds), processes, brief=brief)


def _replay_real(seeds: range, *, brief: bool) -> int:
    if not seeds:
        return 0
    from tests.fault_storm.real import replay_real  # as above

    return _replay(seeds, lambda seed, trace: replay_real(seed, trace, brief=brief))


def _replay(seeds: range, run: Callable[[int, deque[str]], Outcome] = run_one) -> int:
    if not seeds:
        return 0
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


def table(outcomes: list[Outcome], took: float, where: str) -> str:
    """What people read."""
    told = summary(outcomes, 0, took)
    faults = Counter[str]()
    for outcome in outcomes:
        faults.update(outcome.faults)
    lines = [
        "",
        f"{len(outcomes)} schedules {where} in {took:.0f} s ({len(outcomes) / took:.1f} a second), {told['with_cuts']} of them with dying processes",
        f"{told['entered']} positions opened, {told['closed']} closed, {told['requests']} requests, {faults.total()} faults",
        "",
        *(f"{name:<12} {count:>6} schedules" for name, count in by_invariant(outcomes).items()),
        "",
        f"seconds without a working stop while the exchange took orders (bound {UNPROTECTED_MOST_MS / 1000:.0f} s)",
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
