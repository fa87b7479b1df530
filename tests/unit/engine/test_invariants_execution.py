"""The invariants that the first system broke and the engine's execution could break again, each by its number.

4 (an id is one order) is `test_execution_once` too, 3 (the schema) is `tests/unit/shared/test_wire_types`.
"""

import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.order import OrderRefusal, no
from engine.execution.balance import positions
from engine.execution.canary import canary
from engine.execution.cancel import cancel
from engine.execution.close import close
from engine.execution.entry import enter
from engine.execution.flatten import flatten
from engine.execution.venues import Venues
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Venue
from shared.enums import ExecutionStatus, Side
from shared.execution import (
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    PaperAccount,
    RealAccount,
    VenueState,
)
from shared.problem import Problem
from shared.wire import decode_strict, encode
from tests.unit.engine.execution_desk import StandingMarket, World, armed, closing, entry, held, paper, real, refusal_of
from tests.unit.engine.fake_exchange import FakeExchange, Fault


class CountingExchange:
    """Stands where a client that signs would be constructed."""

    def __init__(self) -> None:
        self.constructed = 0

    def construct(self, account: RealAccount) -> Venue:
        del account
        self.constructed += 1
        raise AssertionError("an exchange client was constructed")


def world_with_exchange(*, dry_run: bool) -> tuple[World, CountingExchange]:
    """A desk whose REAL constructor is counted; everything else is as the engine composes it."""
    world, exchange = World(), CountingExchange()
    venues = Venues(
        paper=lambda account: PaperVenue(world.market, world.clock, account.book),
        dry=lambda account: DryRunVenue(world.market, world.clock, account.dry_positions),
        real=exchange.construct,
        exchanges=world.exchanges,
        dry_run=dry_run,
    )
    world.desk = msgspec.structs.replace(world.desk, venues=venues)
    return world, exchange


@pytest.mark.parametrize("engine_dry_run", [True, False])
async def test_invariant_1_a_paper_intent_never_constructs_an_exchange_client(engine_dry_run: bool) -> None:
    world, exchange = world_with_exchange(dry_run=engine_dry_run)

    opened = await enter(world.desk, entry(paper()))
    closed = await close(world.desk, closing(paper(held())))

    assert (opened.status, closed.status) == (ExecutionStatus.FILLED, ExecutionStatus.FILLED)
    assert exchange.constructed == 0


async def test_invariant_1_a_dry_run_intent_never_constructs_an_exchange_client() -> None:
    world, exchange = world_with_exchange(dry_run=True)

    await enter(world.desk, entry(real(dry_run=True)))
    await enter(world.desk, entry(real(dry_run=False), client_order_id="e-2"))
    await close(world.desk, closing(real(dry_run=True), quantity=Decimal("0.01")))

    assert exchange.constructed == 0


def test_invariant_1_paper_cannot_even_be_written_with_credentials() -> None:
    assert set(PaperAccount.__struct_fields__) == {"book"}


def test_invariant_1_paper_and_dry_run_load_nothing_that_could_send() -> None:
    clients = {"ccxt", "aiohttp", "httpx", "websockets", "requests"}
    script = f"import engine.paper, engine.execution.entry, engine.execution.close, sys; sys.exit(bool({clients!r} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


async def test_invariant_2_a_close_uses_the_positions_own_mode_not_the_engines_present_one() -> None:
    # The engine has been switched to dry run since: a real position is not "closed" by a simulation, a dry one not by money.
    dry_now, live_now = World(dry_run=True), World(dry_run=False)

    real_position = await close(dry_now.desk, closing(real(dry_run=False), quantity=Decimal("0.01")))
    dry_position = await close(live_now.desk, closing(real(dry_run=True), quantity=Decimal("0.01")))

    assert refusal_of(real_position) == "no_credentials"
    assert (dry_position.status, dry_position.dry_run) == (ExecutionStatus.FILLED, True)
    assert live_now.real_venues == 0


async def test_invariant_2_every_report_says_its_venue_and_whether_it_was_dry() -> None:
    on_paper = await enter(World().desk, entry())
    dry = await enter(World().desk, entry(real(dry_run=True)))

    assert (on_paper.venue, on_paper.dry_run) == ("paper", False)
    assert (dry.venue, dry.dry_run) == ("binance", True)


async def test_invariant_3_a_report_reads_back_as_it_was_written() -> None:
    for report in (await enter(World().desk, entry()), await enter(World().desk, entry(amount_usdt=Decimal(1)))):
        assert decode_strict(encode(report), ExecutionReport) == report


