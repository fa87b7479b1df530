"""What goes over the wire: signed as the exchange wants, nowhere else, once; and long lists read to their end."""

import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from msgspec import structs

from engine.binance import Addresses, BinanceExchanges, accounts, vendor
from engine.binance.client import BUDGET_SECONDS
from engine.errors import SealBroken, VenueAway, VenueHalted, VenueUnsure
from engine.ports import Condition, KeyPair, MarketOrder, Urgency
from shared.enums import OrderKind, OrderState
from shared.execution import OrderSide, RealAccount, SealedCredentials, VenueOrder
from tests.contract.engine_binance_server import ACCOUNT, ENTRY, FILLED, KEY, SECRET, Bench, FewMarks, bench

ORDER, ALGO, TRADES, ORDERS = "/fapi/v1/order", "/fapi/v1/algoOrder", "/fapi/v1/userTrades", "/fapi/v1/allOrders"
INCOME = "/fapi/v1/income"
STOP = {
    "algoId": 2146760, "clientAlgoId": "nt-s-1", "algoType": "CONDITIONAL", "orderType": "STOP_MARKET", "symbol": "BTCUSDT", "side": "SELL",
    "positionSide": "BOTH", "quantity": "0.010", "algoStatus": "NEW", "triggerPrice": "59000.0", "price": "0", "closePosition": False,
    "reduceOnly": True, "activatePrice": "", "callbackRate": "", "createTime": 1767744000000, "updateTime": 1767744000000,
}  # fmt: skip
TRADE = {
    "id": 1, "symbol": "BTCUSDT", "orderId": 7, "side": "SELL", "price": "60000.10", "qty": "0.001", "quoteQty": "60.00010",
    "commission": "0.03000005", "commissionAsset": "USDT", "realizedPnl": "-1.20000000", "maker": False, "buyer": False,
    "positionSide": "BOTH", "time": 1767744000000,
}  # fmt: skip


@pytest.fixture
async def there() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def test_an_order_is_signed_stamped_and_named_by_us(there: Bench) -> None:
    there.exchange.says("POST", ORDER, FILLED)
    sent = await there.entering.send(ENTRY)
    assert isinstance(sent, VenueOrder)
    assert (sent.state, sent.filled_quantity, sent.price) == (OrderState.FILLED, Decimal("0.010"), None)
    [(_, _, params)] = there.exchange.seen
    signature = params.pop("signature")
    assert signature == hmac.new(SECRET.encode(), urlencode(params).encode(), hashlib.sha256).hexdigest()
    assert abs(int(params.pop("timestamp")) - there.clock.wall_ms()) < 5_000
    assert params == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "MARKET",
        "quantity": "0.010",
        "newClientOrderId": "nt-e-1",
        "newOrderRespType": "RESULT",
        "recvWindow": "5000",
    }
    assert there.exchange.keys == [KEY]


@pytest.mark.parametrize(
    ("status", "after_ms", "waits"), [("TRIGGERING", -3_000, 3.0), ("TRIGGERING", 900_000, 0.0), ("NEW", None, None)]
)
async def test_a_stop_that_was_triggered_tells_for_how_long_it_has_not_filled(
    there: Bench, status: str, after_ms: int | None, waits: float | None
) -> None:
    trigger_time = 0 if after_ms is None else there.clock.now_ms() + after_ms
    there.exchange.says("GET", "/fapi/v1/openOrders", [])
    there.exchange.says("GET", "/fapi/v1/openAlgoOrders", [{**STOP, "algoStatus": status, "triggerTime": trigger_time}])
    [stop] = await there.protecting.working("BTCUSDT")
    assert stop.triggered is (waits is not None)
    assert stop.triggered_seconds == (None if waits is None else pytest.approx(waits, abs=2.0))


async def test_a_closing_order_says_that_it_only_reduces(there: Bench) -> None:
    there.exchange.says("POST", ORDER, FILLED)
    await there.protecting.send(
        MarketOrder(client_order_id="nt-c-1", symbol="X", order_side=OrderSide.SELL, quantity=Decimal("1E+3"), reduce_only=True)
    )
    [(_, _, params)] = there.exchange.seen
    assert (params["reduceOnly"], params["quantity"]) == ("true", "1000")
    assert "positionSide" not in params


async def test_in_hedge_mode_a_closing_order_says_whose_side_it_reduces_and_nothing_else(there: Bench) -> None:
    there.exchange.says("POST", ORDER, FILLED)
    closing = structs.replace(ENTRY, order_side=OrderSide.SELL, position_side="LONG", reduce_only=True)
    await there.protecting.send(closing)
    [(_, _, params)] = there.exchange.seen
    assert (params["side"], params["positionSide"]) == ("SELL", "LONG")
    assert "reduceOnly" not in params


