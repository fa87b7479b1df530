"""Two schedules of the fault storm on a real PostgreSQL, a real Redis and TCP sockets, four seconds of deeds each.

`make fault-storm` runs two hundred whole ones.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from shared.enums import Mode
from tests.builders import trader
from tests.conftest import PROJECT
from tests.fault_storm.board import Weather
from tests.fault_storm.processes import Process
from tests.fault_storm.real_store import Books, ProcessDatabase

pytestmark = pytest.mark.servers

SECONDS: Final = 300.0
"""Far more than it takes: the machine may be busy."""

LOCK_SECONDS: Final = 3.0
"""Less than a lock is waited for."""

SEED: Final = 433
SCHEDULES: Final = 2


def test_schedules_of_faults_on_real_servers_leave_nothing_doubled_orphaned_naked_or_unequal(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    found = stormed(postgres_url, redis_url, tmp_path / "storm.json")
    assert found["sound"], found["seeds"]
    assert found["schedules"] == SCHEDULES
    assert found["with_cuts"] > 0
    assert found["entered"] > 0
    assert found["requests"] > 100
    assert sum(found["faults"].values()) > 0


def stormed(postgres_url: str, redis_url: str, into: Path) -> dict[str, Any]:
    """What the storm wrote; its own words where it ended otherwise than it says."""
    options = ["--real", str(SCHEDULES), "--seed", str(SEED), "--brief", "--processes", "1", "--json", str(into)]
    command = [sys.executable, "-m", "tests.fault_storm", *options]
    env = os.environ | {"TEST_DATABASE_URL": postgres_url, "TEST_REDIS_URL": redis_url}
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, timeout=SECONDS, check=False)
    assert into.exists(), done.stdout.decode() + done.stderr.decode()
    found: dict[str, Any] = msgspec.json.decode(into.read_bytes())
    assert (done.returncode == 0) is found["sound"]
    return found


def killed_at(step: str) -> Callable[[Process, str], None]:
    def stepped(process: Process, taken: str) -> None:
        if taken == step:
            process.kill()

    return stepped


async def test_postgres_rolls_back_what_a_killed_process_had_open_and_frees_its_rows(database_url: str) -> None:
    books, weather = Books(database_url), Weather(Random(1), {})
    killed, living = Process("killed", killed_at("before commit")), Process("living")
    theirs, ours = ProcessDatabase(database_url, killed, weather), ProcessDatabase(database_url, living, weather)
    person, written = trader(1, mode=Mode.REAL), asyncio.Event()
    await books.add_trader(person)

    async def half_a_transaction() -> None:
        async with theirs.begin() as unit:
            await unit.traders.lock(person.id)
            await unit.traders.set_paper_balance(person.id, Decimal(1))
            written.set()
            await unit.commit()

    task = killed.begin(half_a_transaction())
    await written.wait()
    async with asyncio.timeout(LOCK_SECONDS), ours.begin() as unit:
        found = await unit.traders.lock(person.id)
    assert found is not None
    assert found.paper_balance == person.paper_balance
    while not task.done():  # it comes to closed gates on its way out
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
    for database in (books, theirs, ours):
        await database.close()
