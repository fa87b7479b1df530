"""Real accounts are followed by nudges and by the clock, and their balance is heard before anything is decided on it."""

import asyncio
from itertools import pairwise

from msgspec import structs

from orchestrator.core.position import CloseReason
from orchestrator.trading.follow import Follow, Rhythm, _Sight
from orchestrator.trading.reconcile import Reconciled
from shared.enums import Mode
from shared.execution import CloseRequest, ExecutionReport, TruthReply, TruthRequest
from tests.builders import USER, d, signal, trader
from tests.fakes_real import RealWorld, real_trader
from tests.polling import eventually

QUICK = Rhythm(every=60, soon=0.02, debounce=0.0, apart=0.0, again=(0.01,), refused=0.01)


def follow_of(world: RealWorld, rhythm: Rhythm = QUICK) -> Follow:
    return Follow(world.store.begin, world.engine, world.trading.reconcile, world.clock, rhythm)


async def test_a_nudge_brings_the_truth_at_once() -> None:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    follow = follow_of(world)
    assert await follow.run() == 1

    async def heard() -> bool:
        return len(world.engine.sent("truth")) == 2

    await eventually(heard, seconds=2, what="the truth at the start")
    world.engine.tick("SOLUSDT", 97)
    world.engine.nudge(USER)

    async def closed() -> bool:
        return [row.close_reason for row in world.rows.positions.values()] == [CloseReason.STOP]

    await eventually(closed, seconds=2, what="the exit to be booked")
    await follow.end()


async def test_a_stream_that_ends_is_opened_again_and_the_truth_asked_for() -> None:
    world = RealWorld()
    follow = follow_of(world)
    await follow.run()

    async def listening() -> bool:
        return len(world.engine.sent("events")) == 1

    await eventually(listening, seconds=2, what="the first stream")
    world.engine.nudges[str(USER)].put_nowait(None)

    async def again() -> bool:
        return len(world.engine.sent("events")) == 2

    await eventually(again, seconds=2, what="the second stream")
    await follow.end()


async def test_a_stream_that_was_refused_is_opened_as_soon_as_a_truth_is_heard() -> None:
    """The key was not taken, and is good again: half a minute without nudges would be long."""
    world = RealWorld()
    world.engine.trouble["events"] = ["refused", "refused"]
    world.engine.trouble["truth"] = ["lost before"] * 10
    follow = follow_of(world, structs.replace(QUICK, refused=60, soon=0.3))
    await follow.run()

    async def refused() -> bool:
        return len(world.engine.sent("events")) == 1

    await eventually(refused, seconds=2, what="the stream to be asked for")
    world.engine.trouble["truth"] = []

    async def again() -> bool:
        return len(world.engine.sent("events")) == 2

    await eventually(again, seconds=2, what="the stream to be asked for again")
    await follow.end()


async def test_an_account_without_a_stream_is_asked_for_its_books_more_often() -> None:
    """What a panic closed there is told by nobody."""
    world = RealWorld()
    world.engine.trouble["events"] = ["refused"] * 100
    follow = follow_of(world, structs.replace(QUICK, narrowed=0.02, refused=60))
    await follow.run()

    async def twice() -> bool:
        return len(world.engine.sent("truth")) >= 4

    await eventually(twice, seconds=2, what="truths without a nudge")
    await follow.end()


async def test_what_could_not_be_heard_is_asked_for_again_within_seconds() -> None:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    world.engine.tick("SOLUSDT", 97)
    world.engine.trouble["truth"] = ["lost before", "lost after"]
    follow = follow_of(world)
    await follow.run()

    async def closed() -> bool:
        return [row.close_reason for row in world.rows.positions.values()] == [CloseReason.STOP]

    await eventually(closed, seconds=2, what="the exit to be booked")
    await follow.end()


