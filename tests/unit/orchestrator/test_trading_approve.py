"""Entries that wait for the user: approved at the price of now, declined, or expired; and protection that the user moves."""

import pytest
from msgspec import structs

from orchestrator.core.order import OrderStatus, Refusal, RefusalReason
from orchestrator.ports import Amended, Entered, OrderRecord
from shared.enums import Mode
from shared.execution import ProtectReport, ProtectRequest
from tests.builders import USER, at, bar, d, signal, trader
from tests.fakes import World
from tests.soundness import assert_at_rest, assert_sound


@pytest.fixture
async def world() -> World:
    world = World(trader(auto_trade_enabled=False))
    await world.enter(signal())
    return world


def waiting(world: World) -> OrderRecord:
    (order,) = world.rows.orders.values()
    return order


async def test_what_waits_holds_its_claim_and_sends_nothing(world: World) -> None:
    assert waiting(world).status is OrderStatus.AWAITING_APPROVAL
    assert world.engine.sent("enter") == []
    assert_sound(world.rows)


async def test_an_approval_is_priced_again(world: World) -> None:
    world.quote("SOLUSDT", "100.5")
    entered = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(entered, Entered)
    assert world.engine.sent("enter")[0].signal_price == d("100.5")
    assert world.rows.positions[entered.position_id].entry_price == d("100.5")
    assert_at_rest(world.rows)


@pytest.mark.parametrize("price", ["97.9", "104.1", "101.1"])
async def test_a_price_that_has_run_away_is_refused_and_goes_on_waiting(world: World, price: str) -> None:
    """Beyond the stop, beyond the target, or so far that the target is nearer than the stop."""
    world.quote("SOLUSDT", price)
    refused = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.BAD_PRICE
    assert waiting(world).status is OrderStatus.AWAITING_APPROVAL


async def test_without_a_fresh_price_nothing_is_approved(world: World) -> None:
    world.engine.age_ms["SOLUSDT"] = 60_000
    refused = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.PRICE_UNKNOWN


async def test_risk_is_asked_again_without_counting_the_approval_itself(world: World) -> None:
    row = world.rows.traders[USER]
    world.store.add_trader(row)
    world.rows.ledger.pop()
    entered = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(entered, Entered)


async def test_an_approval_after_its_time_is_refused_in_words(world: World) -> None:
    world.clock.pass_wall(minutes=10)
    refused = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.APPROVAL_EXPIRED
    assert waiting(world).status is OrderStatus.EXPIRED
    assert world.rows.claims == {}


async def test_what_nobody_answers_expires_by_the_wall(world: World) -> None:
    world.clock.pass_market(hours=3)
    assert await world.trading.approve.expire() == 0
    world.clock.pass_wall(minutes=10)
    assert await world.trading.approve.expire() == 1
    assert [row.reason.value for row in world.rows.refusals] == ["approval_expired"]
    assert_at_rest(world.rows)


async def test_approve_in_two_windows_makes_one_order(world: World) -> None:
    order = waiting(world)
    await world.trading.desk.approve(USER, order.id)
    again = await world.trading.desk.approve(USER, order.id)
    assert isinstance(again, Refusal)
    assert again.reason is RefusalReason.NOT_OPEN
    assert len(world.engine.sent("enter")) == 1


async def test_declining_twice_is_the_same_as_once(world: World) -> None:
    order = waiting(world)
    assert await world.trading.desk.decline(USER, order.id) is None
    assert await world.trading.desk.decline(USER, order.id) is None
    assert (waiting(world).status, waiting(world).reason) == (OrderStatus.DECLINED, "declined")
    assert world.rows.claims == {}


async def test_what_was_approved_cannot_be_declined(world: World) -> None:
    order = waiting(world)
    await world.trading.desk.approve(USER, order.id)
    refused = await world.trading.desk.decline(USER, order.id)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.NOT_OPEN


async def test_nobody_approves_for_another(world: World) -> None:
    world.store.add_trader(trader(2))
    refused = await world.trading.desk.approve(trader(2).id, waiting(world).id)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.NOT_FOUND


async def amend(world: World, **changes: object) -> Amended | Refusal:
    (position,) = world.rows.live(USER)
    wanted = {"stop_loss": None, "take_profit": None, "trailing_ratio": None} | changes
    return await world.trading.desk.amend(USER, position.id, **wanted)  # type: ignore[arg-type]


async def test_an_absent_field_of_an_amendment_is_unchanged(world: World) -> None:
    await world.trading.desk.approve(USER, waiting(world).id)
    amended = await amend(world, stop_loss=d("98.504"))
    assert isinstance(amended, Amended)
    assert (amended.stop_loss, amended.take_profit, amended.trailing_ratio) == (d("98.5"), d(104), None)


@pytest.mark.parametrize("changes", [{"stop_loss": d(101)}, {"stop_loss": d(90)}, {"trailing_ratio": d("0.5")}])
async def test_unsound_protection_is_refused(world: World, changes: dict[str, object]) -> None:
    """A stop above the market, a stop beyond the liquidation price at 90.91, a trailing stop of half the price."""
    await world.trading.desk.approve(USER, waiting(world).id)
    refused = await amend(world, **changes)
    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.BAD_PRICE


async def test_a_trailing_stop_that_has_locked_a_gain_is_not_loosened(world: World) -> None:
    await world.trading.desk.approve(USER, waiting(world).id)
    await amend(world, trailing_ratio=d("0.005"), take_profit=d(120))
    world.clock.market = at("12:40")
    world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, 103, 100)]
    await world.trading.watch.run()
    refused = await amend(world, stop_loss=d(99))
    assert isinstance(refused, Refusal)
    assert world.rows.live(USER)[0].stop_loss == d("102.49")


async def test_a_stop_that_trails_while_the_engine_checks_an_amendment_is_not_loosened_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.trading.desk.approve(USER, waiting(world).id)
    await amend(world, trailing_ratio=d("0.005"), take_profit=d(120))
    protecting = world.engine.protect

    async def slow(request: ProtectRequest) -> ProtectReport:
        world.clock.market = at("12:40")
        world.engine.bars["SOLUSDT"] = [bar("12:10", "12:11", 100, 103, 100)]
        await world.trading.watch.run()
        return await protecting(request)

    monkeypatch.setattr(world.engine, "protect", slow)
    refused = await amend(world, stop_loss=d(99))
    assert isinstance(refused, Refusal)
    assert world.rows.live(USER)[0].stop_loss == d("102.49")


async def test_an_approval_that_is_decided_a_moment_before_neither_expires_nor_is_declined(world: World) -> None:
    """The expiry read the row while it waited; by the time it writes, the order is on its way."""
    seen = waiting(world)
    world.engine.trouble["enter"] = ["lost after"]
    await world.trading.desk.approve(USER, seen.id)
    assert (await world.trading.approve._expire(seen)).reason is RefusalReason.NOT_OPEN
    assert isinstance(await world.trading.desk.decline(USER, seen.id), Refusal)
    assert waiting(world).status is OrderStatus.UNKNOWN
    assert not any(data["say"].endswith("expired.") for data in world.bus.events("approvals"))
    assert_sound(world.rows)


async def test_what_was_proposed_in_one_mode_is_not_approved_in_another(world: World) -> None:
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], mode=Mode.REAL)
    refused = await world.trading.desk.approve(USER, waiting(world).id)
    assert isinstance(refused, Refusal)
    assert refused.detail == "SOLUSDT was proposed in PAPER, you are in REAL now"
    assert world.engine.sent("enter") == []
