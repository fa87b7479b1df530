"""Market time is a line over wall time; the sandbox says which."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from engine.clock import MarketClock, market_clock
from engine.errors import ClockUnavailable


def test_without_a_sandbox_market_time_is_the_wall() -> None:
    clock = MarketClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert abs(clock.now_ms() - clock.wall_ms()) <= 1000


def test_market_time_runs_as_fast_as_it_is_told_from_where_it_was_told() -> None:
    wall = MarketClock().wall_ms()
    clock = MarketClock(base_market_ms=1_000_000, base_wall_ms=wall - 2_000, speed=450)
    assert 1_000_000 + 2_000 * 450 <= clock.now_ms() < 1_000_000 + 4_000 * 450
    assert clock.now().tzinfo is UTC


def test_two_moments_of_the_market_are_wall_seconds_apart_only_where_both_run_alike() -> None:
    since, until = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 5, 12, 0, 2, 500_000, tzinfo=UTC)
    assert MarketClock(base_market_ms=1, base_wall_ms=2).wall_seconds(since, until) == 2.5
    assert MarketClock(base_market_ms=1, base_wall_ms=2, speed=450).wall_seconds(since, until) is None


async def test_a_start_waits_for_a_sandbox_that_comes_up_late() -> None:
    answers = iter([web.Response(status=503), web.Response(text="soon")])

    async def clock(_request: web.Request) -> web.Response:
        told = {"market_ms": 7, "base_market_ms": 5, "base_wall_ms": 6, "speed": 450.0, "seed": 7}
        return next(answers, None) or web.json_response(told)

    app = web.Application()
    app.router.add_get("/sandbox/clock", clock)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = await asyncio.wait_for(market_clock(f"http://127.0.0.1:{runner.addresses[0][1]}"), 10)
    await runner.cleanup()
    assert found == MarketClock(base_market_ms=5, base_wall_ms=6, speed=450)


async def test_a_start_does_not_wait_for_ever() -> None:
    with pytest.raises(ClockUnavailable):
        await market_clock("http://127.0.0.1:9", patience_seconds=0.1)
