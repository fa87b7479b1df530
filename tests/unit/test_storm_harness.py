"""The storm's own parts: what its market tells of changed rules, what a seed draws, and how patiently it asks its servers."""

from decimal import Decimal
from random import Random

import pytest
import sqlalchemy as sa

from tests.fault_storm.board import StormBoard, StormMarket, Weather
from tests.fault_storm.real_store import TRIES, patiently
from tests.fault_storm.schedule import MORE, schedule_of
from tests.fault_storm.simulated_time import SimulatedClock, SimulatedLoop


async def test_changed_rules_are_told_to_the_engine_and_asked_of_orders_at_once() -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    board = StormBoard(Random(1), clock.now_ms())
    market = StormMarket(board, clock, Weather(Random(1), {}))
    before = await market.instrument("BTCUSDT")
    board.rule("BTCUSDT", {"tick": before.tick_size * 10, "min_notional": Decimal(77)})
    told = await market.instrument("BTCUSDT")
    assert (told.tick_size, told.min_notional) == (before.tick_size * 10, Decimal(77))
    assert (await market.instruments())["BTCUSDT"] == told
    asked = board.rules("BTCUSDT", clock.now_ms())
    assert (Decimal(asked.tick_size), Decimal(asked.min_notional)) == (told.tick_size, told.min_notional)
    assert (await market.instrument("ETHUSDT")).min_notional != Decimal(77)
    loop.close()


def test_every_kind_that_was_added_comes_within_some_seeds() -> None:
    drawn = {step.what for seed in range(40) for step in schedule_of(seed).steps}
    assert drawn >= MORE.keys()


async def test_the_proof_asks_its_servers_again_and_gives_up_at_last() -> None:
    asked: list[int] = []

    async def answered_third_time() -> str:
        asked.append(len(asked))
        if len(asked) < 3:
            raise sa.exc.TimeoutError("crowded")
        return "rows"

    async def never() -> str:
        asked.append(len(asked))
        raise sa.exc.TimeoutError("crowded")

    assert await patiently(answered_third_time, 0) == "rows"
    assert len(asked) == 3
    asked.clear()
    with pytest.raises(sa.exc.TimeoutError):
        await patiently(never, 0)
    assert len(asked) == TRIES
