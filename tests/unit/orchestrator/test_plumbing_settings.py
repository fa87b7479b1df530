"""What the orchestrator's processes are told, and what stops their start."""

from decimal import Decimal

import pytest

from orchestrator.errors import SettingsError
from orchestrator.settings import read_settings

ENOUGH = {
    "DATABASE_URL": "postgresql://trader:secret-word@localhost/neurotrade",
    "REDIS_URL": "redis://localhost:6379/0",
    "ENGINE_URL": "http://localhost:8000/",
    "ENGINE_TOKEN": "token-word",
    "JWT_SECRET": "s" * 32,
}


def test_five_settings_are_enough_and_the_rest_is_safe() -> None:
    settings = read_settings(ENOUGH)
    assert settings.engine_url == "http://localhost:8000"
    assert settings.binance_dry_run
    assert settings.secure_cookies
    assert settings.registration_open
    assert settings.max_daily_loss == Decimal(500)
    assert settings.min_confidence is None


@pytest.mark.parametrize("name", sorted(ENOUGH))
def test_a_missing_setting_stops_the_start_with_its_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is required"):
        read_settings({**ENOUGH, name: "  "})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://localhost/x"),
        ("REDIS_URL", "localhost:6379"),
        ("ENGINE_URL", "localhost:8000"),
        ("JWT_SECRET", "short"),
        ("MIN_CONFIDENCE", "101"),
        ("MIN_CONFIDENCE", "high"),
        ("TOP_COINS_LIMIT", "0"),
        ("MAX_DAILY_LOSS", "NaN"),
        ("MAX_DAILY_LOSS", "-1"),
        ("MAX_DAILY_LOSS", "lots"),
        ("APPROVAL_MINUTES", "0"),
        ("BINANCE_DRY_RUN", "perhaps"),
        ("REGISTRATION_OPEN", "2"),
        ("SECURE_COOKIES", "x"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy.internal"),
        ("LOG_FORMAT", "xml"),
        ("ORCHESTRATOR_PORT", "70000"),
        ("MARKET_CLOCK_URL", "sandbox"),
    ],
)
def test_a_malformed_setting_stops_the_start_with_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({**ENOUGH, name: value})


def test_the_worker_starts_without_the_login_secret() -> None:
    without = {name: value for name, value in ENOUGH.items() if name != "JWT_SECRET"}
    assert read_settings(without, logs_people_in=False).jwt_secret == ""


def test_no_secret_shows_in_the_settings_text() -> None:
    assert "word" not in repr(read_settings(ENOUGH))
