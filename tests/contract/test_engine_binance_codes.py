"""Every code of the table comes back through the real ccxt client as the decision that stands there."""

import asyncio
import traceback
from collections.abc import AsyncIterator

import pytest

from engine.binance.codes import CODES, Action
from engine.errors import VenueAway, VenueError, VenueHalted, VenueUnsure
from engine.ports import Urgency
from shared.problem import Problem
from tests.contract.engine_binance_server import ACCOUNT, ENTRY, FILLED, KEY, SECRET, Bench, bench

ORDER, POSITIONS, TIME = "/fapi/v1/order", "/fapi/v3/positionRisk", "/fapi/v1/time"
STATUS = {-1000: 503, -1001: 503, -1003: 429, -1007: 408, -1008: 503, -1015: 429, -2014: 401, -2015: 401, -5000: 404}
RAISED = {
    Action.UNSURE: VenueUnsure,
    Action.AGAIN: VenueAway,
    Action.WAIT: VenueAway,
    Action.CLOCK: VenueAway,
    Action.HALT: VenueHalted,
    Action.ABSENT: VenueUnsure,
    Action.DUPLICATE: VenueUnsure,
    Action.DONE: VenueUnsure,
}
"""What an order ends in, where it is not refused; a duplicate that cannot be found is as unsure as an answer that no order gets."""


@pytest.fixture
async def there() -> AsyncIterator[Bench]:
    async with bench() as made:
        made.exchange.says("GET", TIME, {"serverTime": made.clock.wall_ms()})
        made.exchange.says("GET", ORDER, {"code": -2013, "msg": "Order does not exist."}, 400)
        yield made


@pytest.mark.parametrize("code", sorted(CODES))
async def test_an_order_that_meets_a_code_ends_as_the_table_says_and_is_sent_once(there: Bench, code: int) -> None:
    there.exchange.says(
        "POST", ORDER, {"code": code, "msg": "words of the exchange"}, STATUS.get(code, 400), {"Retry-After": "0"}
    )
    decision = CODES[code]
    if decision.action is Action.REFUSE:
        said = await there.entering.send(ENTRY)
        assert isinstance(said, Problem)
        assert said.code == decision.refusal.value
        assert str(code) in said.detail
        assert "words of the exchange" in said.detail
    else:
        with pytest.raises(VenueError) as raised:
            await there.entering.send(ENTRY)
        assert type(raised.value) is RAISED[decision.action]
        assert raised.value.code == code
    assert there.exchange.count("POST", ORDER) == 1


@pytest.mark.parametrize("code", sorted(CODES))
async def test_a_read_that_meets_a_code_may_be_asked_again_or_is_halted(there: Bench, code: int) -> None:
    there.exchange.says("GET", POSITIONS, {"code": code, "msg": "words"}, STATUS.get(code, 400), {"Retry-After": "0"})
    with pytest.raises(VenueError) as raised:
        await there.entering.positions()
    assert type(raised.value) is (VenueHalted if CODES[code].action is Action.HALT else VenueAway)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, "Service Unavailable.", VenueAway),
        (503, "Unknown error, please check your request or try again later.", VenueUnsure),
        (502, "<html>Bad Gateway</html>", VenueUnsure),
        (504, "<html>Gateway Time-out</html>", VenueUnsure),
        (403, "<html>Request blocked.</html>", VenueAway),
        (418, '{"code":-1003,"msg":"Way too many requests; IP banned until 1.","data":null}', VenueAway),
        (200, "<html>a page instead of an answer</html>", VenueUnsure),
        (200, '{"orderId": "no order"}', VenueUnsure),
        (200, "", VenueUnsure),
    ],
)
async def test_an_answer_without_a_code_is_judged_by_its_status_and_words(
    there: Bench, status: int, body: str, error: type[VenueError]
) -> None:
    there.exchange.says("POST", ORDER, body, status, {"Retry-After": "0"})
    with pytest.raises(VenueError) as raised:
        await there.entering.send(ENTRY)
    assert type(raised.value) is error
    assert there.exchange.count("POST", ORDER) == 1


