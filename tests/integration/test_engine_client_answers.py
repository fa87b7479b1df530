"""What the orchestrator concludes from each way in which the engine may answer."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from orchestrator.engine_client import HttpEngine, open_engine
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import bound_trace
from shared.analysis import MarksReply
from shared.enums import Side
from shared.execution import EntryRequest, PaperAccount, PaperBook
from shared.problem import Problem
from shared.wire import encode

NOW = datetime(2025, 9, 22, 6, tzinfo=UTC)
ENTRY = EntryRequest(
    account=PaperAccount(book=PaperBook(balance=Decimal(10_000))),
    client_order_id="nt-e-abc",
    symbol="BTCUSDT",
    side=Side.LONG,
    amount_usdt=Decimal(1000),
    leverage=Decimal(10),
    stop_loss=Decimal(98),
    take_profit=Decimal(104),
    signal_price=Decimal(100),
)


class Network:
    """Answers requests by a script and keeps them."""

    def __init__(self, *answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers[min(len(self.requests), len(self._answers)) - 1](request)

    def engine(self) -> HttpEngine:
        return open_engine("http://engine", "token", httpx.MockTransport(self))


def breaks(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset", request=request)


def answers(status: int, body: bytes) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, content=body)


EMPTY_MARKS = encode(MarksReply(as_of=NOW, marks={}, missing={"BTCUSDT": "no mark yet"}))
PROBLEM = encode(Problem(code="bad_request", detail="no such symbol"))


async def test_a_question_is_asked_once_more_when_the_connection_breaks() -> None:
    network = Network(breaks, answers(200, EMPTY_MARKS))
    reply = await network.engine().marks({"BTCUSDT": NOW})
    assert reply.missing == {"BTCUSDT": "no mark yet"}
    assert len(network.requests) == 2


async def test_an_order_is_never_sent_twice_by_itself() -> None:
    network = Network(breaks)
    with pytest.raises(EngineUnavailable):
        await network.engine().enter(ENTRY)
    assert len(network.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_problem_means_that_the_engine_did_nothing(status: int) -> None:
    network = Network(answers(status, PROBLEM))
    with pytest.raises(EngineRefused, match="no such symbol") as refused:
        await network.engine().enter(ENTRY)
    assert (refused.value.code, refused.value.status) == ("bad_request", status)


async def test_a_refused_question_is_not_repeated() -> None:
    network = Network(answers(400, PROBLEM))
    with pytest.raises(EngineRefused):
        await network.engine().marks({})
    assert len(network.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        answers(500, PROBLEM),
        answers(503, b"<html>bad gateway</html>"),
        answers(404, b"not a problem"),
        answers(200, b"{"),
        answers(200, b'{"status": "FILLED"}'),
    ],
)
async def test_any_other_answer_to_an_order_leaves_its_outcome_open(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    with pytest.raises(EngineUnavailable) as unavailable:
        await Network(answer).engine().enter(ENTRY)
    assert not isinstance(unavailable.value, EngineRefused)


async def test_token_and_trace_id_travel_with_every_call() -> None:
    network = Network(answers(200, EMPTY_MARKS), answers(400, PROBLEM))
    with bound_trace("a" * 32):
        await network.engine().marks({})
    with bound_trace("t1"), pytest.raises(EngineRefused):
        await network.engine().enter(ENTRY)
    assert [request.headers["Authorization"] for request in network.requests] == ["Bearer token"] * 2
    assert [request.headers["X-Trace-Id"] for request in network.requests] == ["a" * 32, "t1"]


async def test_an_engine_that_is_not_there_is_unavailable_at_once() -> None:
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    engine = open_engine(f"http://127.0.0.1:{port}", "token")
    with pytest.raises(EngineUnavailable):
        await engine.enter(ENTRY)
    await engine.close_connections()
