"""The only door to openai: the analyst that asks a language model, DeepSeek by default.

A reply is believed only after the strict decode of `engine.core.prompt`. One re-ask, then no trade; nothing of a reply but the
decoded verdict is kept or logged. What each reply says it cost is counted; where the day's budget is spent no model is asked, and the
candidate is rejected with that reason: the rules do not take over, since who set a model wants its word or none, as with its silence.
"""

import asyncio
import time
from typing import Any

from openai import APIError, APITimeoutError, AsyncOpenAI, BadRequestError

from engine.budget import DailySpending
from engine.core.prompt import SYSTEM, read_reply, user_message
from engine.core.verdict import AnalystFailure, Case, Verdict
from engine.log import logger
from shared.enums import AnalystKind

TEMPERATURE = 0.1
MAX_TOKENS = 1000
ASKS = 2
"""The first question and one re-ask that says what was wrong."""


class ModelAnalyst:
    """Asks a model over an OpenAI-compatible API."""

    kind = AnalystKind.MODEL

    def __init__(self, base_url: str, api_key: str, model: str, timeout_seconds: float, spending: DailySpending) -> None:
        self.model = model
        self._spending = spending
        self._timeout = timeout_seconds
        self._client = AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=timeout_seconds, max_retries=0)
        self._json_mode = True
        self.answered_ms: int | None = None
        self.failing = False

    async def argue(self, case: Case) -> Verdict | AnalystFailure:
        """One verdict, or why there is none; the time-out bounds both asks together."""
        outcome = await self._outcome(case)
        self.failing = isinstance(outcome, AnalystFailure)
        if not self.failing:
            self.answered_ms = time.time_ns() // 1_000_000
        return outcome

    async def close(self) -> None:
        """Ends the client's connections."""
        await self._client.close()

    async def _outcome(self, case: Case) -> Verdict | AnalystFailure:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_twice(case)
        except (TimeoutError, APITimeoutError):
            await self._spending.add(*_at_most(case))
            return AnalystFailure(reason=f"no answer within {self._timeout:g} s")
        except APIError as error:
            return AnalystFailure(reason=f"the model's API failed: {type(error).__name__}")

    async def _ask_twice(self, case: Case) -> Verdict | AnalystFailure:
        messages: list[dict[str, str]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user_message(case)}]
        wrong = ""
        for attempt in range(1, ASKS + 1):
            if spent := await self._spending.exhausted():
                return AnalystFailure(reason=spent, over_budget=True)
            outcome = read_reply(await self._ask(messages), self.model)
            if isinstance(outcome, Verdict):
                return outcome
            wrong = outcome
            logger().warning("a model's reply was refused", symbol=case.candidate.symbol, attempt=attempt, reason=wrong)
            messages = [
                *messages[:2],
                {"role": "user", "content": f"Your last reply was refused: {wrong}. Send the one JSON object only."},
            ]
        return AnalystFailure(reason=wrong)

    async def _ask(self, messages: list[dict[str, str]]) -> str:
        try:
            return await self._complete(messages, self._json_mode)
        except BadRequestError:
            if not self._json_mode:
                raise
            self._json_mode = False
            return await self._complete(messages, json_mode=False)

    async def _complete(self, messages: Any, json_mode: bool) -> str:
        extra: dict[str, Any] = {"response_format": {"type": "json_object"}} if json_mode else {}
        answer = await self._client.chat.completions.create(
            model=self.model, messages=messages, temperature=TEMPERATURE, max_tokens=MAX_TOKENS, **extra
        )
        if answer.usage is None:
            await self._spending.add(_length(messages), MAX_TOKENS)
        else:
            await self._spending.add(answer.usage.prompt_tokens or 0, answer.usage.completion_tokens or 0)
        return (answer.choices[0].message.content or "") if answer.choices else ""


def _at_most(case: Case) -> tuple[int, int]:
    """What a question whose reply did not come in time is counted as: it may have been billed, and nobody says."""
    return len(SYSTEM) + len(user_message(case)), MAX_TOKENS


def _length(messages: list[dict[str, str]]) -> int:
    """Characters, of which a token has one or more; for a server that tells no usage."""
    return sum(len(message["content"]) for message in messages)
