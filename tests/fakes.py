"""Hand-written fakes of trading's ports: a store in memory, a paper engine that can be cut off, clocks, bus, mutex.

`Cuts` numbers every step that leaves the process (before and after each commit, before and after each call of the engine), so that a
test can kill the process at each of them in turn.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from msgspec import structs

from orchestrator.core.audit import AuditKind
from orchestrator.core.ledger import NO_RESULT, EntryKind
from orchestrator.core.order import LIVE as LIVE_ORDERS
from orchestrator.core.order import UNDER_WAY, OrderPurpose, OrderStatus, may_become
from orchestrator.core.position import LIVE, POSITION_TRANSITIONS, PositionStatus
from orchestrator.errors import Conflict, EngineRefused, EngineUnavailable, LeaseLost, StoreUnavailable
from orchestrator.ports import (
    Audit,
    ClaimRecord,
    Claims,
    FillRecord,
    Fills,
    Foreign,
    ForeignRecord,
    FundingRecord,
    Fundings,
    Ledger,
    LedgerRecord,
    OrderRecord,
    Orders,
    PanicReceipt,
    PositionRecord,
    Positions,
    ReceiptRecord,
    Receipts,
    RefusalRecord,
    Refusals,
    ScanRecord,
    Scans,
    SignalRecord,
    Signals,
    Trader,
    Traders,
    TruthRecord,
    Truths,
    Wallet,
)
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules
from shared.analysis import AnalyzeReply, AnalyzeRequest, Bar, FundingEvent, MarksReply, Signal, SymbolMarks
from shared.enums import AnalystKind, ExecutionStatus, Mode, OrderLookup, Side, TriggerKind
from shared.execution import (
    Account,
    AccountEvent,
    BalanceReply,
    CanaryReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    Fill,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    KeyCheckReply,
    OrderReply,
    OrderSide,
    PaperAccount,
    PaperPosition,
    PositionsReply,
    Protection,
    ProtectReport,
    ProtectRequest,
    PublicKeyReply,
    RealAccount,
    ResealRequest,
    SealedCredentials,
    TruthReply,
    TruthRequest,
)
from shared.margin import TAKER_FEE_RATIO, ZERO, floor_to_step, price_pnl
from shared.problem import Problem
from tests.builders import NOON


class Killed(BaseException):
    """The process died here; nothing after it ran."""


class Cuts:
    """Counts the steps that leave the process, and kills at the one asked for: nothing of the process takes a step after it."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.at: int | None = None

    def step(self, name: str) -> None:
        self.steps.append(name)
        if self.at is not None and len(self.steps) >= self.at:
            raise Killed(name)


class FakeClock:
    def __init__(self, now: datetime = NOON) -> None:
        self.market = now
        self.machine = now

    def now(self) -> datetime:
        return self.market

    def wall(self) -> datetime:
        return self.machine

    def pass_market(self, **amount: float) -> None:
        self.market += timedelta(**amount)

    def pass_wall(self, **amount: float) -> None:
        self.machine += timedelta(**amount)


class FakeIds:
    def __init__(self) -> None:
        self.last = 1000

    def new(self) -> UUID:
        self.last += 1
        return UUID(int=self.last)


class FakeBus:
    def __init__(self) -> None:
        self.told: list[tuple[UUID | None, str, dict[str, Any]]] = []

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        self.told.append((user_id, event, data))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [data for _, event, data in self.told if event == name]


class FakeLease:
    def __init__(self, mutex: "FakeMutex") -> None:
        self._mutex = mutex

    async def extend(self) -> None:
        if self._mutex.lost:
            raise LeaseLost("the lease expired")


class FakeMutex:
    def __init__(self) -> None:
        self.held: set[str] = set()
        self.lost = False

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[FakeLease | None]:
        if name in self.held:
            yield None
            return
        self.held.add(name)
        try:
            yield FakeLease(self)
        finally:
            self.held.discard(name)


