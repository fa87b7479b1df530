"""Which process is told what: a setting reaches only the processes that read it, so that exchange and AI keys stay with the engine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.settings import EngineSettings
from orchestrator.settings import OrchestratorSettings

OF_THE_MACHINE: Final = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TERM"}
)
OF_THE_MACHINE_PREFIXES: Final = ("LC_", "PYTHON", "NUMBA_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

OF_THE_ENGINE: Final = frozenset(name.upper() for name in EngineSettings.__struct_fields__) | {"DEEPSEEK_API_KEY"}
SECRETS_OF_THE_ENGINE: Final = frozenset(
    {"BINANCE_API_KEY", "BINANCE_API_SECRET", "SEAL_PRIVATE_KEYS", "AI_API_KEY", "DEEPSEEK_API_KEY"}
)
"""The feed listens to what everybody may hear: it is given none of these, nor is anyone else but the engine."""

OF_THE_FEED: Final = OF_THE_ENGINE - SECRETS_OF_THE_ENGINE
OF_THE_APP: Final = frozenset(name.upper() for name in OrchestratorSettings.__struct_fields__)
OF_THE_WORKER: Final = OF_THE_APP - {"JWT_SECRET", "TOTP_KEY"}

SETTINGS_OF: Final[Mapping[str, frozenset[str]]] = {
    "sandbox": frozenset({"LOG_FORMAT"}),
    "engine": OF_THE_ENGINE,
    "feed": OF_THE_FEED,
    "orchestrator": OF_THE_APP,
    "worker": OF_THE_WORKER,
}
"""The settings that each process reads; it is given no other."""

NEVER_IN_THE_DEMO: Final = frozenset({"BINANCE_API_KEY", "BINANCE_API_SECRET", "AI_API_KEY", "DEEPSEEK_API_KEY"})
"""The demo plays a market of its own: no key belongs there."""

EMPTY_IS_A_VALUE: Final = frozenset({"RECORD_FOLDER"})
"""Given empty, these say no."""


def environment_of(process: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process: what the machine needs, and the settings it reads."""
    machine = {
        name: value
        for name, value in os.environ.items()
        if name in OF_THE_MACHINE or name.upper().startswith(OF_THE_MACHINE_PREFIXES)
    }
    return {**machine, **{name: value for name, value in settings.items() if name in SETTINGS_OF[process]}}


def given_settings(env: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """Every known setting that somebody gave: the file's, the environment's over them. Empty ones count as not given, or say no."""
    known = OF_THE_ENGINE | OF_THE_APP
    given = {**(_read_dotenv(dotenv) if dotenv is not None and dotenv.exists() else {}), **env}
    return {name: value for name, value in given.items() if name in known and (value.strip() or name in EMPTY_IS_A_VALUE)}


def _read_dotenv(file: Path) -> dict[str, str]:
    pairs = (line.strip().removeprefix("export ").partition("=") for line in file.read_text().splitlines() if "=" in line)
    return {name.strip(): _unquoted(value) for name, _, value in pairs if not name.startswith("#")}


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.partition(" #")[0].strip()
