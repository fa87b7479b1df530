"""What the API says of money: settings and their bounds, positions at their marks, panic, the ledger."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from orchestrator.ports import ForeignRow, Mark, RealRow, Stats
from orchestrator.web.valuation import Wealth, day_start, gain, loss_left, value, wealth
from shared.analysis import MarksReply, SymbolMarks
from tests.unit.orchestrator.web_fakes import NOW, World, a_position, client_of

PLAIN = r"^-?\d+(\.\d+)?$"


class Desk:
    """Somebody logged in, and how they ask."""

    def __init__(self, world: World, client: httpx.AsyncClient, user_id: UUID, token: str) -> None:
        self.world, self.client, self.user_id = world, client, user_id
        self.authorization = f"Bearer {token}"
        self._headers = {"Authorization": self.authorization}

    async def get(self, path: str) -> Any:
        return await self.client.get(path, headers=self._headers)

    async def send(self, method: str, path: str, body: Any = None, raw: str | None = None) -> Any:
        headers = self._headers | {"Content-Type": "application/json"}
        if raw is not None:
            return await self.client.request(method, path, content=raw, headers=headers)
        return await self.client.request(method, path, json=body, headers=headers)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    world = World()
    user_id = await world.person("ada")
    async with client_of(world) as client:
        yield Desk(world, client, user_id, (await world.token(user_id))[0])


async def test_settings_read_as_plain_decimals(desk: Desk) -> None:
    assert (await desk.get("/api/settings")).json() == {
        "mode": "PAPER",
        "fixed_order_size": "100",
        "leverage": "10",
        "auto_trade_enabled": False,
        "max_daily_loss": "500",
        "max_positions": 10,
        "max_exposure": "20000",
        "version": 1,
    }


async def test_an_absent_field_stays_and_a_given_one_is_told(desk: Desk) -> None:
    reply = await desk.send("PATCH", "/api/settings", {"fixed_order_size": "250.5", "auto_trade_enabled": True})
    assert (reply.json()["fixed_order_size"], reply.json()["leverage"]) == ("250.5", "10")
    assert reply.json()["version"] == 2
    assert (desk.user_id, "settings", {"version": 2}) in desk.world.bus.told


@pytest.mark.parametrize("good", ['{"leverage": 20}', '{"leverage": "20"}', '{"leverage": 20.0}', '{"max_positions": "7"}'])
async def test_numbers_come_as_json_numbers_or_plain_strings(desk: Desk, good: str) -> None:
    assert (await desk.send("PATCH", "/api/settings", raw=good)).status_code == 200


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("leverage", '"NaN"'), ("leverage", '"Infinity"'), ("leverage", '"1e1"'), ("leverage", "1e1"), ("leverage", '"1_0"'),
        ("leverage", '"+5"'), ("leverage", '" 5"'), ("leverage", '""'), ("leverage", "0"), ("leverage", '"1.5"'),
        ("leverage", "126"), ("leverage", "true"), ("leverage", "null"), ("leverage", "-3"), ("leverage", '"٣"'),
        ("fixed_order_size", "0"), ("fixed_order_size", "0.99"), ("fixed_order_size", "100000.01"),
        ("fixed_order_size", '"0.' + "1" * 40 + '"'), ("max_daily_loss", "0"), ("max_daily_loss", "-1"),
        ("max_positions", "0"), ("max_positions", "101"), ("max_positions", "2.5"), ("max_exposure", '"-0.01"'),
        ("auto_trade_enabled", '"yes"'), ("mode", '"DEMO"'), ("password_hash", '"x"'), ("paper_balance", "1"),
    ],
)  # fmt: skip
async def test_a_setting_that_does_not_fit_is_named_and_nothing_is_saved(desk: Desk, field: str, raw: str) -> None:
    reply = await desk.send("PATCH", "/api/settings", raw=f'{{"max_exposure": 5000, "{field}": {raw}}}')
    assert reply.status_code == 400, reply.text
    assert field in reply.json()["fields"]
    assert (await desk.get("/api/settings")).json()["version"] == 1


@pytest.mark.parametrize("raw", ['{"leverage": NaN}', '{"leverage"', "[]", "", "nonsense"])
async def test_what_is_no_json_object_is_a_problem(desk: Desk, raw: str) -> None:
    reply = await desk.send("PATCH", "/api/settings", raw=raw)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"auto_trade_enabled": "true"}', "auto_trade_enabled"),
        ('{"auto_trade_enabled": 1}', "auto_trade_enabled"),
        ('{"version": "1"}', "version"),
        ('{"leverag\\u0065": 1e1}', "leverage"),
        ('{"leverage": 5, "leverage": 1e1}', "leverage"),
        ('{"max_daily_loss": "0.000000001"}', "max_daily_loss"),
        ('{"fixed_order_size": 99999.999999999}', "fixed_order_size"),
        ("", "body"),
        ("[]", "body"),
    ],
)
async def test_nothing_is_coerced_or_rounded_unseen(desk: Desk, raw: str, field: str) -> None:
    reply = await desk.send("PATCH", "/api/settings", raw=raw)
    assert reply.status_code == 400, reply.text
    assert list(reply.json()["fields"]) == [field]
    assert (await desk.get("/api/settings")).json()["version"] == 1


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_plain_form_can_send_is_no_order(desk: Desk, media_type: str) -> None:
    headers = {"Authorization": desk.authorization, "Content-Type": media_type}
    reply = await desk.client.patch("/api/settings", content=b'{"leverage": "5"}', headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")


async def test_a_symbol_that_nobody_can_list_is_refused(desk: Desk) -> None:
    desk.world.signal()
    for odd in ("%00", "A" * 41, "BTC%20USDT", ""):
        assert (await desk.get(f"/api/signals?symbol={odd}")).status_code == 400
    assert len((await desk.get("/api/signals?symbol=BTCUSDT")).json()["signals"]) == 1


async def test_real_money_that_nothing_is_ready_for_is_refused_and_changes_nothing(desk: Desk) -> None:
    reply = await desk.send("PATCH", "/api/settings", {"mode": "REAL", "leverage": "20"})
    assert (reply.status_code, reply.json()["code"]) == (409, "no_api_key")
    settings = (await desk.get("/api/settings")).json()
    assert (settings["mode"], settings["leverage"]) == ("PAPER", "10")


async def test_a_form_that_is_stale_is_told(desk: Desk) -> None:
    assert (await desk.send("PATCH", "/api/settings", {"leverage": 5, "version": 1})).status_code == 200
    reply = await desk.send("PATCH", "/api/settings", {"leverage": 6, "version": 1})
    assert (reply.status_code, reply.json()["code"]) == (409, "changed_elsewhere")


async def test_an_open_position_is_worth_its_mark_net_of_fees_and_funding(desk: Desk) -> None:
    row = desk.world.position(desk.user_id)
    desk.world.market.observe({"BTCUSDT": {"mark_price": "64500", "age_ms": 200}})
    found = (await desk.get("/api/user/positions?status=OPEN")).json()["positions"]
    assert [each["id"] for each in found] == [str(row.id)]
    # 0.1 x (64,500 - 64,000) = 50; less 3.2 of fees and 0.3 of funding paid: 46.5; of 640 margin 7.27 %
    assert (found[0]["mark_price"], found[0]["pnl"], found[0]["pnl_percent"]) == ("64500", "46.5", "7.27")
    assert (found[0]["size"], found[0]["leverage"], found[0]["entry_price"]) == ("0.1", "10", "64000")


async def test_a_position_without_a_price_says_so_and_asks_the_engine_once(desk: Desk) -> None:
    row = desk.world.position(desk.user_id)
    found = (await desk.get(f"/api/user/positions/{row.id}")).json()
    assert (found["mark_price"], found["pnl"], found["pnl_percent"]) == (None, None, None)
    await desk.get(f"/api/user/positions/{row.id}")
    assert desk.world.engine.asked == 1


async def test_the_engine_is_asked_for_what_the_broadcast_does_not_give(desk: Desk) -> None:
    row = desk.world.position(desk.user_id)
    mark = SymbolMarks(mark=Decimal(64100), as_of=NOW, age_ms=300, bars=[], funding=[], since=NOW)
    desk.world.engine.reply = MarksReply(as_of=NOW, marks={"BTCUSDT": mark}, missing={})
    assert (await desk.get(f"/api/user/positions/{row.id}")).json()["mark_price"] == "64100"


async def test_a_price_that_is_lost_is_unknown(desk: Desk) -> None:
    desk.world.position(desk.user_id)
    desk.world.market.observe({"BTCUSDT": {"mark_price": "64500", "age_ms": 0}})
    desk.world.clock.real += timedelta(seconds=31)
    assert (await desk.get("/api/user/positions")).json()["positions"][0]["pnl"] is None


async def test_a_broken_mark_spoils_no_other(desk: Desk) -> None:
    desk.world.market.observe({"A": {"mark_price": "NaN"}, "B": {}, "C": {"mark_price": "2", "age_ms": 5}})
    assert set(await desk.world.market.marks(["A", "B", "C"])) == {"C"}


async def test_positions_are_filtered_by_their_states(desk: Desk) -> None:
    desk.world.position(desk.user_id)
    desk.world.position(desk.user_id, id=a_position().id, status="CLOSED_WIN", pnl=Decimal("9.1"), closed_at=NOW)
    counts = {}
    for asked in ("OPEN", "CLOSING", "CLOSED", "CLOSED_WIN", "CLOSED_LOSS", "LIVE", "OPEN,CLOSED"):
        counts[asked] = len((await desk.get(f"/api/user/positions?status={asked}")).json()["positions"])
    assert counts == {
        "OPEN": 1, "CLOSING": 0, "CLOSED": 1, "CLOSED_WIN": 1, "CLOSED_LOSS": 0, "LIVE": 1, "OPEN,CLOSED": 2,
    }  # fmt: skip
    assert "status" in (await desk.get("/api/user/positions?status=MAYBE")).json()["fields"]
    assert "limit" in (await desk.get("/api/user/positions?limit=0")).json()["fields"]
    assert "mode" in (await desk.get("/api/user/positions?mode=DEMO")).json()["fields"]


@pytest.mark.parametrize("huge", ['"1000000000000000"', '"99999999999999999999999"', "1" + "0" * 15, '"0.0000000000001"'])
async def test_a_price_nobody_can_compute_with_never_reaches_the_desk(desk: Desk, huge: str) -> None:
    path = f"/api/user/positions/{desk.world.position(desk.user_id).id}"
    for method, where, field in (
        ("PATCH", path, "stop_loss"),
        ("PATCH", path, "take_profit"),
        ("POST", f"{path}/close", "quantity"),
    ):
        reply = await desk.send(method, where, raw=f'{{"{field}": {huge}}}')
        assert reply.status_code == 400, reply.text
        assert list(reply.json()["fields"]) == [field]
    assert desk.world.desk.asked == []


async def test_a_list_that_is_not_whole_says_so(desk: Desk) -> None:
    for _ in range(3):
        desk.world.position(desk.user_id, status="CLOSED_WIN", pnl=Decimal(1), closed_at=NOW)
    for path in ("/api/user/positions", "/api/user/history"):
        pages = [(await desk.get(f"{path}?limit=2&offset={offset}")).json() for offset in (0, 2)]
        assert [(len(page["positions"]), page["more"]) for page in pages] == [(2, True), (1, False)]
        assert (await desk.get(path)).json()["more"] is False


async def test_closing_a_part_passes_the_quantity_and_nonsense_never_reaches_the_desk(desk: Desk) -> None:
    path = f"/api/user/positions/{desk.world.position(desk.user_id).id}"
    reply = await desk.send("POST", f"{path}/close", {"quantity": "0.04"})
    assert (reply.json()["closed_quantity"], reply.json()["left"], reply.json()["pnl"]) == ("0.04", "0.06", "1.5")
    asked = list(desk.world.desk.asked)
    for bad in ('{"quantity": "NaN"}', '{"quantity": 0}', '{"quantity": -1}', '{"quantity": 1e-3}', '{"size": 1}'):
        assert (await desk.send("POST", f"{path}/close", raw=bad)).status_code == 400, bad
    for bad in ('{"stop_loss": "1e5"}', '{"take_profit": 0}', '{"trailing": "0.6"}', '{"trailing": "Infinity"}'):
        assert (await desk.send("PATCH", path, raw=bad)).status_code == 400, bad
    assert desk.world.desk.asked == asked


async def test_panic_answers_200_only_when_everything_is_flat(desk: Desk) -> None:
    flat = await desk.send("POST", "/api/user/panic-button")
    assert (flat.status_code, flat.json()["open_positions"], flat.json()["auto_trade_enabled"]) == (200, 0, False)
    desk.world.desk.flat = False
    left = await desk.send("POST", "/api/user/panic-button")
    assert (left.status_code, left.json()["open_positions"]) == (207, 1)
    assert left.json()["positions"] == [{"symbol": "BTCUSDT", "result": "still open", "detail": ""}]


async def test_stop_asks_what_happens_to_positions(desk: Desk) -> None:
    assert (await desk.send("POST", "/api/user/stop", {})).json()["fields"] == {"positions": "is required"}
    assert (await desk.send("POST", "/api/user/stop", {"positions": "maybe"})).status_code == 400
    assert (await desk.send("POST", "/api/user/stop", {"positions": "close"})).json()["auto_trade_enabled"] is False
    assert desk.world.desk.asked == [("stop", desk.user_id, True)]


async def test_the_ledger_adds_up_and_real_is_a_ledger_of_its_own(desk: Desk) -> None:
    paper = (await desk.get("/api/user/ledger")).json()
    assert sum(Decimal(entry["amount"]) for entry in paper["entries"]) == Decimal(paper["balance"]) == 10_000
    real = (await desk.get("/api/user/ledger?mode=REAL")).json()
    assert (real["entries"], real["balance"]) == ([], "0")


async def test_what_is_known_of_the_account_at_the_exchange_is_told_with_what_is_not_ours(desk: Desk) -> None:
    assert (await desk.get("/api/user/exchange")).json()["wallet"] is None
    foreign = ForeignRow(symbol="SOLUSDT", name="position", side="LONG", quantity=Decimal("3.50"))
    desk.world.store.real_rows[desk.user_id] = RealRow(wallet=Decimal(1000), difference=Decimal("0.10"), foreign=[foreign])
    told = (await desk.get("/api/user/exchange")).json()
    assert (told["wallet"], told["difference"], told["differs"]) == ("1000", "0.1", False)
    assert told["foreign"] == [{"symbol": "SOLUSDT", "name": "position", "side": "LONG", "quantity": "3.5"}]


async def test_equity_is_the_balance_with_what_is_open_and_unknown_when_a_price_is(desk: Desk) -> None:
    desk.world.position(desk.user_id)
    assert (await desk.get("/api/user/equity?period=24h")).json()["equity"] is None
    desk.world.market.observe({"BTCUSDT": {"mark_price": "63000", "age_ms": 0}})
    found = (await desk.get("/api/user/equity?period=all")).json()
    assert (found["balance"], found["unrealized_pnl"], found["equity"]) == ("10000", "-100", "9900")
    assert "period" in (await desk.get("/api/user/equity?period=1y")).json()["fields"]


def test_a_short_gains_when_the_price_falls_and_a_closed_position_keeps_its_pnl() -> None:
    import msgspec

    short = msgspec.structs.replace(a_position(), side="SHORT")
    mark = Mark(price=Decimal(63000), at=NOW)
    assert value(short, mark).pnl == Decimal("96.5")
    closed = msgspec.structs.replace(short, status="CLOSED_LOSS", pnl=Decimal("-6.4"), margin=Decimal(0))
    assert (value(closed, mark).pnl, value(closed, mark).pnl_percent) == (Decimal("-6.4"), Decimal("-1.00"))


async def test_margin_in_use_and_claimed_is_not_free(desk: Desk) -> None:
    desk.world.position(desk.user_id)
    account = await desk.world.store.account(desk.user_id, "PAPER")
    assert (wealth(account, []).free, wealth(account, []).margin_used) == (Decimal(9360), Decimal(640))
    assert day_start(NOW + timedelta(hours=3)).isoformat() == "2025-09-22T00:00:00+00:00"


@pytest.mark.parametrize(
    ("booked", "lowest", "unrealized", "left"),
    [
        ("-100", "-100", "30", "400"),  # an open gain gives nothing back
        ("-100", "-100", "-30", "370"),
        ("20", "-520", "0", "0"),  # a lost day stays lost
        ("50", "0", "-20", "500"),
    ],
)
def test_what_the_day_may_still_lose_is_counted_as_the_daily_loss_stop_counts_it(
    booked: str, lowest: str, unrealized: str, left: str
) -> None:
    zero = Decimal(0)
    stats = Stats(
        trades=1, wins=0, losses=1, net_pnl=zero, gross_pnl=zero, fees=zero, funding=zero, best=None, worst=None,
        today_trades=1, today_pnl=zero, today_booked=Decimal(booked), today_lowest=Decimal(lowest),
    )  # fmt: skip
    worth = Wealth(balance=Decimal(9_900), margin_used=zero, free=zero, unrealized=Decimal(unrealized), equity=zero)
    assert loss_left(gain(worth, stats, []), Decimal(500)) == Decimal(left)


async def test_asking_who_i_am_in_real_begins_to_hear_the_balance_and_answers_at_once(desk: Desk) -> None:
    row = desk.world.store.users[desk.user_id]
    assert (await desk.get("/api/user/me")).json()["real_balance_status"] == "none"
    assert ("balance", desk.user_id) not in desk.world.desk.asked
    desk.world.store.users[desk.user_id] = msgspec.structs.replace(row, mode="REAL")
    assert (await desk.get("/api/user/me")).json()["real_balance_status"] == "syncing"
    assert ("balance", desk.user_id) in desk.world.desk.asked
    heard = msgspec.structs.replace(row, mode="REAL", real_balance_cache=Decimal(7), real_balance_at=desk.world.clock.wall())
    desk.world.store.users[desk.user_id] = heard
    me = (await desk.get("/api/user/me")).json()
    assert (me["real_balance"], me["real_balance_status"]) == ("7", "fresh")


async def test_a_fresh_balance_is_not_asked_for_and_an_old_one_that_nobody_answers_for_is_stale(desk: Desk) -> None:
    row, wall = desk.world.store.users[desk.user_id], desk.world.clock.wall()
    real = msgspec.structs.replace(row, mode="REAL", real_balance_cache=Decimal(7), real_balance_at=wall - timedelta(seconds=20))
    desk.world.store.users[desk.user_id] = real
    assert [(await desk.get("/api/user/me")).json()["real_balance_status"] for _ in range(50)] == ["fresh"] * 50
    assert ("balance", desk.user_id) not in desk.world.desk.asked
    old = msgspec.structs.replace(real, real_balance_at=wall - timedelta(seconds=31))
    desk.world.store.users[desk.user_id] = old
    assert (await desk.get("/api/user/me")).json()["real_balance_status"] == "syncing"
    desk.world.desk.syncing.clear()
    desk.world.desk.sync_balance = lambda user_id: None  # type: ignore[method-assign]
    me = (await desk.get("/api/user/me")).json()
    assert (me["real_balance"], me["real_balance_status"]) == ("7", "stale")