class FakeLifeline:
    """What Redis keeps for a panic without the store; `away` makes it not answer."""

    def __init__(self) -> None:
        self.kept: dict[UUID, SealedCredentials] = {}
        self.flags: dict[UUID, datetime] = {}
        self.receipts: dict[UUID, PanicReceipt] = {}
        self.away = False

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("redis: away")

    async def keep(self, user_id: UUID, credentials: SealedCredentials) -> None:
        self._answer()
        self.kept[user_id] = credentials

    async def forget(self, user_id: UUID) -> None:
        self._answer()
        self.kept.pop(user_id, None)

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        self._answer()
        return self.kept.get(user_id)

    async def all_kept(self) -> list[UUID]:
        self._answer()
        return list(self.kept)

    async def stop(self, user_id: UUID, at: datetime) -> None:
        self._answer()
        self.flags[user_id] = at

    async def stopped(self, user_id: UUID) -> bool:
        self._answer()
        return user_id in self.flags

    async def all_stopped(self) -> list[UUID]:
        self._answer()
        return list(self.flags)

    async def keep_receipt(self, user_id: UUID, receipt: PanicReceipt) -> None:
        self._answer()
        self.receipts[user_id] = receipt

    async def receipt(self, user_id: UUID) -> PanicReceipt | None:
        self._answer()
        return self.receipts.get(user_id)

    async def take_down(self, user_id: UUID) -> None:
        self._answer()
        self.flags.pop(user_id, None)
        self.receipts.pop(user_id, None)


class OpenMutex:
    """A mutex that never excludes: what a lost lease amounts to."""

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[FakeLease | None]:
        yield FakeLease(FakeMutex())


class FakeBalances:
    def of(self, trader: Trader, mode: Mode) -> Wallet:
        if mode is Mode.PAPER:
            return Wallet(balance=trader.paper_balance, fresh=True)
        return Wallet(balance=trader.real_balance_cache, fresh=trader.real_balance_at is not None)


class FakeJobs:
    async def enqueue_scan(self) -> str:
        return "scan:on-demand"


class Rows:
    """What is committed."""

    def __init__(self) -> None:
        self.traders: dict[UUID, Trader] = {}
        self.scans: list[ScanRecord] = []
        self.signals: dict[UUID, SignalRecord] = {}
        self.refusals: list[RefusalRecord] = []
        self.claims: dict[tuple[UUID, str, Mode], ClaimRecord] = {}
        self.orders: dict[UUID, OrderRecord] = {}
        self.positions: dict[UUID, PositionRecord] = {}
        self.fills: dict[tuple[UUID, str], FillRecord] = {}
        self.ledger: list[LedgerRecord] = []
        self.fundings: dict[tuple[UUID, datetime], FundingRecord] = {}
        self.receipts: dict[UUID, ReceiptRecord] = {}
        self.truths: dict[UUID, TruthRecord] = {}
        self.foreign: dict[UUID, list[ForeignRecord]] = {}
        self.audit: list[tuple[AuditKind, UUID | None, str, dict[str, Any]]] = []

    def copy(self) -> "Rows":
        rows = Rows()
        for name, value in vars(self).items():
            setattr(rows, name, copy(value))
        return rows

    def live(self, user_id: UUID | None = None) -> list[PositionRecord]:
        return [row for row in self.positions.values() if row.status in LIVE and user_id in (None, row.user_id)]


class FakeStore:
    """A database in memory: one transaction at a time, all or nothing."""

    def __init__(self, cuts: Cuts | None = None) -> None:
        self.rows = Rows()
        self.cuts = cuts or Cuts()
        self.lock = asyncio.Lock()
        self.holder: asyncio.Task[Any] | None = None

    def begin(self) -> "FakeUnit":
        return FakeUnit(self)

    def add_trader(self, trader: Trader) -> None:
        """With the opening deposit, as registration books it."""
        self.rows.traders[trader.id] = trader
        self.rows.ledger.append(
            LedgerRecord(
                user_id=trader.id,
                mode=Mode.PAPER,
                at=NOON - timedelta(days=1),
                kind=EntryKind.DEPOSIT,
                amount=trader.paper_balance,
                balance_after=trader.paper_balance,
                source="opening",
                position_id=None,
            )
        )


