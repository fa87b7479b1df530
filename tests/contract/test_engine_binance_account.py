"""The adapter of the Exchange port against the sandbox: what is done there is read back as it was, to the last decimal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange as Sandbox
from deploy.sandbox.options import SandboxOptions
from engine.binance import Addresses, BinanceExchanges
from engine.binance.calls import Call
from engine.binance.client import Client
from engine.budget import WeightBudget
from engine.candles import BinanceData, Door, open_session
from engine.clock import market_clock
from engine.core.order import OrderRefusal
from engine.errors import VenueHalted
from engine.ports import AccountModes, Condition, Exchange, KeyPair, MarketOrder, Urgency
from shared.enums import OrderKind, OrderState, PositionMode, Side
from shared.execution import Fill, OrderSide, RealAccount, SealedCredentials, VenueOrder
from shared.problem import Problem
from tests.contract.sandbox_clients import ccxt_options
from tests.contract.test_sandbox_signed_ccxt import truth
from tests.polling import eventually

BTC = "BTCUSDT"
PLENTY = 1_000_000
FEW = 4
LONG_AGO = timedelta(minutes=5)


class Pairs:
    """A seal under whose credentials stand the pairs themselves; only a test may do so."""

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        return KeyPair(api_key=credentials.key_id, api_secret=credentials.sealed)


class Desk:
    """An account with a wallet of 1000 USDT, and how the engine sees it."""

    def __init__(
        self, base: str, opened: dict[str, str], exchanges: BinanceExchanges, market: BinanceData, began: datetime
    ) -> None:
        self.base = base
        self.opened = opened
        self.market = market
        self.began = began
        credentials = SealedCredentials(key_id=opened["api_key"], sealed=opened["api_secret"])
        self.account = RealAccount(user_id="u1", dry_run=False, credentials=credentials)
        self.exchange: Exchange = exchanges.of(self.account, Urgency.PROTECT)
        self.watching: Exchange = exchanges.of(self.account, Urgency.WATCH)

    async def price(self, ratio: str) -> Decimal:
        """The mark, moved by a ratio, on the tick."""
        return ((await self.market.mark(BTC)).price * Decimal(ratio)).quantize(Decimal("0.1"))

    async def market_order(self, name: str, side: OrderSide, quantity: str, *, reduce_only: bool = False) -> VenueOrder:
        placed = await self.exchange.send(
            MarketOrder(client_order_id=name, symbol=BTC, order_side=side, quantity=Decimal(quantity), reduce_only=reduce_only)
        )
        assert isinstance(placed, VenueOrder)
        return placed

    async def condition(self, name: str, kind: OrderKind, trigger: Decimal | None, quantity: str = "0.010") -> VenueOrder:
        placed = await self.exchange.rest(
            Condition(
                client_order_id=name,
                symbol=BTC,
                kind=kind,
                order_side=OrderSide.SELL,
                quantity=Decimal(quantity),
                trigger_price=trigger,
                callback_ratio=Decimal("0.01") if kind is OrderKind.TRAILING else None,
            )
        )
        assert isinstance(placed, VenueOrder)
        return placed


type Open = Callable[..., Awaitable[Desk]]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(SandboxOptions(port=0, speed=60, weight_limit=PLENTY))


@pytest.fixture
async def desks(sandbox: Sandbox) -> AsyncIterator[Open]:
    """Opens accounts at a sandbox whose minute takes a second."""
    async with running_exchange(sandbox) as base, open_session() as session:
        clock = await market_clock(base)
        budget = WeightBudget(PLENTY, clock.now_ms)
        market = BinanceData(Door(session, base, budget), clock)
        addresses = Addresses(rest=base, streams=base.replace("http", "ws"), spot=base)
        exchanges = BinanceExchanges(Pairs(), addresses, budget, market, clock)
        few = BinanceExchanges(Pairs(), addresses, budget, market, clock, page=FEW)

        async def opening(*, few_a_page: bool = False, **options: Any) -> Desk:
            async with session.post(f"{base}/sandbox/accounts", json={"wallet": "1000", **options}) as reply:
                by = few if few_a_page else exchanges
                return Desk(base, await reply.json(), by, market, clock.now() - LONG_AGO)

        yield opening
        await exchanges.close()
        await few.close()


@pytest.fixture
async def desk(desks: Open) -> Desk:
    return await desks()


async def test_a_position_is_opened_read_back_and_closed(desk: Desk) -> None:
    exchange = desk.exchange
    assert (await exchange.wallet()).free == 1000
    assert await exchange.modes() == AccountModes(position=PositionMode.ONE_WAY, multi_assets=False)
    assert await exchange.positions() == []
    assert (await exchange.brackets(BTC))[0].max_leverage == 150
    assert await exchange.set_isolated(BTC) is None
    assert await exchange.set_isolated(BTC) is None
    assert await exchange.set_leverage(BTC, 10) is None
    entry = await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    assert (entry.state, entry.filled_quantity, entry.reduce_only) == (OrderState.FILLED, Decimal("0.010"), False)
    fills = await exchange.trades(BTC, entry)
    assert sum(fill.quantity for fill in fills) == Decimal("0.010")
    notional = sum(fill.quantity * fill.price for fill in fills)
    assert sum(fill.fee for fill in fills) == pytest.approx(notional * Decimal("0.0005"), abs=Decimal("0.00000001"))
    [held] = await exchange.positions()
    assert (held.symbol, held.side, held.quantity, held.leverage) == (BTC, Side.LONG, Decimal("0.010"), Decimal(10))
    assert held.entry_price == pytest.approx(notional / Decimal("0.010"))
    assert held.margin == pytest.approx(notional / 10)
    assert held.liquidation_price is not None
    assert 0 < held.liquidation_price < held.entry_price
    closed = await desk.market_order("nt-c-1", OrderSide.SELL, "0.020", reduce_only=True)
    assert (closed.state, closed.filled_quantity) == (OrderState.FILLED, Decimal("0.010"))
    assert await exchange.positions() == []


async def test_records_of_more_pages_than_one_are_read_to_the_end_and_sum_to_the_wallet(desks: Open) -> None:
    desk = await desks(few_a_page=True)
    orders = [await desk.market_order(f"nt-{n}", side, "0.010") for n in range(5) for side in (OrderSide.BUY, OrderSide.SELL)]
    trades = await desk.exchange.account_trades(BTC, desk.began)
    assert [trade.venue_order_id for trade in trades] == [order.venue_order_id for order in orders]
    income = await desk.exchange.income(desk.began)
    assert len(income) > len(trades) > 2 * FEW
    wallet = (await desk.exchange.wallet()).total
    assert sum(row.amount for row in income) == wallet
    assert len(await desk.exchange.ended(BTC, desk.began)) == len(orders)


async def test_the_records_sum_to_the_wallet_to_the_last_decimal(desk: Desk) -> None:
    entry = await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    close = await desk.market_order("nt-c-1", OrderSide.SELL, "0.010", reduce_only=True)
    trades = await desk.exchange.account_trades(BTC, desk.began)
    assert [(trade.client_order_id, trade.venue_order_id) for trade in trades] == [
        ("nt-e-1", entry.venue_order_id),
        ("nt-c-1", close.venue_order_id),
    ]
    income = await desk.exchange.income(desk.began)
    assert len({row.income_id for row in income}) == len(income)
    wallet = (await desk.exchange.wallet()).total
    assert sum(row.amount for row in income) == wallet
    deposit = sum(row.amount for row in income if row.kind == "TRANSFER")
    assert deposit + sum(trade.realized_pnl - trade.fee for trade in trades) == wallet
    booked: list[Fill] = [fill for order in (entry, close) for fill in await desk.exchange.trades(BTC, order)]
    assert {fill.trade_id for fill in booked} == {trade.trade_id for trade in trades}
    assert str(wallet) == (await truth(desk.base, desk.opened))["wallet"]


async def test_a_trailing_stop_without_a_price_is_active_at_once_where_one_with_a_price_behind_the_market_is_refused(
    desk: Desk,
) -> None:
    await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    behind = Condition(
        client_order_id="nt-r-1",
        symbol=BTC,
        kind=OrderKind.TRAILING,
        order_side=OrderSide.SELL,
        quantity=Decimal("0.010"),
        trigger_price=await desk.price("0.99"),
        callback_ratio=Decimal("0.01"),
    )
    assert isinstance(await desk.exchange.rest(behind), Problem)
    placed = await desk.condition("nt-r-2", OrderKind.TRAILING, None)
    assert (placed.state, placed.trigger_price) == (OrderState.WORKING, None)
    assert await desk.exchange.find(BTC, "nt-r-2", conditional=True) == placed
    assert await desk.exchange.working(BTC) == [placed]


async def test_stop_target_and_trailing_stop_rest_are_read_back_and_canceled(desk: Desk) -> None:
    await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    placed = [
        await desk.condition("nt-s-1", OrderKind.STOP, await desk.price("0.97")),
        await desk.condition("nt-t-1", OrderKind.TARGET, await desk.price("1.03")),
        await desk.condition("nt-r-1", OrderKind.TRAILING, await desk.price("1.02")),
    ]
    for one in placed:
        read = await desk.exchange.find(BTC, one.client_order_id, conditional=True)
        assert read == one
        assert (one.state, one.conditional, one.reduce_only) == (OrderState.WORKING, True, True)
    assert [order.kind for order in placed] == [OrderKind.STOP, OrderKind.TARGET, OrderKind.TRAILING]
    assert await desk.exchange.working() == placed
    assert await desk.exchange.working(BTC) == placed
    assert await desk.exchange.working("ETHUSDT") == []
    await desk.exchange.cancel(placed[0])
    await desk.exchange.cancel(placed[0])
    assert await desk.exchange.working(BTC) == placed[1:]
    await desk.exchange.cancel_all(BTC)
    assert await desk.exchange.working() == []
    ended = {order.client_order_id: order.state for order in await desk.exchange.ended(BTC, desk.began)}
    assert ended == {
        "nt-e-1": OrderState.FILLED,
        "nt-s-1": OrderState.ENDED,
        "nt-t-1": OrderState.ENDED,
        "nt-r-1": OrderState.ENDED,
    }


async def test_an_exit_by_the_exchange_is_read_as_the_order_and_the_trades_of_its_condition(desk: Desk) -> None:
    await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    await desk.condition("nt-s-1", OrderKind.STOP, await desk.price("0.9998"))
    await desk.condition("nt-t-1", OrderKind.TARGET, await desk.price("1.0002"))

    async def exit_of() -> VenueOrder | None:
        found = [await desk.exchange.find(BTC, name, conditional=True) for name in ("nt-s-1", "nt-t-1")]
        return next((order for order in found if order and order.state is OrderState.FILLED), None)

    done = await eventually(exit_of, seconds=30, what="stop or target to be hit")
    assert done is not None
    assert done.child_order_id
    assert done.filled_quantity == Decimal("0.010")
    fills = await desk.exchange.trades(BTC, done)
    assert sum(fill.quantity for fill in fills) == Decimal("0.010")
    assert all(fill.realized_pnl for fill in fills)
    assert await desk.exchange.positions() == []
    assert done in await desk.exchange.ended(BTC, desk.began)
    trades = await desk.exchange.account_trades(BTC, desk.began)
    assert [trade.client_order_id for trade in trades][-len(fills) :] == [done.client_order_id] * len(fills)


async def test_what_the_exchange_does_not_know_is_none(desk: Desk) -> None:
    assert await desk.exchange.find(BTC, "nt-e-none", conditional=False) is None
    assert await desk.exchange.find(BTC, "nt-s-none", conditional=True) is None


async def test_a_certain_no_is_a_value_with_the_exchanges_number(desk: Desk) -> None:
    exchange = desk.exchange
    order = MarketOrder(client_order_id="nt-e-1", symbol=BTC, order_side=OrderSide.BUY, quantity=Decimal(10), reduce_only=False)
    refusals = [
        await exchange.send(order),
        await exchange.send(
            MarketOrder(
                client_order_id="nt-c-1", symbol=BTC, order_side=OrderSide.SELL, quantity=Decimal("0.01"), reduce_only=True
            )
        ),
        await exchange.rest(
            Condition(
                client_order_id="nt-s-1",
                symbol=BTC,
                kind=OrderKind.STOP,
                order_side=OrderSide.SELL,
                quantity=Decimal("0.010"),
                trigger_price=await desk.price("1.01"),
            )
        ),
        await exchange.set_leverage(BTC, 151),
    ]
    assert [getattr(refusal, "code", None) for refusal in refusals] == [
        "not_enough_margin",
        "reduce_only_rejected",
        "would_trigger",
        "leverage",
    ]
    assert "-2019" in getattr(refusals[0], "detail", "")


async def test_the_stream_names_what_was_done(desk: Desk) -> None:
    heard: list[tuple[str, str]] = []
    connected = asyncio.Event()

    async def listen() -> None:
        async with aclosing(desk.exchange.events()) as events:  # type: ignore[type-var]
            async for event in events:
                heard.append((event.kind, event.client_order_id))
                connected.set()

    task = asyncio.create_task(listen())
    await asyncio.wait_for(connected.wait(), 10)
    await desk.market_order("nt-e-1", OrderSide.BUY, "0.010")
    await desk.condition("nt-s-1", OrderKind.STOP, await desk.price("0.97"))

    async def all_heard() -> bool:
        return {("CONNECTED", ""), ("ORDER_TRADE_UPDATE", "nt-e-1"), ("ACCOUNT_UPDATE", ""), ("ALGO_UPDATE", "nt-s-1")} <= set(
            heard
        )

    await eventually(all_heard, seconds=10, what="order, account and condition in the stream")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_key_tells_what_it_may(desk: Desk) -> None:
    permissions = await desk.exchange.permissions()
    assert permissions.can_trade is True
    assert permissions.can_withdraw is False


async def test_an_account_in_hedge_mode_says_so(desk: Desk, desks: Open) -> None:
    other = await desks()
    options = ccxt_options(other.base, other.opened["api_key"], other.opened["api_secret"])
    async with ccxt.binanceusdm(options) as by_hand:
        await by_hand.fapiPrivatePostPositionSideDual({"dualSidePosition": "true"})
    assert (await other.exchange.modes()).position is PositionMode.HEDGE
    assert (await desk.exchange.modes()).position is PositionMode.ONE_WAY


async def test_a_revoked_key_halts(desk: Desk) -> None:
    async with aiohttp.ClientSession() as session, session.delete(f"{desk.base}/sandbox/accounts/{desk.opened['api_key']}"):
        pass
    with pytest.raises(VenueHalted, match="-2015"):
        await desk.exchange.wallet()


async def test_while_a_key_is_refused_one_request_asks_for_all_that_watch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glance at an account whose key is dead costs its one cheapest look at whether it still is; what protects asks for itself."""
    asked: list[str] = []
    at_once: list[int] = [0]
    made = Client._made

    async def counted(self: Client, ccxt: Any, call: Call, *rest: Any) -> Exception | None:
        asked.append(call.method)
        at_once.append(at_once[-1] + 1)
        try:
            return await made(self, ccxt, call, *rest)
        finally:
            at_once.append(at_once[-1] - 1)

    async def ends(*asking: Awaitable[object]) -> list[type]:
        return [type(end) for end in await asyncio.gather(*asking, return_exceptions=True)]

    monkeypatch.setattr(Client, "_made", counted)
    assert await ends(desk.watching.positions(), desk.watching.working(BTC)) == [list, list]
    async with aiohttp.ClientSession() as session, session.delete(f"{desk.base}/sandbox/accounts/{desk.opened['api_key']}"):
        pass
    assert await ends(desk.watching.positions(), desk.watching.working(BTC)) == [VenueHalted] * 2
    asked.clear()
    assert await ends(desk.watching.positions(), desk.watching.working(BTC), desk.watching.wallet()) == [VenueHalted] * 3
    assert len(asked) == 1
    assert await ends(desk.exchange.positions(), desk.exchange.working(BTC)) == [VenueHalted] * 2
    assert len(asked) == 3
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{desk.base}/sandbox/accounts/{desk.opened['api_key']}/restore") as given_back,
    ):
        assert given_back.status < 300
    at_once[:] = [0]
    assert await ends(*(desk.watching.positions() for _ in range(3))) == [list] * 3
    assert (at_once[:3], max(at_once)) == ([0, 1, 0], 2)  # one finds it good again, what waited for that goes on together


async def test_an_account_in_multi_assets_mode_says_so_and_takes_no_isolated_margin(desk: Desk, desks: Open) -> None:
    other = await desks()
    options = ccxt_options(other.base, other.opened["api_key"], other.opened["api_secret"])
    async with ccxt.binanceusdm(options) as by_hand:
        await by_hand.fapiPrivatePostMultiAssetsMargin({"multiAssetsMargin": "true"})
    assert (await other.exchange.modes()).multi_assets
    assert not (await desk.exchange.modes()).multi_assets
    refusal = await other.exchange.set_isolated(BTC)
    assert refusal is not None
    assert refusal.code == OrderRefusal.MULTI_ASSETS
