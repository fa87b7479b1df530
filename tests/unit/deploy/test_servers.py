"""What embedded servers ask of the machine before they start."""

import pwd
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.errors import ServerFailed
from deploy.servers import ensure_account


def test_of_many_that_start_at_once_on_a_fresh_machine_one_makes_the_servers_account(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []

    def found(name: str) -> object:
        if not made:
            raise KeyError(name)
        return made

    def make(command: list[str], **_: object) -> None:
        time.sleep(0.05)  # as long as others need to see that there is none yet
        made.append(command)

    monkeypatch.setattr(pwd, "getpwnam", found)
    monkeypatch.setattr(subprocess, "run", make)
    with ThreadPoolExecutor(4) as starting:
        assert list(starting.map(lambda _: ensure_account(), range(4))) == [None] * 4
    assert len(made) == 1


@pytest.mark.parametrize("command_exists", [True, False])
def test_a_machine_that_makes_no_account_is_told(command_exists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", missing)

    def refused(*_: object, **__: object) -> None:
        if not command_exists:
            raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(ServerFailed, match="run as another user"):
        ensure_account()
