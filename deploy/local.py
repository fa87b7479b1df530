"""`neurotrade demo` and `neurotrade up`: one supervisor, real servers, every process, on one machine and nothing else.

Reads from top to bottom like a run: take the folder, start, make the demo user, watch, stop in order, judge.
"""

import asyncio
import contextlib
import os
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

from deploy.environments import NEVER_IN_THE_DEMO, environment_of, given_settings
from deploy.errors import DeployError, PortTaken
from deploy.folder import Folder, Tape
from deploy.readable import Console
from deploy.real import JOURNAL, RealDemo, RealOutcome
from deploy.report import OPEN_WITHOUT_STOP, Report, Run, read_report
from deploy.stack import Stack
from engine.errors import SettingsError as EngineSettingsError
from engine.settings import read_settings as read_engine_settings
from orchestrator.errors import SettingsError as OrchestratorSettingsError
from orchestrator.settings import read_settings as read_orchestrator_settings

PROJECT: Final = Path(__file__).resolve().parent.parent
DEMO_USER: Final = "demo"
FIRST_SCAN_SECONDS: Final = 180.0
THRESHOLDS: Final = ("min_volume_usdt", "min_volatility_24h", "min_confidence", "top_coins_limit")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    kind: str
    data: Path
    port: int = 8080
    seconds: float | None = None
    report: Path | None = None
    fresh: bool = False
    tape: Tape = Tape()
    real: bool = False
    faults: str | None = None


def run(options: Options) -> int:
    """Runs the stack until it is told to stop, its seconds are over or its tape ends; the exit code.

    Raises:
        DeployError: It cannot start; nothing is left running.
    """
    _check_port(options.port)
    folder = Folder(options.data, options.kind, options.tape, fresh=options.fresh)
    try:
        return asyncio.run(_Supervisor(options, folder).run())
    finally:
        folder.close()


class _Supervisor:
    def __init__(self, options: Options, folder: Folder) -> None:
        self.options = options
        self.folder = folder
        self.console = Console(folder.path / "logs")
        demo = options.kind == "demo"
        given = given_settings(os.environ, None if demo else PROJECT / ".env")
        if demo:
            given = {name: value for name, value in given.items() if name not in NEVER_IN_THE_DEMO}
        if options.real:
            given |= {"BINANCE_DRY_RUN": "false"}
        self.stack = Stack(folder, self.console, given, options.port, journal=folder.path / JOURNAL if options.real else None)
        self.thresholds = _check_settings(self.stack.settings)
        self.stop = asyncio.Event()
        self.new_folder = folder.session.market_ms is None
        self.began: datetime | None = None
        self.open_without_stop = 0
        self.exchange: RealDemo | None = None
        self.real_outcome: RealOutcome | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means to stay
                loop.add_signal_handler(number, self._asked_to_stop, number)
        try:
            if await self._unless_stopped(self._start()):
                await self._unless_stopped(self._watch())
                if self.began is not None:
                    await self._settle_with_exchange()
            await self.stack.stop_services()
            return await self._judge()
        finally:
            await self.stack.stop_services()
            await self.stack.stop_servers()
            self.console.say("everything is stopped")

    def _asked_to_stop(self, number: int) -> None:
        if self.stop.is_set():
            self.console.say(f"{signal.Signals(number).name} again: what still runs is killed, the databases aside")
            self.stack.end_services_now()
            return
        self.console.say(f"{signal.Signals(number).name}: stopping")
        self.stop.set()

    async def _unless_stopped(self, work: Any) -> bool:
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if task.done():
            task.result()
            return not self.stop.is_set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    async def _start(self) -> None:
        self.console.say(f"starting, data in {self.folder.path}")
        if self.stack.demo:
            await self.stack.start_market()
        await self.stack.start_servers()
        self.folder.note_running({name: self.stack.settings[name] for name in ("DATABASE_URL", "REDIS_URL")})
        await self.stack.start_services()
        if self.stack.clock is not None and self.stack.clock.ended():
            raise DeployError(f"the tape in {self.folder.path} has been played to its end; --fresh plays it again")
        login = await self._demo_login() if self.stack.demo else "register there, or: neurotrade user add NAME --admin"
        if self.options.real:
            await self._arm()
        self.began = self._market_now()
        await self.stack.start_worker()
        if self.exchange is not None and self.options.faults is not None:
            await self.exchange.storm(self.options.faults, self.folder.session.tape.seed or 0)
        self.console.say(f"\n  dashboard  {self.stack.dashboard}\n  login      {login}\n")

    async def _demo_login(self) -> str:
        from deploy.people import add_person  # here, while the others come up: the store behind it takes a second to load

        password = self.folder.secrets.demo_password
        made = await add_person(self.stack.settings["DATABASE_URL"], DEMO_USER, password, at=self._market_now(), auto_trade=True)
        if not made and self.new_folder:
            return f"{DEMO_USER}, with the password that this database's demo user was given before"
        return f"{DEMO_USER} / {password}"

    async def _arm(self) -> None:
        """The demo user trades an account of the sandbox with the real executor."""
        await self.stack.serving()
        self.exchange = RealDemo(self.stack.address("sandbox"), self.stack.dashboard, self.folder.path, self.console.say)
        await self.exchange.arm(DEMO_USER, self.folder.secrets.demo_password)

    async def _settle_with_exchange(self) -> None:
        """Calm weather, no new entries, and the books held against the exchange; while everything still serves."""
        if self.exchange is None:
            return
        fired = await self.exchange.calm()
        url, password = self.stack.settings["DATABASE_URL"], self.folder.secrets.demo_password
        self.real_outcome = await self.exchange.outcome(url, DEMO_USER, password, fired)
        self.console.say(_told(self.real_outcome))

    async def _watch(self) -> None:
        """Each second: note market time, look for positions without a stop, see whether the run is over."""
        loop = asyncio.get_running_loop()
        started, first_scan = loop.time(), None
        while True:
            if self.stack.clock is not None:
                self.folder.keep_market_ms(self.stack.clock.now_ms())
                if self.stack.clock.ended():
                    self.console.say("the tape has ended")
                    return
            scanned = await self._look()
            if scanned and first_scan is None:
                first_scan = loop.time()
            if self.options.seconds is not None:
                if first_scan is not None and loop.time() - first_scan >= self.options.seconds:
                    return
                if first_scan is None and loop.time() - started > FIRST_SCAN_SECONDS:
                    self.console.say(f"no scan within {FIRST_SCAN_SECONDS:.0f} s")
                    return
            await asyncio.sleep(1 if first_scan is not None else 0.2)

    async def _look(self) -> bool:
        try:
            scans, naked = await asyncio.to_thread(self._count)
        except psycopg.Error:
            return False  # PostgreSQL is being restarted, which is said elsewhere; the next look is a second away
        self.open_without_stop = max(self.open_without_stop, naked)
        return scans

    def _count(self) -> tuple[bool, int]:
        with psycopg.connect(self.stack.settings["DATABASE_URL"], connect_timeout=2, autocommit=True) as connection:
            scans = connection.execute("SELECT EXISTS (SELECT FROM scans WHERE as_of >= %s)", [self.began]).fetchone()
            naked = connection.execute(OPEN_WITHOUT_STOP).fetchone()
        assert scans is not None  # noqa: S101 - an aggregate always has a row
        assert naked is not None  # noqa: S101
        return bool(scans[0]), int(naked[0])

    async def _judge(self) -> int:
        """Reads the report once nothing trades any more; writes it, and says whether the run was sound."""
        asked = self.options.seconds is not None or self.options.report is not None
        if self.began is None:
            return 1 if asked else 0
        if not asked and not self.stack.demo:
            return 0
        report = await asyncio.to_thread(self._report)
        self.console.say(_summary(report))
        if self.options.report is not None:
            self.options.report.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        unsound = report.unsound()
        if asked and unsound:
            self.console.say(f"not sound: {'; '.join(unsound)}")
        return 1 if asked and unsound else 0

    def _report(self) -> Report:
        assert self.began is not None  # noqa: S101 - the caller asked
        tape = self.folder.session.tape
        about = Run(
            since=self.began,
            until=self._market_now(),
            open_without_stop=self.open_without_stop,
            errors=self.console.errors + self.stack.restarts,
            speed=tape.speed or 1.0,
            seed=tape.seed,
            thresholds=self.thresholds,
        )
        try:
            with psycopg.connect(self.stack.settings["DATABASE_URL"], connect_timeout=20) as connection:
                report = read_report(connection, about)
        except psycopg.Error as error:
            raise DeployError(f"the report could not be read: {error}") from error
        return report if self.real_outcome is None else with_exchange(report, self.real_outcome)

    def _market_now(self) -> datetime:
        return self.stack.clock.now() if self.stack.clock is not None else datetime.now(UTC)


