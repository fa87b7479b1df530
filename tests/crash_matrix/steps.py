"""The named steps of a real order's life at which a process is killed with -9, and what each step is known by.

A step is known by the request that the exchange then holds: the control door's rule lets exactly that one be lost, arrive late, or be done
without an answer. Or by the row that was just committed. Nothing in the product knows of it.
"""

from typing import Final

import msgspec

from deploy.sandbox.core.faults import Kind, Match

BEFORE: Final = Kind.SILENT_LOST
LATE: Final = Kind.ARRIVES_LATE
AFTER: Final = Kind.SLOW
"""Done at once, answered when nobody is there to hear it."""

MOMENTS: Final = {BEFORE: "before it is done", LATE: "while it is under way", AFTER: "after it is done"}

ORDER: Final = "/fapi/v1/order"
ALGO_ORDER: Final = "/fapi/v1/algoOrder"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One moment and whom it kills.

    Attributes:
        unit: submit, protect, close, amend or panic.
        name: The moment, in words.
        deed: What brings it about: entry, close, part, amend, trail or panic.
        victim: The process.
        kind: What befalls the request that `match` tells; None where a row is waited for.
        match: Beside it goes the symbol of the position that the deed is done to.
        row: Purpose and status of an order, as they are committed.
    """

    unit: str
    name: str
    deed: str
    victim: str
    kind: Kind | None = None
    match: Match = Match()
    row: str = ""


def _held(unit: str, what: str, deed: str, victims: str, kinds: tuple[Kind, ...], match: Match) -> list[Step]:
    return [
        Step(unit=unit, name=f"{what}, {MOMENTS[kind]}", deed=deed, victim=victim, kind=kind, match=match)
        for kind in kinds
        for victim in victims.split()
    ]


def _committed(unit: str, deed: str, row: str, victims: str) -> list[Step]:
    purpose, status = row.split()
    return [
        Step(unit=unit, name=f"{purpose.lower()} is {status}", deed=deed, victim=victim, row=row) for victim in victims.split()
    ]


def _sent(method: str, path: str, client_id: str | None = None) -> Match:
    return Match(method=method, path=path, client_id=client_id)


STEPS: Final[tuple[Step, ...]] = (
    *_committed("submit", "entry", "ENTRY CLAIMED", "worker engine"),
    *_held("submit", "leverage", "entry", "engine", (BEFORE, AFTER), _sent("POST", "/fapi/v1/leverage")),
    *_held("submit", "look-up of the id", "entry", "engine worker", (AFTER,), _sent("GET", ORDER, "nt-e-*")),
    *_committed("submit", "entry", "ENTRY SENT", "worker engine"),
    *_held("submit", "order", "entry", "engine worker", (BEFORE, LATE, AFTER), _sent("POST", ORDER, "nt-e-*")),
    *_committed("submit", "entry", "ENTRY FILLED", "worker engine"),
    *_held("protect", "trades of the order", "entry", "engine worker", (AFTER,), _sent("GET", "/fapi/v1/userTrades")),
    *_held("protect", "stop", "entry", "engine worker", (BEFORE, LATE, AFTER), _sent("POST", ALGO_ORDER, "nt-s-*")),
    *_held("protect", "stop read back", "entry", "engine", (AFTER,), _sent("GET", ALGO_ORDER, "nt-s-*")),
    *_held("protect", "target", "entry", "engine", (BEFORE, LATE, AFTER), _sent("POST", ALGO_ORDER, "nt-t-*")),
    *_committed("close", "close", "CLOSE SENT", "orchestrator engine"),
    *_held("close", "look-up of the id", "close", "engine", (AFTER,), _sent("GET", ORDER, "nt-c-*")),
    *_held("close", "order", "close", "engine orchestrator", (BEFORE, LATE, AFTER), _sent("POST", ORDER, "nt-c-*")),
    *_held("close", "stop and target go", "close", "engine orchestrator", (BEFORE, AFTER), _sent("DELETE", "/fapi/v1/algo*")),
    *_held("close", "order of a part", "part", "engine orchestrator", (BEFORE, AFTER), _sent("POST", ORDER, "nt-c-*")),
    *_held("close", "stop of what is left", "part", "engine orchestrator", (BEFORE, AFTER), _sent("POST", ALGO_ORDER, "nt-s-*")),
    *_held("amend", "new stop", "amend", "engine orchestrator", (BEFORE, LATE, AFTER), _sent("POST", ALGO_ORDER, "nt-s-*")),
    *_held("amend", "old stop goes", "amend", "engine orchestrator", (BEFORE, AFTER), _sent("DELETE", ALGO_ORDER)),
    *_held("amend", "trailing stop", "trail", "engine orchestrator", (BEFORE, AFTER), _sent("POST", ALGO_ORDER, "nt-r-*")),
    *_held("panic", "positions read", "panic", "engine orchestrator", (AFTER,), _sent("GET", "/fapi/v*/positionRisk")),
    *_held("panic", "order", "panic", "engine orchestrator", (BEFORE, LATE, AFTER), _sent("POST", ORDER, "nt-f-*")),
    *_held("panic", "orders go", "panic", "engine orchestrator worker", (BEFORE, AFTER), _sent("DELETE", "/fapi/v1/allOpenOrders")),
    *_held("panic", "conditional orders go", "panic", "engine", (BEFORE, AFTER), _sent("DELETE", "/fapi/v1/algoOpenOrders")),
)  # fmt: skip
"""The whole table."""

SAMPLE: Final[tuple[Step, ...]] = tuple(
    step
    for step in STEPS
    if (step.unit, step.name, step.victim)
    in {
        ("amend", "new stop, after it is done", "orchestrator"),
        ("panic", "order, after it is done", "orchestrator"),
    }
)
"""What `make test` does of it: two that are whole again within seconds."""