async def test_a_failed_stop_is_closed_though_no_truth_is_heard_for_long() -> None:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.engine.trouble["truth"] = ["lost before"] * 1000
    follow = follow_of(world, structs.replace(QUICK, glance=0.01, blind=0.01))
    await follow.run()

    async def glanced() -> bool:
        return len(world.engine.sent("guards")) >= 2

    await eventually(glanced, seconds=2, what="two glances")
    world.clock.pass_wall(seconds=2)

    async def flat() -> bool:
        return world.engine.book().quantity("SOLUSDT") == 0

    await eventually(flat, seconds=2, what="the position to be closed at the market")
    await follow.end()


async def test_closes_that_take_long_keep_nobody_from_seeing_another_stop_fail() -> None:
    world = RealWorld()
    await world.reconcile()
    for symbol in ("SOLUSDT", "ETHUSDT", "BTCUSDT"):
        await world.enter(signal(symbol))
    carried, closing, go = world.engine.close, [], asyncio.Event()

    async def slow(request: CloseRequest) -> ExecutionReport:
        closing.append(request.symbol)
        if request.symbol != "BTCUSDT":
            await go.wait()
        return await carried(request)

    world.engine.close = slow  # type: ignore[method-assign]
    world.engine.trouble["truth"] = ["lost before"] * 1000
    follow = follow_of(world, structs.replace(QUICK, glance=0.01, blind=0.01))
    await follow.run()
    for symbol in ("SOLUSDT", "ETHUSDT", "BTCUSDT"):
        world.engine.stuck.add(symbol)
        world.engine.tick(symbol, world.engine.book().stops(symbol)[0].trigger_price or 0)
        asked = len(world.engine.sent("guards"))

        async def glanced(asked: int = asked) -> bool:
            return len(world.engine.sent("guards")) >= asked + 2

        await eventually(glanced, seconds=2, what="two glances")
        world.clock.pass_wall(seconds=2)

        async def given_up(symbol: str = symbol) -> bool:
            return symbol in closing

        await eventually(given_up, seconds=2, what=f"{symbol} to be closed at the market")
    assert world.engine.book().quantity("BTCUSDT") == 0
    go.set()
    await follow.end()


async def test_a_market_that_has_passed_the_stop_of_an_entry_that_is_not_booked_yet_is_seen_too() -> None:
    """The exchange filled and guarded it, and its report is on nobody's books while its carrier is believed alive."""
    world = RealWorld()
    await world.reconcile()
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    assert (world.rows.positions, world.engine.book().quantity("SOLUSDT")) == ({}, d(10))
    follow = follow_of(world, QUICK)
    world.quote("SOLUSDT", 100)
    assert await follow.alarm() == 0
    world.quote("SOLUSDT", 97)
    assert await follow.alarm() == 1


async def test_an_entry_whose_request_does_not_read_keeps_nobody_from_being_alarmed() -> None:
    """As one may be that was written by a version before."""
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal("ETHUSDT"))
    world.engine.trouble["enter"] = ["lost after"]
    await world.enter(signal())
    for order in [one for one in world.rows.orders.values() if one.symbol == "SOLUSDT"]:
        world.rows.orders[order.id] = structs.replace(order, request={"symbol": "SOLUSDT"})
    world.quote("SOLUSDT", 97)
    world.quote("ETHUSDT", 1)
    assert await follow_of(world).alarm() == 1


async def test_a_market_that_has_passed_a_stop_is_seen_without_a_nudge() -> None:
    """The stream is silent and the next truth a minute away: the mark price alone calls for a glance."""
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    world.quote("SOLUSDT", 100)
    follow = follow_of(world, structs.replace(QUICK, glance=0.01))
    await follow.run()

    async def heard() -> bool:
        return len(world.engine.sent("truth")) == 2

    await eventually(heard, seconds=2, what="the truth at the start")
    assert await follow.alarm() == 0
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.quote("SOLUSDT", 97)
    assert await follow.alarm() == 1

    async def glanced() -> bool:
        return len(world.engine.sent("guards")) >= 2

    await eventually(glanced, seconds=2, what="a glance, and another since something is wrong")
    world.clock.pass_wall(seconds=2)

    async def flat() -> bool:
        return world.engine.book().quantity("SOLUSDT") == 0

    await eventually(flat, seconds=2, what="the position to be closed at the market")
    await follow.end()


