"""`python -m tests.crash_matrix`: every await of a real order's life cut in process, kill -9 of the real processes at each named step of it,
then kills of each process under trading on paper.

Three tables; exits 0 only when nothing was violated.
"""

import argparse
import contextlib
import queue
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from tests.crash_matrix import real
from tests.crash_matrix.drive import VICTIMS, Kill, Matrix, Pass
from tests.crash_matrix.kills import Killer, RealKill
from tests.crash_matrix.steps import STEPS, Step
from tests.demo import RunningDemo

COLUMNS = f"{'process':<13} {'kills':>5} {'in flight':>9} {'filled after':>12} {'back':>8} {'trading':>8} {'violations':>10}"
REAL_COLUMNS = f"{'step':<52} {'process':<13} {'in flight':>9} {'back':>8} {'whole':>8} {'unprotected':>12}  violations"

LANES: Final = 3
"""Demos side by side: most of the time is spent waiting for somebody to find what the dead left."""

REAL_SPEED: Final = 150.0
"""Slower than the demo's own, so that positions outlive a restart, and still some signals a minute."""

READY_SECONDS: Final = 150


def main() -> int:
    """Runs the matrix; 1 when something was violated, or no kill fell between an order's commit and its fill."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_matrix", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="kills of each process on paper")
    parser.add_argument("--lanes", type=int, default=LANES, help="demos with the real executor side by side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the outcome of every kill here")
    options = parser.parse_args()
    cuts, whole = _cut_awaits()
    with tempfile.TemporaryDirectory(prefix="nt-crash-", ignore_cleanup_errors=True) as folder:
        kills = kill_at_steps(Path(folder), STEPS, options.seed, options.lanes)
        passes = run(Path(folder) / "demo", options.rounds, options.seed)
    print(table(passes))
    whole = whole and not any(kill.violations for kill in kills) and sound(passes)
    if options.json is not None:
        outcome = {"seed": options.seed, "sound": whole, "kills": kills, "passes": passes, "cuts": cuts}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    return 0 if whole else 1


def kill_at_steps(folder: Path, steps: tuple[Step, ...], seed: int, lanes: int) -> list[RealKill]:
    """Kills at each step; a row is printed as soon as everything is whole again."""
    waiting: queue.SimpleQueue[Step] = queue.SimpleQueue()
    for step in steps:
        waiting.put(step)
    print(REAL_COLUMNS, flush=True)
    with ThreadPoolExecutor(lanes) as pool:
        done = [pool.submit(_lane, folder / f"real{number}", waiting, seed + number) for number in range(lanes)]
        try:
            return [kill for lane in done for kill in lane.result()]
        finally:
            # Where one lane broke, or somebody does not want to wait: the others end after the step that they are at.
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()


def _lane(folder: Path, waiting: queue.SimpleQueue[Step], seed: int) -> list[RealKill]:
    kills: list[RealKill] = []
    with RunningDemo(folder, "--real", "--seed", str(seed), "--speed", f"{REAL_SPEED:g}") as demo:
        demo.wait_trading(READY_SECONDS)
        killer = Killer(demo)
        with contextlib.closing(killer), contextlib.suppress(queue.Empty):
            killer.prepare()
            while True:
                kills.append(killer.run(waiting.get_nowait()))
                print(row_of(kills[-1]), flush=True)
    return kills


def row_of(kill: RealKill) -> str:
    """One kill of a real process, as a line."""
    word = "; ".join(kill.violations) or "none"
    step = f"{kill.unit}: {kill.step}"
    seconds = f"{kill.back_seconds:>6} s {kill.whole_seconds:>6} s {kill.unprotected_seconds:>10} s"
    return f"{step:<52} {kill.victim:<13} {kill.in_flight:>9} {seconds}  {word}"


def _cut_awaits() -> tuple[list[real.Cut], bool]:
    """In a process of its own: time jumps there, and nothing is logged."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "cuts.json"
        done = subprocess.run([sys.executable, "-m", "tests.crash_matrix.real", "--json", str(told)], check=False)
        return msgspec.json.decode(told.read_bytes(), type=list[real.Cut]), done.returncode == 0


def run(folder: Path, rounds: int, seed: int) -> list[Pass]:
    """All passes, on one demo."""
    passes: list[Pass] = []
    with RunningDemo(folder, "--seed", str(seed)) as demo:
        demo.wait_trading()
        matrix = Matrix(demo, seed)
        matrix.prepare()
        for number in range(1, rounds + 1):
            done = matrix.run_pass()
            passes.append(done)
            faults = [*done.violations, *(fault for kill in done.kills for fault in kill.violations)]
            word = "; ".join(faults) or "whole"
            in_flight = sum(kill.in_flight for kill in done.kills)
            print(f"{number:3}/{rounds}  {in_flight} orders in flight, at rest after {done.rest_seconds} s: {word}", flush=True)
    return passes


def sound(passes: list[Pass]) -> bool:
    """True when nothing was violated and kills of every kind fell where they had to."""
    kills = [kill for done in passes for kill in done.kills]
    unharmed = not any(done.violations for done in passes) and not any(kill.violations for kill in kills)
    return unharmed and any(kill.filled_after for kill in kills)


def table(passes: list[Pass]) -> str:
    """One line a process; seconds are the slowest."""
    kills = [kill for done in passes for kill in done.kills]
    return "\n".join(["", COLUMNS, *(_line(victim, [kill for kill in kills if kill.victim == victim]) for victim in VICTIMS)])


def _line(victim: str, kills: list[Kill]) -> str:
    return (
        f"{victim:<13} {len(kills):>5} {sum(kill.in_flight for kill in kills):>9} {sum(kill.filled_after for kill in kills):>12}"
        f" {max(kill.back_seconds for kill in kills):>6.1f} s {max(kill.trading_seconds for kill in kills):>6.1f} s"
        f" {sum(len(kill.violations) for kill in kills):>10}"
    )


if __name__ == "__main__":
    sys.exit(main())
