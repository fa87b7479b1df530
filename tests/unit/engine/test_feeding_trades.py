"""Whose large trades are listened to, and what Redis is told of them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from engine.core.market import Ticker, Trade
from engine.errors import SnapshotsUnavailable
from engine.feeding.trades import MOST_LIQUID, TradeWatch, keep_trades
from engine.ports import TradeWindows
from engine.streams import MOST_TRADED
from tests.unit.engine.execution_desk import WALL_MS, StandingClock
from tests.unit.engine.market_world import NOW_MS, ticker
from tests.unit.engine.test_streams_trades import becomes

MARKET = {f"S{place}": ticker(f"S{place}", volume=1e9 - place) for place in range(50)}


def watching(tickers: dict[str, Ticker] | None = None) -> TradeWatch:
    known = MARKET if tickers is None else tickers
    return TradeWatch(StandingClock(), lambda: known)


def test_the_shortlist_is_followed_first_then_the_most_liquid_and_nobody_twice() -> None:
    watch = watching()
    watch.shortlisted = ["S40", "S3", "GONE"]
    wanted = watch.wanted()
    assert wanted[:2] == ["S40", "S3"]
    assert wanted[2:6] == ["S0", "S1", "S2", "S4"]
    assert len(wanted) == len(set(wanted)) == MOST_LIQUID + 1


def test_never_more_are_followed_than_one_connection_listens_to() -> None:
    watch = watching({f"S{place}": ticker(f"S{place}", volume=1e9 - place) for place in range(200)})
    watch.shortlisted = [f"S{place}" for place in range(199, 100, -1)]
    wanted = watch.wanted()
    assert len(wanted) == MOST_TRADED
    assert wanted[0] == "S199"
    assert {"S0", f"S{MOST_LIQUID - 1}"} <= set(wanted)


def test_before_the_first_ticker_nobody_is_followed() -> None:
    assert watching({}).wanted() == []


def test_what_is_told_is_of_the_connection_that_stands() -> None:
    watch = watching()
    watch.wanted()
    assert watch.windows() == TradeWindows(beat_ms=WALL_MS, connected=False)
    watch.trades_connection(up=True)
    watch.take_trade("S0", Trade(price=1.0, quantity=70_000.0, sell=True, at_ms=NOW_MS))
    flows = {flow.symbol: flow for flow in watch.windows().flows}
    assert (flows["S0"].sold_usd, flows["S0"].since_ms, flows["S1"].trades) == (70_000.0, NOW_MS, 0)
    watch.trades_connection(up=False)
    assert watch.windows().flows == ()
    watch.trades_connection(up=True)
    assert all(flow.trades == 0 for flow in watch.windows().flows)


class Board:
    """Redis with its moods."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0
        self.written: list[TradeWindows] = []

    async def wanted_trades(self) -> Sequence[str]:
        self.asked += 1
        if self.down:
            raise SnapshotsUnavailable("ConnectionError")
        return ["S40"]

    async def write_large_trades(self, windows: TradeWindows) -> None:
        if self.down:
            raise SnapshotsUnavailable("ConnectionError")
        self.written.append(windows)


async def test_redis_may_go_and_come_and_the_shortlist_is_followed_when_it_answers() -> None:
    watch, board = watching(), Board()
    board.down = True
    task = asyncio.create_task(keep_trades(watch, board, seconds=0.001))
    try:
        await becomes(lambda: board.asked >= 2, "questions")
        assert (watch.shortlisted, board.written) == ((), [])
        board.down = False
        await becomes(lambda: len(board.written) >= 2, "writes")
        assert list(watch.shortlisted) == ["S40"]
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
