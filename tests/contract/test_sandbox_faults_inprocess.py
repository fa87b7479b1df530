"""The sandbox in the same process: the unmodified CCXT client trades on it without sockets, on a loop whose time jumps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import msgspec
import pytest

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.faults import Kind, Match, Rule
from deploy.sandbox.core.faults_profiles import profile
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import open_market
from deploy.sandbox.inprocess import InProcess
from deploy.sandbox.options import SandboxOptions
from tests.contract.sandbox_clients import ccxt_options
from tests.virtual_time import run, wall_of

BASE_MS = 1_800_000_000_000
OPTIONS = SandboxOptions(speed=1, weight_limit=1_000_000, base_wall_ms=BASE_MS)
MARKET = open_market(OPTIONS)
BTC = "BTC/USDT:USDT"
BUY = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.010"}
ORDER = Match(method="POST", path="/fapi/v1/order")


def sandbox(latency: float = 0.001) -> InProcess:
    return InProcess(Exchange(OPTIONS, wall_of(asyncio.get_running_loop(), BASE_MS), MARKET), latency)


def client(place: InProcess, account: Account) -> Any:
    made = ccxt.binanceusdm(ccxt_options("http://sandbox", account.key, account.secret))
    made.session, made.own_session, made.ssl_context = place.session(), False, False
    made.milliseconds = place.exchange.wall_ms
    return made


def on_a_sandbox(proof: Callable[[InProcess, Account, Any], Awaitable[None]]) -> None:
    async def main() -> None:
        place = sandbox()
        account = place.open_account(Decimal(1000), "one")
        made = client(place, account)
        try:
            await proof(place, account, made)
        finally:
            await made.close()

    run(main())


def held(account: Account) -> Decimal:
    return account.position("BTCUSDT", "BOTH").quantity


def test_ccxt_trades_without_sockets() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        await made.load_markets()
        order = await made.create_order(BTC, "market", "buy", 0.01, None, {"newClientOrderId": "entry-1"})
        assert (order["status"], order["filled"], held(account)) == ("closed", 0.01, Decimal("0.010"))
        with pytest.raises(ccxt.OrderNotFound):
            await made.fetch_order("1", BTC)
        assert place.exchange.trading.imbalance(place.exchange.now()) == 0

    on_a_sandbox(proof)


def test_several_accounts_trade_at_once_and_keep_apart() -> None:
    async def main() -> None:
        place = sandbox()
        accounts = [place.open_account(Decimal(1000), f"trader {number}") for number in range(5)]
        clients = [client(place, account) for account in accounts]
        await asyncio.gather(*(made.fapiPrivatePostOrder(BUY) for made in clients[:4]))
        assert [held(account) for account in accounts] == [Decimal("0.010")] * 4 + [0]
        for made in clients:
            await made.close()

    run(main())


def test_a_long_silence_costs_no_time_and_ends_with_the_clients_patience() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        place.exchange.faults.add([Rule(kind=Kind.SILENT_EXECUTED, match=ORDER, times=1)], place.exchange.wall_ms())
        began, real = place.exchange.wall_ms(), time.monotonic()
        with pytest.raises(ccxt.RequestTimeout):
            await made.fapiPrivatePostOrder(BUY)
        assert place.exchange.wall_ms() - began == 10_000
        assert time.monotonic() - real < 5
        assert held(account) == Decimal("0.010")

    on_a_sandbox(proof)


def test_an_order_that_has_left_arrives_though_its_sender_gave_up() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        sending = asyncio.create_task(made.fapiPrivatePostOrder(BUY))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await asyncio.sleep(1)
        assert (place.calls, held(account)) == (1, Decimal("0.010"))

    on_a_sandbox(proof)


def test_a_reset_read_is_sent_again_by_aiohttp_and_a_reset_order_is_not() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        await made.fapiPublicGetPing()
        place.exchange.faults.add([Rule(kind=Kind.RESET_AFTER, nth=1)], place.exchange.wall_ms())
        await made.fapiPublicGetTime()
        place.exchange.faults.add([Rule(kind=Kind.RESET_AFTER, match=ORDER, times=1)], place.exchange.wall_ms())
        with pytest.raises(ccxt.ExchangeNotAvailable) as raised:
            await made.fapiPrivatePostOrder(BUY)
        assert isinstance(raised.value.__cause__, aiohttp.ClientOSError)
        assert held(account) == Decimal("0.010")

    on_a_sandbox(proof)


def test_a_fill_is_heard_on_the_user_data_stream_and_its_silence_too() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        key = (await made.fapiPrivatePostListenKey())["listenKey"]
        async with place.session().ws_connect(f"ws://x/private/ws?listenKey={key}") as socket, place.passing():
            assert place.exchange.listeners(account.key) == 1
            await made.fapiPrivatePostOrder(BUY)
            kinds = [msgspec.json.decode((await socket.receive(timeout=5)).data)["e"] for _ in range(4)]
            assert kinds == ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"]
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=60)
            socket.drop()
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSED
        assert place.exchange.listeners(account.key) == 0

    on_a_sandbox(proof)


def stormy(seed: int) -> list[str]:
    """What became of fifty orders in a storm."""
    out: list[str] = []

    async def proof(place: InProcess, account: Account, made: Any) -> None:
        place.exchange.faults.add(profile("storm", seed) or [], place.exchange.wall_ms())
        for number in range(50):
            order = BUY | {"side": "BUY" if number % 2 else "SELL", "newClientOrderId": f"o-{number}"}
            try:
                out.append((await made.fapiPrivatePostOrder(order))["status"])
            except ccxt.BaseError as error:
                out.append(f"{type(error).__name__} {held(account)}")

    on_a_sandbox(proof)
    return out


def test_the_same_storm_befalls_the_same_orders() -> None:
    assert stormy(3) == stormy(3)
    assert stormy(3) != stormy(4)


def test_calls_are_cheap() -> None:
    async def proof(place: InProcess, account: Account, made: Any) -> None:
        began = time.perf_counter()
        for _ in range(400):
            await made.fapiPrivateV2GetPositionRisk({"symbol": "BTCUSDT"})
        assert 400 / (time.perf_counter() - began) > 800  # Alone on the machine it is over 4,000 a second.

    on_a_sandbox(proof)


def told(rule: Rule | None) -> list[tuple[float, str]]:
    """When and what a listener hears of one buy under a rule: seconds after it, event types."""
    out: list[tuple[float, str]] = []

    async def proof(place: InProcess, account: Account, made: Any) -> None:
        key = (await made.fapiPrivatePostListenKey())["listenKey"]
        async with place.session().ws_connect(f"ws://x/private/ws?listenKey={key}") as socket, place.passing():
            place.exchange.faults.add([rule] if rule else [], place.exchange.wall_ms())
            await made.fapiPrivatePostOrder(BUY)
            began = place.exchange.wall_ms()
            while True:
                try:
                    message = await socket.receive(timeout=60)
                except TimeoutError:
                    return
                if message.type is aiohttp.WSMsgType.CLOSED:
                    out.append((0, "CLOSED"))
                    return
                kind = str(msgspec.json.decode(message.data)["e"])
                out.append((round((place.exchange.wall_ms() - began) / 1000, 1), kind))

    on_a_sandbox(proof)
    return out


FILLED = [(0, "ORDER_TRADE_UPDATE"), (0, "TRADE_LITE"), (0, "ORDER_TRADE_UPDATE"), (0, "ACCOUNT_UPDATE")]
LITE = Match(stream="user", event="TRADE_LITE")


@pytest.mark.parametrize(
    ("rule", "heard"),
    [
        (None, FILLED),
        (Rule(kind=Kind.WS_DOUBLED, match=LITE), [FILLED[0], FILLED[1], FILLED[1], *FILLED[2:]]),
        (Rule(kind=Kind.WS_MISSING, match=LITE), [FILLED[0], *FILLED[2:]]),
        (Rule(kind=Kind.WS_REORDERED, match=LITE), [FILLED[0], FILLED[2], FILLED[1], FILLED[3]]),
        (Rule(kind=Kind.WS_LATE, match=LITE, seconds=2), [FILLED[0], *FILLED[2:], (2, "TRADE_LITE")]),
        (Rule(kind=Kind.WS_SILENT, match=LITE), [FILLED[0]]),
        (Rule(kind=Kind.WS_DROP, match=LITE), [(0, "CLOSED")]),
        (Rule(kind=Kind.WS_DROP, match=Match(account="other")), FILLED),
    ],
)
def test_events_go_wrong_on_their_way(rule: Rule | None, heard: list[tuple[float, str]]) -> None:
    assert told(rule) == heard
