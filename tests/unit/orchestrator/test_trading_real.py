"""What a REAL user gets until real orders exist: dry runs that live like paper beside the paper wallet, and refusals in words."""

from typing import Any

from msgspec import structs

from orchestrator.core.ledger import Entry, EntryKind
from orchestrator.core.order import OrderStatus
from orchestrator.core.position import PositionStatus
from orchestrator.trading.booking import book_wallet
from shared.enums import Mode
from shared.execution import RealAccount
from tests.builders import NOON, USER, at, bar, d, funding, signal, trader
from tests.fakes import World

KNOWN: dict[str, Any] = {"mode": Mode.REAL, "real_balance_cache": d(1000), "real_balance_at": NOON}


async def test_a_dry_run_lives_like_paper_and_never_touches_the_paper_wallet() -> None:
    """LONG 10 at 100: entry fee 0.50; funding -0.10; stop at 98: -20.00 and 0.49. The REAL ledger sums to -21.09."""
    world = World(trader(**KNOWN))
    await world.enter(signal())
    (position,) = world.rows.live(USER)
    assert (position.mode, position.dry_run) == (Mode.REAL, True)
    world.clock.market = at("12:40")
    world.engine.funding["SOLUSDT"] = [funding("12:05", "0.0001", 100)]
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    await world.trading.watch.run()
    closed = world.rows.positions[position.id]
    assert (closed.status, closed.pnl) == (PositionStatus.CLOSED_LOSS, d("-21.09"))
    assert world.balance(USER) == d(10_000)
    real = [row for row in world.rows.ledger if row.mode is Mode.REAL]
    assert sum(row.amount for row in real) == real[-1].balance_after == d("-21.09")
    assert world.rows.claims == {}


async def test_what_a_dry_run_makes_is_told_apart_from_the_wallet_at_the_exchange() -> None:
    """Each runs on its own: 1000 in the wallet stay 1000, the dry run's entry fee of 0.50 runs from zero."""
    world = World(trader(**KNOWN))
    async with world.store.begin() as unit:
        (user,) = await unit.traders.all()
        deposit = Entry(at=NOON, kind=EntryKind.DEPOSIT, amount=d(1000), source="opening")
        await book_wallet(unit, user, Mode.REAL, [deposit], None)
        await unit.commit()
    await world.enter(signal())
    async with world.store.begin() as unit:
        await book_wallet(unit, user, Mode.REAL, [structs.replace(deposit, amount=d(5), source="transfer")], None)
        await unit.commit()
    real = [row for row in world.rows.ledger if row.mode is Mode.REAL]
    assert [row.balance_after for row in real] == [d(1000), d("-0.5"), d(1005)]


async def test_a_dry_position_travels_with_its_account() -> None:
    world = World(trader(**KNOWN))
    await world.enter(signal())
    world.quote("SOLUSDT", 101)
    await world.trading.desk.close(USER, world.rows.live(USER)[0].id, None)
    (request,) = world.engine.sent("close")
    assert isinstance(request.account, RealAccount)
    assert request.account.dry_run
    assert [held.symbol for held in request.account.dry_positions or []] == ["SOLUSDT"]


async def test_a_real_order_is_refused_in_words_until_real_orders_exist() -> None:
    world = World(trader(**KNOWN), dry_run=False)
    await world.enter(signal())
    assert [(row.reason.value, row.detail) for row in world.rows.refusals] == [
        ("venue_refused", "real_not_available: real orders come later")
    ]
    assert world.rows.claims == {}
    assert world.rows.positions == {}


async def test_a_real_order_whose_outcome_is_unknown_is_never_sent_again() -> None:
    world = World(trader(**KNOWN), dry_run=False)
    world.engine.trouble["enter"] = ["lost before"]
    await world.enter(signal())
    for _ in range(3):
        world.clock.pass_wall(seconds=60)
        await world.trading.settle.run()
    (order,) = world.rows.orders.values()
    assert order.status is OrderStatus.UNKNOWN
    assert [request.resume for request in world.engine.sent("enter")] == [False, True, True, True]
    assert len(world.rows.claims) == 1


async def test_a_stale_real_balance_means_no_order() -> None:
    world = World(trader(**(KNOWN | {"real_balance_at": None})))
    await world.enter(signal())
    assert [row.reason.value for row in world.rows.refusals] == ["balance_stale"]


async def test_what_a_dry_run_lost_stops_dry_runs_for_the_day_and_not_the_account_at_the_exchange() -> None:
    """The rehearsed LONG loses 20.99 by its stop, the limit is 20; what is open at a loss counts likewise."""
    world = World(trader(**KNOWN, max_daily_loss=d(20)))
    await world.enter(signal())
    await world.enter(signal("AAAUSDT"))
    world.quote("SOLUSDT", 98)
    world.quote("AAAUSDT", 98)
    (sold,) = [row for row in world.rows.live(USER) if row.symbol == "SOLUSDT"]
    await world.trading.desk.close(USER, sold.id, None)
    await world.enter(signal("BBBUSDT"))
    world.rules = structs.replace(world.rules, dry_run=False)
    world.start()
    await world.enter(signal("CCCUSDT"))
    assert [row.reason.value for row in world.rows.refusals] == ["daily_loss_reached", "venue_refused"]


async def test_what_the_account_at_the_exchange_lost_stops_it_for_the_day_and_no_dry_run() -> None:
    world = World(trader(**KNOWN, max_daily_loss=d(20)), dry_run=False)
    async with world.store.begin() as unit:
        (user,) = await unit.traders.all()
        lost = Entry(at=NOON, kind=EntryKind.REALIZED_PNL, amount=d(-20), source="realized_pnl:SOLUSDT:1")
        await book_wallet(unit, user, Mode.REAL, [lost], None)
        await unit.commit()
    await world.enter(signal())
    assert [row.reason.value for row in world.rows.refusals] == ["daily_loss_reached"]
    world.rules = structs.replace(world.rules, dry_run=True)
    world.start()
    await world.enter(signal("AAAUSDT"))
    assert [(row.symbol, row.dry_run) for row in world.rows.live(USER)] == [("AAAUSDT", True)]
