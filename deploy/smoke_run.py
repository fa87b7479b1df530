"""What stands around one smoke run: an engine and its Redis, and with `--sandbox` an exchange with an account on it."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from deploy.environments import NEVER_IN_THE_DEMO, given_settings
from deploy.errors import DeployError
from deploy.folder import Folder, Tape
from deploy.readable import Console
from deploy.servers import free_port
from deploy.smoke import SECONDS, Smoke, held_already
from deploy.smoke_order import instruments_of, plan
from deploy.stack import Stack
from engine.keys import new_private_key
from engine.settings import read_settings
from shared.execution import ClaimKeysRequest, RealAccount, SealedCredentials
from shared.wire import decode, encode

USER: Final = "smoke"
SANDBOX_WALLET: Final = "1000"


class SmokeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    margin: Decimal
    sandbox: bool = False
    symbol: str | None = None
    dotenv: Path | None = None


def run(options: SmokeOptions) -> int:
    """Runs it; 0 only when every step went well and nothing is left open.

    Raises:
        DeployError: It cannot start.
    """
    given = given_settings(os.environ, None if options.sandbox else options.dotenv)
    if options.sandbox:
        given = {name: value for name, value in given.items() if name not in NEVER_IN_THE_DEMO}
    with tempfile.TemporaryDirectory(prefix="neurotrade-smoke-") as path:
        folder = Folder(Path(path), "demo" if options.sandbox else "up", Tape(speed=1.0) if options.sandbox else Tape())
        try:
            return 0 if asyncio.run(_interruptible(_run(options, folder, given))) else 1
        except asyncio.CancelledError:
            return 1
        finally:
            folder.close()


def trades_for_real(options: SmokeOptions, env: Mapping[str, str]) -> bool:
    """Whether this run would send orders to Binance itself."""
    given = given_settings(env, options.dotenv)
    live = given.get("BINANCE_DRY_RUN", "true").strip().lower() in {"0", "false", "no", "off"}
    return not options.sandbox and live and bool(given.get("BINANCE_API_KEY"))


async def _interruptible(work: Coroutine[Any, Any, bool]) -> bool:
    """Told to end, however often, it closes first what was begun."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _run(options: SmokeOptions, folder: Folder, given: dict[str, str]) -> bool:
    console = Console(folder.path / "logs")
    stack = Stack(folder, console, given, free_port())
    try:
        if options.sandbox:
            await stack.start_market()
            key, secret = await stack.open_account(SANDBOX_WALLET)
            stack.settings |= {"BINANCE_API_KEY": key, "BINANCE_API_SECRET": secret, "BINANCE_DRY_RUN": "false"}
        stack.settings |= {"SEAL_PRIVATE_KEYS": new_private_key()}  # the pair is sealed for this run alone
        await stack.start_executor()
        return await _try(options, stack, console)
    finally:
        await stack.stop_services()
        await stack.stop_servers()


async def _try(options: SmokeOptions, stack: Stack, console: Console) -> bool:
    settings = read_settings(stack.settings)
    headers = {"Authorization": f"Bearer {settings.engine_token}"}
    async with (
        httpx.AsyncClient(base_url=settings.binance_rest_url, timeout=SECONDS) as exchange,
        httpx.AsyncClient(base_url=stack.address("engine"), headers=headers, timeout=SECONDS, trust_env=False) as engine,
    ):
        account = await _account(engine, dry_run=settings.binance_dry_run, has_key=bool(settings.binance_api_key))
        info, tickers = await asyncio.gather(_get(exchange, "/fapi/v1/exchangeInfo"), _get(exchange, "/fapi/v1/ticker/24hr"))
        known = [one for one in instruments_of(info, tickers) if options.symbol in (None, one.symbol)]
        taken = await held_already(engine, account)
        order = plan([one for one in known if one.symbol not in taken], options.margin)
        where = "the sandbox" if options.sandbox else settings.binance_rest_url
        how = "DRY RUN" if account.dry_run else "LIVE"
        console.say(f"{how} at {where}: {order.notional:f} USDT of {order.instrument.symbol} at {order.leverage}x")
        well = await Smoke(engine, account, order, console.say).run()
        console.say("smoke passed: nothing is left open" if well else "smoke FAILED")
        return well


async def _account(engine: httpx.AsyncClient, *, dry_run: bool, has_key: bool) -> RealAccount:
    """With the pair of the environment, sealed by the engine itself; without one only a dry run is possible."""
    if not has_key:
        if not dry_run:
            raise DeployError("BINANCE_DRY_RUN is false, but there is no BINANCE_API_KEY")
        return RealAccount(user_id=USER, dry_run=True, dry_positions=[])
    reply = await engine.post("/keys/claim", content=encode(ClaimKeysRequest(user_id=USER)))
    if not reply.is_success:
        raise DeployError(f"the engine did not seal the key pair: {reply.text[:200]}")
    sealed = decode(reply.content, SealedCredentials)
    return RealAccount(user_id=USER, dry_run=dry_run, credentials=sealed, dry_positions=[] if dry_run else None)


async def _get(exchange: httpx.AsyncClient, path: str) -> Any:
    try:
        reply = await exchange.get(path)
        return reply.raise_for_status().json()
    except httpx.HTTPError as error:
        raise DeployError(f"the exchange does not answer: {type(error).__name__}") from error