@pytest.mark.parametrize(
    ("kind", "ratio", "told"),
    [
        (OrderKind.STOP, None, {"type": "STOP_MARKET", "triggerPrice": "59000.0"}),
        (OrderKind.TARGET, None, {"type": "TAKE_PROFIT_MARKET", "triggerPrice": "59000.0"}),
        (
            OrderKind.TRAILING,
            Decimal("0.0150"),
            {"type": "TRAILING_STOP_MARKET", "activatePrice": "59000.0", "callbackRate": "1.5"},
        ),
    ],
)
async def test_a_condition_rests_reduce_only_on_the_mark_price(
    there: Bench, kind: OrderKind, ratio: Decimal | None, told: dict[str, str]
) -> None:
    there.exchange.says("POST", ALGO, STOP)
    placed = await there.protecting.rest(
        Condition(
            client_order_id="nt-s-1",
            symbol="BTCUSDT",
            kind=kind,
            order_side=OrderSide.SELL,
            quantity=Decimal("0.010"),
            trigger_price=Decimal("59000.0"),
            callback_ratio=ratio,
        )
    )
    assert isinstance(placed, VenueOrder)
    [(_, _, params)] = there.exchange.seen
    wanted = {"algoType": "CONDITIONAL", "clientAlgoId": "nt-s-1", "workingType": "MARK_PRICE", "reduceOnly": "true"}
    assert params.items() >= (wanted | told | {"quantity": "0.010"}).items()


@pytest.mark.parametrize(
    ("status", "child", "state", "filled"),
    [
        ("NEW", None, OrderState.WORKING, "0"),
        ("TRIGGERING", None, OrderState.WORKING, "0"),
        ("TRIGGERED", {"status": "NEW", "executedQty": "0"}, OrderState.WORKING, "0"),
        ("TRIGGERED", {"status": "PARTIALLY_FILLED", "executedQty": "0.004"}, OrderState.WORKING, "0.004"),
        ("TRIGGERED", {"status": "FILLED", "executedQty": "0.010"}, OrderState.FILLED, "0.010"),
        ("FINISHED", {"status": "FILLED", "executedQty": "0.010"}, OrderState.FILLED, "0.010"),
        ("FINISHED", {"status": "EXPIRED", "executedQty": "0.004"}, OrderState.ENDED, "0.004"),
        ("FINISHED", {"status": "CANCELED", "executedQty": "0"}, OrderState.ENDED, "0"),
        ("CANCELED", None, OrderState.ENDED, "0"),
        ("EXPIRED", None, OrderState.ENDED, "0"),
        ("REJECTED", None, OrderState.ENDED, "0"),
    ],
)
async def test_a_condition_is_as_filled_as_the_order_that_it_became(
    there: Bench, status: str, child: dict[str, str] | None, state: OrderState, filled: str
) -> None:
    there.exchange.says("GET", ALGO, STOP | {"algoStatus": status, "actualOrderId": "77" if child else ""})
    there.exchange.says("GET", ORDER, FILLED | {"orderId": 77} | (child or {}))
    found = await there.protecting.find("BTCUSDT", "nt-s-1", conditional=True)
    assert found is not None
    assert (found.state, found.filled_quantity, found.child_order_id) == (state, Decimal(filled), "77" if child else "")


async def test_a_full_page_is_followed_by_the_next_and_nothing_comes_twice(there: Bench) -> None:
    start = there.clock.now() - timedelta(days=20)
    began = int(start.timestamp() * 1000)
    kept: list[dict[str, Any]] = [TRADE | {"id": n, "time": began + n * 500_000} for n in range(3_300)]

    async def page(request: web.Request) -> web.Response:
        if "fromId" in request.query:
            assert "startTime" not in request.query
            rows = [row for row in kept if row["id"] >= int(request.query["fromId"])]
        else:
            first, last = int(request.query["startTime"]), int(request.query["endTime"])
            assert last - first < 7 * 24 * 3_600_000
            rows = [row for row in kept if first <= row["time"] <= last]
        return web.json_response(rows[: int(request.query["limit"])])

    there.exchange.answers["GET", TRADES] = page
    there.exchange.says("GET", ORDER, FILLED | {"orderId": 7, "clientOrderId": "nt-c-1"})
    found = await there.protecting.account_trades("BTCUSDT", start)
    assert [trade.trade_id for trade in found] == [str(n) for n in range(3_300)]
    assert {trade.client_order_id for trade in found} == {"nt-c-1"}
    assert there.exchange.count("GET", ORDER) == 1


