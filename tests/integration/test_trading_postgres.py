"""The use cases on a real PostgreSQL, two workers at once: the row locks and keys decide, and the books agree row by row."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
import sqlalchemy as sa

from orchestrator.core.order import OrderStatus
from orchestrator.ports import (
    ClaimRecord,
    FillRecord,
    FundingRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    RefusalRecord,
    SignalRecord,
    Trader,
)
from orchestrator.store.database import Database, open_database
from orchestrator.store.unit_of_work import SqlTransactions
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules
from shared.analysis import AnalyzeRequest
from shared.enums import Side
from tests.builders import at, bar, d, funding, signal
from tests.fakes import FakeBalances, FakeBus, FakeClock, FakeEngine, FakeIds, FakeJobs, FakeLifeline, FakeStore, OpenMutex, Rows
from tests.integration.store_rows import add_user
from tests.soundness import assert_at_rest, assert_sound

pytestmark = pytest.mark.servers

SYMBOLS = ("AAAUSDT", "BBBUSDT")


class Stage:
    """Several workers on one database and one engine; the lease excludes nobody, as if it had been lost."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock, self.bus, self.ids = FakeClock(), FakeBus(), FakeIds()
        self.engine = FakeEngine(FakeStore(), self.clock)
        for symbol in SYMBOLS:
            self.engine.prices[symbol] = d(100)

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
        return compose(ports, EntryRules(), ScanRules(), self._pause)

    async def _pause(self, seconds: float) -> None:
        self.clock.pass_wall(seconds=seconds)
        await asyncio.sleep(0)

    async def rows(self) -> Rows:
        """What is committed, as the fakes hold it."""
        rows = Rows()
        rows.traders = {one.id: one for one in await self._all("users", Trader)}
        rows.signals = {one.id: one for one in await self._all("signals", SignalRecord)}
        rows.refusals = await self._all("refusals", RefusalRecord)
        rows.claims = {(one.user_id, one.symbol, one.mode): one for one in await self._all("claims", ClaimRecord)}
        rows.orders = {one.id: one for one in await self._all("orders", OrderRecord)}
        rows.positions = {one.id: one for one in await self._all("positions", PositionRecord)}
        rows.fills = {(one.order_id, one.trade_id): one for one in await self._all("fills", FillRecord)}
        rows.ledger = await self._all("ledger_entries", LedgerRecord, " ORDER BY id")
        rows.fundings = {(one.position_id, one.at): one for one in await self._all("funding_payments", FundingRecord)}
        return rows

    async def _all[R](self, table: str, kind: type[R], order: str = "") -> list[R]:
        async with self.database.engine.connect() as connection:
            found = await connection.execute(sa.text(f"SELECT * FROM {table}{order}"))  # noqa: S608 - names from this file
            return [msgspec.convert(dict(row), kind) for row in found.mappings()]


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    database = open_database(database_url)
    yield Stage(database)
    await database.close()


async def users(stage: Stage, count: int) -> list[UUID]:
    return [await add_user(stage.database, f"user{number}") for number in range(count)]


async def entered(stage: Stage, count: int = 1) -> list[UUID]:
    """That many users, each LONG of AAAUSDT and SHORT of BBBUSDT since 12:00; now it is 12:40."""
    known = await users(stage, count)
    stage.engine.signals = [signal("AAAUSDT"), signal("BBBUSDT", Side.SHORT)]
    await stage.worker().scan.run()
    stage.clock.market = at("12:40")
    return known


async def at_once(*work: Callable[[], Any]) -> None:
    await asyncio.gather(*(one() for one in work))


async def test_two_overlapping_scans_with_the_same_signals_make_one_position_per_user_and_symbol(stage: Stage) -> None:
    await users(stage, 5)
    stage.engine.signals = [signal("AAAUSDT"), signal("BBBUSDT", Side.SHORT)]
    await at_once(stage.worker().scan.run, stage.worker().scan.run)
    rows = await stage.rows()
    held = [(position.user_id, position.symbol) for position in rows.live()]
    assert len(held) == len(set(held)) == 10
    assert len(rows.signals) == 2
    assert [row.reason.value for row in rows.refusals] == ["duplicate_signal"] * 2
    assert_at_rest(rows)


