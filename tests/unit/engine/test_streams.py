"""The market streams: what a frame becomes, and how a connection comes back."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from engine import streams
from engine.core.market import ForcedOrder, Mark, Ticker
from engine.core.ticks import TickFrame
from engine.core.whales import Flow, flow_of
from engine.errors import SnapshotsUnavailable
from engine.feed import MOST_WAITING, Feed
from engine.ports import FeedState
from engine.sockets import Patience, pause_before
from shared.enums import Side
from tests.polling import eventually
from tests.unit.engine.execution_desk import WALL_MS, StandingClock
from tests.unit.engine.market_world import NOW_MS, mark

TICKER = {"e": "24hrTicker", "E": 1, "s": "XUSDT", "ps": "XUSDT", "P": "-3.21", "c": "1.5", "q": "4000000.5", "st": 1}
MARK = {
    "e": "markPriceUpdate",
    "E": 123,
    "s": "XUSDT",
    "p": "1.50010000",
    "i": "1.5",
    "P": "1.5",
    "r": "0.00010000",
    "T": 999,
    "st": 1,
}
FORCED = {
    "e": "forceOrder",
    "E": 5,
    "o": {"s": "XUSDT", "S": "SELL", "q": "10", "p": "1.4", "ap": "1.39", "X": "FILLED", "T": 5},
    "st": 1,
}


def frame(stream: str, data: object) -> str:
    return json.dumps({"stream": stream, "data": data})


HURRIED = Patience(silence=0.2, first_pause=0.01)


class Heard:
    def __init__(self) -> None:
        self.tickers: list[Ticker] = []
        self.marks: list[Mark] = []
        self.orders: list[ForcedOrder] = []
        self.ups: list[bool] = []

    def take_tickers(self, tickers: list[Ticker]) -> None:
        self.tickers += tickers

    def take_marks(self, marks: list[Mark]) -> None:
        self.marks += marks

    def take_liquidation(self, order: ForcedOrder) -> None:
        self.orders.append(order)

    def connection(self, up: bool) -> None:
        self.ups.append(up)


def heard_of(*frames: str) -> Heard:
    heard = Heard()
    for one in frames:
        streams.deliver(one, heard, WALL_MS)
    return heard


def test_a_row_that_is_no_number_silences_neither_the_others_nor_the_feed() -> None:
    odd = [{**MARK, "s": f"ODD{n}", **change} for n, change in enumerate([{"p": "NaN"}, {"p": "0"}, {"r": "much"}, {"r": "NaN"}])]
    heard = heard_of(frame("!markPrice@arr@1s", [*odd, MARK]))
    assert [mark.symbol for mark in heard.marks] == ["XUSDT"]
    order = FORCED["o"]
    assert isinstance(order, dict)
    with pytest.raises(msgspec.ValidationError):
        heard_of(frame("!forceOrder@arr", {**FORCED, "o": {**order, "p": "NaN"}}))


def test_tickers_and_marks_become_values_with_the_moment_of_their_receipt() -> None:
    heard = heard_of(frame("!ticker@arr", [TICKER]), frame("!markPrice@arr@1s", [MARK]))
    assert heard.tickers == [Ticker(symbol="XUSDT", last=1.5, change_percent=-3.21, quote_volume=4000000.5, received_ms=WALL_MS)]
    (mark,) = heard.marks
    assert (mark.price, mark.at_ms, mark.funding_rate, mark.next_funding_ms) == (
        Decimal("1.50010000"),
        123,
        Decimal("0.0001"),
        999,
    )


def test_rows_of_coin_margined_contracts_are_not_ours() -> None:
    heard = heard_of(
        frame("!ticker@arr", [TICKER, {**TICKER, "s": "BTCUSD_PERP", "st": 2}]),
        frame("!markPrice@arr@1s", [{**MARK, "st": 2}]),
        frame("!forceOrder@arr", {**FORCED, "st": 2}),
    )
    assert [ticker.symbol for ticker in heard.tickers] == ["XUSDT"]
    assert (heard.marks, heard.orders) == ([], [])


def test_a_sold_forced_order_is_a_long_that_was_liquidated_at_order_price_times_quantity() -> None:
    (order,) = heard_of(frame("!forceOrder@arr", FORCED)).orders
    assert order.side is Side.LONG
    assert order.usd == pytest.approx(14.0)


@pytest.mark.parametrize(
    ("told", "fill"), [({"ap": "1.39"}, Decimal("1.39")), ({"ap": "0"}, None), ({"ap": "NaN"}, None), ({}, None)]
)
def test_a_forced_order_has_its_fill_price_where_that_was_told(told: dict[str, str], fill: Decimal | None) -> None:
    order = FORCED["o"]
    assert isinstance(order, dict)
    rest = {name: value for name, value in order.items() if name != "ap"}
    (heard,) = heard_of(frame("!forceOrder@arr", {**FORCED, "o": {**rest, **told}})).orders
    assert (heard.price, heard.fill_price) == (Decimal("1.4"), fill)


def test_acknowledgements_and_other_streams_are_passed_over() -> None:
    heard = heard_of('{"result": null, "id": 1}', frame("btcusdt@kline_1m", {"e": "kline"}))
    assert (heard.tickers, heard.marks, heard.orders) == ([], [], [])


def test_a_frame_that_does_not_fit_is_said_so() -> None:
    with pytest.raises(msgspec.MsgspecError):
        heard_of(frame("!forceOrder@arr", {"o": 1}))
    with pytest.raises(msgspec.MsgspecError):
        heard_of("{")


def test_an_odd_row_does_not_silence_the_others() -> None:
    heard = heard_of(
        frame("!ticker@arr", [{**TICKER, "c": ""}, TICKER, {"s": "Y"}]), frame("!markPrice@arr@1s", [{**MARK, "p": "?"}, MARK])
    )
    assert [ticker.symbol for ticker in heard.tickers] == ["XUSDT"]
    assert [mark.symbol for mark in heard.marks] == ["XUSDT"]


def test_recorded_forced_orders_are_read_to_the_last(data_folder: Path) -> None:
    lines = gzip.decompress((data_folder / "force_orders.jsonl.gz").read_bytes()).decode().splitlines()
    heard = heard_of(*(f'{{"stream": "!forceOrder@arr", "data": {line}}}' for line in lines))
    assert len(heard.orders) == len(lines) > 4000
    assert {order.side for order in heard.orders} == set(Side)


def test_the_pause_before_a_new_attempt_doubles_to_ten_seconds_and_is_jittered() -> None:
    for attempt, full in [(1, 0.25), (2, 0.5), (4, 2.0), (50, 10.0)]:
        pauses = [pause_before(attempt) for _ in range(20)]
        assert full / 2 <= min(pauses) <= max(pauses) <= full
        assert len(set(pauses)) > 1


class Server:
    """Greets each connection with one ticker; the first ones are cut, or fall silent, as the test says."""

    def __init__(self, cut: int = 0, silent: int = 0) -> None:
        self.cut, self.silent = cut, silent
        self.paths: list[str] = []

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        if len(self.paths) <= self.silent:
            await connection.wait_closed()
            return
        await connection.send("not json")
        await connection.send(frame("!ticker@arr", [TICKER]))
        if len(self.paths) <= self.cut:
            connection.transport.abort()
        await connection.wait_closed()


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[Heard]:
    heard = Heard()
    async with serve(server, "127.0.0.1", 0) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        task = asyncio.create_task(streams.listen(f"ws://127.0.0.1:{port}", heard, StandingClock(), HURRIED))
        try:
            yield heard
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def said(heard: Heard, tickers: int) -> None:
    async def enough() -> bool:
        return len(heard.tickers) >= tickers

    await eventually(enough, seconds=5, what=f"{tickers} tickers")


async def test_all_three_streams_are_asked_for_on_the_market_path() -> None:
    server = Server()
    async with listening(server) as heard:
        await said(heard, 1)
    assert server.paths == ["/market/stream?streams=!forceOrder@arr/!markPrice@arr@1s/!ticker@arr"]


async def test_a_cut_connection_comes_back() -> None:
    async with listening(Server(cut=2)) as heard:
        await said(heard, 3)
    assert heard.ups[:5] == [True, False, True, False, True]


async def test_a_connection_that_falls_silent_is_given_up() -> None:
    async with listening(Server(silent=1)) as heard:
        await said(heard, 1)
    assert heard.ups[:3] == [True, False, True]


class Written:
    """Where the feed writes, with Redis's moods."""

    def __init__(self) -> None:
        self.parts: list[set[str]] = []
        self.ticks: list[list[int]] = []
        self.down = False

    async def write(
        self,
        state: FeedState,
        tickers: Sequence[Ticker] | None = None,
        marks: Sequence[Mark] | None = None,
        liquidations: Sequence[ForcedOrder] | None = None,
        ticks: Sequence[TickFrame] = (),
    ) -> None:
        del state
        if self.down:
            raise SnapshotsUnavailable("ConnectionError")
        self.ticks.append([frame.at_ms for frame in ticks])
        parts = {"tickers": tickers, "marks": marks, "liquidations": liquidations}
        self.parts.append({name for name, value in parts.items() if value is not None})


