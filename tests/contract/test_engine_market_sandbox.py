"""The engine's two processes as they run, against the sandbox exchange and a real Redis: started, asked, cut off, ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.servers import free_port
from shared.analysis import AnalyzeReply, MarksReply, RejectionReason, WhaleSignal, WhalesReply
from shared.wire import decode, decode_strict
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("engine-processes")]

PROJECT = Path(__file__).resolve().parents[2]
TOKEN = "a-token"


class Stack:
    """Sandbox, feed and app; each may be ended and started again."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.exchange = f"http://127.0.0.1:{free_port()}"
        self.port = free_port()
        self.folder = folder
        self.env = {
            **os.environ,
            "ENGINE_TOKEN": TOKEN,
            "REDIS_URL": redis_url,
            "ENGINE_PORT": str(self.port),
            "BINANCE_REST_URL": self.exchange,
            "BINANCE_WS_URL": self.exchange.replace("http", "ws"),
            "MARKET_CLOCK_URL": self.exchange,
            "PYTHONUNBUFFERED": "1",
        }
        for name in ("AI_API_KEY", "DEEPSEEK_API_KEY"):
            self.env.pop(name, None)
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=PROJECT, env=self.env, stdout=log, stderr=log
        )
        log.close()

    def start_all(self, speed: int = 60) -> None:
        self.start("sandbox", "deploy.sandbox", "--port", self.exchange.rpartition(":")[2], "--speed", str(speed))
        self.start("feed", "engine.feed")
        self.start("app", "engine.app")
        wait_until(self.is_ready, seconds=60, what="a ready engine")

    def is_ready(self) -> bool:
        try:
            return bool(self.client.get("/ready").json()["status"] == "ready")
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def end(self, name: str) -> float:
        process = self.processes.pop(name)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        return time.monotonic() - begun

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        self.client.close()
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def stack(redis_server_url: str) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="nt-engine-") as folder:
        stack = Stack(redis_server_url, Path(folder))
        try:
            stack.start_all()
            yield stack
        finally:
            stack.close()


def source_of(stack: Stack, name: str) -> Any:
    return stack.client.get("/ready").json()["sources"][name]


def test_a_scan_screens_everybody_from_the_feed_and_says_how_long_each_stage_took(stack: Stack) -> None:
    def from_feed_alone() -> AnalyzeReply | None:
        found = decode_strict(stack.client.post("/analyze", json={}).content, AnalyzeReply)
        return found if all(said.startswith("large trades") for said in found.fallbacks) else None

    found = wait_until(from_feed_alone, seconds=40, what="figures of the whole market")
    assert found is not None
    assert found.universe > 100
    assert found.screened > 60
    assert RejectionReason.OUTSIDE_TOP_MOVERS not in {no.reason for no in found.rejections}
    assert found.timings_ms["features"] < 100
    assert len(found.rejections) + len(found.signals) == found.universe


def test_symbols_that_are_not_ascii_are_traded_like_any_other(stack: Stack) -> None:
    found = decode(stack.client.post("/analyze", json={"symbols": ["币安人生USDT"]}).content, AnalyzeReply)
    assert found.screened == 1


def test_two_looks_at_the_marks_leave_no_gap(stack: Stack) -> None:
    begun = decode(stack.client.post("/marks", json={"since": {}}).content, MarksReply).as_of
    since = begun - timedelta(minutes=7)
    first = decode(stack.client.post("/marks", json={"since": {"BTCUSDT": since.isoformat()}}).content, MarksReply).marks[
        "BTCUSDT"
    ]
    second = decode(stack.client.post("/marks", json={"since": {"BTCUSDT": first.since.isoformat()}}).content, MarksReply).marks[
        "BTCUSDT"
    ]
    minutes = [bar.from_ for bar in first.bars if bar.to > bar.from_ and bar.from_ < first.since]
    minutes += [bar.from_ for bar in second.bars if bar.to > bar.from_]
    assert minutes[0] < since + timedelta(minutes=1)
    assert [later - earlier for earlier, later in pairwise(minutes)] == [timedelta(minutes=1)] * (len(minutes) - 1)
    assert all(bar.low <= bar.open <= bar.high for bar in first.bars + second.bars)


def test_a_wide_look_brings_the_funding_that_lay_between(stack: Stack) -> None:
    as_of = decode(stack.client.post("/marks", json={"since": {}}).content, MarksReply).as_of
    since = as_of - timedelta(hours=17)
    found = decode(stack.client.post("/marks", json={"since": {"ETHUSDT": since.isoformat()}}).content, MarksReply).marks[
        "ETHUSDT"
    ]
    assert len(found.funding) >= 2
    assert all(since < event.at <= as_of + timedelta(minutes=5) for event in found.funding)


def test_an_injected_liquidation_reaches_the_window(stack: Stack) -> None:
    def seen() -> WhalesReply | None:
        found = decode(stack.client.get("/whales").content, WhalesReply)
        return found if any(order.symbol == "ETHUSDT" and order.usd == 9_876_000 for order in found.recent) else None

    injected = {"symbol": "ETHUSDT", "side": "SELL", "quantity": "9876", "price": "1000"}
    assert httpx.post(f"{stack.exchange}/sandbox/liquidations", json=injected, timeout=5).status_code == 201
    found = wait_until(seen, seconds=10, what="the liquidation in the window")
    assert found is not None
    assert found.feed_age_ms is not None
    assert found.feed_age_ms < 5_000
    assert (found.views[0].symbol, found.views[0].signal) == ("ETHUSDT", WhaleSignal.SQUEEZE_LONGS)


def test_the_log_names_the_executor(stack: Stack) -> None:
    assert "BinanceExecutor DRY_RUN" in stack.log("app")


def grown(stack: Stack, source: str) -> Callable[[], bool]:
    return lambda: bool(source_of(stack, source)["stale"])


def test_a_dead_feed_is_seen_in_its_age_the_scan_goes_on_and_a_new_feed_takes_over(stack: Stack) -> None:
    stack.kill("feed")
    wait_until(grown(stack, "feed_marks"), seconds=20, what="a stale feed")
    found = decode(stack.client.post("/analyze", json={}).content, AnalyzeReply)
    assert "tickers from REST" in found.fallbacks
    assert found.screened > 20
    stack.start("feed", "engine.feed")
    wait_until(stack.is_ready, seconds=60, what="a feed that is fresh again")


def test_a_killed_app_leaves_nothing_behind_and_starts_again_on_its_port(stack: Stack) -> None:
    stack.kill("app")

    def gone() -> bool:
        try:
            stack.client.get("/health")
        except httpx.HTTPError:
            return True
        return False

    wait_until(gone, seconds=5, what="a worker that dies with its parent")
    stack.start("app", "engine.app")
    wait_until(stack.is_ready, seconds=60, what="an app that is ready again")


def test_both_processes_end_on_sigterm_within_five_seconds_and_no_error_was_logged(stack: Stack) -> None:
    assert stack.end("app") < 5
    assert stack.end("feed") < 5
    for name in ("app", "feed"):
        assert '"level": "error"' not in stack.log(name)
        assert "Traceback" not in stack.log(name)
