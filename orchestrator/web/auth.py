"""Who asks: registering, logging in and out, and whose token this is.

A token (JWT, HS256) names a login (jti) and its user (sub) and lives for minutes; the login is a row, so that revoking it ends every
token of it in every process within SESSION_SECONDS. A cookie's token is renewed while it is used, never past the login's end. A request
with an Authorization header is judged by it alone.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import Clock, Logins, NewUser, Session, Throttle
from orchestrator.trading.silence import heard
from orchestrator.web.factors import Factors
from orchestrator.web.passwords import PASSWORD_LENGTH, Passwords, check_name_and_password, could_be_a_name
from orchestrator.web.problems import ProblemError, unauthorized
from orchestrator.web.tokens import TOKEN_LIFE, Claims, Tokens
from shared.enums import Mode

__all__ = ["Auth", "LoggedIn", "Passwords", "Tokens", "Viewer", "check_name_and_password"]

RENEW_AFTER = timedelta(minutes=3)
LOGIN_LIFE = timedelta(hours=12)
STORE_SILENT_SECONDS = 1.0
"""How long panic waits to hear whether its login was ended; a store that hangs says nothing."""

SESSION_SECONDS = 2.0
"""How long a process may believe a login without asking PostgreSQL: the longest that another process's revocation takes to arrive."""

LOGINS_A_MINUTE = 60
REGISTRATIONS_A_MINUTE = 30
"""Per address, so that nobody keeps the hasher busy; delays after wrong passwords are per name and address."""

