"""Keys of user data streams: one an account, good for an hour of wall time unless it is kept alive.

Source: Binance USDⓈ-M "User Data Streams Connect" (read 2026-11): a second POST returns the key that is still good and makes it last.
"""

import hashlib

import msgspec

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.errors import Rejected

VALIDITY_MS = 60 * 60_000


class ListenKey(msgspec.Struct, kw_only=True):
    """One key and how long it is good, wall time."""

    text: str
    account: Account
    until_ms: int


class ListenKeys:
    """Every key that is good."""

    def __init__(self) -> None:
        self.validity_ms = VALIDITY_MS
        self._by_account: dict[str, ListenKey] = {}
        self._by_text: dict[str, ListenKey] = {}
        self._issued = 0
        self._ended: list[ListenKey] = []

    def opened(self, account: Account, wall_ms: int) -> str:
        """The account's key, a new one where none is good; good for an hour from now."""
        self._expire(wall_ms)
        known = self._by_account.get(account.key)
        if known is None:
            self._issued += 1
            text = hashlib.sha256(f"{account.key}/{account.secret}/{self._issued}".encode()).hexdigest()
            known = self._by_account[account.key] = self._by_text[text] = ListenKey(text=text, account=account, until_ms=0)
            account.listening = True
        known.until_ms = wall_ms + self.validity_ms
        return known.text

    def extended(self, account: Account, wall_ms: int) -> str:
        """The same for one that must be good already.

        Raises:
            Rejected: There is none.
        """
        self._expire(wall_ms)
        if account.key not in self._by_account:
            raise no_listen_key()
        return self.opened(account, wall_ms)

    def closed(self, account: Account, wall_ms: int) -> None:
        """Let an account's key be good no longer.

        Raises:
            Rejected: There is none.
        """
        self._expire(wall_ms)
        if account.key not in self._by_account:
            raise no_listen_key()
        self.forget(account)

    def forget(self, account: Account) -> None:
        """Let an account's key, if there is one, be good no longer."""
        if account.key in self._by_account:
            self._forget(self._by_account[account.key])

    def of(self, text: str) -> Account | None:
        """Whose key it is, None where it is not good."""
        known = self._by_text.get(text)
        return known.account if known else None

    def text_of(self, account_key: str) -> str | None:
        """The account's key that is good."""
        known = self._by_account.get(account_key)
        return known.text if known else None

    def ended(self, wall_ms: int) -> list[ListenKey]:
        """Keys that were not kept alive, each told once."""
        self._expire(wall_ms)
        out, self._ended = self._ended, []
        return out

    def _expire(self, wall_ms: int) -> None:
        for known in [known for known in self._by_text.values() if known.until_ms <= wall_ms]:
            self._forget(known)
            self._ended.append(known)

    def _forget(self, known: ListenKey) -> None:
        known.account.listening = False
        del self._by_account[known.account.key], self._by_text[known.text]


def no_listen_key() -> Rejected:
    """The account has no key that is good."""
    return Rejected(-1125, "This listenKey does not exist.")