async def test_the_feed_writes_what_changed_and_forgets_liquidations_after_five_market_minutes() -> None:
    clock, written = StandingClock(), Written()
    feed = Feed(clock)
    feed.take_tickers(heard_of(frame("!ticker@arr", [TICKER])).tickers)
    feed.take_liquidation(ForcedOrder(symbol="X", side=Side.LONG, price=Decimal(1), quantity=Decimal(1), at_ms=NOW_MS - 300_001))
    feed.take_liquidation(ForcedOrder(symbol="X", side=Side.LONG, price=Decimal(1), quantity=Decimal(9), at_ms=NOW_MS))
    await feed.write(written)
    await feed.write(written)
    assert written.parts == [{"tickers", "liquidations"}, set()]
    assert flow_of(list(feed.orders), "X", NOW_MS) == Flow(long_usd=9.0, orders=1)


async def test_reconnects_count_after_the_first_connection() -> None:
    feed = Feed(StandingClock())
    assert (feed.state().connected, feed.state().reconnects) == (False, 0)
    for up in (True, False, True):
        feed.connection(up)
    assert (feed.state().connected, feed.state().reconnects) == (True, 1)


async def test_each_event_of_marks_is_written_once_and_waits_for_a_redis_that_is_away() -> None:
    written = Written()
    feed = Feed(StandingClock())
    feed.take_marks([mark("X", "1.5", at_ms=1_000), mark("Y", "2", at_ms=1_000)])
    await feed.write(written)
    await feed.write(written)
    written.down = True
    feed.take_marks([mark("X", "1.6", at_ms=2_000)])
    with pytest.raises(SnapshotsUnavailable):
        await feed.write(written)
    written.down = False
    feed.take_marks([mark("X", "1.7", at_ms=3_000)])
    await feed.write(written)
    assert written.ticks == [[1_000], [], [2_000, 3_000]]


async def test_a_redis_that_stays_away_costs_the_oldest_ticks_and_never_the_memory() -> None:
    written = Written()
    feed = Feed(StandingClock())
    written.down = True
    for second in range(MOST_WAITING + 40):
        feed.take_marks([mark("X", at_ms=second * 1_000)])
        with pytest.raises(SnapshotsUnavailable):
            await feed.write(written)
    written.down = False
    await feed.write(written)
    assert written.ticks == [[second * 1_000 for second in range(40, MOST_WAITING + 40)]]
