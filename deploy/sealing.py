"""Rotating the seal: every user's exchange key is sealed anew to the newest key, after which older private keys may go.

The embedded stack's folder keeps its own private keys, and here plays the engine's part while the stack is down. In production the keys are
the operator's: the engine is given the new one first, reseals the rows when asked, and is given the old one no more.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from deploy.environments import given_settings
from deploy.errors import DeployError
from deploy.folder import SESSION, Folder, Session, Tape
from deploy.servers import EmbeddedPostgres, free_port
from engine.errors import SealBroken
from engine.keys import Seal, new_private_key, private_keys_of
from orchestrator.engine_client import open_engine
from orchestrator.errors import EngineUnavailable, StoreUnavailable
from orchestrator.lifeline import RedisLifeline
from orchestrator.ports import KeyVault, Lifeline
from orchestrator.store.database import migrate, open_database
from orchestrator.store.vault import SqlKeyVault
from shared.execution import ResealRequest, SealedCredentials

ROUNDS: Final = 3
"""A row that a user changes meanwhile is looked at once more."""

NEEDED: Final = {
    "ENGINE_URL": "the engine alone can open a seal",
    "ENGINE_TOKEN": "the engine alone can open a seal",
    "REDIS_URL": "what a panic without the database needs is kept there, sealed",
}
REDIS_SECONDS: Final = 10.0

type Reseal = Callable[[UUID, SealedCredentials], Awaitable[SealedCredentials]]


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows there are, how many were sealed anew, and whose could not be."""

    rows: int
    anew: int
    broken: list[UUID]


async def reseal_all(vault: KeyVault, newest: str, reseal: Reseal) -> Resealed:
    """Seals every row that is not sealed to the newest key yet."""
    anew, broken = 0, set[UUID]()
    for _ in range(ROUNDS):
        old = [row for row in await vault.sealed_rows() if row.credentials.key_id != newest and row.user_id not in broken]
        for row in old:
            try:
                anew += await vault.replace_seal(row, await reseal(row.user_id, row.credentials))
            except (SealBroken, EngineUnavailable):
                broken.add(row.user_id)
    return Resealed(rows=len(await vault.sealed_rows()), anew=anew, broken=sorted(broken))


async def renew_lifelines(vault: KeyVault, lifeline: Lifeline) -> int:
    """Keeps the new seals for a panic without the store too; how many. A user whose key is gone is forgotten there.

    Raises:
        StoreUnavailable: Redis does not answer; the worker does the same each minute.
    """
    kept = await lifeline.all_kept()
    for user_id in kept:
        credentials = await vault.credentials(user_id)
        await (lifeline.forget(user_id) if credentials is None else lifeline.keep(user_id, credentials))
    return len(kept)


def rotate_from_terminal(data: Path, dotenv: Path) -> int:
    """Rotates what the settings or the data folder name, and says what was done; 1 when a row does not open any more.

    Raises:
        DeployError: There is nothing to rotate, or the stack of that folder runs.
    """
    given = given_settings(os.environ, dotenv)
    if given.get("DATABASE_URL"):
        done = asyncio.run(_through_engine(given))
        print("Production: 1. put the key of `neurotrade keys new` first in SEAL_PRIVATE_KEYS and restart every engine;")
        print("            2. run `neurotrade keys rotate` (this); 3. take the old key out and restart them once more.")
    elif (data / SESSION).exists():
        done = _in_folder(data)
    else:
        raise DeployError(f"nothing to rotate: set DATABASE_URL, or start `neurotrade up` once (nothing is kept in {data})")
    print(f"{done.anew} of {done.rows} exchange keys were sealed anew, {len(done.broken)} do not open")
    for user_id in done.broken:
        print(f"  of user {user_id}: they must store their key again")
    return 1 if done.broken else 0


def _in_folder(data: Path) -> Resealed:
    """The new key is written down before a row is sealed to it, the old ones are dropped after no row needs them."""
    session = msgspec.json.decode((data / SESSION).read_bytes(), type=Session)
    folder = Folder(data, session.kind, Tape())
    server = EmbeddedPostgres(data / "postgres", free_port(), password=folder.secrets.postgres_password)
    try:
        newest = new_private_key()
        folder.keep_seal_keys(f"{newest},{folder.secrets.seal_private_keys}")
        server.start()
        done = asyncio.run(_with_seal(server.url, Seal(private_keys_of(folder.secrets.seal_private_keys))))
        if not done.broken:
            folder.keep_seal_keys(newest)
        return done
    finally:
        server.stop()
        folder.close()


async def _with_seal(database_url: str, seal: Seal) -> Resealed:
    async def reseal(user_id: UUID, credentials: SealedCredentials) -> SealedCredentials:
        return seal.reseal(str(user_id), credentials)

    await asyncio.to_thread(migrate, database_url)
    database = open_database(database_url, pool_size=2)
    try:
        return await reseal_all(SqlKeyVault(database), seal.public(claimable=False).key_id, reseal)
    finally:
        await database.close()


async def _through_engine(given: dict[str, str]) -> Resealed:
    for name, why in NEEDED.items():
        if not given.get(name):
            raise DeployError(f"{name} is required: {why}")
    engine = open_engine(given["ENGINE_URL"], given["ENGINE_TOKEN"])
    database = open_database(given["DATABASE_URL"], pool_size=2)
    redis = Redis.from_url(given["REDIS_URL"], socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)

    async def reseal(user_id: UUID, credentials: SealedCredentials) -> SealedCredentials:
        return await engine.reseal(ResealRequest(user_id=str(user_id), credentials=credentials))

    try:
        newest = (await engine.public_key()).key_id
        vault = SqlKeyVault(database)
        done = await reseal_all(vault, newest, reseal)
        await renew_lifelines(vault, RedisLifeline(redis))
        return done
    except EngineUnavailable as error:
        raise DeployError(f"the engine does not answer, or has no seal: {error}") from error
    except StoreUnavailable as error:
        raise DeployError(f"run it again before the old key goes, not everything was sealed anew: {error}") from error
    finally:
        await database.close()
        await redis.aclose()
        await engine.close_connections()
