"""Rotating the seal of an embedded stack's folder: the new key is there before a row needs it, the old one goes after the last."""

from pathlib import Path

import pytest

from deploy.errors import DeployError, FolderInUse
from deploy.folder import Folder, Tape
from deploy.sealing import rotate_from_terminal


def keys_of(path: Path) -> str:
    folder = Folder(path, "up", Tape())
    try:
        return folder.secrets.seal_private_keys
    finally:
        folder.close()


def test_a_folder_has_a_seal_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    first = keys_of(tmp_path)
    assert len(first) == 44
    assert keys_of(tmp_path) == first


@pytest.mark.servers
def test_after_a_rotation_the_folder_has_the_new_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    before = keys_of(tmp_path)
    assert rotate_from_terminal(tmp_path, tmp_path / "no.env") == 0
    after = keys_of(tmp_path)
    assert after != before
    assert "," not in after
    assert "0 of 0 exchange keys" in capsys.readouterr().out


def test_a_running_stack_keeps_its_seal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = Folder(tmp_path, "up", Tape())
    with pytest.raises(FolderInUse):
        rotate_from_terminal(tmp_path, tmp_path / "no.env")
    folder.close()


def test_where_nothing_is_kept_there_is_nothing_to_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(DeployError, match="nothing to rotate"):
        rotate_from_terminal(tmp_path, tmp_path / "no.env")
