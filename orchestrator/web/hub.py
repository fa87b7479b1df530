"""All live streams of this process: one listener on the bus, one tick a second, each message encoded once for all pages of a user.

A stream that cannot follow loses ticks, never structural events without being told to read everything again. Whoever comes back names
the last event they saw, `<boot>-<rev>`, and gets what they missed from the bus's log, or a `reset` where the log reaches not so far.
"""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import msgspec

from orchestrator.errors import StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import Account, Clock, LiveLog, LiveMessage, PositionRow, Reads, Stats
from orchestrator.web.auth import Auth, Viewer
from orchestrator.web.market import Market
from orchestrator.web.stream import Stream, frame
from orchestrator.web.ticks import Payload, balance_payload, positions_payload, prices_payload
from orchestrator.web.valuation import LIVE, day_start, gain, value_all, wealth

STREAMS_A_USER = 8
KEPT = 256
"""Messages that the bus keeps for a user and for everyone: a full log may have dropped older ones."""

TICK_SECONDS = 1.0
BALANCE_SECONDS = 5.0
STATUS_SECONDS = 15.0
RELOAD_SECONDS = 15.0
"""A view is read again at the latest after this, should a message have been lost."""

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


class Holding:
    """What a user holds, as last read, and what their pages were told of it."""

    def __init__(self) -> None:
        self.rows: list[PositionRow] = []
        self.account: Account | None = None
        self.stats: Stats | None = None
        self.mode = "PAPER"
        self.read_at = float("-inf")
        self.told_balance: tuple[float, str] = (float("-inf"), "")
        self.told_status = time.monotonic()

    def due(self) -> bool:
        """Whether it should be read again."""
        return self.account is None or time.monotonic() - self.read_at >= RELOAD_SECONDS


class Hub:
    """Holds the live streams of this process."""

    def __init__(self, log: LiveLog, reads: Reads, market: Market, auth: Auth, clock: Clock, *, most_streams: int) -> None:
        self.most_streams = most_streams
        self.closing = False
        self._log = log
        self._reads = reads
        self._market = market
        self._auth = auth
        self._clock = clock
        self._streams: dict[UUID, list[Stream]] = {}
        self._holdings: dict[UUID, Holding] = {}
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
        holding = self._holdings.setdefault(viewer.id, Holding())
        holding.mode = viewer.mode
        holding.told_balance = (float("-inf"), "")
        self._kick.set()
        return stream

    def drop(self, stream: Stream) -> None:
        """Forget a stream that is over."""
        mine = self._streams.get(stream.user_id, [])
        if stream in mine:
            mine.remove(stream)
        if not mine:
            self._streams.pop(stream.user_id, None)
            self._holdings.pop(stream.user_id, None)

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

    async def run(self) -> None:
        """Listen and tick until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._tick_on())

    async def _listen(self) -> None:
        boot = ""
        async for message in self._log.listen():
            if message.rev is not None and not boot:
                boot = await self._boot()
            self.hear(message, boot)

    def hear(self, message: LiveMessage, boot: str) -> None:
        """Take one message of the bus."""
        if message.event == "marks":
            marks = message.data.get("marks")
            self._market.observe(marks if isinstance(marks, dict) else {})
        elif message.event == "signed_out":
            self._sign_out(message)
        elif message.rev is None:
            self._pass_tick(message)
        else:
            self._pass_structural(message, message.rev, boot)

    async def tick(self) -> None:
        """One round: read what changed, price it, tell every page."""
        for user_id, holding in list(self._holdings.items()):
            if holding.due():
                await self._read(user_id, holding)
        symbols = {row.symbol for holding in self._holdings.values() for row in holding.rows}
        symbols |= {symbol for stream in self._all() for symbol in stream.watch}
        if symbols:
            await self._market.marks(symbols)
        for user_id, holding in list(self._holdings.items()):
            self._tell(self._streams.get(user_id, []), holding)

    def _tell(self, streams: list[Stream], holding: Holding) -> None:
        wall = self._clock.wall()
        if not streams or holding.account is None:
            return
        held = {row.symbol for row in holding.rows}
        valued = value_all(holding.rows, self._market.known(held))
        own = [each for each in valued if each.row.mode == holding.mode]
        worth = wealth(holding.account, own)
        gained = None if holding.stats is None else gain(worth, holding.stats, own)
        positions = frame("positions", positions_payload(valued, worth, wall, gained))
        prices = {
            watch: frame("prices", prices_payload(self._market.known(held | watch), holding.rows, wall))
            for watch in {stream.watch for stream in streams}
        }
        for stream in streams:
            stream.tick("prices", prices[stream.watch])
            stream.tick("positions", positions)
        self._tell_slowly(streams, holding, balance_payload(holding.mode, worth, wall))

    def _tell_slowly(self, streams: list[Stream], holding: Holding, balance: Payload) -> None:
        now = time.monotonic()
        said_at, said = holding.told_balance
        figures = msgspec.json.encode({name: part for name, part in balance.items() if name != "as_of"}).decode()
        if figures != said and now - said_at >= BALANCE_SECONDS:
            holding.told_balance = (now, figures)
            sent = frame("balance", balance)
            for stream in streams:
                stream.tick("balance", sent)
        if now - holding.told_status >= STATUS_SECONDS:
            holding.told_status = now
            for stream in streams:
                stream.tick("status", frame("status", {"mode": holding.mode}))

    async def _tick_on(self) -> None:
        while True:
            started = time.monotonic()
            if self._holdings:
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

    async def _read(self, user_id: UUID, holding: Holding) -> None:
        holding.read_at = time.monotonic()
        user = await self._reads.user(user_id)
        if user is not None:
            holding.mode = user.mode
        holding.rows = await self._reads.positions(user_id, statuses=LIVE)
        holding.stats = await self._reads.stats(user_id, holding.mode, day_start(self._clock.now()))
        holding.account = await self._reads.account(user_id, holding.mode)

    def _sign_out(self, message: LiveMessage) -> None:
        for stream in self._streams.get(message.user_id, []) if message.user_id else []:
            if str(stream.login_id) == message.data.get("login_id"):
                stream.end("signed_out")
                self._auth.forget(stream.login_id)

    def _pass_tick(self, message: LiveMessage) -> None:
        self._mark_due(message)
        if message.event == "balance":
            return
        sent = frame(message.event, message.data)
        for stream in self._of(message.user_id):
            stream.tick(message.event, sent)

    def _pass_structural(self, message: LiveMessage, rev: int, boot: str) -> None:
        gap = 0 < self._heard_rev < rev - 1
        self._heard_rev = max(self._heard_rev, rev)
        self._revs[message.user_id] = max(self._revs.get(message.user_id, 0), rev)
        self._mark_due(message)
        reset = frame("reset", {"reason": "overflow"}, _id(boot, rev))
        sent = frame(message.event, message.data, _id(boot, rev))
        if gap:
            for stream in self._all():
                stream.structural(0, frame("reset", {"reason": "gap"}), reset)
        for stream in self._of(message.user_id):
            stream.structural(rev, sent, reset)

    def _mark_due(self, message: LiveMessage) -> None:
        if message.event not in _RELOADS:
            return
        holdings = self._holdings.values() if message.user_id is None else [self._holdings.get(message.user_id)]
        for holding in holdings:
            if holding is not None:
                holding.read_at = float("-inf")
                holding.told_balance = (float("-inf"), holding.told_balance[1])
                self._kick.set()

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
