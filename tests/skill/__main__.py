"""`python -m tests.skill`: what the cascade detector is worth, on labelled cascades and on recorded sessions, good or bad.

Labelled: the sandbox's synthetic markets. Thresholds are chosen on some seeds (best F1) and judged on others. Recorded: what it flagged in
real sessions and what the price did next. Writes nothing; exits 0 when it could measure.
"""

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engine.core.cascade import RUNNING_HEAT
from tests.skill.labelled import CASCADE, PRESSURE, RETURN_SPIKE, VOLUME_SPIKE, Judged, judged
from tests.skill.recorded import FILES, FLAGGED, Candles, Flag, day_of, flags_of, read_events, sessions_of, told
from tests.skill.scoring import Alarm, Label, Skill, best_threshold, skill_of, wilson
from tests.skill.scoring import flags_of as alarms_flagged

THRESHOLDS: Final = {
    CASCADE: [15.0, 30.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0],
    PRESSURE: [5e3, 1e4, 2e4, 5e4, 1e5, 2e5],
    VOLUME_SPIKE: [2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0],
    RETURN_SPIKE: [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0],
}
SIZES: Final = ((0.0, 0.02), (0.02, 0.04), (0.04, 1.0))
"""Classes of cascades by the log return that was put in."""

DATA: Final = Path(os.environ.get("NEUROTRADE_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.skill", description=__doc__)
    parser.add_argument("--train", type=int, default=6, help="seeds 1.. on which thresholds are chosen")
    parser.add_argument("--judge", type=int, default=12, help="seeds 101.. on which they are judged")
    parser.add_argument("--days", type=int, default=3, help="of each seed")
    parser.add_argument("--draws", type=int, default=400, help="of the bootstrap")
    options = parser.parse_args()
    begun = time.monotonic()
    _labelled(options.train, options.judge, options.days, options.draws)
    print()
    _recorded(DATA)
    print(f"\nTook {time.monotonic() - begun:.0f} s.")
    return 0


def _labelled(train: int, judge: int, days: int, draws: int) -> None:
    chosen_on, judged_on = judged(range(1, 1 + train), days), judged(range(101, 101 + judge), days)
    print(f"Labelled cascades: thresholds chosen on seeds 1..{train} ({len(chosen_on.labels)} cascades), judged on seeds")
    print(
        f"101..{100 + judge} ({len(judged_on.labels)} cascades, {days} days of 120 symbols each). Looked at on every minute close; a flag"
    )
    print(
        "rests 30 min; a hit comes before the extreme. 95 % intervals by bootstrap over days; * the threshold chosen on the other seeds.\n"
    )
    print("| detector | threshold | flags | precision | recall | F1 | lead, min (median) | of the move still ahead (median) |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in THRESHOLDS:
        name, best = _choose(kind, chosen_on)
        for threshold in THRESHOLDS[kind]:
            print(_row(name, skill_of(judged_on.alarms[name], judged_on.labels, threshold, draws), star=threshold == best))
        if kind == CASCADE:
            by_size = _recall_by_size(judged_on.alarms[name], judged_on.labels, best)
            print(f"| {name} | {best:g}, recall by size of the cascade |  |  | {by_size} |  |  |  |")
    print(f"\nA cascade is called running from heat {RUNNING_HEAT:g}.")


def _choose(kind: str, data: Judged) -> tuple[str, float]:
    """The variant of a detector and its threshold with the best F1."""
    variants = [name for name in data.alarms if name.startswith(kind)]
    best = {name: best_threshold(data.alarms[name], data.labels, THRESHOLDS[kind]) for name in variants}
    name = max(variants, key=lambda variant: skill_of(data.alarms[variant], data.labels, best[variant], draws=1).f1)
    return name, best[name]


def _row(name: str, skill: Skill, *, star: bool) -> str:
    def share(figure: tuple[float, float, float]) -> str:
        return f"{figure[0]:.2f} ({figure[1]:.2f}–{figure[2]:.2f})"

    lead = "–" if np.isnan(skill.lead_minutes[0]) else "{:.1f} ({:.1f}–{:.1f})".format(*skill.lead_minutes)
    ahead = "–" if np.isnan(skill.ahead[0]) else share(skill.ahead)
    cells = [
        *(name, f"{skill.threshold:,.6g}{'*' if star else ''}", f"{skill.flags:,}"),
        *(share(skill.precision), share(skill.recall), f"{skill.f1:.2f}", lead, ahead),
    ]
    return f"| {' | '.join(cells)} |"


def _recall_by_size(alarms: Sequence[Alarm], labels: Sequence[Label], threshold: float) -> str:
    flags = alarms_flagged(alarms, threshold)
    hits: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for flag in flags:
        hits[flag.day, flag.symbol, flag.sign].append(flag.at_ms)
    parts = []
    for low, high in SIZES:
        own = [label for label in labels if low <= abs(label.size) < high]
        found = sum(
            any(label.begins_ms <= at_ms < label.extreme_ms for at_ms in hits[label.day, label.symbol, label.sign])
            for label in own
        )
        ends = wilson(found, len(own))
        words = f"{low:.0%}–{high:.0%}" if high < 1 else f"over {low:.0%}"
        parts.append(f"{words}: {found / max(1, len(own)):.2f} ({ends[0]:.2f}–{ends[1]:.2f}) of {len(own)}")
    return "; ".join(parts)


def _recorded(folder: Path) -> None:
    path = folder / "force_orders.jsonl.gz"
    if not path.exists():
        print(f"Recorded sessions: skipped, no {path.name} (set NEUROTRADE_DATA).")
        return
    candles = {name: Candles(folder / file, length) for name, (file, length) in FILES.items()}
    sessions = sessions_of(read_events(path))
    flags = [flag for number, session in enumerate(sessions) for flag in flags_of(number, session, candles)]
    print("Recorded sessions of forced orders (an undercount: one a symbol and second at most).\n")
    print("| session (UTC) | minutes | forced orders | symbols | building | running | exhausted |")
    print("|---|---|---|---|---|---|---|")
    for number, session in enumerate(sessions):
        facts = told(session)
        counts = [sum(flag.session == number and flag.state is state for flag in flags) for state in FLAGGED]
        minutes = (facts.ends_ms - facts.begins_ms) / 60_000
        print(
            f"| {day_of(facts.begins_ms)} | {minutes:.0f} | {facts.events:,} | {facts.symbols} | {' | '.join(map(str, counts))} |"
        )
    print(
        "\nWhat the price did next, in the direction of the push (a minus means that it came back); share: how often it went on, 95 % by Wilson.\n"
    )
    print("| state entered | look | flags | mean | median | went on |")
    print("|---|---|---|---|---|---|")
    for state in FLAGGED:
        for line in _outcomes(state, [flag for flag in flags if flag.state is state]):
            print(line)


def _outcomes(state: str, flags: Sequence[Flag]) -> list[str]:
    lines = []
    for look in dict.fromkeys(name for flag in flags for name in flag.next_ratio):
        moves = [flag.next_ratio[look] for flag in flags if look in flag.next_ratio]
        on = sum(move > 0 for move in moves)
        low, high = wilson(on, len(moves))
        went_on = f"{on / len(moves):.2f} ({low:.2f}–{high:.2f})"
        cells = (state.lower(), look, str(len(moves)), f"{np.mean(moves):+.2%}", f"{np.median(moves):+.2%}", went_on)
        lines.append(f"| {' | '.join(cells)} |")
    return sorted(lines)


if __name__ == "__main__":
    sys.exit(main())