class FakeUnit:
    traders: Traders
    scans: Scans
    signals: Signals
    refusals: Refusals
    claims: Claims
    orders: Orders
    positions: Positions
    fills: Fills
    ledger: Ledger
    fundings: Fundings
    truths: Truths
    foreign: Foreign
    receipts: Receipts
    audit: Audit

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self._rows = Rows()

    async def __aenter__(self) -> Self:
        await self._store.lock.acquire()
        self._store.holder = asyncio.current_task()
        rows = self._rows = self._store.rows.copy()
        self.traders, self.scans, self.signals = FakeTraders(rows), FakeScans(rows), FakeSignals(rows)
        self.refusals, self.claims, self.orders = FakeRefusals(rows), FakeClaims(rows), FakeOrders(rows)
        self.positions, self.fills, self.ledger = FakePositions(rows), FakeFills(rows), FakeLedger(rows)
        self.fundings, self.receipts = FakeFundings(rows), FakeReceipts(rows)
        self.truths, self.foreign = FakeTruths(rows), FakeForeign(rows)
        self.audit = FakeAudit(rows)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._store.holder = None
        self._store.lock.release()

    async def commit(self) -> None:
        self._store.cuts.step("before commit")
        self._store.rows = self._rows.copy()
        self._store.cuts.step("after commit")


