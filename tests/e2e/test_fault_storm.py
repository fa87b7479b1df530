"""Sixty schedules of the fault storm and every fortieth cut of the crash matrix, each in a process of its own: time jumps there.

The whole of both: `make fault-storm`, `make crash-matrix`.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.conftest import PROJECT
from tests.crash_matrix.real import DEEDS, Cut
from tests.fault_storm.schedule import schedule_of

SECONDS = 400.0
"""Far more than it takes: the machine may be busy."""


def told(module: str, *options: str, into: Path) -> bytes:
    """What a proof wrote; its own words where something was violated."""
    command = [sys.executable, "-m", module, *options, "--json", str(into)]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return into.read_bytes()


def test_sixty_schedules_of_faults_leave_nothing_doubled_orphaned_naked_or_unequal(tmp_path: Path) -> None:
    options = ("--schedules", "60", "--seed", "100", "--processes", "2")
    found = msgspec.json.decode(told("tests.fault_storm", *options, into=tmp_path / "storm.json"))
    assert found["sound"]
    assert found["schedules"] == 60
    assert found["entered"] > 60
    assert sum(found["faults"].values()) > 300
    assert {"listen key expired", "rules changed", "key revoked", "left real"} <= found["faults"].keys()
    assert found["with_cuts"] > 5


def test_a_cut_at_any_await_or_step_of_a_real_order_leaves_it_whole(tmp_path: Path) -> None:
    cuts = msgspec.json.decode(told("tests.crash_matrix.real", "--every", "40", into=tmp_path / "cuts.json"), type=list[Cut])
    assert {cut.deed for cut in cuts} == set(DEEDS)
    assert {cut.process for cut in cuts} == {"", "engine", "worker", "web"}
    assert {cut.awaits for cut in cuts} == {True, False}
    assert [cut for cut in cuts if cut.violations] == []


def test_a_seed_decides_a_schedule() -> None:
    assert schedule_of(7) == schedule_of(7)
    assert schedule_of(7) != schedule_of(8)
