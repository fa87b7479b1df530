"""What the adapter says of an order under each fault of the sandbox is true: "not carried out" and "carried out" are never guesses."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange as Sandbox
from deploy.sandbox.options import SandboxOptions
from engine.binance import Addresses, BinanceExchanges, vendor
from engine.budget import WeightBudget
from engine.clock import market_clock
from engine.errors import VenueAway, VenueError, VenueHalted, VenueUnsure
from engine.ports import Condition, Exchange, MarketOrder, Urgency
from shared.enums import OrderKind
from shared.execution import OrderSide, RealAccount, SealedCredentials, VenueOrder
from tests.contract.engine_binance_server import FewMarks
from tests.contract.test_engine_binance_account import Pairs

SENT_BY = {"order": "/fapi/v1/order", "condition": "/fapi/v1/algoOrder"}
KINDS = {
    "timeout_executed": VenueUnsure,
    "timeout_lost": VenueUnsure,
    "silent_executed": VenueUnsure,
    "silent_lost": VenueUnsure,
    "arrives_late": VenueUnsure,
    "unknown_executed": VenueUnsure,
    "unknown_lost": VenueUnsure,
    "reset_before": VenueUnsure,
    "reset_after": VenueUnsure,
    "html_502": VenueUnsure,
    "html_502_executed": VenueUnsure,
    "html_403": VenueAway,
    "overloaded": VenueAway,
    "unavailable": VenueAway,
    "throttled": VenueAway,
    "skew": VenueAway,
    "revoked": VenueHalted,
    "duplicate": None,
}
"""Each fault of a request, and what it must be called; None means that the order is told as it is."""

EXEMPT = {("overloaded", "condition")}
"""The exchange takes what only reduces even then."""


class Desk:
    def __init__(self, session: aiohttp.ClientSession, base: str, opened: dict[str, str], exchange: Exchange) -> None:
        self.session, self.base, self.key, self.exchange = session, base, opened["api_key"], exchange

    async def fault(self, kind: str, path: str, method: str = "POST") -> None:
        rule: dict[str, Any] = {"kind": kind, "match": {"method": method, "path": path}, "times": 1}
        if kind == "throttled":
            rule["seconds"] = 1.0  # shorter than a call waits for the budget, so that the next one is heard again
        async with self.session.post(f"{self.base}/sandbox/faults", json={"rules": [rule]}) as reply:
            assert reply.status == 201, await reply.text()

    async def there(self, what: str) -> bool:
        """Whether the exchange carried it out."""
        async with self.session.get(f"{self.base}/sandbox/accounts/{self.key}") as reply:
            told: dict[str, Any] = await reply.json()
        return bool(told["positions"]) if what == "order" else bool(await self.conditions())

    async def conditions(self) -> list[VenueOrder]:
        return [order for order in await self.exchange.working("BTCUSDT") if order.conditional]

    async def act(self, what: str) -> object:
        try:
            return await (self.exchange.send(order()) if what == "order" else self.exchange.rest(condition()))
        except VenueError as error:
            return error


def order() -> MarketOrder:
    return MarketOrder(
        client_order_id="nt-e-1", symbol="BTCUSDT", order_side=OrderSide.BUY, quantity=Decimal("0.010"), reduce_only=False
    )


def condition() -> Condition:
    return Condition(
        client_order_id="nt-s-1",
        symbol="BTCUSDT",
        kind=OrderKind.STOP,
        order_side=OrderSide.SELL,
        quantity=Decimal("0.010"),
        trigger_price=Decimal("20000.0"),
    )


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(SandboxOptions(port=0, speed=1, weight_limit=1_000_000))


@pytest.fixture
async def desk(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(vendor, "TIMEOUT_MS", 400)
    async with running_exchange(sandbox) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", json={"wallet": "1000"}) as reply:
            opened = await reply.json()
        clock = await market_clock(base)
        addresses = Addresses(rest=base, streams=base.replace("http", "ws"), spot=base)
        exchanges = BinanceExchanges(Pairs(), addresses, WeightBudget(1_000_000, clock.now_ms), FewMarks(), clock)
        credentials = SealedCredentials(key_id=opened["api_key"], sealed=opened["api_secret"])
        account = RealAccount(user_id="u1", dry_run=False, credentials=credentials)
        yield Desk(session, base, opened, exchanges.of(account, Urgency.PROTECT))
        await exchanges.close()


@pytest.mark.parametrize("what", SENT_BY)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_said_of_an_order_under_a_fault_is_true(desk: Desk, kind: str, what: str) -> None:
    await desk.fault(kind, SENT_BY[what])
    said = await desk.act(what)
    error = None if (kind, what) in EXEMPT else KINDS[kind]
    assert type(said) is (error or VenueOrder), said
    if error is not VenueUnsure:
        assert await desk.there(what) is (error is None)


@pytest.mark.parametrize("kind", ["timeout_lost", "html_502", "overloaded", "unknown_lost", "throttled"])
async def test_a_read_under_a_fault_may_be_asked_again(desk: Desk, kind: str) -> None:
    await desk.fault(kind, "/fapi/v3/positionRisk", "GET")
    with pytest.raises(VenueAway):
        await desk.exchange.positions()
    assert await desk.exchange.positions() == []


async def test_a_leverage_that_was_just_told_is_not_asked_for_again_until_it_is_changed(desk: Desk) -> None:
    """A glance each half second would spend half its weight on it."""
    assert await desk.exchange.set_leverage("BTCUSDT", 10) is None
    await desk.act("order")
    [first] = await desk.exchange.positions()
    await desk.fault("html_403", "/fapi/v1/symbolConfig", "GET")
    [second] = await desk.exchange.positions()
    assert await desk.exchange.set_leverage("BTCUSDT", 12) is None
    with pytest.raises(VenueError):
        await desk.exchange.positions()
    [third] = await desk.exchange.positions()
    assert [int(position.leverage) for position in (first, second, third)] == [10, 10, 12]
