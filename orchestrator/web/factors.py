"""Two-step sign-in: TOTP secrets encrypted at rest, each time step good for one use, recovery codes as keyed hashes.

A wrong code delays the next one of this user, wherever it comes from: whoever guesses codes knows the password already. Source: RFC 6238,
sections 4 and 5.2 (steps of 30 s, one step of drift, one use).
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Final
from uuid import UUID

import msgspec
import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.log import logger
from orchestrator.ports import Clock, FactorRow, FactorVault, Throttle
from orchestrator.web.problems import ProblemError

ISSUER: Final = "NeuroTrade"
STEP_SECONDS: Final = 30
DRIFT_STEPS: Final = 1
RECOVERY_CODES: Final = 10
CODES_A_MINUTE: Final = 12
"""Counted before a code is looked at, so that a burst of guesses at once gains nothing."""

_RECOVERY_LETTERS: Final = 16
"""80 bits: nobody guesses one, so that a fast keyed hash is enough."""

_MINUTE: Final = 60.0
_MAX_COUNTED: Final = 10_000
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_LONGEST_CODE: Final = 40


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that is shown once; it counts when a code of it was given."""

    secret: str
    otpauth_uri: str

    def __repr__(self) -> str:
        return "Begun(***)"


class FactorKey:
    """The key under which secrets rest.

    Args:
        setting: TOTP_KEY, or JWT_SECRET where there is none: what the key is derived from.
    """

    def __init__(self, setting: str) -> None:
        key = HKDF(algorithm=SHA256(), length=2 * _KEY_BYTES, salt=None, info=b"neurotrade-totp-1").derive(setting.encode())
        self._cipher = AESGCM(key[:_KEY_BYTES])
        self._mac = key[_KEY_BYTES:]

    def __repr__(self) -> str:
        return "FactorKey(***)"

    def lock(self, user_id: UUID, secret: str) -> str:
        """A secret as it rests, bound to its user."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return b64encode(nonce + self._cipher.encrypt(nonce, secret.encode(), user_id.bytes)).decode()

    def unlock(self, user_id: UUID, locked: str) -> str | None:
        """The secret; None where it was locked for another user, under another key, or is damaged."""
        try:
            raw = b64decode(locked, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], user_id.bytes).decode()
        except (InvalidTag, Base64Error, ValueError):
            return None

    def hash_of(self, user_id: UUID, code: str) -> str:
        """A recovery code as it rests."""
        return hmac.digest(self._mac, user_id.bytes + code.encode(), "sha256").hex()


class Factors:
    """Begins, confirms, demands and ends second factors."""

    def __init__(self, vault: FactorVault, throttle: Throttle, clock: Clock, key: FactorKey) -> None:
        self._vault = vault
        self._throttle = throttle
        self._clock = clock
        self._key = key
        self._here: dict[UUID, list[float]] = {}

    async def begin(self, user_id: UUID, username: str) -> Begun:
        """A new secret, not yet in use.

        Raises:
            ProblemError: 409; one is in use already.
        """
        secret = pyotp.random_base32()
        row = FactorRow(user_id=user_id, secret=self._key.lock(user_id, secret), begun_at=self._clock.wall())
        if not await self._vault.begin_factor(row):
            raise ProblemError(409, "totp_enrolled", "Two-step sign-in is on already. Switch it off first.")
        return Begun(secret=secret, otpauth_uri=pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER))

    async def begun(self, user_id: UUID, username: str) -> Begun | None:
        """The secret that waits for its first code, to be shown again; None when there is none, or it is in use."""
        row = await self._vault.factor(user_id)
        secret = None if row is None or row.confirmed_at is not None else self._key.unlock(user_id, row.secret)
        if secret is None:
            return None
        return Begun(secret=secret, otpauth_uri=pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER))

    async def confirm(self, user_id: UUID, code: str) -> list[str]:
        """Two-step sign-in is on from now on; the recovery codes, shown once.

        Raises:
            ProblemError: 409 nothing was begun; 403 a wrong code; 429 too many of them.
        """
        await self._must_not_wait(user_id)
        row = await self._vault.factor(user_id)
        if row is None or row.confirmed_at is not None:
            raise ProblemError(409, "totp_not_begun", "Begin two-step sign-in first.")
        step = self._step_of(row, _plain(code))
        if step is None:
            raise await self._wrong(user_id)
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        hashes = [self._key.hash_of(user_id, _plain(one)) for one in codes]
        if not await self._vault.confirm_factor(row, self._clock.wall(), step, hashes):
            raise ProblemError(409, "totp_not_begun", "Begin two-step sign-in first.")
        await self._throttle.passed(_name(user_id), "")
        logger().info("two-step sign-in was switched on", user_id=str(user_id))
        return codes

    async def end(self, user_id: UUID, code: str | None) -> None:
        """Two-step sign-in is off.

        Raises:
            ProblemError: 404 it was not on; 403 without a right code; 429 too many wrong ones.
        """
        row = await self._vault.factor(user_id)
        if row is None:
            raise ProblemError(404, "totp_not_enrolled", "Two-step sign-in is not on.")
        await self.demand(user_id, code)
        await self._vault.end_factor(user_id)
        logger().info("two-step sign-in was switched off", user_id=str(user_id))

    async def demand(self, user_id: UUID, code: str | None) -> bool:
        """Takes a code from whoever has two-step sign-in on; whether they have.

        Raises:
            ProblemError: 403 `totp_required` without a code, `totp_wrong` for a wrong or used one; 429 too many of them.
        """
        row = await self._vault.factor(user_id)
        if row is None or row.confirmed_at is None:
            return False
        if not code:
            raise ProblemError(403, "totp_required", "This needs a code of your two-step sign-in.")
        await self._must_not_wait(user_id)
        if not await self._takes(row, _plain(code)):
            raise await self._wrong(user_id)
        await self._throttle.passed(_name(user_id), "")
        return True

    async def _takes(self, row: FactorRow, code: str) -> bool:
        step = self._step_of(row, code)
        if step is not None:
            return await self._vault.spend_step(row.user_id, step)
        hashed = self._key.hash_of(row.user_id, code)
        known = any(hmac.compare_digest(hashed, kept) for kept in row.recovery_hashes)
        return known and await self._vault.spend_recovery(row.user_id, hashed)

    def _step_of(self, row: FactorRow, code: str) -> int | None:
        """The step that a code belongs to, around now; None for a code of none. A step that was used is no step."""
        secret = self._key.unlock(row.user_id, row.secret)
        if secret is None:
            logger().error("a second factor does not open: was TOTP_KEY or JWT_SECRET changed?", user_id=str(row.user_id))
            return None
        totp, now = pyotp.TOTP(secret), int(self._clock.wall().timestamp()) // STEP_SECONDS
        steps = range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1)
        fitting = [step for step in steps if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode())]
        return next((step for step in fitting if step > row.last_step), None)

    async def _must_not_wait(self, user_id: UUID) -> None:
        spent = await self._throttle.spend("totp", str(user_id), CODES_A_MINUTE)
        wait = max(spent, self._spent_here(user_id), await self._throttle.wait_seconds(_name(user_id), ""))
        if wait > 0:
            seconds = str(int(wait) + 1)
            detail = f"Too many wrong codes. Please wait {seconds} s."
            raise ProblemError(429, "too_many_attempts", detail, headers={"Retry-After": seconds})

    def _spent_here(self, user_id: UUID) -> float:
        """The same count in this process alone: while Redis is away a code of six digits must not be free to guess."""
        now = self._clock.wall().timestamp()
        spent = [at for at in self._here.pop(user_id, []) if now - at < _MINUTE]
        if len(self._here) >= _MAX_COUNTED:
            self._here.clear()
        self._here[user_id] = spent = [*spent[-CODES_A_MINUTE:], now]
        return _MINUTE - (now - spent[0]) if len(spent) > CODES_A_MINUTE else 0.0

    async def _wrong(self, user_id: UUID) -> ProblemError:
        await self._throttle.failed(_name(user_id), "")
        logger().warning("a wrong code of two-step sign-in", user_id=str(user_id))
        return ProblemError(403, "totp_wrong", "This code is wrong, or was used before. Wait for the next one.")


def _plain(code: str) -> str:
    """As typed, without the spaces and dashes that people put between groups."""
    return code[:_LONGEST_CODE].replace(" ", "").replace("-", "").strip().upper()


def _recovery_code() -> str:
    text = pyotp.random_base32()[:_RECOVERY_LETTERS]
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _name(user_id: UUID) -> str:
    return f"totp:{user_id}"