_MAX_CACHED = 10_000


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

    def __repr__(self) -> str:
        return f"Viewer({self.id})"


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A login that has just begun."""

    token: str
    expires_in: int
    viewer: Viewer

    def __repr__(self) -> str:
        return "LoggedIn(***)"


class Auth:
    """Registers, logs in and out, and answers who a token belongs to."""

    def __init__(
        self,
        logins: Logins,
        throttle: Throttle,
        clock: Clock,
        tokens: Tokens,
        *,
        factors: Factors,
        registration_open: bool,
        max_daily_loss: Decimal = Decimal(500),
    ) -> None:
        self.tokens = tokens
        self.registration_open = registration_open
        self._factors = factors
        self._logins = logins
        self._throttle = throttle
        self._clock = clock
        self._passwords = Passwords()
        self._max_daily_loss = max_daily_loss
        self._sessions: dict[UUID, tuple[Session, float]] = {}
        self._csrf: dict[UUID, str] = {}
        self._ended: dict[UUID, float] = {}

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

    async def log_in(self, username: str, password: str, address: str, totp: str | None = None) -> LoggedIn:
        """Begin a login. The answer and its time are the same for an unknown name and a wrong password.

        Raises:
            ProblemError: 401 for wrong credentials, 403 without a right code where two-step sign-in is on, 429 while a delay runs.
        """
        await self._must_not_wait(username, address, "login", LOGINS_A_MINUTE)
        found = await self._logins.credentials(username) if could_be_a_name(username) else None
        fits = await self._passwords.verify(found.password_hash if found else None, password[: PASSWORD_LENGTH[1] + 1])
        if found is None or not fits:
            await self._throttle.failed(username, address)
            await self._logins.refused(found.user_id if found else None, address)
            raise unauthorized("wrong_credentials", "Name or password is wrong.")
        await self._throttle.passed(username, address)
        await self._demand_code(found.user_id, totp, address)
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
        self._end(viewer.login_id)
        logger().info("a user logged out", user_id=str(viewer.id), login_id=str(viewer.login_id))

    async def log_out_others(self, viewer: Viewer) -> list[UUID]:
        """End every other login of this user everywhere; which ones, so that other processes may be told."""
        ended = await self._logins.revoke_others(viewer.id, viewer.login_id, self._clock.wall())
        for login_id in ended:
            self._end(login_id)
        logger().info("a user's other logins were ended", user_id=str(viewer.id), count=len(ended))
        return ended

    async def renew(self, viewer: Viewer) -> LoggedIn:
        """A fresh token of the same login."""
        now = self._clock.wall()
        await self._logins.touch(viewer.login_id, now)
        token, seconds = self.tokens.issue(viewer.id, viewer.login_id, now, viewer.ends_at)
        return LoggedIn(token=token, expires_in=seconds, viewer=viewer)

    async def viewer(self, token: str, *, by_cookie: bool, without_store: bool = False) -> tuple[Viewer, Claims]:
        """Who a token belongs to.

        With `without_store` a signed token that has not expired suffices while PostgreSQL is away: for panic, which must never wait for it.
        A login that this process knows to have ended does not; one that ended unheard of keeps that one right for TOKEN_LIFE at most.

        Raises:
            ProblemError: 401; the token or its login does not count.
        """
        now = self._clock.wall()
        claims = self.tokens.read(token, now)
        session = await (self._session_or_token(claims) if without_store else self.session(claims.login_id))
        if session is None or session.user_id != claims.user_id or session.ends_at <= now:
            raise unauthorized("login_ended", "This login has ended. Please log in again.")
        return self._viewer(session, by_cookie), claims

    async def _session_or_token(self, claims: Claims) -> Session | None:
        try:
            return await heard(self.session(claims.login_id), STORE_SILENT_SECONDS)
        except StoreUnavailable:
            return None if claims.login_id in self._ended else _session_of(claims)

    async def session(self, login_id: UUID) -> Session | None:
        """The login if it counts, at most SESSION_SECONDS old."""
        cached = self._sessions.get(login_id)
        if cached is not None and time.monotonic() - cached[1] < SESSION_SECONDS:
            return cached[0]
        found = await self._logins.find(login_id, self._clock.wall())
        if found is None:
            self._end(login_id)
            return None
        if len(self._sessions) >= _MAX_CACHED:
            self._sessions.clear()
        self._sessions[login_id] = (found, time.monotonic())
        return found

    def forget(self, login_id: UUID) -> None:
        """Ask PostgreSQL at the next request of this login."""
        self._sessions.pop(login_id, None)

    def forget_named(self, login_id: str) -> None:
        """Another process ended a login; what is no id names none."""
        with contextlib.suppress(ValueError):
            self._end(UUID(login_id))

    def _end(self, login_id: UUID) -> None:
        """Remembers an end for as long as a token of that login could still be shown while PostgreSQL is away."""
        self.forget(login_id)
        now = time.monotonic()
        if len(self._ended) >= _MAX_CACHED:
            self._ended = {one: at for one, at in self._ended.items() if now - at < TOKEN_LIFE.total_seconds()}
        self._ended[login_id] = now

    def is_old(self, claims: Claims) -> bool:
        """Whether a cookie's token should be renewed."""
        return self._clock.wall().timestamp() - claims.issued_at >= RENEW_AFTER.total_seconds()

    async def _demand_code(self, user_id: UUID, totp: str | None, address: str) -> None:
        """A wrong code after a right password is written down: whoever gave it knows the password."""
        try:
            await self._factors.demand(user_id, totp)
        except ProblemError:
            if totp:
                await self._logins.refused(user_id, address)
            raise

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
            csrf=self._csrf_of(session.login_id),
            by_cookie=by_cookie,
            ends_at=session.ends_at,
        )

    def _csrf_of(self, login_id: UUID) -> str:
        found = self._csrf.get(login_id)
        if found is None:
            if len(self._csrf) >= _MAX_CACHED:
                self._csrf.clear()
            found = self._csrf[login_id] = self.tokens.csrf(login_id)
        return found

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
            await asyncio.gather(self._throttle.spend(what, address, a_minute), self._throttle.wait_seconds(username, address))
        )
        if wait > 0:
            seconds = str(int(wait) + 1)
            raise ProblemError(
                429, "too_many_attempts", f"Too many attempts. Please wait {seconds} s.", headers={"Retry-After": seconds}
            )


def _session_of(claims: Claims) -> Session:
    """What a token alone says of its login: whose it is, and no more rights than anybody has."""
    ends_at = datetime.fromtimestamp(claims.expires_at, UTC)
    return Session(login_id=claims.login_id, user_id=claims.user_id, username="", role="USER", mode=Mode.REAL, ends_at=ends_at)
