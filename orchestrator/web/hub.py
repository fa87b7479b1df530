"""All live streams of this process: one listener on the bus, one tick a second, each message encoded once for all pages of a user.

A stream that cannot follow loses ticks, never structural events without being told to read everything again. Whoever comes back names
the last event they saw, `<boot>-<rev>`, and gets what they missed from the bus's log, or a `reset` where the log reaches not so far.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from uuid import UUID

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import Clock, LiveLog, LiveMessage, Reads
from orchestrator.web.auth import Auth, Viewer
from orchestrator.web.market import Market
from orchestrator.web.stream import Stream, frame
from orchestrator.web.ticker import Ticker
from orchestrator.web.ticks import Payload

STREAMS_A_USER = 8
KEPT = 256
"""Messages that the bus keeps for a user and for everyone: a full log may have dropped older ones."""

TICK_SECONDS = 1.0

STALE_AFTER_MS = 5000
SECTIONS = {
    "position": "positions",
    "signals": "signals",
    "approvals": "approvals",
    "status": "status",
    "settings": "settings",
    "panic": "panic",
    "notice": "notice",
}
"""Which section of a page a structural event belongs to."""

_RELOADS = frozenset({"position", "balance", "approvals", "panic", "settings"})


class Hub:
    """Holds the live streams of this process."""

    def __init__(
        self,
        log: LiveLog,
        reads: Reads,
        market: Market,
        auth: Auth,
        clock: Clock,
        *,
        most_streams: int,
        syncing: Callable[[UUID], bool] = lambda _: False,
    ) -> None:
        self.most_streams = most_streams
        self.closing = False
        self._log = log
        self._ticker = Ticker(reads, market, clock, syncing)
        self._market = market
        self._auth = auth
        self._clock = clock
        self._streams: dict[UUID, list[Stream]] = {}
        self._revs: dict[UUID | None, int] = {}
        self._heard_rev = 0
        self._kick = asyncio.Event()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(len(streams) for streams in self._streams.values())

    def rev(self, user_id: UUID) -> int:
        """The newest structural event that this process knows of for a user; 0 for none since its start."""
        return max(self._revs.get(user_id, 0), self._revs.get(None, 0))

    def open(self, viewer: Viewer, watch: frozenset[str]) -> Stream:
        """A new stream; the oldest of a user with too many ends."""
        mine = self._streams.setdefault(viewer.id, [])
        while len([each for each in mine if not each.ended]) >= STREAMS_A_USER:
            next(each for each in mine if not each.ended).end("too_many", retry_ms=60_000)
        stream = Stream(viewer.id, viewer.login_id, watch)
        mine.append(stream)
        self._ticker.watch(viewer.id, viewer.mode)
        self._kick.set()
        return stream

    def drop(self, stream: Stream) -> None:
        """Forget a stream that is over."""
        mine = self._streams.get(stream.user_id, [])
        if stream in mine:
            mine.remove(stream)
        if not mine:
            self._streams.pop(stream.user_id, None)
            self._ticker.forget(stream.user_id)

    def shut_down(self) -> None:
        """End every stream and open no more: the server cannot stop while one is open."""
        self.closing = True
        for stream in self._all():
            stream.end("shutdown")

    async def greeting(self, stream: Stream, last: str) -> bytes:
        """The first bytes of a stream: hello, then what was missed since `last`, or a reset."""
        try:
            boot = await self._log.boot()
            recent = await self._log.recent(stream.user_id)
        except StoreUnavailable as error:
            logger().info("a live stream begins without its log", error=str(error))
            boot, recent = "", []
        newest = max((message.rev or 0 for message in recent), default=0)
        seen = _rev_of(last, boot, newest, _floor(recent))
        missed = [] if seen is None else [message for message in recent if (message.rev or 0) > seen]
        stream.replayed(newest)
        parts = [frame("hello", self._hello(boot, newest, recent, resumed=bool(last) and seen is not None))]
        if last and seen is None:
            parts.append(frame("reset", {"reason": "gap"}, _id(boot, newest)))
        parts.extend(frame(message.event, message.data, _id(boot, message.rev)) for message in missed)
        return b"".join(parts)

    async def tick(self) -> None:
        """One round of the ticker."""
        await self._ticker.tick(self._streams)

    async def run(self) -> None:
        """Listen and tick until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._tick_on())

    async def _listen(self) -> None:
        boot = ""
        async for message in self._log.listen():
            if message.rev is not None and (not boot or message.rev != self._heard_rev + 1):
                boot = await self._boot()
            self.hear(message, boot)

    def hear(self, message: LiveMessage, boot: str) -> None:
        """Take one message of the bus."""
        if message.event == "marks":
            marks = message.data.get("marks")
            self._market.observe(marks if isinstance(marks, dict) else {})
        elif message.event == "whales":
            self._market.whales_moved()
            self._pass_tick(message)
        elif message.event == "signed_out":
            self._sign_out(message)
        elif message.rev is None:
            self._pass_tick(message)
        else:
            self._pass_structural(message, message.rev, boot)

    async def _tick_on(self) -> None:
        while True:
            started = time.monotonic()
            if not self._ticker.idle:
                await self._tick_once()
            self._kick.clear()
            try:
                async with asyncio.timeout(max(TICK_SECONDS - (time.monotonic() - started), 0.05)):
                    await self._kick.wait()
                await asyncio.sleep(0.05)
            except TimeoutError:
                continue

    async def _tick_once(self) -> None:
        try:
            await self.tick()
        except StoreUnavailable as error:
            logger().warning("a live tick waits for its source", error=str(error))
        except Exception as error:  # noqa: BLE001 - the edge of this loop: one bad row must not end everybody's live pages
            logger().error("a live tick failed", error=type(error).__name__, exc_info=error)

    def _sign_out(self, message: LiveMessage) -> None:
        named = message.data.get("login_id")
        self._auth.forget_named(str(named))
        for stream in self._streams.get(message.user_id, []) if message.user_id else []:
            if str(stream.login_id) == named:
                stream.end("signed_out")

    def _pass_tick(self, message: LiveMessage) -> None:
        if message.event in _RELOADS and self._ticker.changed(message.user_id):
            self._kick.set()
        if message.event == "balance":
            return
        sent = frame(message.event, message.data)
        for stream in self._of(message.user_id):
            stream.tick(message.event, sent)

    def _pass_structural(self, message: LiveMessage, rev: int, boot: str) -> None:
        gap = self._heard_rev > 0 and rev != self._heard_rev + 1  # missed some, or Redis came back with less than it had
        self._heard_rev = rev
        self._revs[message.user_id] = rev
        if message.event in _RELOADS and self._ticker.changed(message.user_id):
            self._kick.set()
        if gap:
            self._start_over()
        reset = frame("reset", {"reason": "overflow"}, _id(boot, rev))
        sent = frame(message.event, message.data, _id(boot, rev))
        for stream in self._of(message.user_id):
            stream.structural(rev, sent, reset)

    def _start_over(self) -> None:
        self._ticker.changed(None)
        for stream in self._all():
            stream.start_over(frame("reset", {"reason": "gap"}))

    def _hello(self, boot: str, newest: int, recent: list[LiveMessage], *, resumed: bool) -> Payload:
        sections = dict.fromkeys(SECTIONS.values(), 0)
        for message in recent:
            sections[SECTIONS.get(message.event, message.event)] = message.rev or 0
        return {
            "server_now": _now(self._clock),
            "boot": boot,
            "rev": newest,
            "sections": sections | {"balance": sections["positions"]},
            "stale_after_ms": STALE_AFTER_MS,
            "resumed": resumed,
        }

    async def _boot(self) -> str:
        try:
            return await self._log.boot()
        except StoreUnavailable:
            return ""

    def _of(self, user_id: UUID | None) -> Iterable[Stream]:
        return self._all() if user_id is None else list(self._streams.get(user_id, []))

    def _all(self) -> list[Stream]:
        return [stream for streams in self._streams.values() for stream in streams]


def ping(clock: Clock) -> bytes:
    """A real event, since scripts cannot see comments."""
    return frame("ping", {"server_now": _now(clock)})


def _now(clock: Clock) -> str:
    return clock.wall().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _id(boot: str, rev: int | None) -> str:
    return f"{boot}-{rev}" if boot and rev else ""


def _floor(recent: list[LiveMessage]) -> int:
    """The rev up to which messages may be gone: a log that is full has dropped what came before its oldest."""
    floor = 0
    for of_everyone in (True, False):
        kept = [message.rev or 0 for message in recent if (message.user_id is None) is of_everyone]
        if len(kept) >= KEPT:
            floor = max(floor, kept[0] - 1)
    return floor


def _rev_of(last: str, boot: str, newest: int, floor: int) -> int | None:
    """The rev that a page has seen; None when it names another boot, the future, or what the log no longer covers."""
    given_boot, _, given = last.rpartition("-")
    if not boot or given_boot != boot or not given.isdecimal() or len(given) > 18:
        return None
    seen = int(given)
    return seen if floor <= seen <= newest else None
