"""The demo as a person runs it: it trades soundly, goes on where it stood, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from deploy.servers import EmbeddedPostgres, free_port
from tests.demo import RunningDemo, alive
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

SECONDS = 25


class Finished:
    """A demo that ended by itself: its report, its folder, its rows."""

    def __init__(self, folder: Path, exit_code: int, report: dict[str, Any], output: str) -> None:
        self.folder = folder
        self.exit_code = exit_code
        self.report = report
        self.output = output

    def logs(self, process: str) -> list[dict[str, Any]]:
        lines = (self.folder / "logs" / f"{process}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("finished")
    report = root / "report.json"
    with RunningDemo(root / "demo", "--seconds", str(SECONDS), "--seed", "7", "--report", str(report)) as demo:
        code = demo.wait_end(SECONDS + 120)
    return Finished(root / "demo", code, json.loads(report.read_text()), demo.output)


@pytest.fixture
def rows(finished: Finished) -> Iterator[psycopg.Connection[Any]]:
    """The database of the finished demo, served once more."""
    secrets = json.loads((finished.folder / "secrets.json").read_text())
    server = EmbeddedPostgres(finished.folder / "postgres", free_port(), password=secrets["postgres_password"])
    server.start()
    try:
        with psycopg.connect(server.url) as connection:
            yield connection
    finally:
        server.stop()


def test_a_timed_demo_trades_soundly_and_says_so(finished: Finished) -> None:
    report = finished.report
    assert finished.exit_code == 0, finished.output[-3000:]
    assert report["ledger_balanced"] is True
    assert report["open_without_stop"] == 0
    assert report["errors"] == 0
    assert min(report["scans"], report["candidates"], report["positions_opened"]) > 0
    assert sum(report["positions_closed"].values()) > 0
    assert report["signals"]["long"] + report["signals"]["short"] > 0
    assert report["market_seconds"] >= SECONDS * report["speed"]


def test_the_report_has_every_field_of_the_contract_in_its_form(finished: Finished) -> None:
    report = finished.report
    assert report.keys() >= {
        "market_seconds", "scans", "symbols", "candidates", "signals", "refusals", "orders", "positions_opened", "positions_closed",
        "realized_pnl", "fees", "funding", "ledger_balanced", "open_without_stop", "errors", "scan_ms", "signal_to_fill_ms", "speed",
        "seed", "thresholds",
    }  # fmt: skip
    assert report["positions_closed"].keys() == {"CLOSED_WIN", "CLOSED_LOSS"}
    assert report["scan_ms"].keys() == report["signal_to_fill_ms"].keys() == {"p50", "p99"}
    assert all(
        isinstance(report[name], str) and Decimal(report[name]).is_finite() for name in ("realized_pnl", "fees", "funding")
    )


def test_the_report_counts_what_the_rows_hold(finished: Finished, rows: psycopg.Connection[Any]) -> None:
    report = finished.report
    counted = rows.execute(
        "SELECT (SELECT count(*) FROM scans), (SELECT count(*) FROM orders), (SELECT count(*) FROM positions), "
        "(SELECT count(*) FROM positions WHERE status = 'CLOSED_WIN'), (SELECT sum(fee + liquidation_fee) FROM fills)"
    ).fetchone()
    assert counted is not None
    assert counted[:4] == (
        report["scans"],
        report["orders"],
        report["positions_opened"],
        report["positions_closed"]["CLOSED_WIN"],
    )
    assert counted[4] == Decimal(report["fees"])


def test_the_trace_of_a_fill_is_found_in_the_logs_of_scan_engine_and_worker_and_in_the_rows(
    finished: Finished, rows: psycopg.Connection[Any]
) -> None:
    found = rows.execute(
        "SELECT f.trace_id, o.trace_id, s.trace_id, scans.trace_id, o.client_order_id FROM fills f JOIN orders o ON o.id = f.order_id "
        "JOIN signals s ON s.id = o.signal_id JOIN scans ON scans.id = s.scan_id WHERE f.opens ORDER BY f.id LIMIT 1"
    ).fetchone()
    assert found is not None
    trace, *others, client_order_id = found
    assert len(trace) >= 16
    assert set(others) == {trace}
    engine = [record for record in finished.logs("engine") if record.get("trace_id") == trace]
    worker = [record for record in finished.logs("worker") if record.get("trace_id") == trace]
    assert any(record["event"] == "scan" for record in engine)
    assert any(record.get("client_order_id") == client_order_id for record in engine)
    assert any(record["event"].startswith("scan") for record in worker)
    assert any(record.get("client_order_id") == client_order_id for record in worker)


def test_no_secret_of_the_folder_reaches_a_log(finished: Finished) -> None:
    secrets = json.loads((finished.folder / "secrets.json").read_text())
    for file in (finished.folder / "logs").iterdir():
        text = file.read_text()
        assert not [name for name, value in secrets.items() if value in text], file.name


def test_a_second_start_goes_on_and_a_sigterm_leaves_nothing_running(finished: Finished) -> None:
    stood = json.loads((finished.folder / "session.json").read_text())["market_ms"]
    with RunningDemo(finished.folder) as demo:
        wait_until(lambda: "dashboard  http" in demo.output, seconds=60, what="the dashboard")
        wait_until(lambda: (demo.session.market_ms or 0) > stood, seconds=10, what="market time to go on")
        assert (demo.session.market_ms or 0) - stood < 60 * 450 * 1000
        assert demo.session.tape.seed == 7
        trades_before = demo.ask("SELECT count(*) FROM positions")[0][0]
        assert trades_before >= finished.report["positions_opened"]
        password = demo.secrets.demo_password
        answer = httpx.post(
            f"http://127.0.0.1:{demo.port}/api/auth/login", json={"username": "demo", "password": password}, trust_env=False
        )
        assert answer.status_code == 200
        family = demo.family()
        assert len(family) > 8
        demo.supervisor.send_signal(signal.SIGTERM)
        assert demo.wait_end(40) == 0
    assert not alive(family)
    assert "killed" not in demo.output.splitlines()[-1]
    assert not (finished.folder / "running.json").exists()


def test_a_supervisor_killed_with_9_leaves_no_child_and_the_folder_can_be_used_again(tmp_path: Path) -> None:
    with RunningDemo(tmp_path / "demo") as demo:
        demo.wait_trading()
        family = demo.family()
        demo.supervisor.kill()
        demo.supervisor.wait()
        wait_until(lambda: not alive(family), seconds=20, what="every child to end")
    again = RunningDemo(tmp_path / "demo", "--seconds", "3", "--report", str(tmp_path / "report.json"))
    with again:
        assert again.wait_end(120) == 0, again.output[-3000:]
    assert json.loads((tmp_path / "report.json").read_text())["ledger_balanced"] is True


def test_given_servers_are_used_instead_of_our_own(database_url: str, redis_url: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with RunningDemo(tmp_path / "demo", env=env) as demo:
        demo.wait_trading()
        assert demo.urls == env
        assert not {"postgres", "redis"} & demo.children().keys()
        demo.supervisor.send_signal(signal.SIGTERM)
        assert demo.wait_end(40) == 0
    with psycopg.connect(database_url) as connection:
        scans = connection.execute("SELECT count(*) FROM scans").fetchone()
    assert scans is not None
    assert scans[0] > 0


def test_a_recorded_tape_that_ends_ends_the_run_and_says_so_at_the_next_start(data_folder: Path, tmp_path: Path) -> None:
    market, history = data_folder / "candles_15m_60.parquet", data_folder / "candles_4h_60.parquet"
    tape = ["--market", str(market), "--history", str(history), "--start", "2025-09-30T20:00:00Z", "--speed", "900"]
    with RunningDemo(tmp_path / "demo", *tape, "--report", str(tmp_path / "report.json")) as demo:
        assert demo.wait_end(150) == 0, demo.output[-3000:]
    assert "the tape has ended" in demo.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scans"] > 0
    assert report["market_seconds"] <= 4 * 3600
    with RunningDemo(tmp_path / "demo") as again:
        assert again.wait_end(60) == 1
    assert "played to its end; --fresh plays it again" in again.output


def test_a_dashboard_port_in_use_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = _neurotrade("demo", "--data", str(tmp_path / "demo"), "--port", str(port))
    assert ended.returncode == 1
    assert f"port {port} of the dashboard is in use" in ended.stderr
    assert not (tmp_path / "demo").exists()


def test_a_malformed_setting_stops_the_start_with_its_name(tmp_path: Path) -> None:
    ended = _neurotrade("demo", "--data", str(tmp_path / "demo"), "--port", str(free_port()), MIN_CONFIDENCE="high")
    assert ended.returncode == 1
    assert "MIN_CONFIDENCE" in ended.stderr
    assert "Traceback" not in ended.stderr


def _neurotrade(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False)