async def test_a_line_that_breaks_after_an_order_left_leaves_it_unsure_and_a_read_away(there: Bench) -> None:
    there.exchange.breaks_off("POST", ORDER)
    there.exchange.breaks_off("GET", POSITIONS)
    with pytest.raises(VenueUnsure):
        await there.entering.send(ENTRY)
    with pytest.raises(VenueAway):
        await there.entering.positions()
    assert there.exchange.count("POST", ORDER) == 1


async def test_an_order_that_found_no_line_was_certainly_not_sent(there: Bench, unused_tcp_port: int) -> None:
    nobody = there.adapter(f"http://127.0.0.1:{unused_tcp_port}")
    there.exchanges, answering = nobody, there.exchanges
    await answering.close()
    with pytest.raises(VenueAway, match="no connection"):
        await nobody.of(ACCOUNT, Urgency.ENTER).send(ENTRY)


async def test_a_duplicate_that_is_open_is_answered_with_that_order(there: Bench) -> None:
    there.exchange.says("POST", ORDER, {"code": -4116, "msg": "ClientOrderId is duplicated."}, 400)
    there.exchange.says("GET", ORDER, FILLED | {"status": "NEW", "executedQty": "0"})
    said = await there.entering.send(ENTRY)
    assert not isinstance(said, Problem)
    assert said.client_order_id == "nt-e-1"


@pytest.mark.parametrize(("code", "status"), [(-1003, 418), (-1003, 429), (-2015, 401), (-1000, 503)])
async def test_a_duplicate_whose_order_cannot_be_looked_up_is_unsure_and_never_a_no(there: Bench, code: int, status: int) -> None:
    there.exchange.says("POST", ORDER, {"code": -4116, "msg": "ClientOrderId is duplicated."}, 400)
    there.exchange.says("GET", ORDER, {"code": code, "msg": "not now"}, status)
    with pytest.raises(VenueUnsure, match="could not be looked up"):
        await there.entering.send(ENTRY)


async def test_that_it_is_so_already_is_a_success(there: Bench) -> None:
    there.exchange.says("POST", "/fapi/v1/marginType", {"code": -4046, "msg": "No need to change margin type."}, 400)
    assert await there.entering.set_isolated("BTCUSDT") is None


async def test_a_refused_clock_is_set_and_one_that_stays_refused_halts(there: Bench) -> None:
    there.exchange.says("GET", TIME, {"serverTime": there.clock.wall_ms() - 60_000})
    there.exchange.says("GET", POSITIONS, {"code": -1021, "msg": "Timestamp for this request was 1000ms ahead."}, 400)
    with pytest.raises(VenueAway):
        await there.entering.positions()
    there.exchange.says("GET", POSITIONS, [])
    assert await there.entering.positions() == []
    sent = int(there.exchange.seen[-1][2]["timestamp"])
    assert abs(there.clock.wall_ms() - 60_000 - sent) < 5_000
    there.exchange.says("GET", POSITIONS, {"code": -1021, "msg": "outside of the recvWindow."}, 400)
    ends: list[type[VenueError]] = []
    for _ in range(4):
        with pytest.raises(VenueError) as raised:
            await there.entering.positions()
        ends.append(type(raised.value))
    assert ends == [VenueAway, VenueAway, VenueAway, VenueHalted]


async def test_many_calls_refused_for_one_wrong_clock_ask_the_time_once(there: Bench) -> None:
    there.exchange.says("GET", POSITIONS, {"code": -1021, "msg": "outside of the recvWindow."}, 400)
    ends = await asyncio.gather(*(there.entering.positions() for _ in range(10)), return_exceptions=True)
    assert {type(end) for end in ends} == {VenueAway}
    assert there.exchange.count("GET", TIME) == 1


async def test_after_a_429_nobody_asks_until_the_wait_is_over(there: Bench) -> None:
    there.exchange.says("GET", POSITIONS, {"code": -1003, "msg": "Too many requests."}, 429, {"Retry-After": "30"})
    with pytest.raises(VenueAway) as raised:
        await there.entering.positions()
    assert raised.value.retry_after_seconds == 30
    for exchange in (there.entering, there.protecting):
        with pytest.raises(VenueAway):
            await exchange.wallet()
    assert len(there.exchange.seen) == 1


