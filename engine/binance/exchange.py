"""One account at Binance by signed calls: the adapter of the Exchange port, and the only way to an order.

Nothing here decides: each method is a call or two and what they said. Conditional orders go to the algo service, regular ones to the
order endpoint; `history` pages what is long, `stream` listens.

Source: Binance USDⓈ-M "New Order", "New Algo Order" and the account pages (read 2026-11).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from engine.binance import calls, readings, rows
from engine.binance.calls import Call
from engine.binance.client import Client, No
from engine.binance.codes import Action
from engine.binance.fees import Fees
from engine.binance.history import History
from engine.binance.stream import UserStream
from engine.core.order import OrderRefusal, Wallet
from engine.errors import VenueAway, VenueError, VenueUnsure
from engine.ports import AccountModes, Clock, Condition, MarketOrder, Permissions, Urgency
from shared.enums import OrderKind, OrderState
from shared.execution import AccountEvent, Fill, Income, VenueOrder, VenuePosition, VenueTrade
from shared.margin import Bracket
from shared.problem import Problem

KINDS: Final = {
    OrderKind.STOP: "STOP_MARKET",
    OrderKind.TARGET: "TAKE_PROFIT_MARKET",
    OrderKind.TRAILING: "TRAILING_STOP_MARKET",
}

PERCENT: Final = Decimal(100)


LEVERAGE_SECONDS: Final = 60.0
"""For which a symbol's leverage is known: only its owner changes it, and each reading costs as much as all positions do."""


