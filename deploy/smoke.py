"""`neurotrade smoke`: the seed's test_real_trade. Opens and closes one position with a small margin, prints each step, leaves nothing open.

It speaks to an engine as the orchestrator does, so that what is proven is the executor itself: with a dry run, with keys of a sandbox
exchange that it starts, or with real keys. Whatever fails, the position is closed, its orders are cancelled, and both are read back.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

import httpx
import msgspec

from deploy.errors import DeployError
from shared.enums import ExecutionStatus, OrderState, Side
from shared.execution import (
    AccountRequest,
    BalanceReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    KeyCheckReply,
    PositionsReply,
    RealAccount,
    TruthReply,
    TruthRequest,
    VenueState,
)
from shared.margin import round_to_tick
from shared.problem import Problem
from shared.wire import decode, encode, plain

SPARE: Final = Decimal("1.1")
"""Above the least notional, so that rounding down to the step and a moving price stay above it."""

MOST_LEVERAGE: Final = 20
STOP_RATIO: Final = Decimal("0.02")
TARGET_RATIO: Final = Decimal("0.04")
TRIES: Final = 3
"""How often the end of the run closes and looks again before it says that something is left."""

SECONDS: Final = 45.0


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol cheap enough for a small order: the least notional in USDT, its steps, and where it trades now."""

    symbol: str
    least_notional: Decimal
    tick_size: Decimal
    price: Decimal
    quote_volume: Decimal


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried: a LONG of one symbol."""

    instrument: Instrument
    leverage: int
    notional: Decimal
    stop_loss: Decimal
    take_profit: Decimal


def plan(instruments: Sequence[Instrument], margin: Decimal) -> Order:
    """The most traded symbol that this margin can hold, at the least leverage that lifts it above the least notional.

    Raises:
        DeployError: No symbol is cheap enough at MOST_LEVERAGE.
    """
    for instrument in sorted(instruments, key=lambda one: (-one.quote_volume, one.symbol)):
        leverage = int((instrument.least_notional * SPARE / margin).to_integral_value(rounding=ROUND_CEILING))
        if leverage <= MOST_LEVERAGE:
            leverage = max(leverage, 1)
            return Order(
                instrument=instrument,
                leverage=leverage,
                notional=margin * leverage,
                stop_loss=round_to_tick(instrument.price * (1 - STOP_RATIO), instrument.tick_size),
                take_profit=round_to_tick(instrument.price * (1 + TARGET_RATIO), instrument.tick_size),
            )
    raise DeployError(f"no symbol can be bought with a margin of {margin} USDT at leverage {MOST_LEVERAGE}")


def instruments_of(info: dict[str, Any], tickers: list[dict[str, Any]]) -> list[Instrument]:
    """What exchangeInfo and the 24 h tickers tell of USDT perpetuals that trade.

    The least notional takes one step of quantity into account: of a coin at 60,000 USDT with a step of 0.001, 60 USDT is the least.
    """
    seen = {row["symbol"]: row for row in tickers}
    found: list[Instrument] = []
    for row in info["symbols"]:
        fits = row["contractType"] == "PERPETUAL" and row["status"] == "TRADING" and row["quoteAsset"] == "USDT"
        if not fits or row["symbol"] not in seen:
            continue
        filters = {one["filterType"]: one for one in row["filters"]}
        price = Decimal(str(seen[row["symbol"]]["lastPrice"]))
        step = max(Decimal(filters[name]["stepSize"]) for name in ("LOT_SIZE", "MARKET_LOT_SIZE"))
        least = max(Decimal(str(filters["MIN_NOTIONAL"]["notional"])), Decimal(5)) + step * price
        found.append(
            Instrument(
                symbol=row["symbol"],
                least_notional=max(least, Decimal(filters["LOT_SIZE"]["minQty"]) * price),
                tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]),
                price=price,
                quote_volume=Decimal(str(seen[row["symbol"]]["quoteVolume"])),
            )
        )
    return found


class Smoke:
    """One run. `say` takes each line; `engine` has the engine's address and token."""

    def __init__(self, engine: httpx.AsyncClient, account: RealAccount, order: Order, say: Callable[[str], None]) -> None:
        self._engine = engine
        self._account = account
        self._order = order
        self._say = say
        self._name = secrets.token_hex(10)
        self._sent = False
        self._filled = Decimal(0)

    async def run(self) -> bool:
        """True when every step went well and nothing is left open."""
        steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [("the balance", self._balance)]
        if self._account.credentials is not None:
            steps.insert(0, ("the key", self._key))
        steps += [("the entry", self._enter)]
        if not self._account.dry_run:
            steps += [("stop and target", self._protected)]
        steps += [("the close", self._close)]
        well = True
        for number, (what, step) in enumerate(steps, start=1):
            well = await self._step(f"{number}. {what}", step)
            if not well:
                break
        if self._sent and not self._account.dry_run:
            return await self._step(f"{len(steps) + 1}. nothing is left", self._nothing_left) and well
        return well

    async def _step(self, what: str, step: Callable[[], Awaitable[str]]) -> bool:
        try:
            self._say(f"ok      {what}: {await step()}")
        except (DeployError, httpx.HTTPError, msgspec.MsgspecError) as error:
            self._say(f"FAILED  {what}: {str(error) or type(error).__name__}")
            return False
        return True

    async def _key(self) -> str:
        audit = await self._ask("/keys/check", AccountRequest(account=self._account), KeyCheckReply)
        if audit.problems:
            raise DeployError("; ".join(problem.detail for problem in audit.problems))
        advice = "".join(f"; advice: {one.detail}" for one in audit.advice)
        return f"may trade, may not withdraw, {audit.position_mode}{advice}"

    async def _balance(self) -> str:
        if self._account.dry_run and self._account.credentials is None:
            return "not asked: a dry run without keys makes no signed call"
        reply = await self._ask("/execute/balance", AccountRequest(account=self._account), BalanceReply)
        return f"{plain(reply.total)} USDT, {plain(reply.free)} free"

    async def _enter(self) -> str:
        order, instrument = self._order, self._order.instrument
        request = EntryRequest(
            account=self._account,
            client_order_id=f"nt-e-{self._name}",
            symbol=instrument.symbol,
            side=Side.LONG,
            amount_usdt=order.notional,
            leverage=Decimal(order.leverage),
            stop_loss=order.stop_loss,
            take_profit=order.take_profit,
            signal_price=instrument.price,
        )
        self._sent = True
        report = await self._ask("/execute/entry", request, ExecutionReport)
        if report.status is not ExecutionStatus.FILLED:
            raise DeployError(_why(report))
        self._filled = report.filled_quantity
        naked = "" if report.unprotected_seconds is None else f", {report.unprotected_seconds:.3f} s without a stop"
        unchecked = f", not checked: {', '.join(report.unchecked)}" if report.unchecked else ""
        return f"{'DRY RUN, ' if report.dry_run else ''}{_filled(report)}{naked}{unchecked}"

    async def _protected(self) -> str:
        truth = await self._truth()
        resting = [order for order in truth.orders if order.conditional and order.state is OrderState.WORKING]
        stop = next((order for order in resting if order.client_order_id == f"nt-s-{self._name}"), None)
        target = next((order for order in resting if order.client_order_id == f"nt-t-{self._name}"), None)
        if stop is None or stop.quantity != self._filled:
            raise DeployError("no stop for the whole quantity rests at the exchange")
        aim = "no target" if target is None else f"target at {_price(target.trigger_price)}"
        return f"stop at {_price(stop.trigger_price)}, {aim}, for {plain(stop.quantity)}"

    async def _close(self) -> str:
        report = await self._ask("/execute/close", self._closing("c"), ExecutionReport)
        if report.status is not ExecutionStatus.FILLED:
            raise DeployError(_why(report))
        fees = sum((fill.fee for fill in report.fills), Decimal(0))
        return f"{_filled(report)}, fees {plain(fees)} USDT"

    async def _nothing_left(self) -> str:
        """Closes and cancels until the exchange itself says that nothing of this run is left."""
        for attempt in range(TRIES):
            truth = await self._truth()
            ours = [order.client_order_id for order in truth.orders if self._is_ours(order.client_order_id, order.state)]
            held = [one for one in truth.positions if one.symbol == self._order.instrument.symbol and one.quantity > 0]
            if not held and not ours:
                return f"no position in {self._order.instrument.symbol}, no order of this run"
            if held:
                await self._ask("/execute/close", self._closing(f"c{attempt}"), ExecutionReport)
            if ours:
                body = CancelRequest(account=self._account, symbol=self._order.instrument.symbol, client_order_ids=ours)
                await self._ask("/execute/cancel", body, CancelReply)
        raise DeployError(f"LOOK AT THE EXCHANGE: {self._order.instrument.symbol} may still be open")

    def _closing(self, letter: str) -> CloseRequest:
        name = f"nt-{letter}-{self._name}"
        part = self._filled if self._account.dry_run else None
        symbol = self._order.instrument.symbol
        return CloseRequest(account=self._account, client_order_id=name, symbol=symbol, side=Side.LONG, quantity=part)

    def _is_ours(self, client_order_id: str, state: OrderState) -> bool:
        return state is OrderState.WORKING and client_order_id.endswith(self._name)

    async def _truth(self) -> TruthReply:
        since = datetime.now(UTC).replace(microsecond=0)
        symbols = [self._order.instrument.symbol]
        return await self._ask("/execute/truth", TruthRequest(account=self._account, symbols=symbols, since=since), TruthReply)

    async def _ask[T](self, path: str, body: object, kind: type[T]) -> T:
        reply = await self._engine.post(path, content=encode(body), timeout=SECONDS)
        if reply.is_success:
            return decode(reply.content, kind)
        try:
            problem = decode(reply.content, Problem)
        except msgspec.MsgspecError:
            raise DeployError(f"{path}: status {reply.status_code}") from None
        raise DeployError(f"{problem.code}: {problem.detail}")


async def held_already(engine: httpx.AsyncClient, account: RealAccount, symbols: Sequence[str]) -> set[str]:
    """Symbols that the account holds now: a smoke run never touches them."""
    if account.dry_run:
        return set()
    reply = await engine.post("/execute/positions", content=encode(AccountRequest(account=account)), timeout=SECONDS)
    if not reply.is_success:
        return set()
    told = decode(reply.content, PositionsReply)
    return set(symbols) if told.state is VenueState.UNKNOWN else {one.symbol for one in told.positions}


def _filled(report: ExecutionReport) -> str:
    return f"{plain(report.filled_quantity)} {report.symbol} at {_price(report.average_price)}"


def _price(price: Decimal | None) -> str:
    return "?" if price is None else plain(price.normalize())


def _why(report: ExecutionReport) -> str:
    return f"{report.refusal.code}: {report.refusal.detail}" if report.refusal else str(report.status)
