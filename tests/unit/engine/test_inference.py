"""The model behind the Analyst port, against a small server that speaks the chat API on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from aiohttp import web

from engine.core.verdict import AnalystFailure, Case, Verdict
from engine.inference import ModelAnalyst
from shared.enums import Side
from tests.unit.engine.market_world import candidate

LONG = '{"signal": "LONG", "confidence": 80, "stop_loss": 99.5, "take_profit": 101.2, "reasoning": "a dip"}'
CASE = Case(candidate=candidate(), price=Decimal(100), tick_size=Decimal("0.1"), atr=0.5, indicators={})


class Model:
    """Says its lines one by one; a number is an HTTP status, None is silence."""

    def __init__(self, *lines: str | int | None) -> None:
        self.lines = list(lines)
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
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            }
        )


@asynccontextmanager
async def asking(model: Model, timeout_seconds: float = 5.0) -> AsyncIterator[ModelAnalyst]:
    app = web.Application()
    app.router.add_post("/chat/completions", model.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    analyst = ModelAnalyst(f"http://127.0.0.1:{runner.addresses[0][1]}", "key", "some-model", timeout_seconds)
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
    analyst = ModelAnalyst("http://127.0.0.1:9", "key", "some-model", 2.0)
    assert isinstance(await analyst.argue(CASE), AnalystFailure)
    await analyst.close()
