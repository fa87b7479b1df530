"""One account's signed calls: budget first, then ccxt, then a verdict on what came back.

A call ends in one of three ways: a typed reply, a `No` (the exchange answered with a certain refusal), or a VenueError.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
import msgspec

from engine.binance import calls, vendor
from engine.binance.calls import Call
from engine.binance.codes import CLASSES, Action, Decision, decide
from engine.binance.rows import TimeReply
from engine.budget import granted_in
from engine.core.order import no
from engine.errors import ExchangeThrottled, VenueAway, VenueHalted, VenueUnsure
from engine.log import logger
from engine.ports import Budget, Clock, KeyPair, Urgency
from shared.problem import Problem

DEFAULT_RETRY_AFTER: Final = 5.0
FIREWALL_SECONDS: Final = 1.0
"""A 403 names no wait, and is often one request's alone: a stop shall not wait long for it."""

LONGEST_RETRY_AFTER: Final = 3 * 24 * 3600.0
"""The longest ban there is."""

OFTEN_SKEWED: Final = 3
"""So many refused clocks in a row are not a drift that asking for the time mends."""

WEIGHT_HEADER: Final = "X-MBX-USED-WEIGHT-1M"
ORDER_HEADERS: Final = ("X-MBX-ORDER-COUNT-10S", "X-MBX-ORDER-COUNT-1M")
"""Not on every refusal."""

BUDGET_SECONDS: Final = {Urgency.ENTER: 1.0, Urgency.WATCH: 1.0, Urgency.PROTECT: 2.0}
"""How long a call waits for its weight. Less than its caller waits for it: "nothing was sent" is better to hear than nothing."""

BANNED_UNTIL: Final = re.compile(r"banned until (\d{1,15})")
ORDERS_EXCEEDED: Final = -1015
FORBIDDEN: Final = 403


class Arrived(msgspec.Struct):
    """What came back on the wire, whatever ccxt then makes of it; `asked` counts how often the exchange's time was asked before."""

    asked: int = 0
    status: int = 0
    headers: Mapping[str, str] = {}
    body: str = ""


_arrived: ContextVar[Arrived | None] = ContextVar("arrived", default=None)


class No(msgspec.Struct, frozen=True):
    """The exchange's certain refusal, with its number and words."""

    decision: Decision
    code: int | None
    detail: str

    @property
    def problem(self) -> Problem:
        """For the user."""
        return no(self.decision.refusal, self.detail)


class _Refusal(msgspec.Struct):
    code: int | str | None = None
    msg: str = ""


class Skew(msgspec.Struct):
    """How far our wall clock runs before the exchange's, asked only after a refusal for it; one for all accounts of a process."""

    ahead_ms: int = 0
    refused: int = 0
    asked: int = 0


