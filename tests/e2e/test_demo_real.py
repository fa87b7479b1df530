"""A demo that trades an account of the sandbox under the storm ends sound: its books are the exchange's, and nothing stood without a stop."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.demo import RunningDemo

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("demo-real")]

SECONDS: Final = 35
ENDS_SECONDS: Final = 200.0
"""Beyond that: for starting, settling and ending on a busy machine."""


def test_a_demo_in_the_storm_ends_with_books_that_equal_the_exchange(tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    options = ("--real", "--faults", "storm", "--seconds", str(SECONDS), "--seed", "7", "--report", str(written))
    with RunningDemo(tmp_path / "demo", *options) as demo:
        code = demo.wait_end(SECONDS + ENDS_SECONDS)
    assert code == 0, demo.output[-3000:]
    report = json.loads(written.read_text())
    assert report["exchange_equal"] is True
    assert report["ledger_balanced"] is True
    assert report["unknown_orders"] == 0
    assert report["open_without_stop"] == 0
    assert report["positions_opened"] > 0
