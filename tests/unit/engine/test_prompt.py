"""A model's reply is believed only as one whole object of the fixed form; how replies break is taken from recorded ones."""

import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.prompt import SYSTEM, read_reply, user_message
from engine.core.verdict import Case, Verdict
from shared.enums import AnalystKind, Side
from tests.unit.engine.market_world import candidate

LONG = '{"signal": "LONG", "confidence": 80, "stop_loss": 99.5, "take_profit": "101.2", "reasoning": "a dip { in a } trend"}'


def verdict_of(text: str) -> Verdict:
    found = read_reply(text, "some-model")
    assert isinstance(found, Verdict), found
    return found


def refusal_of(text: str) -> str:
    found = read_reply(text, "some-model")
    assert isinstance(found, str), found
    return found


def test_a_clean_reply_is_a_verdict_with_decimal_prices() -> None:
    verdict = verdict_of(LONG)
    assert (verdict.side, verdict.confidence, verdict.stop_loss, verdict.take_profit) == (
        Side.LONG,
        80,
        Decimal("99.5"),
        Decimal("101.2"),
    )
    assert (verdict.analyst, verdict.model) == (AnalystKind.MODEL, "some-model")


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{LONG}\n```",
        f"Here is what I think of {{it}}:\n\n{LONG}\n\nGood luck!",
        f"**Thinking**\n- one\n\n```\n{LONG}\n```\nThat is all.",
        f"[{LONG}]",
        f"\n\n  {LONG}  ",
    ],
)
def test_fences_and_words_around_the_object_are_tolerated(text: str) -> None:
    assert verdict_of(text).side is Side.LONG


def test_to_wait_is_a_verdict_without_a_side() -> None:
    assert verdict_of('{"signal": "WAIT", "confidence": 10, "stop_loss": 0, "take_profit": null}').side is None


@given(st.integers(0, len(LONG) - 1))
def test_a_reply_that_was_cut_short_is_never_a_verdict(length: int) -> None:
    assert refusal_of(LONG[:length])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "I would wait.",
        f"{LONG}\n{LONG}",
        f'{{"thinking": "…", "decision": {LONG}',
        f'{{"thinking": "…", "decision": {LONG}}}',
        LONG.replace("80", "NaN"),
        LONG.replace("80", "180"),
        LONG.replace("80", '"high"'),
        LONG.replace('"LONG"', '"BUY"'),
        LONG.replace('"LONG"', '"LONG", "signal": "SHORT"'),
        LONG.replace("99.5", "-1"),
        LONG.replace("99.5", "null"),
        LONG.replace("99.5", "1e999"),
        '{"signal": "LONG", "confidence": 80}',
        "{" * 19_000,
        '{"a":' * 3_800,
        "{" * 100_000,
        LONG + " " * 20_000,
    ],
)
def test_what_is_not_the_one_object_is_refused_in_words_that_do_not_repeat_it(text: str) -> None:
    assert "dip" not in refusal_of(text)


@pytest.mark.parametrize("said", ["BUY dip", "it's a 'dip'", "dip\n'"])
def test_a_side_that_a_model_made_up_is_not_repeated(said: str) -> None:
    refusal = refusal_of(json.dumps({**json.loads(LONG), "signal": said, "reasoning": ""}))

    assert "$.signal" in refusal
    assert "dip" not in refusal


def test_a_long_story_is_cut_and_put_on_one_line() -> None:
    verdict = verdict_of(json.dumps({**json.loads(LONG), "reasoning": "why\n" * 1000}))
    assert "\n" not in verdict.reasoning
    assert len(verdict.reasoning) == 600


def test_recorded_replies_of_models_that_were_asked_for_something_else_never_trade(data_folder: Path) -> None:
    replies = pl.read_parquet(data_folder / "llm_replies.parquet")["raw"].drop_nulls().to_list()
    assert len(replies) > 500
    for raw in replies:
        found = read_reply(raw, "recorded")
        assert isinstance(found, str) or found.side is None or found.stop_loss is not None


def test_our_form_inside_recorded_wrappings_is_read(data_folder: Path) -> None:
    frame = pl.read_parquet(data_folder / "llm_replies.parquet").filter(pl.col("cls") == "prose+fenced_json")
    read = 0
    for raw in frame["raw"].to_list():
        before, fence, rest = raw.partition("```json")
        _, closing, after = rest.partition("```")
        if "{" not in before + after and fence and closing:
            assert verdict_of(f"{before}{fence}\n{LONG}\n{closing}{after}").side is Side.LONG
            read += 1
    assert read > 100


def test_the_candidate_is_told_as_json_and_the_rules_never_hold_market_data() -> None:
    case = Case(
        candidate=candidate("币安人生USDT", rsi=31.123456789),
        price=Decimal("1.5"),
        tick_size=Decimal("0.1"),
        atr=0.1,
        indicators={},
    )
    told = json.loads(user_message(case))
    assert (told["symbol"], told["price"], told["screener"]["rsi"]) == ("币安人生USDT", "1.5", 31.1235)
    assert "USDT" not in SYSTEM
