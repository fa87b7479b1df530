"""The orchestrator's settings, read once from the environment where a process is composed; adapters receive values, not settings.

No exchange key and no AI key is read here: those reach the engine only.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec

from orchestrator.errors import SettingsError

MIN_SECRET_BYTES = 32
"""HS256 needs a key as long as its hash. Source: RFC 7518, section 3.2."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_DATABASE_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


class OrchestratorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What both orchestrator processes are told.

    `jwt_secret` is empty in the worker, which logs nobody in. `totp_key` locks second factors; where it is empty, `jwt_secret` does.
    `min_confidence` and `top_coins_limit` override the engine's where given. `max_daily_loss` is what a new user starts with, USDT. An
    empty clock URL means the wall; port 0 means no metrics port.
    """

    database_url: str
    redis_url: str
    engine_url: str
    engine_token: str
    jwt_secret: str = ""
    totp_key: str = ""
    binance_dry_run: bool = True
    min_confidence: int | None = None
    top_coins_limit: int | None = None
    max_daily_loss: Decimal = Decimal(500)
    approval_minutes: int = 10
    recent_signal_minutes: int = 60
    registration_open: bool = True
    secure_cookies: bool = True
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    live_streams: int = 1600
    database_pool_size: int = 20
    market_clock_url: str = ""
    log_format: str = "json"
    orchestrator_host: str = "127.0.0.1"
    orchestrator_port: int = 8080
    worker_metrics_port: int = 0
    environment: str = "production"

    def __repr__(self) -> str:
        return "OrchestratorSettings(***)"


def read_settings(env: Mapping[str, str], *, logs_people_in: bool = True) -> OrchestratorSettings:
    """The settings from an environment mapping.

    Args:
        env: Usually os.environ.
        logs_people_in: False for the worker, which needs no JWT_SECRET.

    Raises:
        SettingsError: One is missing or malformed; it names the setting.
    """
    defaults = OrchestratorSettings(database_url="-", redis_url="-", engine_url="-", engine_token="-")  # noqa: S106 - never used
    return OrchestratorSettings(
        database_url=_url(env, "DATABASE_URL", _required(env, "DATABASE_URL"), _DATABASE_SCHEMES),
        redis_url=_url(env, "REDIS_URL", _required(env, "REDIS_URL"), ("redis://", "rediss://", "unix://")),
        engine_url=_url(env, "ENGINE_URL", _required(env, "ENGINE_URL"), ("http://", "https://")),
        engine_token=_required(env, "ENGINE_TOKEN"),
        jwt_secret=_secret(env, "JWT_SECRET") if logs_people_in else "",
        totp_key=_secret(env, "TOTP_KEY") if logs_people_in and env.get("TOTP_KEY", "").strip() else "",
        binance_dry_run=_flag(env, "BINANCE_DRY_RUN", defaults.binance_dry_run),
        min_confidence=_number(env, "MIN_CONFIDENCE", None, int, 0, 100),
        top_coins_limit=_number(env, "TOP_COINS_LIMIT", None, int, 1, 60),
        max_daily_loss=_number(env, "MAX_DAILY_LOSS", defaults.max_daily_loss, Decimal, Decimal("0.01"), 1_000_000_000),
        approval_minutes=_number(env, "APPROVAL_MINUTES", defaults.approval_minutes, int, 1, 1440),
        recent_signal_minutes=_number(env, "RECENT_SIGNAL_MINUTES", defaults.recent_signal_minutes, int, 0, 10_080),
        registration_open=_flag(env, "REGISTRATION_OPEN", defaults.registration_open),
        secure_cookies=_flag(env, "SECURE_COOKIES", defaults.secure_cookies),
        trusted_proxies=_networks(env, "TRUSTED_PROXIES"),
        live_streams=_number(env, "LIVE_STREAMS", defaults.live_streams, int, 8, 100_000),
        database_pool_size=_number(env, "DATABASE_POOL_SIZE", defaults.database_pool_size, int, 1, 200),
        market_clock_url=_url(env, "MARKET_CLOCK_URL", "", ("http://", "https://")),
        log_format=_choice(env, "LOG_FORMAT", defaults.log_format, ("text", "json")),
        orchestrator_host=env.get("ORCHESTRATOR_HOST", "").strip() or defaults.orchestrator_host,
        orchestrator_port=_number(env, "ORCHESTRATOR_PORT", defaults.orchestrator_port, int, 1, 65535),
        worker_metrics_port=_number(env, "WORKER_METRICS_PORT", defaults.worker_metrics_port, int, 0, 65535),
        environment=env.get("ENVIRONMENT", "").strip() or defaults.environment,
    )


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is required")
    return value


def _secret(env: Mapping[str, str], name: str) -> str:
    value = _required(env, name)
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise SettingsError(f"{name} must have at least {MIN_SECRET_BYTES} bytes")
    return value


def _number[N: (int, Decimal), D](
    env: Mapping[str, str], name: str, default: D, kind: Callable[[str], N], low: N | int, high: int
) -> N | D:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
        inside = low <= value <= high
    except (ValueError, InvalidOperation) as error:
        raise SettingsError(f"{name} must be a number") from error
    if not inside:
        raise SettingsError(f"{name} must lie between {low} and {high}")
    return value


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise SettingsError(f"{name} must be true or false")
    return text in _TRUE


def _networks(env: Mapping[str, str], name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    given = [part.strip() for part in env.get(name, "").split(",") if part.strip()]
    try:
        return tuple(ip_network(part) for part in given)
    except ValueError as error:
        raise SettingsError(f"{name} must be addresses or networks, with commas between") from error


def _choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = env.get(name, "").strip() or default
    if text not in allowed:
        raise SettingsError(f"{name} must be one of {', '.join(allowed)}")
    return text


def _url(env: Mapping[str, str], name: str, default: str, schemes: tuple[str, ...]) -> str:
    text = env.get(name, "").strip() or default
    if text and not text.startswith(schemes):
        raise SettingsError(f"{name} must start with {' or '.join(schemes)}")
    return text.rstrip("/")