async def test_what_cannot_be_put_right_is_glanced_at_less_and_less_often() -> None:
    """The budget's reserve is for acting: eager for six seconds, then each two, at most each four."""
    sight, rhythm = _Sight(), Rhythm()
    sight.alarm()
    glances = [number / 2 for number in range(1, 121) if sight.calls(number / 2, rhythm)]
    assert sum(at <= 6 for at in glances) == 12
    assert 14 <= sum(at > 6 for at in glances) <= 20
    assert max(after - at for at, after in pairwise(glances)) <= 4.5
    sight.alarm()
    assert [sight.calls(60 + number / 2, rhythm) for number in range(1, 5)] == [True] * 4


async def test_an_account_that_is_heard_again_after_a_long_silence_is_glanced_at_eagerly() -> None:
    sight, rhythm = _Sight(), Rhythm()
    sight.alarm()
    unheard, wrong = Reconciled(heard=False, wrong=True), Reconciled(heard=True, wrong=True)
    for number in range(1, 61):
        if sight.calls(number / 2, rhythm):
            sight.glanced(unheard, sight.looks(), number / 2)
    assert [sight.calls(30 + number / 2, rhythm) for number in range(1, 5)].count(True) <= 1
    sight.glanced(wrong, sight.looks(), 32.0)
    assert [sight.calls(32 + number / 2, rhythm) for number in range(1, 5)] == [True] * 4
    sight.glanced(unheard, sight.looks(), 38.0)
    sight.glanced(wrong, sight.looks(), 38.5)
    assert [sight.calls(40 + number / 2, rhythm) for number in range(1, 5)].count(True) <= 2


async def test_a_glance_that_did_not_get_to_the_exchange_is_made_up_for_at_once() -> None:
    sight, rhythm = _Sight(), Rhythm()
    sight.alarm()
    last = [number / 2 for number in range(1, 121) if sight.calls(number / 2, rhythm)][-1]
    assert not sight.calls(last + 0.5, rhythm)
    sight.misses()
    assert sight.calls(last + 1.0, rhythm)


async def test_an_account_whose_key_is_refused_is_looked_at_each_second_and_a_half_however_long() -> None:
    sight, rhythm = _Sight(), Rhythm()
    sight.alarm()
    refused, glances = Reconciled(heard=False, refused=True, wrong=True), []
    for number in range(1, 121):
        if sight.calls(number / 2, rhythm):
            glances.append(number / 2)
            sight.glanced(refused, sight.looks(), number / 2)
    assert {after - at for at, after in pairwise(glances) if at > 12} == {1.5}


async def test_what_was_asked_before_a_nudge_does_not_take_back_what_the_nudge_told() -> None:
    """A truth under way when the nudge came says nothing of what it told of; a glance asked after both does."""
    sight, rhythm = _Sight(), Rhythm()
    before = sight.asks(0.0)
    sight.alarm()
    sight.hears(Reconciled(heard=True), before)
    assert sight.calls(0.5, rhythm)
    after = sight.looks()
    sight.learns(False, after)
    assert not sight.calls(1.0, rhythm)
    older, newer = sight.asks(2.0), sight.looks()
    sight.learns(True, newer)
    sight.hears(Reconciled(heard=True), older)
    assert sight.calls(2.5, rhythm)
    sight.hears(Reconciled(heard=True), sight.asks(3.0))
    assert not sight.calls(3.5, rhythm)


async def test_a_truth_that_was_under_way_when_a_stop_failed_keeps_nobody_from_glancing() -> None:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    held, told = asyncio.Event(), world.engine.truth

    async def truth(request: TruthRequest) -> TruthReply:
        reply = await told(request)
        await held.wait()
        return reply

    world.engine.truth = truth  # type: ignore[method-assign]
    follow = follow_of(world, structs.replace(QUICK, glance=0.3, apart=60))
    await follow.run()

    async def asked() -> bool:
        return len(world.engine.sent("truth")) == 2 and len(world.engine.sent("events")) == 1

    await eventually(asked, seconds=2, what="the truth, which is on its way, and the stream")
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    world.engine.nudge(USER)

    async def nudged() -> bool:
        return world.engine.nudges[str(USER)].empty()

    await eventually(nudged, seconds=2, what="the nudge to be heard")
    held.set()

    async def glanced() -> bool:
        return len(world.engine.sent("guards")) >= 1

    await eventually(glanced, seconds=2, what="a glance, though the truth knew nothing of it")
    await follow.end()


