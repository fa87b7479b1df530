"""The user data stream as nudges: named after each event, opened again after each end, extended, and never silent."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from engine.binance.client import Client, Skew
from engine.binance.stream import UserStream, back_off
from engine.budget import WeightBudget
from engine.clock import MarketClock
from engine.errors import VenueHalted
from engine.ports import KeyPair
from shared.execution import AccountEvent

ORDER = {"e": "ORDER_TRADE_UPDATE", "E": 1767744000123, "T": 1, "o": {"s": "BTCUSDT", "c": "nt-e-1", "S": "BUY", "x": "TRADE"}}
ALGO = {"e": "ALGO_UPDATE", "E": 1767744000124, "o": {"caid": "nt-s-1", "aid": 7, "s": "BTCUSDT", "X": "TRIGGERED"}}
ACCOUNT = {"e": "ACCOUNT_UPDATE", "E": 3, "a": {"m": "ORDER", "B": [{"a": "USDT"}], "P": [{"s": "BTCUSDT"}, {"s": "ETHUSDT"}]}}
WALLET = {"e": "ACCOUNT_UPDATE", "E": 4, "a": {"m": "DEPOSIT", "B": [{"a": "USDT", "wb": "1"}]}}
CALL = {"e": "MARGIN_CALL", "E": 5, "cw": "1", "p": [{"s": "SOLUSDT", "ps": "BOTH"}]}
CONFIG = {"e": "ACCOUNT_CONFIG_UPDATE", "E": 6, "ac": {"s": "BTCUSDT", "l": 25}}
EXPIRED = {"e": "listenKeyExpired", "E": 7, "listenKey": "key-1"}

type Play = Callable[[web.WebSocketResponse], Awaitable[None]]


class Theatre:
    """Gives out listen keys and plays one act a connection; after the last it stays silent."""

    def __init__(self) -> None:
        self.acts: list[Play] = []
        self.opened: list[str] = []
        self.extended = 0
        self.deleted = 0
        self.refused = 0
        self.known = True
        self.revoked = False
        self.session: aiohttp.ClientSession | None = None

    async def key(self, request: web.Request) -> web.Response:
        assert request.headers["X-MBX-APIKEY"] == "k"
        if self.revoked:
            return web.json_response({"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}, status=401)
        if self.refused:
            self.refused -= 1
            return web.json_response({"code": -1000, "msg": "An unknown error occurred."}, status=503)
        return web.json_response({"listenKey": f"key-{len(self.opened) + 1}"})

    async def extend(self, _: web.Request) -> web.Response:
        self.extended += 1
        if self.known:
            return web.json_response({"listenKey": "key"})
        return web.json_response({"code": -1125, "msg": "This listenKey does not exist."}, status=400)

    async def delete(self, _: web.Request) -> web.Response:
        self.deleted += 1
        return web.json_response({})

    async def play(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened.append(request.query["listenKey"])
        if len(self.opened) <= len(self.acts):
            await self.acts[len(self.opened) - 1](socket)
        else:
            async for _ in socket:
                pass
        return socket


@asynccontextmanager
async def listening(theatre: Theatre, **options: float) -> AsyncIterator[AsyncIterator[AccountEvent]]:
    app = web.Application()
    app.router.add_post("/fapi/v1/listenKey", theatre.key)
    app.router.add_put("/fapi/v1/listenKey", theatre.extend)
    app.router.add_delete("/fapi/v1/listenKey", theatre.delete)
    app.router.add_get("/private/ws", theatre.play)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        clock = MarketClock()
        async with aiohttp.ClientSession() as session:
            theatre.session = session
            pair, budget = KeyPair(api_key="k", api_secret="s"), WeightBudget(2400, clock.now_ms)
            client = Client("u1", pair, (url, url), session, budget, clock, Skew())
            stream = UserStream(client, session, url.replace("http", "ws"), clock, delay=lambda attempt: 0.0, **options)
            async with aclosing(stream.events()) as events:
                yield events
            client.release()
    finally:
        await runner.cleanup()


def says(*events: object) -> Play:
    """An act that says these and then drops the line."""

    async def act(socket: web.WebSocketResponse) -> None:
        for event in events:
            await socket.send_str(event if isinstance(event, str) else json.dumps(event))
        await socket.close()

    return act


async def heard(events: AsyncIterator[AccountEvent], count: int) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    async for event in events:
        found.append((event.kind, event.symbol, event.client_order_id))
        if len(found) == count:
            break
    return found


async def test_each_event_is_named_with_its_symbol_and_our_id() -> None:
    theatre = Theatre()
    theatre.acts = [says(ORDER, ALGO, ACCOUNT, WALLET, CALL, CONFIG, "no json", {"result": None, "id": 1}, {"data": ORDER})]
    async with listening(theatre) as events:
        assert await heard(events, 9) == [
            ("CONNECTED", "", ""),
            ("ORDER_TRADE_UPDATE", "BTCUSDT", "nt-e-1"),
            ("ALGO_UPDATE", "BTCUSDT", "nt-s-1"),
            ("ACCOUNT_UPDATE", "BTCUSDT", ""),
            ("ACCOUNT_UPDATE", "ETHUSDT", ""),
            ("ACCOUNT_UPDATE", "", ""),
            ("MARGIN_CALL", "SOLUSDT", ""),
            ("ACCOUNT_CONFIG_UPDATE", "BTCUSDT", ""),
            ("ORDER_TRADE_UPDATE", "BTCUSDT", "nt-e-1"),
        ]


async def test_a_dropped_line_is_opened_again_and_says_so() -> None:
    theatre = Theatre()
    theatre.acts = [says(ORDER), says(), says(ALGO)]
    async with listening(theatre) as events:
        kinds = [kind for kind, _, _ in await heard(events, 5)]
    assert kinds == ["CONNECTED", "ORDER_TRADE_UPDATE", "CONNECTED", "CONNECTED", "ALGO_UPDATE"]


async def test_an_expired_key_is_replaced_though_the_line_stays_open() -> None:
    async def expire(socket: web.WebSocketResponse) -> None:
        await socket.send_str(json.dumps(EXPIRED))
        async for _ in socket:
            pass

    theatre = Theatre()
    theatre.acts = [expire]
    async with listening(theatre) as events:
        assert [kind for kind, _, _ in await heard(events, 3)] == ["CONNECTED", "listenKeyExpired", "CONNECTED"]
    assert theatre.opened == ["key-1", "key-2"]


async def test_silence_is_told_as_pings() -> None:
    async with listening(Theatre(), ping_seconds=0.01) as events:
        assert [kind for kind, _, _ in await heard(events, 4)] == ["CONNECTED", "PING", "PING", "PING"]


async def test_the_key_is_extended_while_we_listen_and_never_deleted() -> None:
    theatre = Theatre()
    async with listening(theatre, ping_seconds=0.01, keep_seconds=0.015) as events:
        await heard(events, 8)
    assert theatre.extended >= 2
    assert (len(theatre.opened), theatre.deleted) == (1, 0)


async def test_a_key_that_the_exchange_has_forgotten_is_asked_for_anew() -> None:
    theatre = Theatre()
    theatre.known = False
    async with listening(theatre, ping_seconds=0.01, keep_seconds=0.015) as events:
        async for _ in events:
            if len(theatre.opened) == 2:
                break
    assert theatre.opened == ["key-1", "key-2"]


async def test_an_exchange_that_gives_no_key_is_asked_again() -> None:
    theatre = Theatre()
    theatre.refused = 3
    async with listening(theatre) as events:
        assert [kind for kind, _, _ in await heard(events, 1)] == ["CONNECTED"]


async def test_a_key_that_the_exchange_refuses_ends_the_stream_and_says_so() -> None:
    theatre = Theatre()
    theatre.acts = [says(ORDER | {"E": 10**18}, ORDER)]
    async with listening(theatre) as events:
        assert await heard(events, 2) == [("CONNECTED", "", ""), ("ORDER_TRADE_UPDATE", "BTCUSDT", "nt-e-1")]
        theatre.revoked = True
        with pytest.raises(VenueHalted):
            await anext(events)


async def test_a_closed_session_ends_the_stream() -> None:
    theatre = Theatre()
    async with listening(theatre, ping_seconds=0.01) as events:
        kinds: list[str] = []
        async for event in events:
            kinds.append(event.kind)
            if event.kind == "PING":
                assert theatre.session is not None
                await theatre.session.close()
    assert kinds[-1] == "PING"


@pytest.mark.parametrize(("attempt", "least", "most"), [(0, 0.25, 0.5), (3, 2.0, 4.0), (6, 15.0, 30.0), (500, 15.0, 30.0)])
def test_the_wait_between_attempts_grows_to_half_a_minute(attempt: int, least: float, most: float) -> None:
    assert all(least <= back_off(attempt) <= most for _ in range(20))
