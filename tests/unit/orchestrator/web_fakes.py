"""A web application in memory: every port behind the routes as a hand-written fake, and two people with one position each."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import msgspec
from litestar import Litestar

from orchestrator.errors import EngineUnavailable, StoreUnavailable
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
from orchestrator.web.addresses import Addresses
from orchestrator.web.auth import Auth, Tokens
from orchestrator.web.doors import Doors
from orchestrator.web.factors import FactorKey, Factors
from orchestrator.web.health import Health, Source
from orchestrator.web.hub import Hub
from orchestrator.web.market import Market
from orchestrator.web.pages import error_page, pages_router
from orchestrator.web.site import create_site
from shared.analysis import MarksReply, WhalesReply
from tests.browser.fakes import FakeForms
from tests.fakes import FakeLifeline
from tests.fakes_vault import FakeKeyEngine, FakeSealer, FakeVault

NOW = datetime(2025, 9, 22, 6, 0, tzinfo=UTC)
WALL = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = "a secret for tests that is long enough for HS256"
ADDRESS = "198.51.100.4"
PASSWORD = "correct horse battery"


class FakeClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.market, self.real = NOW, WALL

    def now(self) -> datetime:
        return self.market

    def wall(self) -> datetime:
        return self.real


class FakeStore:
    """Implements Logins, Preferences and Reads over dicts."""

    def __init__(self) -> None:
        self.users: dict[UUID, UserRow] = {}
        self.hashes: dict[UUID, str] = {}
        self.sessions: dict[UUID, Session] = {}
        self.revoked: set[UUID] = set()
        self.real_rows: dict[UUID, RealRow] = {}
        self.accounts = RealAccounts(followed=0, unheard=0, oldest=None, foreign_accounts=0, foreign=0, differing=0)
        self.position_rows: list[tuple[UUID, PositionRow]] = []
        self.approval_rows: list[tuple[UUID, ApprovalRow]] = []
        self.signal_rows: list[SignalRow] = []
        self.entries: list[tuple[UUID, str, LedgerRow]] = []
        self.finds = 0
        self.refusals: list[tuple[UUID | None, str]] = []
        self.away = False

    def answer(self) -> None:
        """Raises while PostgreSQL is away."""
        if self.away:
            raise StoreUnavailable("postgresql: away")

    async def add_user(self, user: NewUser) -> bool:
        if any(row.username.lower() == user.username.lower() for row in self.users.values()):
            return False
        fields = msgspec.structs.asdict(user)
        self.hashes[user.id] = fields.pop("password_hash")
        self.users[user.id] = UserRow(mode="PAPER", real_balance_cache=None, real_balance_at=None, settings_version=1, **fields)
        opening = LedgerRow(
            id=len(self.entries) + 1,
            at=user.created_at,
            kind="DEPOSIT",
            amount=user.paper_balance,
            position_id=None,
            balance_after=user.paper_balance,
        )
        self.entries.append((user.id, "PAPER", opening))
        return True

    async def credentials(self, username: str) -> Credentials | None:
        for row in self.users.values():
            if row.username == username:
                return Credentials(
                    user_id=row.id, username=username, password_hash=self.hashes[row.id], role=row.role, mode=row.mode
                )
        return None

    async def replace_hash(self, user_id: UUID, password_hash: str) -> None:
        self.hashes[user_id] = password_hash

    async def open(self, login_id: UUID, user_id: UUID, at: datetime, ends_at: datetime) -> None:
        row = self.users[user_id]
        self.sessions[login_id] = Session(
            login_id=login_id, user_id=user_id, username=row.username, role=row.role, mode=row.mode, ends_at=ends_at
        )

    async def find(self, login_id: UUID, at: datetime) -> Session | None:
        self.finds += 1
        self.answer()
        session = self.sessions.get(login_id)
        gone = session is None or login_id in self.revoked or session.ends_at <= at
        return None if gone else session

    async def touch(self, login_id: UUID, at: datetime) -> None:
        return None

    async def refused(self, user_id: UUID | None, address: str) -> None:
        self.refusals.append((user_id, address))

    async def revoke(self, login_id: UUID, at: datetime) -> bool:
        self.revoked.add(login_id)
        return True

    async def revoke_others(self, user_id: UUID, kept: UUID, at: datetime) -> list[UUID]:
        theirs = {one for one, session in self.sessions.items() if session.user_id == user_id and one != kept}
        ended = sorted(theirs - self.revoked)
        self.revoked |= theirs
        return ended

    async def change(self, user_id: UUID, changes: SettingsChanges, at: datetime, version: int | None) -> UserRow | None:
        row = self.users[user_id]
        if version is not None and row.settings_version != version:
            return None
        given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None}
        self.users[user_id] = msgspec.structs.replace(row, settings_version=row.settings_version + bool(given), **given)
        return self.users[user_id]

    async def user(self, user_id: UUID) -> UserRow | None:
        self.answer()
        return self.users.get(user_id)

    async def account(self, user_id: UUID, mode: str) -> Account:
        mine = [entry.amount for owner, of, entry in self.entries if owner == user_id and of == mode]
        live = await self.positions(user_id, statuses=("OPEN", "CLOSING"), mode=mode)
        return Account(
            balance=sum(mine, Decimal(0)),
            margin_used=sum((row.margin for row in live), Decimal(0)),
            margin_claimed=Decimal(0),
            open_positions=len(live),
            waiting=0,
        )

    async def real(self, user_id: UUID) -> RealRow:
        self.answer()
        return self.real_rows.get(user_id, RealRow())

    async def real_accounts(self) -> RealAccounts:
        self.answer()
        return self.accounts

    async def positions(
        self, user_id: UUID, *, statuses: Sequence[str], mode: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[PositionRow]:
        mine = [row for owner, row in self.position_rows if owner == user_id and row.status in statuses]
        return [row for row in mine if mode is None or row.mode == mode][offset : offset + limit]

    async def position(self, user_id: UUID, position_id: UUID) -> PositionRow | None:
        return next((row for owner, row in self.position_rows if (owner, row.id) == (user_id, position_id)), None)

    async def fills(self, user_id: UUID, position_id: UUID) -> list[FillRow]:
        return []

    async def history(self, user_id: UUID, mode: str, *, limit: int, offset: int) -> list[PositionRow]:
        return await self.positions(user_id, statuses=("CLOSED_WIN", "CLOSED_LOSS"), mode=mode, limit=limit, offset=offset)

    async def stats(self, user_id: UUID, mode: str, day_start: datetime) -> Stats:
        zero = Decimal(0)
        return Stats(
            trades=0, wins=0, losses=0, net_pnl=zero, gross_pnl=zero, fees=zero, funding=zero, best=None, worst=None,
            today_trades=0, today_pnl=zero, today_booked=zero,
        )  # fmt: skip

    async def equity(self, user_id: UUID, mode: str, since: datetime | None, points: int = 200) -> list[EquityPoint]:
        return [EquityPoint(at=NOW, value=(await self.account(user_id, mode)).balance)]

    async def ledger(self, user_id: UUID, mode: str, *, limit: int, offset: int, dry_run: bool = False) -> LedgerPage:
        mine = [entry for owner, of, entry in self.entries if owner == user_id and of == mode][::-1]
        balance = sum((entry.amount for entry in mine), Decimal(0))
        return LedgerPage(entries=mine[offset : offset + limit], total=len(mine), balance=balance)

    async def approvals(self, user_id: UUID, at: datetime) -> list[ApprovalRow]:
        return [row for owner, row in self.approval_rows if owner == user_id and row.expires_at > at]

    async def signals(self, user_id: UUID, *, limit: int, offset: int = 0, symbol: str | None = None) -> list[SignalView]:
        found = [row for row in self.signal_rows if symbol is None or row.symbol == symbol]
        return [SignalView(signal=row, decision=Decision(kind="none")) for row in found[offset : offset + limit]]

    async def signal(self, user_id: UUID, signal_id: UUID) -> SignalView | None:
        found = [view for view in await self.signals(user_id, limit=100) if view.signal.id == signal_id]
        return found[0] if found else None

    async def receipt(self, user_id: UUID, receipt_id: UUID | None = None) -> ReceiptRow | None:
        return None

    async def scans(self, limit: int = 20) -> list[ScanRow]:
        return []

    async def admin_users(self, *, limit: int, offset: int) -> list[AdminUserRow]:
        return [
            AdminUserRow(
                id=row.id, username=row.username, role=row.role, mode=row.mode, auto_trade_enabled=row.auto_trade_enabled,
                open_positions=0, created_at=row.created_at,
            )
            for row in self.users.values()
        ]  # fmt: skip

    async def statistics(self) -> Statistics:
        return Statistics(
            users=len(self.users), scans=0, signals=0, orders=0, open_positions=0, closed_wins=0, closed_losses=0, refusals={}
        )


class FakeThrottle:
    """Delays after three failures, counted in attempts rather than in time."""

    def __init__(self) -> None:
        self.failures: dict[tuple[str, str], int] = {}
        self.spent: dict[tuple[str, str], int] = {}

    async def wait_seconds(self, name: str, address: str) -> float:
        return max(0, self.failures.get((name, address), 0) - 2)

    async def failed(self, name: str, address: str) -> None:
        self.failures[name, address] = self.failures.get((name, address), 0) + 1

    async def passed(self, name: str, address: str) -> None:
        self.failures.pop((name, address), None)

    async def spend(self, what: str, address: str, limit: int) -> float:
        self.spent[what, address] = self.spent.get((what, address), 0) + 1
        return 30.0 if self.spent[what, address] > limit else 0.0


class FakeDesk:
    """Trades nothing; answers as the desk would for the owner of a row, and refuses everybody else."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.asked: list[tuple[Any, ...]] = []
        self.flat = True
        self.syncing: set[UUID] = set()

    def sync_balance(self, user_id: UUID) -> None:
        self.asked.append(("balance", user_id))
        self.syncing.add(user_id)

    def balance_syncing(self, user_id: UUID) -> bool:
        return user_id in self.syncing

    async def close(self, user_id: UUID, position_id: UUID, quantity: Decimal | None) -> Closed | Refusal:
        row = await self._store.position(user_id, position_id)
        if row is None:
            return _nothing()
        self.asked.append(("close", position_id, quantity))
        closed = quantity or row.size
        return Closed(
            position_id=position_id,
            symbol=row.symbol,
            closed_quantity=closed,
            left=row.size - closed,
            status="CLOSED_WIN",
            pnl=Decimal("1.5"),
        )

    async def amend(
        self,
        user_id: UUID,
        position_id: UUID,
        *,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing_ratio: Decimal | None,
    ) -> Amended | Refusal:
        row = await self._store.position(user_id, position_id)
        if row is None:
            return _nothing()
        self.asked.append(("amend", position_id, stop_loss, take_profit, trailing_ratio))
        return Amended(
            position_id=position_id,
            stop_loss=stop_loss or row.stop_loss,
            take_profit=take_profit or row.take_profit,
            trailing_ratio=trailing_ratio,
        )

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        if not self._waits(user_id, approval_id):
            return _nothing()
        return Entered(position_id=uuid4(), symbol="BTCUSDT")

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        return None if self._waits(user_id, approval_id) else _nothing()

    async def stop(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        self.asked.append(("stop", user_id, close_positions))
        return Stopped(auto_trade_enabled=False, positions=[])

    async def panic(self, user_id: UUID) -> PanicReceipt:
        results = [SymbolResult(symbol="BTCUSDT", result="closed" if self.flat else "still open")]
        return PanicReceipt(
            receipt_id=uuid4(),
            auto_trade_enabled=False,
            positions=results,
            open_positions=0 if self.flat else 1,
            open_orders=0,
            flat=self.flat and not self._store.away,
            stored=not self._store.away,
        )

    async def request_scan(self) -> str:
        return "scan:now"

    def _waits(self, user_id: UUID, approval_id: UUID) -> bool:
        return any((owner, row.id) == (user_id, approval_id) for owner, row in self._store.approval_rows)


class FakeBus:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID | None, str, dict[str, Any]]] = []

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        self.told.append((user_id, event, data))


