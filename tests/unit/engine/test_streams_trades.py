"""The stream of large trades: what a frame becomes, what is subscribed to, and how the connection comes back."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from engine import sockets, streams
from engine.core.market import Trade
from engine.sockets import Patience
from tests.polling import eventually

TRADE = {
    "e": "aggTrade",
    "E": 7,
    "s": "XUSDT",
    "a": 1,
    "p": "1.50",
    "q": "40000",
    "nq": "40000",
    "f": 1,
    "l": 2,
    "T": 5,
    "m": True,
}
HURRIED = Patience(silence=0.3, first_pause=0.01)


class Heard:
    def __init__(self, *symbols: str) -> None:
        self.symbols: Sequence[str] = symbols
        self.trades: list[tuple[str, Trade]] = []
        self.ups: list[bool] = []

    def wanted(self) -> Sequence[str]:
        return self.symbols

    def take_trade(self, symbol: str, trade: Trade) -> None:
        self.trades.append((symbol, trade))

    def trades_connection(self, up: bool) -> None:
        self.ups.append(up)


async def becomes(true: Callable[[], bool], what: str) -> None:
    async def read() -> bool:
        return true()

    await eventually(read, seconds=10, what=what)


def frame(data: dict[str, Any]) -> str:
    return json.dumps({"stream": f"{data.get('s', '').lower()}@aggTrade", "data": data})


@pytest.mark.parametrize(("maker", "sell"), [(True, True), (False, False)])
def test_a_buyer_who_was_the_maker_means_that_the_taker_sold(maker: bool, sell: bool) -> None:
    row = streams.trade_in(frame({**TRADE, "m": maker, "st": 1}))
    assert row is not None
    assert (row.symbol, row.trade()) == ("XUSDT", Trade(price=1.5, quantity=40_000.0, sell=sell, at_ms=5))


def test_rows_of_coin_margined_contracts_and_answers_are_passed_over() -> None:
    assert streams.trade_in(frame({**TRADE, "s": "BTCUSD_PERP", "st": 2})) is None
    assert streams.trade_in('{"result": null, "id": 1}') is None


class Server:
    """Sends frames once a connection has subscribed; what it was asked and told is kept."""

    def __init__(self, *frames: str) -> None:
        self.frames = frames
        self.asked: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.open: list[ServerConnection] = []
        self.most_open = 0

    async def talk(self, socket: ServerConnection) -> None:
        self.asked.append(socket.request.path if socket.request else "")
        self.open.append(socket)
        self.most_open = max(self.most_open, len(self.open))
        try:
            async for message in socket:
                self.told.append(json.loads(message))
                await socket.send(json.dumps({"result": None, "id": self.told[-1]["id"]}))
                for one in self.frames:
                    await socket.send(one)
        finally:
            self.open.remove(socket)

    async def trade(self, number: int) -> None:
        """One trade, told to whoever is connected."""
        for socket in list(self.open):
            with suppress(ConnectionClosed):
                await socket.send(frame({**TRADE, "a": number, "q": str(number)}))


@asynccontextmanager
async def listening(server: Server, heard: Heard, patience: Patience = HURRIED) -> AsyncIterator[None]:
    async with serve(server.talk, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]
        task = asyncio.create_task(streams.listen_trades(f"ws://127.0.0.1:{port}", heard, patience, review_seconds=0.01))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_trade_that_does_not_fit_is_said_and_the_next_one_is_heard() -> None:
    heard = Heard("XUSDT")
    server = Server(frame({**TRADE, "p": "NaN"}), frame({**TRADE, "q": "0"}), frame(TRADE))
    async with listening(server, heard):
        await becomes(lambda: len(heard.trades) == 1, "a trade")
    assert (server.asked[0], server.told[0]["method"], server.told[0]["params"]) == (
        "/market/stream",
        "SUBSCRIBE",
        ["xusdt@aggTrade"],
    )


async def test_silence_means_another_connection_and_who_listens_is_told() -> None:
    heard = Heard("XUSDT")
    async with listening(Server(frame(TRADE)), heard):
        await becomes(lambda: len(heard.trades) >= 2, "two trades")
    assert heard.ups[:3] == [True, False, True]


async def test_nothing_wanted_is_nothing_connected_until_something_is() -> None:
    heard, server = Heard(), Server(frame(TRADE))
    async with listening(server, heard):
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.asked == []
        heard.symbols = ["YUSDT"]
        await becomes(lambda: server.asked != [], "a connection")
        await becomes(lambda: heard.ups == [True], "a subscription")
        heard.symbols = []
        await becomes(lambda: server.open == [], "the end of the connection")
    assert server.told[0]["params"] == ["yusdt@aggTrade"]
    assert heard.ups == [True, False]


async def test_a_connection_that_grows_old_is_replaced_without_a_gap_and_no_trade_counts_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "MESSAGE_SECONDS", 0.01)
    heard, server, told = Heard("XUSDT"), Server(), itertools.count(1)
    async with listening(server, heard, Patience(silence=2.0, lifetime=0.15, first_pause=0.01)):

        async def replaced_twice() -> bool:
            await server.trade(next(told))
            return len(server.asked) >= 3

        await eventually(replaced_twice, seconds=8, what="two replacements")
        assert server.most_open == 2
        assert heard.ups == [True]
        last = next(told)

        async def heard_last() -> bool:
            await server.trade(last)
            return any(trade.quantity == last for _, trade in heard.trades)

        await eventually(heard_last, seconds=5, what="the last trade")
    numbers = [int(trade.quantity) for _, trade in heard.trades]
    assert numbers == sorted(set(numbers))
    assert set(range(numbers[0], last + 1)) == set(numbers)


async def test_where_a_replacement_stays_silent_the_old_connection_goes_on_and_subscribes_to_what_is_wanted_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "MESSAGE_SECONDS", 0.01)
    monkeypatch.setattr(sockets, "CHANGE_SECONDS", 0.01)
    heard, numbers, told = Heard("XUSDT"), itertools.count(1), list[list[str]]()

    async def talk(socket: ServerConnection) -> None:
        mine, speaks = list[str](), not told
        told.append(mine)

        async def speak() -> None:
            while speaks:
                await socket.send(frame({**TRADE, "a": next(numbers)}))
                await asyncio.sleep(0.02)

        speaking = asyncio.create_task(speak())
        with suppress(ConnectionClosed):
            async for message in socket:
                mine.extend(json.loads(message)["params"])
                heard.symbols = ["XUSDT", "YUSDT"]
        speaking.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await speaking

    async with serve(talk, "127.0.0.1", 0) as at:
        port = next(iter(at.sockets)).getsockname()[1]
        patience = Patience(silence=0.3, lifetime=0.2, first_pause=0.01)
        listening = asyncio.create_task(streams.listen_trades(f"ws://127.0.0.1:{port}", heard, patience, review_seconds=0.4))
        await becomes(lambda: told[:1] == [["xusdt@aggTrade", "yusdt@aggTrade"]], "the old connection hears of Y")
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    assert sorted(told[1]) == ["xusdt@aggTrade", "yusdt@aggTrade"]
    assert False not in heard.ups
