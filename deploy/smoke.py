"""`neurotrade smoke`: the seed's test_real_trade. Opens and closes one position with a small margin, prints each step, leaves nothing open.

It speaks to an engine as the orchestrator does, so that what is proven is the executor itself: with a dry run, with keys of a sandbox
exchange that it starts, or with real keys. Whatever fails, or whoever interrupts it, the position is closed, its orders are cancelled,
and both are read back.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from deploy.errors import DeployError
from deploy.smoke_order import Order
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
from shared.problem import Problem
from shared.wire import decode, encode, plain

TRIES: Final = 10
"""How often the end of the run closes and looks again before it says that something is left."""

PAUSE: Final = 3.0
"""Seconds between two of these tries. Ten of them are longer than the 20 s after which nothing that was sent can arrive any more."""

APART: Final = 1.5
"""Seconds between the two readings that must both show nothing: one right after a fill may be behind it, as in a flatten."""

SECONDS: Final = 45.0

_KNOWN: Final = (ExecutionStatus.FILLED, ExecutionStatus.REFUSED)
_FAILURES: Final = (DeployError, httpx.HTTPError, msgspec.MsgspecError)


class Smoke:
    """One run.

    Args:
        engine: Has the engine's address and token.
        account: Whose money it is.
        order: What is tried.
        say: Takes each line.
        rest: Waits so many seconds.
    """

    def __init__(
        self,
        engine: httpx.AsyncClient,
        account: RealAccount,
        order: Order,
        say: Callable[[str], None],
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._account = account
        self._order = order
        self._say = say
        self._rest = rest
        self._name = secrets.token_hex(10)
        self._sent: EntryRequest | None = None
        self._outcome_known = False
        self._filled = Decimal(0)

    async def run(self) -> bool:
        """True when every step went well and nothing is left open."""
        steps = self._steps()
        well = clear = False
        try:
            well = await self._walk(steps)
        finally:
            live = self._sent is not None and not self._account.dry_run
            clear = not live or await self._to_its_end(self._step(f"{len(steps) + 1}. nothing is left", self._nothing_left))
        return well and clear

    async def _to_its_end[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Whoever interrupts it meanwhile, and however often, is told to wait: it is a position that is being closed."""
        task, interrupted = asyncio.ensure_future(work), False
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                interrupted = True
                if not task.done():
                    self._say("        what is open is being closed; wait")
        done = task.result()
        if interrupted:
            raise asyncio.CancelledError
        return done

    def _steps(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        key = [] if self._account.credentials is None else [("the key", self._key)]
        protected = [] if self._account.dry_run else [("stop and target", self._protected)]
        return [*key, ("the balance", self._balance), ("the entry", self._enter), *protected, ("the close", self._close)]

    async def _walk(self, steps: list[tuple[str, Callable[[], Awaitable[str]]]]) -> bool:
        for number, (what, step) in enumerate(steps, start=1):
            if not await self._step(f"{number}. {what}", step):
                return False
        return True

    async def _step(self, what: str, step: Callable[[], Awaitable[str]]) -> bool:
        try:
            self._say(f"ok      {what}: {await step()}")
        except _FAILURES as error:
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
            sent_at=datetime.now(UTC),
        )
        self._sent = request
        report = await self._ask("/execute/entry", request, ExecutionReport)
        self._outcome_known = report.status in _KNOWN
        if report.status is not ExecutionStatus.FILLED:
            raise DeployError(_why(report))
        if report.closing_fills:
            raise DeployError("its stop was not confirmed, so that it was closed at once")
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
        symbol = self._order.instrument.symbol
        trouble = "it is still there"
        for attempt in range(TRIES):
            if attempt:
                await self._rest(PAUSE)
            try:
                if await self._is_clear(attempt):
                    return f"no position in {symbol}, no order of this run"
            except _FAILURES as error:
                trouble = str(error) or type(error).__name__
        raise DeployError(f"LOOK AT THE EXCHANGE: {symbol} may still be open ({trouble})")

    async def _is_clear(self, attempt: int) -> bool:
        """Whether two readings show nothing."""
        if not await self._looks_clear(attempt):
            return False
        await self._rest(APART)
        return await self._looks_clear(attempt)

    async def _looks_clear(self, attempt: int) -> bool:
        """Whether one reading shows nothing; what it shows is closed and cancelled. An entry of unknown outcome may still arrive."""
        await self._settle()
        truth = await self._truth()
        ours = [order.client_order_id for order in truth.orders if self._is_ours(order.client_order_id, order.state)]
        held = [one for one in truth.positions if one.symbol == self._order.instrument.symbol and one.quantity > 0]
        if held:
            await self._ask("/execute/close", self._closing(f"c{attempt}"), ExecutionReport)
        if ours:
            body = CancelRequest(account=self._account, symbol=self._order.instrument.symbol, client_order_ids=ours)
            await self._ask("/execute/cancel", body, CancelReply)
        return self._outcome_known and not held and not ours

    async def _settle(self) -> None:
        if self._sent is not None and not self._outcome_known:
            report = await self._ask("/execute/entry", msgspec.structs.replace(self._sent, resume=True), ExecutionReport)
            self._outcome_known = report.status in _KNOWN

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


async def held_already(engine: httpx.AsyncClient, account: RealAccount) -> set[str]:
    """Symbols that the account holds now: a smoke run never touches them.

    Raises:
        DeployError: Nobody knows.
    """
    if account.dry_run:
        return set()
    reply = await engine.post("/execute/positions", content=encode(AccountRequest(account=account)), timeout=SECONDS)
    told = decode(reply.content, PositionsReply) if reply.is_success else None
    if told is None or told.state is VenueState.UNKNOWN:
        raise DeployError("what the account holds is not known just now, so that nothing is tried")
    return {one.symbol for one in told.positions}


def _filled(report: ExecutionReport) -> str:
    return f"{plain(report.filled_quantity)} {report.symbol} at {_price(report.average_price)}"


def _price(price: Decimal | None) -> str:
    return "?" if price is None else plain(price.normalize())


def _why(report: ExecutionReport) -> str:
    return f"{report.refusal.code}: {report.refusal.detail}" if report.refusal else str(report.status)