class Client:
    """The calls of one key pair.

    Args:
        user_id: Whose order counters are used up.
        pair: Opened by the seal.
        addresses: Of the futures API and the spot API.
        session: aiohttp's, shared by all accounts.
        budget: Shared by all replicas.
        clock: Wall time signs.
        skew: Shared by all accounts.
    """

    def __init__(
        self, user_id: str, pair: KeyPair, addresses: tuple[str, str], session: Any, budget: Budget, clock: Clock, skew: Skew
    ) -> None:
        self._user_id = user_id
        self._budget = budget
        self._clock = clock
        self._skew = skew
        self._pair = pair
        self._addresses = addresses
        self._session = session
        self._opened: Any = None
        self._halted: tuple[str, int | None] | None = None
        self._halts = 0
        self._probing = asyncio.Lock()

    @property
    def ahead_seconds(self) -> float:
        """How far our wall clock runs before the exchange's, as far as that is known."""
        return self._skew.ahead_ms / 1000

    async def ask[T](self, call: Call, kind: type[T], urgency: Urgency, params: Mapping[str, Any] | None = None) -> T | No:
        """Makes one call, once. While the key is refused, of several that watch at once one asks for all.

        Raises:
            VenueUnsure: It may have been carried out and must not be repeated.
            VenueAway: It was not carried out, or may be repeated.
            VenueHalted: The key, its address or the clock is refused.
        """
        halts = self._halts
        if urgency is Urgency.WATCH and self._halted is not None:
            async with self._probing:
                if self._halted is not None and halts == self._halts:
                    return await self._asked(call, kind, urgency, params)
            self._still_halted()
        return await self._asked(call, kind, urgency, params)

    def _still_halted(self) -> None:
        if self._halted is not None:
            raise VenueHalted(*self._halted)

    async def _asked[T](self, call: Call, kind: type[T], urgency: Urgency, params: Mapping[str, Any] | None = None) -> T | No:
        given = dict(params or {})
        minute = await self._pay(call, urgency, given.get("symbol"))
        ccxt = self._opened or await self._open()
        arrived, sent_ms = Arrived(asked=self._skew.asked), self._clock.now_ms()
        error = await self._made(ccxt, call, given, arrived)
        self._learn(arrived, minute, sent_ms)
        return self._decoded(call, arrived, kind) if error is None else await self._judge(call, arrived, error)

    async def _made(self, ccxt: Any, call: Call, given: dict[str, Any], arrived: Arrived) -> Exception | None:
        """Judged outside of the handler: else a traceback of what follows would print ccxt's words, which hold the signed address."""
        token = _arrived.set(arrived)
        try:
            await getattr(ccxt, call.method)(given)
        except vendor.error_class() as error:
            found: Exception = error
            return found
        finally:
            _arrived.reset(token)
        return None

    def release(self) -> None:
        """Lets go of the session; a later call takes it up again."""
        if self._opened is not None:
            self._opened.session = None
            self._opened = None

    async def _open(self) -> Any:
        await vendor.load()
        if self._opened is not None:
            return self._opened  # another call was as early
        opened = vendor.open_client(self._pair.api_key, self._pair.api_secret, *self._addresses)
        opened.session = self._session
        opened.milliseconds = lambda: self._clock.wall_ms() - self._skew.ahead_ms
        opened.on_rest_response = _keep
        self._opened = opened
        return opened

    async def _pay(self, call: Call, urgency: Urgency, symbol: str | None) -> int:
        account = self._user_id if call.orders else ""
        try:
            async with asyncio.timeout(BUDGET_SECONDS[urgency]):
                return await self._budget.spend(call.costs(symbol), urgency, account, call.orders)
        except ExchangeThrottled as error:
            raise VenueAway(f"our budget at the exchange is spent: {error}", None, error.retry_after_seconds) from error
        except TimeoutError as error:
            raise VenueAway("our budget at the exchange is spent") from error

    def _learn(self, arrived: Arrived, minute: int, sent_ms: int) -> None:
        used = _count(arrived.headers, WEIGHT_HEADER)
        if used >= 0:
            self._budget.learn(used, minute)
        orders = [_count(arrived.headers, name) for name in ORDER_HEADERS]
        if max(orders) >= 0:
            self._budget.learn_orders(self._user_id, sent_ms, orders)

    def _decoded[T](self, call: Call, arrived: Arrived, kind: type[T]) -> T:
        try:
            found = msgspec.json.decode(arrived.body, type=kind, strict=False)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _lost(call, f"{call.method}: the reply does not read: {error}", None) from error
        if call is not calls.TIME:
            self._skew.refused = 0
            self._halted = None
        return found

    async def _judge(self, call: Call, arrived: Arrived, error: Exception) -> No:
        if not arrived.status:
            raise _without_reply(call, error) from error.__cause__
        refusal = _refusal_of(arrived.body)
        code = _code_of(refusal)
        decision = decide(arrived.status, code, refusal.msg or arrived.body)
        words = refusal.msg or f"HTTP {arrived.status}"
        detail = f"the exchange says {code}: {words}" if code is not None else f"the exchange says {words}"
        return await _ENDS.get(decision.action, _certain)(self, call, arrived, No(decision, code, detail))

    async def _resync(self, _call: Call, arrived: Arrived, said: No) -> No:
        if arrived.asked != self._skew.asked:  # it was signed before the time that we know by now
            raise VenueAway(said.detail, said.code)
        self._skew.asked += 1
        self._skew.refused += 1
        before = self._clock.wall_ms()
        told = await self.ask(calls.TIME, TimeReply, Urgency.PROTECT)
        if isinstance(told, TimeReply):
            self._skew.ahead_ms = (before + self._clock.wall_ms()) // 2 - told.server_time
            logger().warning("the exchange refused our clock; its time was asked", ms=self._skew.ahead_ms, code=said.code)
        if self._skew.refused > OFTEN_SKEWED:  # told so, and still asked anew each time: a clock that is set right is heard
            raise VenueHalted(said.detail, said.code)
        raise VenueAway(said.detail, said.code)

    async def _wait(self, _call: Call, arrived: Arrived, said: No) -> No:
        default = FIREWALL_SECONDS if arrived.status == FORBIDDEN else DEFAULT_RETRY_AFTER
        seconds = _seconds(_header(arrived.headers, "Retry-After"), self._banned(said.detail) or default)
        if said.code == ORDERS_EXCEEDED:
            self._budget.block_orders(self._user_id, seconds)
        else:
            self._budget.block(seconds)
            granted = granted_in(said.detail)
            if granted is not None:
                self._budget.lower(granted)
        raise VenueAway(said.detail, said.code, seconds)

    def _banned(self, detail: str) -> float:
        """Seconds of a ban that names its end in words alone; 0 where it names none."""
        named = BANNED_UNTIL.search(detail)
        return _seconds(str((int(named[1]) - self._clock.wall_ms()) / 1000), 0.0) if named else 0.0

    async def _unsure(self, call: Call, _arrived: Arrived, said: No) -> No:
        raise _lost(call, said.detail, said.code)

    async def _again(self, _call: Call, _arrived: Arrived, said: No) -> No:
        raise VenueAway(said.detail, said.code)

    async def _halt(self, _call: Call, _arrived: Arrived, said: No) -> No:
        self._halted, self._halts = (said.detail, said.code), self._halts + 1
        raise VenueHalted(said.detail, said.code)


