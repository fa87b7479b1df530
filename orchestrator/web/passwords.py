"""Passwords: what one must look like, and its hash, made off the event loop and few at once so that nobody keeps the process busy."""

import asyncio
import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orchestrator.web.problems import bad_fields

PASSWORD_LENGTH = (10, 200)
USERNAME_LENGTH = (3, 40)
_LONGEST_ASKED = 200
_USERNAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HASHES_AT_ONCE = 2


class Passwords:
    """Argon2id off the event loop, few at once. Source: OWASP Password Storage Cheat Sheet (19 MiB, 2 passes, 1 lane)."""

    def __init__(self) -> None:
        self._hasher = _hasher()
        self._at_once = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._nobody = _hash_of_nobody()

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


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


@cache
def _hash_of_nobody() -> str:
    return _hasher().hash(secrets.token_hex(16))


def could_be_a_name(username: str) -> bool:
    """Whether anybody can have this name: nothing that PostgreSQL cannot even be asked for."""
    return len(username) <= _LONGEST_ASKED and username.isprintable()


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
