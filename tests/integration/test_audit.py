"""The audit in a real PostgreSQL: what is written, that it is written with the change or not at all, and what a walk finds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from msgspec import structs

from deploy.audit import verify_from_terminal
from deploy.errors import DeployError
from orchestrator.core.audit import SYSTEM, AuditKind
from orchestrator.core.order import OrderStatus
from orchestrator.ports import ForeignRecord, NewUser, ReceiptRecord, SettingsChanges, TruthRecord
from orchestrator.store.audit import Verdict, verify
from orchestrator.store.database import Database, open_database
from orchestrator.store.logins import SqlLogins, SqlPreferences
from orchestrator.store.unit_of_work import SqlTransactions
from shared.enums import Mode, PositionMode
from tests.integration.store_rows import NOW, add_signal, claim, fill, order, position, refusal

pytestmark = pytest.mark.servers


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


async def register(database: Database, name: str = "ada") -> UUID:
    user_id = uuid4()
    assert await SqlLogins(database).add_user(NewUser(id=user_id, username=name, password_hash="-", created_at=NOW))
    return user_id


async def entries(database: Database, chain: object) -> list[Any]:
    statement = sa.text("SELECT * FROM audit_entries WHERE chain = :chain ORDER BY number")
    async with database.engine.connect() as connection:
        return list((await connection.execute(statement, {"chain": str(chain)})).all())


async def kinds(database: Database, chain: object) -> list[str]:
    return [row.kind for row in await entries(database, chain)]


async def change(database: Database, statement: str, **values: object) -> None:
    async with database.engine.begin() as connection:
        done = await connection.execute(sa.text(statement), values)
        assert done.rowcount > 0


async def trade(database: Database, user_id: UUID) -> None:
    """One entry from its claim to its fill, a refusal, a panic, and auto-trading off."""
    kept = await add_signal(database)
    entered = order(user_id, signal_id=kept.id)
    opened = position(user_id, signal_id=kept.id)
    receipt = ReceiptRecord(id=uuid4(), user_id=user_id, started_at=NOW, phase="CANCELLING", results=[])
    async with SqlTransactions(database)() as unit:
        await unit.orders.add(entered)
        await unit.claims.add(claim(entered))
        await unit.commit()
    async with SqlTransactions(database)() as unit:
        await unit.positions.add(opened)
        sent = await unit.orders.advance(entered, OrderStatus.SENT, sent_at=NOW)
        assert sent is not None
        await unit.orders.advance(sent, OrderStatus.FILLED, position_id=opened.id)
        await unit.fills.add(fill(entered, opened))
        await unit.refusals.add(refusal(user_id, kept.id))
        await unit.receipts.add(receipt)
        await unit.receipts.save(receipt)
        await unit.claims.release(user_id, entered.symbol, Mode.PAPER)
        await unit.commit()


async def test_every_kind_of_change_is_written_down_with_it(database: Database) -> None:
    user_id, login_id, logins = await register(database), uuid4(), SqlLogins(database)
    await logins.refused(user_id, "198.51.100.4")
    await logins.open(login_id, user_id, NOW, NOW + timedelta(hours=12))
    await SqlPreferences(database).change(user_id, SettingsChanges(leverage=Decimal(20), auto_trade_enabled=True), NOW, None)
    await trade(database, user_id)
    async with SqlTransactions(database)() as unit:
        assert await unit.traders.switch_auto_trade_off(user_id, NOW)
        unit.audit.note(AuditKind.KEYS_CHANGED, user_id=user_id, subject="key", what="sealed")
        await unit.commit()
    await logins.revoke(login_id, NOW)
    assert await kinds(database, user_id) == [
        "user.registered",
        "login.refused",
        "login.opened",
        "settings.changed",
        "order.added",
        "claim.added",
        "order.moved",
        "order.moved",
        "fill.booked",
        "signal.refused",
        "panic.begun",
        "panic.moved",
        "claim.released",
        "settings.changed",
        "keys.changed",
        "login.ended",
    ]
    assert await kinds(database, SYSTEM) == ["chain.begun"]
    assert (await verify(database)).broken == []


async def test_an_entry_says_what_changed_and_holds_no_request(database: Database) -> None:
    user_id = await register(database)
    await SqlPreferences(database).change(user_id, SettingsChanges(leverage=Decimal(20)), NOW, None)
    entered = order(user_id, request={"account": {"credentials": "sealed"}})
    async with SqlTransactions(database)() as unit:
        await unit.orders.add(entered)
        await unit.commit()
    _, changed, added = await entries(database, user_id)
    assert changed.body == '{"changes":{"leverage":{"from":"10.00000000","to":"20"}}}'
    assert (added.subject, added.user_id) == (str(entered.id), str(user_id))
    assert '"client_order_id"' in added.body
    assert "sealed" not in added.body


async def test_an_amended_protection_is_written_down_and_a_stop_that_only_trails_is_not(database: Database) -> None:
    user_id = await register(database)
    opened = position(user_id, trailing_ratio=Decimal("0.01"))
    async with SqlTransactions(database)() as unit:
        await unit.positions.add(opened)
        trailed = await unit.positions.change(opened, stop_loss=Decimal(99), trailing_best=Decimal(100))
        assert trailed is not None
        raised = await unit.positions.change(trailed, stop_loss=Decimal(100), stop_order_id="nt-s-TWO", judged_until=NOW)
        assert raised is not None
        assert await unit.positions.change(raised, take_profit=None, trailing_ratio=None, trailing_best=None)
        assert await unit.positions.change(raised, stop_loss=Decimal(1)) is None
        await unit.commit()
    _, first, second = await entries(database, user_id)
    assert (first.kind, first.subject) == ("protection.changed", str(opened.id))
    assert first.body == (
        '{"changes":{"stop_loss":{"from":"99","to":"100"},"stop_order_id":{"from":null,"to":"nt-s-TWO"}},"symbol":"BTCUSDT"}'
    )
    assert second.body == (
        '{"changes":{"take_profit":{"from":"106","to":null},"trailing_ratio":{"from":"0.01","to":null}},"symbol":"BTCUSDT"}'
    )
    assert (await verify(database)).broken == []


def truth(user_id: UUID, **changes: Any) -> TruthRecord:
    made = TruthRecord(
        user_id=user_id, begun_at=NOW, known_until=NOW, heard_at=NOW, wallet=Decimal(990), free=Decimal(990),
        position_mode=PositionMode.ONE_WAY, opened=True,
    )  # fmt: skip
    return structs.replace(made, **changes)


async def test_what_is_not_ours_and_an_alarm_of_the_ledger_are_written_down_once(database: Database) -> None:
    user_id, later = await register(database), NOW + timedelta(minutes=1)
    hand = ForeignRecord(user_id=user_id, symbol="BTCUSDT", name="position", side="LONG", quantity=Decimal(4), first_seen_at=NOW)
    alarmed = truth(user_id, difference=Decimal(-10), differs_since=NOW, alarmed_at=NOW)
    async with SqlTransactions(database)() as unit:
        await unit.foreign.replace(user_id, [hand])
        await unit.foreign.replace(user_id, [hand])
        await unit.truths.save(truth(user_id, difference=Decimal(-10), differs_since=NOW))
        await unit.truths.save(alarmed)
        await unit.truths.save(structs.replace(alarmed, heard_at=later))
        await unit.foreign.replace(user_id, [])
        await unit.commit()
    _, seen, alarm, gone = await entries(database, user_id)
    assert (seen.kind, alarm.kind, gone.kind) == ("foreign.changed", "ledger.alarmed", "foreign.changed")
    assert '"change":"seen"' in seen.body
    assert '"quantity":"4"' in seen.body
    assert '"difference":"-10"' in alarm.body
    assert '"change":"gone"' in gone.body
    assert (await verify(database)).broken == []


async def test_what_was_not_committed_was_not_written_down(database: Database) -> None:
    user_id = await register(database)
    entered = order(user_id)
    async with SqlTransactions(database)() as unit:
        await unit.orders.add(entered)
    assert await kinds(database, user_id) == ["user.registered"]
    async with SqlTransactions(database)() as unit:
        await unit.orders.add(entered)
        await unit.commit()
    async with SqlTransactions(database)() as stale, SqlTransactions(database)() as quick:
        assert await quick.orders.advance(entered, OrderStatus.SENT)
        await quick.commit()
        assert await stale.orders.advance(entered, OrderStatus.SENT) is None
        await stale.commit()
    assert await kinds(database, user_id) == ["user.registered", "order.added", "order.moved"]


async def test_refusals_for_everyone_and_unknown_names_are_the_systems(database: Database) -> None:
    kept = await add_signal(database)
    async with SqlTransactions(database)() as unit:
        await unit.refusals.add(refusal(None, kept.id))
        await unit.commit()
    await SqlLogins(database).refused(None, "198.51.100.4")
    assert await kinds(database, SYSTEM) == ["signal.refused", "login.refused"]
    assert (await verify(database)).broken == []


async def test_many_at_once_make_one_chain_each(database: Database) -> None:
    users = [await register(database, f"user{number}") for number in range(3)]
    await asyncio.gather(*(SqlLogins(database).refused(user, "a") for user in users for _ in range(10)))
    found = await verify(database)
    assert (found.broken, found.chains, found.entries) == ([], 4, 36)


async def test_two_users_never_wait_for_each_other(database: Database) -> None:
    ada, bob = await register(database, "ada"), await register(database, "bob")
    async with database.engine.connect() as holder:
        await holder.execute(sa.text("SELECT 1 FROM audit_heads WHERE chain = :chain FOR UPDATE"), {"chain": str(ada)})
        await asyncio.wait_for(SqlLogins(database).refused(bob, "a"), 3)


TAMPERINGS = {
    "a flipped byte of a body": "UPDATE audit_entries SET body = overlay(body placing 'X' from 3 for 1) WHERE chain = :c AND number = 5",
    "another time": "UPDATE audit_entries SET at = at + interval '1 microsecond' WHERE chain = :c AND number = 5",
    "another kind": "UPDATE audit_entries SET kind = 'order.added' WHERE chain = :c AND number = 5",
    "another subject": "UPDATE audit_entries SET subject = 'x' WHERE chain = :c AND number = 5",
    "another actor": "UPDATE audit_entries SET user_id = NULL WHERE chain = :c AND number = 5",
    "another hash": "UPDATE audit_entries SET hash = repeat('0', 64) WHERE chain = :c AND number = 5",
    "another hash before": "UPDATE audit_entries SET previous_hash = repeat('0', 64) WHERE chain = :c AND number = 5",
    "a row removed in the middle": "DELETE FROM audit_entries WHERE chain = :c AND number = 5",
    "the tail removed": "DELETE FROM audit_entries WHERE chain = :c AND number >= 5",
    "the head removed": "DELETE FROM audit_heads WHERE chain = :c",
    "the head set back": "UPDATE audit_heads SET number = 4 WHERE chain = :c",
    "a row moved to another place": "UPDATE audit_entries SET number = 1000 WHERE chain = :c AND number = 5",
}
BROKEN_AT = {"a row removed in the middle": 6, "the head removed": 10, "the head set back": 10, "a row moved to another place": 6}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_the_first_row_that_is_not_as_it_was_is_named(database: Database, name: str) -> None:
    user_id = await register(database)
    await trade(database, user_id)
    await change(database, TAMPERINGS[name], c=str(user_id))
    found = await verify(database)
    assert [(broken.chain, broken.number) for broken in found.broken] == [(str(user_id), BROKEN_AT.get(name, 5))]


async def test_a_chain_that_was_removed_whole_is_missed(database: Database) -> None:
    user_id = await register(database)
    await change(database, "DELETE FROM audit_entries WHERE chain = :c", c=str(user_id))
    await change(database, "DELETE FROM audit_heads WHERE chain = :c", c=str(user_id))
    assert [broken.chain for broken in (await verify(database)).broken] == [str(user_id)]


async def test_a_tail_removed_with_its_head_is_found_by_the_heads_kept_elsewhere(database: Database) -> None:
    user_id = await register(database)
    await trade(database, user_id)
    kept = (await verify(database)).heads
    await change(database, "DELETE FROM audit_entries WHERE chain = :c AND number > 4", c=str(user_id))
    forged = """UPDATE audit_heads SET number = 4, hash = (SELECT hash FROM audit_entries WHERE chain = :c AND number = 4)
                WHERE chain = :c"""
    await change(database, forged, c=str(user_id))
    assert (await verify(database)).broken == []
    assert [broken.chain for broken in (await verify(database, kept=kept)).broken] == [str(user_id)]


async def test_an_audit_that_only_grew_still_has_the_heads_kept_elsewhere(database: Database) -> None:
    user_id = await register(database)
    kept = (await verify(database)).heads
    await trade(database, user_id)
    assert (await verify(database, kept=kept)).broken == []


async def test_an_empty_audit_is_sound(database: Database) -> None:
    assert await verify(database) == Verdict(chains=1, entries=0, broken=[], heads=[])


async def test_the_command_names_the_row_of_a_flipped_byte_and_fails(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    user_id, heads = await register(database), tmp_path / "heads.json"
    await trade(database, user_id)
    assert await asyncio.to_thread(verify_from_terminal, tmp_path, None, heads) == 0
    assert "sound: 11 entries in 2 chains" in capsys.readouterr().out
    await change(database, TAMPERINGS["a flipped byte of a body"], c=str(user_id))
    row_id = next(row.id for row in await entries(database, user_id) if row.number == 5)
    assert await asyncio.to_thread(verify_from_terminal, tmp_path, None, heads) == 1
    said = capsys.readouterr().out
    assert f"chain {user_id}, entry 5 (audit_entries.id {row_id}): its content is not what was hashed" in said
    assert "BROKEN: 1 of 2 chains" in said


async def test_a_database_without_an_audit_is_no_sound_one(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    with pytest.raises(DeployError, match="cannot be read: UndefinedTable"):
        await asyncio.to_thread(verify_from_terminal, tmp_path, None, None)
