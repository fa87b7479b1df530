"""The door to Redis for what the feed keeps there: tickers, marks, ticks, liquidations, large trades, figures, its account of itself.

Everything here is rebuildable: the streams say it again within seconds. Values are msgpack under keys that carry a version, so that a
new release never misreads an old one's bytes. Ticks are a sorted set by market time, one member for each event of all symbols: an event is
written once, whoever asks reads only the time that it wants, and the set is bounded by count. Figures and memory are the compact values of
`engine.core.features_bytes`.
"""

import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.core.features_bytes import memory_of, told_of
from engine.core.features_live import LiveFeatures, Told
from engine.core.market import ForcedOrder, Mark, Ticker, at
from engine.core.ticks import GAP_MS, MOST_FRAMES, Tick, TickFrame, ticks_in
from engine.errors import LeaseLost, SnapshotsUnavailable
from engine.ports import FeedState, FiguresState, TradeWindows
from shared.closes import CHANNEL, CloseTold

VERSION: Final = 1
PREFIX: Final = f"engine:v{VERSION}:"
TICKERS: Final = PREFIX + "tickers"
MARKS: Final = PREFIX + "marks"
TICKS: Final = PREFIX + "ticks"
LIQUIDATIONS: Final = PREFIX + "liquidations"
STATE: Final = PREFIX + "feed"
LARGE_TRADES: Final = PREFIX + "large-trades"
WANTED_TRADES: Final = PREFIX + "wanted-trades"
FIGURES: Final = PREFIX + "figures"
MEMORY: Final = PREFIX + "memory"
FIGURES_STATE: Final = PREFIX + "figures:state"

KEPT_SECONDS: Final = 3600
"""A feed that died long ago leaves nothing behind."""

WANTED_SECONDS: Final = 900
"""Wall time for which a shortlisted symbol's trades stay wanted: a few scans."""

WRITE_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if not held then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
local at = 3
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + length))
  at = at + length + 1