@given(
    side=st.sampled_from(Side),
    stop=st.decimals(min_value=50_000, max_value=70_000, places=1),
    target=st.decimals(min_value=50_000, max_value=70_000, places=1),
    best=st.decimals(min_value=59_900, max_value=60_100, places=1),
)
async def test_invariant_7_no_fill_ever_has_its_stop_or_target_on_the_wrong_side(
    side: Side, stop: Decimal, target: Decimal, best: Decimal
) -> None:
    world = World()
    world.set_book(asks=((best, Decimal(5)),), bids=((best, Decimal(5)),))

    report = await enter(world.desk, entry(side=side, stop_loss=stop, take_profit=target, leverage=Decimal(5)))

    if report.status is ExecutionStatus.FILLED:
        assert report.average_price is not None
        assert report.protection is not None
        assert report.protection.take_profit is not None
        assert (report.average_price - report.protection.stop_loss) * side.sign > 0
        assert (report.protection.take_profit - report.average_price) * side.sign > 0


@given(
    side=st.sampled_from(Side),
    asked_side=st.sampled_from(Side),
    quantity=st.none() | st.decimals(min_value=Decimal("0.0001"), max_value=10, places=4),
)
async def test_invariant_8_a_close_only_ever_reduces_and_in_the_symbols_steps(
    side: Side, asked_side: Side, quantity: Decimal | None
) -> None:
    position = held(side, quantity="0.017")

    report = await close(World().desk, closing(paper(position), asked_side, quantity=quantity))

    assert report.reduce_only
    assert report.filled_quantity <= position.quantity
    if report.status is ExecutionStatus.FILLED:
        assert asked_side is side
        assert report.filled_quantity % Decimal("0.001") == 0
        assert report.order_side == ("SELL" if side is Side.LONG else "BUY")


class RecordingMarket(StandingMarket):
    """Notes every question by name, so that a test can say which were asked."""

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("_") and callable(object.__getattribute__(self, name)):
            NOTED.append(name)
        return object.__getattribute__(self, name)


NOTED: list[str] = []


@pytest.mark.parametrize("request_", [entry(real(dry_run=True)), closing(real(dry_run=True), quantity=Decimal("0.01"))], ids=str)
async def test_invariant_22_a_dry_run_asks_only_for_public_market_data(request_: EntryRequest | CloseRequest) -> None:
    NOTED.clear()
    world = World(market=RecordingMarket())

    report = await (enter(world.desk, request_) if isinstance(request_, EntryRequest) else close(world.desk, request_))

    assert report.dry_run is True
    assert set(NOTED) <= {"instrument", "book", "mark"}


# --- real money, on an exchange in memory; each is tried with more faults in `test_execution_real_entry` and `…_close` ----


def real_world(*, dry_run: bool = False) -> tuple[World, FakeExchange]:
    exchange = FakeExchange()
    return World(dry_run=dry_run, exchanges=exchange), exchange


@pytest.mark.parametrize("fault", [Fault.OK, Fault.SILENT, Fault.LOST], ids=str)
async def test_invariant_4_an_id_reaches_the_exchange_once_however_often_it_comes(fault: Fault) -> None:
    world, exchange = real_world()
    exchange.fail("send", fault)
    request = entry(armed(), client_order_id="nt-e-ONE")

    for _ in range(3):
        await enter(world.desk, request)
        if fault is not Fault.LOST:  # what Redis forgot, the exchange knows; what never arrived, only Redis does
            world.reports.kept.clear()
        exchange.now.positions.clear()

    assert exchange.calls.count("send") == 1
    assert exchange.calls.index("find") < exchange.calls.index("send")


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.AWAY, Fault.HALTED], ids=str)
async def test_invariant_6_an_entry_without_a_confirmed_stop_is_closed_reduce_only_and_said_so(fault: Fault) -> None:
    world, exchange = real_world()
    exchange.always["rest STOP"] = fault

    report = await enter(world.desk, entry(armed(), client_order_id="nt-e-ONE"))

    assert exchange.held() == 0
    assert exchange.sent()[-1].reduce_only
    assert report.refusal is not None
    assert report.closing_order_id == "nt-x-ONE"
    assert report.unprotected_seconds is not None


async def test_invariant_6_the_ids_of_stop_and_target_are_told_and_cancelled_with_the_close() -> None:
    world, exchange = real_world()
    report = await enter(world.desk, entry(armed(), client_order_id="nt-e-ONE"))
    assert report.protection is not None
    told = {report.protection.stop_order_id, report.protection.target_order_id}
    assert {order.client_order_id for order in exchange.guards()} == told

    await close(world.desk, closing(armed(), client_order_id="nt-c-ONE"))

    assert exchange.guards() == []