class Leverages:
    """What the account's symbols were told to have, or were set to, a moment ago."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def note(self, told: Mapping[str, int]) -> None:
        """As the exchange has just said."""
        now = asyncio.get_running_loop().time()
        self._known.update({symbol: (leverage, now) for symbol, leverage in told.items()})

    def of(self, symbols: set[str]) -> dict[str, int]:
        """Those of them that are known still."""
        oldest = asyncio.get_running_loop().time() - LEVERAGE_SECONDS
        known = {symbol: self._known[symbol] for symbol in symbols & self._known.keys()}
        return {symbol: leverage for symbol, (leverage, at) in known.items() if at >= oldest}

    def forget(self, symbol: str) -> None:
        """Somebody changes it."""
        self._known.pop(symbol, None)


OF_RULES: Final = frozenset(
    {
        OrderRefusal.VENUE_RULE,
        OrderRefusal.BELOW_MIN_NOTIONAL,
        OrderRefusal.BELOW_MIN_QUANTITY,
        OrderRefusal.ABOVE_MAX_QUANTITY,
    }
)
"""Refusals of what we rounded and bounded by the rules ourselves."""


class BinanceExchange:
    """See `engine.ports.Exchange`.

    Args:
        client: Of the account's key.
        urgency: Whether the budget's reserve may be used.
        fees: Turns a fee in another coin into USDT.
        clock: Market time ends a search in the past, and tells for how long something waits.
        stream: The account's user data stream.
        leverages: Of the account, shared by all urgencies.
        page: Rows of a long list asked for at once.
        doubt_rules: Called where an order did not fit its symbol's rules: they may have changed since they were read.
    """

    def __init__(
        self,
        client: Client,
        urgency: Urgency,
        fees: Fees,
        clock: Clock,
        stream: UserStream,
        leverages: Leverages,
        page: int,
        doubt_rules: Callable[[], None],
    ) -> None:
        self._doubt_rules = doubt_rules
        self._client = client
        self._known = leverages
        self._urgency = urgency
        self._stream = stream
        self._clock = clock
        self._history = History(self._read, fees, clock, page)

    async def wallet(self) -> Wallet:
        """USDT wallet balance, and what is available."""
        return readings.wallet_of(await self._read(calls.BALANCE, list[rows.BalanceRow]))

    async def modes(self) -> AccountModes:
        """One-way or hedge, single-asset or multi-assets."""
        return readings.modes_of(await self._read(calls.CONFIG, rows.ConfigReply))

    async def positions(self) -> list[VenuePosition]:
        """Everything open. Two calls where something new is: positionRisk v3 leaves the leverage out."""
        held = [row for row in await self._read(calls.POSITIONS, list[rows.PositionRow]) if row.position_amt]
        if not held:
            return []
        leverages = await self._leverages({row.symbol for row in held})
        return [readings.position_of(row, leverages[row.symbol]) for row in held]

    async def brackets(self, symbol: str) -> Sequence[Bracket]:
        """The account's own leverage brackets of a symbol; the reply is a row or a list of one."""
        listed = await self._listed(calls.BRACKETS, rows.BracketsRow, {"symbol": symbol})
        tiers = next((readings.brackets_of(row) for row in listed if row.symbol == symbol), [])
        if not tiers:
            raise VenueAway(f"the exchange told no brackets of {symbol}")
        return tiers

    async def set_isolated(self, symbol: str) -> Problem | None:
        """Isolated margin; that it was isolated already is fine."""
        said = await self._ask(calls.SET_MARGIN_TYPE, msgspec.Raw, {"symbol": symbol, "marginType": "ISOLATED"})
        return _refused(said, OrderRefusal.MARGIN_TYPE)

    async def set_leverage(self, symbol: str, leverage: int) -> Problem | None:
        """Leverage of a symbol; a reply that tells another one is a refusal."""
        self._known.forget(symbol)
        said = await self._ask(calls.SET_LEVERAGE, rows.LeverageReply, {"symbol": symbol, "leverage": leverage})
        if isinstance(said, rows.LeverageReply):
            if said.leverage == leverage:
                return None
            return Problem(code=OrderRefusal.LEVERAGE.value, detail=f"the exchange set leverage {said.leverage}, not {leverage}")
        return _refused(said, OrderRefusal.LEVERAGE)

    async def send(self, order: MarketOrder) -> VenueOrder | Problem:
        """Sends once. A duplicate id that is open is answered with that order.

        In hedge mode the position side is what makes an order reduce, and the exchange refuses reduceOnly (-1106).
        """
        params = {
            "symbol": order.symbol,
            "side": order.order_side.value,
            "type": "MARKET",
            "quantity": _plain(order.quantity),
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "RESULT",
        }
        if order.position_side != "BOTH":
            params["positionSide"] = order.position_side
        elif order.reduce_only:
            params["reduceOnly"] = "true"
        said = await self._ask(calls.SEND, rows.OrderRow, params)
        if isinstance(said, rows.OrderRow):
            return readings.order_of(said)
        return await self._placed(said, order.symbol, order.client_order_id, conditional=False)

    async def rest(self, condition: Condition) -> VenueOrder | Problem:
        """Places once, reduce-only, judged on the mark price."""
        params = {
            "algoType": "CONDITIONAL",
            "type": KINDS[condition.kind],
            "symbol": condition.symbol,
            "side": condition.order_side.value,
            "quantity": _plain(condition.quantity),
            "clientAlgoId": condition.client_order_id,
            "reduceOnly": "true",
            "workingType": "MARK_PRICE",
            "newOrderRespType": "RESULT",
        } | _trigger(condition)
        said = await self._ask(calls.REST, rows.AlgoRow, params)
        if isinstance(said, rows.AlgoRow):
            return readings.condition_of(said)
        return await self._placed(said, condition.symbol, condition.client_order_id, conditional=True)

    async def find(self, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | None:
        """An order by our id, open or past; None where the exchange knows none now."""
        if conditional:
            return await self._find_condition(client_order_id)
        return await self._find_order({"symbol": symbol, "origClientOrderId": client_order_id})

    async def trades(self, symbol: str, order: VenueOrder) -> list[Fill]:
        """The trades of one order, or of the order that a conditional one became, oldest first, fees in USDT."""
        number = order.child_order_id if order.conditional else order.venue_order_id
        if not number:
            return []
        return await self._history.of_order(symbol, number, order.created_at)

    async def working(self, symbol: str | None = None) -> list[VenueOrder]:
        """All orders that work now, regular and conditional; weight 80 over every symbol."""
        params = {"symbol": symbol} if symbol else {}
        regular = [readings.order_of(row) for row in await self._read(calls.OPEN_ORDERS, list[rows.OrderRow], params)]
        conditional = await self._read(calls.OPEN_ALGO_ORDERS, list[rows.AlgoRow], params)
        return regular + [await self._condition(row) for row in conditional]

    async def ended(self, symbol: str, since: datetime) -> list[VenueOrder]:
        """Orders of a symbol that ended, created at or after `since`."""
        return await self._history.ended(symbol, since)

    async def account_trades(self, symbol: str, since: datetime) -> list[VenueTrade]:
        """All trades of a symbol from `since` on, oldest first."""
        return await self._history.trades(symbol, since)

    async def income(self, since: datetime) -> list[Income]:
        """All income from `since` on, oldest first."""
        return await self._history.income(since)

    async def cancel(self, order: VenueOrder) -> None:
        """Cancels; that it is gone already is fine."""
        call, name = (calls.CANCEL_ALGO, "algoId") if order.conditional else (calls.CANCEL, "orderId")
        said = await self._ask(call, msgspec.Raw, {"symbol": order.symbol, name: order.venue_order_id})
        _must_be_gone(said)

    async def cancel_all(self, symbol: str) -> None:
        """Cancels every order of a symbol, regular and conditional."""
        for call in (calls.CANCEL_ALL, calls.CANCEL_ALL_ALGO):
            _must_be_gone(await self._ask(call, msgspec.Raw, {"symbol": symbol}))

    async def permissions(self) -> Permissions:
        """What the key may do; all None where the exchange has no such page."""
        said = await self._ask(calls.PERMISSIONS, rows.RestrictionsReply)
        if isinstance(said, No):
            return Permissions(can_trade=None, can_withdraw=None, ip_restricted=None)
        return Permissions(can_trade=said.enable_futures, can_withdraw=said.enable_withdrawals, ip_restricted=said.ip_restrict)

    def events(self) -> AsyncGenerator[AccountEvent]:
        """The user data stream, reconnected for ever."""
        return self._stream.events()

    async def _leverages(self, symbols: set[str]) -> dict[str, int]:
        known = self._known.of(symbols)
        unknown = symbols - set(known)
        if not unknown:
            return known
        params = {"symbol": next(iter(unknown))} if len(unknown) == 1 else {}
        listed = await self._listed(calls.SYMBOL_CONFIG, rows.SymbolConfigRow, params)
        told = {row.symbol: row.leverage for row in listed}
        self._known.note({symbol: told[symbol] for symbol in unknown & set(told)})
        told = {**known, **told}
        if missing := symbols - set(told):
            raise VenueAway(f"the exchange told no leverage of {', '.join(sorted(missing))}")
        return told

    async def _listed[T](self, call: Call, kind: type[T], params: dict[str, str]) -> list[T]:
        """A reply that is a row where one was asked for, and a list otherwise; some are a list always."""
        raw = await self._read(call, msgspec.Raw, params)
        if bytes(raw).lstrip().startswith(b"["):
            return _decoded(call, raw, list[kind])  # type: ignore[valid-type]
        return [_decoded(call, raw, kind)]

    async def _placed(self, said: No, symbol: str, client_order_id: str, *, conditional: bool) -> VenueOrder | Problem:
        if said.decision.action is Action.REFUSE:
            if said.decision.refusal in OF_RULES:
                self._doubt_rules()
            return said.problem
        try:
            found = await self.find(symbol, client_order_id, conditional=conditional)
        except VenueError as error:  # the order is there: a look that fails says nothing else
            raise VenueUnsure(f"{said.detail}; it could not be looked up: {error}", said.code) from error
        if found is None:
            raise VenueUnsure(said.detail, said.code)
        return found

    async def _find_condition(self, client_order_id: str) -> VenueOrder | None:
        said = await self._ask(calls.ALGO_ORDER, rows.AlgoRow, {"clientAlgoId": client_order_id})
        if isinstance(said, No):
            _must_be_gone(said)
            return None
        return await self._condition(said)

    async def _find_order(self, params: dict[str, str]) -> VenueOrder | None:
        said = await self._ask(calls.ORDER, rows.OrderRow, params)
        if isinstance(said, No):
            _must_be_gone(said)
            return None
        return readings.order_of(said)

    async def _condition(self, row: rows.AlgoRow) -> VenueOrder:
        """A conditional order that became a regular one is asked of that: its own row says nothing sure of what was filled."""
        child = await self._find_order({"symbol": row.symbol, "orderId": row.child}) if row.child else None
        order = readings.condition_of(row, child)
        if order.state is not OrderState.WORKING or not row.trigger_time:
            return order
        waits = self._clock.wall_seconds(readings.moment(row.trigger_time), self._clock.now())
        return msgspec.structs.replace(
            order, triggered_seconds=None if waits is None else max(0.0, waits - self._client.ahead_seconds)
        )

    async def _ask[T](self, call: Call, kind: type[T], params: dict[str, Any] | None = None) -> T | No:
        return await self._client.ask(call, kind, self._urgency, params)

    async def _read[T](self, call: Call, kind: type[T], params: dict[str, Any] | None = None) -> T:
        said = await self._ask(call, kind, params)
        if isinstance(said, No):
            raise VenueAway(said.detail, said.code)
        return said


def _trigger(condition: Condition) -> dict[str, str]:
    """A trailing stop's ratio is told in percent; without an activation price it follows from its placing on."""
    trails = condition.kind is OrderKind.TRAILING
    told = {}
    if condition.trigger_price is not None:
        told["activatePrice" if trails else "triggerPrice"] = _plain(condition.trigger_price)
    if trails:
        told["callbackRate"] = _plain(((condition.callback_ratio or Decimal(0)) * PERCENT).normalize())
    return told


def _decoded[T](call: Call, raw: msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        raise VenueAway(f"{call.method}: the reply does not read: {error}") from error


def _refused(said: object, word: OrderRefusal) -> Problem | None:
    if not isinstance(said, No) or said.decision.action is Action.DONE:
        return None
    return said.problem if said.decision.action is Action.REFUSE else Problem(code=word.value, detail=said.detail)


def _must_be_gone(said: object) -> None:
    if isinstance(said, No) and said.decision.action is not Action.ABSENT:
        raise VenueAway(said.detail, said.code)


def _plain(value: Decimal) -> str:
    return f"{value:f}"
