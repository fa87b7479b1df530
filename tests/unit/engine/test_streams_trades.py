"""The stream of large trades: what a frame becomes, what is subscribed to, and how the connection comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from engine import streams
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
    heard = Heard()
    streams.deliver_trade(frame({**TRADE, "m": maker, "st": 1}), heard)
    assert heard.trades == [("XUSDT", Trade(price=1.5, quantity=40_000.0, sell=sell, at_ms=5))]


def test_rows_of_coin_margined_contracts_and_answers_are_passed_over() -> None:
    heard = Heard()
    streams.deliver_trade(frame({**TRADE, "s": "BTCUSD_PERP", "st": 2}), heard)
    streams.deliver_trade('{"result": null, "id": 1}', heard)
    assert heard.trades == []


class Server:
    """Sends frames to each connection, then waits; what it was asked and told is kept."""

    def __init__(self, *frames: str) -> None:
        self.frames = frames
        self.asked: list[str] = []
        self.told: list[dict[str, Any]] = []

    async def talk(self, socket: ServerConnection) -> None:
        self.asked.append(socket.request.path if socket.request else "")
        for one in self.frames:
            await socket.send(one)
        async for message in socket:
            self.told.append(json.loads(message))
            await socket.send(json.dumps({"result": None, "id": self.told[-1]["id"]}))


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
    assert server.asked[0] == "/market/stream?streams=xusdt@aggTrade"


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
    assert server.asked[0] == "/market/stream?streams=yusdt@aggTrade"
