"""Sealed keys, second factors and arming in a real PostgreSQL, with the engine's real seal: what a dump of it opens, and what rotation does."""

import itertools
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from deploy.sealing import _with_seal
from engine.errors import SealBroken
from engine.keys import SUITE, Seal, new_private_key, private_keys_of
from engine.ports import KeyPair
from orchestrator.core.arming import Lack
from orchestrator.keys import EngineSealer
from orchestrator.ports import FactorRow
from orchestrator.store.database import Database, open_database
from orchestrator.store.reads import SqlReads
from orchestrator.store.unit_of_work import SqlTransactions
from orchestrator.store.vault import SqlFactorVault, SqlKeyVault
from orchestrator.web.factors import FactorKey
from shared.execution import PublicKeyReply, SealedCredentials
from shared.seal import seal_info
from tests.integration.store_rows import NOW, add_user

pytestmark = pytest.mark.servers

KEY, SECRET = "CANARYKEY" + "k" * 55, "CANARYSECRET" + "s" * 52
SETTINGS = {"JWT_SECRET": "j" * 48, "ENGINE_TOKEN": "e" * 43, "TOTP_KEY": "t" * 44}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


class PublicHalf:
    """The engine as the orchestrator reaches it: its public key and nothing else."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    async def public_key(self) -> PublicKeyReply:
        return self._seal.public(claimable=False)


async def stored(database: Database, seal: Seal, user_id: UUID, *, claimed: bool = False) -> SealedCredentials:
    credentials = await EngineSealer(PublicHalf(seal)).seal(user_id, KEY, SECRET)
    assert await SqlKeyVault(database).keep_key(user_id, credentials, NOW, claimed=claimed, stopped="changed")
    return credentials


def a_seal() -> Seal:
    return Seal(private_keys_of(new_private_key()))


async def test_what_the_orchestrator_seals_only_the_engine_opens_and_only_for_its_owner(database: Database) -> None:
    ada, grace, seal = await add_user(database), await add_user(database, "grace"), a_seal()
    await stored(database, seal, ada)
    async with SqlTransactions(database)() as unit:
        trader = await unit.traders.lock(ada)
    assert trader is not None
    assert trader.credentials is not None
    assert seal.open(str(ada), trader.credentials) == KeyPair(api_key=KEY, api_secret=SECRET)
    with pytest.raises(SealBroken):
        seal.open(str(grace), trader.credentials)
    with pytest.raises(SealBroken):
        a_seal().open(str(ada), trader.credentials)


async def test_a_dump_of_the_database_with_all_settings_opens_no_key(database: Database, database_url: str) -> None:
    ada, seal = await add_user(database), a_seal()
    sealed = await stored(database, seal, ada)
    dump = dump_of(database_url)
    for text in (KEY, SECRET):
        for shown in (text, b64encode(text.encode()).decode().rstrip("="), text.encode().hex()):
            assert shown not in dump
    public = b64decode(seal.public(claimable=False).public_key)
    guesses = [value.encode() for value in SETTINGS.values()] + [ada.bytes, str(ada).encode(), public, sealed.key_id.encode()]
    for raw in {guess[start : start + 32].ljust(32, b"\0") for guess, start in itertools.product(guesses, (0, 8, 16))}:
        private = X25519PrivateKey.from_private_bytes(raw)
        with pytest.raises((InvalidTag, ValueError)):
            SUITE.decrypt(b64decode(sealed.sealed), private, seal_info(sealed.key_id, str(ada)))


async def test_one_row_alone_can_be_claimed(database: Database) -> None:
    ada, grace, seal = await add_user(database), await add_user(database, "grace"), a_seal()
    await stored(database, seal, ada, claimed=True)
    vault = SqlKeyVault(database)
    other = SealedCredentials(key_id="k", sealed="-")
    assert not await vault.keep_key(grace, other, NOW, claimed=True, stopped="changed")
    assert await vault.credentials(grace) is None


async def test_what_was_proven_of_one_key_is_never_kept_for_another(database: Database) -> None:
    ada, seal, vault = await add_user(database), a_seal(), SqlKeyVault(database)
    old = await stored(database, seal, ada)
    assert await vault.keep_audit(ada, old, NOW, [], [Lack(code="key_not_ip_restricted", detail="bind it")])
    assert await vault.keep_canary(ada, old, NOW, passed=True, detail="sung", refusal=None)
    assert await vault.arm(ada, old, NOW)
    known = await vault.readiness(ada)
    assert (known.has_key, known.canary_passed, known.refusal) == (True, True, None)
    await stored(database, seal, ada)
    assert not await vault.arm(ada, old, NOW)
    assert not await vault.keep_canary(ada, old, NOW, passed=True, detail="sung", refusal=None)
    known = await vault.readiness(ada)
    assert (known.canary_passed, known.armed_at, known.audited_at, known.refusal) == (False, None, None, "changed")


async def test_an_entry_learns_under_the_lock_that_real_entries_stopped(database: Database) -> None:
    ada, seal, vault = await add_user(database), a_seal(), SqlKeyVault(database)
    held = await stored(database, seal, ada)
    await vault.keep_canary(ada, held, NOW, passed=False, detail="no", refusal="the proof of protection failed: no")
    async with SqlTransactions(database)() as unit:
        trader = await unit.traders.lock(ada)
        assert trader is not None
        assert trader.entries_stopped == "the proof of protection failed: no"
        assert trader.canary_detail == "no"
        assert await unit.traders.credentials(ada) == held


async def test_rotation_seals_every_row_anew_and_the_old_key_may_go(database: Database, database_url: str) -> None:
    people = [await add_user(database, name) for name in ("ada", "grace", "mary")]
    first, second = new_private_key(), new_private_key()
    for user_id in people:
        await stored(database, Seal(private_keys_of(first)), user_id)
    done = await _with_seal(database_url, Seal(private_keys_of(f"{second},{first}")))
    assert (done.rows, done.anew, done.broken) == (3, 3, [])
    alone = Seal(private_keys_of(second))
    for row in await SqlKeyVault(database).sealed_rows():
        assert alone.open(str(row.user_id), row.credentials).api_secret == SECRET
    again = await _with_seal(database_url, alone)
    assert (again.rows, again.anew, again.broken) == (3, 0, [])


async def test_a_row_that_does_not_open_is_named_and_left_as_it_is(database: Database, database_url: str) -> None:
    ada, grace, older = await add_user(database), await add_user(database, "grace"), new_private_key()
    moved = await stored(database, Seal(private_keys_of(older)), ada)
    await SqlKeyVault(database).keep_key(grace, moved, NOW, claimed=False, stopped="changed")
    done = await _with_seal(database_url, Seal(private_keys_of(f"{new_private_key()},{older}")))
    assert done.broken == [grace]


async def test_a_step_and_a_recovery_code_are_taken_once(database: Database) -> None:
    ada, vault = await add_user(database), SqlFactorVault(database)
    row = FactorRow(user_id=ada, secret=FactorKey("x" * 40).lock(ada, "SECRET"), begun_at=NOW)
    assert await vault.begin_factor(row)
    assert not await vault.spend_step(ada, 7)
    assert await vault.confirm_factor(row, NOW + timedelta(seconds=5), 5, ["a", "b"])
    assert not await vault.begin_factor(row)
    assert [await vault.spend_step(ada, step) for step in (5, 6, 6, 4)] == [False, True, False, False]
    assert [await vault.spend_recovery(ada, code) for code in ("a", "a", "c", "b")] == [True, False, False, True]
    user = await SqlReads(database).user(ada)
    assert user is not None
    assert (user.totp_enabled, user.has_api_key) == (True, False)
    assert await vault.end_factor(ada)
    assert await vault.factor(ada) is None


async def test_a_factor_in_use_is_replaced_by_nobody_and_every_change_of_it_is_in_the_audit(database: Database) -> None:
    ada, vault, key = await add_user(database), SqlFactorVault(database), FactorKey("x" * 40)
    row, other = (FactorRow(user_id=ada, secret=key.lock(ada, secret), begun_at=NOW) for secret in ("SECRET", "OTHER"))
    assert await vault.begin_factor(other)
    assert await vault.begin_factor(row)
    assert not await vault.confirm_factor(other, NOW, 5, ["x"])
    assert await vault.confirm_factor(row, NOW, 5, ["a"])
    kept = await vault.factor(ada)
    assert not await vault.begin_factor(other)
    assert not await vault.confirm_factor(other, NOW, 9, ["x"])
    assert await vault.factor(ada) == kept
    assert await vault.spend_step(ada, 6)
    assert await vault.end_factor(ada)
    assert await audited_changes(database, ada) == ["begun", "begun", "confirmed", "code used", "ended"]


async def audited_changes(database: Database, user_id: UUID) -> list[str]:
    """What the audit says of a user's second factor, in order."""
    statement = sa.text("SELECT body FROM audit_entries WHERE user_id = :user AND kind = 'factor.changed' ORDER BY number")
    async with database.engine.connect() as connection:
        bodies = (await connection.execute(statement, {"user": str(user_id)})).scalars()
        return [msgspec.json.decode(body)["change"] for body in bodies]


def dump_of(database_url: str) -> str:
    """Every row of every table as text."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f'SELECT t::text FROM "{name}" t').fetchall() for (name,) in names]  # noqa: S608 - the tables' own names
    return "\n".join(str(row) for table in rows for row in table)