async def test_a_ban_that_names_its_end_in_words_alone_is_kept_to(there: Bench) -> None:
    words = f"Way too many requests; IP banned until {there.clock.wall_ms() + 600_000}."
    there.exchange.says("GET", POSITIONS, {"code": -1003, "msg": words}, 418)
    with pytest.raises(VenueAway) as raised:
        await there.entering.positions()
    assert 590 < raised.value.retry_after_seconds <= 600


async def test_a_clock_that_stays_refused_is_still_asked_for_and_heard_when_it_is_right(there: Bench) -> None:
    there.exchange.says("GET", TIME, "away", 500)
    there.exchange.says("GET", POSITIONS, {"code": -1021, "msg": "outside of the recvWindow."}, 400)
    for _ in range(5):
        with pytest.raises(VenueError):
            await there.entering.positions()
    there.exchange.says("GET", TIME, {"serverTime": there.clock.wall_ms() - 60_000})
    with pytest.raises(VenueHalted):
        await there.entering.positions()
    there.exchange.says("GET", POSITIONS, [])
    assert await there.entering.positions() == []
    assert abs(there.clock.wall_ms() - 60_000 - int(there.exchange.seen[-1][2]["timestamp"])) < 5_000


async def test_a_traceback_of_an_error_holds_no_signed_address(there: Bench) -> None:
    there.exchange.says("GET", POSITIONS, "words of a page", 500)
    with pytest.raises(VenueAway) as raised:
        await there.entering.positions()
    text = "".join(traceback.format_exception(raised.value))
    assert "signature" not in text
    assert "ExchangeNotAvailable" not in text


@pytest.mark.parametrize("worth", ["NaN", "Infinity", "-Infinity", "1e400", "sNaN"])
async def test_a_number_that_is_none_is_an_answer_that_does_not_read(there: Bench, worth: str) -> None:
    there.exchange.says("POST", ORDER, FILLED | {"executedQty": worth})
    with pytest.raises(VenueUnsure):
        await there.entering.send(ENTRY)
    there.exchange.says("GET", "/fapi/v3/balance", [{"asset": "USDT", "balance": worth, "availableBalance": "1"}])
    with pytest.raises(VenueAway):
        await there.entering.wallet()


async def test_a_moment_that_no_calendar_has_is_an_answer_that_does_not_read(there: Bench) -> None:
    there.exchange.says("POST", ORDER, FILLED | {"updateTime": 10**18})
    with pytest.raises(VenueUnsure):
        await there.entering.send(ENTRY)


async def test_too_many_orders_hold_back_the_accounts_orders_and_not_its_reads(there: Bench) -> None:
    there.exchange.says("POST", ORDER, {"code": -1015, "msg": "Too many new orders."}, 429, {"Retry-After": "30"})
    there.exchange.says("GET", POSITIONS, [])
    for _ in range(2):
        with pytest.raises(VenueAway):
            await there.entering.send(ENTRY)
    assert await there.entering.positions() == []
    assert there.exchange.count("POST", ORDER) == 1


async def test_the_exchanges_own_counts_are_taken_over(there: Bench) -> None:
    headers = {"X-MBX-USED-WEIGHT-1M": "2300", "X-MBX-ORDER-COUNT-10S": "300", "X-MBX-ORDER-COUNT-1M": "300"}
    there.exchange.says("POST", ORDER, FILLED, 200, headers)
    await there.entering.send(ENTRY)
    for call in (there.protecting.send(ENTRY), there.entering.wallet()):
        with pytest.raises(VenueAway, match="budget"):
            await call
    assert there.exchange.count("POST", ORDER) == 1


async def test_no_error_tells_the_key_or_the_secret(there: Bench) -> None:
    there.exchange.says("POST", ORDER, {"code": -1022, "msg": "Signature for this request is not valid."}, 400)
    there.exchange.breaks_off("GET", POSITIONS)
    for call in (there.entering.send(ENTRY), there.entering.positions()):
        with pytest.raises(VenueError) as raised:
            await call
        told = "".join(traceback.format_exception(raised.value))
        assert KEY not in told
        assert SECRET not in told
        assert "signature=" not in told
