"""The model behind the Analyst port, against a small server that speaks the chat API on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from aiohttp import web
from redis.asyncio import Redis

from engine.budget import DailySpending, Prices
from engine.core.verdict import AnalystFailure, Case, Verdict
from engine.inference import ModelAnalyst
from shared.enums import Side
from tests.unit.engine.market_world import candidate

LONG = '{"signal": "LONG", "confidence": 80, "stop_loss": 99.5, "take_profit": 101.2, "reasoning": "a dip"}'
CASE = Case(candidate=candidate(), price=Decimal(100), tick_size=Decimal("0.1"), atr=0.5, indicators={})


PRICES = Prices(prompt=Decimal("0.30"), completion=Decimal("1.20"))
NOON_MS = 1_795_435_200_000


def spending_alone(bound_usd: str = "0") -> DailySpending:
    """A count whose Redis is away."""
    redis: Redis = Redis(host="127.0.0.1", port=9, socket_connect_timeout=0.1)
    return DailySpending(redis, Decimal(bound_usd), PRICES, lambda: NOON_MS)


class Model:
    """Says its lines one by one; a number is an HTTP status, None is silence. Each reply tells the usage given."""

    def __init__(self, *lines: str | int | None, usage: tuple[int, int] | None = (1000, 500)) -> None:
        self.lines = list(lines)
        self.usage = usage
        self.asked: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        line = self.lines.pop(0)
        if line is None:
            await self.gone.wait()
        if isinstance(line, int):
            return web.json_response({"error": {"message": "response_format is not supported"}}, status=line)
        message = {"role": "assistant", "content": line}
        prompt, completion = self.usage or (0, 0)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                **({"usage": usage} if self.usage else {}),
            }
        )


@asynccontextmanager
async def asking(
    model: Model, timeout_seconds: float = 5.0, spending: DailySpending | None = None
) -> AsyncIterator[ModelAnalyst]:
    app = web.Application()
    app.router.add_post("/chat/completions", model.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    analyst = ModelAnalyst(url, "key", "some-model", timeout_seconds, spending or spending_alone())
    try:
        yield analyst
    finally:
        model.gone.set()
        await analyst.close()
        await runner.cleanup()


async def test_a_reply_in_form_is_the_verdict_and_is_asked_for_as_json() -> None:
    model = Model(LONG)
    async with asking(model) as analyst:
        verdict = await analyst.argue(CASE)
    assert isinstance(verdict, Verdict)
    assert verdict.side is Side.LONG
    assert model.asked[0]["response_format"] == {"type": "json_object"}
    assert model.asked[0]["model"] == "some-model"


async def test_a_broken_reply_is_asked_for_once_more() -> None:
    model = Model("I think long.", LONG)
    async with asking(model) as analyst:
        assert isinstance(await analyst.argue(CASE), Verdict)
    assert "refused" in model.asked[1]["messages"][-1]["content"]


async def test_after_two_broken_replies_there_is_no_trade() -> None:
    async with asking(Model("no", "still no")) as analyst:
        failure = await analyst.argue(CASE)
    assert isinstance(failure, AnalystFailure)
    assert "no whole JSON object" in failure.reason


async def test_a_server_that_knows_no_json_mode_is_asked_without_it_from_then_on() -> None:
    model = Model(400, LONG, LONG)
    async with asking(model) as analyst:
        assert isinstance(await analyst.argue(CASE), Verdict)
        assert isinstance(await analyst.argue(CASE), Verdict)
    assert ["response_format" in asked for asked in model.asked] == [True, False, False]


async def test_silence_ends_with_the_time_out_and_no_trade() -> None:
    async with asking(Model(None), timeout_seconds=0.2) as analyst:
        failure = await analyst.argue(CASE)
    assert isinstance(failure, AnalystFailure)
    assert "0.2 s" in failure.reason


async def test_a_failing_server_means_no_trade() -> None:
    async with asking(Model(500)) as analyst:
        assert isinstance(await analyst.argue(CASE), AnalystFailure)


async def test_the_analyst_tells_whether_its_last_question_had_an_answer() -> None:
    async with asking(Model(500, LONG)) as analyst:
        await analyst.argue(CASE)
        assert (analyst.failing, analyst.answered_ms) == (True, None)
        await analyst.argue(CASE)
        assert analyst.failing is False
        assert analyst.answered_ms is not None


async def test_nobody_there_means_no_trade() -> None:
    analyst = ModelAnalyst("http://127.0.0.1:9", "key", "some-model", 2.0, spending_alone())
    assert isinstance(await analyst.argue(CASE), AnalystFailure)
    await analyst.close()


async def test_what_a_reply_says_it_used_is_priced() -> None:
    spending = spending_alone()
    async with asking(Model("no", LONG), spending=spending) as analyst:
        await analyst.argue(CASE)
    assert spending.spent_usd == Decimal("0.0018")  # twice 1000 x 0.30 and 500 x 1.20 of a million


async def test_past_the_days_budget_no_model_is_asked_even_with_redis_away() -> None:
    model = Model(LONG, LONG)
    async with asking(model, spending=spending_alone("0.0009")) as analyst:
        assert isinstance(await analyst.argue(CASE), Verdict)
        refused = await analyst.argue(CASE)
    assert isinstance(refused, AnalystFailure)
    assert refused.over_budget
    assert "$0.0009" in refused.reason
    assert len(model.asked) == 1


async def test_the_re_ask_too_keeps_to_the_budget() -> None:
    model = Model("no", LONG)
    async with asking(model, spending=spending_alone("0.0009")) as analyst:
        refused = await analyst.argue(CASE)
    assert isinstance(refused, AnalystFailure)
    assert refused.over_budget
    assert len(model.asked) == 1


async def test_a_reply_without_usage_and_one_that_never_came_are_counted_at_their_most() -> None:
    for model in (Model(LONG, usage=None), Model(None)):
        spending = spending_alone()
        async with asking(model, timeout_seconds=0.5, spending=spending) as analyst:
            await analyst.argue(CASE)
        assert spending.spent_usd > Decimal("0.0012")  # the whole answer that it was allowed, and the question


async def test_without_a_bound_any_sum_is_fine() -> None:
    async with asking(Model(LONG, LONG, usage=(10**9, 10**9)), spending=spending_alone("0")) as analyst:
        assert isinstance(await analyst.argue(CASE), Verdict)
        assert isinstance(await analyst.argue(CASE), Verdict)
