"""How alarms are judged against labels: one flag an episode, a hit only before the extreme, intervals over whole days.

The rules are the same for every detector. Everything is looked at on minute closes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Final

import msgspec
import numpy as np

REST_MS: Final = 1_800_000
"""After a flag the same symbol and direction is not flagged again for so long: the length of a cascade's push."""

DRAWS: Final = 1_000
Z95: Final = 1.96


class Alarm(msgspec.Struct, frozen=True):
    """What a detector says of a symbol at a moment: how sure (its own scale), and which way; day names the bootstrap's block."""

    day: str
    symbol: str
    at_ms: int
    score: float
    sign: int
    price: float


class Label(msgspec.Struct, frozen=True):
    """A cascade that is known to have been there, with its most extreme price and when that was."""

    day: str
    symbol: str
    sign: int
    begins_ms: int
    ends_ms: int
    size: float
    opened: float
    extreme: float
    extreme_ms: int


class Day(msgspec.Struct):
    """What a detector came to in one block."""

    flags: int = 0
    hits: int = 0
    labels: int = 0
    found: int = 0
    leads: list[float] = msgspec.field(default_factory=list)
    ahead: list[float] = msgspec.field(default_factory=list)


class Skill(msgspec.Struct, frozen=True):
    """One detector at one threshold; each figure with the ends of its 95 % interval."""

    threshold: float
    flags: int
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]
    lead_minutes: tuple[float, float, float]
    ahead: tuple[float, float, float]

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision[0] + self.recall[0]
        return 2 * self.precision[0] * self.recall[0] / both if both else 0.0


def flags_of(alarms: Iterable[Alarm], threshold: float) -> list[Alarm]:
    """The first alarm of each episode at a threshold; alarms are in the order of time."""
    last: dict[tuple[str, str, int], int] = {}
    out: list[Alarm] = []
    for alarm in alarms:
        if alarm.score < threshold:
            continue
        key = (alarm.day, alarm.symbol, alarm.sign)
        if key not in last or alarm.at_ms - last[key] >= REST_MS:
            out.append(alarm)
            last[key] = alarm.at_ms
    return out


def tally(flags: Sequence[Alarm], labels: Sequence[Label]) -> dict[str, Day]:
    """Counts by block. A flag hits where a cascade of its symbol and direction has begun and its extreme is still to come."""
    days: dict[str, Day] = defaultdict(Day)
    own: dict[tuple[str, str, int], list[tuple[int, Label]]] = defaultdict(list)
    for place, label in enumerate(labels):
        days[label.day].labels += 1
        own[label.day, label.symbol, label.sign].append((place, label))
    found: set[int] = set()
    for flag in flags:
        day = days[flag.day]
        day.flags += 1
        hit = next(
            (
                (place, label)
                for place, label in own[flag.day, flag.symbol, flag.sign]
                if label.begins_ms <= flag.at_ms < label.extreme_ms
            ),
            None,
        )
        if hit is None:
            continue
        day.hits += 1
        place, label = hit
        if place in found:
            continue
        found.add(place)
        day.found += 1
        day.leads.append((label.extreme_ms - flag.at_ms) / 60_000)
        whole = abs(label.extreme - label.opened)
        day.ahead.append(min(1.0, abs(label.extreme - flag.price) / whole) if whole else 0.0)
    return dict(days)


def skill_of(alarms: Sequence[Alarm], labels: Sequence[Label], threshold: float, draws: int = DRAWS) -> Skill:
    """Precision, recall and lead with intervals by resampling whole days, since cascades of one day belong together."""
    days = list(tally(flags_of(alarms, threshold), labels).values())
    rng = np.random.default_rng(1)
    picks = rng.integers(0, len(days), (draws, len(days)))

    def interval(figure: Callable[[Sequence[Day]], float]) -> tuple[float, float, float]:
        again = [figure([days[place] for place in pick]) for pick in picks]
        known = [value for value in again if np.isfinite(value)]
        low, high = np.percentile(known, [2.5, 97.5]) if known else (np.nan, np.nan)
        return figure(days), float(low), float(high)

    return Skill(
        threshold=threshold,
        flags=sum(day.flags for day in days),
        precision=interval(lambda some: _share(sum(day.hits for day in some), sum(day.flags for day in some))),
        recall=interval(lambda some: _share(sum(day.found for day in some), sum(day.labels for day in some))),
        lead_minutes=interval(lambda some: _median([lead for day in some for lead in day.leads])),
        ahead=interval(lambda some: _median([share for day in some for share in day.ahead])),
    )


def best_threshold(alarms: Sequence[Alarm], labels: Sequence[Label], thresholds: Sequence[float]) -> float:
    """The threshold with the best F1; on seeds that are not judged."""
    return max(thresholds, key=lambda threshold: skill_of(alarms, labels, threshold, draws=1).f1)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson (1927), score interval."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, Z95 * Z95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = Z95 / (1 + z2 / of) * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")
