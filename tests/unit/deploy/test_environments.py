"""A setting reaches only the processes that read it."""

from pathlib import Path

import pytest

from deploy.environments import environment_of, given_settings

EVERYTHING = {
    "BINANCE_API_KEY": "k", "BINANCE_API_SECRET": "s", "AI_API_KEY": "a", "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x",
    "JWT_SECRET": "j", "ENGINE_TOKEN": "t",
}  # fmt: skip


@pytest.mark.parametrize("process", ["orchestrator", "worker", "sandbox"])
def test_exchange_and_ai_keys_reach_the_engine_only(process: str) -> None:
    told = environment_of(process, EVERYTHING)
    assert not {"BINANCE_API_KEY", "BINANCE_API_SECRET", "AI_API_KEY"} & told.keys()


@pytest.mark.parametrize("process", ["engine", "feed"])
def test_the_engine_knows_neither_the_database_nor_how_people_log_in(process: str) -> None:
    told = environment_of(process, EVERYTHING)
    assert told["BINANCE_API_KEY"] == "k"
    assert not {"DATABASE_URL", "JWT_SECRET"} & told.keys()


def test_the_worker_logs_nobody_in() -> None:
    assert "JWT_SECRET" not in environment_of("worker", EVERYTHING)


def test_the_environment_is_heard_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a comment\nMIN_CONFIDENCE=80 # of 100\nexport AI_MODEL='some model'\nREDIS_URL=\nUNKNOWN=1\n")
    assert given_settings({"MIN_CONFIDENCE": "90"}, file) == {"MIN_CONFIDENCE": "90", "AI_MODEL": "some model"}
