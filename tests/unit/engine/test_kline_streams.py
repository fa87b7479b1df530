"""Closing frames over several connections: what is subscribed, how slowly, and how a connection is replaced before it is a day old."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from engine import kline_streams, sockets
from engine.core.market import ClosedCandle, Timeframe
from engine.kline_streams import Shards, closed_in, listen_klines
from engine.sockets import Patience
from tests.polling import eventually

KLINE = {
    "t": 1_700_000_100_000, "T": 1_700_000_999_999, "s": "XUSDT", "i": "15m", "f": 1, "L": 2, "o": "1.5", "c": "1.25", "h": "1.75", "l": "1",
    "v": "1000", "n": 2, "x": True, "q": "1400", "V": "500", "Q": "700", "B": "0",
}  # fmt: skip
MESSAGE_SECONDS = sockets.MESSAGE_SECONDS
HURRIED = Patience(silence=2.0, first_pause=0.01)


def frame(**changes: object) -> str:
    kline = {**KLINE, **changes}
    return json.dumps(
        {"stream": f"{str(kline['s']).lower()}@kline_{kline['i']}", "data": {"e": "kline", "E": 1, "s": kline["s"], "k": kline}},
        separators=(",", ":"),
    )


class Heard:
    def __init__(self, *symbols: str) -> None:
        self.symbols: Sequence[str] = symbols
        self.closed: list[ClosedCandle] = []
        self.ups: list[tuple[int, bool]] = []

    def wanted_symbols(self) -> Sequence[str]:
        return self.symbols

    def take_close(self, candle: ClosedCandle) -> None:
        self.closed.append(candle)

    def klines_connection(self, symbols: Iterable[str], up: bool) -> None:
        self.ups.append((len(list(symbols)), up))


class Server:
    """Tells a closing frame for each subscription, numbered by when it was told; keeps what it was sent."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.sent: list[dict[str, object]] = []
        self.open: list[ServerConnection] = []
        self.most_open = 0
        self.number = 0
        self.silent = False

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.open.append(connection)
        self.most_open = max(self.most_open, len(self.open))
        try:
            async for text in connection:
                order = json.loads(text)
                self.sent.append(order)
                if self.silent:
                    continue
                await connection.send(json.dumps({"result": None, "id": order["id"]}))
                if order["method"] == "SUBSCRIBE":
                    await self.tell(order["params"], connection)
        except ConnectionClosed:
            pass
        finally:
            self.open.remove(connection)

    async def tell(self, names: Iterable[str], connection: ServerConnection) -> None:
        for name in names:
            symbol, _, interval = name.partition("@kline_")
            self.number += 1
            await connection.send(frame(s=symbol.upper(), i=interval, v=str(self.number)))

    async def tell_all(self, name: str) -> None:
        """One frame to all that listen, as an exchange does: who is just leaving may miss it."""
        self.number += 1 if self.open else 0
        symbol, _, interval = name.partition("@kline_")
        for connection in list(self.open):
            with suppress(ConnectionClosed):
                await connection.send(frame(s=symbol.upper(), i=interval, v=str(self.number)))

    async def is_left(self) -> bool:
        return not self.open

    def subscribed(self) -> list[str]:
        return sorted(name for order in self.sent if order["method"] == "SUBSCRIBE" for name in order["params"])  # type: ignore[attr-defined]


@asynccontextmanager
async def listening(
    server: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch, patience: Patience = HURRIED, symbols_each: int = 300
) -> AsyncIterator[None]:
    monkeypatch.setattr(sockets, "MESSAGE_SECONDS", 0.01)
    monkeypatch.setattr(sockets, "CHANGE_SECONDS", 0.02)
    monkeypatch.setattr(kline_streams, "OPEN_SECONDS", 0.02)
    async with serve(server, "127.0.0.1", 0) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        task = asyncio.create_task(listen_klines(url, heard, patience, review_seconds=0.02, symbols_each=symbols_each))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await eventually(server.is_left, seconds=3, what="the end of every connection")


async def came(heard: Heard, count: int) -> None:
    async def enough() -> bool:
        return len(heard.closed) >= count

    await eventually(enough, seconds=5, what=f"{count} closing frames")


def test_a_closing_frame_is_a_candle_and_an_open_one_or_an_acknowledgement_is_nothing() -> None:
    assert closed_in(frame().encode()) == ClosedCandle(
        symbol="XUSDT",
        timeframe=Timeframe.M15,
        open_ms=1_700_000_100_000,
        open=1.5,
        high=1.75,
        low=1.0,
        close=1.25,
        volume=1000.0,
    )
    assert closed_in(frame(x=False).encode()) is None
    assert closed_in(b'{"result":null,"id":1}') is None
    for odd in ({"i": "5m"}, {"o": "?"}, {"t": None}):
        with pytest.raises(msgspec.MsgspecError):
            closed_in(frame(**odd).encode())


