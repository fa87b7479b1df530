"""`neurotrade audit verify`: walks the audit's chains and names the first row of each that is not as it was written."""

import asyncio
from pathlib import Path

import msgspec

from deploy.errors import DeployError
from deploy.people import database_of
from orchestrator.core.audit import AuditHead, Broken
from orchestrator.errors import StoreUnavailable
from orchestrator.store.audit import Verdict, verify
from orchestrator.store.database import open_database


def verify_from_terminal(data: Path, dotenv: Path | None, heads: Path | None) -> int:
    """Walk the audit of the database that the settings name, else of the embedded one; 0 when every chain is sound, else 1.

    Args:
        data: The embedded stack's data folder.
        dotenv: Where settings may stand besides the environment.
        heads: A file of heads. What it keeps must still be in the chains; after a sound walk it keeps today's.

    Raises:
        DeployError: No database is to be found or it has no audit, or the file of heads is none.
    """
    kept = _kept(heads)
    with database_of(data, dotenv) as (url, _):
        found = asyncio.run(_verified(url, kept))
    for line in lines_of(found):
        print(line)
    if found.broken:
        return 1
    if heads is not None:
        heads.write_bytes(msgspec.json.format(msgspec.json.encode(found.heads)) + b"\n")
        print(f"{len(found.heads)} heads are kept in {heads}")
    return 0


def lines_of(found: Verdict) -> list[str]:
    """What a walk found, for people."""
    if not found.broken:
        return [f"sound: {found.entries} entries in {found.chains} chains"]
    return [_line(broken) for broken in found.broken] + [f"BROKEN: {len(found.broken)} of {found.chains} chains"]


def _line(broken: Broken) -> str:
    row = "" if broken.row_id is None else f" (audit_entries.id {broken.row_id})"
    return f"chain {broken.chain}, entry {broken.number}{row}: {broken.detail}"


async def _verified(url: str, kept: list[AuditHead]) -> Verdict:
    database = open_database(url, pool_size=1)
    try:
        return await verify(database, kept=kept)
    except StoreUnavailable as error:
        raise DeployError(str(error)) from error
    finally:
        await database.close()


def _kept(heads: Path | None) -> list[AuditHead]:
    if heads is None or not heads.exists():
        return []
    try:
        return msgspec.json.decode(heads.read_bytes(), type=list[AuditHead])
    except msgspec.MsgspecError as error:
        raise DeployError(f"{heads} keeps no heads: {error}") from error
