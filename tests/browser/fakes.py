"""A dashboard without servers: made-up people and positions behind the same ports, for tests of the pages and for looking at them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from litestar import Litestar

from orchestrator.ports import (
    Account,
    AdminUserRow,
    Amended,
    ApprovalRow,
    Closed,
    Credentials,
    Decision,
    Engine,
    Entered,
    EquityPoint,
    FillRow,
    LedgerPage,
    LedgerRow,
    LiveMessage,
    Mark,
    NewUser,
    PanicReceipt,
    PositionRow,
    RealAccounts,
    RealRow,
    ReceiptRow,
    Refusal,
    RefusalReason,
    ScanRow,
    Session,
    SettingsChanges,
    SignalRow,
    SignalView,
    Statistics,
    Stats,
    Stopped,
    SymbolResult,
    UserRow,
)
from orchestrator.trading.arm import Arm
from orchestrator.web.auth import Auth, Tokens
from orchestrator.web.doors import Doors
from orchestrator.web.factors import FactorKey, Factors
from orchestrator.web.health import Health, Source
from orchestrator.web.hub import Hub
from orchestrator.web.market import Market
from orchestrator.web.pages import error_page, pages_router
from orchestrator.web.site import create_site
from shared.analysis import Liquidation, LiquidationPressure, WhaleSignal, WhalesReply, WhaleView
from shared.enums import Side
from tests.fakes import FakeLifeline
from tests.fakes_vault import FakeKeyEngine, FakeSealer, FakeVault

SECRET = "a secret that belongs to this test only"
STRUCTURAL = frozenset({"position", "signals", "approvals", "status", "panic", "settings", "notice"})
NOW = datetime(2025, 9, 22, 14, 3, 24, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.exe " + "w" * 120


class FakeClock:
    """Market time stands still, wall time runs."""

    def now(self) -> datetime:
        return NOW

    def wall(self) -> datetime:
        return datetime.now(UTC)


class FakeForms:
    """Remembers every form token."""

    def __init__(self) -> None:
        self.seen: set[tuple[UUID, str]] = set()

    async def first(self, user_id: UUID, token: str) -> bool:
        new = (user_id, token) not in self.seen
        self.seen.add((user_id, token))
        return new

    async def forget(self, user_id: UUID, token: str) -> None:
        self.seen.discard((user_id, token))


class OpenThrottle:
    """Nobody waits."""

    async def wait_seconds(self, name: str, address: str) -> float:
        return 0

    async def failed(self, name: str, address: str) -> None:
        """Counts nothing."""

    async def passed(self, name: str, address: str) -> None:
        """Forgets nothing."""

    async def spend(self, what: str, address: str, limit: int) -> float:
        return 0


class FakeBus:
    """Bus and live log in one process's memory."""

    def __init__(self) -> None:
        self.told: list[LiveMessage] = []
        self._listeners: list[asyncio.Queue[LiveMessage]] = []

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        rev = len(self.told) + 1 if event in STRUCTURAL else None
        message = LiveMessage(user_id=user_id, event=event, data=data, rev=rev)
        if rev is not None:
            self.told.append(message)
        for listener in self._listeners:
            listener.put_nowait(message)

    async def listen(self) -> AsyncIterator[LiveMessage]:
        heard: asyncio.Queue[LiveMessage] = asyncio.Queue()
        self._listeners.append(heard)
        while True:
            yield await heard.get()

    async def boot(self) -> str:
        return "fake"

    async def recent(self, user_id: UUID) -> list[LiveMessage]:
        return [message for message in self.told if message.user_id in (None, user_id)]


class FakeMarket(Market):
    """Marks and whales by hand; a symbol without a mark is absent."""

    def __init__(self) -> None:
        self.prices: dict[str, Decimal] = {}
        self.feed: WhalesReply | None = None

    async def marks(self, symbols: Collection[str]) -> dict[str, Mark]:
        return self.known(symbols)

    def known(self, symbols: Collection[str]) -> dict[str, Mark]:
        wall = datetime.now(UTC)
        return {symbol: Mark(price=self.prices[symbol], at=wall) for symbol in symbols if symbol in self.prices}

    async def whales(self) -> WhalesReply | None:
        return self.feed

    def liquidations(self) -> list[Liquidation]:
        return self.feed.recent if self.feed else []


