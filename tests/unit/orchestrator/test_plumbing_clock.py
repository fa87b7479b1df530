"""Market time beside wall time, and what a wallet is known to hold at a moment."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest

from orchestrator.balances import REAL_BALANCE_FRESH, KnownBalances
from orchestrator.clock import MarketClock, market_clock
from orchestrator.errors import ClockUnavailable
from orchestrator.ports import Trader, Wallet
from shared.enums import Mode

NOW = datetime(2025, 9, 22, 6, tzinfo=UTC)
TRADER = Trader(
    id=uuid4(),
    mode=Mode.PAPER,
    fixed_order_size=Decimal(100),
    leverage=Decimal(10),
    auto_trade_enabled=True,
    max_daily_loss=Decimal(500),
    max_positions=10,
    max_exposure=Decimal(20_000),
    paper_balance=Decimal("9998.5"),
)


class StoppedClock:
    def now(self) -> datetime:
        return NOW

    def wall(self) -> datetime:
        return NOW


async def test_without_a_sandbox_market_time_is_the_wall() -> None:
    clock = await market_clock("")
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(clock.now() - clock.wall()) < timedelta(seconds=5)


def test_market_time_runs_at_its_own_speed_from_its_own_start() -> None:
    wall_ms = datetime.now(UTC).timestamp() * 1000
    clock = MarketClock(base_market_ms=NOW.timestamp() * 1000, base_wall_ms=wall_ms - 2000, speed=450.0)
    assert timedelta(minutes=15) <= clock.now() - NOW < timedelta(minutes=60)


async def test_a_sandbox_that_never_answers_ends_the_start() -> None:
    with pytest.raises(ClockUnavailable, match=r"127\.0\.0\.1:1"):
        await market_clock("http://127.0.0.1:1", patience_seconds=0)


def test_a_paper_wallet_is_the_users_row() -> None:
    assert KnownBalances(StoppedClock()).of(TRADER, Mode.PAPER) == Wallet(balance=Decimal("9998.5"), fresh=True)


def test_a_real_wallet_that_was_never_heard_of_is_unknown() -> None:
    assert KnownBalances(StoppedClock()).of(TRADER, Mode.REAL) == Wallet(balance=None, fresh=False)


@pytest.mark.parametrize(("age", "fresh"), [(timedelta(0), True), (REAL_BALANCE_FRESH, True), (timedelta(seconds=31), False)])
def test_a_real_wallet_is_as_good_as_its_age(age: timedelta, fresh: bool) -> None:
    heard = msgspec.structs.replace(TRADER, real_balance_cache=Decimal(50), real_balance_at=NOW - age)
    assert KnownBalances(StoppedClock()).of(heard, Mode.REAL) == Wallet(balance=Decimal(50), fresh=fresh)
