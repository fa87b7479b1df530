"""The data folder: goes on where it stood, refuses what it was not made for, keeps secrets to itself."""

import os
import stat
from pathlib import Path

import pytest

from deploy.errors import FolderInUse, FolderMismatch
from deploy.folder import Folder, Tape


def open_folder(path: Path, kind: str = "demo", *, fresh: bool = False, **tape: object) -> Folder:
    return Folder(path, kind, Tape(**tape), fresh=fresh)  # type: ignore[arg-type]


def test_a_second_start_goes_on_with_the_same_tape_at_the_same_market_time(tmp_path: Path) -> None:
    first = open_folder(tmp_path, seed=9, speed=900.0)
    first.keep_market_ms(1_700_000_000_000)
    first.close()
    again = open_folder(tmp_path)
    assert (again.session.tape.seed, again.session.tape.speed, again.session.market_ms) == (9, 900.0, 1_700_000_000_000)
    assert again.secrets == first.secrets
    again.close()


def test_the_same_options_given_again_are_no_obstacle(tmp_path: Path) -> None:
    open_folder(tmp_path, seed=9).close()
    open_folder(tmp_path, seed=9).close()


def test_other_options_on_an_old_folder_are_an_error_that_names_fresh(tmp_path: Path) -> None:
    open_folder(tmp_path, seed=9).close()
    with pytest.raises(FolderMismatch, match=r"made with --seed 9; --fresh"):
        open_folder(tmp_path, seed=10)
    renewed = open_folder(tmp_path, seed=10, fresh=True)
    assert renewed.session.tape.seed == 10
    assert renewed.session.market_ms is None
    renewed.close()


def test_a_demo_folder_is_not_taken_by_up(tmp_path: Path) -> None:
    open_folder(tmp_path).close()
    with pytest.raises(FolderMismatch, match="neurotrade demo"):
        open_folder(tmp_path, kind="up")


def test_two_supervisors_on_one_folder_are_refused_with_the_owners_pid(tmp_path: Path) -> None:
    first = open_folder(tmp_path)
    with pytest.raises(FolderInUse, match=str(os.getpid())):
        open_folder(tmp_path)
    first.close()
    open_folder(tmp_path).close()


def test_nobody_else_may_read_the_secrets_and_their_repr_tells_nothing(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert folder.secrets.jwt_secret not in repr(folder.secrets)
    assert len(folder.secrets.jwt_secret) >= 32
    folder.close()


def test_fresh_empties_no_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "precious").write_text("mine")
    open_folder(tmp_path, fresh=True).close()
    assert (tmp_path / "postgres" / "precious").exists()


def test_fresh_leaves_what_the_feed_recorded(tmp_path: Path) -> None:
    open_folder(tmp_path, kind="up").close()
    recorded = tmp_path / "recording" / "force_orders" / "2024-10-04.parquet"
    recorded.parent.mkdir(parents=True)
    recorded.write_bytes(b"once")
    open_folder(tmp_path, kind="up", fresh=True).close()
    assert recorded.read_bytes() == b"once"
