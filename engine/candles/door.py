"""The one way to the exchange's public REST: budget, bounded concurrency, time-outs, retries of idempotent GETs, errors by name."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import msgspec

from engine.budget import Pool, SharedBudget, WeightBudget, granted_in
from engine.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnreachable, ReplyMalformed, UnknownSymbol

CONCURRENCY: Final = 24
TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=3, sock_read=5)
ATTEMPTS: Final = 3
"""Connection failures only; a time-out or an answer is never repeated."""

RETRY_SECONDS: Final = 0.05
DEFAULT_RETRY_AFTER: Final = 5.0
LONGEST_RETRY_AFTER: Final = 3 * 24 * 3600.0
"""The longest ban there is; whoever asks during one makes it longer."""

REFUSED_SHARE: Final = 0.9
"""Of a count that the exchange refused, taken as granted where its words do not say how much is."""

LEAST_TOLD: Final = 100
"""A refusal at a lower count was about something else."""

INVALID_SYMBOL: Final = -1121


class _Refusal(msgspec.Struct):
    code: int
    msg: str = ""


def open_session() -> aiohttp.ClientSession:
    """The session that one process shares; close it when the process ends."""
    connector = aiohttp.TCPConnector(limit=CONCURRENCY, ttl_dns_cache=60)
    return aiohttp.ClientSession(timeout=TIMEOUT, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class Door:
    """Typed GETs against one base address under one weight budget."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, budget: WeightBudget | SharedBudget) -> None:
        self._session = session
        self._base = base_url
        self._budget = budget
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def get[T](self, path: str, kind: type[T], params: Mapping[str, str | int], cost: int | Pool) -> T:
        """One reply, decoded as a type; numbers in strings become numbers. Raises as `read`."""
        return await self.read(path, lambda body: msgspec.json.decode(body, type=kind, strict=False), params, cost)

    async def read[T](self, path: str, decode: Callable[[bytes], T], params: Mapping[str, str | int], cost: int | Pool) -> T:
        """One reply, decoded.

        Args:
            path: From the root.
            decode: What the reply's body says; raises MsgspecError or ValueError where it cannot tell.
            params: The query.
            cost: The request's weight, or the pool that it draws from instead.

        Raises:
            ExchangeUnreachable: No connection, a time-out or a server error.
            ExchangeThrottled: 429, 418, or the budget is spent.
            ExchangeRefused: The exchange answered with an error code; UnknownSymbol for -1121.
            ReplyMalformed: The reply cannot be decoded.
        """
        if isinstance(cost, Pool):
            await self._budget.draw(cost)
        minute = await self._budget.spend(0 if isinstance(cost, Pool) else cost)
        async with self._slots:
            if (wait := self._budget.blocked()) > 0:  # somebody was told to stay away while this one queued
                raise ExchangeThrottled(f"{path}: not sent", wait)
            body = await self._read(path, params, None if isinstance(cost, Pool) else minute)
        try:
            return decode(body)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ReplyMalformed(f"{path}: {error}") from error

    async def get_rows[T](self, path: str, kind: type[T], weight: int) -> list[T]:
        """A list over the whole market, decoded row by row, so that an odd row does not hide the others; raises as `get`."""
        raws = await self.get(path, list[msgspec.Raw], {}, weight)
        return [row for raw in raws for row in _row(raw, kind)]

    def grant(self, limit: int | None) -> None:
        """Takes over the weight a minute that the exchange says it grants, where it is less than ours; None says nothing."""
        if limit is not None:
            self._budget.lower(limit)

    async def _read(self, path: str, params: Mapping[str, str | int], minute: int | None) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._session.get(self._base + path, params=params) as reply:
                    body = await reply.read()
                    used = self._learned(reply, minute)
                    self._judge(path, reply, body, used)
                    return body
            except TimeoutError as error:
                raise ExchangeUnreachable(f"{path}: timed out") from error
            except aiohttp.ClientError as error:
                if attempt == ATTEMPTS:
                    raise ExchangeUnreachable(f"{path}: {type(error).__name__}") from error
                await asyncio.sleep(RETRY_SECONDS * attempt)
        raise ExchangeUnreachable(path)

    def _learned(self, reply: aiohttp.ClientResponse, minute: int | None) -> int:
        """What the exchange counted of the weight; 0 where it did not say, or the request drew from a pool of its own."""
        told = reply.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if minute is None or not told.isdigit():
            return 0
        self._budget.learn(int(told), minute)
        return int(told)

    def _judge(self, path: str, reply: aiohttp.ClientResponse, body: bytes, used: int) -> None:
        if reply.status == 200:
            return
        if reply.status in (429, 418):
            wait = _seconds(reply.headers.get("Retry-After", ""))
            self._budget.block(wait)
            if reply.status == 429:
                self.grant(_granted(body, used))
            raise ExchangeThrottled(f"{path}: {reply.status}", wait)
        if reply.status >= 500 or reply.status == 403:
            raise ExchangeUnreachable(f"{path}: HTTP {reply.status}")
        raise _refusal(path, reply.status, body)


def _row[T](raw: msgspec.Raw, kind: type[T]) -> list[T]:
    try:
        return [msgspec.json.decode(raw, type=kind, strict=False)]
    except (msgspec.ValidationError, ValueError):
        return []


def _granted(body: bytes, used: int) -> int | None:
    """The weight a minute that a 429 shows to be granted: its own words, or less than it counted where that was already too much."""
    named = granted_in(body.decode(errors="replace"))
    if named is not None and named <= used:
        return named
    return int(used * REFUSED_SHARE) if used >= LEAST_TOLD else None


def _seconds(text: str) -> float:
    try:
        return min(max(0.0, float(text)), LONGEST_RETRY_AFTER)
    except ValueError:
        return DEFAULT_RETRY_AFTER


def _refusal(path: str, status: int, body: bytes) -> ExchangeRefused | UnknownSymbol | ReplyMalformed:
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except msgspec.MsgspecError:
        return ReplyMalformed(f"{path}: HTTP {status} without a code")
    if refusal.code == INVALID_SYMBOL:
        return UnknownSymbol(f"{path}: {refusal.msg}")
    return ExchangeRefused(refusal.code, refusal.msg)
