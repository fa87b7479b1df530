"""Rows for the store's tests: one user, one signal, one order, one position, each with sane values."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import sqlalchemy as sa

from orchestrator.core.ledger import EntryKind
from orchestrator.core.order import OrderPurpose, OrderStatus, RefusalReason, client_order_id
from orchestrator.core.position import PositionStatus
from orchestrator.ports import (
    ClaimRecord,
    FillRecord,
    LedgerRecord,
    OrderRecord,
    PositionRecord,
    RefusalRecord,
    ScanRecord,
    SignalRecord,
)
from orchestrator.store.database import Database
from orchestrator.store.unit_of_work import SqlTransactions
from shared.analysis import Instrument
from shared.enums import BracketsSource, Mode, Side
from shared.margin import Bracket

NOW = datetime(2025, 9, 22, 6, 0, tzinfo=UTC)
INSTRUMENT = Instrument(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    step_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    max_quantity=Decimal(1000),
    min_notional=Decimal(100),
    brackets=[
        Bracket(floor=Decimal(0), cap=Decimal(50_000), max_leverage=125, maintenance_ratio=Decimal("0.004"), cum=Decimal(0))
    ],
    brackets_source=BracketsSource.RECORDED,
    liquidation_fee_ratio=Decimal("0.0125"),
)


async def add_user(database: Database, name: str = "ada") -> UUID:
    """A user with 10,000 on paper, booked as its opening deposit."""
    user_id = uuid4()
    users = sa.table(
        "users",
        *map(
            sa.column,
            (
                "id",
                "username",
                "password_hash",
                "paper_balance",
                "fixed_order_size",
                "leverage",
                "auto_trade_enabled",
                "max_daily_loss",
                "max_positions",
                "max_exposure",
                "created_at",
            ),
        ),
    )
    async with database.engine.begin() as connection:
        await connection.execute(
            sa.insert(users),
            {
                "id": user_id,
                "username": name,
                "password_hash": "-",
                "paper_balance": Decimal(10_000),
                "fixed_order_size": Decimal(100),
                "leverage": Decimal(10),
                "auto_trade_enabled": True,
                "max_daily_loss": Decimal(500),
                "max_positions": 10,
                "max_exposure": Decimal(20_000),
                "created_at": NOW,
            },
        )
    async with SqlTransactions(database)() as unit:
        await unit.ledger.add(entry(user_id, Decimal(10_000), Decimal(10_000), "opening", kind=EntryKind.DEPOSIT))
        await unit.commit()
    return user_id


async def add_signal(database: Database, **changes: object) -> SignalRecord:
    """A scan with its one signal."""
    made = scan()
    kept = msgspec.structs.replace(signal(made.id), **changes)
    async with SqlTransactions(database)() as unit:
        await unit.scans.add(made)
        assert await unit.signals.add(kept)
        await unit.commit()
    return kept


def scan() -> ScanRecord:
    return ScanRecord(
        id=uuid4(),
        candle_close=NOW,
        as_of=NOW,
        universe=482,
        screened=60,
        candidates=[{"symbol": "BTCUSDT", "score": 7.5}],
        signals=1,
        rejections={"low_change": 400},
        timings_ms={"total": 120.5},
        wall_ms=130.25,
        analyst="rules",
        trace_id="t1",
        fallbacks=["tickers from REST"],
    )


def signal(scan_id: UUID) -> SignalRecord:
    return SignalRecord(
        id=uuid4(),
        scan_id=scan_id,
        symbol="BTCUSDT",
        side=Side.LONG,
        confidence=80,
        signal_price=Decimal("100.5"),
        stop_loss=Decimal(98),
        take_profit=Decimal(106),
        reward_risk=2.2,
        reasoning="volume and trend agree",
        analyst="rules",
        features={"rsi": 61.5, "ema200": None},
        whale=None,
        instrument=INSTRUMENT,
        candle_close=NOW,
        created_at=NOW,
        trace_id="t1",
    )


def order(user_id: UUID, **changes: object) -> OrderRecord:
    order_id = uuid4()
    made = OrderRecord(
        id=order_id,
        client_order_id=client_order_id(OrderPurpose.ENTRY, order_id.bytes),
        user_id=user_id,
        signal_id=None,
        purpose=OrderPurpose.ENTRY,
        status=OrderStatus.CLAIMED,
        symbol="BTCUSDT",
        side=Side.LONG,
        mode=Mode.PAPER,
        dry_run=False,
        margin=Decimal(100),
        notional=Decimal(1000),
        leverage=Decimal(10),
        request={"amount_usdt": "1000"},
        trace_id="t1",
        created_at=NOW,
        carried_until=NOW + timedelta(seconds=30),
    )
    return msgspec.structs.replace(made, **changes)


def claim(made: OrderRecord) -> ClaimRecord:
    return ClaimRecord(
        user_id=made.user_id,
        symbol=made.symbol,
        mode=made.mode,
        order_id=made.id,
        margin=made.margin,
        notional=made.notional,
        created_at=NOW,
    )


def position(user_id: UUID, **changes: object) -> PositionRecord:
    made = PositionRecord(
        id=uuid4(),
        user_id=user_id,
        signal_id=None,
        symbol="BTCUSDT",
        side=Side.LONG,
        mode=Mode.PAPER,
        dry_run=False,
        status=PositionStatus.OPEN,
        size=Decimal("9.95"),
        opened_size=Decimal("9.95"),
        entry_price=Decimal("100.5"),
        stop_loss=Decimal(98),
        take_profit=Decimal(106),
        leverage=Decimal(10),
        margin=Decimal(100),
        isolated_margin=Decimal(100),
        maintenance_ratio=Decimal("0.004"),
        maintenance_amount=Decimal(0),
        liquidation_fee_ratio=Decimal("0.0125"),
        liquidation_price=Decimal("90.9"),
        tick_size=Decimal("0.1"),
        step_size=Decimal("0.001"),
        realized_pnl=Decimal(0),
        fees=Decimal("0.5"),
        funding=Decimal(0),
        judged_until=NOW,
        funded_until=NOW,
        opened_at=NOW,
    )
    return msgspec.structs.replace(made, **changes)


def fill(made: OrderRecord, opened: PositionRecord, trade_id: str = "1") -> FillRecord:
    return FillRecord(
        order_id=made.id,
        position_id=opened.id,
        user_id=made.user_id,
        trade_id=trade_id,
        mode=made.mode,
        opens=True,
        price=Decimal("100.5"),
        quantity=Decimal("9.95"),
        fee=Decimal("0.5"),
        realized_pnl=Decimal(0),
        liquidation_fee=Decimal(0),
        at=NOW,
        trace_id="t1",
    )


def entry(
    user_id: UUID, amount: Decimal, balance: Decimal, source: str, *, kind: EntryKind = EntryKind.FEE, at: datetime = NOW
) -> LedgerRecord:
    return LedgerRecord(
        user_id=user_id, mode=Mode.PAPER, at=at, kind=kind, amount=amount, balance_after=balance, source=source, position_id=None
    )


def refusal(user_id: UUID | None, signal_id: UUID | None) -> RefusalRecord:
    return RefusalRecord(
        user_id=user_id,
        signal_id=signal_id,
        symbol="BTCUSDT",
        reason=RefusalReason.RECENT_SIGNAL,
        detail="a signal for it is 20 minutes old",
        at=NOW,
        trace_id="t1",
    )
