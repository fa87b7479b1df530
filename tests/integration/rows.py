"""Rows for a real database: people and their trades as trading would have booked them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import insert

from orchestrator.ports import NewUser
from orchestrator.store.database import Database
from orchestrator.store.logins import SqlLogins
from orchestrator.store.tables import Fill, LedgerEntry, Order, Position, Refusal, Scan, Signal
from tests.builders import instrument

NOON = datetime(2025, 9, 22, 12, 0, tzinfo=UTC)


async def person(database: Database, name: str, role: str = "USER") -> UUID:
    """Somebody with the opening deposit of 10,000."""
    user = NewUser(id=uuid4(), username=name, password_hash="-", role=role, created_at=NOON - timedelta(days=2))
    assert await SqlLogins(database).add_user(user)
    return user.id


async def put(database: Database, table: type[Any], **values: Any) -> None:
    """One row."""
    async with database.session() as session, session.begin():
        await session.execute(insert(table).values(**values))


async def signal(database: Database, symbol: str = "BTCUSDT", at: datetime = NOON) -> UUID:
    """A signal with its scan."""
    scan_id, signal_id = uuid4(), uuid4()
    rules = msgspec.to_builtins(instrument(symbol, tick_size=Decimal("0.10")))
    await put(
        database, Scan, id=scan_id, candle_close=at, as_of=at, universe=120, screened=30, candidates=[], signals=1,
        rejections={"no_score": 3}, timings_ms={"total": 12.5}, wall_ms=20.0, analyst="rules", trace_id="t",
    )  # fmt: skip
    await put(
        database, Signal, id=signal_id, scan_id=scan_id, symbol=symbol, side="LONG", confidence=80,
        signal_price=Decimal(100), stop_loss=Decimal(95), take_profit=Decimal(110), reward_risk=2.0, reasoning="It rises.",
        analyst="rules", features={"rsi": 60.0}, whale=None, instrument=rules, candle_close=at,
        created_at=at, trace_id="t",
    )  # fmt: skip
    return signal_id


async def position(database: Database, user_id: UUID, **changes: Any) -> UUID:
    """An open position: 10 units long from 100 at 10x, 100 of margin."""
    values: dict[str, Any] = {
        "id": uuid4(), "user_id": user_id, "signal_id": None, "symbol": "BTCUSDT", "side": "LONG", "mode": "PAPER",
        "dry_run": False, "status": "OPEN", "size": Decimal(10), "opened_size": Decimal(10), "entry_price": Decimal(100),
        "stop_loss": Decimal(95), "take_profit": Decimal(110), "leverage": Decimal(10), "margin": Decimal(100),
        "isolated_margin": Decimal(100), "maintenance_ratio": Decimal("0.004"), "maintenance_amount": Decimal(0),
        "liquidation_fee_ratio": Decimal("0.0125"), "liquidation_price": Decimal("90.36"), "tick_size": Decimal("0.10"),
        "step_size": Decimal("0.001"), "realized_pnl": Decimal(0), "fees": Decimal("0.5"), "funding": Decimal(0),
        "judged_until": NOON, "funded_until": NOON, "opened_at": NOON,
    }  # fmt: skip
    values |= changes
    await put(database, Position, **values)
    return UUID(str(values["id"]))


async def order(database: Database, user_id: UUID, signal_id: UUID, status: str, **changes: Any) -> UUID:
    """An entry order of a signal."""
    order_id = uuid4()
    values: dict[str, Any] = {
        "id": order_id, "client_order_id": f"nt-e-{order_id.hex[:26]}", "user_id": user_id, "signal_id": signal_id,
        "purpose": "ENTRY", "status": status, "symbol": "BTCUSDT", "side": "LONG", "mode": "PAPER", "dry_run": False,
        "margin": Decimal(100), "notional": Decimal(1000), "leverage": Decimal(10), "trace_id": "t", "created_at": NOON,
    }  # fmt: skip
    await put(database, Order, **(values | changes))
    return order_id


async def opening_fill(database: Database, user_id: UUID, position_id: UUID, order_id: UUID) -> None:
    """The whole of what `position` holds, bought at once."""
    await put(
        database, Fill, order_id=order_id, position_id=position_id, user_id=user_id, trade_id="1", mode="PAPER", opens=True,
        price=Decimal(100), quantity=Decimal(10), fee=Decimal("0.5"), realized_pnl=Decimal(0), liquidation_fee=Decimal(0), at=NOON,
        trace_id="t",
    )  # fmt: skip


async def booked(database: Database, user_id: UUID, amounts: list[str], **changes: Any) -> None:
    """Changes of the wallet, a minute apart from noon on."""
    balance = Decimal(10_000)
    for number, amount in enumerate(amounts):
        balance += Decimal(amount)
        values: dict[str, Any] = {
            "user_id": user_id, "mode": "PAPER", "at": NOON + timedelta(minutes=number), "kind": "REALIZED_PNL",
            "amount": Decimal(amount), "balance_after": balance, "source": f"test:{uuid4()}", "position_id": None,
        }  # fmt: skip
        await put(database, LedgerEntry, **(values | changes))


async def refusal(database: Database, user_id: UUID | None, signal_id: UUID, reason: str) -> None:
    """Why a signal was not traded."""
    await put(
        database, Refusal, user_id=user_id, signal_id=signal_id, symbol="BTCUSDT", reason=reason, detail="Because.", at=NOON,
        trace_id="t",
    )  # fmt: skip
