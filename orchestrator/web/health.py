"""Whether this process may serve: every source with its age since it last proved itself.

Liveness asks nobody. Readiness asks each source, all at once, with a short patience; a source that must be there and has not answered,
or whose news is too old, makes the answer 503.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from orchestrator.log import logger
from orchestrator.ports import Clock

PATIENCE_SECONDS = 1.5
KEPT_SECONDS = 0.5
"""Anybody may ask for readiness and metrics, and each answer costs every source a question."""

type Check = Callable[[], Awaitable[datetime | None]]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One thing this process lives on.

    `check` answers the wall moment of the source's newest proof, None for "now", and raises when it has none. `stale_seconds` is when
    its news is too old; `must` whether the process is of no use without it.
    """

    name: str
    check: Check
    must: bool = True
    stale_seconds: float = 10.0


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """A source at this moment; `age_seconds` is null when it never proved itself to this process."""

    ok: bool
    must: bool
    age_seconds: float | None
    detail: str = ""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of /ready."""

    status: str
    as_of: datetime
    sources: dict[str, SourceState]


class Health:
    """Keeps when each source last proved itself, so that the age of a lost one grows. `last` is what was found the last time."""

    def __init__(self, sources: Sequence[Source], clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._proofs: dict[str, datetime] = {}
        self._asking: asyncio.Task[Ready] | None = None
        self.last: Ready | None = None

    async def ready(self) -> Ready:
        """Every source, asked now or KEPT_SECONDS ago: whoever asks often asks the sources no oftener."""
        last = self.last
        if last is not None and abs((self._clock.wall() - last.as_of).total_seconds()) < KEPT_SECONDS:
            return last
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Ready:
        states = await asyncio.gather(*(self._state(source) for source in self._sources))
        named = {source.name: state for source, state in zip(self._sources, states, strict=True)}
        sound = all(state.ok or not state.must for state in named.values())
        self.last = Ready(status="ready" if sound else "not_ready", as_of=self._clock.wall(), sources=named)
        return self.last

    async def _state(self, source: Source) -> SourceState:
        detail = ""
        asked = asyncio.ensure_future(source.check())
        # Not waited for when cancelled: a database that stands still does not answer a cancellation either.
        if not (await asyncio.wait({asked}, timeout=PATIENCE_SECONDS))[0]:
            asked.add_done_callback(_heard)
            asked.cancel()
            return self._judge(source, "did not answer in time")
        try:
            self._proofs[source.name] = asked.result() or self._clock.wall()
        except Exception as error:  # noqa: BLE001 - a source may fail in any way of its own; its age says so
            detail = type(error).__name__
            logger().info("a source did not answer", source=source.name, error=str(error))
        return self._judge(source, detail)

    def _judge(self, source: Source, detail: str) -> SourceState:
        proof = self._proofs.get(source.name)
        if proof is None:
            return SourceState(ok=False, must=source.must, age_seconds=None, detail=detail or "has not been seen")
        age = max((self._clock.wall() - proof).total_seconds(), 0.0)
        ok = not detail and age <= source.stale_seconds
        return SourceState(ok=ok, must=source.must, age_seconds=round(age, 3), detail=detail or ("" if ok else "is stale"))


def _heard(asked: "asyncio.Future[datetime | None]") -> None:
    """Takes what an abandoned question still says, so that nobody reports it as unheard."""
    if not asked.cancelled():
        asked.exception()
