"""The audit's chains: what an entry says, how it is written down for the hash, and how a chain is judged.

One chain a user, so that two users never wait for each other, and one for what belongs to nobody. Each entry's hash covers the hash
before it, so that a changed, removed or inserted row breaks the chain where it stands; the head says how long the chain is.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

SYSTEM: Final = "system"
"""The chain of what belongs to no user, and of which chains there are."""

GENESIS: Final = "0" * 64
"""The hash before a chain's first entry."""

_FORM: Final = "neurotrade-audit-1"
"""Names the encoding inside what is hashed: another form is another word here."""


class AuditKind(StrEnum):
    """What is written down."""

    CHAIN_BEGUN = "chain.begun"
    USER_REGISTERED = "user.registered"
    LOGIN_OPENED = "login.opened"
    LOGIN_REFUSED = "login.refused"
    LOGIN_ENDED = "login.ended"
    SETTINGS_CHANGED = "settings.changed"
    SIGNAL_REFUSED = "signal.refused"
    CLAIM_ADDED = "claim.added"
    CLAIM_RELEASED = "claim.released"
    ORDER_ADDED = "order.added"
    ORDER_MOVED = "order.moved"
    FILL_BOOKED = "fill.booked"
    PANIC_BEGUN = "panic.begun"
    PANIC_MOVED = "panic.moved"
    KEYS_CHANGED = "keys.changed"
    FACTOR_CHANGED = "factor.changed"
    ARMING_CHANGED = "arming.changed"
    PROTECTION_CHANGED = "protection.changed"
    FOREIGN_CHANGED = "foreign.changed"
    LEDGER_ALARMED = "ledger.alarmed"


class AuditNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something to write down, before it has a place in a chain. `body` holds no secret and nothing that JSON does not know."""

    user_id: str | None
    kind: AuditKind
    subject: str
    body: dict[str, Any]

    @property
    def chain(self) -> str:
        """The chain it belongs to."""
        return self.user_id or SYSTEM


class AuditHead(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain ends: the number and the hash of its last entry; 0 and GENESIS before the first."""

    chain: str
    number: int = 0
    hash: str = GENESIS


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry in its place. `at` is wall time, `body` canonical JSON as text, so that not one byte of it can differ unseen."""

    chain: str
    number: int
    at: datetime
    user_id: str | None
    kind: str
    subject: str
    body: str
    previous_hash: str
    hash: str


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The first row of a chain that is not as it was written."""

    chain: str
    number: int
    row_id: int | None
    detail: str


def chained(head: AuditHead, notes: Iterable[AuditNote], at: datetime) -> list[AuditEntry]:
    """Entries that go on from a head, in the order of the notes, which must all belong to its chain."""
    entries: list[AuditEntry] = []
    for note in notes:
        unsealed = AuditEntry(
            chain=head.chain,
            number=head.number + 1,
            at=at,
            user_id=note.user_id,
            kind=note.kind.value,
            subject=note.subject,
            body=canonical(note.body),
            previous_hash=head.hash,
            hash="",
        )
        entries.append(msgspec.structs.replace(unsealed, hash=hash_of(unsealed)))
        head = head_after(entries[-1])
    return entries


def head_after(entry: AuditEntry) -> AuditHead:
    """The head of a chain that ends with an entry."""
    return AuditHead(chain=entry.chain, number=entry.number, hash=entry.hash)


def canonical(value: object) -> str:
    """JSON in one form only: keys sorted, no white space, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 of everything an entry says and of the hash before it, in hex.

    The fields are one JSON array, so that no two different entries have the same bytes.
    """
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    said = [_FORM, entry.chain, entry.number, at, entry.user_id, entry.kind, entry.subject, entry.body, entry.previous_hash]
    return hashlib.sha256(canonical(said).encode()).hexdigest()


class ChainWalk:
    """Judges one chain, entry by entry, and remembers the first that does not fit."""

    def __init__(self, chain: str) -> None:
        self.broken: Broken | None = None
        self._chain = chain
        self._end = AuditHead(chain=chain)

    @property
    def length(self) -> int:
        """How many entries were looked at and sound."""
        return self._end.number

    def look(self, entry: AuditEntry, row_id: int) -> None:
        """Judge the next entry by number."""
        if self.broken is not None:
            return
        fault = self._fault(entry)
        if fault is not None:
            self.broken = Broken(chain=self._chain, number=entry.number, row_id=row_id, detail=fault)
            return
        self._end = head_after(entry)

    def end(self, head: AuditHead | None) -> None:
        """Judge the chain's end by what the head says."""
        if self.broken is not None:
            return
        if head is None:
            detail = "the chain has entries and no head"
        elif head.number > self._end.number:
            detail = f"the chain ends after entry {self._end.number}, its head says {head.number}: the last entries were removed"
        elif (head.number, head.hash) != (self._end.number, self._end.hash):
            detail = "the last entry is not the one that the head names"
        else:
            return
        number = self._end.number + 1 if head and head.number > self._end.number else self._end.number
        self.broken = Broken(chain=self._chain, number=number, row_id=None, detail=detail)

    def _fault(self, entry: AuditEntry) -> str | None:
        wanted = self._end.number + 1
        if entry.number != wanted:
            return f"entry {wanted} is missing before it"
        if entry.hash != hash_of(entry):
            return "its content is not what was hashed"
        if entry.previous_hash != self._end.hash:
            return f"it does not follow entry {self._end.number} as that stands now"
        return None
