"""Who asks: passwords, access tokens, cookies, CSRF tokens, and the guard in front of every route.

A token (JWT, HS256) names a login (jti) and its user (sub) and lives for minutes; the login is a row, so that revoking it ends every
token of it in every process within SESSION_SECONDS. A cookie's token is renewed while it is used, never past the login's end. A request
with an Authorization header is judged by it alone.
"""

import asyncio
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import jwt
import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orchestrator.log import logger
from orchestrator.ports import Clock, Logins, NewUser, Session, Throttle
from orchestrator.web.problems import ProblemError, bad_fields, unauthorized

TOKEN_LIFE = timedelta(minutes=15)
RENEW_AFTER = timedelta(minutes=3)
LOGIN_LIFE = timedelta(hours=12)
SESSION_SECONDS = 2.0
"""How long a process may believe a login without asking PostgreSQL: the longest that another process's revocation takes to arrive."""

LOGINS_A_MINUTE = 60
REGISTRATIONS_A_MINUTE = 30
"""Per address, so that nobody keeps the hasher busy; delays after wrong passwords are per name and address."""

PASSWORD_LENGTH = (10, 200)
USERNAME_LENGTH = (3, 40)
_USERNAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HASHES_AT_ONCE = 2
_MAX_CACHED = 10_000

ALGORITHM = "HS256"


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as a route sees them. `csrf` is the token that a mutation by cookie must carry."""

    id: UUID
    username: str
    role: str
    mode: str
    login_id: UUID
    csrf: str
    by_cookie: bool
    ends_at: datetime


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A login that has just begun."""

    token: str
    expires_in: int
    viewer: Viewer

    def __repr__(self) -> str:
        return "LoggedIn(***)"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says."""

    user_id: UUID
    login_id: UUID
    issued_at: float
    expires_at: float


class Passwords:
    """Argon2id off the event loop, few at once. Source: OWASP Password Storage Cheat Sheet (19 MiB, 2 passes, 1 lane)."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._at_once = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """A hash to store."""
        async with self._at_once:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; an unknown user's costs the same time."""
        async with self._at_once:
            fits = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return fits and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


