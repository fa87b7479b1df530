"""A child is kept running, told apart, stopped in order, and never left behind."""

import asyncio
import io
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.children import Child, ChildSpec
from deploy.errors import ChildFailed
from deploy.readable import Console
from deploy.servers import tethered

STAYS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
WITH_GRANDCHILD = (
    "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(c.pid, flush=True); time.sleep(60)"
)


def child(code: str, tmp_path: Path, *, stop_seconds: float = 5.0) -> tuple[Child, io.StringIO]:
    out = io.StringIO()
    spec = ChildSpec(
        name="child", command=lambda: tethered([sys.executable, "-c", code]), env=dict(os.environ), stop_seconds=stop_seconds
    )
    return Child(spec, Console(tmp_path, out)), out


async def until(true: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)


async def test_a_killed_child_is_started_again_and_said_so(tmp_path: Path) -> None:
    kept, out = child(STAYS, tmp_path)
    kept.start()
    await until(lambda: "up" in out.getvalue())
    first = kept.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: kept.pid not in {None, first})
    await until(lambda: out.getvalue().count("child        up") == 2)
    await kept.stop()
    assert kept.restarts == 1
    assert "ended unexpectedly (killed by SIGKILL)" in out.getvalue()
    assert kept.pid is None


async def test_a_child_that_ignores_the_signal_is_killed_after_its_time(tmp_path: Path) -> None:
    kept, out = child(STUBBORN, tmp_path, stop_seconds=0.3)
    kept.start()
    await until(lambda: "up" in out.getvalue())
    pid = kept.pid
    await kept.stop()
    assert pid is not None
    assert not _runs(pid)
    assert "did not end within" in out.getvalue()


async def test_what_a_killed_child_started_does_not_live_on(tmp_path: Path) -> None:
    kept, out = child(WITH_GRANDCHILD, tmp_path)
    kept.start()
    await until(lambda: "\n" in out.getvalue())
    grandchild = int(out.getvalue().split()[-1])
    assert kept.pid is not None
    os.kill(kept.pid, signal.SIGKILL)
    await until(lambda: not _runs(grandchild))
    await kept.stop()


async def test_a_child_that_will_not_stay_up_fails_the_start_with_its_last_lines(tmp_path: Path) -> None:
    kept, _ = child("print('no such setting'); raise SystemExit(3)", tmp_path)
    kept.start()
    with pytest.raises(ChildFailed, match=r"does not stay up(.|\n)*no such setting"):
        await kept.wait_ready()
    await kept.stop()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
