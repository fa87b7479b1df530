"""A real process is killed with -9 at a named step of a real order's life, and everything is whole again: two steps of the table."""

import pytest

from tests.crash_matrix.__main__ import kill_at_steps
from tests.crash_matrix.kills import RealKill
from tests.crash_matrix.steps import SAMPLE, STEPS

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

SEED = 1


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[RealKill]:
    return kill_at_steps(tmp_path_factory.mktemp("kills"), SAMPLE, SEED, lanes=1)


def test_a_kill_at_a_named_step_leaves_no_duplicate_no_orphan_no_naked_position_and_the_exchanges_ledger(
    kills: list[RealKill],
) -> None:
    assert [(kill.unit, kill.step) for kill in kills] == [(step.unit, step.name) for step in SAMPLE]
    assert not [f"{kill.step}: {fault}" for kill in kills for fault in kill.violations]


def test_kills_fell_while_something_was_under_way(kills: list[RealKill]) -> None:
    assert all(kill.in_flight for kill in kills)


def test_the_table_names_every_unit_and_kills_each_process_of_ours() -> None:
    assert {step.unit for step in STEPS} == {"submit", "protect", "close", "amend", "panic"}
    assert {step.victim for step in STEPS} == {"engine", "worker", "orchestrator"}
    assert len({(step.unit, step.name, step.victim) for step in STEPS}) == len(STEPS)