async def test_the_claim_is_the_last_word_where_two_scans_bring_different_candles(stage: Stage) -> None:
    """Both signals are new and neither is recent to the other: only the claim stands between a user and a doubled position."""
    await users(stage, 4)
    workers = stage.worker(), stage.worker()

    async def scan(worker: Trading, candle: str) -> None:
        stage.engine.signals = [signal("AAAUSDT", Side.LONG if candle == "12:00" else Side.SHORT, candle_close=at(candle))]
        await worker.scan.run()

    await at_once(lambda: scan(workers[0], "12:00"), lambda: scan(workers[1], "11:45"))
    rows = await stage.rows()
    assert len(rows.live()) == len(rows.claims) == 4
    assert_at_rest(rows)


async def test_two_workers_that_watch_at_once_close_and_fund_once(stage: Stage) -> None:
    await entered(stage, 3)
    stage.engine.funding["AAAUSDT"] = [funding("12:05", "0.0001", 100)]
    stage.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    await at_once(stage.worker().watch.run, stage.worker().watch.run)
    rows = await stage.rows()
    assert len(rows.fundings) == 3
    stopped = [position for position in rows.positions.values() if position.symbol == "AAAUSDT"]
    assert [position.pnl for position in stopped] == [d("-21.09")] * 3
    assert_at_rest(rows)


async def test_a_close_a_trigger_and_a_panic_at_once_close_each_position_once(stage: Stage) -> None:
    (user_id,) = await entered(stage)
    stage.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    held = (await stage.rows()).live()
    one, other = stage.worker(), stage.worker()
    await at_once(
        one.watch.run,
        lambda: other.desk.panic(user_id),
        lambda: one.desk.close(user_id, held[0].id, None),
        lambda: other.desk.close(user_id, held[1].id, d(4)),
    )
    await one.desk.panic(user_id)
    rows = await stage.rows()
    assert rows.live() == []
    closed = {position.id: position.opened_size for position in rows.positions.values()}
    for position_id, size in closed.items():
        out = [fill.quantity for fill in rows.fills.values() if fill.position_id == position_id and not fill.opens]
        assert sum(out, Decimal(0)) == size
    assert_at_rest(rows)


async def test_two_workers_that_settle_at_once_book_once(stage: Stage) -> None:
    await users(stage, 3)
    stage.engine.trouble["enter"] = ["lost after", "lost before", "lost after"]
    stage.engine.signals = [signal("AAAUSDT")]
    await stage.worker().scan.run()
    rows = await stage.rows()
    assert [order.status for order in rows.orders.values()] == [OrderStatus.UNKNOWN] * 3
    assert_sound(rows)
    await at_once(stage.worker().settle.run, stage.worker().settle.run)
    rows = await stage.rows()
    assert len(rows.live()) == 3
    assert_at_rest(rows)


async def test_an_approval_given_in_two_windows_at_once_is_one_order(stage: Stage) -> None:
    (user_id,) = await users(stage, 1)
    async with stage.database.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE users SET auto_trade_enabled = false"))
    stage.engine.signals = [signal("AAAUSDT")]
    await stage.worker().scan.run()
    (order_id,) = (await stage.rows()).orders
    one, other = stage.worker(), stage.worker()
    await at_once(lambda: one.desk.approve(user_id, order_id), lambda: other.desk.approve(user_id, order_id))
    assert len(stage.engine.sent("enter")) == 1
    assert_at_rest(await stage.rows())


async def test_a_panic_pressed_twice_at_once_is_one_receipt(stage: Stage) -> None:
    (user_id,) = await entered(stage)
    one, other = stage.worker(), stage.worker()
    first, second = await asyncio.gather(one.desk.panic(user_id), other.desk.panic(user_id))
    assert first.receipt_id == second.receipt_id
    async with stage.database.engine.connect() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM panic_receipts"))).scalar_one() == 1
    assert_at_rest(await stage.rows())