def test_symbols_are_spread_evenly_keep_their_connection_and_no_connection_carries_too_many() -> None:
    shards = Shards(Heard(), symbols_each=3)
    assert [len(shard.symbols) for shard in shards.assign([f"S{n}" for n in range(7)])] == [3, 2, 2]
    before = {symbol: shard.name for shard in shards.all for symbol in shard.symbols}
    assert shards.assign([f"S{n}" for n in range(1, 9)]) == []
    after = {symbol: shard.name for shard in shards.all for symbol in shard.symbols}
    assert max(len(shard.symbols) for shard in shards.all) == 3
    assert {symbol for symbol in before if symbol in after and before[symbol] != after[symbol]} == set()
    assert len(shards.assign([f"S{n}" for n in range(20)])) == 4
    whole = Shards(Heard())
    whole.assign([f"S{n}" for n in range(600)])
    assert [2 * len(shard.symbols) for shard in whole.all] == [600, 600]


async def test_both_timeframes_of_every_symbol_are_subscribed_on_as_many_connections_as_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, heard = Server(), Heard("AUSDT", "BUSDT", "币安人生USDT")
    async with listening(server, heard, monkeypatch, symbols_each=2):
        await came(heard, 6)
    assert server.paths == ["/market/stream"] * 2
    wanted = [f"{symbol.lower()}@kline_{interval}" for symbol in heard.symbols for interval in ("15m", "4h")]
    assert server.subscribed() == sorted(wanted)
    assert {(candle.symbol, candle.timeframe) for candle in heard.closed} == {
        (symbol, timeframe) for symbol in heard.symbols for timeframe in (Timeframe.M15, Timeframe.H4)
    }


async def test_who_is_listed_or_delisted_is_subscribed_or_unsubscribed_without_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    server, heard = Server(), Heard("AUSDT", "BUSDT")
    async with listening(server, heard, monkeypatch):
        await came(heard, 4)
        heard.symbols = ("BUSDT", "CUSDT")

        async def both() -> bool:
            for connection in server.open:
                await server.tell(["busdt@kline_15m"], connection)
            return len(server.sent) >= 3

        await eventually(both, seconds=5, what="a changed subscription")
    assert [(order["method"], order["params"]) for order in server.sent[1:]] == [
        ("SUBSCRIBE", ["cusdt@kline_15m", "cusdt@kline_4h"]),
        ("UNSUBSCRIBE", ["ausdt@kline_15m", "ausdt@kline_4h"]),
    ]
    assert (len(server.paths), heard.ups[0]) == (1, (2, True))


async def test_a_cut_connection_comes_back_with_its_subscriptions_and_says_that_it_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, heard = Server(), Heard("AUSDT")
    async with listening(server, heard, monkeypatch):
        await came(heard, 2)
        server.open[0].transport.abort()
        await came(heard, 4)
    assert server.subscribed() == ["ausdt@kline_15m"] * 2 + ["ausdt@kline_4h"] * 2
    assert heard.ups[:3] == [(1, True), (1, False), (1, True)]


async def test_a_connection_that_grows_old_is_replaced_before_it_is_closed_and_nobody_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, heard = Server(), Heard("AUSDT")
    async with listening(server, heard, monkeypatch, Patience(silence=2.0, lifetime=0.15, first_pause=0.01)):

        async def replaced_twice() -> bool:
            await server.tell_all("ausdt@kline_15m")
            return len(server.paths) >= 3

        await eventually(replaced_twice, seconds=8, what="two replacements")
        assert server.most_open == 2
        assert heard.ups == [(1, True)]
        told = set(range(1, server.number + 1))

        async def all_of_them() -> bool:
            return {int(candle.volume) for candle in heard.closed} >= told

        await eventually(all_of_them, seconds=5, what="every frame that was told")


async def test_who_is_cancelled_while_a_new_connection_has_not_spoken_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    server, heard = Server(), Heard("AUSDT")
    async with listening(server, heard, monkeypatch, Patience(silence=5.0, lifetime=0.05, first_pause=0.01)):
        await came(heard, 2)
        server.silent = True

        async def both_open() -> bool:
            for connection in server.open[:1]:
                await server.tell(["ausdt@kline_15m"], connection)
            return len(server.open) == 2 and len(server.sent) == 2

        await eventually(both_open, seconds=5, what="a replacement that is silent")
        await asyncio.sleep(0.05)
    assert server.open == []


async def test_a_hundred_symbols_a_message_and_a_pause_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    server, heard = Server(), Heard(*(f"S{n}USDT" for n in range(250)))
    pauses: list[float] = []

    async def counted(seconds: float) -> None:
        if seconds == 0.01:
            pauses.append(seconds)
        await slept(seconds)

    slept = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", counted)
    async with listening(server, heard, monkeypatch):
        await came(heard, 500)
    assert [len(order["params"]) for order in server.sent] == [200, 200, 100]  # type: ignore[arg-type]
    assert len(pauses) == 3
    assert 1 / MESSAGE_SECONDS <= 10 / 2
