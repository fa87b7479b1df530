"""The doors of /execute over HTTP: token, strict bodies, problems, and the wire contract's shapes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from prometheus_client import REGISTRY

from engine.routes.execution import HANDLERS
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from shared.wire import encode
from tests.unit.engine.execution_desk import WALL_MS, World, armed, entry
from tests.unit.engine.fake_exchange import FakeExchange

SENT = datetime.fromtimestamp(WALL_MS / 1000, UTC)
TOKEN = {"Authorization": "Bearer the-token"}
PAPER = {"mode": "PAPER", "book": {"balance": "10000", "positions": []}}
HELD = {
    "symbol": "BTCUSDT",
    "side": "LONG",
    "quantity": "0.01",
    "entry_price": "60000",
    "leverage": "20",
    "margin": "30",
    "stop_loss": "59400",
    "take_profit": "61200",
}
HOLDING = {"mode": "PAPER", "book": {"balance": "10000", "positions": [HELD]}}
ENTRY = {
    "account": PAPER,
    "client_order_id": "e-1",
    "symbol": "BTCUSDT",
    "side": "LONG",
    "amount_usdt": "600",
    "leverage": "20",
    "stop_loss": "59400",
    "take_profit": "61200",
    "signal_price": "60000",
}
CLOSE = {"account": HOLDING, "client_order_id": "c-1", "symbol": "BTCUSDT", "side": "LONG"}


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    with client_of(World()) as client:
        yield client


def client_of(world: World) -> TestClient[Litestar]:
    app = Litestar(
        route_handlers=HANDLERS,
        guards=[token_guard("the-token")],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    app.state.desk = world.desk
    return TestClient(app, raise_server_exceptions=False)


def ask(client: TestClient[Litestar], path: str, body: Any, status: int = 200) -> Any:
    reply = client.post(path, content=msgspec.json.encode(body), headers=TOKEN | {"X-Trace-Id": "t" * 32})
    assert reply.status_code == status, reply.text
    return reply.json()


ROUTES = [
    "/execute/entry",
    "/execute/close",
    "/execute/flatten",
    "/execute/protect",
    "/execute/balance",
    "/execute/positions",
    "/execute/orders/e-1",
]


@pytest.mark.parametrize("path", ROUTES)
def test_no_door_opens_without_the_engines_token(client: TestClient[Litestar], path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer another"}):
        reply = client.post(path, content=b"{}", headers=headers)
        assert reply.status_code == 401
        assert reply.json()["code"] == "unauthorized"


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_that_does_not_fit_is_a_problem_with_the_trace_id(client: TestClient[Litestar], path: str) -> None:
    for body in ({}, {"account": PAPER, "surprise": 1}):
        problem = ask(client, path, body, 400)
        assert problem["code"] == "bad_request"
        assert problem["trace_id"] == "t" * 32


def test_an_entry_answers_a_report_with_money_as_strings(client: TestClient[Litestar]) -> None:
    report = ask(client, "/execute/entry", ENTRY)

    assert report["status"] == "FILLED"
    assert report["venue"] == "paper"
    assert report["fills"][0]["price"] == "60000.1"
    assert report["protection"]["stop_loss"] == "59400.0"


def test_the_time_without_a_stop_is_counted_once_however_often_its_report_is_asked_for() -> None:
    exchange, told = FakeExchange(), REGISTRY.get_sample_value
    world = World(dry_run=False, exchanges=exchange)
    count, total = (f"neurotrade_engine_unprotected_seconds_{what}" for what in ("count", "sum"))

    def counted(order_id: str, *, resume: bool = False) -> tuple[float, Any]:
        before, asked = told(count), entry(armed(), client_order_id=order_id, sent_at=SENT, resume=resume)
        report = ask(real, "/execute/entry", msgspec.json.decode(encode(asked)))
        assert report["status"] == "FILLED"
        assert before is not None
        return (told(count) or 0) - before, report

    with client_of(world) as real:
        once, report = counted("nt-e-COUNTED")
        summed = told(total)
        again, replayed = counted("nt-e-COUNTED")
        resumed = [counted("nt-e-COUNTED", resume=True)[0]]
        world.reports.kept.clear()  # another replica's memory: the report is made anew from the exchange
        resumed += [counted("nt-e-COUNTED", resume=True)[0] for _ in range(2)]
    assert report["unprotected_seconds"] is not None
    assert replayed == report
    assert (once, again, resumed) == (1, 0, [0, 0, 0])
    assert told(total) == summed


def test_json_numbers_are_accepted_for_money(client: TestClient[Litestar]) -> None:
    assert ask(client, "/execute/entry", ENTRY | {"amount_usdt": 600, "leverage": 20})["status"] == "FILLED"


@pytest.mark.parametrize("amount", ["6e2", "NaN", "6_00", "+600", "Infinity"])
def test_a_number_that_is_not_plain_is_refused(client: TestClient[Litestar], amount: str) -> None:
    ask(client, "/execute/entry", ENTRY | {"amount_usdt": amount}, 400)


@pytest.mark.parametrize("written", [b"6e2", b"6E+2", b"1e300", b"9" * 100, b'"' + b"9" * 100 + b'"', b"NaN", b"1e999", b"true"])
def test_a_json_number_with_an_exponent_or_out_of_all_bounds_is_refused(client: TestClient[Litestar], written: bytes) -> None:
    body = msgspec.json.encode(ENTRY).replace(b'"600"', written)

    reply = client.post("/execute/entry", content=body, headers=TOKEN)

    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("change", [{"quantity": "-0.01"}, {"entry_price": "0"}, {"entry_price": "-1"}, {"leverage": "0"}])
def test_a_paper_book_that_cannot_be_is_refused(client: TestClient[Litestar], change: dict[str, str]) -> None:
    book = {"mode": "PAPER", "book": {"balance": "10000", "positions": [HELD | change]}}

    ask(client, "/execute/positions", {"account": book}, 400)


def test_an_id_that_comes_with_another_order_is_a_conflict(client: TestClient[Litestar]) -> None:
    ask(client, "/execute/entry", ENTRY)

    assert ask(client, "/execute/entry", ENTRY | {"amount_usdt": "700"}, 409)["code"] == "client_order_id_reused"


def test_a_refused_order_is_a_report_not_an_error(client: TestClient[Litestar]) -> None:
    report = ask(client, "/execute/entry", ENTRY | {"amount_usdt": "1"})

    assert report["status"] == "REFUSED"
    assert report["refusal"]["code"] == "below_min_quantity"


def test_a_close_answers_a_reduce_only_report(client: TestClient[Litestar]) -> None:
    report = ask(client, "/execute/close", CLOSE)

    assert (report["status"], report["reduce_only"], report["order_side"]) == ("FILLED", True, "SELL")


def test_a_trigger_is_accepted_as_the_contract_writes_it(client: TestClient[Litestar]) -> None:
    trigger = {"kind": "STOP", "price": "59400", "at": "2026-01-07T11:20:00Z"}
    report = ask(client, "/execute/close", CLOSE | {"trigger": trigger})

    assert report["fills"][0]["at"] == "2026-01-07T11:20:00Z"
    assert report["fills"][0]["price"] == "59370.3"


def test_a_trigger_without_a_time_zone_is_refused(client: TestClient[Litestar]) -> None:
    trigger = {"kind": "STOP", "price": "59400", "at": "2026-01-07T11:20:00"}

    ask(client, "/execute/close", CLOSE | {"trigger": trigger}, 400)


def test_an_order_can_be_looked_up(client: TestClient[Litestar]) -> None:
    report = ask(client, "/execute/entry", ENTRY)

    assert ask(client, "/execute/orders/e-1", {"account": PAPER}) == {
        "client_order_id": "e-1",
        "state": "FILLED",
        "report": report,
    }
    assert ask(client, "/execute/orders/e-2", {"account": PAPER})["state"] == "NOT_FOUND"


def test_an_id_of_an_impossible_form_is_refused(client: TestClient[Litestar]) -> None:
    ask(client, "/execute/orders/" + "x" * 37, {"account": PAPER}, 400)
    ask(client, "/execute/orders/x%0A", {"account": PAPER}, 400)
    ask(client, "/execute/entry", ENTRY | {"client_order_id": "x\n"}, 400)


def test_balance_and_positions_answer_from_the_account_in_the_request(client: TestClient[Litestar]) -> None:
    balance = ask(client, "/execute/balance", {"account": HOLDING})
    positions = ask(client, "/execute/positions", {"account": HOLDING})

    assert (balance["asset"], balance["total"], balance["free"]) == ("USDT", "10000", "9970")
    assert (positions["state"], positions["positions"][0]["mark_price"]) == ("OPEN", "60000")


def test_protect_and_flatten_answer_over_http(client: TestClient[Litestar]) -> None:
    amend = {"account": HOLDING, "client_order_id": "p-1", "symbol": "BTCUSDT", "side": "LONG", "stop_loss": "59700"}

    assert ask(client, "/execute/protect", amend)["protection"]["stop_loss"] == "59700.0"
    assert ask(client, "/execute/flatten", {"account": HOLDING, "client_order_prefix": "x"})["flat"] is True


@pytest.mark.parametrize(("dry_run", "status", "code"), [(True, 409, "real_not_available"), (False, 403, "no_credentials")])
def test_what_needs_a_signed_call_says_so_without_a_key(
    client: TestClient[Litestar], dry_run: bool, status: int, code: str
) -> None:
    account = {"mode": "REAL", "user_id": "7", "dry_run": dry_run}

    assert ask(client, "/execute/balance", {"account": account}, status)["code"] == code
    assert ask(client, "/execute/flatten", {"account": account, "client_order_prefix": "x"}, status)["code"] == code


def test_orders_and_refusals_are_counted(client: TestClient[Litestar]) -> None:
    from prometheus_client import REGISTRY

    def read(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    filled = {"kind": "entry", "venue": "paper", "status": "FILLED"}
    before = (
        read("neurotrade_engine_orders_total", **filled),
        read("neurotrade_engine_refusals_total", kind="entry", code="below_min_quantity"),
    )
    ask(client, "/execute/entry", ENTRY)
    ask(client, "/execute/entry", ENTRY | {"client_order_id": "e-2", "amount_usdt": "1"})

    assert read("neurotrade_engine_orders_total", **filled) == before[0] + 1
    assert read("neurotrade_engine_refusals_total", kind="entry", code="below_min_quantity") == before[1] + 1
    assert read("neurotrade_engine_order_seconds_count", kind="entry") >= 2
