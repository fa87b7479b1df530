"""The invariants that the first system broke and the engine's execution could break again, each by its number.

4 (an id is one order) is `test_execution_once`, 3 (the schema) is `tests/unit/shared/test_wire_types`.
"""

import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.execution.close import close
from engine.execution.entry import enter
from engine.execution.venues import Venues
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Venue
from shared.enums import ExecutionStatus, Side
from shared.execution import CloseRequest, EntryRequest, ExecutionReport, PaperAccount, RealAccount
from shared.wire import decode_strict, encode
from tests.unit.engine.execution_desk import StandingMarket, World, closing, entry, held, paper, real, refusal_of


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
