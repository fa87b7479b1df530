"""What the pages read, against a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import ForeignRow, NewUser, RealRow, SettingsChanges
from orchestrator.store.database import Database, open_database
from orchestrator.store.logins import SqlLogins, SqlPreferences
from orchestrator.store.reads import SqlReads
from orchestrator.store.tables import AccountTruth, Arming, Claim, ForeignHolding, Login, PanicReceipt
from tests.integration import rows
from tests.integration.rows import NOON
from tests.integration.store_rows import add_signal

pytestmark = pytest.mark.servers

ZERO = Decimal(0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


async def test_a_new_user_has_their_deposit_and_nobody_else_gets_their_name(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    account = await SqlReads(database).account(user_id, "PAPER")
    assert (account.balance, account.free, account.open_positions) == (Decimal(10_000), Decimal(10_000), 0)
    assert (await SqlReads(database).account(user_id, "REAL")).balance == 0
    again = NewUser(id=uuid4(), username="ADA", password_hash="-", created_at=NOON)
    assert not await SqlLogins(database).add_user(again)
    twins = [NewUser(id=uuid4(), username=name, password_hash="-", created_at=NOON) for name in ("Bob", "bob", "BOB", "boB")]
    added = await asyncio.gather(*(SqlLogins(database).add_user(twin) for twin in twins))
    assert sum(added) == 1


async def test_a_login_counts_until_it_is_revoked_or_over(database: Database) -> None:
    logins = SqlLogins(database)
    user_id, login_id = await rows.person(database, "Ada"), uuid4()
    await logins.open(login_id, user_id, NOON, NOON + timedelta(hours=12))
    found = await logins.find(login_id, NOON)
    assert found is not None
    assert (found.user_id, found.username, found.role) == (user_id, "Ada", "USER")
    assert await logins.find(login_id, NOON + timedelta(hours=12)) is None
    assert await logins.revoke(login_id, NOON)
    assert not await logins.revoke(login_id, NOON)
    assert await logins.find(login_id, NOON) is None


async def test_logins_that_ended_long_ago_are_dropped_with_the_next_one(database: Database) -> None:
    logins, ada, bob = SqlLogins(database), await rows.person(database, "Ada"), await rows.person(database, "Bob")
    for user_id in (ada, ada, bob):
        await logins.open(uuid4(), user_id, NOON, NOON + timedelta(hours=12))
    recent = NOON + timedelta(days=20)
    await logins.open(uuid4(), ada, recent, recent + timedelta(hours=12))
    later = NOON + timedelta(days=31)
    await logins.open(uuid4(), ada, later, later + timedelta(hours=12))
    async with database.reader() as session:
        kept = dict((await session.execute(select(Login.user_id, func.count()).group_by(Login.user_id))).all())
    assert kept == {ada: 2, bob: 1}


async def test_the_ledger_adds_up_to_the_balance_page_by_page(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    await rows.booked(database, user_id, ["-0.5", "12.25", "-0.5", "-3.00000001"])
    reads = SqlReads(database)
    whole = await reads.ledger(user_id, "PAPER", limit=100, offset=0)
    assert whole.total == 5
    assert sum(entry.amount for entry in whole.entries) == whole.balance == Decimal("10008.24999999")
    assert whole.entries[0].balance_after == whole.balance
    pages = [await reads.ledger(user_id, "PAPER", limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [entry.id for page in pages for entry in page.entries] == [entry.id for entry in whole.entries]
    assert (await reads.account(user_id, "PAPER")).balance == whole.balance


async def test_a_dry_runs_results_are_not_of_the_wallet_at_the_exchange(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    dry = await rows.position(database, user_id, mode="REAL", dry_run=True)
    real = await rows.position(database, user_id, mode="REAL", symbol="ETHUSDT")
    await rows.booked(database, user_id, ["1000"], mode="REAL", kind="DEPOSIT")
    await rows.booked(database, user_id, ["-0.5", "7"], mode="REAL", position_id=dry)
    await rows.booked(database, user_id, ["-2"], mode="REAL", position_id=real)
    reads = SqlReads(database)
    shown = await reads.ledger(user_id, "REAL", limit=10, offset=0)
    assert [entry.amount for entry in shown.entries] == [Decimal(-2), Decimal(1000)]
    assert shown.balance == (await reads.account(user_id, "REAL")).balance == Decimal(998)
    assert (await reads.equity(user_id, "REAL", None))[-1].value == Decimal(998)
    apart = await reads.ledger(user_id, "REAL", limit=10, offset=0, dry_run=True)
    assert (apart.total, apart.balance) == (2, Decimal("6.5"))


async def test_the_equity_curve_begins_at_the_periods_start_and_is_thinned(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    await rows.booked(database, user_id, ["1"] * 60)
    reads = SqlReads(database)
    everything = await reads.equity(user_id, "PAPER", None, points=1000)
    assert len(everything) == 61
    assert [everything[0].value, everything[-1].value] == [Decimal(10_000), Decimal(10_060)]
    since = NOON + timedelta(minutes=30)
    late = await reads.equity(user_id, "PAPER", since, points=10)
    assert (late[0].at, late[0].value) == (since, Decimal(10_030))
    assert late[-1].value == 10_060
    assert len(late) <= 16
    young = await reads.equity(user_id, "PAPER", NOON - timedelta(days=30))
    assert young[0].value == 10_000
    assert [point.at for point in late] == sorted(point.at for point in late)


async def test_a_dry_run_counts_in_no_total(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    lost = {"status": "CLOSED_LOSS", "pnl": Decimal(-5), "realized_pnl": Decimal(-4), "closed_at": NOON}
    dry = await rows.position(database, user_id, mode="REAL", dry_run=True, **lost)
    await rows.position(database, user_id, mode="REAL", dry_run=True)
    await rows.booked(database, user_id, ["-4", "-1"], mode="REAL", position_id=dry)
    reads = SqlReads(database)
    stats = await reads.stats(user_id, "REAL", NOON.replace(hour=0))
    assert (stats.trades, stats.net_pnl, stats.today_booked, stats.today_lowest) == (0, ZERO, ZERO, ZERO)
    account = await reads.account(user_id, "REAL")
    assert (account.margin_used, account.open_positions) == (ZERO, 0)


async def test_an_account_at_the_exchange_is_read_with_what_is_not_ours_and_what_has_no_answer(database: Database) -> None:
    user_id, reads = await rows.person(database, "Ada"), SqlReads(database)
    assert await reads.real(user_id) == RealRow(foreign=[], unknown=[])
    assert await reads.real(uuid4()) == RealRow()
    await rows.put(
        database, Arming, user_id=user_id, armed_at=NOON, canary_at=NOON, canary_passed=False, canary_detail="-2015",
        refusal="not proven today",
    )  # fmt: skip
    await rows.put(
        database, AccountTruth, user_id=user_id, begun_at=NOON, known_until=NOON, look_back_to=None, heard_at=NOON,
        wallet=Decimal(1000), free=Decimal(900), position_mode="ONE_WAY", opened=True, difference=Decimal("0.5"),
        differs_since=NOON, alarmed_at=NOON,
    )  # fmt: skip
    await rows.put(
        database, ForeignHolding, user_id=user_id, symbol="ETHUSDT", name="position", side="LONG", quantity=Decimal(2),
        first_seen_at=NOON - timedelta(hours=1),
    )  # fmt: skip
    await rows.order(database, user_id, await rows.signal(database), "UNKNOWN")
    known = await reads.real(user_id)
    assert (known.armed_at, known.refusal, known.heard_at, known.opened) == (NOON, "not proven today", NOON, True)
    assert known.canary_detail == "-2015"
    assert (known.wallet, known.difference, known.alarmed_at) == (Decimal(1000), Decimal("0.5"), NOON)
    assert known.foreign == [ForeignRow(symbol="ETHUSDT", name="position", side="LONG", quantity=Decimal(2))]
    assert known.unknown == []  # that one is on paper


async def test_margin_of_positions_and_of_claims_is_used(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    held = await rows.order(database, user_id, await rows.signal(database), "FILLED")
    waiting = await rows.order(database, user_id, await rows.signal(database, "ETHUSDT"), "AWAITING_APPROVAL")
    await rows.position(database, user_id)
    for symbol, order_id in (("BTCUSDT", held), ("ETHUSDT", waiting)):
        await rows.put(
            database, Claim, user_id=user_id, symbol=symbol, mode="PAPER", order_id=order_id, margin=Decimal(100),
            notional=Decimal(1000), created_at=NOON,
        )  # fmt: skip
    account = await SqlReads(database).account(user_id, "PAPER")
    assert [account.margin_used, account.margin_claimed, account.free] == [Decimal(100), Decimal(100), Decimal(9_800)]
    assert (account.open_positions, account.waiting) == (1, 1)


async def test_totals_count_closed_trades_and_today(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    day = NOON.replace(hour=0)
    won = {"status": "CLOSED_WIN", "pnl": Decimal(9), "realized_pnl": Decimal(10), "fees": Decimal(1), "closed_at": NOON}
    lost = {"status": "CLOSED_LOSS", "pnl": Decimal(-5), "realized_pnl": Decimal(-4), "closed_at": day - timedelta(hours=1)}
    await rows.position(database, user_id, **won)
    await rows.position(database, user_id, **lost)
    await rows.position(database, user_id)
    await rows.booked(database, user_id, ["9", "-0.5"])
    stats = await SqlReads(database).stats(user_id, "PAPER", day)
    assert (stats.trades, stats.wins, stats.losses, stats.win_rate) == (2, 1, 1, 0.5)
    assert [stats.net_pnl, stats.best, stats.worst] == [Decimal(4), Decimal(9), Decimal(-5)]
    assert (stats.today_trades, stats.today_pnl, stats.today_booked) == (1, Decimal(9), Decimal("8.5"))
    assert stats.today_lowest == 0
    history = await SqlReads(database).history(user_id, "PAPER", limit=10, offset=0)
    assert [row.status for row in history] == ["CLOSED_WIN", "CLOSED_LOSS"]


async def test_the_lowest_of_the_day_stays_when_something_is_won_back(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    await rows.booked(database, user_id, ["9", "-20.5", "15"])
    stats = await SqlReads(database).stats(user_id, "PAPER", NOON.replace(hour=0))
    assert (stats.today_booked, stats.today_lowest) == (Decimal("3.5"), Decimal("-11.5"))


async def test_a_signal_says_what_was_done_with_it_for_whoever_asks(database: Database) -> None:
    ada, bob = await rows.person(database, "Ada"), await rows.person(database, "Bob")
    times = [NOON + timedelta(minutes=15 * number) for number in range(5)]
    traded, waiting, refused, declined, nothing = [await rows.signal(database, at=at) for at in times]
    position_id = await rows.position(database, ada, signal_id=traded)
    await rows.order(database, ada, traded, "FILLED", position_id=position_id)
    await rows.order(database, ada, waiting, "AWAITING_APPROVAL", expires_at=NOON)
    await rows.refusal(database, None, refused, "recent_signal")
    await rows.order(database, ada, declined, "DECLINED", reason="declined", detail="You declined it.")
    await rows.refusal(database, bob, nothing, "not_enough_margin")
    reads = SqlReads(database)
    of_ada = {view.signal.id: view.decision for view in await reads.signals(ada, limit=10)}
    assert (of_ada[traded].kind, of_ada[traded].position_id) == ("traded", position_id)
    assert of_ada[waiting].kind == "waiting"
    assert (of_ada[refused].kind, of_ada[refused].reason) == ("refused", "recent_signal")
    assert (of_ada[declined].kind, of_ada[declined].detail) == ("refused", "You declined it.")
    assert of_ada[nothing].kind == "none"
    of_bob = {view.signal.id: view.decision for view in await reads.signals(bob, limit=10)}
    assert [of_bob[each].kind for each in (traded, waiting, declined)] == ["none", "none", "none"]
    assert of_bob[nothing].reason == "not_enough_margin"
    one = await reads.signal(bob, traded)
    assert one is not None
    assert one.signal.tick_size == Decimal("0.10")


async def test_only_entries_that_have_not_expired_wait(database: Database) -> None:
    ada, bob = await rows.person(database, "Ada"), await rows.person(database, "Bob")
    signal_id = await rows.signal(database)
    order_id = await rows.order(database, ada, signal_id, "AWAITING_APPROVAL", expires_at=NOON + timedelta(minutes=1))
    reads = SqlReads(database)
    waiting = await reads.approvals(ada, NOON)
    assert [(row.id, row.signal.id) for row in waiting] == [(order_id, signal_id)]
    assert await reads.approvals(ada, NOON + timedelta(minutes=1)) == []
    assert await reads.approvals(bob, NOON) == []


async def test_nobody_reads_another_users_rows(database: Database) -> None:
    ada, bob = await rows.person(database, "Ada"), await rows.person(database, "Bob")
    position_id = await rows.position(database, ada)
    await rows.put(database, PanicReceipt, id=uuid4(), user_id=ada, started_at=NOON, phase="done", results=[])
    reads = SqlReads(database)
    assert await reads.position(bob, position_id) is None
    assert await reads.positions(bob, statuses=("OPEN",)) == []
    assert await reads.fills(bob, position_id) == []
    assert await reads.receipt(bob) is None
    assert await reads.receipt(ada) is not None
    found = await reads.position(ada, position_id)
    assert found is not None
    assert found.symbol == "BTCUSDT"


async def test_settings_keep_their_history_and_refuse_a_stale_form(database: Database) -> None:
    user_id = await rows.person(database, "Ada")
    preferences = SqlPreferences(database)
    changed = await preferences.change(user_id, SettingsChanges(leverage=Decimal(20)), NOON, 1)
    assert changed is not None
    assert (changed.leverage, changed.settings_version) == (Decimal(20), 2)
    assert await preferences.change(user_id, SettingsChanges(leverage=Decimal(30)), NOON, 1) is None
    same = await preferences.change(user_id, SettingsChanges(leverage=Decimal(20)), NOON, None)
    assert same is not None
    assert same.settings_version == 2


async def test_admins_count_everything_and_see_no_balance(database: Database) -> None:
    ada = await rows.person(database, "Ada")
    signal_id = await rows.signal(database)
    await rows.refusal(database, ada, signal_id, "daily_loss_reached")
    await rows.position(database, ada)
    reads = SqlReads(database)
    counted = await reads.statistics()
    assert (counted.users, counted.scans, counted.signals, counted.open_positions) == (1, 1, 1, 1)
    assert counted.refusals == {"daily_loss_reached": 1}
    people = await reads.admin_users(limit=10, offset=0)
    assert [(row.username, row.open_positions) for row in people] == [("Ada", 1)]
    assert [(scan.universe, scan.fallbacks) for scan in await reads.scans()] == [(120, [])]


async def test_a_scan_is_read_with_what_it_fell_back_on(database: Database) -> None:
    await add_signal(database)
    assert [scan.fallbacks for scan in await SqlReads(database).scans()] == [["tickers from REST"]]


async def test_a_database_that_is_away_is_called_by_its_name() -> None:
    away = open_database("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(StoreUnavailable):
        await SqlReads(away).user(uuid4())
    with pytest.raises(StoreUnavailable):
        await SqlLogins(away).revoke(uuid4(), NOON)
    await away.close()


async def test_a_page_asks_as_often_for_one_row_as_for_fifty(database: Database) -> None:
    asked: list[str] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def _note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    ada = await rows.person(database, "Ada")
    counts = []
    for number in range(20):
        signal_id = await rows.signal(database, at=NOON + timedelta(minutes=15 * number))
        await rows.position(database, ada, symbol=f"COIN{number}USDT", signal_id=signal_id)
        if number in (0, 19):
            asked.clear()
            reads = SqlReads(database)
            assert len(await reads.signals(ada, limit=50)) == number + 1
            assert len(await reads.positions(ada, statuses=("OPEN",))) == number + 1
            counts.append(len(asked))
    assert counts == [5, 5]
