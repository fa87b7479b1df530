"""Mixes of faults by name."""

from deploy.sandbox.core.faults import Kind, Match, Rule

SIGNED = Match(account="?*")
PUBLIC = Match(account="", path="/fapi/*")
PLACED = Match(account="?*", method="POST", path="*rder*")
"""Orders, regular and conditional, alone and in batches."""
USER = Match(stream="user")
KLINES = Match(stream="*@kline_*")

STORM: list[tuple[Kind, Match, float, float | None]] = [
    (Kind.TIMEOUT_EXECUTED, PLACED, 0.01, None),
    (Kind.TIMEOUT_LOST, PLACED, 0.01, None),
    (Kind.SILENT_EXECUTED, PLACED, 0.003, None),
    (Kind.SILENT_LOST, PLACED, 0.003, None),
    (Kind.ARRIVES_LATE, PLACED, 0.003, None),
    (Kind.UNKNOWN_EXECUTED, PLACED, 0.01, None),
    (Kind.UNKNOWN_LOST, PLACED, 0.01, None),
    (Kind.RESET_BEFORE, PLACED, 0.01, None),
    (Kind.RESET_AFTER, PLACED, 0.01, None),
    (Kind.HTML_502, PLACED, 0.005, None),
    (Kind.HTML_502_EXECUTED, PLACED, 0.005, None),
    (Kind.OVERLOADED, PLACED, 0.01, None),
    (Kind.UNAVAILABLE, PLACED, 0.005, None),
    (Kind.DUPLICATE, PLACED, 0.003, None),
    (Kind.SKEW, SIGNED, 0.002, None),
    (Kind.THROTTLED, SIGNED, 0.0005, 1.0),
    (Kind.HTML_403, SIGNED, 0.0005, None),
    (Kind.STALE, SIGNED, 0.05, 0.7),
    (Kind.SLOW, SIGNED, 0.01, 0.8),
    (Kind.TIMEOUT_LOST, SIGNED, 0.003, None),
    (Kind.RESET_AFTER, SIGNED, 0.003, None),
    (Kind.HTML_502, SIGNED, 0.003, None),
    (Kind.SLOW, PUBLIC, 0.003, 0.5),
    (Kind.HTML_502, PUBLIC, 0.001, None),
    (Kind.STUCK_TRIGGERING, Match(), 0.03, 20.0),
    (Kind.WS_DROP, USER, 0.002, None),
    (Kind.WS_SILENT, USER, 0.002, 20.0),
    (Kind.WS_LATE, USER, 0.02, 1.5),
    (Kind.WS_DOUBLED, USER, 0.03, None),
    (Kind.WS_REORDERED, USER, 0.03, None),
    (Kind.WS_MISSING, USER, 0.01, None),
    (Kind.WS_MISSING_CLOSE, KLINES, 0.02, None),
]
"""A bad day, all at once; seconds where they are not the kind's own. A revoked key is not in it: that is an end, not weather."""


def profile(name: str, seed: int) -> list[Rule] | None:
    """The rules of a profile, None where there is none of that name.

    Args:
        name: `calm` or `storm`.
        seed: Of every chance in it.
    """
    if name == "calm":
        return []
    if name != "storm":
        return None
    return [
        Rule(kind=kind, match=match, probability=chance, seconds=seconds, seed=seed) for kind, match, chance, seconds in STORM
    ]