async def test_a_signal_keeps_its_review_whoever_looks_first(stage: Stage) -> None:
    await entered(stage)
    stage.clock.market = at("18:00")
    stage.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    found = await asyncio.gather(stage.worker().review.run(), stage.worker().review.run())
    assert sum(found) == 1
    outcomes = {row.symbol: row.outcome for row in (await stage.rows()).signals.values()}
    assert outcomes == {"AAAUSDT": "STOP", "BBBUSDT": None}


async def asked(stage: Stage, symbol: str) -> list[str]:
    """What became of a new signal for a symbol, now."""
    stage.engine.prices.setdefault(symbol, d(100))
    stage.engine.signals = [signal(symbol, candle_close=stage.clock.market)]
    await stage.worker().scan.run()
    rows = await stage.rows()
    held = ["held" for position in rows.live() if position.symbol == symbol]
    return held + [refusal.reason.value for refusal in rows.refusals if refusal.symbol == symbol]


async def test_max_daily_loss_really_stops_new_entries_until_the_next_utc_day(stage: Stage) -> None:
    """Two entries pay 0.50 each; the stop at 98 loses 20 and 0.49: -21.49, which is the limit to the cent. The other position then wins
    20 back, less 0.49, and the day stands at -1.98; but a day that was lost stays lost until 00:00 UTC.
    """
    (user_id,) = await entered(stage)
    async with stage.database.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE users SET max_daily_loss = 21.49"))
    stage.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 98)]
    await stage.worker().watch.run()
    assert await asked(stage, "CCCUSDT") == ["daily_loss_reached"]
    winner = next(position for position in (await stage.rows()).live() if position.symbol == "BBBUSDT")
    stage.engine.prices["BBBUSDT"] = d(98)
    await stage.worker().desk.close(user_id, winner.id, None)
    rows = await stage.rows()
    assert rows.traders[user_id].paper_balance == d("9998.02")
    assert await asked(stage, "DDDUSDT") == ["daily_loss_reached"]
    stage.clock.market = at("23:59:59").replace(microsecond=999_999)
    assert await asked(stage, "EEEUSDT") == ["daily_loss_reached"]
    stage.clock.pass_market(microseconds=1)
    assert await asked(stage, "FFFUSDT") == ["held"]
    assert_at_rest(await stage.rows())


async def test_a_limit_that_is_raised_lets_the_day_go_on(stage: Stage) -> None:
    await entered(stage)
    stage.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 98)]
    await stage.worker().watch.run()
    for limit, answer in (("21.49", ["daily_loss_reached"]), ("21.50", ["held"])):
        async with stage.database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE users SET max_daily_loss = :limit"), {"limit": Decimal(limit)})
        assert await asked(stage, f"C{limit.replace('.', '')}USDT") == answer


async def test_signals_that_a_crash_left_undecided_are_decided_once_by_two_workers(stage: Stage) -> None:
    """One user had decided the first signal when the scan died; both workers look for what is left."""
    first, second = await users(stage, 2)
    stage.engine.signals = [signal("AAAUSDT"), signal("BBBUSDT", Side.SHORT)]
    one, other = stage.worker(), stage.worker()
    kept = await one.scan._keep(await stage.engine.analyze(AnalyzeRequest()), stage.ids.new(), at("12:00"), 1.0, "trace")
    await one.enter.decide(first, kept[0], {})
    await at_once(one.scan.finish, other.scan.finish)
    rows = await stage.rows()
    assert sorted((row.user_id, row.symbol) for row in rows.live()) == sorted(
        (user_id, symbol) for user_id in (first, second) for symbol in SYMBOLS
    )
    assert rows.refusals == []
    assert await one.scan.finish() == 0
    assert_at_rest(rows)
