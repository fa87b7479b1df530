"""Callers that were told to wait: 429 until then, and a ban with 418 for those who go on.

Source: Binance USDⓈ-M "Limits": when a 429 is received, back off; repeated violation is an IP ban, Retry-After counts seconds.
"""

import msgspec

PATIENCE = 3
"""Requests within the wait before it becomes a ban."""
BAN_FACTOR = 5
"""So much longer is the ban."""


class _Wait(msgspec.Struct):
    until_ms: int
    begun_ms: int
    asked: int = 0
    banned: bool = False


class Throttle:
    """Who waits, by address."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def begin(self, address: str, wall_ms: int, wait_ms: int) -> None:
        """Let a caller wait."""
        self._waits[address] = _Wait(until_ms=wall_ms + wait_ms, begun_ms=wall_ms)

    def standing(self, address: str, wall_ms: int) -> tuple[int, int] | None:
        """The status and the end of the wait for a request now; None where there is nothing to wait for."""
        wait = self._waits.get(address)
        if wait is None or wall_ms >= wait.until_ms:
            self._waits.pop(address, None)
            return None
        wait.asked += 1
        if wait.asked > PATIENCE and not wait.banned:
            wait.banned, wait.until_ms = True, wall_ms + BAN_FACTOR * (wait.until_ms - wait.begun_ms)
        return (418 if wait.banned else 429), wait.until_ms

    def forget(self) -> None:
        """Nobody waits."""
        self._waits.clear()