end
return 1
"""
"""KEYS: the lease. ARGV: who writes, for how many milliseconds it leads where nobody does, then each command after its length."""

type Command = tuple[str | bytes | int, ...]

_encoder = msgspec.msgpack.Encoder()


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """Under which lease, and in whose name, something is written; `seconds` is what the lease lasts."""

    key: str
    holder: str
    seconds: float


def connect(url: str) -> Redis:
    """A client with short time-outs: whoever asks has something better to do than to wait for Redis."""
    client: Redis = Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
    return client


class RedisSnapshots:
    """Reads and writes the snapshots; every method raises SnapshotsUnavailable where Redis does not answer.

    Args:
        redis: Shared by the deployment.
        fence: Of a feed that leads: its writes raise LeaseLost, and change nothing, once another one leads. Nobody else has one.
    """

    def __init__(self, redis: Redis, fence: Fence | None = None) -> None:
        self._redis = redis
        self._fence = fence
        self.answered_ms: int | None = None

    async def tickers(self) -> Mapping[str, Ticker]:
        """Latest tickers by symbol; empty when the feed never wrote."""
        return {ticker.symbol: ticker for ticker in await self._read(TICKERS, list[Ticker]) or []}

    async def marks(self) -> Mapping[str, Mark]:
        """Latest marks by symbol; empty when the feed never wrote."""
        return {mark.symbol: mark for mark in await self._read(MARKS, list[Mark]) or []}

    async def ticks(self, since_ms: Mapping[str, int]) -> Mapping[str, Sequence[Tick]]:
        """Ticks by symbol, oldest first, from just before its moment, so that what was heard at that moment is known too.

        Args:
            since_ms: Market time by symbol, at least one.
        """
        try:
            members: list[bytes] = await self._redis.zrangebyscore(TICKS, min(since_ms.values()) - GAP_MS, "+inf")
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error
        self._answered()
        frames = [frame for member in members for frame in _frame(member)]
        return ticks_in(frames, {symbol: moment - GAP_MS for symbol, moment in since_ms.items()})

    async def liquidations(self) -> Sequence[ForcedOrder]:
        """The window, oldest first."""
        return await self._read(LIQUIDATIONS, list[ForcedOrder]) or []

    async def state(self) -> FeedState | None:
        """The feed's own account of itself; None when it never wrote."""
        return await self._read(STATE, FeedState)

    async def large_trades(self) -> TradeWindows | None:
        """Large trades of the symbols that are listened to; None when the feed never wrote."""
        return await self._read(LARGE_TRADES, TradeWindows)

    async def write_large_trades(self, windows: TradeWindows) -> None:
        """Writes the windows of large trades; raises SnapshotsUnavailable or LeaseLost."""
        await self._commit([_kept(LARGE_TRADES, _encoder.encode(windows))])

    async def want_trades(self, symbols: Sequence[str]) -> None:
        """Asks the feed to listen to the trades of these symbols for the next WANTED_SECONDS; raises SnapshotsUnavailable."""
        if not symbols:
            return
        now = time.time()
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zadd(WANTED_TRADES, dict.fromkeys(symbols, now))
                pipe.zremrangebyscore(WANTED_TRADES, "-inf", now - WANTED_SECONDS)
                pipe.expire(WANTED_TRADES, KEPT_SECONDS)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error
        self._answered()

    async def wanted_trades(self) -> Sequence[str]:
        """Symbols whose trades are wanted, those asked for last first; raises SnapshotsUnavailable."""
        try:
            found: list[bytes] = await self._redis.zrevrangebyscore(WANTED_TRADES, "+inf", time.time() - WANTED_SECONDS)
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error
        self._answered()
        return [member.decode() for member in found]

    async def figures(self) -> Told | None:
        """What candles say of every symbol; None when nobody wrote it, or in another form."""
        body = await self._get(FIGURES)
        return None if body is None else told_of(body)

    async def memory(self) -> LiveFeatures | None:
        """What a feed needs to carry the figures on; None when nobody wrote it, or in another form."""
        body = await self._get(MEMORY)
        return None if body is None else memory_of(body)

    async def figures_state(self) -> FiguresState | None:
        """The leader's account of the figures; None when nobody wrote it."""
        return await self._read(FIGURES_STATE, FiguresState)

    async def write_figures(
        self, told: bytes, memory: bytes | None = None, state: FiguresState | None = None, closed_ms: int | None = None
    ) -> None:
        """Writes what `features_bytes` packed, and the account of it, in one transaction; None leaves a part as it stands.

        Args:
            told: Of every symbol.
            memory: With which a standby goes on.
            state: The leader's account.
            closed_ms: The close with which these figures are whole: whoever listens on `shared.closes.CHANNEL` is told once they stand.

        Raises:
            SnapshotsUnavailable: Redis does not answer; nothing was written.
            LeaseLost: Another feed leads; nothing was written.
        """
        parts = {FIGURES: told, MEMORY: memory, FIGURES_STATE: None if state is None else _encoder.encode(state)}
        kept = [_kept(key, value) for key, value in parts.items() if value is not None]
        await self._commit(kept if closed_ms is None else [*kept, _announced(closed_ms)])

    async def write(
        self,
        state: FeedState,
        tickers: Sequence[Ticker] | None = None,
        marks: Sequence[Mark] | None = None,
        liquidations: Sequence[ForcedOrder] | None = None,
        ticks: Sequence[TickFrame] = (),
    ) -> None:
        """Writes what changed in one transaction; None leaves a part as it stands, and ticks are added to those before.

        Raises:
            SnapshotsUnavailable: Redis does not answer; nothing was written.
            LeaseLost: Another feed leads; nothing was written.
        """
        parts: dict[str, object] = {TICKERS: tickers, MARKS: marks, LIQUIDATIONS: liquidations, STATE: state}
        commands = [_kept(key, _encoder.encode(value)) for key, value in parts.items() if value is not None]
        await self._commit([*commands, *_added(ticks)])

    async def beat(self) -> None:
        """Pings Redis."""
        await self._read(STATE, msgspec.Raw)

    async def _read[T](self, key: str, kind: type[T]) -> T | None:
        body = await self._get(key)
        if body is None:
            return None
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.MsgspecError:
            return None

    async def _commit(self, commands: Sequence[Command]) -> None:
        try:
            if self._fence is not None:
                await self._commit_as(self._fence, commands)
            else:
                async with self._redis.pipeline(transaction=True) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    await pipe.execute()
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error
        self._answered()

    async def _commit_as(self, fence: Fence, commands: Sequence[Command]) -> None:
        spelt = [part for command in commands for part in (len(command), *command)]
        asked = self._redis.eval(WRITE_SCRIPT, 1, fence.key, fence.holder, round(fence.seconds * 1000), *spelt)  # type: ignore[arg-type]
        if not await cast(Awaitable[int], asked):
            raise LeaseLost(fence.holder)

    async def _get(self, key: str) -> bytes | None:
        try:
            body: bytes | None = await self._redis.get(key)
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error
        self._answered()
        return body

    def _answered(self) -> None:
        self.answered_ms = time.time_ns() // 1_000_000


def _kept(key: str, value: bytes) -> Command:
    return ("SET", key, value, "EX", KEPT_SECONDS)


def _announced(closed_ms: int) -> Command:
    return ("PUBLISH", CHANNEL, msgspec.json.encode(CloseTold(candle_close=at(closed_ms))))


def _added(ticks: Sequence[TickFrame]) -> list[Command]:
    """Market time that went back forgets what came after; the same event said twice is one member."""
    if not ticks:
        return []
    return [
        ("ZADD", TICKS, *(part for frame in ticks for part in (frame.at_ms, _encoder.encode(frame)))),
        ("ZREMRANGEBYSCORE", TICKS, f"({ticks[-1].at_ms}", "+inf"),
        ("ZREMRANGEBYRANK", TICKS, 0, -MOST_FRAMES - 1),
        ("EXPIRE", TICKS, KEPT_SECONDS),
    ]


def _frame(member: bytes) -> list[TickFrame]:
    try:
        return [msgspec.msgpack.decode(member, type=TickFrame)]
    except msgspec.MsgspecError:
        return []
