"""The engine's settings, read once from the environment where a process is composed; adapters receive values, not settings."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from engine.errors import SettingsError

_SEAL_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
"""32 bytes in base64."""

MOST_USD = Decimal(1_000_000)

SCREEN_PRESETS = ("v3.1", "v4", "v5", "squeeze", "efficiency", "z-score", "momentum", "structure")
"""The names in `engine.core.screen_presets`."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What both engine processes are told. An empty `ai_api_key` means the rule-based analyst, an empty clock URL the wall.

    `ai_daily_budget_usd` bounds what the model costs in a UTC day, 0 not at all. The two prices are USD for a million tokens; their
    defaults are deepseek-flash at peak hours without a cache hit, the dearest it gets, so that the count never falls short of the bill.
    Source: DeepSeek API docs, "Models & Pricing", read 2026-11-23.

    What the feed sees is recorded below `record_folder`, nothing where it is empty, in at most `record_budget_mb` MiB.
    """

    engine_token: str
    redis_url: str
    binance_rest_url: str = "https://fapi.binance.com"
    binance_ws_url: str = "wss://fstream.binance.com"
    binance_spot_url: str = "https://api.binance.com"
    binance_dry_run: bool = True
    binance_api_key: str = ""
    binance_api_secret: str = ""
    seal_private_keys: str = ""
    ai_base_url: str = "https://api.deepseek.com"
    ai_api_key: str = ""
    ai_model: str = "deepseek-flash"
    ai_timeout_seconds: float = 30.0
    ai_daily_budget_usd: Decimal = Decimal(0)
    ai_prompt_price_usd: Decimal = Decimal("0.30")
    ai_completion_price_usd: Decimal = Decimal("1.20")
    top_coins_limit: int = 10
    min_volume_usdt: float = 3e7
    min_volatility_24h: float = 1.5
    screen_preset: str = "v3.1"
    min_confidence: int = 75
    request_weight_limit: int = 2400
    record_folder: str = ""
    record_budget_mb: int = 2048
    market_clock_url: str = ""
    log_format: str = "json"
    engine_host: str = "127.0.0.1"
    engine_port: int = 8000
    environment: str = "production"

    def __repr__(self) -> str:
        return "EngineSettings(***)"


def read_settings(env: Mapping[str, str]) -> EngineSettings:
    """The settings from an environment mapping.

    Raises:
        SettingsError: One is missing or malformed; it names the setting.
    """
    defaults = EngineSettings(engine_token="-", redis_url="-")  # noqa: S106 - replaced below, never used
    return EngineSettings(
        engine_token=_required(env, "ENGINE_TOKEN"),
        redis_url=_required(env, "REDIS_URL"),
        binance_rest_url=_url(env, "BINANCE_REST_URL", defaults.binance_rest_url, ("http://", "https://")),
        binance_ws_url=_url(env, "BINANCE_WS_URL", defaults.binance_ws_url, ("ws://", "wss://")),
        binance_spot_url=_spot_url(env, defaults),
        binance_dry_run=_flag(env, "BINANCE_DRY_RUN", defaults.binance_dry_run),
        binance_api_key=env.get("BINANCE_API_KEY", "").strip(),
        binance_api_secret=env.get("BINANCE_API_SECRET", "").strip(),
        seal_private_keys=_seal_keys(env),
        ai_base_url=_url(env, "AI_BASE_URL", defaults.ai_base_url, ("http://", "https://")),
        ai_api_key=(env.get("AI_API_KEY") or env.get("DEEPSEEK_API_KEY") or "").strip(),
        ai_model=env.get("AI_MODEL", "").strip() or defaults.ai_model,
        ai_timeout_seconds=_number(env, "AI_TIMEOUT_SECONDS", defaults.ai_timeout_seconds, float, 1, 300),
        ai_daily_budget_usd=_usd(env, "AI_DAILY_BUDGET_USD", defaults.ai_daily_budget_usd),
        ai_prompt_price_usd=_usd(env, "AI_PROMPT_PRICE_USD", defaults.ai_prompt_price_usd),
        ai_completion_price_usd=_usd(env, "AI_COMPLETION_PRICE_USD", defaults.ai_completion_price_usd),
        top_coins_limit=_number(env, "TOP_COINS_LIMIT", defaults.top_coins_limit, int, 1, 60),
        min_volume_usdt=_number(env, "MIN_VOLUME_USDT", defaults.min_volume_usdt, float, 0, 1e12),
        min_volatility_24h=_number(env, "MIN_VOLATILITY_24H", defaults.min_volatility_24h, float, 0, 1000),
        screen_preset=_choice(env, "SCREEN_PRESET", defaults.screen_preset, SCREEN_PRESETS),
        min_confidence=_number(env, "MIN_CONFIDENCE", defaults.min_confidence, int, 0, 100),
        request_weight_limit=_number(env, "REQUEST_WEIGHT_LIMIT", defaults.request_weight_limit, int, 50, 1_000_000),
        record_folder=env.get("RECORD_FOLDER", "").strip(),
        record_budget_mb=_number(env, "RECORD_BUDGET_MB", defaults.record_budget_mb, int, 1, 1_000_000),
        market_clock_url=_url(env, "MARKET_CLOCK_URL", "", ("http://", "https://")),
        log_format=_choice(env, "LOG_FORMAT", defaults.log_format, ("text", "json")),
        engine_host=env.get("ENGINE_HOST", "").strip() or defaults.engine_host,
        engine_port=_number(env, "ENGINE_PORT", defaults.engine_port, int, 1, 65535),
        environment=env.get("ENVIRONMENT", "").strip() or defaults.environment,
    )


def _spot_url(env: Mapping[str, str], defaults: EngineSettings) -> str:
    """Whose futures are somebody else's has its spot API there too: no key is shown to an exchange that it is not of."""
    elsewhere = env.get("BINANCE_REST_URL", "").strip().rstrip("/")
    default = elsewhere if elsewhere not in ("", defaults.binance_rest_url) else defaults.binance_spot_url
    return _url(env, "BINANCE_SPOT_URL", default, ("http://", "https://"))


