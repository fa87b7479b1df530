"""`neurotrade smoke --sandbox` as somebody runs it before trusting the executor with money."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

PROJECT = Path(__file__).resolve().parents[2]
STEPS = ("the key", "the balance", "the entry", "stop and target", "the close", "nothing is left")


def test_a_smoke_run_at_the_sandbox_tells_each_step_and_leaves_nothing_open() -> None:
    command = [sys.executable, "-m", "deploy.cli", "smoke", "--sandbox", "--margin", "1"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for number, step in enumerate(STEPS, start=1):
        assert f"ok      {number}. {step}:" in run.stdout
    assert "smoke passed: nothing is left open" in run.stdout