class Tokens:
    """Signs and reads access tokens, and derives the CSRF tokens that belong to a login or to a page shown before it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._csrf_key = hmac.digest(self._secret, b"csrf", "sha256")

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
        """What a token says.

        Raises:
            ProblemError: 401; it is malformed, not ours, or over.
        """
        try:
            found = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["sub", "jti", "iat", "exp"], "verify_exp": False, "verify_iat": False},
            )
            claims = Claims(
                user_id=UUID(found["sub"]),
                login_id=UUID(found["jti"]),
                issued_at=float(found["iat"]),
                expires_at=float(found["exp"]),
            )
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise unauthorized("invalid_token", "The access token is not valid.") from error
        if claims.expires_at <= at.timestamp():
            raise unauthorized("token_expired", "The access token has expired. Please log in again.")
        return claims

    def csrf(self, login_id: UUID) -> str:
        """The CSRF token of a login."""
        return self._mac(b"login:" + login_id.bytes)

    def pre_csrf(self, nonce: str) -> str:
        """The CSRF token of the log-in and register pages, bound to their own cookie."""
        return self._mac(b"pre:" + nonce.encode())

    def _mac(self, text: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(self._csrf_key, text, "sha256")).rstrip(b"=").decode()


def same_token(given: str | None, expected: str) -> bool:
    """Compares two tokens in constant time."""
    return given is not None and hmac.compare_digest(given.encode(), expected.encode())


class Auth:
    """Registers, logs in and out, and answers who a token belongs to."""

    def __init__(
        self,
        logins: Logins,
        throttle: Throttle,
        clock: Clock,
        tokens: Tokens,
        *,
        registration_open: bool,
        max_daily_loss: Decimal = Decimal(500),
    ) -> None:
        self.tokens = tokens
        self.registration_open = registration_open
        self._logins = logins
        self._throttle = throttle
        self._clock = clock
        self._passwords = Passwords()
        self._max_daily_loss = max_daily_loss
        self._sessions: dict[UUID, tuple[Session, float]] = {}

    async def register(self, username: str, password: str, address: str) -> NewUser:
        """A new person, on paper.

        Raises:
            ProblemError: Registration is closed, a field does not fit, the name is taken, or too many tries.
        """
        if not self.registration_open:
            raise ProblemError(403, "registration_closed", "Registration is closed on this server.")
        check_name_and_password(username, password)
        await self._must_not_wait(username, address, "register", REGISTRATIONS_A_MINUTE)
        user = self._new_user(username, await self._passwords.hash(password))
        if not await self._logins.add_user(user):
            await self._throttle.failed(username, address)
            raise ProblemError(409, "username_taken", "This name is taken.", fields={"username": "is taken"})
        logger().info("a user registered", user_id=str(user.id))
        return user

    async def log_in(self, username: str, password: str, address: str) -> LoggedIn:
        """Begin a login. The answer and its time are the same for an unknown name and a wrong password.

        Raises:
            ProblemError: 401 for wrong credentials, 429 while a delay runs.
        """
        await self._must_not_wait(username, address, "login", LOGINS_A_MINUTE)
        found = await self._logins.credentials(username)
        fits = await self._passwords.verify(found.password_hash if found else None, password[: PASSWORD_LENGTH[1] + 1])
        if found is None or not fits:
            await self._throttle.failed(username, address)
            raise unauthorized("wrong_credentials", "Name or password is wrong.")
        await self._throttle.passed(username, address)
        if self._passwords.outdated(found.password_hash):
            await self._logins.replace_hash(found.user_id, await self._passwords.hash(password))
        now = self._clock.wall()
        session = Session(
            login_id=uuid4(),
            user_id=found.user_id,
            username=found.username,
            role=found.role,
            mode=found.mode,
            ends_at=now + LOGIN_LIFE,
        )
        await self._logins.open(session.login_id, session.user_id, now, session.ends_at)
        logger().info("a user logged in", user_id=str(found.user_id), login_id=str(session.login_id))
        return self._logged_in(session, now)

    async def log_out(self, viewer: Viewer) -> None:
        """End a login everywhere."""
        self.forget(viewer.login_id)
        await self._logins.revoke(viewer.login_id, self._clock.wall())
        self.forget(viewer.login_id)
        logger().info("a user logged out", user_id=str(viewer.id), login_id=str(viewer.login_id))

    async def renew(self, viewer: Viewer) -> LoggedIn:
        """A fresh token of the same login."""
        now = self._clock.wall()
        await self._logins.touch(viewer.login_id, now)
        token, seconds = self.tokens.issue(viewer.id, viewer.login_id, now, viewer.ends_at)
        return LoggedIn(token=token, expires_in=seconds, viewer=viewer)

    async def viewer(self, token: str, *, by_cookie: bool) -> tuple[Viewer, Claims]:
        """Who a token belongs to.

        Raises:
            ProblemError: 401; the token or its login does not count.
        """
        now = self._clock.wall()
        claims = self.tokens.read(token, now)
        session = await self.session(claims.login_id)
        if session is None or session.user_id != claims.user_id or session.ends_at <= now:
            raise unauthorized("login_ended", "This login has ended. Please log in again.")
        return self._viewer(session, by_cookie), claims

    async def session(self, login_id: UUID) -> Session | None:
        """The login if it counts, at most SESSION_SECONDS old."""
        cached = self._sessions.get(login_id)
        if cached is not None and time.monotonic() - cached[1] < SESSION_SECONDS:
            return cached[0]
        found = await self._logins.find(login_id, self._clock.wall())
        if found is None:
            self.forget(login_id)
            return None
        if len(self._sessions) >= _MAX_CACHED:
            self._sessions.clear()
        self._sessions[login_id] = (found, time.monotonic())
        return found

    def forget(self, login_id: UUID) -> None:
        """Ask PostgreSQL at the next request of this login."""
        self._sessions.pop(login_id, None)

    def is_old(self, claims: Claims) -> bool:
        """Whether a cookie's token should be renewed."""
        return self._clock.wall().timestamp() - claims.issued_at >= RENEW_AFTER.total_seconds()

    def _logged_in(self, session: Session, now: datetime) -> LoggedIn:
        token, seconds = self.tokens.issue(session.user_id, session.login_id, now, session.ends_at)
        return LoggedIn(token=token, expires_in=seconds, viewer=self._viewer(session, by_cookie=True))

    def _viewer(self, session: Session, by_cookie: bool) -> Viewer:
        return Viewer(
            id=session.user_id,
            username=session.username,
            role=session.role,
            mode=session.mode,
            login_id=session.login_id,
            csrf=self.tokens.csrf(session.login_id),
            by_cookie=by_cookie,
            ends_at=session.ends_at,
        )

    def _new_user(self, username: str, password_hash: str) -> NewUser:
        return NewUser(
            id=uuid4(),
            username=username,
            password_hash=password_hash,
            max_daily_loss=self._max_daily_loss,
            created_at=self._clock.now(),
        )

    async def _must_not_wait(self, username: str, address: str, what: str, a_minute: int) -> None:
        wait = max(
            await self._throttle.spend(what, address, a_minute),
            await self._throttle.wait_seconds(username, address),
        )
        if wait > 0:
            seconds = str(int(wait) + 1)
            raise ProblemError(
                429, "too_many_attempts", f"Too many attempts. Please wait {seconds} s.", headers={"Retry-After": seconds}
            )


def check_name_and_password(username: str, password: str) -> None:
    """Refuses a name or password that does not fit.

    Raises:
        ProblemError: 400 with a sentence for each field at fault.
    """
    faults: dict[str, str] = {}
    low, high = USERNAME_LENGTH
    if not low <= len(username) <= high or not set(username) <= _USERNAME:
        faults["username"] = f"must have {low} to {high} letters, digits, dots, dashes or underscores"
    low, high = PASSWORD_LENGTH
    if not low <= len(password) <= high:
        faults["password"] = f"must have {low} to {high} characters"
    if faults:
        raise bad_fields(faults)