async def test_many_unknown_orders_are_named_by_one_list(there: Bench) -> None:
    at = there.clock.wall_ms() - 120_000
    there.exchange.says("GET", TRADES, [TRADE | {"id": n, "orderId": n, "time": at} for n in range(20)])
    there.exchange.says("GET", ORDERS, [FILLED | {"orderId": n, "clientOrderId": f"id-{n}", "time": at} for n in range(19)])
    there.exchange.says("GET", ORDER, {"code": -2013, "msg": "Order does not exist."}, 400)
    found = await there.protecting.account_trades("BTCUSDT", datetime.now(UTC) - timedelta(minutes=3))
    assert [trade.client_order_id for trade in found] == [f"id-{n}" for n in range(19)] + [""]
    assert there.exchange.count("GET", ORDER) == 1


async def test_more_rows_in_one_moment_than_a_page_holds_is_an_error_and_not_a_loss(there: Bench) -> None:
    at = there.clock.wall_ms() - 1000
    row = {"symbol": "", "incomeType": "TRANSFER", "income": "1", "asset": "USDT", "info": "", "tradeId": "", "time": at}

    async def page(request: web.Request) -> web.Response:
        return web.json_response([row | {"tranId": n} for n in range(1000)] if int(request.query["startTime"]) <= at else [])

    there.exchange.answers["GET", INCOME] = page
    with pytest.raises(VenueAway, match="one moment"):
        await there.protecting.income(datetime.now(UTC) - timedelta(minutes=1))


async def test_an_order_with_more_trades_in_one_moment_than_a_page_holds_is_told_whole(there: Bench) -> None:
    at = there.clock.wall_ms() - 120_000
    kept: list[dict[str, Any]] = [TRADE | {"id": n, "orderId": 7 if n % 50 else 8, "time": at} for n in range(3_000)]

    async def page(request: web.Request) -> web.Response:
        asked = {name: int(value) for name, value in request.query.items() if name in ("orderId", "fromId", "startTime")}
        rows = [row for row in kept if row["orderId"] == asked.get("orderId", row["orderId"])]
        rows = [row for row in rows if row["id"] >= asked.get("fromId", 0) and row["time"] >= asked.get("startTime", 0)]
        return web.json_response(rows[-1000:] if "orderId" in asked else rows[:1000])

    there.exchange.answers["GET", TRADES] = page
    there.exchange.says("POST", ORDER, FILLED | {"orderId": 7, "time": at, "updateTime": at})
    sent = await there.entering.send(ENTRY)
    assert isinstance(sent, VenueOrder)
    fills = await there.entering.trades("BTCUSDT", sent)
    assert [fill.trade_id for fill in fills] == [str(n) for n in range(3_000) if n % 50]


@pytest.mark.parametrize(("asset", "fee"), [("USDT", "0.03000005"), ("BNB", "18.000030")])
async def test_a_fee_in_another_coin_is_told_in_usdt(there: Bench, asset: str, fee: str) -> None:
    there.exchange.says("POST", ORDER, FILLED)
    there.exchange.says("GET", TRADES, [TRADE | {"commissionAsset": asset}])
    sent = await there.entering.send(ENTRY)
    assert isinstance(sent, VenueOrder)
    [fill] = await there.entering.trades("BTCUSDT", sent)
    assert (fill.fee, fill.realized_pnl, fill.price) == (Decimal(fee), Decimal("-1.2"), Decimal("60000.1"))


async def test_a_fee_without_a_price_waits(there: Bench) -> None:
    there.exchange.says("POST", ORDER, FILLED)
    there.exchange.says("GET", TRADES, [TRADE | {"commissionAsset": "XYZ"}])
    sent = await there.entering.send(ENTRY)
    assert isinstance(sent, VenueOrder)
    with pytest.raises(VenueAway, match="XYZ"):
        await there.entering.trades("BTCUSDT", sent)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_brackets_come_as_a_row_or_as_a_list(there: Bench, wrapped: bool) -> None:
    tiers = [
        {"bracket": 2, "initialLeverage": 50, "notionalCap": 20000, "notionalFloor": 5000, "maintMarginRatio": 0.01, "cum": 25.0},
        {"bracket": 1, "initialLeverage": 75, "notionalCap": 5000, "notionalFloor": 0, "maintMarginRatio": 0.0065, "cum": 0.0},
    ]
    row: Any = {"symbol": "XUSDT", "brackets": tiers}
    there.exchange.says("GET", "/fapi/v1/leverageBracket", [row] if wrapped else row)
    found = await there.entering.brackets("XUSDT")
    assert [(tier.cap, tier.maintenance_ratio, tier.cum) for tier in found] == [
        (Decimal(5000), Decimal("0.0065"), Decimal(0)),
        (Decimal(20000), Decimal("0.01"), Decimal(25)),
    ]


