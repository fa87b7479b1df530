"""Turns the children's log lines into what a person reads at the terminal, and counts what must never happen.

Children log JSON; each line is kept as it came in `logs/<name>.jsonl` and shown as one prefixed, readable line.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

ERROR_LEVELS: Final = frozenset({"error", "critical", "exception", "fatal"})
TRACEBACK: Final = "Traceback (most recent call last)"
"""What a process prints that fails outside its logs."""

ROTATE_BYTES: Final = 20_000_000
"""A log file is set aside once at this size, so that a demo left running does not fill the disk."""

NOT_SHOWN: Final = frozenset(
    {
        "event", "level", "at", "process", "timestamp", "exception", "trace_id", "user_id", "position_id", "order_id", "signal_id",
        "client_order_id", "login_id",
    }
)  # fmt: skip
"""Ids are for searching the files, not for reading."""

COLOURS: Final = {"sandbox": 36, "engine": 32, "feed": 34, "worker": 33, "orchestrator": 35, "neurotrade": 37}
WIDTH: Final = 12


class Console:
    """Where every process's lines come together: the terminal, the files, the count of errors."""

    def __init__(self, folder: Path, out: TextIO = sys.stdout) -> None:
        """Lines are kept under `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.errors = 0
        self._folder = folder
        self._out = out
        self._colour = out.isatty()

    def say(self, text: str, name: str = "neurotrade") -> None:
        """One line of a process, now."""
        prefix = f"{name:<{WIDTH}}"
        if self._colour:
            prefix = f"\x1b[{COLOURS.get(name, 90)}m{prefix}\x1b[0m"
        # A closed pipe must not keep the supervisor from stopping its children.
        try:
            self._out.write("".join(f"{prefix} {line}\n" for line in text.splitlines() or [""]))
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._out = Path("/dev/null").open("w")  # noqa: SIM115 - stays open as long as the process

    def take(self, name: str, line: str, *, quiet: bool = False) -> None:
        """One line that a child wrote: kept, counted when an error, shown unless quiet."""
        self._keep(name, line)
        record = _record(line)
        if _is_error(line, record):
            self.errors += 1
            quiet = False
        if not quiet:
            self.say(line if record is None else readable(record), name)

    def _keep(self, name: str, line: str) -> None:
        path = self._folder / f"{name}.jsonl"
        if path.exists() and path.stat().st_size > ROTATE_BYTES:
            path.replace(path.with_suffix(".jsonl.1"))
        with path.open("a") as file:
            file.write(line + "\n")


def readable(record: dict[str, Any]) -> str:
    """One log record as a sentence with its fields, the traceback below it."""
    level = str(record.get("level", "info"))
    mark = "" if level in {"info", "debug"} else f"{level.upper()} "
    fields = " ".join(f"{key}={_short(value)}" for key, value in record.items() if key not in NOT_SHOWN and value != "")
    text = f"{_time(record)} {mark}{record.get('event', '')}{'  ' + fields if fields else ''}"
    return f"{text}\n{record['exception']}" if record.get("exception") else text


def _is_error(line: str, record: dict[str, Any] | None) -> bool:
    if record is None:
        return line.startswith(TRACEBACK)
    return str(record.get("level", "")).lower() in ERROR_LEVELS


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _time(record: dict[str, Any]) -> str:
    stamp = record.get("at") or record.get("timestamp") or ""
    return str(stamp)[11:19] or datetime.now(UTC).strftime("%H:%M:%S")


def _short(value: object) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."
