"""The cores take time, ids and randomness as arguments: what import contracts cannot see is looked for in their syntax."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORES = sorted(
    path for core in ("engine/core", "orchestrator/core", "deploy/sandbox/core") for path in (ROOT / core).glob("*.py")
)
CLOCKS = {"now", "today", "utcnow"}
OWNERS = {"datetime", "date", "dt"}


def clock_calls(source: str) -> list[int]:
    """The lines that ask the machine for the time or for unseeded randomness."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _asks_the_machine(call)]


def _asks_the_machine(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    owner = call.func.value
    if call.func.attr == "default_rng":
        return not call.args
    return call.func.attr in CLOCKS and isinstance(owner, ast.Name) and owner.id in OWNERS


@pytest.mark.parametrize("path", CORES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_core_never_asks_for_the_time_or_for_chance(path: Path) -> None:
    assert clock_calls(path.read_text()) == []


def test_the_search_finds_what_it_looks_for() -> None:
    assert clock_calls("datetime.now(UTC)\nnumpy.random.default_rng()\nclock.now()\nrng.default_rng(7)") == [1, 2]