def signal_row(**changes: Any) -> SignalRow:
    """A signal; give what matters."""
    usual: dict[str, Any] = {
        "id": uuid4(),
        "symbol": "BTCUSDT",
        "side": "LONG",
        "confidence": 80,
        "signal_price": Decimal("64150.0"),
        "stop_loss": Decimal("62900.0"),
        "take_profit": Decimal("66000.0"),
        "reward_risk": 1.48,
        "reasoning": "4h uptrend, RSI 41, volume 1.6 times its average. Wrong if a 15-minute candle closes under 62,900.",
        "analyst": "rules",
        "model": "",
        "features": {"rsi": 41.25, "volume_ratio": 1.62, "trend": "BULL", "adx": None, "atr_percent": 0.84, "close": 64150.0},
        "whale": {"signal": "NEUTRAL", "pressure": "NONE", "confidence": 0, "reasons": []},
        "tick_size": Decimal("0.10"),
        "candle_close": NOW - timedelta(minutes=48),
        "created_at": NOW - timedelta(minutes=47),
        "outcome": None,
        "outcome_at": None,
        "trace_id": "7f3a9c",
    }
    return SignalRow(**(usual | changes))


def position_row(**changes: Any) -> PositionRow:
    """An open long of 0.0031 BTC; give what matters."""
    usual: dict[str, Any] = {
        "id": uuid4(),
        "signal_id": None,
        "symbol": "BTCUSDT",
        "side": "LONG",
        "mode": "PAPER",
        "dry_run": False,
        "status": "OPEN",
        "size": Decimal("0.0031"),
        "opened_size": Decimal("0.0031"),
        "entry_price": Decimal("64160.0"),
        "exit_price": None,
        "stop_loss": Decimal("62900.0"),
        "take_profit": Decimal("66000.0"),
        "trailing_ratio": None,
        "leverage": Decimal(20),
        "margin": Decimal("9.9448"),
        "liquidation_price": Decimal("61204.0"),
        "tick_size": Decimal("0.10"),
        "step_size": Decimal("0.0001"),
        "realized_pnl": Decimal(0),
        "fees": Decimal("0.0994"),
        "funding": Decimal(0),
        "pnl": None,
        "close_reason": None,
        "unprotected_seconds": 0.0,
        "opened_at": NOW - timedelta(minutes=41),
        "closed_at": None,
        "version": 1,
    }
    return PositionRow(**(usual | changes))


