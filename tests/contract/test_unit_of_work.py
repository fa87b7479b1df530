"""One contract, two stores: what the storm and the unit tests stand on in memory behaves as PostgreSQL does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from msgspec import structs

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderPurpose, OrderStatus
from orchestrator.core.position import PositionStatus
from orchestrator.errors import Conflict
from orchestrator.ports import (
    ForeignRecord,
    FundingRecord,
    LedgerRecord,
    ReceiptRecord,
    SignalRecord,
    SymbolResult,
    Transactions,
    TruthRecord,
)
from orchestrator.store.database import open_database
from orchestrator.store.unit_of_work import SqlTransactions
from shared.enums import Mode, PositionMode
from tests.builders import trader
from tests.fakes import FakeStore
from tests.integration.store_rows import NOW, add_user, claim, entry, fill, order, position, refusal, scan, signal


class Stage:
    """A store with its users."""

    def __init__(self, begin: Transactions, add: Callable[[str, Mode], object]) -> None:
        self.begin = begin
        self._add = add

    async def user(self, name: str = "ada", mode: Mode = Mode.PAPER) -> UUID:
        """A new one with 10,000 on paper, booked as the opening deposit."""
        added = self._add(name, mode)
        return await added if asyncio.iscoroutine(added) else added  # type: ignore[return-value]

    async def signal(self, **changes: object) -> SignalRecord:
        made = scan()
        kept = structs.replace(signal(made.id), **changes)
        async with self.begin() as unit:
            await unit.scans.add(made)
            assert await unit.signals.add(kept)
            await unit.commit()
        return kept


def in_memory() -> Stage:
    store = FakeStore()

    def add(name: str, mode: Mode) -> UUID:
        del name
        made = structs.replace(trader(), id=uuid4(), mode=mode)
        store.add_trader(made)
        return made.id

    return Stage(store.begin, add)


@pytest.fixture(params=["memory", pytest.param("postgresql", marks=pytest.mark.servers)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield in_memory()
        return
    database = open_database(request.getfixturevalue("database_url"))

    async def add(name: str, mode: Mode) -> UUID:
        user_id = await add_user(database, name)
        async with database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE users SET mode = :mode WHERE id = :id"), {"mode": mode.value, "id": user_id})
        return user_id

    yield Stage(SqlTransactions(database), add)
    await database.close()


async def test_nothing_is_kept_without_commit(stage: Stage) -> None:
    made = order(await stage.user())
    async with stage.begin() as unit:
        await unit.orders.add(made)
        assert await unit.orders.get(made.id) == made
    async with stage.begin() as unit:
        assert await unit.orders.get(made.id) is None


async def test_an_error_inside_undoes_everything(stage: Stage) -> None:
    made = order(await stage.user())

    async def fail() -> None:
        async with stage.begin() as unit:
            await unit.orders.add(made)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with stage.begin() as unit:
        assert await unit.orders.get(made.id) is None


async def test_what_happens_twice_is_kept_once_and_the_transaction_goes_on(stage: Stage) -> None:
    user_id = await stage.user()
    kept = await stage.signal()
    entered, opened = order(user_id), position(user_id)
    payment = FundingRecord(
        position_id=opened.id, at=NOW, user_id=user_id, mode=Mode.PAPER, rate=Decimal("0.0001"), mark_price=Decimal(100),
        quantity=Decimal("9.95"), amount=Decimal("-0.0995"),
    )  # fmt: skip
    async with stage.begin() as unit:
        await unit.orders.add(entered)
        await unit.positions.add(opened)
        made = scan()
        await unit.scans.add(made)
        assert not await unit.signals.add(signal(made.id))
        for answer in (True, False):
            assert await unit.claims.add(claim(entered)) is answer
            assert await unit.fills.add(fill(entered, opened)) is answer
            assert await unit.ledger.add(entry(user_id, Decimal("-0.5"), Decimal("9999.5"), "fee:1")) is answer
            assert await unit.fundings.add(payment) is answer
            assert await unit.refusals.add(refusal(user_id, kept.id)) is answer
            assert await unit.refusals.add(refusal(None, None))
        await unit.commit()
    async with stage.begin() as unit:
        assert await unit.ledger.total(user_id, Mode.PAPER) == Decimal("9999.5")
        assert await unit.claims.of_user(user_id, Mode.PAPER) == [claim(entered)]
        assert await unit.fills.of_position(opened.id) == [fill(entered, opened)]
        assert await unit.signals.decided(user_id, kept.id)


async def test_an_order_moves_on_once_by_its_status_and_version(stage: Stage) -> None:
    made = order(await stage.user())
    async with stage.begin() as unit:
        await unit.orders.add(made)
        await unit.commit()
    async with stage.begin() as unit:
        sent = await unit.orders.advance(made, OrderStatus.SENT, sent_at=NOW)
        await unit.commit()
    async with stage.begin() as unit:
        assert await unit.orders.advance(made, OrderStatus.SENT, sent_at=NOW) is None
        assert sent is not None
        again = await unit.orders.advance(sent, OrderStatus.SENT, carried_until=NOW)
    assert sent == structs.replace(made, status=OrderStatus.SENT, sent_at=NOW, version=2)
    assert again is not None
    assert again.version == 3


async def test_of_many_that_move_an_order_together_one_wins(stage: Stage) -> None:
    made = order(await stage.user())
    async with stage.begin() as unit:
        await unit.orders.add(made)
        await unit.commit()

    async def send() -> bool:
        async with stage.begin() as unit:
            moved = await unit.orders.advance(made, OrderStatus.SENT)
            await unit.commit()
            return moved is not None

    assert sorted(await asyncio.gather(*(send() for _ in range(5)))) == [False] * 4 + [True]


async def test_one_name_is_one_order_of_a_user(stage: Stage) -> None:
    user_id = await stage.user()
    made = order(user_id)
    async with stage.begin() as unit:
        await unit.orders.add(made)
        assert await unit.orders.named(user_id, made.client_order_id) == made
        assert await unit.orders.named(user_id, "nt-e-other") is None
        await unit.commit()


async def test_orders_come_oldest_first_by_what_must_be_done_with_them(stage: Stage) -> None:
    user_id = await stage.user()
    late = order(user_id, status=OrderStatus.UNKNOWN, carried_until=NOW, created_at=NOW + timedelta(seconds=5))
    early = order(user_id, status=OrderStatus.SENT, carried_until=None, created_at=NOW - timedelta(seconds=5))
    carried = order(user_id, status=OrderStatus.SENT, carried_until=NOW + timedelta(seconds=1))
    waiting = order(user_id, status=OrderStatus.AWAITING_APPROVAL, expires_at=NOW, created_at=NOW + timedelta(seconds=6))
    done = order(user_id, status=OrderStatus.FILLED)
    async with stage.begin() as unit:
        for made in (late, early, carried, waiting, done):
            await unit.orders.add(made)
        assert await unit.orders.under_way(NOW, 10) == [early, late]
        assert await unit.orders.under_way(NOW, 1) == [early]
        assert await unit.orders.expired(NOW, 10) == [waiting]
        assert await unit.orders.live_of_user(user_id) == [early, carried, late, waiting]


async def test_entries_that_may_stand_at_the_exchange_are_the_real_ones_that_left_and_are_not_booked(stage: Stage) -> None:
    user_id = await stage.user()
    real = {"mode": Mode.REAL, "purpose": OrderPurpose.ENTRY}
    sent = order(user_id, status=OrderStatus.SENT, created_at=NOW + timedelta(seconds=2), **real)
    unknown = order(user_id, status=OrderStatus.UNKNOWN, created_at=NOW + timedelta(seconds=1), **real)
    others = [
        order(user_id, status=OrderStatus.CLAIMED, **real),
        order(user_id, status=OrderStatus.FILLED, **real),
        order(user_id, status=OrderStatus.SENT, dry_run=True, **real),
        order(user_id, status=OrderStatus.SENT, mode=Mode.REAL, purpose=OrderPurpose.CLOSE),
        order(user_id, status=OrderStatus.SENT, mode=Mode.PAPER, purpose=OrderPurpose.ENTRY),
    ]
    async with stage.begin() as unit:
        for made in (sent, unknown, *others):
            await unit.orders.add(made)
        assert await unit.orders.entries_everywhere() == [unknown, sent]


async def test_a_second_live_position_of_a_symbol_is_a_conflict_in_its_mode_alone(stage: Stage) -> None:
    user_id = await stage.user()
    async with stage.begin() as unit:
        await unit.positions.add(position(user_id))
        await unit.positions.add(position(user_id, symbol="ETHUSDT"))
        await unit.positions.add(position(user_id, mode=Mode.REAL))
        await unit.positions.add(position(user_id, status=PositionStatus.CLOSED_LOSS, closed_at=NOW, pnl=Decimal(-1)))
        await unit.commit()
    with pytest.raises(Conflict):
        async with stage.begin() as unit:
            await unit.positions.add(position(user_id))


async def test_a_position_changes_once_by_its_version(stage: Stage) -> None:
    made = position(await stage.user(), mode=Mode.REAL)
    async with stage.begin() as unit:
        await unit.positions.add(made)
        changed = await unit.positions.change(made, stop_loss=Decimal(99), stop_order_id="nt-s-X")
        assert await unit.positions.change(made, stop_loss=Decimal(97)) is None
        assert changed == structs.replace(made, stop_loss=Decimal(99), stop_order_id="nt-s-X", version=2)
        closing = await unit.positions.change(changed, status=PositionStatus.CLOSING)
        assert closing is not None
        assert await unit.positions.get(made.id) == closing


async def test_live_positions_come_oldest_first_and_by_who_judges_them(stage: Stage) -> None:
    user_id = await stage.user()
    real = position(user_id, symbol="DUSDT", mode=Mode.REAL, opened_at=NOW + timedelta(minutes=3))
    dry = position(user_id, symbol="CUSDT", mode=Mode.REAL, dry_run=True, opened_at=NOW + timedelta(minutes=2))
    paper = position(user_id, symbol="AUSDT")
    closing = position(user_id, symbol="BUSDT", status=PositionStatus.CLOSING, opened_at=NOW + timedelta(minutes=1))
    leaving = position(
        user_id, symbol="EUSDT", mode=Mode.REAL, status=PositionStatus.CLOSING, opened_at=NOW + timedelta(minutes=4)
    )
    gone = position(
        user_id, symbol="DUSDT", mode=Mode.REAL, status=PositionStatus.CLOSED_WIN, pnl=Decimal(1), closed_at=NOW,
        opened_at=NOW - timedelta(minutes=9),
    )  # fmt: skip
    async with stage.begin() as unit:
        for made in (real, dry, paper, closing, leaving, gone):
            await unit.positions.add(made)
        assert await unit.positions.live_of_user(user_id) == [paper, closing, dry, real, leaving]
        assert await unit.positions.live_of_user(user_id, Mode.REAL) == [dry, real, leaving]
        assert await unit.positions.open_everywhere() == [paper, dry]
        assert await unit.positions.guarded_everywhere() == [real, leaving]
        assert await unit.positions.real_since(user_id, "DUSDT", NOW) == [gone, real]
        assert await unit.positions.real_since(user_id, "DUSDT", NOW + timedelta(seconds=1)) == [real]


async def test_the_ledger_sums_each_mode_and_what_the_exchange_should_hold(stage: Stage) -> None:
    user_id = await stage.user()
    dry = position(user_id, mode=Mode.REAL, dry_run=True)

    def real(amount: str, source: str, kind: EntryKind, position_id: UUID | None = None) -> LedgerRecord:
        made = entry(user_id, Decimal(amount), Decimal(0), source, kind=kind)
        return structs.replace(made, mode=Mode.REAL, position_id=position_id)

    async with stage.begin() as unit:
        await unit.positions.add(dry)
        await unit.ledger.add(real("1000", "opening", EntryKind.DEPOSIT))
        await unit.ledger.add(real("-0.12345678", "trade:1:fee", EntryKind.FEE))
        await unit.ledger.add(real("-5", "trade:2:pnl", EntryKind.REALIZED_PNL))
        await unit.ledger.add(real("7", "dry:1", EntryKind.REALIZED_PNL, dry.id))
        assert await unit.ledger.total(user_id, Mode.REAL) == Decimal("1001.87654322")
        assert await unit.ledger.at_exchange(user_id) == Decimal("994.87654322")
        assert await unit.ledger.known(user_id, Mode.REAL, ["opening", "trade:9:fee"]) == {"opening"}
        assert await unit.ledger.known(user_id, Mode.REAL, []) == set()
        assert await unit.ledger.amount(user_id, Mode.REAL, "opening") == Decimal(1000)
        assert await unit.ledger.amount(user_id, Mode.REAL, "nothing") is None
        assert await unit.ledger.net_since(user_id, Mode.REAL, NOW, dry=False) == Decimal("-5.12345678")
        assert await unit.ledger.net_since(user_id, Mode.REAL, NOW, dry=True) == 7
        assert await unit.ledger.net_since(user_id, Mode.REAL, NOW + timedelta(seconds=1), dry=False) == 0
        assert await unit.ledger.lowest_since(user_id, Mode.REAL, NOW, dry=False) == Decimal("-5.12345678")
        assert await unit.ledger.lowest_since(user_id, Mode.REAL, NOW, dry=True) == 0
        assert await unit.ledger.total(user_id, Mode.PAPER) == Decimal(10_000)


async def test_the_newest_hearing_of_a_wallet_stays(stage: Stage) -> None:
    user_id = await stage.user(mode=Mode.REAL)
    async with stage.begin() as unit:
        await unit.traders.set_real_balance(user_id, Decimal(500), NOW)
        await unit.traders.set_real_balance(user_id, Decimal(400), NOW - timedelta(seconds=1))
        seen = await unit.traders.lock(user_id)
        assert seen is not None
        assert (seen.real_balance_cache, seen.real_balance_at) == (Decimal(500), NOW)


async def test_users_with_something_real_are_those_in_mode_real_or_with_something_there(stage: Stage) -> None:
    armed, holder, sender = await stage.user("a", Mode.REAL), await stage.user("b"), await stage.user("c")
    dry, paper, gone = await stage.user("d"), await stage.user("e"), await stage.user("f")
    async with stage.begin() as unit:
        await unit.positions.add(position(holder, mode=Mode.REAL))
        await unit.orders.add(order(sender, mode=Mode.REAL, status=OrderStatus.UNKNOWN))
        await unit.positions.add(position(dry, mode=Mode.REAL, dry_run=True))
        await unit.positions.add(position(paper))
        await unit.positions.add(position(gone, mode=Mode.REAL, status=PositionStatus.CLOSED_WIN, closed_at=NOW))
        assert set(await unit.traders.with_real(NOW)) == {armed, holder, sender, gone}
        assert set(await unit.traders.with_real(NOW + timedelta(seconds=1))) == {armed, holder, sender}
        assert {one.id for one in await unit.traders.all()} == {armed, holder, sender, dry, paper, gone}
        assert await unit.traders.lock(uuid4()) is None


async def test_auto_trading_is_switched_off_once(stage: Stage) -> None:
    user_id = await stage.user()
    async with stage.begin() as unit:
        assert await unit.traders.switch_auto_trade_off(user_id, NOW)
        assert not await unit.traders.switch_auto_trade_off(user_id, NOW)
        seen = await unit.traders.lock(user_id)
        assert seen is not None
        assert seen.auto_trade_enabled is False


async def test_the_last_truth_and_the_last_list_of_what_is_not_ours_stand(stage: Stage) -> None:
    user_id = await stage.user(mode=Mode.REAL)
    first = TruthRecord(
        user_id=user_id, begun_at=NOW, known_until=NOW, heard_at=NOW, wallet=Decimal(1000), free=Decimal(900),
        position_mode=PositionMode.ONE_WAY, opened=True,
    )  # fmt: skip
    later = structs.replace(first, known_until=NOW + timedelta(minutes=1), wallet=Decimal("999.5"), look_back_to=NOW)
    holding = ForeignRecord(
        user_id=user_id, symbol="XRPUSDT", name="web_1", side="BUY", quantity=Decimal(5), first_seen_at=NOW
    )  # fmt: skip
    async with stage.begin() as unit:
        assert await unit.truths.get(user_id) is None
        await unit.truths.save(first)
        await unit.truths.save(later)
        assert await unit.truths.get(user_id) == later
        await unit.foreign.replace(user_id, [holding])
        await unit.foreign.replace(user_id, [structs.replace(holding, name="web_2")])
        assert await unit.foreign.of_user(user_id) == [structs.replace(holding, name="web_2")]
        await unit.foreign.replace(user_id, [])
        assert await unit.foreign.of_user(user_id) == []


async def test_a_receipt_runs_until_it_is_finished(stage: Stage) -> None:
    user_id = await stage.user()
    receipt = ReceiptRecord(id=uuid4(), user_id=user_id, started_at=NOW, phase="closing", results=[])
    done = structs.replace(
        receipt, finished_at=NOW, phase="done", results=[SymbolResult(symbol="BTCUSDT", result="closed")], open_positions=0,
        open_orders=0,
    )  # fmt: skip
    async with stage.begin() as unit:
        await unit.receipts.add(receipt)
        assert await unit.receipts.running(user_id) == receipt
        assert await unit.receipts.unfinished(NOW) == []
        assert await unit.receipts.unfinished(NOW + timedelta(seconds=1)) == [receipt]
        await unit.receipts.save(done)
        assert await unit.receipts.running(user_id) is None
        assert await unit.receipts.get(receipt.id) == done


async def test_a_claim_is_free_again_once_released(stage: Stage) -> None:
    made = order(await stage.user(), mode=Mode.REAL)
    async with stage.begin() as unit:
        await unit.orders.add(made)
        assert await unit.claims.add(claim(made))
        await unit.claims.release(made.user_id, made.symbol, made.mode)
        await unit.claims.release(made.user_id, made.symbol, made.mode)
        assert await unit.claims.of_user(made.user_id, Mode.REAL) == []
        assert await unit.claims.add(claim(made))


async def test_signals_are_left_until_their_scan_is_decided(stage: Stage) -> None:
    kept = await stage.signal()
    user_id = await stage.user()
    async with stage.begin() as unit:
        assert await unit.signals.recent(NOW) == [kept]
        assert await unit.signals.left(NOW) == [kept]
        assert await unit.signals.left(NOW + timedelta(seconds=1)) == []
        await unit.scans.decided({kept.scan_id}, NOW)
        assert await unit.signals.left(NOW) == []
        assert not await unit.signals.decided(user_id, kept.id)
        await unit.orders.add(order(user_id, signal_id=kept.id, purpose=OrderPurpose.ENTRY))
        assert await unit.signals.decided(user_id, kept.id)


async def test_deciders_about_one_user_wait_for_each_other(stage: Stage) -> None:
    user_id = await stage.user()

    async def spend() -> None:
        async with stage.begin() as unit:
            seen = await unit.traders.lock(user_id)
            assert seen is not None
            await asyncio.sleep(0)
            await unit.traders.set_paper_balance(user_id, seen.paper_balance - 1)
            await unit.commit()

    await asyncio.gather(*(spend() for _ in range(8)))
    async with stage.begin() as unit:
        seen = await unit.traders.lock(user_id)
        assert seen is not None
        assert seen.paper_balance == Decimal(9992)
