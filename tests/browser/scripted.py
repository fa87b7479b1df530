"""The orchestrator as it runs, app and worker as processes on real servers, with an engine whose market a test moves by hand."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

import httpx
from aiohttp import web

from deploy.servers import free_port
from shared.analysis import Bar, Liquidation, LiquidationPressure, MarksReply, SymbolMarks, WhaleSignal, WhalesReply, WhaleView
from shared.enums import ExecutionStatus, Side
from shared.execution import CloseRequest, ExecutionReport, Fill, OrderSide, Protection, ProtectReport, ProtectRequest
from shared.wire import decode, encode
from tests.integration.stub_engine import PRICE, StubEngine
from tests.polling import eventually

SECRET = "a secret of thirty-two bytes or more, for tests"


class ScriptedEngine(StubEngine):
    """A stub whose mark trembles around `mark`, and which closes what it is asked to close."""

    def __init__(self, start: datetime, speed: float) -> None:
        super().__init__(start, speed)
        self.mark = PRICE
        self.frozen = False

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["ScriptedEngine"]:
        app = web.Application()
        app.router.add_get("/sandbox/clock", self._clock)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/whales", self._whales)
        app.router.add_post("/analyze", self._analyze)
        app.router.add_post("/marks", self._marks)
        app.router.add_post("/execute/entry", self._enter)
        app.router.add_post("/execute/close", self._close)
        app.router.add_post("/execute/protect", self._protect)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _marks(self, request: web.Request) -> web.Response:
        since = decode(await request.read(), dict[str, dict[str, datetime]])["since"]
        if self.frozen:
            return _reply(MarksReply(as_of=self.now(), marks={}, missing=dict.fromkeys(since, "price_unknown")))
        now, mark = self.now(), self.mark + Decimal(int(time.time() * 4) % 9) / 100
        marks = {}
        for symbol, moment in since.items():
            bars = [Bar(from_=moment, to=now, open=mark, high=mark, low=mark)] if moment < now else []
            marks[symbol] = SymbolMarks(mark=mark, as_of=now, age_ms=5, bars=bars, funding=[], since=max(moment, now))
        return _reply(MarksReply(as_of=now, marks=marks, missing={}))

    async def _close(self, request: web.Request) -> web.Response:
        asked = decode(await request.read(), CloseRequest)
        held = next((item.quantity for item in asked.account.book.positions if item.symbol == asked.symbol), Decimal(0))  # type: ignore[union-attr]
        quantity, price = asked.quantity or held, asked.trigger.price if asked.trigger else self.mark
        now = asked.trigger.at if asked.trigger else self.now()
        fill = Fill(trade_id=asked.client_order_id, price=price, quantity=quantity, fee=Decimal("0.5"), maker=False, at=now)
        return _reply(
            ExecutionReport(
                client_order_id=asked.client_order_id,
                venue="paper",
                dry_run=False,
                status=ExecutionStatus.FILLED,
                symbol=asked.symbol,
                side=asked.side,
                order_side=OrderSide.SELL,
                reduce_only=True,
                requested_quantity=quantity,
                filled_quantity=quantity,
                average_price=price,
                fills=[fill],
                as_of=now,
            )
        )

    async def _protect(self, request: web.Request) -> web.Response:
        asked = decode(await request.read(), ProtectRequest)
        stop = asked.stop_loss or Decimal(98)
        rests = Protection(stop_loss=stop, take_profit=asked.take_profit, confirmed_at=self.now())
        return _reply(ProtectReport(status=ExecutionStatus.FILLED, protection=rests, as_of=self.now()))

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "sources": {"feed": {"ok": True, "age_ms": 300}}})

    async def _whales(self, _request: web.Request) -> web.Response:
        view = WhaleView(
            symbol="SOLUSDT",
            signal=WhaleSignal.DUMP_IMMINENT,
            confidence=70,
            pressure=LiquidationPressure.LONG_HEAVY,
            long_liquidations_usd=1_240_000.0,
            short_liquidations_usd=40_300.0,
            pump_points=1,
            dump_points=4,
            reasons=["longs liquidated"],
        )
        seen = Liquidation(
            symbol="SOLUSDT", side=Side.LONG, price=Decimal(142), quantity=Decimal(700), usd=99_400.0, at=self.now()
        )
        return _reply(WhalesReply(as_of=self.now(), feed_age_ms=300, views=[view], recent=[seen]))


class Services:
    """App and worker as children of the test; ended with the context, whatever happened."""

    def __init__(self, database_url: str, redis_url: str, engine: ScriptedEngine) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ENGINE_URL": engine.url,
            "ENGINE_TOKEN": "token",
            "MARKET_CLOCK_URL": engine.url,
            "JWT_SECRET": SECRET,
            "SECURE_COOKIES": "false",
            "ORCHESTRATOR_PORT": str(self.port),
            "LOG_FORMAT": "text",
        }
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._readers: list[asyncio.Task[None]] = []
        self.log: list[str] = []

    async def __aenter__(self) -> "Services":
        try:
            await self.start("worker")
            await self.start("app")
        except BaseException:
            await self.stop_all()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()

    async def stop_all(self) -> None:
        """Ends what runs."""
        for name in list(self._running):
            await self.stop(name)

    async def start(self, name: str) -> None:
        """Starts a process; the app is waited for."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"orchestrator.{name}",
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._running[name] = process
        self._readers.append(asyncio.create_task(self._read(name, process)))
        if name == "app":
            try:
                await eventually(self._answers, seconds=30, what="the app to answer")
            except AssertionError as error:
                error.add_note("\n".join(self.log[-20:]))
                raise

    async def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL for the whole group when it does not end."""
        process = self._running.pop(name)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(8):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def faults(self) -> list[str]:
        """What was logged as an error or worse."""
        return [line for line in self.log if "[error" in line or "[critical" in line or "Traceback" in line]

    async def _answers(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{self.url}/health", timeout=1)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.log.append(f"{name}: {line.decode(errors='replace').rstrip()}")


def _reply(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")
