"""POST /execute/canary: proves that this account can be protected, before real money depends on it.

A reduce-only stop far from the market rests, is read back, cancelled and proven gone. It needs no position and can trade nothing.
"""

from decimal import Decimal

import msgspec

from engine.core.instrument import InstrumentRules
from engine.core.market import Mark
from engine.errors import ExchangeError
from engine.execution.asking import Bound, answered
from engine.execution.conditions import clear, rest
from engine.execution.desk import Desk
from engine.execution.ids import OURS
from engine.execution.lasting_once import kept_going
from engine.ports import Condition, Exchange
from shared.enums import OrderKind
from shared.execution import Account, CanaryReply, OrderSide, RealAccount, VenueOrder
from shared.margin import round_to_tick
from shared.problem import Problem

SYMBOL = "BTCUSDT"
"""Listed for as long as the exchange has had futures."""

FAR = Decimal("0.7")
"""Of the mark: no market falls so far within the seconds that the order rests."""

PREFIX = f"{OURS}k-"


class Perch(msgspec.Struct, frozen=True, kw_only=True):
    """What the order is made of."""

    rules: InstrumentRules
    mark: Mark


async def canary(desk: Desk, account: Account) -> CanaryReply | Problem:
    """Whether protection works now; a dry run only reads, and says so."""
    exchange = desk.venues.exchange(account)
    if isinstance(exchange, Problem):
        return exchange
    if desk.venues.dry_run or (isinstance(account, RealAccount) and account.dry_run):
        return await _dry(desk, exchange)
    return await kept_going(_sung(desk, exchange))


async def _dry(desk: Desk, exchange: Exchange) -> CanaryReply:
    told = await answered(exchange.working(SYMBOL), desk.patience.read)
    if isinstance(told, Problem):
        return _reply(desk, told.detail, passed=False)
    return _reply(desk, "dry run: the account could be read, no order was placed", passed=True)


async def _sung(desk: Desk, exchange: Exchange) -> CanaryReply:
    try:
        perch = Perch(rules=await desk.market.instrument(SYMBOL), mark=await desk.market.mark(SYMBOL))
    except ExchangeError as error:
        return _reply(desk, f"the price of {SYMBOL} did not come: {error}", passed=False)
    condition = _condition(desk, perch)
    placed = await rest(exchange, condition, Bound(desk.patience.outcome), desk.patience, fresh=True)
    gone = await clear(exchange, SYMBOL, lambda order: order.client_order_id.startswith(PREFIX), desk.patience)
    if not isinstance(placed, VenueOrder):
        return _reply(desk, placed.detail if placed else "the order was not confirmed in time", passed=False)
    if not gone:
        return _reply(desk, f"{condition.client_order_id} was placed, but is not proven to be cancelled", passed=False)
    return _reply(desk, "a protective order was placed, read back and cancelled", passed=True)


def _condition(desk: Desk, perch: Perch) -> Condition:
    """The id carries the millisecond: each bird is a new one."""
    price = round_to_tick(perch.mark.price * FAR, perch.rules.tick_size)
    least = perch.rules.min_notional / price
    steps = (least / perch.rules.step_size).to_integral_value(rounding="ROUND_CEILING") + 1
    return Condition(
        client_order_id=f"{PREFIX}{desk.clock.wall_ms()}",
        symbol=SYMBOL,
        kind=OrderKind.STOP,
        order_side=OrderSide.SELL,
        quantity=max(steps * perch.rules.step_size, perch.rules.market_min_quantity),
        trigger_price=price,
    )


def _reply(desk: Desk, detail: str, *, passed: bool) -> CanaryReply:
    return CanaryReply(passed=passed, symbol=SYMBOL, detail=detail, as_of=desk.clock.now())
