"""Real orders end to end: the use cases, the real adapter with the real ccxt, the sandbox exchange with its faults."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest
from msgspec import structs

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange as Sandbox
from deploy.sandbox.options import SandboxOptions
from engine.binance import Addresses, BinanceExchanges
from engine.budget import WeightBudget
from engine.candles import BinanceData, Door, open_session
from engine.clock import market_clock
from engine.core.order import OrderRefusal
from engine.execution.asking import Patience
from engine.execution.canary import canary
from engine.execution.cancel import cancel
from engine.execution.close import close
from engine.execution.desk import Desk
from engine.execution.entry import enter
from engine.execution.events import listen
from engine.execution.exchange_flatten import Flattening
from engine.execution.exchange_venue import ExchangeVenue
from engine.execution.flatten import flatten
from engine.execution.lasting_once import LastingOnce
from engine.execution.once import Once
from engine.execution.protect import protect
from engine.execution.truth import guards, truth
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Exchange, MarketOrder, Urgency
from shared.enums import ExecutionStatus, OrderKind, OrderState, Side
from shared.execution import (
    AccountEvent,
    CanaryReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    OrderSide,
    ProtectRequest,
    RealAccount,
    SealedCredentials,
    Trailing,
    TruthReply,
    TruthRequest,
    VenueOrder,
)
from shared.problem import Problem
from shared.wire import decode_strict
from tests.contract.sandbox_clients import ccxt_options
from tests.contract.test_engine_binance_account import Pairs
from tests.polling import eventually
from tests.unit.engine.execution_desk import DictReports

BTC = "BTCUSDT"
PLENTY = 1_000_000
BRISK = Patience(outcome=1.5, shown=1.5, linger=0.5, protect=1.5, fills=2.0, apart=0.4, drain=6.0, clear=2.0, flatten=15.0)


class Trader:
    """An account with 1000 USDT at the sandbox, and an engine that trades it."""

    def __init__(
        self, base: str, opened: dict[str, str], exchanges: BinanceExchanges, desk: Desk, session: aiohttp.ClientSession
    ) -> None:
        self.base, self.key, self.desk, self._session = base, opened["api_key"], desk, session
        credentials = SealedCredentials(key_id=opened["api_key"], sealed=opened["api_secret"])
        self.account = RealAccount(user_id="u1", dry_run=False, credentials=credentials)
        self.exchange: Exchange = exchanges.of(self.account, Urgency.PROTECT)

    async def entry(self, name: str = "nt-e-ONE", **changes: Any) -> EntryRequest:
        """600 USDT at 20x, stop one percent and target two percent away."""
        mark = (await self.desk.market.mark(BTC)).price
        fields: dict[str, Any] = {
            "account": self.account,
            "client_order_id": name,
            "symbol": BTC,
            "side": Side.LONG,
            "amount_usdt": Decimal(600),
            "leverage": Decimal(20),
            "stop_loss": mark * Decimal("0.99"),
            "take_profit": mark * Decimal("1.02"),
            "signal_price": mark,
            "sent_at": self.desk.clock.wall(),
        }
        return EntryRequest(**(fields | changes))

    async def enter(self, **changes: Any) -> ExecutionReport:
        return await enter(self.desk, await self.entry(**changes))

    def closing(self, name: str = "nt-c-ONE", **changes: Any) -> CloseRequest:
        fields: dict[str, Any] = {
            "account": self.account,
            "client_order_id": name,
            "symbol": BTC,
            "side": Side.LONG,
            "sent_at": self.desk.clock.wall(),
        }
        return CloseRequest(**(fields | changes))

    async def sell_by_hand(self, quantity: Decimal) -> None:
        """An order that is not of ours, and leaves what guarded the position."""
        order = MarketOrder(client_order_id="by-hand", symbol=BTC, order_side=OrderSide.SELL, quantity=quantity, reduce_only=True)
        assert isinstance(await self.exchange.send(order), VenueOrder)

    async def hedge_by_hand(self) -> None:
        """Hedge mode, 0.02 long and 0.01 short, each with a stop and a resting order that closes it."""
        mark, secret = (await self.desk.market.mark(BTC)).price, self.account.credentials.sealed  # type: ignore[union-attr]
        async with ccxt.binanceusdm(ccxt_options(self.base, self.key, secret)) as hand:
            await hand.fapiPrivatePostPositionSideDual({"dualSidePosition": "true"})
            for held, opens, closes, quantity, away in (("LONG", "BUY", "SELL", "0.02", 1), ("SHORT", "SELL", "BUY", "0.01", -1)):
                of = {"symbol": BTC, "positionSide": held, "quantity": quantity}
                stop, limit = (f"{mark * (1 + way * away * Decimal('0.03')):.1f}" for way in (-1, 1))
                await hand.fapiPrivatePostOrder(of | {"side": opens, "type": "MARKET"})
                condition = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "triggerPrice": stop}
                await hand.fapiPrivatePostAlgoOrder(of | {"side": closes} | condition)
                await hand.fapiPrivatePostOrder(of | {"side": closes, "type": "LIMIT", "timeInForce": "GTC", "price": limit})

    async def goes_wrong(self, kind: str, **rule: Any) -> None:
        """A fault at the sandbox."""
        body = {"rules": [{"kind": kind, **rule}]}
        async with self._session.post(f"{self.base}/sandbox/faults", json=body) as reply:
            assert reply.status == 201, await reply.text()

    async def rules_become(self, **rules: str) -> None:
        """Other filters at the sandbox from now on."""
        async with self._session.post(f"{self.base}/sandbox/symbols/{BTC}/rules", json=rules) as reply:
            assert reply.status == 200, await reply.text()

    async def weight(self) -> int:
        """What the sandbox counted of this market minute; asking costs 1."""
        async with self._session.get(f"{self.base}/fapi/v1/time") as reply:
            return int(reply.headers["X-MBX-USED-WEIGHT-1M"])

    async def held(self) -> Decimal:
        return sum((position.quantity for position in await self.exchange.positions()), Decimal(0))

    async def sides(self) -> dict[str, Decimal]:
        """Of a hedge account."""
        return {position.position_side: position.quantity for position in await self.exchange.positions()}

    async def guards(self) -> list[VenueOrder]:
        return [order for order in await self.exchange.working(BTC) if order.conditional]

    async def arrived(self) -> list[str]:
        """The client ids of all orders that the exchange ever took."""
        trades = await self.exchange.account_trades(BTC, self.desk.clock.now() - timedelta(hours=1))
        return sorted({trade.client_order_id for trade in trades})


@pytest.fixture
async def trader() -> AsyncIterator[Trader]:
    """At a sandbox whose market stands nearly still."""
    sandbox = Sandbox(SandboxOptions(port=0, speed=1, weight_limit=PLENTY))
    async with running_exchange(sandbox) as base, open_session() as session:
        clock = await market_clock(base)
        budget = WeightBudget(PLENTY, clock.now_ms)
        market = BinanceData(Door(session, base, budget), clock)
        addresses = Addresses(rest=base, streams=base.replace("http", "ws"), spot=base)
        exchanges = BinanceExchanges(Pairs(), addresses, budget, market, clock, doubt_rules=market.doubt_rules)
        await exchanges.load()
        reports = DictReports()
        turns = Turns(reports)
        desk = Desk(
            market=market,
            clock=clock,
            once=Once(reports=reports),
            lasting=LastingOnce(reports=reports),
            patience=BRISK,
            venues=Venues(
                paper=lambda account: PaperVenue(market, clock, account.book),
                dry=lambda account: DryRunVenue(market, clock, account.dry_positions),
                real=lambda account: ExchangeVenue(account, exchanges, market, clock, BRISK, turns),
                exchanges=exchanges,
                dry_run=False,
            ),
            turns=turns,
        )
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "1000"}) as reply:
            opened = await reply.json()
        yield Trader(base, opened, exchanges, desk, session)
        await exchanges.close()


async def test_an_entry_is_amended_partly_closed_and_closed_and_nothing_is_left(trader: Trader) -> None:
    entered = await trader.enter()
    assert entered.status is ExecutionStatus.FILLED, entered.refusal
    assert entered.protection is not None
    assert entered.unprotected_seconds is not None
    assert entered.unprotected_seconds < 1
    assert await trader.held() == entered.filled_quantity
    assert {(order.kind, order.quantity) for order in await trader.guards()} == {
        (OrderKind.STOP, entered.filled_quantity),
        (OrderKind.TARGET, entered.filled_quantity),
    }

    assert entered.average_price is not None
    stop = entered.average_price * Decimal("0.995")
    amended = await protect(
        trader.desk,
        ProtectRequest(account=trader.account, client_order_id="nt-p-TWO", symbol=BTC, side=Side.LONG, stop_loss=stop),
    )
    assert amended.status is ExecutionStatus.FILLED, amended.refusal
    assert {order.client_order_id for order in await trader.guards()} == {"nt-s-TWO", "nt-t-ONE"}

    part = await close(trader.desk, trader.closing("nt-c-THREE", quantity=Decimal("0.003")))
    assert part.status is ExecutionStatus.FILLED, part.refusal
    assert part.protection is not None
    left = entered.filled_quantity - Decimal("0.003")
    assert {order.quantity for order in await trader.guards()} == {left}

    closed = await close(trader.desk, trader.closing("nt-c-FOUR"))
    assert (closed.status, closed.filled_quantity) == (ExecutionStatus.FILLED, left)
    assert await trader.held() == 0
    assert await trader.exchange.working() == []
    told = await truth(
        trader.desk,
        TruthRequest(account=trader.account, symbols=[BTC], since=trader.desk.clock.now() - timedelta(hours=1)),
    )
    assert isinstance(told, TruthReply)
    assert told.balance.total == 1000 + sum(row.amount for row in told.income if row.kind != "TRANSFER")


async def test_truths_and_glances_of_five_positions_weigh_what_the_decision_on_truth_says(trader: Trader) -> None:
    symbols = [BTC, "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"]
    for number, symbol in enumerate(symbols):
        mark = (await trader.desk.market.mark(symbol)).price
        levels = {"signal_price": mark, "stop_loss": mark * Decimal("0.99"), "take_profit": mark * Decimal("1.02")}
        entered = await enter(trader.desk, await trader.entry(f"nt-e-W{number}", symbol=symbol, **levels))
        assert entered.status is ExecutionStatus.FILLED, entered.refusal
    wide = TruthRequest(account=trader.account, symbols=symbols, since=trader.desk.clock.now() - timedelta(minutes=30))

    async def weigh() -> list[int]:
        weights = [await trader.weight()]
        for request in (wide, structs.replace(wide, everywhere=False)):
            told = await truth(trader.desk, request)
            assert isinstance(told, TruthReply)
            assert sum(order.conditional and order.state is OrderState.WORKING for order in told.orders) == 2 * len(symbols)
            weights.append(await trader.weight())
        assert isinstance(await guards(trader.desk, GuardsRequest(account=trader.account, symbols=symbols)), GuardsReply)
        weights.append(await trader.weight())
        return [after - before - 1 for before, after in pairwise(weights)]

    weighed = await weigh()
    if min(weighed) < 0:  # another market minute began
        weighed = await weigh()
    assert weighed == [205, 130, 15]


@pytest.mark.parametrize(
    "kind", ["timeout_executed", "silent_executed", "unknown_executed", "reset_after", "html_502_executed", "arrives_late"]
)
async def test_an_entry_whose_answer_is_lost_is_found_once_and_protected(trader: Trader, kind: str) -> None:
    await trader.goes_wrong(kind, match={"method": "POST", "path": "/fapi/v1/order"}, times=1)
    request = await trader.entry()

    report = await enter(trader.desk, request)
    if report.status is ExecutionStatus.UNKNOWN:  # it arrived after all look-ups
        report = await eventually(lambda: resumed(trader, request), seconds=10, what="the late order")

    assert report.status is ExecutionStatus.FILLED, report.refusal
    assert await trader.held() == report.filled_quantity
    assert len(await trader.guards()) == 2


async def resumed(trader: Trader, request: EntryRequest) -> ExecutionReport | None:
    report = await enter(trader.desk, EntryRequest(**_fields(request) | {"resume": True}))
    return None if report.status is ExecutionStatus.UNKNOWN else report


@pytest.mark.parametrize("kind", ["timeout_lost", "unknown_lost", "reset_before", "html_502"])
async def test_an_entry_that_is_lost_is_never_sent_again(trader: Trader, kind: str) -> None:
    await trader.goes_wrong(kind, match={"method": "POST", "path": "/fapi/v1/order"}, times=1)
    request = await trader.entry()

    report = await enter(trader.desk, request)
    again = await enter(trader.desk, request)

    assert (report.status, again.status) == (ExecutionStatus.UNKNOWN, ExecutionStatus.UNKNOWN)
    assert await trader.held() == 0


@pytest.mark.parametrize("kind", ["timeout_executed", "timeout_lost", "reset_before", "overloaded", "stale"])
async def test_a_stop_that_goes_wrong_ends_protected_or_flat(trader: Trader, kind: str) -> None:
    match = {} if kind == "stale" else {"method": "POST", "path": "/fapi/v1/algoOrder"}
    await trader.goes_wrong(kind, match=match, times=4 if kind == "stale" else 2)

    report = await trader.enter()

    assert report.status is ExecutionStatus.FILLED, report.refusal
    left = report.filled_quantity - sum(fill.quantity for fill in report.closing_fills)
    await eventually(lambda: shows(trader, left), seconds=3, what="readings that are not stale any more")


async def shows(trader: Trader, left: Decimal) -> bool | None:
    """A position of that size with a stop, or none without."""
    held, guards = await trader.held(), await trader.guards()
    return True if held == left and (OrderKind.STOP in {order.kind for order in guards}) is (held > 0) else None


async def test_no_stop_at_all_means_no_position(trader: Trader) -> None:
    await trader.goes_wrong("unavailable", match={"method": "POST", "path": "/fapi/v1/algoOrder"})

    report = await trader.enter()

    assert report.protection is None
    assert report.closing_order_id == "nt-x-ONE"
    assert sum(fill.quantity for fill in report.closing_fills) == report.filled_quantity
    assert await trader.held() == 0
    assert await trader.guards() == []
    assert await trader.arrived() == ["nt-e-ONE", "nt-x-ONE"]


async def test_a_panic_under_faults_ends_flat(trader: Trader) -> None:
    await trader.enter()
    await trader.goes_wrong("timeout_executed", match={"method": "POST", "path": "/fapi/v1/order"}, times=1)
    await trader.goes_wrong("overloaded", match={"method": "DELETE"}, times=2)

    done = await flatten(trader.desk, FlattenRequest(account=trader.account, client_order_prefix="nt-f-ONE"))

    assert isinstance(done, FlattenReply)
    assert (done.flat, done.open_positions, done.open_orders) == (True, 0, 0)
    assert await trader.held() == 0
    assert await trader.exchange.working() == []


@pytest.mark.parametrize("faults", [0, 1], ids=["calm", "faults"])
async def test_a_panic_empties_an_account_that_was_switched_to_hedge_mode(trader: Trader, faults: int) -> None:
    await trader.hedge_by_hand()
    assert await trader.sides() == {"LONG": Decimal("0.02"), "SHORT": Decimal("0.01")}
    assert len(await trader.exchange.working()) == 4
    if faults:
        await trader.goes_wrong("timeout_executed", match={"method": "POST", "path": "/fapi/v1/order"}, times=1)
        await trader.goes_wrong("overloaded", match={"method": "DELETE"}, times=2)

    done = await flatten(trader.desk, FlattenRequest(account=trader.account, client_order_prefix="nt-f-ONE"))

    assert isinstance(done, FlattenReply)
    assert (done.flat, done.open_positions, done.open_orders) == (True, 0, 0)
    assert [(report.side, report.status, report.requested_quantity) for report in done.reports] == [
        (Side.LONG, ExecutionStatus.FILLED, Decimal("0.02")),
        (Side.SHORT, ExecutionStatus.FILLED, Decimal("0.01")),
    ]
    assert await trader.sides() == {}
    assert await trader.exchange.working() == []
    assert [name for name in await trader.arrived() if name.startswith("nt-f-")] == ["nt-f-ONE-1", "nt-f-ONE-2"]


async def test_both_sides_of_a_symbol_that_stay_open_are_counted_and_told(trader: Trader) -> None:
    await trader.hedge_by_hand()
    await trader.goes_wrong("unavailable", match={"method": "POST", "path": "/fapi/v1/order"})
    short = structs.replace(BRISK, flatten=1.0)
    flattening = Flattening(trader.exchange, trader.desk.market, trader.desk.clock, short, "BINANCE")

    done = await flattening.run("nt-f-ONE")

    assert isinstance(done, FlattenReply)
    assert (done.flat, done.open_positions, done.open_orders) == (False, 2, 4)
    assert [(report.side, report.status) for report in done.reports] == [
        (Side.LONG, ExecutionStatus.UNKNOWN),
        (Side.SHORT, ExecutionStatus.UNKNOWN),
    ]


async def test_a_revoked_key_is_told_and_nothing_is_sent(trader: Trader) -> None:
    await trader.goes_wrong("revoked")

    report = await trader.enter()

    assert report.status is ExecutionStatus.REFUSED
    assert report.refusal is not None
    assert report.refusal.code == "venue_halted"


async def test_a_trailing_stop_rests_beside_the_plain_one_and_goes_with_the_position(trader: Trader) -> None:
    entered = await trader.enter()
    assert entered.average_price is not None
    trailing = Trailing(ratio=Decimal("0.01"), activation_price=entered.average_price * Decimal("1.015"))

    armed = await protect(
        trader.desk,
        ProtectRequest(account=trader.account, client_order_id="nt-p-TWO", symbol=BTC, side=Side.LONG, trailing=trailing),
    )

    assert armed.status is ExecutionStatus.FILLED, armed.refusal
    assert armed.protection is not None
    assert (armed.protection.stop_order_id, armed.protection.trailing_order_id) == ("nt-s-ONE", "nt-r-TWO")
    assert {order.kind for order in await trader.guards()} == {OrderKind.STOP, OrderKind.TARGET, OrderKind.TRAILING}
    await close(trader.desk, trader.closing())
    assert await trader.exchange.working() == []


async def test_the_canary_sings_and_leaves_nothing(trader: Trader) -> None:
    sung = await canary(trader.desk, trader.account)

    assert isinstance(sung, CanaryReply)
    assert sung.passed, sung.detail
    assert await trader.exchange.working() == []


async def test_an_orphan_is_cancelled_and_proven_gone(trader: Trader) -> None:
    entered = await trader.enter()
    assert entered.protection is not None
    ids = [entered.protection.stop_order_id, entered.protection.target_order_id]
    orphans = CancelRequest(account=trader.account, symbol=BTC, client_order_ids=ids)

    held = await cancel(trader.desk, orphans)
    await trader.sell_by_hand(await trader.held())
    done = await cancel(trader.desk, orphans)

    assert isinstance(held, CancelReply)
    assert isinstance(done, CancelReply)
    assert (held.gone, held.unknown) == ([ids[1]], [ids[0]])
    assert (done.gone, done.unknown) == (ids, [])
    ended = await trader.exchange.ended(BTC, trader.desk.clock.now() - timedelta(hours=1))
    assert {order.state for order in ended if order.client_order_id in ids} == {OrderState.ENDED}


async def test_orders_beside_a_position_that_is_not_ours_are_cancelled_with_their_last_stop(trader: Trader) -> None:
    entered = await trader.enter()
    assert entered.protection is not None
    ids = [entered.protection.stop_order_id, entered.protection.target_order_id]

    done = await cancel(trader.desk, CancelRequest(account=trader.account, symbol=BTC, client_order_ids=ids, orphaned=True))

    assert isinstance(done, CancelReply)
    assert (done.gone, done.unknown) == (ids, [])
    assert await trader.exchange.working() == []


async def test_the_stream_nudges_when_an_order_fills(trader: Trader) -> None:
    lines = await listen(trader.desk, trader.account)
    assert not isinstance(lines, Problem)
    heard: list[AccountEvent] = []

    async def hear() -> None:
        async for line in lines:
            heard.append(decode_strict(line, AccountEvent))
            if heard[-1].kind == "ORDER_TRADE_UPDATE":
                return

    listening = asyncio.create_task(hear())
    await trader.enter()
    await asyncio.wait_for(listening, 10)

    assert heard[0].kind == "CONNECTED"
    assert heard[-1].symbol == BTC


def _fields(request: EntryRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


async def test_rules_that_changed_cost_one_order_and_are_known_to_the_next(trader: Trader) -> None:
    await trader.desk.market.instruments()
    await trader.rules_become(step="0.1", min_quantity="0.1")
    refused = await trader.enter(client_order_id="nt-e-ONE", amount_usdt=Decimal(11_000))
    assert refused.refusal is not None
    assert refused.refusal.code == OrderRefusal.VENUE_RULE
    entered = await trader.enter(client_order_id="nt-e-TWO", amount_usdt=Decimal(11_000))
    assert entered.status is ExecutionStatus.FILLED, entered.refusal
    assert entered.filled_quantity == Decimal("0.1")
    assert {order.quantity for order in await trader.guards()} == {Decimal("0.1")}


async def test_a_stop_off_the_new_grid_closes_its_entry_and_the_next_one_is_on_it(trader: Trader) -> None:
    await trader.desk.market.instruments()
    await trader.rules_become(tick="100")
    abandoned = await trader.enter(client_order_id="nt-e-ONE")
    assert abandoned.closing_fills, abandoned.refusal
    assert await trader.held() == 0
    entered = await trader.enter(client_order_id="nt-e-TWO")
    assert not entered.closing_fills
    assert entered.protection is not None
    assert entered.protection.stop_loss is not None
    assert entered.protection.stop_loss % 100 == 0
