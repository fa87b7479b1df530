"""What the pages tell somebody with real money to look at, and in which words."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from orchestrator.core.order import RefusalReason
from orchestrator.core.position import CloseReason
from orchestrator.ports import ForeignRow, PositionRow, RealRow, UserRow
from orchestrator.web.pages_alarms import Alarm, alarms_of, wallet_of
from orchestrator.web.pages_words import CLOSE_REASONS, REFUSALS
from tests.browser.fakes import position_row

WALL = datetime(2025, 9, 22, 14, 3, tzinfo=UTC)
SOUND = RealRow(
    armed_at=WALL - timedelta(hours=2), heard_at=WALL - timedelta(seconds=20), opened=True, position_mode="ONE_WAY",
    wallet=Decimal(1000),
)  # fmt: skip


def user(**changes: Any) -> UserRow:
    usual = UserRow(
        id=uuid4(), username="ada", role="USER", mode="REAL", paper_balance=Decimal(0), real_balance_cache=Decimal(1000),
        real_balance_at=WALL - timedelta(seconds=5), fixed_order_size=Decimal(10), leverage=Decimal(10), auto_trade_enabled=True,
        max_daily_loss=Decimal(100), max_positions=5, max_exposure=Decimal(1000), settings_version=1, created_at=WALL,
        has_api_key=True, totp_enabled=True,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **changes)


def real_position(**changes: Any) -> PositionRow:
    return position_row(**({"mode": "REAL", "dry_run": False, "status": "OPEN", "stop_order_id": "nt-s-1"} | changes))


def seen(real: RealRow, *rows: PositionRow, dry_run: bool = False, **changes: Any) -> list[Alarm]:
    return alarms_of(user(**changes), real, rows, WALL, dry_run=dry_run)


def test_a_sound_account_alarms_nobody() -> None:
    assert seen(SOUND, real_position()) == []


def test_a_position_without_a_confirmed_stop_comes_first_and_leads_to_where_it_can_be_closed() -> None:
    naked = real_position(stop_order_id=None)
    refused = msgspec.structs.replace(SOUND, refusal="the proof of protection failed: the order was refused")
    first, second = seen(refused, naked)
    assert first.title == f"{naked.symbol} has no confirmed stop"
    assert first.href == f"/dashboard/positions/{naked.id}"
    assert second.says.startswith("The proof of protection failed: the order was refused.")


@pytest.mark.parametrize("changes", [{"mode": "PAPER"}, {"dry_run": True}, {"status": "CLOSING"}])
def test_only_an_open_real_position_needs_a_stop_at_the_exchange(changes: dict[str, Any]) -> None:
    assert seen(SOUND, real_position(stop_order_id=None, **changes)) == []


@pytest.mark.parametrize(
    ("real", "changes", "says"),
    [
        (SOUND, {"has_api_key": False}, "There is no exchange key"),
        (msgspec.structs.replace(SOUND, armed_at=None), {}, "REAL is not armed"),
        (msgspec.structs.replace(SOUND, refusal="the exchange key was deleted"), {}, "The exchange key was deleted."),
    ],
)
def test_why_real_entries_are_stopped_is_said_with_the_way_to_mend_it(real: RealRow, changes: dict[str, Any], says: str) -> None:
    (alarm,) = seen(real, **changes)
    assert alarm.title == "No new real entries"
    assert says in alarm.says
    assert alarm.href == "/dashboard/settings#mode"


def test_what_is_not_ours_is_named_and_belongs_to_its_owner() -> None:
    foreign = [
        ForeignRow(symbol="ETHUSDT", name="position", side="LONG", quantity=Decimal("0.500")),
        ForeignRow(symbol="SOLUSDT", name="web_1", side="BUY", quantity=Decimal(3)),
    ]
    for mode in ("REAL", "PAPER"):
        (alarm,) = seen(msgspec.structs.replace(SOUND, foreign=foreign), mode=mode)
        assert alarm.says.startswith("0.5 LONG ETHUSDT, 3 BUY SOLUSDT (order web_1).")


def test_a_ledger_that_differs_and_an_order_without_an_answer_are_said() -> None:
    unknown, differs = seen(
        msgspec.structs.replace(SOUND, alarmed_at=WALL, difference=Decimal("-1.5"), unknown=["BTCUSDT", "ETHUSDT"])
    )
    assert unknown.title == "No answer yet for BTCUSDT, ETHUSDT"
    assert "holds $1,000.00; the ledger lacks \u2212$1.50" in differs.says


def test_an_account_that_was_not_read_for_minutes_or_never_is_said() -> None:
    (old,) = seen(msgspec.structs.replace(SOUND, heard_at=WALL - timedelta(minutes=5)))
    assert old.title == "Your account was last read 5 min ago"
    (new,) = seen(RealRow(armed_at=WALL))
    assert new.title == "Reading your account"


def test_a_dry_run_and_hedge_mode_are_said() -> None:
    hedged, dry = seen(msgspec.structs.replace(SOUND, position_mode="HEDGE"), dry_run=True)
    assert "one-way" in hedged.says
    assert dry.title == "Dry run"


@pytest.mark.parametrize(
    ("mode", "age", "status"), [("REAL", 5, "fresh"), ("REAL", 60, "syncing"), ("PAPER", 60, "stale"), ("REAL", None, "syncing")]
)
def test_the_wallet_says_how_good_it_is(mode: str, age: int | None, status: str) -> None:
    heard = None if age is None else WALL - timedelta(seconds=age)
    assert wallet_of(user(mode=mode, real_balance_at=heard), WALL).status == status


def test_every_refusal_and_every_reason_of_a_close_has_words() -> None:
    assert {str(reason) for reason in RefusalReason} <= set(REFUSALS)
    assert {str(reason) for reason in CloseReason} == set(CLOSE_REASONS)