async def test_a_truth_of_some_symbols_is_followed_in_time_by_one_that_sweeps_what_rests_elsewhere() -> None:
    """Nothing is held in a symbol where an order of ours still rests, and nothing nudges."""
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    book = world.engine.book()
    book.orders.append(
        structs.replace(book.working("SOLUSDT")[0], symbol="ETHUSDT", client_order_id="nt-s-A", venue_order_id="A")
    )
    follow = follow_of(world, structs.replace(QUICK, narrowed=0.05))
    await follow.run()

    async def narrow() -> bool:
        return len(world.engine.sent("truth")) >= 3 and not world.engine.everywhere

    await eventually(narrow, seconds=2, what="truths of what is held alone, one after the other")
    assert [one.client_order_id for one in book.working("ETHUSDT")] == ["nt-s-A"]
    world.clock.pass_wall(seconds=20)

    async def swept() -> bool:
        return book.working("ETHUSDT") == []

    await eventually(swept, seconds=2, what="the order that nothing owns to be cancelled")
    await follow.end()


async def test_only_accounts_with_something_real_are_followed() -> None:
    world = RealWorld(real_trader(1), trader(2))
    follow = follow_of(world)
    assert await follow.run() == 1
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], mode=Mode.PAPER)
    assert await follow.run() == 0
    await follow.end()


async def test_who_has_left_real_is_followed_for_an_hour_after_the_last_close() -> None:
    world = RealWorld()
    await world.reconcile()
    await world.enter(signal())
    (held,) = world.rows.positions.values()
    await world.trading.desk.close(USER, held.id, None)
    world.rows.traders[USER] = structs.replace(world.rows.traders[USER], mode=Mode.PAPER)
    follow = follow_of(world)
    assert await follow.run() == 1, "what that close left open is cancelled by nobody else"
    world.clock.pass_market(hours=1, seconds=1)
    assert await follow.run() == 0
    await follow.end()


async def test_a_stale_balance_is_heard_before_an_entry_is_decided() -> None:
    world = RealWorld(real_trader(real_balance_cache=None, real_balance_at=None))
    await world.enter(signal())
    assert world.rows.traders[USER].real_balance_cache == d(1000)
    assert len(world.rows.positions) == 1


async def test_a_balance_that_cannot_be_heard_means_no_order() -> None:
    world = RealWorld(real_trader(real_balance_cache=None, real_balance_at=None))
    world.engine.broken = {"balance"}
    await world.enter(signal())
    assert [row.reason.value for row in world.rows.refusals] == ["balance_unknown"]


async def test_asking_twice_at_once_is_one_question() -> None:
    world = RealWorld()
    world.trading.desk.sync_balance(USER)
    world.trading.desk.sync_balance(USER)

    async def heard() -> bool:
        await asyncio.sleep(0)
        return len(world.engine.sent("balance")) == 1

    await eventually(heard, seconds=2, what="the balance")
    await world.trading.balances.end()
    assert len(world.engine.sent("balance")) == 1


async def test_whoever_looks_often_has_the_exchange_asked_every_five_seconds_and_is_told_while_it_is() -> None:
    world = RealWorld()
    desk = world.trading.desk

    async def over() -> bool:
        await asyncio.sleep(0)
        return not desk.balance_syncing(USER)

    asked = []
    for _ in range(11):
        for _ in range(50):
            desk.sync_balance(USER)
            asked.append(desk.balance_syncing(USER))
            await eventually(over, seconds=2, what="the answer")
        world.clock.pass_wall(seconds=1)
    assert asked.count(True) == len(world.engine.sent("balance")) == 3
