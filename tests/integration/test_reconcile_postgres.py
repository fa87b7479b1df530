"""Reconciling on a real PostgreSQL, two workers at once: the exchange's records are booked once, and the ledger equals the wallet."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from msgspec import structs

from orchestrator.core.position import CloseReason, PositionStatus
from orchestrator.ports import PositionRecord, RealAccounts, TruthRecord
from orchestrator.store.database import Database, open_database
from orchestrator.store.reads import SqlReads
from orchestrator.store.unit_of_work import SqlTransactions
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules
from shared.enums import Mode
from shared.execution import OrderSide
from tests.builders import d, signal
from tests.fakes import FakeBalances, FakeBus, FakeClock, FakeIds, FakeJobs, FakeLifeline, FakeStore, OpenMutex
from tests.fakes_real import FakeExchangeEngine, RealBook
from tests.integration.store_rows import add_user

pytestmark = pytest.mark.servers


class Stage:
    """Several workers on one database, an exchange and a user who trades real money."""

    def __init__(self, database: Database, user_id: UUID) -> None:
        self.database, self.user_id = database, user_id
        self.clock, self.bus, self.ids = FakeClock(), FakeBus(), FakeIds()
        self.engine = FakeExchangeEngine(FakeStore(), self.clock)
        self.engine.books[str(user_id)] = RealBook(wallet=d(1000))
        self.engine.me = str(user_id)
        self.engine.prices["SOLUSDT"] = d(100)

    def worker(self) -> Trading:
        ports = Ports(
            transactions=SqlTransactions(self.database),
            engine=self.engine,
            balances=FakeBalances(),
            mutex=OpenMutex(),
            bus=self.bus,
            clock=self.clock,
            ids=self.ids,
            jobs=FakeJobs(),
            lifeline=FakeLifeline(),
        )
        return compose(ports, EntryRules(dry_run=False), ScanRules())

    async def enter(self) -> None:
        self.engine.signals = [signal()]
        await self.worker().scan.run()

    async def reconcile(self) -> None:
        """Two workers at the same time."""
        self.clock.pass_wall(seconds=1)
        await asyncio.gather(self.worker().reconcile.run(), self.worker().reconcile.run())

    async def position(self) -> PositionRecord:
        async with SqlTransactions(self.database)() as unit:
            (position,) = await unit.positions.real_since(self.user_id, "SOLUSDT", self.clock.now())
        return position

    async def one(self, query: str) -> Decimal:
        async with self.database.engine.connect() as connection:
            found: Decimal = (await connection.execute(sa.text(query), {"user": self.user_id})).scalar_one()
        return found

    async def assert_equal_to_the_exchange(self) -> None:
        ledger = await self.one("SELECT sum(amount) FROM ledger_entries WHERE user_id = :user AND mode = 'REAL'")
        cache = await self.one("SELECT real_balance_cache FROM users WHERE id = :user")
        assert ledger == cache == self.engine.book(self.user_id).wallet


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    database = open_database(database_url)
    user_id = await add_user(database, "real")
    async with database.engine.begin() as connection:
        known = "UPDATE users SET mode = 'REAL', real_balance_cache = 1000, real_balance_at = '2026-03-02T11:59:00Z'"
        await connection.execute(sa.text(known))
        key = (
            "INSERT INTO exchange_keys (user_id, key_id, sealed, claimed, stored_at, problems, advice) "
            "VALUES (:user, 'k1', 'c2VhbGVk', false, '2026-03-02T11:59:00Z', '[]', '[]')"
        )
        await connection.execute(sa.text(key), {"user": user_id})
    yield Stage(database, user_id)
    await database.close()


async def test_two_workers_book_a_life_at_the_exchange_once(stage: Stage) -> None:
    await stage.reconcile()
    await stage.enter()
    await stage.reconcile()
    opened = await stage.position()
    assert opened.stop_order_id is not None
    assert opened.protected_at is not None
    stage.engine.pay("FUNDING_FEE", "-0.1", "SOLUSDT")
    stage.engine.pay("TRANSFER", 50)
    stage.engine.hand("SOLUSDT", OrderSide.SELL, 4)
    await stage.reconcile()
    stage.engine.tick("SOLUSDT", 97)
    await stage.reconcile()
    closed = await stage.position()
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED_LOSS, CloseReason.STOP)
    assert (closed.opened_size, closed.funding) == (d(10), d("-0.1"))
    assert await stage.one("SELECT count(*) FROM fills WHERE user_id = :user") == 3
    assert await stage.one("SELECT count(*) FROM claims WHERE user_id = :user") == 0
    await stage.assert_equal_to_the_exchange()


async def test_what_is_not_ours_is_kept_and_forgotten_again(stage: Stage) -> None:
    stage.engine.hand("SOLUSDT", OrderSide.BUY, 3)
    await stage.reconcile()
    assert (await SqlReads(stage.database).real(stage.user_id)).foreign == []
    stage.clock.pass_wall(seconds=2)
    await stage.reconcile()
    assert [one.symbol for one in (await SqlReads(stage.database).real(stage.user_id)).foreign] == ["SOLUSDT"]
    await stage.enter()
    assert await stage.one("SELECT count(*) FROM refusals WHERE reason = 'foreign_position' AND user_id = :user") == 1
    stage.engine.hand("SOLUSDT", OrderSide.SELL, 3, "web_2")
    await stage.reconcile()
    assert await stage.one("SELECT count(*) FROM foreign_holdings WHERE user_id = :user") == 0
    await stage.assert_equal_to_the_exchange()


async def test_everybodys_accounts_are_counted_for_who_watches_over_the_whole(stage: Stage) -> None:
    reads = SqlReads(stage.database)
    nothing = RealAccounts(followed=1, unheard=1, oldest=None, foreign_accounts=0, foreign=0, differing=0)
    assert await reads.real_accounts() == nothing
    stage.engine.hand("SOLUSDT", OrderSide.BUY, 3)
    await stage.reconcile()
    heard = structs.replace(nothing, unheard=0, oldest=stage.clock.wall())
    assert await reads.real_accounts() == heard
    stage.engine.book(stage.user_id).wallet += 5
    stage.clock.pass_wall(seconds=1)
    await stage.reconcile()
    stage.clock.pass_wall(seconds=50)
    await stage.reconcile()
    found = await reads.real_accounts()
    assert found == structs.replace(heard, oldest=stage.clock.wall(), foreign_accounts=1, foreign=1, differing=1)
    async with stage.database.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE users SET mode = 'PAPER'"))
    assert (await reads.real_accounts()).followed == 0


async def test_a_truth_is_read_as_it_was_written(stage: Stage) -> None:
    await stage.reconcile()
    async with SqlTransactions(stage.database)() as unit:
        kept = await unit.truths.get(stage.user_id)
        assert isinstance(kept, TruthRecord)
        assert (kept.wallet, kept.opened, kept.difference) == (d(1000), True, d(0))
        assert await unit.traders.with_real(stage.clock.now()) == [stage.user_id]
        assert await unit.ledger.known(stage.user_id, Mode.REAL, ["opening", "other"]) == {"opening"}
        assert await unit.ledger.at_exchange(stage.user_id) == d(1000)


async def test_a_dry_position_of_the_same_wallet_is_no_part_of_what_the_exchange_holds(stage: Stage) -> None:
    dry = compose(
        Ports(
            transactions=SqlTransactions(stage.database),
            engine=stage.engine,
            balances=FakeBalances(),
            mutex=OpenMutex(),
            bus=stage.bus,
            clock=stage.clock,
            ids=stage.ids,
            jobs=FakeJobs(),
            lifeline=FakeLifeline(),
        ),
        EntryRules(dry_run=True),
        ScanRules(),
    )
    stage.engine.signals = [signal()]
    await dry.scan.run()
    await stage.reconcile()
    async with SqlTransactions(stage.database)() as unit:
        assert await unit.ledger.at_exchange(stage.user_id) == stage.engine.book(stage.user_id).wallet == d(1000)
        assert await unit.ledger.total(stage.user_id, Mode.REAL) == d("999.5")
