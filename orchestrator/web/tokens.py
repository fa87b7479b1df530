"""Access tokens (JWT, HS256) and the CSRF tokens that belong to a login or to a page shown before it."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from uuid import UUID

import jwt
import msgspec

from orchestrator.web.problems import unauthorized

ALGORITHM = "HS256"
TOKEN_LIFE = timedelta(minutes=15)
_MAX_CACHED = 10_000


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says."""

    user_id: UUID
    login_id: UUID
    issued_at: float
    expires_at: float


class Tokens:
    """Signs and reads access tokens, and derives the CSRF tokens that belong to a login or to a page shown before it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._csrf_key = hmac.digest(self._secret, b"csrf", "sha256")
        self._verified: dict[bytes, Claims] = {}

    def __repr__(self) -> str:
        return "Tokens(***)"

    def issue(self, user_id: UUID, login_id: UUID, at: datetime, ends_at: datetime) -> tuple[str, int]:
        """A token and the seconds it lives: TOKEN_LIFE, or what is left of the login."""
        until = min(at + TOKEN_LIFE, ends_at)
        payload = {
            "sub": str(user_id),
            "jti": str(login_id),
            "iat": int(at.timestamp()),
            "exp": int(until.timestamp()),
        }
        return jwt.encode(payload, self._secret, algorithm=ALGORITHM), max(int((until - at).total_seconds()), 0)

    def read(self, token: str, at: datetime) -> Claims:
        """What a token says; its signature is checked once, its end each time.

        Raises:
            ProblemError: 401; it is malformed, not ours, or over.
        """
        seen = hashlib.sha256(token.encode()).digest()
        claims = self._verified.get(seen)
        if claims is None:
            claims = self._verify(token)
            if len(self._verified) >= _MAX_CACHED:
                self._verified.clear()
            self._verified[seen] = claims
        if claims.expires_at <= at.timestamp():
            raise unauthorized("token_expired", "The access token has expired. Please log in again.")
        return claims

    def csrf(self, login_id: UUID) -> str:
        """The CSRF token of a login."""
        return self._mac(b"login:" + login_id.bytes)

    def pre_csrf(self, nonce: str) -> str:
        """The CSRF token of the log-in and register pages, bound to their own cookie."""
        return self._mac(b"pre:" + nonce.encode())

    def _verify(self, token: str) -> Claims:
        try:
            found = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["sub", "jti", "iat", "exp"], "verify_exp": False, "verify_iat": False},
            )
            return Claims(
                user_id=UUID(found["sub"]),
                login_id=UUID(found["jti"]),
                issued_at=float(found["iat"]),
                expires_at=float(found["exp"]),
            )
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise unauthorized("invalid_token", "The access token is not valid.") from error

    def _mac(self, text: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(self._csrf_key, text, "sha256")).rstrip(b"=").decode()


def same_token(given: str | None, expected: str) -> bool:
    """Compares two tokens in constant time."""
    return given is not None and hmac.compare_digest(given.encode(), expected.encode())