def with_exchange(report: Report, outcome: RealOutcome) -> Report:
    """The report with what only the exchange could say."""
    return msgspec.structs.replace(
        report,
        exchange_equal=outcome.exchange_equal,
        unprotected_seconds=outcome.unprotected_seconds,
        unknown_orders=outcome.unknown_orders,
    )


def _told(outcome: RealOutcome) -> str:
    fired = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.faults.items())) or "none"
    lines = [
        f"the books {'equal' if outcome.exchange_equal else 'DO NOT EQUAL'} the exchange; longest without a stop "
        f"{outcome.unprotected_seconds:.2f} s; orders of unknown outcome {outcome.unknown_orders}",
        f"faults that fired: {fired}",
    ]
    return "\n".join([*lines, *outcome.differences])


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server itself would bind it: a connection that lingers after the last run is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTaken(f"port {port} of the dashboard is in use; stop what listens there, or give --port another") from error


def _check_settings(settings: dict[str, str]) -> dict[str, float]:
    try:
        engine = read_engine_settings(environment_of("engine", settings))
        read_orchestrator_settings(environment_of("orchestrator", settings))
    except (EngineSettingsError, OrchestratorSettingsError) as error:
        raise DeployError(str(error)) from error
    return {name: getattr(engine, name) for name in THRESHOLDS}


def _summary(report: Report) -> str:
    closed = report.positions_closed
    return (
        f"{report.market_seconds / 3600:.1f} market hours: {report.scans} scans of {report.symbols} symbols, {report.candidates} candidates,"
        f" {report.signals.long + report.signals.short} signals, {report.positions_opened} positions opened,"
        f" {closed.CLOSED_WIN} closed with a win, {closed.CLOSED_LOSS} with a loss; ledger"
        f" {'balances' if report.ledger_balanced else 'DOES NOT BALANCE'}; {report.errors} errors"
    )
