"""A tiny exchange that answers what a test tells it, and the real adapter with the real ccxt in front of it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from aiohttp import web

from engine.binance import Addresses, BinanceExchanges
from engine.budget import WeightBudget
from engine.clock import MarketClock
from engine.core.market import Mark
from engine.errors import UnknownSymbol
from engine.ports import KeyPair, MarketOrder, Urgency
from shared.execution import OrderSide, RealAccount, SealedCredentials

KEY, SECRET = "key-of-the-account", "secret-of-the-account"
ACCOUNT = RealAccount(user_id="u1", dry_run=False, credentials=SealedCredentials(key_id="k1", sealed="sealed"))
ENTRY = MarketOrder(
    client_order_id="nt-e-1", symbol="BTCUSDT", order_side=OrderSide.BUY, quantity=Decimal("0.010"), reduce_only=False
)
FILLED = {
    "orderId": 8389765000000002, "symbol": "BTCUSDT", "status": "FILLED", "clientOrderId": "nt-e-1", "price": "0", "origQty": "0.010",
    "executedQty": "0.010", "type": "MARKET", "side": "BUY", "reduceOnly": False, "positionSide": "BOTH", "stopPrice": "0",
    "origType": "MARKET", "updateTime": 1767744000000,
}  # fmt: skip

type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OpenKeys:
    """A seal that holds one pair."""

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        return KeyPair(api_key=KEY, api_secret=SECRET)


class FewMarks:
    """The mark price of BNB, and no other."""

    async def mark(self, symbol: str) -> Mark:
        if symbol != "BNBUSDT":
            raise UnknownSymbol(symbol)
        return Mark(symbol=symbol, price=Decimal(600), funding_rate=Decimal(0), next_funding_ms=0, at_ms=0, received_ms=0)


class TinyExchange:
    """Answers by method and path; what nobody scripted is a mistake of the test and answers 404."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.keys: list[str] = []

    def says(self, method: str, path: str, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answers always the same: JSON, or text as it is."""
        text = body if isinstance(body, str) else json.dumps(body)

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(text=text, status=status, headers=headers, content_type="application/json")

        self.answers[method, path] = answer

    def breaks_off(self, method: str, path: str) -> None:
        """Takes the request and drops the line without a word."""

        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self.answers[method, path] = answer

    def count(self, method: str, path: str) -> int:
        return sum((method, path) == (asked, where) for asked, where, _ in self.seen)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.post()
        params = {**request.query, **{name: str(value) for name, value in body.items()}}
        self.seen.append((request.method, request.path, params))
        self.keys.append(request.headers.get("X-MBX-APIKEY", ""))
        answer = self.answers.get((request.method, request.path))
        return await answer(request) if answer else web.json_response({"code": -5000, "msg": "no such path"}, status=404)


class Bench:
    """The tiny exchange, its address, and the adapter."""

    def __init__(self, exchange: TinyExchange, url: str) -> None:
        self.exchange = exchange
        self.url = url
        self.clock = MarketClock()
        self.budget = WeightBudget(2400, self.clock.now_ms, patience_seconds=0.0, reserve_share=0.2)
        self.exchanges = self.adapter(url)
        self.entering = self.exchanges.of(ACCOUNT, Urgency.ENTER)
        self.protecting = self.exchanges.of(ACCOUNT, Urgency.PROTECT)

    def adapter(self, url: str) -> BinanceExchanges:
        addresses = Addresses(rest=url, streams=url.replace("http", "ws"), spot=url)
        return BinanceExchanges(OpenKeys(), addresses, self.budget, FewMarks(), self.clock)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    exchange = TinyExchange()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", exchange.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Bench(exchange, f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield made
    finally:
        await made.exchanges.close()
        await runner.cleanup()