async def test_a_leverage_that_the_exchange_did_not_set_is_a_refusal(there: Bench) -> None:
    there.exchange.says("POST", "/fapi/v1/leverage", {"leverage": 20, "maxNotionalValue": "1000000", "symbol": "BTCUSDT"})
    refused = await there.entering.set_leverage("BTCUSDT", 10)
    assert refused is not None
    assert refused.code == "leverage"


async def test_entries_leave_the_reserve_to_protection(there: Bench) -> None:
    there.exchange.says("GET", "/fapi/v3/positionRisk", [])
    await there.budget.spend(1440)
    with pytest.raises(VenueAway, match="budget"):
        await there.entering.positions()
    assert await there.protecting.positions() == []


async def test_an_entry_waits_a_second_for_its_weight_and_then_was_certainly_not_sent(
    there: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there.budget, "_patience", 10.0)
    monkeypatch.setitem(BUDGET_SECONDS, Urgency.ENTER, 0.05)
    await there.budget.spend(1440)
    with pytest.raises(VenueAway, match="budget"):
        await there.entering.positions()
    assert there.exchange.seen == []


async def test_without_credentials_nothing_is_opened(there: Bench) -> None:
    with pytest.raises(VenueHalted, match="no key"):
        there.exchanges.of(RealAccount(user_id="u1", dry_run=False), Urgency.ENTER)


async def test_a_redirection_is_followed_by_nothing(there: Bench) -> None:
    there.exchange.says("POST", ORDER, "", 307, {"Location": f"{there.url}/elsewhere"})
    there.exchange.says("GET", "/fapi/v3/positionRisk", "", 302, {"Location": f"{there.url}/elsewhere"})
    with pytest.raises(VenueUnsure):
        await there.entering.send(ENTRY)
    with pytest.raises(VenueAway):
        await there.entering.positions()
    assert [path for _, path, _ in there.exchange.seen] == [ORDER, "/fapi/v3/positionRisk"]


async def test_an_order_on_a_line_that_was_used_before_is_not_sent_again_when_it_breaks(there: Bench) -> None:
    there.exchange.says("GET", "/fapi/v3/positionRisk", [])
    await there.entering.positions()
    there.exchange.breaks_off("POST", ORDER)
    with pytest.raises(VenueUnsure):
        await there.entering.send(ENTRY)
    assert there.exchange.count("POST", ORDER) == 1


async def test_no_log_record_of_any_level_holds_the_key(there: Bench, caplog: pytest.LogCaptureFixture) -> None:
    there.exchange.says("POST", ORDER, {"code": -2019, "msg": "Margin is insufficient."}, 400)
    with caplog.at_level(logging.DEBUG):
        await there.entering.send(ENTRY)
    assert KEY not in caplog.text
    assert SECRET not in caplog.text


async def test_credentials_that_do_not_open_open_nothing(there: Bench) -> None:
    class Broken:
        def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
            raise SealBroken("another user's")

    addresses = Addresses(rest=there.url, streams=there.url, spot=there.url)
    exchanges = BinanceExchanges(Broken(), addresses, there.budget, FewMarks(), there.clock)
    with pytest.raises(SealBroken):
        exchanges.of(ACCOUNT, Urgency.ENTER)
    await exchanges.close()


async def test_the_least_used_accounts_are_let_go_and_what_is_still_held_goes_on(
    there: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS", 2)
    there.exchange.says("GET", "/fapi/v3/positionRisk", [])
    await there.entering.positions()
    for name in ("u2", "u3", "u4"):
        there.exchanges.of(structs.replace(ACCOUNT, user_id=name), Urgency.ENTER)
    assert await there.entering.positions() == []
    assert there.exchanges.of(ACCOUNT, Urgency.ENTER) is not there.entering
    there.entering._client.release()


async def test_a_client_is_kept_for_the_key_and_has_a_face_for_each_urgency(there: Bench) -> None:
    assert there.exchanges.of(ACCOUNT, Urgency.ENTER) is there.entering
    assert there.exchanges.of(ACCOUNT, Urgency.PROTECT) is there.protecting
    assert there.entering is not there.protecting


async def test_every_address_that_ccxt_knows_is_ours() -> None:
    await vendor.load()
    client = vendor.open_client("k", "s", "http://127.0.0.1:1", "http://127.0.0.1:2")
    assert {url.split("/")[2] for url in client.urls["api"].values()} == {"127.0.0.1:1", "127.0.0.1:2"}
    assert client.options["maxRetriesOnFailure"] == 0
    assert client.enableRateLimit is False
