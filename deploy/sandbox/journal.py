"""What was done to the sandbox, kept on disk, so that a sandbox that was killed goes on with every account as it was.

Between two deeds the floor is a pure function of market time, so the deeds alone are enough: they are written before they are carried
out, and a new process carries them out again at their own market times. Listen keys, used limits and countdowns are not kept.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.exchange import Exchange


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One deed and its market time."""

    at: int
    kind: str
    given: dict[str, Any]


type Doers = dict[str, Callable[[dict[str, Any], int], object]]
"""What carries out each kind of deed."""


class Journal:
    """A file of deeds, one JSON object a line; only its owner can read it, because it holds the secrets of accounts.

    Args:
        path: Made if absent.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def replay(self, exchange: Exchange, doers: Doers) -> int:
        """Carry out every deed again, then keep those that come; returns how many there were.

        Args:
            exchange: Fresh.
            doers: By kind.
        """
        deeds = self._read()
        for deed in deeds:
            exchange.advance(deed.at)
            with suppress(Rejected):
                doers[deed.kind](deed.given, deed.at)
        exchange.trading.herald.drained()
        exchange.record = self.keep
        return len(deeds)

    def keep(self, kind: str, now: int, given: dict[str, Any]) -> None:
        """Write a deed down; it is with the operating system when this returns."""
        os.write(self._file, msgspec.json.encode(Deed(at=now, kind=kind, given=given)) + b"\n")

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def _read(self) -> list[Deed]:
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            lines = file.read().split(b"\n")
        if lines[-1]:
            # A kill in the middle of a line: that deed was never carried out.
            os.truncate(self._file, os.fstat(self._file).st_size - len(lines[-1]))
        return [msgspec.json.decode(line, type=Deed) for line in lines[:-1]]
