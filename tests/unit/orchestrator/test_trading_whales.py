"""What the pages are told of forced orders."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from orchestrator.errors import EngineUnavailable
from orchestrator.trading.whales import TOLD_AT_ONCE, Whales
from shared.analysis import Liquidation, LiquidationPressure, WhaleSignal, WhalesReply, WhaleView
from shared.enums import Side

NOW = datetime(2026, 9, 22, 14, 0, tzinfo=UTC)


class Window:
    """An engine that has seen some forced orders, or is away."""

    def __init__(self) -> None:
        self.recent: list[Liquidation] = []
        self.away = False

    async def whales(self) -> WhalesReply:
        if self.away:
            raise EngineUnavailable("/whales: ConnectError")
        view = WhaleView(
            symbol="SOLUSDT",
            signal=WhaleSignal.DUMP_IMMINENT,
            confidence=70,
            pressure=LiquidationPressure.LONG_HEAVY,
            long_liquidations_usd=1_000.0,
            short_liquidations_usd=0.0,
            pump_points=0,
            dump_points=4,
            reasons=[],
        )
        return WhalesReply(as_of=NOW, feed_age_ms=300, views=[view], recent=self.recent)


class Heard:
    """A bus that keeps what was said."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID | None, str, dict[str, Any]]] = []

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        self.told.append((user_id, event, data))


def forced(second: int, symbol: str = "SOLUSDT") -> Liquidation:
    at = NOW + timedelta(seconds=second)
    return Liquidation(symbol=symbol, side=Side.LONG, price=Decimal(142), quantity=Decimal(700), usd=99_400.5, at=at)


def rounds(window: Window, *seen: list[Liquidation]) -> Heard:
    heard = Heard()
    whales = Whales(window, heard)

    async def all_rounds() -> None:
        for recent in seen:
            window.recent = recent
            await whales.run()

    asyncio.run(all_rounds())
    return heard


def test_everyone_is_told_once_of_a_forced_order_that_is_new() -> None:
    heard = rounds(Window(), [forced(0)], [forced(0), forced(1)], [forced(0), forced(1)])
    assert heard.told == [
        (
            None,
            "whales",
            {
                "at": NOW + timedelta(seconds=1),
                "symbol": "SOLUSDT",
                "kind": "liquidation",
                "side": Side.LONG,
                "usd": "99400.50",
                "state": WhaleSignal.DUMP_IMMINENT,
            },
        )
    ]


def test_a_cascade_tells_of_its_newest_orders_only() -> None:
    heard = rounds(Window(), [], [forced(second, "BTCUSDT") for second in range(30)])
    assert [data["at"].second for _, _, data in heard.told] == [26, 27, 28, 29]
    assert len(heard.told) == TOLD_AT_ONCE
    assert {data["state"] for _, _, data in heard.told} == {WhaleSignal.NEUTRAL}


def test_an_engine_that_is_away_is_quiet() -> None:
    window = Window()
    window.away = True
    assert rounds(window, [], []).told == []
