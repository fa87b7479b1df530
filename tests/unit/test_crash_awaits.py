"""What a cut at an await does to a process: nothing of it is resumed, no finally runs, and others go on."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.crash_matrix.awaits import Awaits
from tests.fault_storm.processes import Process
from tests.fault_storm.simulated_time import SimulatedLoop, run

PRODUCT = """
async def work(said, door):
    try:
        said.append("begun")
        await asyncio.sleep(1)
        await door()
        said.append("asked")
        await asyncio.sleep(1)
        said.append("done")
    finally:
        said.append("finally")
"""


def work_of_the_product(said: list[str], door: Any) -> Coroutine[Any, Any, None]:
    """As if it stood in a file of the engine."""
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(compile(PRODUCT, str(PROJECT / "engine" / "unwritten.py"), "exec"), names)  # noqa: S102 - its file's name is the point
    made: Coroutine[Any, Any, None] = names["work"](said, door)
    return made


def lived(cut: int) -> tuple[list[str], list[str], list[str]]:
    """What a process said, until it was cut at that await; what its door let through; and the awaits."""
    loop, said, through, places = SimulatedLoop(), list[str](), list[str](), list[str]()
    over: list[bool] = []
    process, other = Process("engine-1"), Process("web-1")

    def suspended(one: Process, place: str) -> None:
        if one is process:
            places.append(place)
            if len(places) == cut:
                one.kill()

    async def door() -> None:
        await asyncio.sleep(1)  # the request is on its way
        through.append("arrived")
        await process.here()
        through.append("answered")

    async def main() -> list[str]:
        others: list[str] = []
        task = process.begin(work_of_the_product(said, door))
        beside = other.begin(work_of_the_product(others, lambda: asyncio.sleep(1)))
        await asyncio.sleep(2.5)
        if cut == 3:
            task.cancel()
        await beside
        await asyncio.sleep(10)
        assert others[-1] == "finally"
        told = [*said]
        over.append(True)
        return told

    loop.set_task_factory(Awaits(suspended, lambda: bool(over)).task)
    return run(main(), loop), through, places


def test_every_await_of_the_product_is_seen_at_its_line() -> None:
    said, through, places = lived(cut=0)
    assert said == ["begun", "asked", "done", "finally"]
    assert through == ["arrived", "answered"]
    assert [place.rpartition(":")[2] for place in places] == ["5", "6", "8"]


@pytest.mark.parametrize(("cut", "said", "through"), [(1, ["begun"], []), (2, ["begun"], ["arrived"])])
def test_a_process_that_is_cut_at_an_await_is_never_resumed_and_what_has_left_arrives(
    cut: int, said: list[str], through: list[str]
) -> None:
    assert lived(cut)[:2] == (said, through)


def test_a_dead_process_s_task_that_somebody_cancels_runs_no_finally() -> None:
    assert lived(cut=3)[0] == ["begun", "asked"]