@pytest.mark.parametrize("price", ["59300", "61300"], ids=["beyond the stop", "beyond the target"])
async def test_invariant_7_a_real_fill_on_the_wrong_side_of_its_stop_or_target_is_closed(price: str) -> None:
    world, exchange = real_world()
    exchange.price = Decimal(price)  # the market moved between the check and the fill

    report = await enter(world.desk, entry(armed(), client_order_id="nt-e-ONE"))

    assert report.refusal is not None
    assert report.protection is None
    assert exchange.held() == 0
    assert exchange.guards() == []


@given(
    side=st.sampled_from(Side),
    asked=st.none() | st.decimals(min_value=Decimal("0.0001"), max_value=10, places=4),
    held_thousandths=st.integers(min_value=1, max_value=90),
)
@settings(max_examples=25, deadline=None)
async def test_invariant_8_a_real_close_takes_its_quantity_from_the_exchange(
    side: Side, asked: Decimal | None, held_thousandths: int
) -> None:
    world, exchange = real_world()
    quantity = Decimal(held_thousandths) / 1000
    exchange.open(side, str(quantity))

    report = await close(world.desk, closing(armed(), side, quantity=asked, client_order_id="nt-c-ONE"))

    assert all(order.reduce_only for order in exchange.sent())
    assert exchange.held() * side.sign >= 0
    assert report.filled_quantity <= min(quantity, asked or quantity)
    assert report.filled_quantity % Decimal("0.001") == 0


@pytest.mark.parametrize("method", ["positions", "wallet", "find"])
async def test_invariant_9_what_is_not_known_is_not_flat_and_opens_nothing(method: str) -> None:
    world, exchange = real_world()
    exchange.always[method] = Fault.AWAY

    report = await enter(world.desk, entry(armed(), client_order_id="nt-e-ONE"))
    told = await positions(world.desk, armed())

    assert report.status is ExecutionStatus.REFUSED
    assert "send" not in exchange.calls
    assert told.state is (VenueState.UNKNOWN if method == "positions" else VenueState.FLAT)


@pytest.mark.parametrize("method", ["set_isolated", "set_leverage"])
@pytest.mark.parametrize("fault", [no(OrderRefusal.LEVERAGE, "-4028"), Fault.LOST, Fault.AWAY], ids=str)
async def test_invariant_11_a_margin_type_or_leverage_that_is_not_set_aborts_the_entry(
    method: str, fault: Fault | Problem
) -> None:
    world, exchange = real_world()
    exchange.always[method] = fault

    report = await enter(world.desk, entry(armed(), client_order_id="nt-e-ONE"))

    assert report.status is ExecutionStatus.REFUSED
    assert "send" not in exchange.calls


async def test_invariant_13_a_panic_is_flat_only_when_the_exchange_says_so_and_names_what_failed() -> None:
    world, exchange = real_world()
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        exchange.open(Side.SHORT, symbol=symbol)
    exchange.always["send"] = Fault.AWAY
    panic = FlattenRequest(account=armed(), client_order_prefix="nt-f-ONE")

    failed = await flatten(world.desk, panic)
    del exchange.always["send"]
    done = await flatten(world.desk, panic)

    assert isinstance(failed, FlattenReply)
    assert (failed.flat, failed.open_positions, len(failed.reports)) == (False, 3, 3)
    assert all(report.refusal is not None for report in failed.reports)
    assert isinstance(done, FlattenReply)
    assert (done.flat, done.open_positions, done.open_orders) == (True, 0, 0)


MUTATING = {"send", "rest STOP", "rest TARGET", "rest TRAILING", "cancel", "cancel_all", "set_isolated", "set_leverage"}


@pytest.mark.parametrize("account_is_dry", [True, False])
async def test_invariant_22_a_dry_run_with_a_key_changes_nothing_at_the_exchange(account_is_dry: bool) -> None:
    world, exchange = real_world(dry_run=True)
    account = msgspec.structs.replace(armed(), dry_run=account_is_dry, dry_positions=[held()])

    await enter(world.desk, entry(account, symbol="ETHUSDT"))
    await canary(world.desk, account)
    if account_is_dry:
        await close(world.desk, closing(account))
        await flatten(world.desk, FlattenRequest(account=account, client_order_prefix="nt-f-ONE"))
        await cancel(world.desk, CancelRequest(account=account, symbol="BTCUSDT", client_order_ids=["nt-s-ONE"]))

    assert not MUTATING & set(exchange.calls)
