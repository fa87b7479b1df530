"""Questions about prices, and independent work at once."""

import asyncio

import pytest

from orchestrator.errors import Conflict
from orchestrator.trading.bounded import each
from orchestrator.trading.prices import fresh_marks, rounds
from tests.builders import at, d, trader
from tests.fakes import Killed, World


def test_a_symbol_is_asked_from_one_moment_in_each_question() -> None:
    asked = rounds([("AAA", at("12:00"), 1), ("AAA", at("12:05"), 2), ("BBB", at("12:01"), 3), ("AAA", at("12:00"), 4)])
    assert asked == [({"AAA": at("12:00"), "BBB": at("12:01")}, [1, 4, 3]), ({"AAA": at("12:05")}, [2])]


async def test_only_fresh_prices_are_answered() -> None:
    world = World(trader())
    world.quote("AAAUSDT", 100)
    world.quote("BBBUSDT", 100)
    world.engine.age_ms["BBBUSDT"] = 5001
    assert await fresh_marks(world.engine, ["AAAUSDT", "BBBUSDT", "CCCUSDT"], world.clock.now()) == {"AAAUSDT": d(100)}


async def test_without_an_engine_there_are_no_prices() -> None:
    world = World(trader())
    world.engine.broken = {"marks"}
    assert await fresh_marks(world.engine, ["AAAUSDT"], world.clock.now()) == {}


async def test_a_piece_of_work_that_fails_never_touches_another() -> None:
    async def work(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        if number == 2:
            raise Conflict("two")
        return number

    assert await each(range(5), work, what="counting") == [0, 3, 4]


async def test_no_more_run_at_once_than_are_allowed() -> None:
    running, most = 0, 0

    async def work(_number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await each(range(20), work, what="counting", at_once=3)
    assert most == 3


async def test_the_end_of_the_process_is_not_swallowed() -> None:
    async def work(_number: int) -> None:
        raise Killed("here")

    with pytest.raises(Killed):
        await each([1], work, what="dying")