class FakeMarket:
    """An engine that may be away."""

    def __init__(self) -> None:
        self.reply: MarksReply | None = None
        self.asked = 0

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        self.asked += 1
        if self.reply is None:
            raise EngineUnavailable("away")
        return self.reply

    async def whales(self) -> WhalesReply:
        raise EngineUnavailable("away")


class FakeLog:
    """The bus's other end: messages put into `heard` arrive, those in `kept` were missed."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[LiveMessage] = asyncio.Queue()
        self.kept: list[LiveMessage] = []
        self.name = "boot1"

    async def listen(self) -> AsyncIterator[LiveMessage]:
        while True:
            yield await self.heard.get()

    async def boot(self) -> str:
        return self.name

    async def recent(self, user_id: UUID) -> list[LiveMessage]:
        return [message for message in self.kept if message.user_id in (None, user_id)]


class World:
    """Everything behind the routes, and the doors made of it."""

    def __init__(self, *, registration_open: bool = True, most_streams: int = 100) -> None:
        self.clock, self.store, self.throttle = FakeClock(), FakeStore(), FakeThrottle()
        self.bus, self.log, self.engine = FakeBus(), FakeLog(), FakeMarket()
        self.desk = FakeDesk(self.store)
        self.tokens = Tokens(SECRET)
        self.vault, self.key_engine, self.sealer, self.lifeline = FakeVault(), FakeKeyEngine(), FakeSealer(), FakeLifeline()
        self.vault.in_real = lambda user_id: self.store.users[user_id].mode == "REAL"
        self.arm = Arm(
            self.vault, self.sealer, cast("Engine", self.key_engine), self.lifeline, self.bus, self.clock, dry_run=False
        )
        self.factors = Factors(self.vault, self.throttle, self.clock, FactorKey(SECRET))
        self.auth = Auth(
            self.store, self.throttle, self.clock, self.tokens, factors=self.factors, registration_open=registration_open
        )
        self.market = Market(self.engine, self.clock)
        self.hub = Hub(self.log, self.store, self.market, self.auth, self.clock, most_streams=most_streams)
        self.forms, self.addresses = FakeForms(), Addresses()
        self.sources: list[Source] = []
        self.health = Health(self.sources, self.clock)

    def doors(self) -> Doors:
        return Doors(
            auth=self.auth,
            logins=self.store,
            reads=self.store,
            preferences=self.store,
            desk=self.desk,
            arm=self.arm,
            factors=self.factors,
            bus=self.bus,
            clock=self.clock,
            market=self.market,
            hub=self.hub,
            health=self.health,
            forms=self.forms,
            addresses=self.addresses,
        )

    @asynccontextmanager
    async def open_doors(self) -> AsyncIterator[Doors]:
        yield self.doors()

    async def person(self, name: str, role: str = "USER") -> UUID:
        """Somebody without a password to hash."""
        user = NewUser(id=uuid4(), username=name, password_hash="-", role=role, created_at=NOW)
        await self.store.add_user(user)
        return user.id

    async def token(self, user_id: UUID) -> tuple[str, UUID]:
        """An access token of a new login of theirs."""
        login_id = uuid4()
        ends_at = self.clock.wall() + timedelta(hours=12)
        await self.store.open(login_id, user_id, self.clock.wall(), ends_at)
        return self.tokens.issue(user_id, login_id, self.clock.wall(), ends_at)[0], login_id

    def position(self, user_id: UUID, **changes: Any) -> PositionRow:
        """An open position of theirs."""
        row = msgspec.structs.replace(a_position(), **changes)
        self.store.position_rows.append((user_id, row))
        return row

    def approval(self, user_id: UUID) -> ApprovalRow:
        """An entry of theirs that waits."""
        row = ApprovalRow(
            id=uuid4(),
            symbol="BTCUSDT",
            side="LONG",
            margin=Decimal(100),
            notional=Decimal(1000),
            leverage=Decimal(10),
            expires_at=self.clock.wall() + timedelta(minutes=10),
            created_at=NOW,
            signal=self.signal(),
        )
        self.store.approval_rows.append((user_id, row))
        return row

    def signal(self) -> SignalRow:
        """A signal for everyone."""
        row = SignalRow(
            id=uuid4(),
            symbol="BTCUSDT",
            side="LONG",
            confidence=80,
            signal_price=Decimal("64000.1"),
            stop_loss=Decimal(63000),
            take_profit=Decimal(66000),
            reward_risk=2.0,
            reasoning="It rises.",
            analyst="rules",
            model="",
            features={"rsi": 61.5},
            whale=None,
            tick_size=Decimal("0.1"),
            candle_close=NOW,
            created_at=NOW,
            outcome=None,
            outcome_at=None,
            trace_id="t",
        )
        self.store.signal_rows.append(row)
        return row


@cache
def _site() -> Litestar:
    return create_site(World().open_doors, pages=[pages_router], error_page=error_page)


def client_of(world: World) -> httpx.AsyncClient:
    """A client of a site over this world; the site itself is built once, since a test can wait for its doors but not for its routes."""
    site = _site()
    site.state.doors = world.doors()
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(cast("Any", site), client=(ADDRESS, 4321)), base_url="http://neurotrade.test"
    )


def a_position() -> PositionRow:
    """0.1 BTC long from 64,000 at 10x."""
    return PositionRow(
        id=uuid4(),
        signal_id=None,
        symbol="BTCUSDT",
        side="LONG",
        mode="PAPER",
        dry_run=False,
        status="OPEN",
        size=Decimal("0.100000000000"),
        opened_size=Decimal("0.1"),
        entry_price=Decimal("64000.000000000000"),
        exit_price=None,
        stop_loss=Decimal(63000),
        take_profit=Decimal(66000),
        trailing_ratio=None,
        leverage=Decimal(10),
        margin=Decimal(640),
        liquidation_price=Decimal("57900.12"),
        tick_size=Decimal("0.1"),
        step_size=Decimal("0.001"),
        realized_pnl=Decimal(0),
        fees=Decimal("3.2"),
        funding=Decimal("-0.3"),
        pnl=None,
        close_reason=None,
        unprotected_seconds=None,
        opened_at=NOW,
        closed_at=None,
        version=1,
    )


def _nothing() -> Refusal:
    return Refusal(reason=RefusalReason.NOT_FOUND, detail="It does not exist.")
