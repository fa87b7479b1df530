"""What the pages tell somebody with real money to look at, and in which words."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from orchestrator.core.arming import DRY_CANARY
from orchestrator.core.order import RefusalReason
from orchestrator.core.position import CloseReason
from orchestrator.ports import ForeignRow, PositionRow, RealRow, UserRow
from orchestrator.web.pages_alarms import Alarm, alarms_of, wallet_of
from orchestrator.web.pages_words import CLOSE_REASONS, REFUSALS
from tests.browser.fakes import FakeBus, FakeMarket, FakeWorld, fill, position_row, site_of

HTML = {"accept": "text/html"}
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


def test_a_proof_of_protection_that_was_a_dry_run_stops_live_entries_here_as_where_they_are_armed() -> None:
    dry = msgspec.structs.replace(SOUND, canary_detail=f"{DRY_CANARY}: nothing was placed")
    (alarm,) = seen(dry)
    assert (alarm.title, alarm.href) == ("No new real entries", "/dashboard/settings#mode")
    assert "the last proof of protection was a dry run" in alarm.says.lower()
    assert [one.title for one in seen(dry, dry_run=True)] == ["Dry run"]
    (unarmed,) = seen(msgspec.structs.replace(dry, armed_at=None))
    assert "REAL is not armed" in unarmed.says


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
    assert "holds $1,000.00, the ledger $1,001.50." in differs.says


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
    ("mode", "age", "syncing", "status"),
    [
        ("REAL", 5, False, "fresh"),
        ("REAL", 5, True, "fresh"),
        ("REAL", 60, True, "syncing"),
        ("REAL", None, True, "syncing"),
        ("REAL", 60, False, "stale"),
        ("PAPER", 60, False, "stale"),
        ("REAL", None, False, "none"),
    ],
)
def test_the_wallet_says_how_good_it_is(mode: str, age: int | None, syncing: bool, status: str) -> None:
    heard = None if age is None else WALL - timedelta(seconds=age)
    assert wallet_of(user(mode=mode, real_balance_at=heard), WALL, syncing=syncing).status == status


def test_every_refusal_and_every_reason_of_a_close_has_words() -> None:
    assert {str(reason) for reason in RefusalReason} <= set(REFUSALS)
    assert {str(reason) for reason in CloseReason} == set(CLOSE_REASONS)


NAKED = "It is put back or the position is closed, within seconds."


@pytest.fixture
def dashboard() -> Iterator[tuple[FakeWorld, FakeMarket, TestClient[Litestar]]]:
    """Somebody with real money, whose account is sound."""
    world, market = FakeWorld(), FakeMarket()
    with TestClient(site_of(world, market, FakeBus())) as client:
        text = client.get("/register", headers=HTML).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', text)
        assert token is not None
        client.post(
            "/register", data={"csrf_token": token[1], "username": "ann", "password": "correct horse battery"}, headers=HTML
        )
        fill(world, market)
        (user_id,) = world.users
        world.users[user_id] = msgspec.structs.replace(
            world.users[user_id],
            mode="REAL",
            has_api_key=True,
            real_balance_cache=Decimal("10035.67"),
            real_balance_at=datetime.now(UTC),
        )
        first, second = world.live
        world.live = [
            msgspec.structs.replace(
                first, mode="REAL", stop_order_id="nt-s-1", trailing_ratio=Decimal("0.005"), protected_at=WALL
            ),
            msgspec.structs.replace(second, mode="REAL", dry_run=True),
        ]
        world.known = msgspec.structs.replace(SOUND, heard_at=datetime.now(UTC))
        yield world, market, client


def read(client: TestClient[Litestar], path: str) -> str:
    reply = client.get(path, headers=HTML)
    assert reply.status_code == 200, path
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", reply.text))


def test_a_real_position_shows_what_rests_at_the_exchange_and_a_dry_run_is_of_no_wallet(
    dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]],
) -> None:
    world, _, client = dashboard
    overview = read(client, "/dashboard")
    assert "Open positions (1)" in overview
    assert "Dry runs, of no wallet (1)" in overview
    assert "1 of 1 position keeps a stop at the exchange" in overview
    assert "Wallet at the exchange $10,035.67" in overview
    assert NAKED not in overview
    page = read(client, f"/dashboard/positions/{world.live[0].id}")
    assert "Stop rests at the exchange, confirmed 22 Sep 14:03" in page
    assert "0.50% behind the best price not resting yet" in page
    assert "DRY RUN" in read(client, f"/dashboard/positions/{world.live[1].id}")


def test_a_missing_stop_is_loud_wherever_the_position_is_shown(
    dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]],
) -> None:
    world, _, client = dashboard
    world.live[0] = msgspec.structs.replace(world.live[0], stop_order_id=None)
    for path in ("/dashboard", "/dashboard/positions", "/dashboard/_/alarms"):
        assert NAKED in read(client, path)
    assert "0 of 1 position keeps a stop" in read(client, "/dashboard")
    assert "No confirmed stop" in read(client, f"/dashboard/positions/{world.live[0].id}")


def test_an_account_that_was_not_read_yet_has_no_balance_and_not_zero(
    dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]],
) -> None:
    world, _, client = dashboard
    world.known = RealRow(armed_at=WALL)
    overview = read(client, "/dashboard")
    assert "Reading your account" in overview
    assert "Free \u2014" in overview
    assert client.get("/dashboard/_/tick").json()["t"]["equity"] == "\u2014"
    assert "has not been read yet" in read(client, "/dashboard/ledger")


def test_stopped_entries_are_said_in_the_strip_and_a_differing_ledger_in_the_health(
    dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]],
) -> None:
    world, _, client = dashboard
    world.known = msgspec.structs.replace(
        world.known, refusal="not proven today: hedge mode", alarmed_at=WALL, difference=Decimal(1)
    )
    overview = read(client, "/dashboard")
    assert "Trading waits" in overview
    assert "Not proven today: hedge mode. Open positions stay protected." in overview
    assert "Ledger and its wallet differ" in overview


def test_the_strip_waits_too_while_the_last_proof_was_a_dry_run(
    dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]],
) -> None:
    world, _, client = dashboard
    assert "Trading waits" not in read(client, "/dashboard")
    world.known = msgspec.structs.replace(world.known, canary_detail=f"{DRY_CANARY}: nothing was placed")
    overview = read(client, "/dashboard")
    assert "Trading waits" in overview
    assert "No new real entries" in overview
    assert "was a dry run" in client.get("/api/user/exchange").json()["stopped"]


def test_the_past_of_paper_stays_readable_in_real(dashboard: tuple[FakeWorld, FakeMarket, TestClient[Litestar]]) -> None:
    _, _, client = dashboard
    assert "Equal to the exchange" in read(client, "/dashboard/ledger")
    paper = client.get("/dashboard/ledger?mode=PAPER", headers=HTML).text
    assert 'class="PAPER" aria-current="true"' in paper
    assert "Equal to the exchange" not in paper
    assert "What dry runs would have made" in read(client, "/dashboard/ledger?mode=DRY")
