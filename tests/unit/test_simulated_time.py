"""The loop that the fault storm lives in: time passes by what is waited for, and nothing waits for real."""

import asyncio
import time

import pytest

from tests.fault_storm.simulated_time import NothingWillHappen, SimulatedClock, SimulatedLoop, process_time, run


def test_an_hour_of_sleep_takes_no_time_and_every_clock_says_so() -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)

    async def sleep() -> tuple[float, float]:
        before = time.time(), time.monotonic()
        await asyncio.sleep(3600)
        return time.time() - before[0], time.monotonic() - before[1]

    began = time.perf_counter()
    with process_time(clock):
        passed, ticked = run(sleep(), loop)
    assert passed == pytest.approx(3600, abs=0.01)
    assert ticked == pytest.approx(3600, abs=0.01)
    assert time.perf_counter() - began < 5


def test_timers_run_in_their_order() -> None:
    loop, order = SimulatedLoop(), []

    async def after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def main() -> None:
        await asyncio.gather(after(30), after(0.5), after(7))

    run(main(), loop)
    assert order == [0.5, 7, 30]


def test_a_time_out_comes_though_nothing_else_happens() -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(main(), SimulatedLoop())


def test_where_nothing_can_happen_any_more_it_is_said() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappen):
        run(main(), SimulatedLoop())
