"""The control surface under /sandbox/, which Binance does not have: clock, health, forced orders and price shocks by hand."""

from typing import Any

import msgspec
from aiohttp import web

from deploy.sandbox.control_bodies import answered, body_of, unfit
from deploy.sandbox.core.errors import Rejected, out_of_range
from deploy.sandbox.core.market import Liquidation
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.rest import reply

LEAST_SHOCK, MOST_SHOCK = -90.0, 300.0
"""Percent."""


class Injection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forced order to tell about now. A SELL closes a long."""

    symbol: str
    side: str
    quantity: str
    price: str


class Shock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move within the next 15m candle that stays; no symbol means all."""

    percent: float
    symbol: str | None = None


class ClockChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another speed from now on; 0 stands still."""

    speed: float


class Control:
    """The control door.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[web.RouteDef]:
        """The control paths."""
        return [
            web.get("/sandbox/health", self.health),
            web.get("/sandbox/clock", self.clock),
            web.post("/sandbox/clock", answered(self.change_clock)),
            web.post("/sandbox/liquidations", answered(self.liquidate)),
            web.post("/sandbox/shocks", answered(self.shock)),
        ]

    async def health(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's handler shape
        """200 when serving."""
        return reply({"status": "ok"})

    async def clock(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's handler shape
        """Both clocks and the three numbers that tie them."""
        return reply(self._told())

    async def change_clock(self, request: web.Request) -> web.Response:
        """Change the speed; the moment stays."""
        wanted = await body_of(request, ClockChange)
        if not 0 <= wanted.speed <= 1e6:
            raise Rejected(-1130, "speed must be between 0 and 1000000")
        exchange = self._exchange
        exchange.clock = exchange.clock.rebased(exchange.wall_ms(), wanted.speed)
        return reply(self._told())

    async def liquidate(self, request: web.Request) -> web.Response:
        """Tell about a forced order as if it happened now."""
        wanted = await body_of(request, Injection)
        try:
            item = self._forced(wanted)
        except ValueError as error:
            raise unfit(error) from error
        self._exchange.market.injected.append(item)
        return reply(item.order, 201)

    async def shock(self, request: web.Request) -> web.Response:
        """Bend the tape from its next candle on; forgotten by a restart without a journal."""
        wanted = await body_of(request, Shock)
        if not LEAST_SHOCK <= wanted.percent <= MOST_SHOCK:
            raise out_of_range("percent")
        now = self._exchange.now()
        opens = self.shocked(msgspec.to_builtins(wanted), now)
        self._exchange.record("shock", now, msgspec.to_builtins(wanted))
        return reply({"symbol": wanted.symbol, "percent": wanted.percent, "from_ms": opens}, 201)

    def shocked(self, given: dict[str, Any], now: int) -> int:
        """Bend the tape as a deed says; returns from when."""
        return self._exchange.market.shock(given["symbol"], 1 + given["percent"] / 100, now)

    def _forced(self, wanted: Injection) -> Liquidation:
        # One millisecond ahead: the stream tells what lies after its last look.
        now = self._exchange.now() + 1
        self._exchange.market.trading(wanted.symbol, now - 1)
        if wanted.side not in ("BUY", "SELL"):
            raise ValueError("side must be BUY or SELL")
        order: dict[str, Any] = {"s": wanted.symbol, "S": wanted.side, "o": "LIMIT", "f": "IOC", "q": wanted.quantity}
        order |= {"p": wanted.price, "ap": wanted.price, "X": "FILLED", "l": wanted.quantity, "z": wanted.quantity, "T": now}
        notional = float(wanted.quantity) * float(wanted.price)
        return Liquidation(time_ms=now, symbol=wanted.symbol, notional=notional, order=order, synthetic=True)

    def _told(self) -> dict[str, Any]:
        exchange = self._exchange
        clock, wall = exchange.clock, exchange.wall_ms()
        now = clock.market_ms(wall)
        return {
            "market_ms": now,
            "wall_ms": wall,
            "speed": clock.speed,
            "base_market_ms": clock.base_market_ms,
            "base_wall_ms": clock.base_wall_ms,
            "ends_ms": clock.ends_ms,
            "seed": exchange.options.seed,
            "symbols": len(exchange.market.live(now)),
            "liquidations": "synthetic" if exchange.market.recorded is None else "recorded",
        }