class FakeWorld:
    """Reads, logins, preferences and desk over lists; one user's rows are everyone's, but for the users themselves."""

    def __init__(self) -> None:
        self.vault, self.key_engine = FakeVault(), FakeKeyEngine()
        self.users: dict[UUID, UserRow] = {}
        self.hashes: dict[str, Credentials] = {}
        self.sessions: dict[UUID, Session] = {}
        self.known = RealRow()
        self.live: list[PositionRow] = []
        self.closed: list[PositionRow] = []
        self.views: list[SignalView] = []
        self.waiting: list[ApprovalRow] = []
        self.scanned: list[ScanRow] = []
        self.receipts: dict[UUID, ReceiptRow] = {}
        self.called: list[str] = []
        self.entries: list[LedgerRow] = [
            LedgerRow(id=1, at=NOW - timedelta(days=3), kind="DEPOSIT", amount=Decimal(10_000), position_id=None,
                      balance_after=Decimal(10_000)),
        ]  # fmt: skip

    # logins
    async def add_user(self, user: NewUser) -> bool:
        if user.username in self.hashes:
            return False
        self.hashes[user.username] = Credentials(
            user_id=user.id, username=user.username, password_hash=user.password_hash, role=user.role, mode="PAPER"
        )
        self.users[user.id] = UserRow(
            id=user.id, username=user.username, role=user.role, mode="PAPER", paper_balance=user.paper_balance,
            real_balance_cache=None, real_balance_at=None, fixed_order_size=user.fixed_order_size, leverage=user.leverage,
            auto_trade_enabled=False, max_daily_loss=user.max_daily_loss, max_positions=user.max_positions,
            max_exposure=user.max_exposure, settings_version=1, created_at=user.created_at,
        )  # fmt: skip
        return True

    async def credentials(self, username: str) -> Credentials | None:
        return self.hashes.get(username)

    async def replace_hash(self, user_id: UUID, password_hash: str) -> None:
        """Keeps the old one."""

    async def open(self, login_id: UUID, user_id: UUID, at: datetime, ends_at: datetime) -> None:
        user = self.users[user_id]
        self.sessions[login_id] = Session(
            login_id=login_id, user_id=user_id, username=user.username, role=user.role, mode=user.mode, ends_at=ends_at
        )

    async def find(self, login_id: UUID, at: datetime) -> Session | None:
        return self.sessions.get(login_id)

    async def touch(self, login_id: UUID, at: datetime) -> None:
        """Notes nothing."""

    async def refused(self, user_id: UUID | None, address: str) -> None:
        return None

    async def revoke(self, login_id: UUID, at: datetime) -> bool:
        return self.sessions.pop(login_id, None) is not None

    # preferences
    async def change(self, user_id: UUID, changes: SettingsChanges, at: datetime, version: int | None) -> UserRow | None:
        before = self.users[user_id]
        if version is not None and version != before.settings_version:
            return None
        wanted = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None}
        self.users[user_id] = msgspec.structs.replace(before, settings_version=before.settings_version + 1, **wanted)
        return self.users[user_id]

    # reads
    async def user(self, user_id: UUID) -> UserRow | None:
        return self.users.get(user_id)

    async def account(self, user_id: UUID, mode: str) -> Account:
        used = sum((row.margin for row in self.live), Decimal(0))
        booked = self.entries[-1].balance_after - sum((row.fees for row in self.live), Decimal(0))
        return Account(
            balance=booked, margin_used=used, margin_claimed=Decimal(0), open_positions=len(self.live), waiting=len(self.waiting)
        )

    async def real(self, user_id: UUID) -> RealRow:
        return self.known

    async def real_accounts(self) -> RealAccounts:
        return RealAccounts(followed=0, unheard=0, oldest=None, foreign_accounts=0, foreign=0, differing=0)

    async def positions(
        self, user_id: UUID, *, statuses: Sequence[str], mode: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[PositionRow]:
        return [row for row in [*self.live, *self.closed] if row.status in statuses]

    async def position(self, user_id: UUID, position_id: UUID) -> PositionRow | None:
        return next((row for row in [*self.live, *self.closed] if row.id == position_id), None)

    async def fills(self, user_id: UUID, position_id: UUID) -> list[FillRow]:
        return [
            FillRow(trade_id="1", opens=True, price=Decimal("64160.0"), quantity=Decimal("0.0031"), fee=Decimal("0.0994"),
                    realized_pnl=Decimal(0), liquidation_fee=Decimal(0), at=NOW - timedelta(minutes=41), trace_id="7f3a9c")
        ]  # fmt: skip

    async def history(self, user_id: UUID, mode: str, *, limit: int, offset: int) -> list[PositionRow]:
        return self.closed[offset : offset + limit]

    async def stats(self, user_id: UUID, mode: str, day_start: datetime) -> Stats:
        results = [row.pnl for row in self.closed if row.pnl is not None]
        wins = sum(1 for result in results if result > 0)
        net = sum(results, Decimal(0))
        return Stats(
            trades=len(results), wins=wins, losses=len(results) - wins, net_pnl=net, gross_pnl=net, fees=Decimal("1.84"),
            funding=Decimal("-0.03"), best=max(results, default=None), worst=min(results, default=None),
            today_trades=len(results), today_pnl=net, today_booked=net,
        )  # fmt: skip

    async def equity(self, user_id: UUID, mode: str, since: datetime | None, points: int = 200) -> list[EquityPoint]:
        return [EquityPoint(at=entry.at, value=entry.balance_after) for entry in self.entries]

    async def ledger(self, user_id: UUID, mode: str, *, limit: int, offset: int, dry_run: bool = False) -> LedgerPage:
        newest = self.entries[::-1][offset : offset + limit]
        return LedgerPage(entries=newest, total=len(self.entries), balance=self.entries[-1].balance_after)

    async def approvals(self, user_id: UUID, at: datetime) -> list[ApprovalRow]:
        return self.waiting

    async def signals(self, user_id: UUID, *, limit: int, offset: int = 0, symbol: str | None = None) -> list[SignalView]:
        return self.views[offset : offset + limit]

    async def signal(self, user_id: UUID, signal_id: UUID) -> SignalView | None:
        return next((view for view in self.views if view.signal.id == signal_id), None)

    async def receipt(self, user_id: UUID, receipt_id: UUID | None = None) -> ReceiptRow | None:
        return self.receipts.get(receipt_id) if receipt_id else next(iter(self.receipts.values()), None)

    async def scans(self, limit: int = 20) -> list[ScanRow]:
        return self.scanned[:limit]

    async def admin_users(self, *, limit: int, offset: int) -> list[AdminUserRow]:
        return [
            AdminUserRow(id=user.id, username=user.username, role=user.role, mode=user.mode, open_positions=len(self.live),
                         auto_trade_enabled=user.auto_trade_enabled, created_at=user.created_at)
            for user in self.users.values()
        ]  # fmt: skip

    async def statistics(self) -> Statistics:
        return Statistics(users=1, scans=4, signals=3, orders=2, open_positions=2, closed_wins=1, closed_losses=1,
                          refusals={"recent_signal": 3})  # fmt: skip

    # desk
    async def close(self, user_id: UUID, position_id: UUID, quantity: Decimal | None) -> Closed | Refusal:
        row = await self.position(user_id, position_id)
        self.called.append(f"close {quantity}")
        if row is None or row.status not in ("OPEN", "CLOSING"):
            return Refusal(reason=RefusalReason.NOT_OPEN, detail="It is no longer open.")
        left = row.size - (quantity or row.size)
        self.live.remove(row)
        after = msgspec.structs.replace(row, size=left)
        if left > 0:
            self.live.append(after)
        else:
            self.closed.insert(0, msgspec.structs.replace(
                row, size=left, status="CLOSED_WIN", pnl=Decimal("3.42"), exit_price=Decimal("65300.0"), close_reason="MANUAL",
                closed_at=NOW))  # fmt: skip
        return Closed(
            position_id=position_id, symbol=row.symbol, closed_quantity=row.size - left, left=left, status="OPEN", pnl=None
        )

    async def amend(self, user_id: UUID, position_id: UUID, **wanted: Decimal | None) -> Amended | Refusal:
        self.called.append("amend " + " ".join(f"{name}={value}" for name, value in wanted.items()))
        if wanted["stop_loss"] == Decimal(1):
            return Refusal(reason=RefusalReason.BAD_PRICE, detail="The stop must lie above the liquidation price.")
        return Amended(position_id=position_id, stop_loss=None, take_profit=None, trailing_ratio=None)

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        self.called.append("approve")
        found = next((item for item in self.waiting if item.id == approval_id), None)
        if found is None:
            return Refusal(reason=RefusalReason.APPROVAL_EXPIRED, detail="")
        self.waiting.remove(found)
        row = position_row(symbol=found.symbol)
        self.live.append(row)
        return Entered(position_id=row.id, symbol=row.symbol)

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        self.called.append("decline")
        self.waiting = [item for item in self.waiting if item.id != approval_id]
        return None

    async def stop(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        self.called.append(f"stop close={close_positions}")
        await self.change(user_id, SettingsChanges(auto_trade_enabled=False), NOW, None)
        return Stopped(auto_trade_enabled=False, positions=[])

    async def panic(self, user_id: UUID) -> PanicReceipt:
        self.called.append("panic")
        receipt = ReceiptRow(
            id=uuid4(), started_at=NOW, finished_at=NOW, phase="done",
            results=[{"symbol": row.symbol, "result": "closed", "detail": ""} for row in self.live],
            open_positions=0, open_orders=0,
        )  # fmt: skip
        self.receipts = {receipt.id: receipt, **self.receipts}
        results = [SymbolResult(symbol=row.symbol, result="closed") for row in self.live]
        self.live = []
        return PanicReceipt(
            receipt_id=receipt.id, auto_trade_enabled=False, positions=results, open_positions=0, open_orders=0, flat=True
        )

    def sync_balance(self, user_id: UUID) -> None:
        self.called.append("sync")

    def balance_syncing(self, user_id: UUID) -> bool:
        return False

    async def request_scan(self) -> str:
        self.called.append("scan")
        return "scan:now"


def site_of(world: FakeWorld, market: FakeMarket, bus: FakeBus) -> Litestar:
    """The whole site over a made-up world."""
    clock = FakeClock()

    async def fresh() -> datetime | None:
        return None

    async def lost() -> datetime | None:
        raise ConnectionRefusedError

    @asynccontextmanager
    async def doors() -> AsyncIterator[Doors]:
        anything = cast("Any", world)
        factors = Factors(world.vault, OpenThrottle(), clock, FactorKey(SECRET))
        arm = Arm(world.vault, FakeSealer(), cast("Engine", world.key_engine), FakeLifeline(), bus, clock, dry_run=False)
        auth = Auth(anything, OpenThrottle(), clock, Tokens(SECRET), factors=factors, registration_open=True)
        hub = Hub(bus, anything, market, auth, clock, most_streams=50)
        sources = [
            Source(name=name, check=lost if name == "engine" else fresh) for name in ("postgres", "redis", "engine", "worker")
        ]
        following = asyncio.create_task(hub.run())
        try:
            yield Doors(
                auth=auth, logins=anything, reads=anything, preferences=anything, desk=anything, bus=bus, clock=clock, market=market,
                arm=arm, factors=factors, hub=hub, health=Health(sources, clock), forms=FakeForms(), secure=False,
            )  # fmt: skip
        finally:
            hub.shut_down()
            following.cancel()

    return create_site(doors, pages=[pages_router], error_page=error_page)


def fill(world: FakeWorld, market: FakeMarket) -> None:
    """Two open positions, closed ones, signals of every fate, an approval, a scan, liquidations."""
    bought, refused, waits, hostile = (
        signal_row(),
        signal_row(symbol="SOLUSDT", confidence=82, created_at=NOW - timedelta(minutes=2), outcome="STOP", outcome_at=NOW),
        signal_row(symbol="SOLUSDT", side="SHORT", tick_size=Decimal("0.01"), signal_price=Decimal("142.37"),
                   stop_loss=Decimal("145.10"), take_profit=Decimal("136.00")),
        signal_row(symbol="WIFUSDT", reasoning=HOSTILE, model=HOSTILE, features={HOSTILE: HOSTILE}),
    )  # fmt: skip
    first = position_row(signal_id=bought.id)
    second = position_row(
        symbol="1000PEPEUSDT", side="SHORT", leverage=Decimal(10), size=Decimal(8100), opened_size=Decimal(8100),
        entry_price=Decimal("0.0122100"), stop_loss=Decimal("0.0126000"), take_profit=Decimal("0.0116000"),
        tick_size=Decimal("0.0000001"), step_size=Decimal(1), margin=Decimal("9.89"), liquidation_price=Decimal("0.0133300"),
        opened_at=NOW - timedelta(hours=3),
    )  # fmt: skip
    world.live = [first, second]
    market.prices = {"BTCUSDT": Decimal("64321.5"), "1000PEPEUSDT": Decimal("0.0123460")}
    for at, amount, symbol, reason in ((50, "12.31", "ETHUSDT", "TARGET"), (30, "-8.04", "XRPUSDT", "STOP"), (9, "36.6", "SUIUSDT", "TRAILING"),
                                       (6, "-5.2", "LINKUSDT", "LIQUIDATION")):  # fmt: skip
        row = position_row(
            symbol=symbol, status="CLOSED_WIN" if Decimal(amount) > 0 else "CLOSED_LOSS", pnl=Decimal(amount),
            exit_price=Decimal("64200.0"), close_reason=reason, closed_at=NOW - timedelta(hours=at), margin=Decimal(0), size=Decimal(0),
            opened_at=NOW - timedelta(hours=at + 2),
        )  # fmt: skip
        world.closed.insert(0, row)
        world.entries.append(
            LedgerRow(id=len(world.entries) + 1, at=NOW - timedelta(hours=at), kind="REALIZED_PNL", amount=Decimal(amount),
                      position_id=row.id, balance_after=world.entries[-1].balance_after + Decimal(amount))
        )  # fmt: skip
    world.views = [
        SignalView(signal=waits, decision=Decision(kind="waiting", order_id=uuid4())),
        SignalView(
            signal=refused, decision=Decision(kind="refused", reason="too_many_positions", detail="already at 2 of 2 positions")
        ),
        SignalView(signal=hostile, decision=Decision(kind="refused", reason="recent_signal")),
        SignalView(signal=bought, decision=Decision(kind="traded", position_id=first.id)),
    ]
    world.waiting = [
        ApprovalRow(id=uuid4(), symbol="SOLUSDT", side="SHORT", margin=Decimal(100), notional=Decimal(1000), leverage=Decimal(10),
                    expires_at=datetime.now(UTC) + timedelta(minutes=7), created_at=datetime.now(UTC), signal=waits)
    ]  # fmt: skip
    world.scanned = [
        ScanRow(id=uuid4(), candle_close=NOW - timedelta(minutes=3), as_of=NOW - timedelta(minutes=3), universe=482, screened=60,
                candidates=[{"symbol": "SOLUSDT", "direction": "SHORT", "score": 31.2, "features": {"rsi": 71.2, "volume_ratio": 2.1,
                             "trend": "BEAR"}, "whale": {"signal": "DUMP_IMMINENT"}},
                            {"symbol": "WIFUSDT", "direction": "LONG", "score": 12.05, "features": {"rsi": 33.1}, "whale": None}],
                signals=1, rejections={"low_quote_volume": 310, "low_volume_ratio": 41},
                timings_ms={"market": 46.2, "screen": 3.4}, wall_ms=81.4, analyst="rules", trace_id="7f3a9c",
                fallbacks=["tickers from REST", "large trades of 2 symbols from REST"])
    ]  # fmt: skip
    market.feed = WhalesReply(
        as_of=NOW, feed_age_ms=1200,
        views=[WhaleView(symbol="SOLUSDT", signal=WhaleSignal.DUMP_IMMINENT, confidence=70, pressure=LiquidationPressure.LONG_HEAVY,
                         long_liquidations_usd=1_240_000.0, short_liquidations_usd=40_300.0, pump_points=1, dump_points=4,
                         reasons=["longs liquidated", "asks outweigh bids"], liquidations=12, cascade_answer_ratio=-0.021,
                         book_imbalance_ratio=-0.31, large_bought_usd=378_800.0, large_sold_usd=66_000.0, funding_ratio=0.000373,
                         open_interest_change_ratio=-0.012, long_short_ratio=1.84)],
        recent=[Liquidation(symbol="SOLUSDT", side=Side.LONG, price=Decimal("142.1"), quantity=Decimal(700), usd=99_470.0, at=NOW)],
    )  # fmt: skip
