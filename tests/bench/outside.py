"""Peers that need an environment of their own: made on first use, and asked as a process that times itself on the same candle file."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.servers import tethered
from tests.bench.market import Market
from tests.bench.peers.ranking import Picks
from tests.bench.rounds import Took

ROOT = Path(__file__).parents[2]


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is missing or its pins have changed.

    Raises:
        SystemExit: Its packages cannot be had.
    """
    pins, folder = ROOT / f"tests/bench/peers/{peer}.txt", ROOT / f".venv-bench-{peer}"
    python, stamp = folder / "bin/python", folder / ".installed"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return python
    print(f"making {folder.name}, some minutes", file=sys.stderr, flush=True)
    try:
        for command in _making(folder, python, pins):
            subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{folder.name} could not be made; --only leaves {peer} out") from error
    shutil.copyfile(pins, stamp)
    return python


def _making(folder: Path, python: Path, pins: Path) -> list[list[str]]:
    """By uv where there is one."""
    uv = shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(pins)],
        ]
    return [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-qq", "--require-hashes", "--requirement", str(pins)],
    ]


class Outside:
    """One peer's process, seeded with a market."""

    def __init__(self, peer: str, market: Market, folder: Path, closes: range) -> None:
        market.write(folder / "market.npz")
        command = [str(python_of(peer)), "-m", f"tests.bench.peers.{peer}_peer", str(folder / "market.npz")]
        self._process = subprocess.Popen(
            tethered(command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._closes = iter(closes)
        self.picks: Picks = []

    async def __aenter__(self) -> "Outside":
        await asyncio.to_thread(self._line)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.communicate)

    async def close(self) -> Took:
        """The next close; what the peer says it took."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Took:
        writer = self._process.stdin
        if writer is None:
            raise SystemExit("a peer does not listen")
        writer.write(f"{next(self._closes)}\n")
        writer.flush()
        took, picks = json.loads(self._line())
        self.picks = [(symbol, score) for symbol, score in picks]
        return Took(took)

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit("a peer ended before it answered")
        return line
