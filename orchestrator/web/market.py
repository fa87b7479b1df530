"""The newest mark prices that this process knows: from the worker's broadcast, else asked of the engine.

What is shown may be some seconds old and says so; nothing is decided on it here. A symbol without a price is absent, never zero.
"""

import asyncio
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import batched
from typing import Any

import msgspec

from orchestrator.errors import EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Clock, Mark, MarketSource
from shared.analysis import Liquidation, WhalesReply
from shared.wire import parse_plain

LOST_AFTER = timedelta(seconds=30)
"""Older than that a price is unknown. Source: dashboard design, "States"."""

ASK_AFTER = timedelta(seconds=4)
"""The broadcast comes each second; when it stays out, the engine is asked."""

ASK_EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 1.5
"""Here prices are shown, not decided on: a page says that one is unknown rather than wait for an engine that stands still."""

ASKED_AT_ONCE = 500
"""The engine answers for a thousand symbols at most; what many pages watch together must not cost the held ones their price."""

WHALES_SECONDS = 2.0
LIQUIDATIONS_KEPT = 50


class Market:
    """Implements the port Prices; also the whale feed, kept for a moment."""

    def __init__(self, source: MarketSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._marks: dict[str, Mark] = {}
        self._asked: dict[str, float] = {}
        self._whales: WhalesReply | None = None
        self._liquidations: dict[tuple[str, datetime, Decimal], Liquidation] = {}
        self._whales_asked = -WHALES_SECONDS

    def observe(self, marks: dict[str, Any]) -> None:
        """Take over a broadcast: {symbol: {"mark_price", "age_ms"}}; a malformed price is skipped."""
        now = self._clock.wall()
        for symbol, found in marks.items():
            try:
                price = parse_plain(found["mark_price"])
                self._keep(symbol, price, now - timedelta(milliseconds=float(found.get("age_ms", 0))))
            except (ValueError, KeyError, TypeError):
                logger().warning("a broadcast mark could not be read", symbol=symbol)

    async def marks(self, symbols: Collection[str]) -> dict[str, Mark]:
        """Marks of these symbols, none older than LOST_AFTER; the engine is asked for those the broadcast does not give."""
        now = time.monotonic()
        self._asked = {symbol: at for symbol, at in self._asked.items() if now - at < ASK_EVERY_SECONDS}
        old = [symbol for symbol in symbols if symbol not in self._asked and not self._younger(symbol, ASK_AFTER)]
        self._asked |= dict.fromkeys(old, now)
        for some in batched(old, ASKED_AT_ONCE):
            await self._ask(some)
        return {symbol: self._marks[symbol] for symbol in symbols if self._younger(symbol, LOST_AFTER)}

    def known(self, symbols: Collection[str]) -> dict[str, Mark]:
        """As `marks`, without asking anybody."""
        return {symbol: self._marks[symbol] for symbol in symbols if self._younger(symbol, LOST_AFTER)}

    async def whales(self) -> WhalesReply | None:
        """The whale feed, at most WHALES_SECONDS old; None when the engine does not answer."""
        if time.monotonic() - self._whales_asked >= WHALES_SECONDS:
            self._whales_asked = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    self._whales = await self._source.whales()
                self._remember(self._whales.recent)
            except (EngineUnavailable, msgspec.MsgspecError, TimeoutError) as error:
                logger().info("the whale feed is not there", error=str(error) or type(error).__name__)
                self._whales = None
        return self._whales

    def whales_moved(self) -> None:
        """The worker told of a forced order: whoever looks next asks anew."""
        self._whales_asked = -WHALES_SECONDS

    def liquidations(self) -> list[Liquidation]:
        """The newest forced orders that this process has seen, newest first; the feed itself forgets them after five minutes."""
        return sorted(self._liquidations.values(), key=lambda order: order.at, reverse=True)

    def _remember(self, seen: list[Liquidation]) -> None:
        self._liquidations |= {(order.symbol, order.at, order.quantity): order for order in seen}
        for order in self.liquidations()[LIQUIDATIONS_KEPT:]:
            del self._liquidations[order.symbol, order.at, order.quantity]

    async def _ask(self, symbols: Collection[str]) -> None:
        now = self._clock.now()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reply = await self._source.marks(dict.fromkeys(symbols, now))
        except (EngineUnavailable, msgspec.MsgspecError, TimeoutError) as error:
            logger().info("the engine gave no marks", error=str(error) or type(error).__name__)
            return
        wall = self._clock.wall()
        for symbol, mark in reply.marks.items():
            self._keep(symbol, mark.mark, wall - timedelta(milliseconds=mark.age_ms))

    def _keep(self, symbol: str, price: Decimal, at: datetime) -> None:
        before = self._marks.get(symbol)
        if before is None or before.at <= at:
            self._marks[symbol] = Mark(price=price, at=at)

    def _younger(self, symbol: str, age: timedelta) -> bool:
        mark = self._marks.get(symbol)
        return mark is not None and self._clock.wall() - mark.at <= age
