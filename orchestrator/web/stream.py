"""One live stream: what waits to be sent to one page. Ticks are latest-wins, structural events queue; too many of them become one reset.

Everything here is bytes that were encoded once for all streams of a user.
"""

import asyncio
import time
from collections import deque
from uuid import UUID

import msgspec

QUEUE = 64
"""Structural events a stream may lag behind; a page that lags more reads everything again."""

RETRY_MS = 1000


def frame(event: str, data: object, event_id: str = "") -> bytes:
    """A server-sent event; `data` is JSON-ready."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {event}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


class Stream:
    """What one page waits for."""

    def __init__(self, user_id: UUID, login_id: UUID, watch: frozenset[str]) -> None:
        self.user_id = user_id
        self.login_id = login_id
        self.watch = watch
        self.opened = time.monotonic()
        self._ticks: dict[str, bytes] = {}
        self._structural: deque[tuple[int, bytes]] = deque()
        self._bye: bytes | None = None
        self._wake = asyncio.Event()
        self._sent_rev = 0

    @property
    def ended(self) -> bool:
        """Whether its last event is on its way."""
        return self._bye is not None

    def tick(self, event: str, sent: bytes) -> None:
        """Replace what waits of a tick."""
        self._ticks[event] = sent
        self._wake.set()

    def structural(self, rev: int, sent: bytes, reset: bytes) -> None:
        """Queue a structural event; `reset` takes the place of a queue that is full."""
        if rev and rev <= self._sent_rev:
            return
        if len(self._structural) >= QUEUE:
            self._structural.clear()
            self._ticks.clear()
            sent = reset
        self._structural.append((rev, sent))
        self._wake.set()

    def replayed(self, rev: int) -> None:
        """Events up to this rev were sent before: drop them where they come again."""
        self._sent_rev = max(self._sent_rev, rev)
        self._structural = deque((each, sent) for each, sent in self._structural if not each or each > rev)

    def start_over(self, reset: bytes) -> None:
        """Numbers mean nothing any more, or some were missed: read everything again."""
        self._sent_rev = 0
        self._structural.clear()
        self._structural.append((0, reset))
        self._wake.set()

    def end(self, reason: str, retry_ms: int = RETRY_MS) -> None:
        """Say goodbye and send nothing more."""
        if self._bye is None:
            self._bye = frame("bye", {"reason": reason, "retry_ms": retry_ms})
        self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """Until something waits to be sent; False when nothing came in that time."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> bytes:
        """All that waits, structural events first, the goodbye last."""
        self._wake.clear()
        parts = [sent for _, sent in self._structural]
        parts.extend(self._ticks.values())
        self._sent_rev = max([self._sent_rev, *(rev for rev, _ in self._structural)])
        self._structural.clear()
        self._ticks.clear()
        if self._bye is not None:
            parts.append(self._bye)
        return b"".join(parts)
