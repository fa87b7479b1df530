"""Tells the pages of forced orders as they are seen. Decides nothing about money; a feed that is away is simply quiet.

Stands beside the watch: engine's window of liquidations → bus → pages.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from orchestrator.errors import EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Bus
from shared.analysis import Liquidation, WhaleSignal, WhalesReply
from shared.wire import plain

TOLD_AT_ONCE: Final = 4
"""Pages are told of two a second at most; a round comes every two seconds. Source: dashboard design, section 3."""

_CENT: Final = Decimal("0.01")

type _Name = tuple[str, datetime, Decimal]


class WhaleWindow(Protocol):
    """Where the window of forced orders is asked for."""

    async def whales(self) -> WhalesReply:
        """GET /whales."""
        ...


class Whales:
    """Publishes `whales` {at, symbol, kind, side, usd, state} for each forced order that a round sees for the first time."""

    def __init__(self, engine: WhaleWindow, bus: Bus) -> None:
        self._engine = engine
        self._bus = bus
        self._seen: frozenset[_Name] | None = None

    async def run(self) -> None:
        """One look at the window; what the first one finds is old and not told."""
        try:
            reply = await self._engine.whales()
        except EngineUnavailable as error:
            logger().debug("the whale feed is not there", error=str(error))
            return
        seen, before = {_name(order): order for order in reply.recent}, self._seen
        self._seen = frozenset(seen)
        if before is None:
            return
        states = {view.symbol: view.signal for view in reply.views}
        new = [order for name, order in seen.items() if name not in before]
        for order in sorted(new, key=lambda order: order.at)[-TOLD_AT_ONCE:]:
            await self._bus.publish(None, "whales", _told(order, states.get(order.symbol, WhaleSignal.NEUTRAL)))


def _name(order: Liquidation) -> _Name:
    return order.symbol, order.at, order.quantity


def _told(order: Liquidation, state: WhaleSignal) -> dict[str, Any]:
    return {
        "at": order.at,
        "symbol": order.symbol,
        "kind": "liquidation",
        "side": order.side,
        "usd": plain(Decimal(str(order.usd)).quantize(_CENT)),
        "state": state,
    }
