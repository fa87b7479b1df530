"""Whether a signed request is who it says, and now: the gate before everything that touches an account.

Source: Binance USDⓈ-M "General Info", signed endpoints (read 2026-11): HMAC SHA256 over query string and body, joined without a
separator, in whatever place the parameters stand; `timestamp < serverTime + 1000 and serverTime - timestamp <= recvWindow`.
"""

import hashlib
import hmac
from urllib.parse import parse_qsl

from deploy.sandbox.core.errors import Rejected, missing
from deploy.sandbox.core.query import Query

DEFAULT_WINDOW_MS = 5_000
LONGEST_WINDOW_MS = 60_000
AHEAD_MS = 1_000


def no_key() -> Rejected:
    """The key header is absent."""
    return Rejected(-2014, "API-key format invalid.", 401)


def unknown_key() -> Rejected:
    """No account has this key."""
    return Rejected(-2015, "Invalid API-key, IP, or permissions for action", 401)


def parameters(query: str, body: str) -> dict[str, str]:
    """Parameters of a raw query string and a raw form body; the query wins."""
    return dict(parse_qsl(body, keep_blank_values=True)) | dict(parse_qsl(query, keep_blank_values=True))


def signature_of(secret: str, payload: str) -> str:
    """The hexadecimal HMAC SHA256 that a client sends."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def check_signature(secret: str, query: str, body: str) -> None:
    """Let a request pass whose signature is right.

    Args:
        secret: Of the account.
        query: As it came, without the question mark.
        body: As it came.

    Raises:
        Rejected: The signature is absent or wrong.
    """
    given = parameters(query, body).get("signature")
    if not given:
        raise missing("signature")
    payload = _unsigned(query) + _unsigned(body)
    if not hmac.compare_digest(signature_of(secret, payload).encode(), given.lower().encode()):
        raise Rejected(-1022, "Signature for this request is not valid.")


def check_time(query: Query, wall_ms: int) -> None:
    """Let a request pass that was sent now.

    Raises:
        Rejected: Its time is absent, ahead, or older than its window.
    """
    sent = query.whole("timestamp")
    if sent is None:
        raise missing("timestamp")
    window = query.whole("recvWindow")
    window = DEFAULT_WINDOW_MS if window is None else window
    if window > LONGEST_WINDOW_MS:
        raise Rejected(-1131, "recvWindow must be less than 60000")
    if sent >= wall_ms + AHEAD_MS:
        raise Rejected(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if wall_ms - sent > window:
        raise Rejected(-1021, "Timestamp for this request is outside of the recvWindow.")


def _unsigned(text: str) -> str:
    return "&".join(part for part in text.split("&") if part and not part.startswith("signature="))
