"""An engine that says what a test tells it to, on a real port; and the market clock beside it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from aiohttp import web

from shared.analysis import AnalyzeReply, MarksReply, Signal, SymbolMarks
from shared.enums import AnalystKind, ExecutionStatus, OrderLookup, Side
from shared.execution import EntryRequest, ExecutionReport, Fill, OrderReply, OrderSide, Protection
from shared.wire import decode, encode
from tests.integration.store_rows import INSTRUMENT

PRICE = Decimal("100.5")


class StubEngine:
    """Answers /analyze with one signal for each of `symbols`, once; /marks with a price that stands still; fills every entry whole.

    While `silence` is not set, entries are filled and not answered; with `loses_entries` they are not filled either.
    """

    def __init__(self, start: datetime, speed: float) -> None:
        self.start_ms = start.timestamp() * 1000
        self.wall_ms = time.time() * 1000
        self.speed = speed
        self.symbols: list[str] = []
        self.away = False
        self.calls: list[tuple[str, str]] = []
        self.reports: dict[str, ExecutionReport] = {}
        self.silence: asyncio.Event | None = None
        self.loses_entries = False
        self.unanswered = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def now(self) -> datetime:
        return datetime.fromtimestamp((self.start_ms + (time.time() * 1000 - self.wall_ms) * self.speed) / 1000, UTC)

    def count(self, path: str) -> int:
        return sum(1 for called, _ in self.calls if called == path)

    def traces(self, path: str) -> list[str]:
        return [trace for called, trace in self.calls if called == path]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["StubEngine"]:
        app = web.Application()
        app.router.add_get("/sandbox/clock", self._clock)
        app.router.add_post("/analyze", self._analyze)
        app.router.add_post("/marks", self._marks)
        app.router.add_post("/execute/entry", self._enter)
        app.router.add_post("/execute/orders/{id}", self._order)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _clock(self, _request: web.Request) -> web.Response:
        return web.json_response({"base_market_ms": self.start_ms, "base_wall_ms": self.wall_ms, "speed": self.speed})

    async def _analyze(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.away:
            return web.Response(status=503)
        symbols, self.symbols = self.symbols, []
        reply = AnalyzeReply(
            as_of=self.now(),
            universe=482,
            screened=60,
            analyst=AnalystKind.RULES,
            candidates=[],
            signals=[self._signal(symbol) for symbol in symbols],
            rejections=[],
            timings_ms={"total": 1.0},
        )
        return _reply(reply)

    async def _marks(self, request: web.Request) -> web.Response:
        self._note(request)
        since = decode(await request.read(), dict[str, dict[str, datetime]])["since"]
        marks = {
            symbol: SymbolMarks(mark=PRICE, as_of=self.now(), age_ms=5, bars=[], funding=[], since=moment)
            for symbol, moment in since.items()
        }
        return _reply(MarksReply(as_of=self.now(), marks=marks, missing={}))

    async def _enter(self, request: web.Request) -> web.Response:
        self._note(request)
        asked = decode(await request.read(), EntryRequest)
        silent = self.silence is not None and not self.silence.is_set()
        if not (silent and self.loses_entries):
            self.reports.setdefault(asked.client_order_id, self._filled(asked))
        if self.silence is not None and silent:
            self.unanswered += 1
            await self.silence.wait()
            return web.Response(status=503)
        return _reply(self.reports[asked.client_order_id])

    async def _order(self, request: web.Request) -> web.Response:
        self._note(request)
        report = self.reports.get(request.match_info["id"])
        state = OrderLookup.FILLED if report else OrderLookup.NOT_FOUND
        return _reply(OrderReply(client_order_id=request.match_info["id"], state=state, report=report))

    def _filled(self, asked: EntryRequest) -> ExecutionReport:
        quantity = (asked.amount_usdt / PRICE).quantize(Decimal("0.001"))
        now = self.now()
        fill = Fill(trade_id="1", price=PRICE, quantity=quantity, fee=Decimal("0.5"), maker=False, at=now)
        return ExecutionReport(
            client_order_id=asked.client_order_id,
            venue="paper",
            dry_run=False,
            status=ExecutionStatus.FILLED,
            symbol=asked.symbol,
            side=asked.side,
            order_side=OrderSide.BUY,
            reduce_only=False,
            leverage=asked.leverage,
            requested_quantity=quantity,
            filled_quantity=quantity,
            average_price=PRICE,
            fills=[fill],
            protection=Protection(stop_loss=asked.stop_loss, take_profit=asked.take_profit, confirmed_at=now),
            margin=quantity * PRICE / asked.leverage,
            liquidation_price=Decimal("90.9"),
            maintenance_ratio=Decimal("0.004"),
            maintenance_amount=Decimal(0),
            as_of=now,
        )

    def _signal(self, symbol: str) -> Signal:
        now = self.now()
        return Signal(
            symbol=symbol,
            side=Side.LONG,
            confidence=90,
            signal_price=PRICE,
            stop_loss=Decimal(98),
            take_profit=Decimal(106),
            reward_risk=2.2,
            reasoning="volume and trend agree",
            analyst=AnalystKind.RULES,
            candle_close=now - (now - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(minutes=15),
            price_at=now,
            features={},
            instrument=msgspec.structs.replace(INSTRUMENT, symbol=symbol),
        )

    def _note(self, request: web.Request) -> None:
        self.calls.append((request.path, request.headers.get("X-Trace-Id", "")))


def _reply(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")
