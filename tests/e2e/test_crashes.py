"""Every process is killed with -9 under trading: the rest goes on, what was lost is rebuilt, nothing is doubled."""

from pathlib import Path

import pytest

from tests.crash_matrix.__main__ import run
from tests.crash_matrix.drive import VICTIMS, Pass

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

ROUNDS = 2
SEED = 11


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> list[Pass]:
    folder: Path = tmp_path_factory.mktemp("crashes") / "demo"
    return run(folder, ROUNDS, SEED)


def test_every_process_was_killed_and_came_back_while_the_rest_went_on(passes: list[Pass]) -> None:
    for done in passes:
        assert {kill.victim for kill in done.kills} == set(VICTIMS)
        assert not [fault for kill in done.kills for fault in kill.violations]


def test_fills_claims_positions_and_ledger_agree_row_by_row_once_orders_are_at_rest(passes: list[Pass]) -> None:
    assert not [fault for done in passes for fault in done.violations]


def test_kills_fell_between_the_commit_of_an_order_and_its_fill(passes: list[Pass]) -> None:
    assert sum(kill.filled_after for done in passes for kill in done.kills) > 0
