"""A process that dies at any step that leaves it: restarted and settled, no position is doubled, no fill lost, no claim orphaned.

Each scenario is run once whole to count its steps, then once for each step with the process killed there. Nothing after the step ran;
what was committed and what the engine did stays.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.order import OrderPurpose
from orchestrator.core.position import PositionStatus
from shared.enums import Side
from tests.builders import USER, at, bar, d, funding, signal, trader
from tests.fakes import Killed, World
from tests.soundness import assert_at_rest, assert_sound

type Scenario = Callable[[World], Awaitable[object]]


async def entering(world: World) -> None:
    await world.enter(signal("AAAUSDT"), signal("BBBUSDT", Side.SHORT))


async def approving(world: World) -> None:
    waiting = [order for order in world.rows.orders.values() if order.user_id == trader(2).id]
    await world.trading.desk.approve(trader(2).id, waiting[0].id)


async def watching(world: World) -> None:
    world.clock.market = at("12:40")
    world.engine.funding["AAAUSDT"] = [funding("12:05", "0.0001", 100)]
    world.engine.bars["AAAUSDT"] = [bar("12:10", "12:11", 99, 99, 97)]
    await world.trading.watch.run()


async def closing_a_part(world: World) -> None:
    held = next(position for position in world.rows.live(USER) if position.symbol == "BBBUSDT")
    await world.trading.desk.close(USER, held.id, d(4))


async def panicking(world: World) -> None:
    await world.trading.desk.panic(USER)


LIFE: list[Scenario] = [entering, approving, watching, closing_a_part, panicking]


async def prepared(upto: int) -> World:
    world = World(trader(1), trader(2, auto_trade_enabled=False))
    for step in LIFE[:upto]:
        await step(world)
    world.cuts.steps.clear()
    return world


async def recover(world: World) -> None:
    """A new process after a while: what a worker does at its start and then every few seconds."""
    world.cuts.at = None
    world.clock.pass_wall(seconds=60)
    world.start()
    for _ in range(3):
        await world.trading.settle.run()
        await world.trading.panic.resume()
        await world.trading.scan.finish()
        await world.trading.watch.run()
        world.clock.pass_wall(seconds=5)


def expected(world: World, number: int) -> None:
    """What must be true besides soundness once the interrupted step has been recovered."""
    entries = [order for order in world.rows.orders.values() if order.purpose is OrderPurpose.ENTRY and order.user_id == USER]
    assert len(entries) <= 2
    if LIFE[number] is entering:
        decided = {(order.user_id, order.signal_id) for order in world.rows.orders.values()}
        assert decided == {(user_id, signal_id) for user_id in world.rows.traders for signal_id in world.rows.signals}
    if LIFE[number] is watching:
        stopped = next(position for position in world.rows.positions.values() if position.symbol == "AAAUSDT")
        assert (stopped.closed_at, stopped.exit_price) == (at("12:10"), d(98))
        assert len([row for row in world.rows.fundings.values() if row.position_id == stopped.id]) == 1


@pytest.mark.parametrize("number", range(len(LIFE)), ids=[step.__name__ for step in LIFE])
async def test_a_kill_at_any_step_leaves_nothing_doubled_and_nothing_lost(number: int) -> None:
    whole = await prepared(number)
    await LIFE[number](whole)
    steps = list(whole.cuts.steps)
    assert len(steps) >= 4
    between_commit_and_fill = 0
    for cut in range(1, len(steps) + 1):
        world = await prepared(number)
        world.cuts.at = cut
        with pytest.raises(Killed):
            await LIFE[number](world)
        assert_sound(world.rows)
        between_commit_and_fill += any(order.status.value == "SENT" for order in world.rows.orders.values())
        await recover(world)
        assert_at_rest(world.rows)
        assert [name for name, count in count_ids(world).items() if count > 1 and not resent_unseen(world, name)] == []
        expected(world, number)
    assert between_commit_and_fill > 0


def count_ids(world: World) -> dict[str, int]:
    counts: dict[str, int] = {}
    for method in ("enter", "close"):
        for request in world.engine.sent(method):
            counts[request.client_order_id] = counts.get(request.client_order_id, 0) + 1
    return counts


def resent_unseen(world: World, client_order_id: str) -> bool:
    """Sent twice is allowed only as the same body under the same id."""
    sent = [one for method in ("enter", "close") for one in world.engine.sent(method) if one.client_order_id == client_order_id]
    return all(one == sent[0] for one in sent)


async def test_a_panic_that_was_killed_anywhere_ends_flat() -> None:
    whole = await prepared(1)
    await panicking(whole)
    for cut in range(3, len(whole.cuts.steps) + 1):
        world = await prepared(1)
        world.cuts.at = cut
        with pytest.raises(Killed):
            await panicking(world)
        await recover(world)
        live = [position for position in world.rows.live(USER) if position.status is not PositionStatus.CLOSED_WIN]
        assert live == []
        assert not world.rows.traders[USER].auto_trade_enabled
        assert_at_rest(world.rows)


@given(st.integers(0, len(LIFE) - 1), st.integers(1, 60), st.integers(1, 25))
@settings(max_examples=60, deadline=None)
async def test_a_second_kill_during_the_recovery_changes_nothing(number: int, first: int, second: int) -> None:
    world = await prepared(number)
    world.cuts.at = first
    with suppress(Killed):
        await LIFE[number](world)
    world.cuts.at = len(world.cuts.steps) + second
    world.clock.pass_wall(seconds=60)
    world.start()
    with suppress(Killed):
        await world.trading.settle.run()
        await world.trading.panic.resume()
        await world.trading.watch.run()
    assert_sound(world.rows)
    await recover(world)
    assert_at_rest(world.rows)
