"""A setting reaches only the processes that read it."""

from pathlib import Path

import pytest

from deploy.environments import environment_of, given_settings
from deploy.folder import Folder, Tape
from deploy.readable import Console
from deploy.servers import free_port
from deploy.stack import Stack

EVERYTHING = {
    "BINANCE_API_KEY": "k", "BINANCE_API_SECRET": "s", "AI_API_KEY": "a", "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x",
    "JWT_SECRET": "j", "ENGINE_TOKEN": "t", "SEAL_PRIVATE_KEYS": "p", "DEEPSEEK_API_KEY": "d", "TOTP_KEY": "o",
}  # fmt: skip


@pytest.mark.parametrize("process", ["feed", "orchestrator", "worker", "sandbox"])
def test_exchange_keys_ai_keys_and_the_seals_reach_the_engine_only(process: str) -> None:
    secrets = {"BINANCE_API_KEY", "BINANCE_API_SECRET", "SEAL_PRIVATE_KEYS", "AI_API_KEY", "DEEPSEEK_API_KEY"}
    assert not secrets & environment_of(process, EVERYTHING).keys()
    assert secrets <= environment_of("engine", EVERYTHING).keys()


@pytest.mark.parametrize("process", ["engine", "feed"])
def test_the_engine_knows_neither_the_database_nor_how_people_log_in(process: str) -> None:
    told = environment_of(process, EVERYTHING)
    assert told["ENGINE_TOKEN"] == "t"
    assert not {"DATABASE_URL", "JWT_SECRET", "TOTP_KEY"} & told.keys()


def test_the_worker_logs_nobody_in() -> None:
    assert "JWT_SECRET" not in environment_of("worker", EVERYTHING)


def test_the_environment_is_heard_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a comment\nMIN_CONFIDENCE=80 # of 100\nexport AI_MODEL='some model'\nREDIS_URL=\nUNKNOWN=1\n")
    assert given_settings({"MIN_CONFIDENCE": "90"}, file) == {"MIN_CONFIDENCE": "90", "AI_MODEL": "some model"}


@pytest.mark.parametrize(
    ("kind", "given", "folder"),
    [
        ("up", {}, "recording"),
        ("up", {"RECORD_FOLDER": "/elsewhere"}, "/elsewhere"),
        ("up", {"RECORD_FOLDER": ""}, ""),
        ("demo", {}, None),
    ],
)
async def test_only_the_real_market_is_recorded_unless_somebody_says_otherwise(
    tmp_path: Path, kind: str, given: dict[str, str], folder: str | None
) -> None:
    kept = Folder(tmp_path, kind, Tape())
    stack = Stack(kept, Console(tmp_path / "logs"), given_settings({**EVERYTHING, **given}, None), free_port())
    told = environment_of("feed", stack.settings).get("RECORD_FOLDER")
    assert told == (str(tmp_path / "recording") if folder == "recording" else folder)
    await stack.stop_servers()
    kept.close()


def test_an_empty_folder_in_the_file_says_no(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("RECORD_FOLDER=\n")
    assert given_settings({}, file) == {"RECORD_FOLDER": ""}