class FakeAudit:
    """Keeps what use cases note themselves; what the rows note is the real repositories' affair."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def note(self, kind: AuditKind, *, user_id: UUID | None, subject: object, **body: Any) -> None:
        self._rows.audit.append((kind, user_id, str(subject), body))


class FakeTraders:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def lock(self, user_id: UUID) -> Trader | None:
        return self._rows.traders.get(user_id)

    async def all(self) -> list[Trader]:
        return list(self._rows.traders.values())

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        trader = self._rows.traders.get(user_id)
        return trader.credentials if trader else None

    async def set_paper_balance(self, user_id: UUID, balance: Decimal) -> None:
        self._rows.traders[user_id] = structs.replace(self._rows.traders[user_id], paper_balance=balance)

    async def set_real_balance(self, user_id: UUID, balance: Decimal, at: datetime) -> None:
        trader = self._rows.traders[user_id]
        if trader.real_balance_at is None or trader.real_balance_at <= at:
            self._rows.traders[user_id] = structs.replace(trader, real_balance_cache=balance, real_balance_at=at)

    async def with_real(self, closed_since: datetime) -> list[UUID]:
        in_mode = {trader.id for trader in self._rows.traders.values() if trader.mode is Mode.REAL}
        real = [row for row in self._rows.positions.values() if not row.simulated]
        holding = {row.user_id for row in real if row.status in LIVE or (row.closed_at and row.closed_at >= closed_since)}
        waiting = [row for row in self._rows.orders.values() if row.status in LIVE_ORDERS]
        return sorted(in_mode | holding | {row.user_id for row in waiting if row.mode is Mode.REAL and not row.dry_run})

    async def switch_auto_trade_off(self, user_id: UUID, at: datetime) -> bool:
        trader = self._rows.traders[user_id]
        self._rows.traders[user_id] = structs.replace(
            trader, auto_trade_enabled=False, settings_version=trader.settings_version + 1
        )
        return trader.auto_trade_enabled


class FakeScans:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, scan: ScanRecord) -> None:
        self._rows.scans.append(scan)

    async def decided(self, scan_ids: Collection[UUID], at: datetime) -> None:
        self._rows.scans = [structs.replace(row, decided_at=at) if row.id in scan_ids else row for row in self._rows.scans]


class FakeSignals:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, signal: SignalRecord) -> bool:
        key = (signal.symbol, signal.candle_close)
        if any((kept.symbol, kept.candle_close) == key for kept in self._rows.signals.values()):
            return False
        self._rows.signals[signal.id] = signal
        return True

    async def get(self, signal_id: UUID) -> SignalRecord | None:
        return self._rows.signals.get(signal_id)

    async def recent(self, since: datetime) -> list[SignalRecord]:
        refused = {row.signal_id for row in self._rows.refusals if row.user_id is None}
        return [row for row in self._rows.signals.values() if row.created_at >= since and row.id not in refused]

    async def left(self, since: datetime) -> list[SignalRecord]:
        refused = {row.signal_id for row in self._rows.refusals if row.user_id is None}
        open_scans = {row.id for row in self._rows.scans if row.decided_at is None and row.candle_close >= since}
        rows = [row for row in self._rows.signals.values() if row.scan_id in open_scans and row.candle_close >= since]
        return [row for row in rows if row.id not in refused]

    async def decided(self, user_id: UUID, signal_id: UUID) -> bool:
        return any((row.user_id, row.signal_id) == (user_id, signal_id) for row in self._rows.refusals) or any(
            (row.user_id, row.signal_id, row.purpose) == (user_id, signal_id, OrderPurpose.ENTRY)
            for row in self._rows.orders.values()
        )

    async def unreviewed(self, until: datetime, limit: int) -> list[SignalRecord]:
        rows = [row for row in self._rows.signals.values() if row.outcome is None and _seen(row) <= until]
        return sorted(rows, key=_seen)[:limit]

    async def review(
        self, signal: SignalRecord, *, outcome: str | None, outcome_at: datetime | None, reviewed_until: datetime
    ) -> bool:
        kept = self._rows.signals[signal.id]
        if kept.outcome is not None or kept.reviewed_until != signal.reviewed_until:
            return False
        self._rows.signals[signal.id] = structs.replace(
            kept, outcome=outcome, outcome_at=outcome_at, reviewed_until=reviewed_until
        )
        return True


class FakeRefusals:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, refusal: RefusalRecord) -> bool:
        same = (refusal.user_id, refusal.signal_id)
        if refusal.signal_id is not None and any((row.user_id, row.signal_id) == same for row in self._rows.refusals):
            return False
        self._rows.refusals.append(refusal)
        return True


class FakeClaims:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, claim: ClaimRecord) -> bool:
        key = (claim.user_id, claim.symbol, claim.mode)
        if key in self._rows.claims:
            return False
        self._rows.claims[key] = claim
        return True

    async def of_user(self, user_id: UUID, mode: Mode) -> list[ClaimRecord]:
        return [row for row in self._rows.claims.values() if (row.user_id, row.mode) == (user_id, mode)]

    async def release(self, user_id: UUID, symbol: str, mode: Mode) -> None:
        self._rows.claims.pop((user_id, symbol, mode), None)


class FakeOrders:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, order: OrderRecord) -> None:
        if await self.named(order.user_id, order.client_order_id) is not None:
            raise Conflict(order.client_order_id)
        self._rows.orders[order.id] = order

    async def get(self, order_id: UUID) -> OrderRecord | None:
        return self._rows.orders.get(order_id)

    async def advance(self, order: OrderRecord, status: OrderStatus, **changes: Any) -> OrderRecord | None:
        row = self._rows.orders[order.id]
        if (row.status, row.version) != (order.status, order.version):
            return None
        assert may_become(row.status, status), f"{row.status} to {status}"
        self._rows.orders[order.id] = structs.replace(row, status=status, version=row.version + 1, **changes)
        return self._rows.orders[order.id]

    async def named(self, user_id: UUID, client_order_id: str) -> OrderRecord | None:
        key = (user_id, client_order_id)
        return next((row for row in self._rows.orders.values() if (row.user_id, row.client_order_id) == key), None)

    async def under_way(self, carried_before: datetime, limit: int) -> list[OrderRecord]:
        rows = [
            row
            for row in self._rows.orders.values()
            if row.status in UNDER_WAY and (row.carried_until is None or row.carried_until <= carried_before)
        ]
        return sorted(rows, key=lambda row: row.created_at)[:limit]

    async def live_of_user(self, user_id: UUID) -> list[OrderRecord]:
        rows = [row for row in self._rows.orders.values() if row.user_id == user_id and row.status in LIVE_ORDERS]
        return sorted(rows, key=lambda row: row.created_at)

    async def entries_everywhere(self) -> list[OrderRecord]:
        sent = (OrderStatus.SENT, OrderStatus.UNKNOWN)
        rows = [row for row in self._rows.orders.values() if row.purpose is OrderPurpose.ENTRY and row.status in sent]
        return sorted((row for row in rows if row.mode is Mode.REAL and not row.dry_run), key=lambda row: row.created_at)

    async def expired(self, at: datetime, limit: int) -> list[OrderRecord]:
        waiting = [row for row in self._rows.orders.values() if row.status is OrderStatus.AWAITING_APPROVAL]
        return [row for row in waiting if row.expires_at is not None and row.expires_at <= at][:limit]


class FakePositions:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, position: PositionRecord) -> None:
        key = (position.user_id, position.symbol, position.mode)
        if position.status in LIVE and any((row.user_id, row.symbol, row.mode) == key for row in self._rows.live()):
            raise Conflict(f"{position.symbol} is held")
        self._rows.positions[position.id] = position

    async def get(self, position_id: UUID) -> PositionRecord | None:
        return self._rows.positions.get(position_id)

    async def live_of_user(self, user_id: UUID, mode: Mode | None = None) -> list[PositionRecord]:
        rows = [row for row in self._rows.live(user_id) if mode in (None, row.mode)]
        return sorted(rows, key=lambda row: row.opened_at)

    async def real_since(self, user_id: UUID, symbol: str, since: datetime) -> list[PositionRecord]:
        mine = [row for row in self._rows.positions.values() if (row.user_id, row.symbol) == (user_id, symbol)]
        rows = [row for row in mine if not row.simulated and (row.closed_at is None or row.closed_at >= since)]
        return sorted(rows, key=lambda row: row.opened_at)

    async def open_everywhere(self) -> list[PositionRecord]:
        return self._live([PositionStatus.OPEN], simulated=True)

    async def guarded_everywhere(self) -> list[PositionRecord]:
        return self._live(LIVE, simulated=False)

    def _live(self, statuses: Collection[PositionStatus], *, simulated: bool) -> list[PositionRecord]:
        rows = [row for row in self._rows.live() if row.status in statuses and row.simulated is simulated]
        return sorted(rows, key=lambda row: row.opened_at)

    async def change(self, position: PositionRecord, **changes: Any) -> PositionRecord | None:
        row = self._rows.positions[position.id]
        if (row.status, row.version) != (position.status, position.version):
            return None
        status = changes.get("status", row.status)
        assert status is row.status or status in POSITION_TRANSITIONS[row.status], f"{row.status} to {status}"
        assert not {"mode", "dry_run", "user_id", "symbol", "side"} & changes.keys()
        self._rows.positions[position.id] = structs.replace(row, version=row.version + 1, **changes)
        return self._rows.positions[position.id]

    async def judged(self, looks: Sequence[tuple[PositionRecord, datetime]]) -> None:
        for seen, until in looks:
            row = self._rows.positions[seen.id]
            if row.status is PositionStatus.OPEN and row.version == seen.version:
                self._rows.positions[seen.id] = structs.replace(
                    row, judged_until=max(row.judged_until, until), funded_until=max(row.funded_until, until)
                )


class FakeFills:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, fill: FillRecord) -> bool:
        key = (fill.order_id, fill.trade_id)
        if key in self._rows.fills:
            return False
        self._rows.fills[key] = fill
        return True

    async def of_position(self, position_id: UUID) -> list[FillRecord]:
        return [row for row in self._rows.fills.values() if row.position_id == position_id]


class FakeLedger:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, entry: LedgerRecord) -> bool:
        key = (entry.user_id, entry.mode, entry.source)
        if any((row.user_id, row.mode, row.source) == key for row in self._rows.ledger):
            return False
        self._rows.ledger.append(entry)
        return True

    async def total(self, user_id: UUID, mode: Mode) -> Decimal:
        return sum((row.amount for row in self._rows.ledger if (row.user_id, row.mode) == (user_id, mode)), ZERO)

    async def at_exchange(self, user_id: UUID) -> Decimal:
        dry = {row.id for row in self._rows.positions.values() if row.dry_run}
        rows = [row for row in self._rows.ledger if (row.user_id, row.mode) == (user_id, Mode.REAL)]
        return sum((row.amount for row in rows if row.position_id not in dry), ZERO)

    async def known(self, user_id: UUID, mode: Mode, sources: Collection[str]) -> set[str]:
        mine = {row.source for row in self._rows.ledger if (row.user_id, row.mode) == (user_id, mode)}
        return mine & set(sources)

    async def amount(self, user_id: UUID, mode: Mode, source: str) -> Decimal | None:
        key = (user_id, mode, source)
        return next((row.amount for row in self._rows.ledger if (row.user_id, row.mode, row.source) == key), None)

    async def net_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        return sum(self._results(user_id, mode, since, dry), ZERO)

    async def lowest_since(self, user_id: UUID, mode: Mode, since: datetime, *, dry: bool) -> Decimal:
        return min([ZERO, *accumulate(self._results(user_id, mode, since, dry))])

    def _results(self, user_id: UUID, mode: Mode, since: datetime, dry: bool) -> list[Decimal]:
        of_dry = {row.id for row in self._rows.positions.values() if row.dry_run}
        mine = [row for row in self._rows.ledger if (row.user_id, row.mode) == (user_id, mode) and row.at >= since]
        return [row.amount for row in mine if row.kind not in NO_RESULT and (row.position_id in of_dry) is dry]


class FakeFundings:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, payment: FundingRecord) -> bool:
        key = (payment.position_id, payment.at)
        if key in self._rows.fundings:
            return False
        self._rows.fundings[key] = payment
        return True


class FakeTruths:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, user_id: UUID) -> TruthRecord | None:
        return self._rows.truths.get(user_id)

    async def save(self, truth: TruthRecord) -> None:
        self._rows.truths[truth.user_id] = truth


class FakeForeign:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def of_user(self, user_id: UUID) -> list[ForeignRecord]:
        return self._rows.foreign.get(user_id, [])

    async def replace(self, user_id: UUID, holdings: Sequence[ForeignRecord]) -> None:
        self._rows.foreign[user_id] = list(holdings)


class FakeReceipts:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, receipt_id: UUID) -> ReceiptRecord | None:
        return self._rows.receipts.get(receipt_id)

    async def running(self, user_id: UUID) -> ReceiptRecord | None:
        rows = [row for row in self._rows.receipts.values() if row.user_id == user_id and row.finished_at is None]
        return max(rows, key=lambda row: row.started_at, default=None)

    async def unfinished(self, started_before: datetime) -> list[ReceiptRecord]:
        rows = self._rows.receipts.values()
        return [row for row in rows if row.finished_at is None and row.started_at < started_before]

    async def add(self, receipt: ReceiptRecord) -> None:
        self._rows.receipts[receipt.id] = receipt

    async def save(self, receipt: ReceiptRecord) -> None:
        self._rows.receipts[receipt.id] = receipt


class FakeEngine:
    """A paper engine: fills at `prices` with the taker fee, keeps reports by id, and can be cut off before or after it acted.

    `bars` and `funding` are each symbol's recorded marks, served from the moment asked for. `trouble` maps a method to what goes wrong
    with its next calls, in order: "lost before", "lost after", "refused", or None for nothing.
    """

    def __init__(self, store: FakeStore, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock
        self.prices: dict[str, Decimal] = {}
        self.bars: dict[str, list[Bar]] = {}
        self.funding: dict[str, list[FundingEvent]] = {}
        self.age_ms: dict[str, int] = {}
        self.signals: list[Signal] = []
        self.fallbacks: list[str] = []
        self.trouble: dict[str, list[str | None]] = {}
        self.broken: set[str] = set()
        self.reports: dict[str, ExecutionReport] = {}
        self.calls: list[tuple[str, Any]] = []
        self.analyzing: Callable[[], Any] | None = None

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        await self._called("analyze", request)
        if self.analyzing is not None:
            await self.analyzing()
        return AnalyzeReply(
            as_of=self._clock.now(),
            universe=len(self.prices),
            screened=len(self.prices),
            analyst=AnalystKind.RULES,
            candidates=[],
            signals=self.signals,
            rejections=[],
            timings_ms={"total": 1.0},
            fallbacks=self.fallbacks,
        )

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        await self._called("marks", since)
        known = {symbol: self._marks(symbol, moment) for symbol, moment in since.items() if symbol in self.prices}
        missing = {symbol: "no price" for symbol in since if symbol not in self.prices}
        return MarksReply(as_of=self._clock.now(), marks=known, missing=missing)

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        return await self._executed("enter", request, lambda: self._entry(request))

    async def close(self, request: CloseRequest) -> ExecutionReport:
        return await self._executed("close", request, lambda: self._closing(request))

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        await self._called("protect", request)
        stop = request.stop_loss
        if stop is not None and request.side.sign * (self.prices[request.symbol] - stop) <= 0:
            refusal = Problem(code="wrong_side_stop", detail="the stop is on the wrong side of the price")
            return ProtectReport(status=ExecutionStatus.REFUSED, refusal=refusal, as_of=self._clock.now())
        protection = Protection(stop_loss=stop or ZERO, take_profit=request.take_profit, confirmed_at=self._clock.now())
        return ProtectReport(status=ExecutionStatus.FILLED, protection=protection, as_of=self._clock.now())

    async def order(self, client_order_id: str, account: Account, symbol: str | None = None) -> OrderReply:
        await self._called("order", client_order_id)
        report = self.reports.get(client_order_id)
        state = OrderLookup.FILLED if report else OrderLookup.NOT_FOUND
        return OrderReply(client_order_id=client_order_id, state=state, report=report)

    async def balance(self, account: Account) -> BalanceReply:
        raise EngineRefused("no_credentials", "there is no key", 409)

    async def positions(self, account: Account) -> PositionsReply:
        raise NotImplementedError

    async def flatten(self, request: FlattenRequest) -> FlattenReply:
        raise NotImplementedError

    async def truth(self, request: TruthRequest) -> TruthReply:
        raise NotImplementedError

    async def guards(self, request: GuardsRequest) -> GuardsReply:
        raise NotImplementedError

    async def cancel(self, request: CancelRequest) -> CancelReply:
        raise NotImplementedError

    async def canary(self, account: Account) -> CanaryReply:
        raise NotImplementedError

    def events(self, account: Account) -> AsyncIterator[AccountEvent]:
        raise NotImplementedError

    async def public_key(self) -> PublicKeyReply:
        raise NotImplementedError

    async def reseal(self, request: ResealRequest) -> SealedCredentials:
        raise NotImplementedError

    async def check_keys(self, account: Account) -> KeyCheckReply:
        raise NotImplementedError

    async def claim_keys(self, user_id: str) -> SealedCredentials:
        raise NotImplementedError

    def sent(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    async def _called(self, method: str, request: Any) -> None:
        assert self._store.holder is not asyncio.current_task(), f"{method} was awaited inside a transaction"
        await asyncio.sleep(0)
        self._store.cuts.step(f"before {method}")
        if method in self.broken:
            raise EngineUnavailable(f"{method}: connection refused")
        self.calls.append((method, request))

    async def _executed(
        self, method: str, request: EntryRequest | CloseRequest, work: Callable[[], ExecutionReport]
    ) -> ExecutionReport:
        await self._called(method, request)
        waiting = self.trouble.get(method, [])
        trouble = waiting.pop(0) if waiting else None
        if trouble == "lost before":
            raise EngineUnavailable("the request never arrived")
        if trouble == "refused":
            raise EngineRefused("report_store_unavailable", "nothing was done", 503)
        report = self.reports.get(request.client_order_id) or work()
        if report.status is ExecutionStatus.FILLED:
            self.reports[request.client_order_id] = report
        self._store.cuts.step(f"after {method}")
        if trouble == "lost after":
            raise EngineUnavailable("the reply was lost")
        return report

    def _marks(self, symbol: str, since: datetime) -> SymbolMarks:
        now = self._clock.now()
        return SymbolMarks(
            mark=self.prices[symbol],
            as_of=now,
            age_ms=self.age_ms.get(symbol, 0),
            bars=[bar for bar in self.bars.get(symbol, []) if bar.from_ >= since and bar.to <= now],
            funding=[event for event in self.funding.get(symbol, []) if since < event.at <= now],
            since=now,
        )

    def _entry(self, request: EntryRequest) -> ExecutionReport:
        price = self.prices.get(request.symbol)
        if isinstance(request.account, RealAccount) and not request.account.dry_run:
            if request.resume:
                return self._report(request, ExecutionStatus.UNKNOWN, [])
            later = Problem(code="real_not_available", detail="real orders come later")
            return self._report(request, ExecutionStatus.REFUSED, [], refusal=later)
        if price is None:
            return self._report(request, ExecutionStatus.REFUSED, [], refusal=Problem(code="stale_price", detail="no price"))
        quantity = floor_to_step(request.amount_usdt / price, Decimal("0.1"))
        notional = quantity * price
        protection = Protection(stop_loss=request.stop_loss, take_profit=request.take_profit, confirmed_at=self._clock.now())
        return structs.replace(
            self._report(request, ExecutionStatus.FILLED, [self._fill(request.client_order_id, price, quantity)]),
            protection=protection,
            leverage=request.leverage,
            margin=notional / request.leverage,
            maintenance_ratio=Decimal("0.01"),
            maintenance_amount=ZERO,
        )

    def _closing(self, request: CloseRequest) -> ExecutionReport:
        held = next((one for one in _positions(request.account) if one.symbol == request.symbol), None)
        price = self.prices.get(request.symbol)
        if held is None or (price is None and request.trigger is None):
            return self._report(request, ExecutionStatus.REFUSED, [], refusal=Problem(code="stale_price", detail="no price"))
        quantity, moment, trigger = min(request.quantity or held.quantity, held.quantity), self._clock.now(), request.trigger
        if trigger is not None:
            gapped = trigger.price if trigger.kind is TriggerKind.TARGET or trigger.bar_open is None else trigger.bar_open
            worse = min(trigger.price, gapped) if request.side is Side.LONG else max(trigger.price, gapped)
            price, moment = worse, trigger.at
            if trigger.kind is TriggerKind.LIQUIDATION:
                return self._liquidation(request, held.margin, quantity, held.entry_price)
        assert price is not None
        return self._report(request, ExecutionStatus.FILLED, [self._fill(request.client_order_id, price, quantity, moment)])

    def _liquidation(self, request: CloseRequest, margin: Decimal, quantity: Decimal, entry: Decimal) -> ExecutionReport:
        """Fills at the trigger's price; what the margin has left after the fee goes to the liquidator, never more."""
        assert request.trigger is not None
        fill = self._fill(request.client_order_id, request.trigger.price, quantity, request.trigger.at)
        left = margin + price_pnl(request.side, quantity, entry, fill.price) - fill.fee
        fee = min(fill.price * quantity * Decimal("0.0125"), left)
        return structs.replace(self._report(request, ExecutionStatus.FILLED, [fill]), liquidation_fee=fee)

    def _fill(self, client_order_id: str, price: Decimal, quantity: Decimal, moment: datetime | None = None) -> Fill:
        return Fill(
            trade_id=f"{client_order_id}-1",
            price=price,
            quantity=quantity,
            fee=price * quantity * TAKER_FEE_RATIO,
            maker=False,
            at=moment or self._clock.now(),
        )

    def _report(
        self, request: EntryRequest | CloseRequest, status: ExecutionStatus, fills: list[Fill], refusal: Problem | None = None
    ) -> ExecutionReport:
        filled = sum((fill.quantity for fill in fills), ZERO)
        entering = isinstance(request, EntryRequest)
        return ExecutionReport(
            client_order_id=request.client_order_id,
            venue="paper" if isinstance(request.account, PaperAccount) else "binance",
            dry_run=isinstance(request.account, RealAccount),
            status=status,
            symbol=request.symbol,
            side=request.side,
            order_side=OrderSide.BUY if (request.side is Side.LONG) == entering else OrderSide.SELL,
            reduce_only=not entering,
            requested_quantity=filled,
            filled_quantity=filled,
            average_price=fills[0].price if fills else None,
            fills=fills,
            refusal=refusal,
            as_of=self._clock.now(),
        )