async def _certain(_client: Client, _call: Call, _arrived: Arrived, said: No) -> No:
    return said


_ENDS: Final[dict[Action, Callable[..., Awaitable[No]]]] = {
    Action.CLOCK: Client._resync,
    Action.WAIT: Client._wait,
    Action.UNSURE: Client._unsure,
    Action.AGAIN: Client._again,
    Action.HALT: Client._halt,
}
"""Everything else is a value for the caller."""


def _keep(status: int, _reason: str, _url: str, _method: str, headers: Mapping[str, str], body: str, *_request: Any) -> str:
    """The hook between the reply and ccxt's own reading of it."""
    arrived = _arrived.get()
    if arrived is not None:
        arrived.status, arrived.headers, arrived.body = status, headers, body
    return body.strip()


def _without_reply(call: Call, error: Exception) -> VenueUnsure | VenueAway | VenueHalted:
    """The words of ccxt are not passed on: they hold the signed address."""
    name = type(error).__name__
    words = f"{call.method}: no answer ({name})"
    if isinstance(error.__cause__, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return VenueAway(f"{call.method}: no connection")
    decision = next((CLASSES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in CLASSES), None)
    if decision is None or decision.action is Action.UNSURE:
        return _lost(call, words, None)
    return VenueHalted(words) if decision.action is Action.HALT else VenueAway(words)


def _lost(call: Call, words: str, code: int | None) -> VenueUnsure | VenueAway:
    return VenueAway(words, code) if call.repeatable else VenueUnsure(words, code)


def _refusal_of(body: str) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_Refusal)
    except msgspec.MsgspecError:
        return _Refusal()


def _code_of(refusal: _Refusal) -> int | None:
    try:
        return int(refusal.code) if refusal.code is not None else None
    except ValueError:
        return None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def _count(headers: Mapping[str, str], name: str) -> int:
    text = _header(headers, name)
    return int(text) if text.isdigit() else -1


def _seconds(text: str, default: float) -> float:
    try:
        return min(max(0.0, float(text)), LONGEST_RETRY_AFTER)  # in this order NaN is 0
    except ValueError:
        return default
