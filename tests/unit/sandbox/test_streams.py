"""The websocket protocol: subscribing, routes, refusals, limits and the life of a connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.stream_names import MARKET, PUBLIC, parsed
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from deploy.sandbox.streams import MOST_STREAMS, Pace

Socket = aiohttp.ClientWebSocketResponse


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(SandboxOptions(port=0, speed=450))


@pytest.fixture
async def base(exchange: Exchange) -> AsyncIterator[str]:
    async with running_exchange(exchange) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def told(socket: Socket) -> Any:
    return json.loads((await socket.receive(timeout=10)).data)


async def ask(socket: Socket, **order: Any) -> Any:
    """Send an order and give its answer, whatever events come before."""
    await socket.send_json(order)
    while True:
        frame = await told(socket)
        if isinstance(frame, dict) and ("id" in frame or "code" in frame):
            return frame


async def silent(socket: Socket, seconds: float = 0.5) -> bool:
    try:
        await socket.receive(timeout=seconds)
    except TimeoutError:
        return True
    return False


async def test_subscriptions_are_acknowledged_listed_and_ended(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/market/ws") as socket:
        uuid = "e9d6b4349871b40611412680b3445fac"
        assert await ask(socket, method="SUBSCRIBE", params=["btcusdt@kline_1m"], id=uuid) == {"result": None, "id": uuid}
        assert (await told(socket))["e"] == "kline"
        assert (await ask(socket, method="LIST_SUBSCRIPTIONS", id=2))["result"] == ["btcusdt@kline_1m"]
        assert await ask(socket, method="UNSUBSCRIBE", params=["btcusdt@kline_1m"], id=3) == {"result": None, "id": 3}
        assert (await ask(socket, method="LIST_SUBSCRIPTIONS", id=4))["result"] == []
        assert await silent(socket)


async def test_frames_are_wrapped_on_combined_streams_and_when_asked(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/market/stream?streams=btcusdt@ticker/ethusdt@markPrice@1s") as socket:
        assert {(await told(socket))["stream"] for _ in range(2)} == {"btcusdt@ticker", "ethusdt@markPrice@1s"}
    async with session.ws_connect(f"{base}/market/ws/btcusdt@ticker") as socket:
        assert (await told(socket))["e"] == "24hrTicker"
        assert (await ask(socket, method="GET_PROPERTY", params=["combined"], id=1))["result"] is False
        assert (await ask(socket, method="SET_PROPERTY", params=["combined", True], id=2))["result"] is None
        assert (await told(socket))["stream"] == "btcusdt@ticker"


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/public/ws", "btcusdt@kline_1m"),
        ("/market/ws", "btcusdt@bookTicker"),
        ("/ws", "!ticker@arr"),
        ("/market/ws", "nosuchusdt@ticker"),
        ("/market/ws", "btcusdt@nonsense"),
        ("/market/ws", "BTCUSDT@ticker"),
    ],
)
async def test_a_wrong_stream_is_acknowledged_and_silent(
    base: str, session: aiohttp.ClientSession, path: str, stream: str
) -> None:
    async with session.ws_connect(base + path) as socket:
        assert await ask(socket, method="SUBSCRIBE", params=[stream], id=1) == {"result": None, "id": 1}
        assert await silent(socket)


@pytest.mark.parametrize(
    "path", ["/ws/btcusdt@bookTicker", "/stream?streams=btcusdt@bookTicker", "/public/ws/btcusdt@bookTicker"]
)
async def test_public_streams_also_come_unrouted(base: str, session: aiohttp.ClientSession, path: str) -> None:
    async with session.ws_connect(base + path) as socket:
        frame = await told(socket)
        assert frame.get("data", frame)["e"] == "bookTicker"


async def test_malformed_orders_are_refused_in_words(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/market/ws") as socket:
        await socket.send_str("{not json")
        assert (await told(socket))["code"] == 3
        assert (await ask(socket, method="DANCE", id=1))["code"] == 2
        assert (await ask(socket, method="SUBSCRIBE", params=[1], id=2))["code"] == 2
        assert (await ask(socket, params=[], id=3))["code"] == 2
        many = [f"a{number}@ticker" for number in range(MOST_STREAMS + 1)]
        assert (await ask(socket, method="SUBSCRIBE", params=many, id=4))["code"] == 2


async def test_eleven_messages_in_a_second_end_the_connection(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/market/ws") as socket:
        for number in range(11):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        kinds = [(await socket.receive(timeout=5)).type for _ in range(11)]
        assert WSMsgType.CLOSE in kinds or WSMsgType.CLOSED in kinds
        assert socket.close_code == 1008


async def test_broadcasts_carry_coin_margined_rows_too(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/market/ws/!ticker@arr") as socket:
        rows = await told(socket)
    assert {row["s"] for row in rows if row["st"] == 2} == {"BTCUSD_PERP", "ETHUSD_PERP"}
    assert len([row for row in rows if row["st"] == 1]) > 100


async def test_the_server_pings_and_drops_who_never_answers(exchange: Exchange, session: aiohttp.ClientSession) -> None:
    pace = Pace(ping=0.1, pong=0.5, check=0.05)
    async with (
        running_exchange(exchange, pace) as base,
        session.ws_connect(f"{base}/market/ws", autoping=False) as socket,
    ):
        assert (await socket.receive(timeout=5)).type is WSMsgType.PING
        while (message := await socket.receive(timeout=5)).type is WSMsgType.PING:
            pass
        assert message.type is WSMsgType.CLOSE
        assert socket.close_code == 1008


async def test_who_answers_pings_stays_until_the_day_is_over(exchange: Exchange, session: aiohttp.ClientSession) -> None:
    pace = Pace(ping=0.1, pong=0.4, lifetime=1.2, check=0.05)
    loop = asyncio.get_running_loop()
    async with running_exchange(exchange, pace) as base, session.ws_connect(f"{base}/market/ws") as socket:
        begun = loop.time()
        assert (await socket.receive(timeout=5)).type is WSMsgType.CLOSE
        assert loop.time() - begun > 1.0


async def test_an_injected_liquidation_is_streamed_and_marked(base: str, session: aiohttp.ClientSession) -> None:
    order = {"symbol": "LTCUSDT", "side": "SELL", "quantity": "123456.789", "price": "60.12"}
    async with session.ws_connect(f"{base}/market/ws/ltcusdt@forceOrder") as socket:
        await ask(socket, method="LIST_SUBSCRIPTIONS", id=1)
        async with session.post(f"{base}/sandbox/liquidations", json=order) as response:
            assert response.status == 201
        while (event := await told(socket))["o"]["q"] != "123456.789":
            pass
    assert (event["o"]["S"], event["syn"], event["st"]) == ("SELL", True, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"symbol": "NOPE", "side": "SELL", "quantity": "1", "price": "1"},
        {"symbol": "BTCUSDT", "side": "UP", "quantity": "1", "price": "1"},
        {},
    ],
)
async def test_a_senseless_injection_is_refused(base: str, session: aiohttp.ClientSession, body: dict[str, str]) -> None:
    async with session.post(f"{base}/sandbox/liquidations", json=body) as response:
        assert response.status == 400


def test_names_say_what_route_and_how_often() -> None:
    rows = {
        "!markPrice@arr": ("markPrice", None, "", 3000, MARKET),
        "!markPrice@arr@1s": ("markPrice", None, "", 1000, MARKET),
        "btcusdt@depth20@100ms": ("depth", "BTCUSDT", "20", 100, PUBLIC),
        "btcusdt@depth": ("depth", "BTCUSDT", "", 250, PUBLIC),
        "币安人生usdt@kline_1M": ("kline", "币安人生USDT", "1M", 250, MARKET),
        "btcusdt_perpetual@continuousKline_4h": ("continuousKline", "BTCUSDT", "4h", 250, MARKET),
        "btcusdt_261225@aggTrade": ("aggTrade", "BTCUSDT_261225", "", 100, MARKET),
    }
    for name, expected in rows.items():
        stream = parsed(name)
        assert stream is not None
        assert (stream.kind, stream.symbol, stream.detail, stream.cadence_ms, stream.route) == expected
    assert [name for name in ("btcusdt@kline_7m", "btcusdt", "btcusdt@depth7", "@ticker@") if parsed(name)] == []
