"""Values for tests, each with sensible defaults and overridable field by field."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from orchestrator.core.position import Position, PositionStatus
from orchestrator.ports import Trader
from shared.analysis import Bar, FundingEvent, Instrument, Signal
from shared.enums import AnalystKind, BracketsSource, Mode, Side
from shared.execution import SealedCredentials
from shared.margin import Bracket

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
USER = UUID(int=1)


def d(text: str | int) -> Decimal:
    return Decimal(text)


def at(clock: str, day: datetime = NOON) -> datetime:
    """A moment of the day, "12:05" or "12:05:30"."""
    parts = [int(part) for part in clock.split(":")]
    return day.replace(hour=parts[0], minute=parts[1], second=parts[2] if len(parts) > 2 else 0)


def brackets() -> list[Bracket]:
    return [
        Bracket(floor=d(0), cap=d(50_000), max_leverage=50, maintenance_ratio=d("0.01"), cum=d(0)),
        Bracket(floor=d(50_000), cap=d(250_000), max_leverage=20, maintenance_ratio=d("0.025"), cum=d(750)),
    ]


def instrument(symbol: str = "SOLUSDT", **changes: Any) -> Instrument:
    values: dict[str, Any] = {
        "symbol": symbol,
        "tick_size": d("0.01"),
        "step_size": d("0.1"),
        "min_quantity": d("0.1"),
        "max_quantity": d(100_000),
        "min_notional": d(5),
        "brackets": brackets(),
        "brackets_source": BracketsSource.RECORDED,
        "liquidation_fee_ratio": d("0.0125"),
    }
    return Instrument(**(values | changes))


def signal(symbol: str = "SOLUSDT", side: Side = Side.LONG, **changes: Any) -> Signal:
    long = side is Side.LONG
    values: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "confidence": 80,
        "signal_price": d(100),
        "stop_loss": d(98) if long else d(102),
        "take_profit": d(104) if long else d(96),
        "reward_risk": 2.0,
        "reasoning": "higher lows on rising volume",
        "analyst": AnalystKind.RULES,
        "candle_close": NOON,
        "price_at": NOON,
        "features": {"rsi": 61.0},
        "whale": None,
        "instrument": instrument(symbol),
    }
    return Signal(**(values | changes))


def trader(number: int = 1, **changes: Any) -> Trader:
    values: dict[str, Any] = {
        "id": UUID(int=number),
        "mode": Mode.PAPER,
        "fixed_order_size": d(100),
        "leverage": d(10),
        "auto_trade_enabled": True,
        "max_daily_loss": d(500),
        "max_positions": 10,
        "max_exposure": d(20_000),
        "paper_balance": d(10_000),
    }
    if changes.get("mode") is Mode.REAL:
        values["credentials"] = SealedCredentials(key_id="k1", sealed="c2VhbGVk")
    return Trader(**(values | changes))


def position(side: Side = Side.LONG, **changes: Any) -> Position:
    """10 of SOLUSDT at 100 with 10x: margin 100, liquidated at 90.909…, or 108.910… when short."""
    long = side is Side.LONG
    values: dict[str, Any] = {
        "symbol": "SOLUSDT",
        "side": side,
        "mode": Mode.PAPER,
        "dry_run": False,
        "status": PositionStatus.OPEN,
        "size": d(10),
        "opened_size": d(10),
        "entry_price": d(100),
        "stop_loss": d(98) if long else d(102),
        "take_profit": d(104) if long else d(96),
        "leverage": d(10),
        "margin": d(100),
        "isolated_margin": d(100),
        "maintenance_ratio": d("0.01"),
        "maintenance_amount": d(0),
        "liquidation_fee_ratio": d("0.0125"),
        "liquidation_price": d("90.909090909091") if long else d("108.910891089109"),
        "tick_size": d("0.01"),
        "step_size": d("0.1"),
        "realized_pnl": d(0),
        "fees": d("0.5"),
        "funding": d(0),
        "judged_until": NOON,
        "funded_until": NOON,
        "opened_at": NOON,
    }
    return Position(**(values | changes))


def bar(start: str, end: str, opened: str | int, high: str | int, low: str | int) -> Bar:
    return Bar(from_=at(start), to=at(end), open=d(opened), high=d(high), low=d(low))


def funding(moment: str, rate: str, mark: str | int) -> FundingEvent:
    return FundingEvent(at=at(moment), rate=d(rate), mark=d(mark))
