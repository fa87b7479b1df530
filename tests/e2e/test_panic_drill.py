"""A few panics of the drill over fewer positions, in a process of their own: time jumps there. The whole of it: `make panic-drill`."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.conftest import PROJECT

SECONDS = 180.0
"""Far more than it takes: the machine may be busy."""


def test_a_panic_is_flat_when_it_says_so_and_names_the_one_symbol_that_the_exchange_refuses(tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    options = ("--runs", "2", "--positions", "5", "--seed", "40", "--processes", "1", "--json", str(file))
    command = [sys.executable, "-m", "tests.panic_drill", *options]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert "named, the others closed" in done.stdout.decode()
    for told in msgspec.json.decode(file.read_bytes()).values():
        assert (told["runs"], told["never_flat"], told["said_flat_and_was_not"]) == (2, 0, 0)
        assert told["positions"]["p50"] >= 3
