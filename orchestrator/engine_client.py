"""The bridge to the engine: HTTP with the wire's own types, one method a route.

Decides what an answer means: a problem with a 4xx status means that nothing was done (EngineRefused); no answer, a late one, a 5xx or a
body not of the wire leaves open what was done (EngineUnavailable). Questions are asked once more, orders are sent once.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final

import httpx
import msgspec

from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import TRACE_ID
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksReply, MarksRequest, WhalesReply
from shared.execution import (
    Account,
    AccountEvent,
    AccountRequest,
    BalanceReply,
    CanaryReply,
    CancelReply,
    CancelRequest,
    ClaimKeysRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    KeyCheckReply,
    OrderReply,
    PositionsReply,
    ProtectReport,
    ProtectRequest,
    PublicKeyReply,
    ResealRequest,
    SealedCredentials,
    TruthReply,
    TruthRequest,
)
from shared.problem import Problem
from shared.wire import TRACE_HEADER, decode, encode

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
"""A question about marks, balance or an order: answered from memory or by one venue call."""

ORDER_SECONDS: Final = 20.0
"""An entry with its protection confirmed; past it the outcome is unknown and settled by its id."""

ANALYZE_SECONDS: Final = 90.0
"""A cold scan of the whole market under the exchange's weight limit, and an analyst that thinks."""

FLATTEN_SECONDS: Final = 45.0
TRUTH_SECONDS: Final = 15.0
"""Several signed reads, some of them paged."""

EVENTS_SILENCE_SECONDS: Final = 20.0
"""The engine pings every few seconds; a stream that says nothing for so long is dead."""

RETRY_AFTER_SECONDS: Final = 0.1
CONNECT_AGAIN_SECONDS: Final = (0.2, 0.5, 1.0)
"""Pauses after a connection that did not come about: a replica that restarts, or one of several."""

MAX_CONNECTIONS: Final = 64