class World:
    """Everything that trading stands on, in memory; `trading` can be made again, as after a restart."""

    def __init__(self, *traders: Trader, dry_run: bool = True) -> None:
        self.rules = EntryRules(dry_run=dry_run)
        self.cuts = Cuts()
        self.clock = FakeClock()
        self.store = FakeStore(self.cuts)
        self.engine = FakeEngine(self.store, self.clock)
        self.bus = FakeBus()
        self.mutex: FakeMutex | OpenMutex = FakeMutex()
        self.lifeline = FakeLifeline()
        self.ids = FakeIds()
        for trader in traders:
            self.store.add_trader(trader)
        self.trading = self.start()

    @property
    def rows(self) -> Rows:
        return self.store.rows

    def start(self) -> Trading:
        """A process, with nothing remembered from the one before."""
        self.store.lock = asyncio.Lock()
        ports = Ports(
            transactions=self.store.begin,
            engine=self.engine,
            balances=FakeBalances(),
            mutex=self.mutex,
            bus=self.bus,
            clock=self.clock,
            ids=self.ids,
            jobs=FakeJobs(),
            lifeline=self.lifeline,
        )
        self.trading = compose(ports, self.rules, ScanRules(), self._pause)
        return self.trading

    async def _pause(self, seconds: float) -> None:
        self.clock.pass_wall(seconds=seconds)
        await asyncio.sleep(0)

    def quote(self, symbol: str, price: str | int) -> None:
        self.engine.prices[symbol] = Decimal(price)

    async def enter(self, *signals: Signal) -> None:
        """One scan with these signals."""
        for signal in signals:
            self.engine.prices.setdefault(signal.symbol, signal.signal_price)
        self.engine.signals = list(signals)
        await self.trading.scan.run()

    def balance(self, user_id: UUID) -> Decimal:
        return self.rows.traders[user_id].paper_balance


def _positions(account: Account) -> list[PaperPosition]:
    return account.book.positions if isinstance(account, PaperAccount) else account.dry_positions or []


def _seen(signal: SignalRecord) -> datetime:
    return signal.reviewed_until or signal.created_at
