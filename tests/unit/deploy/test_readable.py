"""What a person reads of a child's log, and what is counted."""

import io
from pathlib import Path

from deploy.readable import Console

LINE = '{"event":"scan finished","level":"%s","at":"2026-01-02T03:04:05.678+00:00","process":"engine","universe":482,"ms":12.345}'


def test_a_record_becomes_a_prefixed_sentence_and_is_kept_as_it_came(tmp_path: Path) -> None:
    out = io.StringIO()
    Console(tmp_path, out).take("engine", LINE % "info")
    assert out.getvalue() == "engine       03:04:05 scan finished  universe=482 ms=12.3\n"
    assert (tmp_path / "engine.jsonl").read_text() == LINE % "info" + "\n"


def test_errors_are_counted_and_shown_even_of_a_quiet_child(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(tmp_path, out)
    for level in ("info", "warning", "error", "critical"):
        console.take("engine", LINE % level, quiet=True)
    assert console.errors == 2
    assert out.getvalue().count("scan finished") == 2


def test_a_line_that_is_no_record_is_shown_as_it_is_and_a_bare_traceback_counts(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(tmp_path, out)
    console.take("engine", "Traceback (most recent call last):")
    console.take("engine", "{not json")
    assert out.getvalue().splitlines() == ["engine       Traceback (most recent call last):", "engine       {not json"]
    assert console.errors == 1
