"""The engine's settings: named when missing or malformed, never shown."""

from decimal import Decimal

import pytest

from engine.core.screen_presets import PRESETS
from engine.errors import SettingsError
from engine.settings import SCREEN_PRESETS, read_settings

LEAST = {"ENGINE_TOKEN": "secret-token", "REDIS_URL": "redis://127.0.0.1:6379/0"}


def test_two_settings_are_enough_and_the_defaults_are_safe() -> None:
    settings = read_settings(LEAST)
    assert settings.binance_dry_run is True
    assert settings.ai_api_key == ""
    assert (settings.top_coins_limit, settings.min_confidence, settings.engine_port) == (10, 75, 8000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE_TOKEN", " "), ("REDIS_URL", ""), ("BINANCE_REST_URL", "fapi.binance.com"), ("BINANCE_WS_URL", "https://x"),
        ("BINANCE_DRY_RUN", "maybe"), ("TOP_COINS_LIMIT", "0"), ("TOP_COINS_LIMIT", "ten"), ("MIN_CONFIDENCE", "101"), ("MIN_VOLUME_USDT", "nan"),
        ("ENGINE_PORT", "70000"), ("LOG_FORMAT", "xml"), ("AI_TIMEOUT_SECONDS", "0"), ("REQUEST_WEIGHT_LIMIT", "1.5"), ("MARKET_CLOCK_URL", "here"),
        ("AI_DAILY_BUDGET_USD", "a dollar"), ("AI_DAILY_BUDGET_USD", "-1"), ("AI_PROMPT_PRICE_USD", "NaN"), ("AI_COMPLETION_PRICE_USD", "Infinity"),
    ],
)  # fmt: skip
def test_a_missing_or_malformed_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        read_settings({**LEAST, name: value})
    assert caught.value.name == name


def test_what_the_model_may_cost_a_day_is_dollars_and_at_first_without_bound() -> None:
    assert read_settings(LEAST).ai_daily_budget_usd == 0
    assert read_settings({**LEAST, "AI_DAILY_BUDGET_USD": "2.50"}).ai_daily_budget_usd == Decimal("2.50")


def test_every_preset_may_be_chosen_by_its_name_and_no_other() -> None:
    assert read_settings(LEAST).screen_preset == "v3.1"
    assert tuple(PRESETS) == SCREEN_PRESETS
    assert [read_settings({**LEAST, "SCREEN_PRESET": name}).screen_preset for name in PRESETS] == list(PRESETS)
    with pytest.raises(SettingsError, match=r"SCREEN_PRESET: must be one of v3\.1, v4"):
        read_settings({**LEAST, "SCREEN_PRESET": "v9"})


def test_either_name_of_the_models_key_is_read() -> None:
    assert read_settings({**LEAST, "DEEPSEEK_API_KEY": "k1"}).ai_api_key == "k1"
    assert read_settings({**LEAST, "DEEPSEEK_API_KEY": "k1", "AI_API_KEY": "k2"}).ai_api_key == "k2"


def test_settings_never_show_a_secret() -> None:
    settings = read_settings({**LEAST, "AI_API_KEY": "k2", "BINANCE_API_SECRET": "s3"})
    assert "secret-token" not in repr(settings)
    assert "k2" not in repr(settings)
    assert "s3" not in str(settings)
