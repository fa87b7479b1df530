"""The audit's rows: appended in the transaction of the change that they record, and walked by `neurotrade audit verify`.

A transaction's notes are kept until it commits and written then, in three statements a chain. The heads are the last rows that a
transaction locks, in one order, so that the audit makes nobody wait long and nobody wait in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.core.audit import (
    SYSTEM,
    AuditEntry,
    AuditHead,
    AuditKind,
    AuditNote,
    Broken,
    ChainWalk,
    chained,
    head_after,
)
from orchestrator.errors import StoreUnavailable
from orchestrator.store.database import Database
from orchestrator.store.tables import Base
from shared.wire import to_builtins

ENTRIES = Base.metadata.tables["audit_entries"]
HEADS = Base.metadata.tables["audit_heads"]

_FIELDS: Final = AuditEntry.__struct_fields__
_BATCH: Final = 2_000

_LOCK = sa.text("SELECT number, hash, clock_timestamp() AS at FROM audit_heads WHERE chain = :chain FOR UPDATE")
_BEGIN = sa.text(
    """
    INSERT INTO audit_heads (chain, number, hash) VALUES (:chain, :number, :hash)
    ON CONFLICT (chain) DO UPDATE SET chain = excluded.chain RETURNING number, hash, clock_timestamp() AS at
    """
)
_MOVE = sa.text("UPDATE audit_heads SET number = :number, hash = :hash WHERE chain = :chain")


class AuditTrail:
    """What one transaction writes down: implements the port Audit. Nothing is written before `flush`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._notes: list[AuditNote] = []

    def note(self, kind: AuditKind, *, user_id: UUID | None, subject: object, **body: Any) -> None:
        """Remember what to write down when the transaction commits.

        Args:
            kind: What happened.
            user_id: Whose chain it belongs to; None for the system's.
            subject: The id or name of what it is about.
            body: What else to keep: values that JSON, the wire's Decimals, enums and times know; never a secret.
        """
        self._notes.append(note_of(kind, user_id=user_id, subject=subject, **body))

    async def flush(self) -> None:
        """Write the notes into their chains; the transaction should end right after it."""
        notes, self._notes = self._notes, []
        await append(self._connection, notes)


def note_of(kind: AuditKind, *, user_id: UUID | None, subject: object, **body: Any) -> AuditNote:
    """A note with its values as JSON knows them; what is None is left out."""
    said = {name: value for name, value in body.items() if value is not None}
    return AuditNote(user_id=str(user_id) if user_id else None, kind=kind, subject=str(subject), body=to_builtins(said))


async def append(connection: AsyncConnection, notes: Sequence[AuditNote]) -> None:
    """Write notes into their chains inside the connection's transaction; a chain's first entry is told in the system's chain.

    The heads stay locked until the transaction ends: it should end at once.
    """
    begun: list[AuditNote] = []
    for chain, mine in sorted(_by_chain(notes).items()):
        if chain != SYSTEM and await _extend(connection, chain, mine):
            begun.append(AuditNote(user_id=None, kind=AuditKind.CHAIN_BEGUN, subject=chain, body={}))
    of_nobody = [note for note in notes if note.chain == SYSTEM] + begun
    if of_nobody:
        await _extend(connection, SYSTEM, of_nobody)


