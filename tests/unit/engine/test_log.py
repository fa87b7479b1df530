"""Logs hold allowlisted fields only, one JSON object a line, with the trace id of the request."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from engine import log


def last_record(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    record: dict[str, object] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return record


@pytest.fixture(autouse=True)
def configured(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.configure("json", "engine")
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_field_that_is_not_on_the_list_never_reaches_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    log.logger().info("scan", symbol="BTCUSDT", api_secret="s3", headers={"Authorization": "Bearer t"})
    record = last_record(capsys)
    assert record["symbol"] == "BTCUSDT"
    assert {"event", "level", "at", "process", "symbol"} == set(record)


def test_a_record_carries_the_trace_id_that_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    bound = log.TRACE_ID.set("abc")
    log.logger().info("scan")
    log.TRACE_ID.reset(bound)
    assert last_record(capsys)["trace_id"] == "abc"


def test_a_crash_is_one_error_record_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.logger().error("a request crashed", exc_info=error)
    record = last_record(capsys)
    assert record["level"] == "error"
    assert "ValueError: broken" in str(record["exception"])


CRASH = """
from engine import log
{configured}
def handle():
    body = "-".join(["sealed", "credentials"])
    raise ValueError(len(body))
try:
    handle()
except ValueError as error:
    log.logger().error("a request crashed", exc_info=error)
"""


@pytest.mark.parametrize("configured", ["", "log.configure('text', 'engine')", "log.configure('json', 'engine')"])
def test_a_traceback_holds_no_locals_in_any_process(configured: str) -> None:
    script = CRASH.format(configured=configured)
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ValueError: 18" in said.stdout
    assert "sealed-credentials" not in said.stdout + said.stderr
