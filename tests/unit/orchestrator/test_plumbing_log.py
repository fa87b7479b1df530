"""Logs of the orchestrator: only named fields, one trace id for all that belongs together, JSON a line."""

import json
import subprocess
import sys

import pytest

from orchestrator.log import TRACE_ID, bound_trace

SCRIPT = """
import logging
from orchestrator.log import bound_trace, configure, logger
configure("{form}", "worker")
with bound_trace("t1"):
    logger().info("scan done", symbol="BTCUSDT", password="hidden-word", order={{"secret": "hidden-word"}})
try:
    raise ValueError("odd")
except ValueError:
    logger().exception("a round failed", loop="watch")
logging.getLogger("arq.worker").warning("job %s expired", "scan:1")
logging.getLogger("arq.worker").info("too much to say")
"""


def said(form: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(form=form)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_record_is_one_line_of_json_with_named_fields_only() -> None:
    scan, failed, expired = (json.loads(line) for line in said("json"))
    assert scan.pop("at").endswith("+00:00")
    assert scan == {"event": "scan done", "level": "info", "process": "worker", "symbol": "BTCUSDT", "trace_id": "t1"}
    assert (failed["level"], failed["loop"]) == ("error", "watch")
    assert "ValueError: odd" in failed["exception"]
    assert "trace_id" not in failed
    assert (expired["event"], expired["level"]) == ("job scan:1 expired", "warning")


def test_readable_logs_say_the_same_without_what_is_not_named() -> None:
    text = "\n".join(said("text"))
    assert "scan done" in text
    assert "hidden-word" not in text


def test_a_trace_id_is_bound_inside_and_gone_after() -> None:
    with bound_trace("t1") as outer, bound_trace("") as inner:
        assert outer == "t1"
        assert TRACE_ID.get() == inner
        assert len(inner) == 32
    assert TRACE_ID.get() == ""


def test_a_trace_id_is_gone_after_a_failure_too() -> None:
    with pytest.raises(ValueError, match="odd"), bound_trace("t1"):
        raise ValueError("odd")
    assert TRACE_ID.get() == ""
