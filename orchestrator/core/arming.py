"""What must be true before real money is armed, and in which order a user is told of what is missing.

Stands before the whole arrow in REAL: nothing is armed by a branch elsewhere. Each need has a word and a sentence.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

import msgspec

CANARY_LASTS: Final = timedelta(hours=24)
"""Wall time that one canary proves protection for."""

CANARY_AGAIN: Final = timedelta(minutes=10)
"""Wall time between two canaries after one that failed or could not be asked for."""

DRY_CANARY: Final = "dry run"
"""How the engine's word on a canary begins that only read."""

ONLY_READ: Final = (
    "the last proof of protection was a dry run, which only reads; no live entry is made before a live one has passed"
)
"""Why entries stop whose canary was another kind than they are."""

CANARY_OVERDUE: Final = timedelta(hours=26)
"""Without a canary for so long nothing is proven any more, whoever is to blame."""


class Need(StrEnum):
    """What arming needs, in the order in which a user can mend it."""

    API_KEY = "no_api_key"
    TOTP = "totp_not_enrolled"
    AUDIT = "key_not_audited"
    CANARY = "canary_not_passed"


SENTENCES: Final[Mapping[Need, str]] = {
    Need.API_KEY: "Store an API key of your own first.",
    Need.TOTP: "Set up two-step sign-in first.",
    Need.AUDIT: "The key has not been checked at the exchange yet.",
    Need.CANARY: "A protective order has not been placed and cancelled as a proof yet.",
}


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is missing: its word and a sentence."""

    code: str
    detail: str


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an account on its way to real money; `in_real` is the user's mode now. Times are wall time."""

    in_real: bool = False
    has_key: bool = False
    claimed: bool = False
    key_problems: Sequence[Lack] = ()
    key_advice: Sequence[Lack] = ()
    audited_at: datetime | None = None
    totp: bool = False
    armed_at: datetime | None = None
    canary_at: datetime | None = None
    canary_passed: bool = False
    canary_detail: str = ""
    refusal: str | None = None


class Standing(Protocol):
    """What decides whether real entries may be made, wherever it was read."""

    @property
    def armed_at(self) -> datetime | None:
        """When REAL was armed."""
        ...

    @property
    def refusal(self) -> str | None:
        """Why no new real entry is made, while something forbids it."""
        ...

    @property
    def canary_detail(self) -> str | None:
        """How the last proof of protection went."""
        ...


def lacks(known: Readiness) -> list[Lack]:
    """Everything that is missing, the first to mend first; the problems of a key in the place of its audit."""
    missing: list[Lack] = []
    if not known.has_key:
        missing.append(_lack(Need.API_KEY))
    if not known.totp:
        missing.append(_lack(Need.TOTP))
    if known.has_key and known.audited_at is None:
        missing.append(_lack(Need.AUDIT))
    missing.extend(known.key_problems)
    if not known.canary_passed:
        detail = known.canary_detail or SENTENCES[Need.CANARY]
        missing.append(Lack(code=Need.CANARY, detail=detail))
    return missing


def before_asking(known: Readiness) -> list[Lack]:
    """What is missing before it is worth asking the exchange anything."""
    return [lack for lack in lacks(known) if lack.code in (Need.API_KEY, Need.TOTP)]


def only_read(canary_detail: str | None, *, dry_run: bool) -> str | None:
    """Why a canary does not count for live entries: it was a dry run's; None where it counts, as any does for dry runs."""
    return ONLY_READ if not dry_run and (canary_detail or "").startswith(DRY_CANARY) else None


def stopped_by(known: Standing, *, dry_run: bool) -> str | None:
    """Why an armed account makes no new real entries now, if it does not."""
    return known.refusal or only_read(known.canary_detail, dry_run=dry_run)


def is_armed(known: Standing, *, dry_run: bool) -> bool:
    """Whether real entries may be made now, each kind by a canary of its own."""
    return known.armed_at is not None and stopped_by(known, dry_run=dry_run) is None


def canary_is_due(known: Readiness, wall: datetime, *, dry_run: bool) -> bool:
    """Whether an armed account must prove its protection again: also when the last canary was a dry run's and entries are none."""
    if known.armed_at is None or not known.has_key:
        return False
    if known.canary_at is None or only_read(known.canary_detail, dry_run=dry_run) is not None:
        return True
    return wall - known.canary_at >= (CANARY_LASTS if known.canary_passed else CANARY_AGAIN)


def _lack(need: Need) -> Lack:
    return Lack(code=need, detail=SENTENCES[need])
