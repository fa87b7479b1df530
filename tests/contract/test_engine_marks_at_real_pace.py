"""POST /marks of the engine's two processes at the exchange's own pace: told second by second, and where the feed was away by the minute."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from shared.analysis import MarksReply, SymbolMarks
from shared.wire import decode
from tests.contract.test_engine_market_sandbox import Stack
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("engine-processes")]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")


@pytest.fixture(scope="module")
def stack(redis_server_url: str) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="nt-marks-") as folder:
        stack = Stack(redis_server_url, Path(folder))
        try:
            stack.start_all(speed=1)
            yield stack
        finally:
            stack.close()


def now(stack: Stack) -> datetime:
    return decode(stack.client.post("/marks", json={"since": {}}).content, MarksReply).as_of


def marks(stack: Stack, since: datetime) -> dict[str, SymbolMarks]:
    asked = {"since": dict.fromkeys(SYMBOLS, since.isoformat())}
    return decode(stack.client.post("/marks", json=asked).content, MarksReply).marks


def test_one_late_look_sees_every_second_since_a_moment_within_a_minute_and_nothing_before_it(stack: Stack) -> None:
    since = now(stack)
    early = since if since.second < 45 else since + timedelta(seconds=60 - since.second - since.microsecond / 1e6 + 0.5)

    def told() -> dict[str, SymbolMarks] | None:
        found = marks(stack, early)
        return found if len(found) == len(SYMBOLS) and all(len(one.bars) >= 7 for one in found.values()) else None

    for one in (wait_until(told, seconds=40, what="seven seconds of ticks") or {}).values():
        assert one.since == early
        moments = [bar.from_ for bar in one.bars]
        assert moments[0] >= early
        assert all(bar.from_ == bar.to for bar in one.bars)
        assert all(later - earlier <= timedelta(seconds=3) for earlier, later in pairwise([early, *moments]))


def test_where_the_feed_was_away_the_minute_is_told_by_its_kline_and_never_twice(stack: Stack) -> None:
    stack.kill("feed")
    killed = now(stack)
    minute = killed.replace(second=0, microsecond=0)
    found = marks(stack, minute - timedelta(minutes=3))["BTCUSDT"]
    whole = [bar for bar in found.bars if bar.to > bar.from_]
    assert [bar.from_ for bar in whole][:3] == [minute - timedelta(minutes=back) for back in (3, 2, 1)]
    stack.start("feed", "engine.feed")
    wait_until(back_since(stack, killed + timedelta(seconds=3)), seconds=30, what="a feed that speaks again")
    found = marks(stack, minute)["BTCUSDT"]
    assert (found.bars[0].from_, found.bars[0].to > found.bars[0].from_) == (minute, True)
    ticks = [bar.from_ for bar in found.bars[1:-1] if bar.to == bar.from_]
    assert all(moment >= minute + timedelta(minutes=1) for moment in ticks)


def back_since(stack: Stack, moment: datetime) -> Callable[[], bool]:
    return lambda: now(stack) > moment and stack.is_ready()
