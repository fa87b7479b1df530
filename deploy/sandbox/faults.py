"""The REST door with faults before it: asks the rules what befalls a request, and does that to it. What carries the request is not known here."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.faults import LOST, Firing, Kind, Occasion
from deploy.sandbox.core.faults_throttle import Throttle
from deploy.sandbox.core.orders import AlgoOrder
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.rest import Rest, banned, encoded, refused
from deploy.sandbox.wire import Asked, Outcome, Reset, Silence, Told

CLIENT_IDS = ("newClientOrderId", "origClientOrderId", "clientAlgoId", "clientOrderId")
TIMED_OUT = Rejected(
    -1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown.", 408
)
OVERLOADED = Rejected(
    -1008, "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try again.", 503
)
SKEWED = Rejected(-1021, "Timestamp for this request is outside of the recvWindow.")
DUPLICATED = Rejected(-4116, "ClientOrderId is duplicated.")
REVOKED = Rejected(-2015, "Invalid API-key, IP, or permissions for action, request ip: 127.0.0.1", 401)
UNKNOWN = "Unknown error, please check your request or try again later."
UNAVAILABLE = "Service Unavailable."
BEHIND_THE_EDGE = 30.0
"""Wall seconds for which a request that arrives late gets no answer."""


class FaultyRest:
    """The REST door of an exchange that has bad days.

    Args:
        exchange: Whose.
        rest: The door that works.
    """

    def __init__(self, exchange: Exchange, rest: Rest) -> None:
        self._exchange, self._rest = exchange, rest
        self._throttle = Throttle()
        self._numbers: dict[str, int] = {}
        self._stuck: dict[int, tuple[int, int]] = {}
        """Of conditional orders that were triggered: when they go on, and how often rules had been cleared by then."""
        exchange.conditional.stuck = self.stuck

    async def answer(self, asked: Asked) -> Outcome:
        """What a request meets."""
        faults, wall = self._exchange.faults, self._exchange.wall_ms()
        self._exchange.asks(asked.remote, asked.key)
        if not faults.rules:
            self._throttle.forget()
            return self._rest.respond(asked)
        waiting = self._throttle.standing(asked.remote, wall)
        if waiting is not None:
            return self._told_to_wait(asked, *waiting)
        firing = faults.of_request(self._occasion(asked, wall))
        self._remember(asked, wall)
        if firing is None:
            return self._rest.respond(asked)
        if firing.kind in LOST and asked.key:
            self._exchange.trading.herald.vigil.refuse(asked.key, wall, max(wall, firing.outage_until_ms))
        return await ACTS[firing.kind](self, asked, firing)

    def gave_up(self, asked: Asked, silence: Silence, since_ms: int) -> None:
        """A caller waits no longer for an answer; while it did, the exchange did not take its order, if it was lost."""
        if silence.lost and asked.key:
            self._exchange.trading.herald.vigil.refuse(asked.key, since_ms, self._exchange.wall_ms())

    def stuck(self, account: Account, algo: AlgoOrder) -> bool:
        """Whether a triggered order is still on its way to the book."""
        faults, wall = self._exchange.faults, self._exchange.wall_ms()
        if not faults.rules:
            return False
        known = self._stuck.get(algo.id)
        if known is None:
            firing = faults.of_trigger(self._trigger(account, algo, wall))
            known = self._stuck[algo.id] = (wall + int(firing.seconds * 1000) if firing else 0, faults.cleared)
        return known[0] > wall and known[1] == faults.cleared

    def _occasion(self, asked: Asked, wall: int) -> Occasion:
        given = asked.parameters() if asked.key or asked.query else {}
        return Occasion(
            wall_ms=wall,
            caller=self._number(asked.key),
            signed=bool(asked.key),
            method=asked.method,
            path=asked.path,
            account=asked.key or "",
            symbol=given.get("symbol", ""),
            side=given.get("side", ""),
            client_id=next((given[name] for name in CLIENT_IDS if name in given), ""),
            reduce_only="true" in (given.get("reduceOnly", "").lower(), given.get("closePosition", "").lower()),
        )

    def _trigger(self, account: Account, algo: AlgoOrder, wall: int) -> Occasion:
        return Occasion(
            wall_ms=wall,
            caller=self._number(account.key),
            account=account.key,
            symbol=algo.symbol,
            side=algo.side,
            client_id=algo.client_id,
        )

    def _number(self, key: str | None) -> int:
        accounts = self._exchange.trading.accounts
        if len(accounts) != len(self._numbers):
            self._numbers = {known: number for number, known in enumerate(accounts)}
        return self._numbers.get(key or "", -1)

    def _remember(self, asked: Asked, wall: int) -> None:
        account = self._exchange.trading.accounts.get(asked.key or "")
        if account is not None and self._exchange.faults.stand(frozenset({Kind.STALE}), wall):
            self._exchange.past.remember(account, wall)

    def _told_to_wait(self, asked: Asked, status: int, until_ms: int) -> Told:
        wall = self._exchange.wall_ms()
        self._exchange.refuse_address(asked.remote, until_ms)
        message = banned(until_ms) if status == 418 else "Too many requests; please use the websocket for live updates."
        return refused(Rejected(-1003, message, status), {"Retry-After": str(max(1, math.ceil((until_ms - wall) / 1000)))})

    async def _executed(self, asked: Asked, firing: Firing) -> Outcome:
        self._rest.respond(asked)
        return await self._lost(asked, firing)

    async def _lost(self, asked: Asked, firing: Firing) -> Outcome:  # noqa: ARG002 - one shape for all acts
        return INSTEAD[firing.kind](firing)

    async def _held(self, asked: Asked, firing: Firing) -> Outcome:
        if firing.kind is Kind.TIMEOUT_EXECUTED:
            self._rest.respond(asked)
        since = self._exchange.wall_ms()
        await asyncio.sleep(firing.seconds)
        self.gave_up(asked, Silence(0, lost=firing.kind is Kind.TIMEOUT_LOST), since)
        return refused(TIMED_OUT, {})

    async def _slow(self, asked: Asked, firing: Firing) -> Outcome:
        told = self._rest.respond(asked)
        await asyncio.sleep(firing.seconds)
        return told

    async def _late(self, asked: Asked, firing: Firing) -> Outcome:
        asyncio.get_running_loop().call_later(firing.seconds, self._rest.respond, asked)
        return Silence(BEHIND_THE_EDGE)

    async def _stale(self, asked: Asked, firing: Firing) -> Outcome:
        return self._rest.respond(asked._replace(lag_ms=int(firing.seconds * 1000)))

    async def _throttled(self, asked: Asked, firing: Firing) -> Outcome:
        wall = self._exchange.wall_ms()
        self._throttle.begin(asked.remote, wall, int(firing.seconds * 1000))
        return self._told_to_wait(asked, 429, wall + int(firing.seconds * 1000))


def _refusal(refusal: Rejected) -> Callable[[Firing], Outcome]:
    return lambda firing: refused(refusal, {})  # noqa: ARG005


def _unknown(firing: Firing) -> Outcome:
    """Seen both with a code and without."""
    body: dict[str, Any] = {"code": -1000, "msg": UNKNOWN} if firing.number % 2 else {"msg": UNKNOWN}
    return Told(503, encoded(body), {})


def _page(status: int, title: str) -> Callable[[Firing], Outcome]:
    html = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}</h1></center>\r\n</body>\r\n</html>"
    return lambda firing: Told(status, html.encode(), {}, "text/html")  # noqa: ARG005


INSTEAD: dict[Kind, Callable[[Firing], Outcome]] = {
    Kind.SILENT_EXECUTED: lambda firing: Silence(firing.seconds),
    Kind.SILENT_LOST: lambda firing: Silence(firing.seconds, lost=True),
    Kind.UNKNOWN_EXECUTED: _unknown,
    Kind.UNKNOWN_LOST: _unknown,
    Kind.RESET_BEFORE: lambda firing: Reset(),  # noqa: ARG005
    Kind.RESET_AFTER: lambda firing: Reset(),  # noqa: ARG005
    Kind.HTML_502: _page(502, "Bad Gateway"),
    Kind.HTML_502_EXECUTED: _page(502, "Bad Gateway"),
    Kind.HTML_403: _page(403, "Forbidden"),
    Kind.OVERLOADED: _refusal(OVERLOADED),
    Kind.UNAVAILABLE: lambda firing: Told(503, encoded({"msg": UNAVAILABLE}), {}),  # noqa: ARG005
    Kind.SKEW: _refusal(SKEWED),
    Kind.DUPLICATE: _refusal(DUPLICATED),
    Kind.REVOKED: _refusal(REVOKED),
}
"""What is answered instead of the reply."""

ACTS: dict[Kind, Callable[[FaultyRest, Asked, Firing], Awaitable[Outcome]]] = {
    **{kind: FaultyRest._lost for kind in INSTEAD if kind in LOST},
    **{kind: FaultyRest._executed for kind in INSTEAD if kind not in LOST},
    Kind.TIMEOUT_EXECUTED: FaultyRest._held,
    Kind.TIMEOUT_LOST: FaultyRest._held,
    Kind.ARRIVES_LATE: FaultyRest._late,
    Kind.SLOW: FaultyRest._slow,
    Kind.STALE: FaultyRest._stale,
    Kind.THROTTLED: FaultyRest._throttled,
}
"""What befalls a request."""