class HttpEngine:
    """Implements the port Engine."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        """One scan of the market."""
        return await self._send("/analyze", request, AnalyzeReply, ANALYZE_SECONDS)

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        """Mark prices and what they did since each symbol's moment."""
        return await self._ask("/marks", MarksRequest(since=dict(since)), MarksReply)

    async def whales(self) -> WhalesReply:
        """The liquidation window now."""
        return await self._ask("/whales", None, WhalesReply)

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        """Open a position; never sent twice by itself."""
        return await self._send("/execute/entry", request, ExecutionReport, ORDER_SECONDS)

    async def close(self, request: CloseRequest) -> ExecutionReport:
        """Close a position or a part of it; never sent twice by itself."""
        return await self._send("/execute/close", request, ExecutionReport, ORDER_SECONDS)

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        """Amend stop and target."""
        return await self._send("/execute/protect", request, ProtectReport, ORDER_SECONDS)

    async def flatten(self, request: FlattenRequest) -> FlattenReply:
        """Close everything and prove it."""
        return await self._send("/execute/flatten", request, FlattenReply, FLATTEN_SECONDS)

    async def balance(self, account: Account) -> BalanceReply:
        """The wallet as the venue sees it."""
        return await self._ask("/execute/balance", AccountRequest(account=account), BalanceReply)

    async def positions(self, account: Account) -> PositionsReply:
        """What is open as the venue sees it."""
        return await self._ask("/execute/positions", AccountRequest(account=account), PositionsReply)

    async def order(self, client_order_id: str, account: Account, symbol: str | None = None) -> OrderReply:
        """What became of an id."""
        return await self._ask(f"/execute/orders/{client_order_id}", AccountRequest(account=account, symbol=symbol), OrderReply)

    async def truth(self, request: TruthRequest) -> TruthReply:
        """What the exchange says of an account."""
        return await self._send("/execute/truth", request, TruthReply, TRUTH_SECONDS)

    async def guards(self, request: GuardsRequest) -> GuardsReply:
        """What guards an account's positions now."""
        return await self._ask("/execute/guards", request, GuardsReply)

    async def cancel(self, request: CancelRequest) -> CancelReply:
        """Cancel orders of ours that nothing owns any more."""
        return await self._send("/execute/cancel", request, CancelReply, ORDER_SECONDS)

    async def canary(self, account: Account) -> CanaryReply:
        """Place, read back and cancel one protective order."""
        return await self._send("/execute/canary", AccountRequest(account=account), CanaryReply, ORDER_SECONDS)

    async def events(self, account: Account) -> AsyncIterator[AccountEvent]:
        """Nudges of the user data stream, until the connection ends.

        Raises:
            EngineUnavailable: It ended, or said nothing for EVENTS_SILENCE_SECONDS.
            EngineRefused: The account has no usable credentials.
        """
        body = encode(AccountRequest(account=account))
        quiet = httpx.Timeout(EVENTS_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        try:
            async with self._client.stream("POST", "/execute/events", content=body, timeout=quiet) as reply:
                if not reply.is_success:
                    await reply.aread()
                    raise _refusal(reply)
                async for line in reply.aiter_lines():
                    yield decode(line, AccountEvent)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise EngineUnavailable(f"/execute/events: {type(error).__name__}") from error
        raise EngineUnavailable("/execute/events: the stream ended")

    async def public_key(self) -> PublicKeyReply:
        """What exchange keys are sealed to."""
        return await self._ask("/keys", None, PublicKeyReply)

    async def reseal(self, request: ResealRequest) -> SealedCredentials:
        """Credentials sealed anew to the newest key."""
        return await self._ask("/keys/reseal", request, SealedCredentials)

    async def check_keys(self, account: Account) -> KeyCheckReply:
        """The audit of a key pair."""
        return await self._send("/keys/check", AccountRequest(account=account), KeyCheckReply, TRUTH_SECONDS)

    async def claim_keys(self, user_id: str) -> SealedCredentials:
        """The pair of the engine's environment, sealed for one user."""
        return await self._send("/keys/claim", ClaimKeysRequest(user_id=user_id), SealedCredentials, READ_SECONDS)

    async def ready(self) -> dict[str, object]:
        """The engine's own /ready, whatever its status says.

        Raises:
            EngineUnavailable: It did not answer with JSON.
        """
        reply = await self._request("GET", "/ready", None, READ_SECONDS)
        return _decoded(reply, dict[str, object])

    async def close_connections(self) -> None:
        """Ends the connections; the client is of no use afterwards."""
        await self._client.aclose()

    async def _ask[T](self, path: str, body: object, kind: type[T]) -> T:
        try:
            return await self._send(path, body, kind, READ_SECONDS)
        except EngineRefused:
            raise
        except EngineUnavailable:
            await asyncio.sleep(RETRY_AFTER_SECONDS)
            return await self._send(path, body, kind, READ_SECONDS)

    async def _send[T](self, path: str, body: object, kind: type[T], seconds: float) -> T:
        reply = await self._request("GET" if body is None else "POST", path, body, seconds)
        if reply.is_success:
            return _decoded(reply, kind)
        raise _refusal(reply)

    async def _request(self, method: str, path: str, body: object, seconds: float) -> httpx.Response:
        try:
            async with asyncio.timeout(seconds):
                return await self._reach(method, path, None if body is None else encode(body))
        except (httpx.HTTPError, TimeoutError) as error:
            raise EngineUnavailable(f"{path}: {type(error).__name__}") from error

    async def _reach(self, method: str, path: str, content: bytes | None) -> httpx.Response:
        """Sends once. Where no connection came about nothing has left, so that it is tried again: a close must not wait for its id to be settled."""
        trace_id = TRACE_ID.get()
        headers = {TRACE_HEADER: trace_id} if trace_id else None
        for pause in CONNECT_AGAIN_SECONDS:
            try:
                return await self._client.request(method, path, content=content, headers=headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                await asyncio.sleep(pause)
        return await self._client.request(method, path, content=content, headers=headers)


def open_engine(url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> HttpEngine:
    """The engine at an address.

    Args:
        url: Base address, http://…
        token: ENGINE_TOKEN of both services.
        transport: Another network, for tests.
    """
    return HttpEngine(
        httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            transport=transport,
            trust_env=False,
        )
    )


def _decoded[T](reply: httpx.Response, kind: type[T]) -> T:
    try:
        return decode(reply.content, kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EngineUnavailable(f"{reply.url.path}: the reply is not of the wire: {error}") from error


def _refusal(reply: httpx.Response) -> EngineUnavailable:
    try:
        problem = decode(reply.content, Problem)
    except (msgspec.MsgspecError, ValueError):
        return EngineUnavailable(f"{reply.url.path}: status {reply.status_code}")
    if reply.status_code < 500:
        return EngineRefused(problem.code, problem.detail, reply.status_code)
    return EngineUnavailable(f"{reply.url.path}: {problem.code}: {problem.detail}")
