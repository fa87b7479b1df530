"""CCXT's own live test suite against the sandbox: `make ccxt-suite`, from the unpacked source package of ccxt.

The suite's exit code says nothing; a line with TEST_FAILURE is a failure. What it must not ask is listed in `SKIPPED` with the reason, and
in docs/ccxt-suite.md, which a test keeps equal. Two files are written into the folder and taken away again.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import ccxt.async_support as ccxt

from deploy.sandbox.app import running_sandbox
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options

SYMBOL = "BTC/USDT:USDT"
SECONDS: Final = 60.0
"""For one part of the suite."""

PARTS: dict[str, tuple[str, ...]] = {
    "public": (),
    "private": ("--privateOnly",),
    "funded": ("--sync", "--privateOnly", "--fundedTests"),
    "streams": ("--ws",),
    "private streams": ("--ws", "--privateOnly"),
}

BUSY = frozenset({"private streams"})
"""Parts that wait for something to happen to the account."""

WALLET_SIDE = "the spot and wallet API (/sapi): outside of the futures exchange that the sandbox is"
SKIPPED: dict[str, str | dict[str, str]] = {
    "fetchStatus": WALLET_SIDE,
    "fetchDeposits": WALLET_SIDE,
    "fetchWithdrawals": WALLET_SIDE,
    "fetchTransfers": WALLET_SIDE,
    "fetchBorrowInterest": WALLET_SIDE,
    "fetchLeverageTiers": "the suite passes a list in a list, which raises TypeError inside ccxt before anything is sent",
    "fetchMarginModes": "the suite passes a list in a list, and then finds no market of that name",
    "watchBalance": "ACCOUNT_UPDATE has no free balance, on the exchange neither; the suite wants one",
    "fetchPositions": {"leverage": "positionRisk v3 has none"},
    "watchPositions": "ACCOUNT_UPDATE has no notional, mark price or leverage; the suite wants them",
}
"""By method: the reason."""

FUNDED = Path("python/ccxt/test/exchange/sync/test_create_order.py")
PREAMBLE = """# -*- coding: utf-8 -*-
import math
import time
from ccxt.base.exchange import Exchange
Exchange.__getitem__ = lambda self, name: getattr(self, name)
Error = Exception
"""
MENDED = {
    "# -*- coding: utf-8 -*-\n": PREAMBLE,
    "balance[market['base']]['free']": "balance.get(market['base'], {}).get('free')",
    "exchange.decimal_to_precision(final_amount, 2, ": "exchange.decimal_to_precision(final_amount, 1, ",
    "+ initial_quote_balance +": "+ str(initial_quote_balance) +",
    "side + ' ' + amount + ' ' + price + ' '": "side + ' ' + str(amount) + ' ' + str(price) + ' '",
}
"""The test of orders as released names what it does not import, takes the exchange for a dictionary, adds numbers to text in its own
prints, rounds in a way that Python's ccxt does not have, and wants a balance in bitcoin, which production does not tell either while it is
zero. It runs with these lines put right, and nothing else of it changed."""


class Outcome(NamedTuple):
    """What one part of the suite said."""

    part: str
    tested: tuple[str, ...]
    failures: tuple[str, ...]
    text: str


def unpacked() -> Path | None:
    """The folder of ccxt's source package, None where there is none."""
    named = os.environ.get("CCXT_SOURCE")
    folder = Path(named).resolve() if named else None
    return folder if folder and (folder / "python" / "ccxt" / "test" / "tests_init.py").exists() else None


async def suite(folder: Path, parts: Mapping[str, tuple[str, ...]]) -> list[Outcome]:
    """Run parts of the suite, each with an account of its own."""
    options = SandboxOptions(port=0, speed=1, weight_limit=1_000_000)
    out = []
    async with running_sandbox(options) as base:
        for part, flags in parts.items():
            async with settings(folder, base) as client, busy(client) if part in BUSY else nullcontext():
                out.append(read(part, await asked(folder, flags)))
    return out


@asynccontextmanager
async def settings(folder: Path, base: str) -> AsyncIterator[Any]:
    """Let the suite find a fresh account, the sandbox's addresses and what it must not ask; yields a client of that account."""
    async with aiohttp.ClientSession() as session, session.post(f"{base}/sandbox/accounts", json={"wallet": "10000"}) as response:
        opened = await response.json()
    given: dict[str, Any] = ccxt_options(base, opened["api_key"], opened["api_secret"])
    client = ccxt.binanceusdm(ccxt_options(base, opened["api_key"], opened["api_secret"]))
    keys, skips, funded = folder / "keys.local.json", folder / "skip-tests.json", (folder / FUNDED).read_text(encoding="utf-8")
    keys.write_text(json.dumps({"binanceusdm": {"exceptions": _named(given.pop("exceptions")), **given}}), encoding="utf-8")
    skips.write_text(json.dumps({"binanceusdm": {"skipMethods": SKIPPED}}), encoding="utf-8")
    (folder / FUNDED).write_text(mended(funded), encoding="utf-8")
    try:
        yield client
    finally:
        (folder / FUNDED).write_text(funded, encoding="utf-8")
        keys.unlink()
        skips.unlink()
        await client.close()


def mended(text: str) -> str:
    """The test of orders, so that Python runs it.

    Raises:
        ValueError: It is not the text that was mended.
    """
    for wrong, right in MENDED.items():
        if wrong not in text:
            raise ValueError(f"{FUNDED} has changed: no {wrong!r}")
        text = text.replace(wrong, right, 1)
    return text


@asynccontextmanager
async def busy(client: Any) -> AsyncIterator[None]:
    """Let the account trade meanwhile: a stream of an account to which nothing happens is silent, here and there."""

    async def trade() -> None:
        while True:
            for side in ("BUY", "SELL"):
                await asyncio.sleep(0.5)
                await client.fapiPrivatePostOrder({"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": "0.01"})

    task = asyncio.create_task(trade())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _named(exceptions: dict[str, Any]) -> dict[str, Any]:
    # Classes do not fit into JSON; the suite judges errors by no code of ours.
    return {name: {} for name in exceptions}


async def asked(folder: Path, flags: tuple[str, ...]) -> str:
    """Everything that the suite printed."""
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "tests_init.py", "binanceusdm", SYMBOL, "--info", *flags),
            cwd=folder / "python" / "ccxt" / "test",
            env=os.environ | {"PYTHONPATH": str(folder / "python"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
            stdout=said,
            stderr=asyncio.subprocess.STDOUT,
        )
        late = ""
        try:
            async with asyncio.timeout(SECONDS):
                await process.wait()
        except TimeoutError:
            late = f"\n[TEST_FAILURE] no end within {SECONDS:g} seconds"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said.seek(0)
        return said.read().decode(errors="replace") + late


def read(part: str, text: str) -> Outcome:
    """What was tested to its end, and every line that tells of a failure."""
    lines = text.splitlines()
    tested = sorted({line.split()[4] for line in lines if line.startswith("[INFO] TESTING DONE")})
    failures = [line for line in lines if "TEST_FAILURE" in line]
    if "loadMarkets" not in tested:
        failures.append("[TEST_FAILURE] the suite did not begin")
    return Outcome(part, tuple(tested), tuple(failures), text)
