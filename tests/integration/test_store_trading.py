"""The rows of trading in a real PostgreSQL: what is kept once, what moves once, who waits for whom."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import pytest

from orchestrator.core.order import OrderStatus
from orchestrator.core.position import PositionStatus
from orchestrator.errors import Conflict, OrchestratorError, StoreUnavailable
from orchestrator.ports import FundingRecord, ReceiptRecord, SymbolResult
from orchestrator.store.database import Database, open_database
from orchestrator.store.unit_of_work import SqlTransactions
from shared.enums import Mode
from tests.integration.store_rows import NOW, add_signal, add_user, claim, entry, fill, order, position, refusal, scan, signal

pytestmark = pytest.mark.servers


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def transactions(database: Database) -> SqlTransactions:
    return SqlTransactions(database)


async def test_every_record_comes_back_as_it_was_kept(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    kept = await add_signal(database)
    entered = order(user_id, signal_id=kept.id, leverage=Decimal(20), quantity=Decimal("0.000000001"))
    opened = position(user_id, signal_id=kept.id)
    filled = fill(entered, opened)
    async with transactions() as unit:
        await unit.orders.add(entered)
        await unit.positions.add(opened)
        assert await unit.fills.add(filled)
        await unit.commit()
    async with transactions() as unit:
        assert await unit.signals.get(kept.id) == kept
        assert await unit.orders.get(entered.id) == entered
        assert await unit.positions.get(opened.id) == opened
        assert await unit.fills.of_position(opened.id) == [filled]


async def test_a_tick_comes_back_without_the_zeros_of_its_column(database: Database, transactions: SqlTransactions) -> None:
    opened = position(await add_user(database), tick_size=Decimal("0.1"), leverage=Decimal(100))
    async with transactions() as unit:
        await unit.positions.add(opened)
        found = await unit.positions.get(opened.id)
    assert found is not None
    assert (str(found.tick_size), str(found.leverage)) == ("0.1", "100")


async def test_nothing_is_kept_without_commit(database: Database, transactions: SqlTransactions) -> None:
    entered = order(await add_user(database))
    async with transactions() as unit:
        await unit.orders.add(entered)
    async with transactions() as unit:
        assert await unit.orders.get(entered.id) is None


async def test_a_feature_that_is_not_a_number_is_kept_as_null(database: Database, transactions: SqlTransactions) -> None:
    kept = await add_signal(database, features={"rsi": float("nan")})
    async with transactions() as unit:
        found = await unit.signals.get(kept.id)
    assert found is not None
    assert found.features == {"rsi": None}


async def test_what_happens_twice_is_kept_once_and_the_transaction_goes_on(
    database: Database, transactions: SqlTransactions
) -> None:
    user_id = await add_user(database)
    kept = await add_signal(database)
    entered, opened = order(user_id), position(user_id)
    payment = FundingRecord(
        position_id=opened.id,
        at=NOW,
        user_id=user_id,
        mode=Mode.PAPER,
        rate=Decimal("0.0001"),
        mark_price=Decimal(100),
        quantity=Decimal("9.95"),
        amount=Decimal("-0.0995"),
    )
    async with transactions() as unit:
        await unit.orders.add(entered)
        await unit.positions.add(opened)
        made = scan()
        await unit.scans.add(made)
        assert not await unit.signals.add(signal(made.id)), "the same symbol and candle is no second signal"
        for answer in (True, False):
            assert await unit.claims.add(claim(entered)) is answer
            assert await unit.fills.add(fill(entered, opened)) is answer
            assert await unit.ledger.add(entry(user_id, Decimal("-0.5"), Decimal("9999.5"), "fee:1")) is answer
            assert await unit.fundings.add(payment) is answer
            assert await unit.refusals.add(refusal(user_id, kept.id)) is answer
            assert await unit.refusals.add(refusal(None, kept.id)) is answer
            assert await unit.refusals.add(refusal(None, None)), "a duplicate that is not kept is told each time"
        await unit.commit()
    async with transactions() as unit:
        assert await unit.ledger.total(user_id, Mode.PAPER) == Decimal("9999.5")
        assert await unit.claims.of_user(user_id, Mode.PAPER) == [claim(entered)]


async def test_a_second_live_position_of_a_symbol_is_a_conflict(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    async with transactions() as unit:
        await unit.positions.add(position(user_id))
        await unit.commit()
    async with transactions() as unit:
        with pytest.raises(Conflict):
            await unit.positions.add(position(user_id))
        await unit.positions.add(position(user_id, symbol="ETHUSDT"))
        closed = position(user_id, status=PositionStatus.CLOSED_LOSS, closed_at=NOW, pnl=Decimal(-1))
        await unit.positions.add(closed)


async def test_an_order_moves_on_once(database: Database, transactions: SqlTransactions) -> None:
    entered = order(await add_user(database))
    async with transactions() as unit:
        await unit.orders.add(entered)
        await unit.commit()
    async with transactions() as first:
        sent = await first.orders.advance(entered, OrderStatus.SENT, sent_at=NOW)
        await first.commit()
    async with transactions() as second:
        assert await second.orders.advance(entered, OrderStatus.SENT, sent_at=NOW) is None
    assert sent == msgspec.structs.replace(entered, status=OrderStatus.SENT, sent_at=NOW, version=2)


async def test_of_two_that_move_an_order_together_one_wins(database: Database, transactions: SqlTransactions) -> None:
    entered = order(await add_user(database))
    async with transactions() as unit:
        await unit.orders.add(entered)
        await unit.commit()

    async def send() -> bool:
        async with transactions() as unit:
            moved = await unit.orders.advance(entered, OrderStatus.SENT)
            await unit.commit()
            return moved is not None

    assert sorted(await asyncio.gather(*(send() for _ in range(6)))) == [False] * 5 + [True]


async def test_a_step_that_the_table_of_transitions_lacks_is_refused(database: Database, transactions: SqlTransactions) -> None:
    entered = order(await add_user(database))
    async with transactions() as unit:
        await unit.orders.add(entered)
        with pytest.raises(ValueError, match="CLAIMED"):
            await unit.orders.advance(entered, OrderStatus.FILLED)


async def test_deciders_about_one_user_wait_for_each_other(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)

    async def spend() -> None:
        async with transactions() as unit:
            trader = await unit.traders.lock(user_id)
            assert trader is not None
            await unit.traders.set_paper_balance(user_id, trader.paper_balance - 1)
            await unit.commit()

    await asyncio.gather(*(spend() for _ in range(12)))
    async with transactions() as unit:
        trader = await unit.traders.lock(user_id)
    assert trader is not None
    assert trader.paper_balance == Decimal(9988)


async def test_claims_race_and_one_wins(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)

    async def enter() -> bool:
        entered = order(user_id)
        async with transactions() as unit:
            await unit.orders.add(entered)
            claimed = await unit.claims.add(claim(entered))
            if claimed:
                await unit.commit()
            return claimed

    assert sum(await asyncio.gather(*(enter() for _ in range(6)))) == 1


async def test_a_released_claim_may_be_claimed_again(database: Database, transactions: SqlTransactions) -> None:
    entered = order(await add_user(database))
    async with transactions() as unit:
        await unit.orders.add(entered)
        await unit.claims.add(claim(entered))
        await unit.claims.release(entered.user_id, entered.symbol, entered.mode)
        assert await unit.claims.add(claim(entered))


async def test_orders_are_found_by_what_must_be_done_with_them(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    carried = order(user_id, status=OrderStatus.SENT, carried_until=NOW + timedelta(seconds=30))
    dropped = order(user_id, status=OrderStatus.UNKNOWN, carried_until=NOW - timedelta(seconds=1), created_at=NOW - timedelta(1))
    orphan = order(user_id, status=OrderStatus.CLAIMED, carried_until=None)
    waiting = order(user_id, status=OrderStatus.AWAITING_APPROVAL, expires_at=NOW)
    later = order(user_id, status=OrderStatus.AWAITING_APPROVAL, expires_at=NOW + timedelta(minutes=1))
    done = order(user_id, status=OrderStatus.FILLED)
    async with transactions() as unit:
        for made in (carried, dropped, orphan, waiting, later, done):
            await unit.orders.add(made)
        assert await unit.orders.under_way(NOW, 10) == [dropped, orphan]
        assert await unit.orders.under_way(NOW, 1) == [dropped]
        assert await unit.orders.expired(NOW, 10) == [waiting]
        assert done not in await unit.orders.live_of_user(user_id)
        assert len(await unit.orders.live_of_user(user_id)) == 5


async def test_judged_moves_forward_only_and_leaves_changed_positions_alone(
    database: Database, transactions: SqlTransactions
) -> None:
    user_id = await add_user(database)
    looked, moved, ahead = (position(user_id, symbol=symbol) for symbol in ("AUSDT", "BUSDT", "CUSDT"))
    later = NOW + timedelta(minutes=5)
    async with transactions() as unit:
        for made in (looked, moved, ahead):
            await unit.positions.add(made)
        changed = await unit.positions.change(moved, stop_loss=Decimal(99))
        await unit.positions.judged([(looked, later), (moved, later), (ahead, NOW - timedelta(minutes=1))])
        await unit.positions.judged([])
        assert changed is not None
        assert await unit.positions.get(looked.id) == msgspec.structs.replace(looked, judged_until=later, funded_until=later)
        assert await unit.positions.get(moved.id) == changed
        assert await unit.positions.get(ahead.id) == ahead


async def test_live_positions_are_the_open_and_the_closing_of_a_mode(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    paper = position(user_id, symbol="AUSDT")
    closing = position(user_id, symbol="BUSDT", status=PositionStatus.CLOSING, opened_at=NOW + timedelta(minutes=1))
    dry = position(user_id, symbol="CUSDT", mode=Mode.REAL, dry_run=True, opened_at=NOW + timedelta(minutes=2))
    real = position(user_id, symbol="DUSDT", mode=Mode.REAL, opened_at=NOW + timedelta(minutes=3))
    closed = position(user_id, symbol="EUSDT", status=PositionStatus.CLOSED_WIN, pnl=Decimal(1), closed_at=NOW)
    async with transactions() as unit:
        for made in (paper, closing, dry, real, closed):
            await unit.positions.add(made)
        assert await unit.positions.live_of_user(user_id) == [paper, closing, dry, real]
        assert await unit.positions.live_of_user(user_id, Mode.PAPER) == [paper, closing]
        assert await unit.positions.open_everywhere() == [paper, dry]


async def test_the_day_counts_what_was_won_and_lost_without_deposits(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    async with transactions() as unit:
        await unit.ledger.add(entry(user_id, Decimal(-3), Decimal(9997), "old", at=NOW - timedelta(hours=7)))
        await unit.ledger.add(entry(user_id, Decimal("-1.13"), Decimal("9995.87"), "new"))
        assert await unit.ledger.net_since(user_id, Mode.PAPER, NOW - timedelta(hours=6), dry=False) == Decimal("-1.13")
        assert await unit.ledger.total(user_id, Mode.PAPER) == Decimal("9995.87")
        assert await unit.ledger.total(user_id, Mode.REAL) == 0


async def test_recent_signals_leave_out_those_refused_for_everyone(database: Database, transactions: SqlTransactions) -> None:
    kept = await add_signal(database)
    dropped = await add_signal(database, symbol="ETHUSDT")
    async with transactions() as unit:
        await unit.refusals.add(refusal(None, dropped.id))
        assert await unit.signals.recent(NOW) == [kept]
        assert await unit.signals.recent(NOW + timedelta(seconds=1)) == []


async def test_a_signal_is_reviewed_by_one(database: Database, transactions: SqlTransactions) -> None:
    kept = await add_signal(database)
    half, whole = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    async with transactions() as unit:
        assert await unit.signals.unreviewed(NOW - timedelta(seconds=1), 10) == []
        assert await unit.signals.unreviewed(NOW, 10) == [kept]
        assert await unit.signals.review(kept, outcome=None, outcome_at=None, reviewed_until=half)
        assert not await unit.signals.review(kept, outcome="STOP", outcome_at=half, reviewed_until=half)
        seen = await unit.signals.get(kept.id)
        assert seen is not None
        assert await unit.signals.unreviewed(NOW, 10) == []
        assert await unit.signals.review(seen, outcome="TARGET", outcome_at=whole, reviewed_until=whole)
        assert await unit.signals.unreviewed(whole, 10) == []


async def test_auto_trading_is_switched_off_once_and_kept_in_the_history(
    database: Database, transactions: SqlTransactions
) -> None:
    user_id = await add_user(database)
    async with transactions() as unit:
        assert await unit.traders.switch_auto_trade_off(user_id, NOW)
        assert not await unit.traders.switch_auto_trade_off(user_id, NOW)
        trader = await unit.traders.lock(user_id)
    assert trader is not None
    assert (trader.auto_trade_enabled, trader.settings_version) == (False, 2)


async def test_nobody_is_locked_and_everybody_is_listed(database: Database, transactions: SqlTransactions) -> None:
    ids = [await add_user(database, name) for name in ("ada", "ben")]
    async with transactions() as unit:
        assert await unit.traders.lock(uuid4()) is None
        assert {trader.id for trader in await unit.traders.all()} == set(ids)


async def test_a_receipt_runs_until_it_is_finished(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    receipt = ReceiptRecord(id=uuid4(), user_id=user_id, started_at=NOW, phase="closing", results=[])
    done = msgspec.structs.replace(
        receipt,
        finished_at=NOW,
        phase="done",
        results=[SymbolResult(symbol="BTCUSDT", result="closed")],
        open_positions=0,
        open_orders=0,
    )
    async with transactions() as unit:
        await unit.receipts.add(receipt)
        assert await unit.receipts.running(user_id) == receipt
        assert await unit.receipts.unfinished(NOW) == []
        assert await unit.receipts.unfinished(NOW + timedelta(seconds=1)) == [receipt]
        await unit.receipts.save(done)
        assert await unit.receipts.running(user_id) is None


async def test_a_lock_that_somebody_keeps_is_a_store_that_does_not_answer(
    database: Database, transactions: SqlTransactions
) -> None:
    user_id = await add_user(database)
    async with transactions() as holder:
        await holder.traders.lock(user_id)
        with pytest.raises(StoreUnavailable, match="LockNotAvailable"):
            await _lock(transactions, user_id)


async def test_a_database_that_is_gone_is_a_store_that_does_not_answer() -> None:
    database = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        await _lock(SqlTransactions(database), uuid4())
    await database.close()


async def test_a_broken_statement_says_so_without_its_values(transactions: SqlTransactions) -> None:
    with pytest.raises(OrchestratorError, match="orders_user_id_fkey") as broken:
        async with transactions() as unit:
            await unit.orders.add(order(uuid4(), detail="what only the user may read"))
    assert not isinstance(broken.value, StoreUnavailable | Conflict)
    assert "may read" not in str(broken.value)


async def test_a_cancelled_decision_leaves_no_lock_behind(database: Database, transactions: SqlTransactions) -> None:
    user_id = await add_user(database)
    locked = asyncio.Event()

    async def decide() -> None:
        async with transactions() as unit:
            await unit.traders.lock(user_id)
            locked.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(decide())
    await locked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2):
        await _lock(transactions, user_id)


async def _lock(transactions: SqlTransactions, user_id: UUID) -> None:
    async with transactions() as unit:
        await unit.traders.lock(user_id)
