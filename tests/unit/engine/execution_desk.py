"""A whole execution desk in memory: a market that stands still, a clock that is told the time, reports in a dict."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.core.instrument import InstrumentRules
from engine.core.market import MINUTE_MS, Book, Candles, Funding, Mark, MarkBar, Positioning, Ticker, Timeframe, Trade
from engine.errors import (
    ClientOrderIdReused,
    ExchangeError,
    ExchangeUnreachable,
    ReportStoreUnavailable,
    UnknownSymbol,
)
from engine.execution.asking import Patience
from engine.execution.desk import Desk
from engine.execution.exchange_venue import ExchangeVenue
from engine.execution.lasting_once import LastingOnce
from engine.execution.once import Once
from engine.execution.opening import opened
from engine.execution.signed_reads import SignedReads
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Claimed, Exchange, Exchanges, InFlight, Urgency
from shared.enums import Side
from shared.execution import (
    Account,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    PaperAccount,
    PaperBook,
    PaperPosition,
    RealAccount,
    SealedCredentials,
)

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)
WALL_MS = 1_800_000_000_000

BTC = InstrumentRules(
    symbol="BTCUSDT",
    status="TRADING",
    contract_type="PERPETUAL",
    base_asset="BTC",
    quote_asset="USDT",
    tick_size=Decimal("0.1"),
    min_price=Decimal("556.8"),
    max_price=Decimal(4529764),
    step_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    max_quantity=Decimal(1000),
    market_min_quantity=Decimal("0.001"),
    market_max_quantity=Decimal(120),
    min_notional=Decimal(50),
    price_multiplier_up=Decimal("1.05"),
    price_multiplier_down=Decimal("0.95"),
    liquidation_fee_ratio=Decimal("0.0125"),
    market_take_bound=Decimal("0.05"),
)
"""Real rule values of BTCUSDT."""

ASKS = ((Decimal("60000.1"), Decimal("0.5")), (Decimal("60000.5"), Decimal(1)), (Decimal(60010), Decimal(5)))
BIDS = ((Decimal("60000.0"), Decimal("0.5")), (Decimal("59999.5"), Decimal(1)), (Decimal(59990), Decimal(5)))
BTC_BOOK = Book(symbol="BTCUSDT", bids=BIDS, asks=ASKS, at_ms=WALL_MS, received_ms=WALL_MS)
BTC_MARK = Mark(
    symbol="BTCUSDT",
    price=Decimal(60000),
    at_ms=WALL_MS,
    funding_rate=Decimal("0.0001"),
    next_funding_ms=WALL_MS + 1,
    received_ms=WALL_MS,
)


class StandingClock:
    """Market time and wall time as a test sets them."""

    def __init__(self) -> None:
        self.market = NOW
        self.wall_now_ms = WALL_MS
        self.speed = 1.0

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        return (until - since).total_seconds() if self.speed == 1 else None

    def now(self) -> datetime:
        return self.market

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.wall_now_ms / 1000, UTC)

    def now_ms(self) -> int:
        return round(self.market.timestamp() * 1000)

    def wall_ms(self) -> int:
        return self.wall_now_ms

    def pass_wall(self, passed: timedelta) -> None:
        self.wall_now_ms += round(passed.total_seconds() * 1000)


TWINS = frozenset({"BTCUSDT", "ETHUSDT"})
"""Symbols that the standing market lists, all with one book."""


class StandingMarket:
    """Rules, book and mark; `down` makes every question fail, `asked` counts them."""

    def __init__(self) -> None:
        self.rules = BTC
        self.book_now = BTC_BOOK
        self.mark_now: Mark | None = BTC_MARK
        self.bar_open = Decimal(60000)
        self.since_ms = 0
        self.down = False
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise ExchangeUnreachable("connection refused")

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        self._answer()
        return {self.rules.symbol: self.rules}

    async def instrument(self, symbol: str) -> InstrumentRules:
        self._answer()
        if symbol not in TWINS:
            raise UnknownSymbol(symbol)
        return self.rules

    async def book(self, symbol: str) -> Book:
        self._answer()
        return self.book_now

    async def mark(self, symbol: str) -> Mark:
        self._answer()
        if self.mark_now is None or symbol not in TWINS:
            raise ExchangeUnreachable("no mark")
        return self.mark_now

    async def tickers(self) -> Mapping[str, Ticker]:
        raise ExchangeError

    async def candles(self, symbol: str, timeframe: Timeframe) -> Candles:
        raise ExchangeError

    async def marks(self) -> Mapping[str, Mark]:
        raise ExchangeError

    async def trades(self, symbol: str) -> Sequence[Trade]:
        raise ExchangeError

    async def positioning(self, symbol: str, mark: Mark | None = None) -> Positioning:
        raise ExchangeError

    async def mark_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[MarkBar]:
        self._answer()
        price, minutes = self.bar_open, range(max(since_ms, self.since_ms), until_ms + 1, MINUTE_MS)
        return [MarkBar(open_ms=at, close_ms=at + MINUTE_MS, open=price, high=price, low=price) for at in minutes]

    async def fundings(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Funding]:
        raise ExchangeError


class DictReports:
    """Reports in a dict. `down` fails every question, `lose_keep` only the keeping; a test drops a claim as time would."""

    def __init__(self) -> None:
        self.claims: dict[str, tuple[str, str]] = {}
        self.kept: dict[str, tuple[str, ExecutionReport]] = {}
        self.down = False
        self.lose_keep = False
        self._tokens = 0

    def _answer(self) -> None:
        if self.down:
            raise ReportStoreUnavailable("redis does not answer")

    def expire_claims(self) -> None:
        self.claims.clear()

    async def claim(
        self, client_order_id: str, digest: str, seconds: float | None = None
    ) -> Claimed | InFlight | ExecutionReport:
        del seconds
        self._answer()
        known = self.kept.get(client_order_id) or self.claims.get(client_order_id)
        if known is None:
            self._tokens += 1
            self.claims[client_order_id] = (digest, str(self._tokens))
            return Claimed(token=str(self._tokens))
        if known[0] != digest:
            raise ClientOrderIdReused(client_order_id)
        return known[1] if isinstance(known[1], ExecutionReport) else InFlight()

    async def keep(self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport) -> bool:
        self._answer()
        if self.lose_keep:
            raise ReportStoreUnavailable("redis does not answer")
        if self.claims.get(client_order_id) != (digest, claim.token):
            return False
        del self.claims[client_order_id]
        self.kept[client_order_id] = (digest, report)
        return True

    async def release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        self._answer()
        if self.claims.get(client_order_id) == (digest, claim.token):
            del self.claims[client_order_id]

    async def find(self, client_order_id: str) -> ExecutionReport | InFlight | None:
        self._answer()
        if client_order_id in self.kept:
            return self.kept[client_order_id][1]
        return InFlight() if client_order_id in self.claims else None


SOON = Patience(
    poll=0.002,
    read=0.3,
    outcome=0.05,
    shown=0.05,
    linger=0.05,
    protect=0.06,
    fills=0.05,
    drain=0.4,
    clear=0.1,
    flatten=1.0,
    apart=0.01,
    again=0.01,
    silence=0.02,
)
"""Bounds of the exchange in hundredths of a second; those of the wall clock as they are."""


class NoExchanges:
    """No account is ever opened."""

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        del account, urgency
        raise AssertionError("an account at the exchange was opened")


class World:
    """A desk and everything that a test may turn about it."""

    def __init__(
        self,
        *,
        market: StandingMarket | None = None,
        dry_run: bool = True,
        work_seconds: float = 1.0,
        wait_seconds: float = 0.2,
        exchanges: Exchanges | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.market = market or StandingMarket()
        self.clock = StandingClock()
        self.reports = DictReports()
        self.real_venues = 0
        self.exchanges = exchanges or NoExchanges()
        self.patience = patience or SOON
        self.desk = Desk(
            market=self.market,
            clock=self.clock,
            once=Once(reports=self.reports, work_seconds=work_seconds, wait_seconds=wait_seconds),
            lasting=LastingOnce(reports=self.reports, answer_seconds=5.0),
            patience=self.patience,
            turns=Turns(self.reports),
            venues=Venues(
                paper=lambda account: PaperVenue(self.market, self.clock, account.book),
                dry=self._dry,
                real=self._real,
                exchanges=self.exchanges,
                dry_run=dry_run,
            ),
        )

    def _dry(self, account: RealAccount) -> DryRunVenue:
        reads = SignedReads(lambda: opened(self.exchanges, account, Urgency.ENTER), self.patience)
        return DryRunVenue(self.market, self.clock, account.dry_positions, reads)

    def _real(self, account: RealAccount) -> ExchangeVenue:
        self.real_venues += 1
        return ExchangeVenue(account, self.exchanges, self.market, self.clock, self.patience, self.desk.turns)

    def set_rules(self, **changes: Any) -> None:
        self.market.rules = msgspec.structs.replace(self.market.rules, **changes)

    def set_book(self, **changes: Any) -> None:
        self.market.book_now = msgspec.structs.replace(self.market.book_now, **changes)


def paper(*positions: PaperPosition, balance: str = "10000") -> PaperAccount:
    """A paper account with what is open in it."""
    return PaperAccount(book=PaperBook(balance=Decimal(balance), positions=list(positions)))


def real(*positions: PaperPosition, dry_run: bool) -> RealAccount:
    """An account at the exchange, with its dry-run positions if any are told."""
    return RealAccount(user_id="7", dry_run=dry_run, dry_positions=list(positions) or None)


def armed() -> RealAccount:
    """An account at the exchange with its key."""
    return RealAccount(user_id="7", dry_run=False, credentials=SealedCredentials(key_id="k", sealed="c2VhbGVk"))


def held(side: Side = Side.LONG, quantity: str = "0.01", entry_price: str = "60000", **changes: Any) -> PaperPosition:
    """A position of 600 USDT at 20x, margin 30, with stop and target one and two percent away."""
    sign = side.sign
    fields: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "side": side,
        "quantity": Decimal(quantity),
        "entry_price": Decimal(entry_price),
        "leverage": Decimal(20),
        "margin": Decimal(quantity) * Decimal(entry_price) / 20,
        "stop_loss": Decimal(60000 - sign * 600),
        "take_profit": Decimal(60000 + sign * 1200),
    }
    return PaperPosition(**(fields | changes))


def entry(account: Account | None = None, side: Side = Side.LONG, **changes: Any) -> EntryRequest:
    """600 USDT at 20x, stop one percent and target two percent away."""
    fields: dict[str, Any] = {
        "account": account or paper(),
        "client_order_id": "e-1",
        "symbol": "BTCUSDT",
        "side": side,
        "amount_usdt": Decimal(600),
        "leverage": Decimal(20),
        "stop_loss": Decimal(60000 - side.sign * 600),
        "take_profit": Decimal(60000 + side.sign * 1200),
        "signal_price": Decimal(60000),
    }
    return EntryRequest(**(fields | changes))


def closing(account: Account, side: Side = Side.LONG, **changes: Any) -> CloseRequest:
    """All of a position."""
    fields: dict[str, Any] = {"account": account, "client_order_id": "c-1", "symbol": "BTCUSDT", "side": side}
    return CloseRequest(**(fields | changes))


def refusal_of(report: ExecutionReport) -> str:
    """The code of a refused report."""
    assert report.refusal is not None
    assert report.fills == []
    return report.refusal.code
