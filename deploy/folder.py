"""The data folder of one embedded stack: what makes a later start go on where this one stood.

It keeps the servers' data, the secrets (mode 0600), and `session.json` with the tape's options and how far market time has come. A lock
keeps a second supervisor out.
"""

import fcntl
import os
import secrets
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Final

import msgspec

from deploy.errors import FolderInUse, FolderMismatch

SESSION: Final = "session.json"
SECRETS: Final = "secrets.json"
LOCK: Final = "lock"
RUNNING: Final = "running.json"
JOURNAL: Final = "sandbox.journal"
RECORDING: Final = "recording"
"""What the feed saw; --fresh leaves it, since nobody can have it a second time."""

REAL_FILES: Final = ("real.json", "exchange.journal")
"""What `demo --real` keeps: the account at the sandbox, and the exchange's own record."""

DEFAULT_SEED: Final = 7
DEFAULT_SPEED: Final = 450.0
"""Fifteen market minutes in two seconds."""


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """Which market the sandbox plays; None takes what the folder keeps, or the default in a new one."""

    seed: int | None = None
    speed: float | None = None
    market: str | None = None
    history: str | None = None
    liquidations: str | None = None
    start: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder was made with and where market time stands; no market_ms means that the tape has not begun."""

    kind: str
    tape: Tape
    market_ms: int | None = None


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Drawn once for this folder; never logged."""

    engine_token: str
    jwt_secret: str
    postgres_password: str
    redis_password: str
    demo_password: str
    seal_private_keys: str = ""

    def __repr__(self) -> str:
        return "Secrets(***)"


class Folder:
    """One data folder, locked for this process while open."""

    def __init__(self, path: Path, kind: str, tape: Tape, *, fresh: bool = False) -> None:
        """Takes the lock and reads or makes what the folder keeps.

        Args:
            path: Made if absent.
            kind: "demo" or "up".
            tape: What was asked for; values that differ from the folder's are refused.
            fresh: Forget what the folder keeps.

        Raises:
            FolderInUse: Another supervisor runs on it.
            FolderMismatch: It was made with other options.
        """
        self.path = path.resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            if fresh:
                self._forget()
            self.session = self._session(kind, tape)
            self.secrets = self._secrets()
            self._write(SESSION, self.session)
        except BaseException:
            os.close(self._lock)
            raise

    def keep_market_ms(self, market_ms: int) -> None:
        """Notes how far market time has come."""
        self.session = msgspec.structs.replace(self.session, market_ms=market_ms)
        self._write(SESSION, self.session)

    def keep_seal_keys(self, keys: str) -> None:
        """Keeps other private keys of the seal, as SEAL_PRIVATE_KEYS takes them."""
        self.secrets = msgspec.structs.replace(self.secrets, seal_private_keys=keys)
        self._write(SECRETS, self.secrets)

    def note_running(self, addresses: dict[str, str]) -> None:
        """Leaves word for other commands where this stack's servers are; removed at the end."""
        self._write(RUNNING, addresses)

    def close(self) -> None:
        """Gives the lock back."""
        (self.path / RUNNING).unlink(missing_ok=True)
        os.close(self._lock)

    def _take_lock(self) -> int:
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            raise FolderInUse(
                f"{self.path} is in use by process {owner or '?'}; stop that one, or give --data another folder"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        return handle

    def _forget(self) -> None:
        # Only what we put there: a mistyped --data must not empty somebody's home.
        if not (self.path / SESSION).exists():
            return
        for name in (SESSION, SECRETS, RUNNING, JOURNAL, *REAL_FILES, "postgres.log", "redis.log"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("postgres", "redis", "logs"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _session(self, kind: str, tape: Tape) -> Session:
        file = self.path / SESSION
        if not file.exists():
            return Session(kind=kind, tape=_with_defaults(tape) if kind == "demo" else tape)
        kept = msgspec.json.decode(file.read_bytes(), type=Session)
        if kept.kind != kind:
            raise FolderMismatch(f"{self.path} belongs to `neurotrade {kept.kind}`; give --data another folder, or --fresh")
        asked, has = msgspec.structs.asdict(tape), msgspec.structs.asdict(kept.tape)
        others = [name for name, value in asked.items() if value is not None and value != has[name]]
        if others:
            was = ", ".join(f"--{name} {has[name]}" if has[name] is not None else f"no --{name}" for name in others)
            raise FolderMismatch(f"{self.path} was made with {was}; --fresh forgets it and starts anew")
        return kept

    def _secrets(self) -> Secrets:
        file = self.path / SECRETS
        if not file.exists():
            drawn = {name: secrets.token_urlsafe(32) for name in Secrets.__struct_fields__}
            drawn["demo_password"] = secrets.token_urlsafe(9)
            self._write(SECRETS, Secrets(**drawn | {"seal_private_keys": _seal_key()}))
        kept = msgspec.json.decode(file.read_bytes(), type=Secrets)
        if not kept.seal_private_keys:  # a folder from before there were seals
            kept = msgspec.structs.replace(kept, seal_private_keys=_seal_key())
            self._write(SECRETS, kept)
        return kept

    def _write(self, name: str, value: object) -> None:
        # Renamed into place, so that a kill between two writes leaves the older one whole.
        partial = self.path / f"{name}.new"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value)))
        partial.replace(self.path / name)


def _seal_key() -> str:
    """A private key of X25519: any 32 random bytes are one. Source: RFC 7748, section 5."""
    return b64encode(secrets.token_bytes(32)).decode()


def is_locked(path: Path) -> bool:
    """True while a supervisor runs on that folder."""
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _with_defaults(tape: Tape) -> Tape:
    seed, speed = tape.seed, tape.speed
    return msgspec.structs.replace(
        tape, seed=DEFAULT_SEED if seed is None else seed, speed=DEFAULT_SPEED if speed is None else speed
    )
