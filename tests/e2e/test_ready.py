"""Every source that is stopped is seen to grow old in the dashboard's /ready, and to be fresh again when it goes on."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.demo import RunningDemo
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

SOURCES = {
    "postgres": "postgres",
    "redis": "redis",
    "engine": "engine",
    "worker": "worker",
    "watch": "worker",
    "scan": "worker",
    "feed": "feed",
    "exchange": "sandbox",
    "truth": "postgres",
}
"""What /ready calls it, and the process that stands behind it."""

YOUNG_SECONDS = 3.0
OLD_SECONDS = 4.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with RunningDemo(tmp_path_factory.mktemp("ready") / "demo") as running:
        running.wait_trading()
        yield running


def ready(demo: RunningDemo) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"http://127.0.0.1:{demo.port}/ready", trust_env=False, timeout=10)
    return answer.status_code, answer.json()["sources"]


def test_a_trading_stack_is_ready_with_every_source_fresh(demo: RunningDemo) -> None:
    wait_until(lambda: ready(demo)[0] == 200, seconds=20, what="the stack to be ready")
    assert ready(demo)[1].keys() == SOURCES.keys()
    wait_until(lambda: all(source["ok"] for source in ready(demo)[1].values()), seconds=20, what="every source to be fresh")


@pytest.mark.parametrize("source", SOURCES)
def test_a_stopped_source_grows_old_and_is_fresh_again_when_it_goes_on(demo: RunningDemo, source: str) -> None:
    wait_until(lambda: age(demo, source) < YOUNG_SECONDS, seconds=40, what=f"{source} to be fresh")
    with frozen(demo.children()[SOURCES[source]]):
        for seconds in (OLD_SECONDS, OLD_SECONDS + 2):
            wait_until(lambda seconds=seconds: age(demo, source) > seconds, seconds=40, what=f"{source} to be {seconds} s old")  # type: ignore[misc]
    wait_until(lambda: age(demo, source) < YOUNG_SECONDS, seconds=40, what=f"{source} to be fresh again")


def age(demo: RunningDemo, source: str) -> float:
    return float(ready(demo)[1][source]["age_seconds"])


@contextlib.contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """A process and what it started stand still meanwhile, connections open: worse than being gone."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)


def test_a_killed_sandbox_goes_on_where_market_time_stands(demo: RunningDemo) -> None:
    address = next(line.split()[-1] for line in demo.output.splitlines() if "sandbox       ready" in line)
    before = clock(address)
    scans = demo.ask("SELECT count(*) FROM scans")[0][0]
    demo.kill("sandbox")
    after = wait_until(lambda: clock(address), seconds=40, what="the sandbox to be back")
    assert after["base_market_ms"] == before["base_market_ms"]
    assert after["base_wall_ms"] == before["base_wall_ms"]
    assert after["market_ms"] > before["market_ms"]
    wait_until(lambda: demo.ask("SELECT count(*) FROM scans")[0][0] > scans + 2, seconds=40, what="scans to go on")


def clock(address: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = httpx.get(f"{address}/sandbox/clock", trust_env=False, timeout=5).json()
    except httpx.HTTPError:
        return {}
    return found
