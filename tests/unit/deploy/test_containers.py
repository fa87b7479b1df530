"""The containers run the same processes as the local stack, each told only what it reads, none with a secret baked in."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.environments import SECRETS_OF_THE_ENGINE, SETTINGS_OF

PROJECT = Path(__file__).resolve().parents[3]
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
DOCKERFILE = (PROJECT / "deploy" / "Dockerfile").read_text()
PROCESSES = {"engine": "engine.app", "feed": "engine.feed", "worker": "orchestrator.worker", "orchestrator": "orchestrator.app"}


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def test_compose_runs_the_processes_that_the_local_stack_runs() -> None:
    source = (PROJECT / "deploy" / "stack.py").read_text()
    for name, module in PROCESSES.items():
        assert service(name)["command"] == ["python", "-m", module]
        assert f'"{name}", lambda: ["{module}"]' in source
    assert COMPOSE["services"].keys() == PROCESSES.keys() | {"postgres", "redis"}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_container_is_told_only_settings_that_its_process_reads(name: str) -> None:
    assert service(name)["environment"].keys() <= SETTINGS_OF[name]


def test_what_opens_an_exchange_account_reaches_the_engine_and_no_other_container() -> None:
    assert service("engine")["environment"].keys() >= SECRETS_OF_THE_ENGINE - {"DEEPSEEK_API_KEY"}
    for name in PROCESSES.keys() - {"engine"}:
        assert not service(name)["environment"].keys() & SECRETS_OF_THE_ENGINE


def test_what_locks_logins_and_second_factors_reaches_the_dashboard_alone() -> None:
    for name in PROCESSES:
        assert (service(name)["environment"].keys() >= {"JWT_SECRET", "TOTP_KEY"}) is (name == "orchestrator")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_container_has_no_rights_it_does_not_need(name: str) -> None:
    assert service(name)["read_only"] is True
    assert service(name)["cap_drop"] == ["ALL"]
    assert service(name)["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["postgres", "redis", "engine", "orchestrator"])
def test_whatever_serves_has_a_health_check(name: str) -> None:
    assert service(name)["healthcheck"]["test"]


def test_only_the_dashboard_is_reachable_from_outside_and_only_from_this_machine() -> None:
    assert [name for name in COMPOSE["services"] if "ports" in service(name)] == ["orchestrator"]
    assert service("orchestrator")["ports"] == ["${BIND_ADDRESS:-127.0.0.1}:8080:8080"]


def test_every_secret_comes_from_the_environment_and_stops_the_start_when_missing() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "ENGINE_TOKEN", "JWT_SECRET"):
        assert f"${{{name}:?" in text
        assert name not in DOCKERFILE


def test_the_image_runs_as_nobody_in_particular_from_hashed_requirements() -> None:
    assert "USER 10001" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            assert all((PROJECT / source).exists() for source in line.split()[1:-1]), line
