"""Balance, positions, protection and flatten, as a paper account that travels with the request sees them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.core.order import Wallet
from engine.execution.balance import balance, positions
from engine.execution.entry import enter
from engine.execution.flatten import flatten
from engine.execution.protect import protect
from shared.enums import ExecutionStatus, PositionMode, Side
from shared.execution import Account, BalanceReply, FlattenReply, FlattenRequest, ProtectRequest, VenueState
from shared.problem import Problem
from tests.unit.engine.execution_desk import BTC_MARK, NOW, World, armed, entry, held, paper, real, refusal_of
from tests.unit.engine.fake_exchange import FakeExchange, Fault


async def test_free_is_the_wallet_less_the_margins_in_use() -> None:
    told = await balance(World().desk, paper(held(), held(symbol="ETHUSDT"), balance="1000"))

    assert told == BalanceReply(asset="USDT", total=Decimal(1000), free=Decimal(940), as_of=NOW)


async def test_free_is_never_negative() -> None:
    told = await balance(World().desk, paper(held(), balance="10"))

    assert isinstance(told, BalanceReply)
    assert told.free == 0


@pytest.mark.parametrize("dry_run", [True, False])
async def test_the_balance_of_a_real_account_is_not_invented(dry_run: bool) -> None:
    told = await balance(World().desk, real(dry_run=dry_run))

    assert isinstance(told, Problem)
    assert told.code == ("real_not_available" if dry_run else "no_credentials")


async def test_positions_are_told_at_the_live_mark() -> None:
    world = World()
    world.market.mark_now = msgspec.structs.replace(BTC_MARK, price=Decimal(60_300))

    told = await positions(world.desk, paper(held()))

    assert told.state is VenueState.OPEN
    (position,) = told.positions
    assert position.mark_price == 60_300
    assert position.unrealized_pnl == Decimal("3.00000000")
    assert position.liquidation_price == Decimal("57228.91566265")


async def test_a_missing_mark_takes_only_its_own_symbols_figures() -> None:
    told = await positions(World().desk, paper(held(symbol="GONEUSDT"), held()))

    gone, known = told.positions
    assert (gone.mark_price, gone.unrealized_pnl) == (None, None)
    assert known.mark_price == 60_000


async def test_a_stale_mark_is_no_mark() -> None:
    world = World()
    world.clock.pass_wall(timedelta(seconds=6))

    told = await positions(world.desk, paper(held()))

    assert told.positions[0].mark_price is None


async def test_an_empty_paper_book_is_flat() -> None:
    assert (await positions(World().desk, paper())).state is VenueState.FLAT


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_real_account_that_cannot_be_asked_is_unknown_not_flat(dry_run: bool) -> None:
    assert (await positions(World().desk, real(dry_run=dry_run))).state is VenueState.UNKNOWN


def amendment(account: Account | None = None, side: Side = Side.LONG, **changes: Any) -> ProtectRequest:
    fields: dict[str, Any] = {
        "account": account or paper(held(side)),
        "client_order_id": "p-1",
        "symbol": "BTCUSDT",
        "side": side,
    }
    return ProtectRequest(**(fields | changes))


async def test_a_new_stop_rests_beside_the_old_target() -> None:
    report = await protect(World().desk, amendment(stop_loss=Decimal("59700.06")))

    assert report.status is ExecutionStatus.FILLED
    assert report.protection is not None
    assert report.protection.stop_loss == Decimal("59700.1")
    assert report.protection.take_profit == Decimal(61_200)


async def test_a_new_target_rests_beside_the_old_stop() -> None:
    report = await protect(World().desk, amendment(take_profit=Decimal(60_500)))

    assert report.protection is not None
    assert (report.protection.stop_loss, report.protection.take_profit) == (Decimal(59_400), Decimal(60_500))


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (amendment(stop_loss=Decimal(60_001)), "wrong_side_stop"),
        (amendment(take_profit=Decimal(59_999)), "wrong_side_target"),
        (amendment(side=Side.SHORT, stop_loss=Decimal(59_999)), "wrong_side_stop"),
        (amendment(stop_loss=Decimal(57_000)), "stop_beyond_liquidation"),
        (amendment(), "nothing_to_amend"),
        (amendment(paper(), stop_loss=Decimal(59_700)), "no_position"),
        (amendment(paper(held(Side.SHORT)), stop_loss=Decimal(59_700)), "no_position"),
        (amendment(paper(held(stop_loss=None)), take_profit=Decimal(61_000)), "stop_missing"),
        (amendment(real(dry_run=False), stop_loss=Decimal(59_700)), "no_credentials"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_amendment_that_would_not_protect_is_refused(request_: ProtectRequest, code: str) -> None:
    report = await protect(World().desk, request_)

    assert report.status is ExecutionStatus.REFUSED
    assert report.protection is None
    assert report.refusal is not None
    assert report.refusal.code == code


async def test_an_amendment_at_a_stale_price_is_refused() -> None:
    world = World()
    world.clock.pass_wall(timedelta(seconds=6))

    report = await protect(world.desk, amendment(stop_loss=Decimal(59_700)))

    assert report.refusal is not None
    assert report.refusal.code == "stale_price"


async def flattened(world: World, account: Account, prefix: str = "panic") -> FlattenReply:
    done = await flatten(world.desk, FlattenRequest(account=account, client_order_prefix=prefix))
    assert isinstance(done, FlattenReply)
    return done


async def test_flatten_closes_everything_and_says_flat() -> None:
    done = await flattened(World(), paper(held(), held(Side.SHORT, symbol="ETHUSDT")))

    assert [report.client_order_id for report in done.reports] == ["panic-1", "panic-2"]
    assert (done.open_positions, done.open_orders, done.flat) == (0, 0, True)


async def test_flatten_of_an_empty_account_is_flat() -> None:
    assert (await flattened(World(), paper())).flat


async def test_flatten_closes_the_others_where_one_cannot_be_closed_and_does_not_say_flat() -> None:
    done = await flattened(World(), paper(held(symbol="GONEUSDT"), held()))

    assert [report.status for report in done.reports] == [ExecutionStatus.REFUSED, ExecutionStatus.FILLED]
    assert (done.open_positions, done.flat) == (1, False)


async def test_a_prefix_used_for_another_book_stops_only_the_ids_that_collide() -> None:
    world = World()
    await flattened(world, paper(held()))

    done = await flattened(world, paper(held(Side.SHORT), held(symbol="ETHUSDT")))

    assert [report.refusal.code if report.refusal else "" for report in done.reports] == ["client_order_id_reused", ""]
    assert not done.flat


@pytest.mark.parametrize("dry_run", [True, False])
async def test_flatten_of_an_account_that_cannot_be_seen_is_refused(dry_run: bool) -> None:
    done = await flatten(World().desk, FlattenRequest(account=real(dry_run=dry_run), client_order_prefix="p"))

    assert isinstance(done, Problem)
    assert done.code == ("real_not_available" if dry_run else "no_credentials")


async def test_flatten_of_a_dry_run_closes_the_positions_that_came_with_it() -> None:
    done = await flattened(World(), real(held(), dry_run=True))

    assert done.flat
    assert done.reports[0].dry_run is True


async def test_the_positions_told_of_an_account_that_is_not_dry_are_ignored() -> None:
    assert (await positions(World().desk, real(held(), dry_run=False))).state is VenueState.UNKNOWN


async def test_a_dry_run_with_a_key_reads_what_a_live_order_would_meet() -> None:
    exchange = FakeExchange()
    world = World(dry_run=True, exchanges=exchange)

    report = await enter(world.desk, entry(armed()))

    assert (report.status, report.dry_run) == (ExecutionStatus.FILLED, True)
    assert report.unchecked == ["margin_type"]
    assert report.brackets_source == "EXCHANGE"


async def test_a_dry_run_is_refused_what_a_live_order_would_be() -> None:
    poor, taken, hedged, mixed = FakeExchange(), FakeExchange(), FakeExchange(), FakeExchange()
    poor.usdt = Wallet(total=Decimal(10), free=Decimal(10))
    taken.open()
    hedged.mode = PositionMode.HEDGE
    mixed.multi_assets = True

    reports = [await enter(World(exchanges=one).desk, entry(armed())) for one in (poor, taken, hedged, mixed)]

    assert [refusal_of(report) for report in reports] == ["not_enough_margin", "position_open", "hedge_mode", "multi_assets"]


async def test_a_dry_run_whose_key_is_not_answered_goes_on_and_says_what_was_not_checked() -> None:
    exchange = FakeExchange()
    for method in ("wallet", "brackets"):
        exchange.always[method] = Fault.AWAY

    report = await enter(World(exchanges=exchange).desk, entry(armed()))

    assert report.status is ExecutionStatus.FILLED
    assert len(report.unchecked) == 5


async def test_a_dry_run_with_a_key_knows_its_balance_less_what_dry_positions_tie_up() -> None:
    account = msgspec.structs.replace(armed(), dry_run=True, dry_positions=[held()])

    told = await balance(World(exchanges=FakeExchange()).desk, account)

    assert isinstance(told, BalanceReply)
    assert (told.total, told.free) == (Decimal(1000), Decimal(970))
