"""One schedule: who trades what when, what goes wrong at the exchange, between our parts and to our processes. All from one number."""

from random import Random
from typing import Final

import msgspec

from deploy.sandbox.core.faults import Rule
from deploy.sandbox.core.faults_profiles import STORM
from shared.enums import Side
from tests.fault_storm.board import PRICES

LASTS_SECONDS: Final = 60.0
REST_SECONDS: Final = 60.0
"""Source: issue 3: judged at rest, faults off, 60 s later."""

DEEDS: Final = {
    "signals": 8.0,
    "close": 4.0,
    "close a part": 3.0,
    "move the stop": 3.0,
    "move the target": 1.5,
    "trail": 2.0,
    "end trailing": 0.5,
    "stop, keep": 0.4,
    "stop, close": 0.6,
    "panic": 1.2,
    "approve": 2.0,
    "decline": 0.5,
    "shock": 5.0,
    "crash": 0.8,
    "thin book": 1.0,
    "funding": 0.7,
    "hand closes": 0.4,
}
CUTS: Final = {"cut engine": 2.0, "cut worker": 1.0, "cut web": 1.0}
"""Only where processes die at all."""

MORE: Final = {"listen key ends": 2.0, "rules change": 2.0, "key revoked": 1.0, "leave real": 2.0}
"""Drawn from numbers of their own, so that a seed keeps the deeds that it had before these were known."""

MOST_MORE: Final = 3

OURS: Final = {"request lost": 0.01, "reply lost": 0.02, "redis": 0.01, "database": 0.004, "market": 0.01}
"""Chances between our own parts on a bad day."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens at a moment, seconds from the beginning; `dice` are its own numbers in [0, 1)."""

    at: float
    what: str
    user: int
    symbol: str
    side: Side
    dice: tuple[float, ...]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a seed decides before anything happens."""

    seed: int
    begins_at: float
    """Seconds into a minute: where the exchange's windows of request weight lie."""
    users: int
    wallet: int
    leverage: int
    order_size: int
    auto_trade: tuple[bool, ...]
    cuts: bool
    rules: list[Rule]
    ours: dict[str, float]
    steps: list[Step]


def schedule_of(seed: int) -> Schedule:
    """The schedule of a seed."""
    random = Random(seed)
    cuts = random.random() < 1 / 3
    deeds = DEEDS | CUTS if cuts else DEEDS
    users = random.choice((1, 1, 2))
    count = random.randrange(6, 16)
    moments = sorted(random.uniform(1.0, LASTS_SECONDS) for _ in range(count))
    steps = [_step(random, 1.0, "signals", users), *(_step(random, at, _chosen(random, deeds), users) for at in moments)]
    steps = sorted([*steps, *_more(seed, users)], key=lambda step: step.at)
    bad = random.choice((0.3, 1.0, 1.0, 3.0, 8.0))
    return Schedule(
        seed=seed,
        begins_at=round(random.uniform(0, 60), 3),
        users=users,
        wallet=random.choice((1_000, 5_000, 20_000)),
        leverage=random.choice((5, 10, 20, 40)),
        order_size=random.choice((40, 100, 250)),
        auto_trade=tuple(random.random() < 0.92 for _ in range(users)),
        cuts=cuts,
        rules=_rules(random, bad, seed),
        ours={name: min(0.2, chance * bad) for name, chance in OURS.items()},
        steps=steps,
    )


def _step(random: Random, at: float, what: str, users: int) -> Step:
    return Step(
        at=round(at, 3),
        what=what,
        user=random.randrange(users),
        symbol=random.choice(tuple(PRICES)),
        side=random.choice((Side.LONG, Side.SHORT)),
        dice=tuple(round(random.random(), 6) for _ in range(4)),
    )


def _more(seed: int, users: int) -> list[Step]:
    random = Random(f"{seed}/more")
    moments = [random.uniform(1.0, LASTS_SECONDS) for _ in range(random.randrange(MOST_MORE + 1))]
    return [_step(random, at, _chosen(random, MORE), users) for at in moments]


def _chosen(random: Random, deeds: dict[str, float]) -> str:
    return random.choices(tuple(deeds), weights=tuple(deeds.values()))[0]


def _rules(random: Random, bad: float, seed: int) -> list[Rule]:
    """Some kinds of the sandbox's storm, each more or less often; two in three of them, so that kinds meet in all mixtures."""
    kept = [row for row in STORM if random.random() < 2 / 3]
    random.shuffle(kept)
    return [
        Rule(kind=kind, match=match, probability=min(0.5, chance * bad), seconds=seconds, seed=seed)
        for kind, match, chance, seconds in kept
    ]