def _seal_keys(env: Mapping[str, str]) -> str:
    """SEAL_PRIVATE_KEYS, its form checked at the start; what is wrong is told without a byte of it."""
    keys = env.get("SEAL_PRIVATE_KEYS", "").strip()
    if any(not _SEAL_KEY.fullmatch(part.strip()) for part in keys.split(",") if part.strip()):
        raise SettingsError("SEAL_PRIVATE_KEYS", "must be keys of 32 bytes in base64, newest first, with commas between")
    return keys


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(name, "is required")
    return value


def _number[N: (int, float)](
    env: Mapping[str, str], name: str, default: N, kind: Callable[[str], N], low: float, high: float
) -> N:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError as error:
        raise SettingsError(name, "must be a number") from error
    if not low <= value <= high:
        raise SettingsError(name, f"must lie between {low:g} and {high:g}")
    return value


def _usd(env: Mapping[str, str], name: str, default: Decimal) -> Decimal:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise SettingsError(name, "must be a number") from error
    if not value.is_finite() or not 0 <= value <= MOST_USD:
        raise SettingsError(name, f"must lie between 0 and {MOST_USD}")
    return value


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise SettingsError(name, "must be true or false")
    return text in _TRUE


def _choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = env.get(name, "").strip() or default
    if text not in allowed:
        raise SettingsError(name, f"must be one of {', '.join(allowed)}")
    return text


def _url(env: Mapping[str, str], name: str, default: str, schemes: tuple[str, ...]) -> str:
    text = env.get(name, "").strip() or default
    if text and not text.startswith(schemes):
        raise SettingsError(name, f"must start with {' or '.join(schemes)}")
    return text.rstrip("/")