async def _extend(connection: AsyncConnection, chain: str, notes: Iterable[AuditNote]) -> bool:
    """Writes behind a chain's head, under its lock; whether the chain began with it."""
    row = (await connection.execute(_LOCK, {"chain": chain})).mappings().first()
    if row is None:
        first = AuditHead(chain=chain)
        row = (await connection.execute(_BEGIN, msgspec.structs.asdict(first))).mappings().one()
    head = AuditHead(chain=chain, number=row["number"], hash=row["hash"])
    entries = chained(head, notes, row["at"])
    await connection.execute(sa.insert(ENTRIES), [_row(entry) for entry in entries])
    await connection.execute(_MOVE, msgspec.structs.asdict(head_after(entries[-1])))
    return head.number == 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk over every chain found; `heads` are for keeping elsewhere."""

    chains: int
    entries: int
    broken: list[Broken]
    heads: list[AuditHead]


async def verify(database: Database, *, kept: Sequence[AuditHead] = ()) -> Verdict:
    """Walk every chain as of one moment.

    Args:
        database: Where the audit is.
        kept: Heads of an earlier walk, kept where nobody who can write to the database can: their entries must still be there.

    Raises:
        StoreUnavailable: PostgreSQL does not answer, or has no audit.
    """
    try:
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            heads = {row.chain: AuditHead(chain=row.chain, number=row.number, hash=row.hash) for row in await _heads(connection)}
            walks, named, hashes = await _walk(connection, kept)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"the audit cannot be read: {type(getattr(error, 'orig', None) or error).__name__}") from error
    for chain in {*heads, *named, SYSTEM} - set(walks):
        walks[chain] = ChainWalk(chain)
    for chain, walk in walks.items():
        _end(walk, heads.get(chain), begun=chain in named)
    broken = [walk.broken for _, walk in sorted(walks.items()) if walk.broken is not None]
    broken += [fault for head in kept if (fault := _gone(head, hashes)) is not None]
    return Verdict(
        chains=len(walks), entries=sum(walk.length for walk in walks.values()), broken=broken, heads=list(heads.values())
    )


async def _walk(
    connection: AsyncConnection, kept: Sequence[AuditHead]
) -> tuple[dict[str, ChainWalk], set[str], dict[tuple[str, int], str]]:
    """Every chain's walk, the chains that the system's chain names, and the hashes that stand where heads were kept."""
    statement = sa.select(ENTRIES.c.id, *(ENTRIES.c[name] for name in _FIELDS)).order_by(ENTRIES.c.chain, ENTRIES.c.number)
    walks: dict[str, ChainWalk] = {}
    named: set[str] = set()
    wanted = {(head.chain, head.number) for head in kept}
    hashes: dict[tuple[str, int], str] = {}
    async with connection.stream(statement.execution_options(yield_per=_BATCH)) as rows:
        async for row in rows.mappings():
            entry = _entry(row)
            walks.setdefault(entry.chain, ChainWalk(entry.chain)).look(entry, row["id"])
            if (entry.chain, entry.number) in wanted:
                hashes[entry.chain, entry.number] = entry.hash
            if entry.chain == SYSTEM and entry.kind == AuditKind.CHAIN_BEGUN:
                named.add(entry.subject)
    return walks, named, hashes


def _end(walk: ChainWalk, head: AuditHead | None, *, begun: bool) -> None:
    """Judges a chain's end; one that was begun and has neither entries nor head was removed whole."""
    nothing = walk.length == 0 and walk.broken is None
    if nothing and head is None and not begun:
        return  # a database in which nothing has happened yet has no system chain
    walk.end(head)


def _gone(head: AuditHead, hashes: Mapping[tuple[str, int], str]) -> Broken | None:
    if head.number == 0 or hashes.get((head.chain, head.number)) == head.hash:
        return None
    return Broken(
        chain=head.chain, number=head.number, row_id=None, detail="it is not the entry that was kept elsewhere as its head"
    )


def _by_chain(notes: Iterable[AuditNote]) -> dict[str, list[AuditNote]]:
    chains: dict[str, list[AuditNote]] = {}
    for note in notes:
        chains.setdefault(note.chain, []).append(note)
    return chains


async def _heads(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
    return (await connection.execute(sa.select(HEADS))).all()


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FIELDS}


def _entry(row: sa.RowMapping) -> AuditEntry:
    at: datetime = row["at"]
    return AuditEntry(**{name: row[name] for name in _FIELDS if name != "at"}, at=at)
